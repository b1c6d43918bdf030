/* LeaseBase: the exclusive right to a slot, until it ends or is shared. */
#include "glue.h"

PyTypeObject *lease_class;

PyObject *lease_new(MappingObject *mapping, const sp_right *right)
{
    return right_new(lease_class, mapping, right, false);
}

static bool lease_shared(const RightObject *self)
{
    return sp_word_state(self->right.at.word) == SP_SHARED;
}

/* Can this be written to? -1 with an exception if the lease is over, or shared. */
static int lease_writable(RightObject *self, const char *action)
{
    if (right_usable(self, action) < 0)
        return -1;
    return LIKELY(!lease_shared(self)) ? 0 : mapping_refuse_shared(self->mapping, self, action);
}

static PyObject *lease_check_writable(RightObject *self, PyObject *Py_UNUSED(none))
{
    if (lease_writable(self, "write to") < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* LEASED -> a ticket outside every queue, as an integer. */
static PyObject *lease_detach(RightObject *self, PyObject *Py_UNUSED(none))
{
    if (lease_writable(self, "detach") < 0 || right_whole(self, "detach") < 0 || right_part(self, "detach") < 0)
        return NULL;
    uint64_t ticket;
    MappingObject *mapping = self->mapping;
    const sp_right *at = &self->right.at;
    sp_result result = sp_detach(&mapping->pool, at, clock_coarse_ns(), &ticket);
    if (result == SP_SPENT)
        return mapping_fail_corrupt(mapping, "the generations of a slot are used up");
    if (result == SP_OK)
        mapping_note(mapping, at->slot, sp_word_generation(at->word), SP_WAS_DETACHED, SP_NO_QUEUE);
    right_over(self, DETACHED, 0);
    if (result != SP_OK)
        return mapping_fail_stale(mapping, "detach", at->slot, sp_word_generation(at->word), LIVE, 0);
    sp_count(&mapping_me(mapping)->detached);
    return PyLong_FromUnsignedLongLong(ticket);
}

/* LEASED -> SHARED: the ticket to borrow by, as an integer; again and again the same. */
static PyObject *lease_share(RightObject *self, PyObject *Py_UNUSED(none))
{
    sp_right *at = &self->right.at;
    if (right_usable(self, "share") < 0)
        return NULL;
    if (lease_shared(self))
        return PyLong_FromUnsignedLongLong(sp_ticket(at->slot, sp_word_generation(at->word)));
    if (right_whole(self, "share") < 0 || right_guard(self, "share") < 0)
        return NULL;
    uint64_t ticket;
    MappingObject *mapping = self->mapping;
    sp_result result = sp_share(&mapping->pool, at, &ticket);
    if (result == SP_SPENT)
        return mapping_fail_corrupt(mapping, "the generations of a slot are used up");
    if (result != SP_OK) {
        right_over(self, RELEASED, 0);
        return mapping_fail_stale(mapping, "share", at->slot, sp_word_generation(at->word), LIVE, 0);
    }
    sp_count(&mapping_me(mapping)->shared);
    mapping_note(mapping, at->slot, sp_word_generation(at->word), SP_WAS_SHARED, SP_NO_QUEUE);
    return PyLong_FromUnsignedLongLong(ticket);
}

/* Take over the slot of another lease, just acquired, which ends; ours goes back. */
static PyObject *lease_move(RightObject *self, PyObject *object)
{
    if (!PyObject_TypeCheck(object, lease_type))
        return PyErr_Format(PyExc_TypeError, "_move takes a lease");
    RightObject *heir = (RightObject *)object;
    if (lease_writable(self, "move") < 0 || right_part(self, "move") < 0 ||
        mapping_refuse_foreign(self->mapping, heir) < 0 || lease_writable(heir, "move") < 0)
        return NULL;
    if (sp_inherit(&self->mapping->pool, &heir->right.at, &self->right.at) != SP_OK)
        return mapping_fail_corrupt(self->mapping, "a lease that its owner never ended is over");
    sp_right small = self->right.at;
    self->right.at = heir->right.at;
    heir->right.at = small;
    Py_CLEAR(self->span);
    Py_CLEAR(heir->span);
    sp_count(&mapping_me(self->mapping)->moved);
    mapping_note_end(self->mapping, &heir->right, SP_WAS_MOVED);
    return right_release(heir, NULL);
}

/* How the bytes are to be read, at most as long as a sheet; 0 long for no description. */
void right_describe(RightObject *self, const void *sheet, size_t length)
{
    sp_slot *slot = &self->mapping->pool.slots[self->right.at.slot];
    uint64_t attempts = sp_load_relaxed(&slot->delivery) & ~(uint64_t)UINT32_MAX;
    /* Killed in the middle: the slot is undescribed, never half described. */
    sp_store_release(&slot->delivery, attempts);
    memcpy(sp_pool_sheet(&self->mapping->pool, self->right.at.slot), sheet, length);
    sp_store_release(&slot->delivery, attempts | length);
}

/* False if the description is too long. */
static PyObject *lease_describe(RightObject *self, PyObject *description)
{
    if (lease_writable(self, "describe") < 0)
        return NULL;
    Py_buffer view;
    if (PyObject_GetBuffer(description, &view, PyBUF_SIMPLE) < 0)
        return NULL;
    bool fits = (size_t)view.len <= sizeof(sp_sheet);
    if (fits)
        right_describe(self, view.buf, (size_t)view.len);
    PyBuffer_Release(&view);
    return PyBool_FromLong(fits);
}

static bool span_has(const SpanObject *span, Py_ssize_t offset, Py_ssize_t length)
{
    return offset >= 0 && length >= 0 && length <= span->length && offset <= span->length - length;
}

/* Copy bytes in at an offset that the caller has checked against the slot's size. */
static PyObject *lease_write_at(RightObject *self, PyObject *const *args, Py_ssize_t count)
{
    if (count != 2)
        return PyErr_Format(PyExc_TypeError, "_write_at takes offset and data");
    SpanObject *span = lease_writable(self, "write to") < 0 ? NULL : right_span(self);
    Py_ssize_t offset = span ? PyLong_AsSsize_t(args[0]) : -1;
    Py_buffer view;
    if (span == NULL || (offset == -1 && PyErr_Occurred()) ||
        PyObject_GetBuffer(args[1], &view, PyBUF_C_CONTIGUOUS) < 0)
        return NULL;
    bool fits = span_has(span, offset, view.len);
    if (fits)
        memmove(span->memory + offset, view.buf, (size_t)view.len); /* data may be a view of us */
    PyBuffer_Release(&view);
    if (!fits)
        return PyErr_Format(PyExc_IndexError, "offset %zd is outside the slot", offset);
    Py_RETURN_NONE;
}

/* A copy of so many bytes from an offset; IndexError where they are not all in the slot. */
static PyObject *lease_read_at(RightObject *self, PyObject *const *args, Py_ssize_t count)
{
    if (count != 2)
        return PyErr_Format(PyExc_TypeError, "_read_at takes offset and length");
    SpanObject *span = right_usable(self, "look at") < 0 ? NULL : right_span(self);
    Py_ssize_t offset = span ? PyLong_AsSsize_t(args[0]) : -1;
    Py_ssize_t length = span ? PyLong_AsSsize_t(args[1]) : -1;
    if (PyErr_Occurred())
        return NULL;
    if (!span_has(span, offset, length))
        return PyErr_Format(PyExc_IndexError, "%zd bytes at offset %zd are not in the slot", length, offset);
    return PyBytes_FromStringAndSize((const char *)span->memory + offset, length);
}

static PyObject *lease_get_attempts(RightObject *self, void *Py_UNUSED(closure))
{
    if (right_usable(self, "count the attempts of") < 0)
        return NULL;
    const sp_slot *slot = &self->mapping->pool.slots[self->right.at.slot];
    return PyLong_FromUnsignedLongLong(sp_load_relaxed(&slot->delivery) >> 32);
}

static PyObject *lease_get_death(RightObject *self, void *Py_UNUSED(closure))
{
    if (right_usable(self, "ask for the deaths of") < 0)
        return NULL;
    const sp_slot *slot = &self->mapping->pool.slots[self->right.at.slot];
    return PyLong_FromUnsignedLongLong(sp_load_relaxed(&slot->death));
}

static PyObject *lease_get_shared(RightObject *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(lease_shared(self));
}

static PyMethodDef lease_methods[] = {
    {"release", (PyCFunction)right_release, METH_NOARGS,
     "release($self, /)\n--\n\n"
     "Give the slot back to the pool; a shared one is free when its last borrower is done.\n\n"
     "Does not block. Raises AlreadyEndedError if the lease is over, NotOwnerError in a forked\n"
     "child, and where the pool was made with views=\"raise\", or the system refuses a fence,\n"
     "ViewsAliveError (the lease goes on) while arrays or memoryviews of it are alive."},
    {"array", (PyCFunction)(void (*)(void))right_array, METH_FASTCALL | METH_KEYWORDS,
     "array($self, /, shape=None, dtype=None)\n--\n\n"
     "A zero-copy, C-contiguous array over the start of the slot: writable until it is shared.\n\n"
     "`array(shape, dtype)` also describes the slot: its receiver calls `array()` and gets the\n"
     "same shape and dtype. Contents are as the last holder left them, as in `np.empty`. A\n"
     "shape (tuple) and dtype that were used lately cost one call of numpy and little else.\n\n"
     "Does not block. Raises ShapeError if it does not fit, or if nobody described the slot;\n"
     "StaleTicketError if the lease is over."},
    {"_detach", (PyCFunction)lease_detach, METH_NOARGS, "End the lease: its ticket as an integer."},
    {"_share", (PyCFunction)lease_share, METH_NOARGS, "Share the slot: its ticket as an integer."},
    {"_move", (PyCFunction)lease_move, METH_O, "Take over another lease's slot, and give ours back."},
    {"_check_writable", (PyCFunction)lease_check_writable, METH_NOARGS, "Raise if it is over or shared."},
    {"_describe", (PyCFunction)lease_describe, METH_O, "Store a description: False if it is too long."},
    {"_write_at", (PyCFunction)(void (*)(void))lease_write_at, METH_FASTCALL, "Copy bytes in."},
    {"_read_at", (PyCFunction)(void (*)(void))lease_read_at, METH_FASTCALL, "Copy bytes out."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef lease_getset[] = {
    {"attempts", (getter)lease_get_attempts, NULL,
     "How many members died holding this delivery before it came here.", NULL},
    {"shared", (getter)lease_get_shared, NULL, "Whether the slot was shared, and is read-only.", NULL},
    {"_death", (getter)lease_get_death, NULL, "The last of these deaths, as the reaper noted it.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot lease_slots[] = {
    {Py_tp_dealloc, right_dealloc},
    {Py_tp_methods, lease_methods},
    {Py_tp_getset, lease_getset},
    {Py_tp_doc, "The right of this process to one slot, until it is released, put or detached."},
    {0, NULL},
};

static PyType_Spec lease_spec = {
    .name = "shmpool._core.LeaseBase",
    .basicsize = sizeof(RightObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = lease_slots,
};

static PyObject *set_lease_class(PyObject *Py_UNUSED(module), PyObject *class)
{
    return right_set_class(&lease_class, lease_type, class);
}

static PyMethodDef functions[] = {
    {"set_lease_class", set_lease_class, METH_O, "Name the class that acquire and get return."},
    {NULL, NULL, 0, NULL},
};

int module_add_lease(PyObject *module)
{
    lease_type = right_subtype(&lease_spec);
    if (lease_type == NULL)
        return -1;
    lease_class = (PyTypeObject *)Py_NewRef(lease_type);
    return PyModule_AddFunctions(module, functions) < 0 ? -1 : PyModule_AddType(module, lease_type);
}
