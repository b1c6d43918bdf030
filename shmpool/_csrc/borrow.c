/* BorrowBase: the right to read a slot that is shared, with others at the same time. */
#include "glue.h"

static PyTypeObject *borrow_class; /* the Python subclass that Pool.borrow returns */

/* 0, or -1 with an exception. */
static int borrows_ready(MappingObject *mapping)
{
    if (mapping->borrows == NULL)
        mapping->borrows = PyMem_Calloc(mapping->pool.geometry.slots, sizeof *mapping->borrows);
    if (mapping->borrows == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    if (mapping->pool.reader || sp_reader_take(&mapping->pool))
        return 0;
    mapping_fail_corrupt(mapping, "every reader id is taken, and there are more of them than members");
    return -1;
}

/* Our bit stands for all Borrows of this process: only the first sets it. */
static sp_result borrow_once_more(MappingObject *mapping, uint64_t ticket)
{
    uint32_t slot = sp_ticket_slot(ticket);
    sp_result result;
    if (mapping->borrows[slot] == 0) {
        result = sp_borrow(&mapping->pool, ticket);
    } else {
        uint64_t word = sp_load_seq_cst(&mapping->pool.slots[slot].word);
        result = sp_word_is(word, SP_SHARED, sp_ticket_generation(ticket)) ? SP_OK : SP_STALE;
    }
    mapping->borrows[slot] += result == SP_OK;
    return result;
}

/* Lend a shared slot by its ticket to this process: a Borrow. */
PyObject *mapping_borrow(MappingObject *self, PyObject *number)
{
    uint64_t ticket;
    if (mapping_ticket_from(self, number, "borrow", &ticket) < 0 || borrows_ready(self) < 0)
        return NULL;
    uint32_t slot = sp_ticket_slot(ticket);
    uint64_t generation = sp_ticket_generation(ticket);
    if (borrow_once_more(self, ticket) != SP_OK) {
        /* Our bit may have held up a slot that is free now. */
        if (mapping_ring(self, mapping_slot_waiting(self, slot)) < 0)
            return NULL;
        return mapping_fail_stale(self, "borrow", slot, generation, LIVE, 0);
    }
    sp_count(&mapping_me(self)->borrowed);
    mapping_note(self, slot, generation, SP_WAS_BORROWED, SP_NO_QUEUE);
    mapping_count_received(self, slot);
    sp_right right = {.slot = slot, .word = sp_word(SP_SHARED, SP_NOBODY, SP_NO_QUEUE, generation)};
    return right_new(borrow_class, self, &right, true);
}

static PyObject *borrow_check_writable(RightObject *self, PyObject *Py_UNUSED(none))
{
    if (right_usable(self, "write to") == 0)
        mapping_refuse_shared(self->mapping, self, "write to");
    return NULL;
}

static PyMethodDef borrow_methods[] = {
    {"release", (PyCFunction)right_release, METH_NOARGS,
     "release($self, /)\n--\n\n"
     "Give the borrow back; the last one of a slot that its owner released frees it.\n\n"
     "Does not block. Raises AlreadyEndedError if the borrow is over, NotOwnerError in a forked\n"
     "child, and where the pool was made with views=\"raise\", or the system refuses a fence,\n"
     "ViewsAliveError (the borrow goes on) while arrays or memoryviews of it are alive."},
    {"array", (PyCFunction)(void (*)(void))right_array, METH_FASTCALL | METH_KEYWORDS,
     "array($self, /, shape=None, dtype=None)\n--\n\n"
     "A zero-copy, read-only, C-contiguous array over the start of the slot.\n\n"
     "Without arguments it has the shape and dtype that the owner described. Does not block.\n"
     "Raises ShapeError if it does not fit, or if nobody described the slot; StaleTicketError\n"
     "if the borrow is over."},
    {"_check_writable", (PyCFunction)borrow_check_writable, METH_NOARGS, "Raise: it never is."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot borrow_slots[] = {
    {Py_tp_dealloc, right_dealloc},
    {Py_tp_methods, borrow_methods},
    {Py_tp_doc, "The right of this process to read one slot, together with others."},
    {0, NULL},
};

static PyType_Spec borrow_spec = {
    .name = "shmpool._core.BorrowBase",
    .basicsize = sizeof(RightObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = borrow_slots,
};

static PyObject *set_borrow_class(PyObject *Py_UNUSED(module), PyObject *class)
{
    return right_set_class(&borrow_class, borrow_type, class);
}

static PyMethodDef functions[] = {
    {"set_borrow_class", set_borrow_class, METH_O, "Name the class that Pool.borrow returns."},
    {NULL, NULL, 0, NULL},
};

PyMethodDef borrowing_methods[] = {
    {"borrow", (PyCFunction)mapping_borrow, METH_O, "Borrow by ticket."},
    {NULL, NULL, 0, NULL},
};

int module_add_borrow(PyObject *module)
{
    borrow_type = right_subtype(&borrow_spec);
    if (borrow_type == NULL)
        return -1;
    borrow_class = (PyTypeObject *)Py_NewRef(borrow_type);
    return PyModule_AddFunctions(module, functions) < 0 ? -1 : PyModule_AddType(module, borrow_type);
}
