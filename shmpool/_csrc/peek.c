/* Mapping, continued: reading the bytes of a ticket without a right to them. */
#include "glue.h"

#include <errno.h>
#include <unistd.h>

enum { LONG_COPY = 1 << 16 }; /* bytes, beyond which others may run meanwhile */

/* Slot and state of a ticket that may be peeked at; -1 with StaleTicketError if it may not. */
static int peek_begin(MappingObject *self, PyObject *number, uint64_t *ticket, sp_state *state)
{
    if (mapping_ticket_from(self, number, "peek at", ticket) < 0)
        return -1;
    *state = sp_peek_begin(&self->pool, *ticket);
    if (*state != SP_FREE)
        return 0;
    mapping_fail_stale(self, "peek at", sp_ticket_slot(*ticket), sp_ticket_generation(*ticket), LIVE, 0);
    return -1;
}

static PyObject *peek_end(MappingObject *self, uint64_t ticket, sp_state state, PyObject *result)
{
    if (result == NULL || sp_peek_end(&self->pool, ticket, state))
        return result;
    Py_DECREF(result);
    return mapping_fail_stale(self, "peek at", sp_ticket_slot(ticket), sp_ticket_generation(ticket), LIVE, 0);
}

/* (state, description) of a ticket's slot. */
static PyObject *mapping_peek_description(MappingObject *self, PyObject *number)
{
    uint64_t ticket;
    sp_state state;
    if (peek_begin(self, number, &ticket, &state) < 0)
        return NULL;
    uint32_t slot = sp_ticket_slot(ticket);
    uint64_t length = sp_load_acquire(&self->pool.slots[slot].delivery) & UINT32_MAX;
    if (length > sizeof(sp_sheet)) /* written to by the next holder, or corrupted: not there */
        length = 0;
    const char *sheet = (const char *)sp_pool_sheet(&self->pool, slot);
    return peek_end(self, ticket, state, Py_BuildValue("iy#", state, sheet, (Py_ssize_t)length));
}

/* By the file and not by the mapping: whoever has no right to a slot may find its memory gone
 * (trimmed, with /dev/shm full), which is zeros to read from a file and SIGBUS in a mapping. */
static bool read_all(int fd, uint8_t *to, size_t length, off_t from)
{
    while (length) {
        ssize_t count = pread(fd, to, length, from);
        if (count <= 0 && !(count < 0 && errno == EINTR))
            return false;
        if (count > 0) {
            to += count;
            from += count;
            length -= (size_t)count;
        }
    }
    return true;
}

static bool copy_out(MappingObject *self, uint32_t slot, uint8_t *to, size_t length)
{
    uint32_t class = sp_pool_class_of(&self->pool, slot);
    off_t from = (off_t)mapping_slot_offset(self, class, slot);
    bool read;
    if (length < LONG_COPY)
        return read_all(self->slab_fd[class], to, length, from);
    Py_BEGIN_ALLOW_THREADS
    read = read_all(self->slab_fd[class], to, length, from);
    Py_END_ALLOW_THREADS
    return read;
}

/* Copy the first bytes of a ticket's slot into a buffer, if it is still in `state` after. */
static PyObject *mapping_peek(MappingObject *self, PyObject *args)
{
    PyObject *number, *buffer;
    int expected;
    uint64_t ticket;
    bool read = false;
    sp_state state;
    Py_buffer into;
    if (!PyArg_ParseTuple(args, "OiO", &number, &expected, &buffer) ||
        peek_begin(self, number, &ticket, &state) < 0 ||
        PyObject_GetBuffer(buffer, &into, PyBUF_WRITABLE | PyBUF_C_CONTIGUOUS) < 0)
        return NULL;
    bool fits = (uint64_t)into.len <= mapping_slot_size(self, sp_ticket_slot(ticket));
    if (fits)
        read = copy_out(self, sp_ticket_slot(ticket), into.buf, (size_t)into.len);
    PyBuffer_Release(&into);
    if (!fits)
        return PyErr_Format(PyExc_IndexError, "the slot has fewer bytes");
    if (!read)
        return mapping_fail_corrupt(self, "a slab is shorter than its slots");
    return peek_end(self, ticket, (sp_state)expected, Py_NewRef(Py_None));
}

PyMethodDef peek_methods[] = {
    {"peek_description", (PyCFunction)mapping_peek_description, METH_O, "(state, description) of a ticket."},
    {"peek", (PyCFunction)mapping_peek, METH_VARARGS, "Copy a ticket's bytes into a buffer."},
    {NULL, NULL, 0, NULL},
};
