/* Mapping, continued: what is refused, in words that Python makes. */
#include "glue.h"

/* Raise an exception that Python has made; if it could not, what it raised instead. */
PyObject *raise_instance(PyObject *error)
{
    if (error != NULL)
        PyErr_SetObject((PyObject *)Py_TYPE(error), error);
    Py_XDECREF(error);
    return NULL;
}

PyObject *mapping_fail_stale(MappingObject *self, const char *action, uint64_t slot, uint64_t generation,
                             int ending, uint32_t queue)
{
    if (self->epoch == fork_epoch && self->pool.me) {
        sp_count(&mapping_me(self)->stale);
        if (mapping_traced(self))
            trace_note(self, (uint32_t)slot, generation, SP_TRACE_STALE, SP_NO_QUEUE);
    }
    return raise_instance(PyObject_CallMethod((PyObject *)self, "_stale", "sKKiI", action,
                                              (unsigned long long)slot,
                                              (unsigned long long)generation, ending, queue));
}

PyObject *mapping_fail_corrupt(MappingObject *self, const char *what)
{
    return raise_instance(PyObject_CallMethod((PyObject *)self, "_corrupt", "s", what));
}

int mapping_refuse_foreign(MappingObject *self, RightObject *lease)
{
    if (LIKELY(lease->mapping == self))
        return 0;
    raise_instance(PyObject_CallMethod((PyObject *)self, "_foreign", "O", lease));
    return -1;
}

int mapping_refuse_shared(MappingObject *self, RightObject *lease, const char *action)
{
    raise_instance(PyObject_CallMethod((PyObject *)self, "_read_only", "Os", lease, action));
    return -1;
}

int mapping_slot_from(MappingObject *self, PyObject *number, uint32_t *slot)
{
    unsigned long value = PyLong_AsUnsignedLong(number);
    if (value == (unsigned long)-1 && PyErr_Occurred())
        return -1;
    if (value >= self->pool.geometry.slots) {
        PyErr_Format(PyExc_IndexError, "slot %lu: the pool has %u", value, self->pool.geometry.slots);
        return -1;
    }
    *slot = (uint32_t)value;
    return 0;
}

int mapping_ticket_from(MappingObject *self, PyObject *number, const char *action, uint64_t *ticket)
{
    *ticket = PyLong_AsUnsignedLongLong(number);
    if (*ticket == (uint64_t)-1 && PyErr_Occurred())
        return -1;
    if (sp_ticket_slot(*ticket) < self->pool.geometry.slots)
        return 0;
    mapping_fail_stale(self, action, sp_ticket_slot(*ticket), sp_ticket_generation(*ticket), LIVE, 0);
    return -1;
}
