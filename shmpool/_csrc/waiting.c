/* Mapping, continued: who waits for what, and waking them. */
#include "glue.h"

/* The waiting mask of a thing; NULL with IndexError for what is nothing. */
sp_atomic_u64 *mapping_mask(MappingObject *self, int kind, unsigned int index)
{
    const sp_geometry *g = &self->pool.geometry;
    if (kind == FOR_SLOT && index < g->classes)
        return self->pool.class_states[index].waiting;
    if (index >= 1 && index <= g->queues && kind == FOR_TICKET)
        return sp_pool_queue(&self->pool, index)->waiting;
    if (index >= 1 && index <= g->queues && kind == FOR_SPACE)
        return sp_pool_queue(&self->pool, index)->waiting_space;
    PyErr_Format(PyExc_IndexError, "nothing to wait for: kind %d, index %u", kind, index);
    return NULL;
}

int mapping_thing_from(MappingObject *self, PyObject *pair, Thing *thing)
{
    int kind;
    if (!PyArg_ParseTuple(pair, "iI", &kind, &thing->index))
        return -1;
    thing->kind = (Waitable)kind;
    thing->mask = mapping_mask(self, kind, thing->index);
    return thing->mask ? 0 : -1;
}

/* Noted once in every slice of a sleep, so that a tracer that came meanwhile knows of it, too. */
void mapping_wait_begin(MappingObject *self, const Thing *thing)
{
    sp_wait_begin(thing->mask, self->pool.me);
    if (mapping_traced(self))
        trace_note(self, SP_TRACE_NO_SLOT, (uint64_t)thing->kind, SP_TRACE_WAITS, thing->index);
}

static PyObject *ring_member(MappingObject *self, uint32_t member)
{
    sp_count(&mapping_me(self)->rung);
    PyObject *bell = member < (uint32_t)PyList_GET_SIZE(self->bells)
                         ? PyList_GET_ITEM(self->bells, member)
                         : Py_None;
    if (bell != Py_None)
        return PyObject_CallNoArgs(bell);
    return PyObject_CallMethod((PyObject *)self, "_ring", "I", member);
}

/* Wake one sleeper of this mask, if there is any. A bell that does not ring costs its
 * sleeper a slice, so only what is not an Exception (Ctrl-C) gets through: -1. */
int mapping_ring(MappingObject *self, sp_atomic_u64 *mask)
{
    if (LIKELY(!sp_wait_any(mask)))
        return 0;
    uint32_t member = sp_wait_next(mask, self->pool.last_rung);
    if (!member)
        return 0;
    self->pool.last_rung = member;
    PyObject *rung = ring_member(self, member);
    if (rung == NULL && !PyErr_ExceptionMatches(PyExc_Exception))
        return -1;
    PyErr_Clear();
    Py_XDECREF(rung);
    return 0;
}

/* For destructors: an error on its way stays, Ctrl-C comes again at the next bytecode. */
void mapping_ring_quietly(MappingObject *self, sp_atomic_u64 *mask)
{
    if (LIKELY(!sp_wait_any(mask)))
        return;
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    if (mapping_ring(self, mask) < 0) {
        PyErr_Clear();
        PyErr_SetInterrupt();
    }
    PyErr_Restore(type, value, traceback);
}

/* Is there something left for the next one who waits for a slot? Then ring. */
int mapping_pass_on(MappingObject *self, const Thing *thing)
{
    if (thing->kind != FOR_SLOT)
        return 0;
    sp_freemap map = sp_freemap_of(&self->pool, thing->index);
    if (!sp_freemap_any(&map))
        return 0;
    if (!PyErr_Occurred())
        return mapping_ring(self, thing->mask);
    mapping_ring_quietly(self, thing->mask);
    return 0;
}

void mapping_count_wait(MappingObject *self, uint64_t waited)
{
    sp_member *me = mapping_me(self);
    sp_count(&me->waits);
    sp_store_relaxed(&me->waited_ns, sp_load_relaxed(&me->waited_ns) + waited);
    if (mapping_traced(self))
        trace_note(self, SP_TRACE_NO_SLOT, waited, SP_TRACE_WOKE, SP_NO_QUEUE);
}

/* For tests: who waits sets and clears its bits by a Doorbell. */
static PyObject *begin_waiting(MappingObject *self, PyObject *args)
{
    Thing thing;
    if (mapping_thing_from(self, args, &thing) < 0)
        return NULL;
    mapping_wait_begin(self, &thing);
    Py_RETURN_NONE;
}

static PyObject *end_waiting(MappingObject *self, PyObject *args)
{
    Thing thing;
    if (mapping_thing_from(self, args, &thing) < 0)
        return NULL;
    sp_wait_end(thing.mask, self->pool.me);
    Py_RETURN_NONE;
}

/* Wake so many sleepers of this mask, or all that there are. */
int mapping_ring_some(MappingObject *self, sp_atomic_u64 *mask, long most)
{
    for (; most > 0 && sp_wait_any(mask); most--)
        if (mapping_ring(self, mask) < 0)
            return -1;
    return 0;
}

int mapping_ring_everybody(MappingObject *self, sp_atomic_u64 *mask)
{
    return mapping_ring_some(self, mask, SP_MAX_MEMBERS + 1);
}

static PyObject *mapping_ring_all(MappingObject *self, PyObject *Py_UNUSED(none))
{
    sp_pool *pool = &self->pool;
    for (uint32_t i = 0; i < pool->geometry.classes; i++)
        if (mapping_ring_everybody(self, pool->class_states[i].waiting) < 0)
            return NULL;
    for (uint32_t i = 0; i < pool->geometry.queues; i++)
        if (mapping_ring_everybody(self, pool->queue_states[i].waiting) < 0 ||
            mapping_ring_everybody(self, pool->queue_states[i].waiting_space) < 0)
            return NULL;
    Py_RETURN_NONE;
}

static PyObject *mapping_count_exhausted(MappingObject *self, PyObject *Py_UNUSED(none))
{
    sp_count(&mapping_me(self)->exhausted);
    Py_RETURN_NONE;
}

static PyObject *mapping_count_overflow(MappingObject *self, PyObject *Py_UNUSED(none))
{
    sp_count(&mapping_me(self)->overflows);
    Py_RETURN_NONE;
}

PyMethodDef waiting_methods[] = {
    {"wait_begin", (PyCFunction)begin_waiting, METH_VARARGS, "Set our waiting bit."},
    {"wait_end", (PyCFunction)end_waiting, METH_VARARGS, "Clear our waiting bit."},
    {"count_exhausted", (PyCFunction)mapping_count_exhausted, METH_NOARGS, "Count a vain acquire."},
    {"count_overflow", (PyCFunction)mapping_count_overflow, METH_NOARGS, "Count a writer's overflow."},
    {"ring_all", (PyCFunction)mapping_ring_all, METH_NOARGS, "Wake every sleeper."},
    {NULL, NULL, 0, NULL},
};
