/* Mapping, continued: its attributes. */
#include "glue.h"

/* An attribute's new value, 0 where it is deleted: 0, or -1 with an exception. */
static int number_from(PyObject *value, uint64_t *number)
{
    *number = value ? PyLong_AsUnsignedLongLong(value) : 0;
    return PyErr_Occurred() ? -1 : 0;
}

static PyObject *mapping_get_closed(MappingObject *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(self->closed);
}

static PyObject *mapping_get_me(MappingObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLong(self->pool.me);
}

static PyObject *mapping_get_joined(MappingObject *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(self->pool.me && self->epoch == fork_epoch);
}

static PyObject *mapping_get_live(MappingObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLongLong(self->epoch == fork_epoch ? self->live : 0);
}

static PyObject *mapping_get_leases(MappingObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLongLong(self->epoch == fork_epoch ? self->leases : 0);
}

static PyObject *mapping_get_status(MappingObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLongLong(sp_load_acquire(&self->pool.status->status));
}

static int mapping_set_status(MappingObject *self, PyObject *value, void *Py_UNUSED(closure))
{
    uint64_t status;
    if (number_from(value, &status) < 0)
        return -1;
    sp_store_release(&self->pool.status->status, status);
    return 0;
}

static PyObject *mapping_get_spin(MappingObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLongLong(self->spin_ns);
}

static int mapping_set_spin(MappingObject *self, PyObject *value, void *Py_UNUSED(closure))
{
    uint64_t spin;
    if (number_from(value, &spin) < 0)
        return -1;
    self->spin_ns = spin;
    return 0;
}

static PyObject *mapping_get_truncated(MappingObject *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(sp_load_acquire(&self->truncated) != 0);
}

static PyObject *mapping_get_track_every(MappingObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLongLong(self->track_every);
}

static int mapping_set_track_every(MappingObject *self, PyObject *value, void *Py_UNUSED(closure))
{
    uint64_t every;
    if (number_from(value, &every) < 0)
        return -1;
    self->track_every = every;
    return 0;
}

static PyObject *mapping_get_bells(MappingObject *self, void *Py_UNUSED(closure))
{
    return Py_NewRef(self->bells);
}

PyGetSetDef mapping_getset[] = {
    {"me", (getter)mapping_get_me, NULL, "Own member index, 0 before joining.", NULL},
    {"joined", (getter)mapping_get_joined, NULL, "Whether this process joined, not its parent.", NULL},
    {"closed", (getter)mapping_get_closed, NULL, "Whether close was called here.", NULL},
    {"live", (getter)mapping_get_live, NULL, "Rights held through this mapping.", NULL},
    {"leases", (getter)mapping_get_leases, NULL, "Of them, those in the hands of a Lease.", NULL},
    {"status", (getter)mapping_get_status, (setter)mapping_set_status, "The pool's status.", NULL},
    {"spin_ns", (getter)mapping_get_spin, (setter)mapping_set_spin, "Longest spin before a sleep.", NULL},
    {"truncated", (getter)mapping_get_truncated, NULL, "Whether a segment was cut under us.", NULL},
    {"track_every", (getter)mapping_get_track_every, (setter)mapping_set_track_every,
     "One right in so many is tracked, 0: none.", NULL},
    {"bells", (getter)mapping_get_bells, NULL, "Callables that ring members, by index.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};
