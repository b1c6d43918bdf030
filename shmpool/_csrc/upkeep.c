/* Mapping, continued: operations off the fast path, and the reaper's tools. */
#include "glue.h"

static PyObject *mapping_word(MappingObject *self, PyObject *number)
{
    uint32_t slot;
    if (mapping_slot_from(self, number, &slot) < 0)
        return NULL;
    return PyLong_FromUnsignedLongLong(sp_load_acquire(&self->pool.slots[slot].word));
}

static PyObject *mapping_shown(MappingObject *self, PyObject *number)
{
    uint32_t slot;
    if (mapping_slot_from(self, number, &slot) < 0)
        return NULL;
    return PyBool_FromLong(sp_slot_shown(&self->pool, slot));
}

PyObject *mapping_claim(MappingObject *self, PyObject *number)
{
    uint64_t ticket;
    if (mapping_ticket_from(self, number, "claim", &ticket) < 0)
        return NULL;
    sp_right right;
    sp_result result = sp_claim(&self->pool, ticket, clock_coarse_ns(), &right);
    if (result == SP_OK) {
        sp_count(&mapping_me(self)->claimed);
        mapping_note(self, right.slot, sp_word_generation(right.word), SP_WAS_CLAIMED, SP_NO_QUEUE);
        mapping_count_received(self, right.slot);
        return lease_new(self, &right);
    }
    return mapping_fail_stale(self, "claim", sp_ticket_slot(ticket), sp_ticket_generation(ticket), LIVE, 0);
}

static PyObject *mapping_queue_size(MappingObject *self, PyObject *args)
{
    unsigned int queue;
    if (!PyArg_ParseTuple(args, "I", &queue) || mapping_mask(self, FOR_TICKET, queue) == NULL)
        return NULL;
    return PyLong_FromUnsignedLong(sp_ring_size(&self->pool, queue));
}

static PyObject *mapping_queue_close(MappingObject *self, PyObject *args)
{
    unsigned int queue;
    if (!PyArg_ParseTuple(args, "I", &queue) || mapping_mask(self, FOR_TICKET, queue) == NULL)
        return NULL;
    sp_queue_state *state = sp_pool_queue(&self->pool, queue);
    sp_fetch_or_seq_cst(&state->closed, 1);
    if (mapping_ring_everybody(self, state->waiting) < 0 || mapping_ring_everybody(self, state->waiting_space) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *mapping_queue_closed(MappingObject *self, PyObject *args)
{
    unsigned int queue;
    if (!PyArg_ParseTuple(args, "I", &queue) || mapping_mask(self, FOR_TICKET, queue) == NULL)
        return NULL;
    return PyBool_FromLong(sp_load_seq_cst(&sp_pool_queue(&self->pool, queue)->closed) != 0);
}

/* `seen` is the word in the name of the dead: read again, it may be a claimer's by now, whose
 * lease would expire. */
static int note_detached(MappingObject *self, PyObject *detached, uint32_t slot, uint64_t seen)
{
    uint64_t word = sp_word_with_owner(seen, self->pool.me);
    PyObject *entry = Py_BuildValue("IK", slot, (unsigned long long)word);
    int result = entry ? PyList_Append(detached, entry) : -1;
    Py_XDECREF(entry);
    return result;
}

static PyObject *mapping_reap(MappingObject *self, PyObject *number)
{
    unsigned long dead = PyLong_AsUnsignedLong(number);
    if (dead < 1 || dead > self->pool.geometry.members || dead == self->pool.me)
        return PyErr_Occurred() ? NULL : PyErr_Format(PyExc_IndexError, "no member %lu to reap", dead);
    PyObject *detached = PyList_New(0);
    unsigned int count[SP_REAP_CORRUPT + 1] = {0};
    if (mapping_traced(self))
        trace_note_parted(self, (uint32_t)dead);
    sp_member_bury(&self->pool, (uint32_t)dead);
    sp_reap_waiting(&self->pool, (uint32_t)dead);
    count[SP_REAP_ADOPTED] = sp_reap_rings(&self->pool, (uint32_t)dead);
    for (uint32_t slot = 0; detached && slot < self->pool.geometry.slots; slot++) {
        uint64_t seen = sp_load_seq_cst(&self->pool.slots[slot].word);
        sp_reaped reaped = sp_reap_slot(&self->pool, slot, (uint32_t)dead);
        count[reaped]++;
        if (UNLIKELY(mapping_told(self)))
            story_reaped(self, slot, seen, reaped, (uint32_t)dead);
        if (reaped == SP_REAP_DETACHED && note_detached(self, detached, slot, seen) < 0)
            Py_CLEAR(detached);
    }
    sp_reap_readers(&self->pool, (uint32_t)dead);
    if (detached && count[SP_REAP_CORRUPT]) {
        Py_DECREF(detached);
        return mapping_fail_corrupt(self, "a ring has no room for the tickets of a dead member");
    }
    return detached ? Py_BuildValue("IIIIIN", count[SP_REAP_FREED], count[SP_REAP_REQUEUED],
                                    count[SP_REAP_DEAD_LETTER], count[SP_REAP_QUARANTINED],
                                    count[SP_REAP_ADOPTED], detached)
                    : NULL;
}

static PyObject *mapping_vacate(MappingObject *self, PyObject *number)
{
    unsigned long member = PyLong_AsUnsignedLong(number);
    if (member < 1 || member > self->pool.geometry.members)
        return PyErr_Occurred() ? NULL : PyErr_Format(PyExc_IndexError, "no member %lu", member);
    sp_store_release(&self->pool.members[member].identity, SP_VACANT);
    Py_RETURN_NONE;
}

static PyObject *mapping_repair(MappingObject *self, PyObject *Py_UNUSED(none))
{
    unsigned long shown = 0;
    for (uint32_t slot = 0; slot < self->pool.geometry.slots; slot++)
        shown += sp_reap_show(&self->pool, slot);
    return PyLong_FromUnsignedLong(shown);
}

static PyObject *mapping_expire(MappingObject *self, PyObject *args)
{
    PyObject *number;
    unsigned long long word;
    uint32_t slot;
    if (!PyArg_ParseTuple(args, "OK", &number, &word) || mapping_slot_from(self, number, &slot) < 0)
        return NULL;
    bool ended = sp_slot_end(&self->pool, slot, word);
    if (ended)
        mapping_note(self, slot, sp_word_generation(word), SP_WAS_EXPIRED, SP_NO_QUEUE);
    return PyBool_FromLong(ended);
}

/* Make every slot of a new pool free, or uncommitted beyond its class's count. */
static PyObject *mapping_format(MappingObject *self, PyObject *Py_UNUSED(none))
{
    for (uint32_t i = 0; i < self->pool.geometry.classes; i++) {
        const sp_class_geometry *c = &self->pool.geometry.of_class[i];
        for (uint32_t k = 0; k < c->max_count; k++) {
            sp_state state = k < c->count ? SP_FREE : SP_UNCOMMITTED;
            uint64_t word = sp_word(state, SP_NOBODY, SP_NO_QUEUE, SP_GENERATION_FIRST);
            if (self->poison != NULL && state == SP_FREE)
                poison_begin(self, c->first + k);
            sp_store_release(&self->pool.slots[c->first + k].word, word);
        }
        sp_store_release(&self->pool.class_states[i].uncommitted, c->max_count - c->count);
    }
    return mapping_repair(self, NULL);
}

PyMethodDef upkeep_methods[] = {
    {"word", (PyCFunction)mapping_word, METH_O, "A slot's word."},
    {"shown", (PyCFunction)mapping_shown, METH_O, "Whether the free map shows a slot."},
    {"claim", (PyCFunction)mapping_claim, METH_O, "Lease by ticket."},
    {"queue_size", (PyCFunction)mapping_queue_size, METH_VARARGS, "Tickets in a queue."},
    {"queue_close", (PyCFunction)mapping_queue_close, METH_VARARGS, "Close a queue, wake its waiters."},
    {"queue_closed", (PyCFunction)mapping_queue_closed, METH_VARARGS, "Whether a queue is closed."},
    {"reap", (PyCFunction)mapping_reap, METH_O,
     "Give back what a dead member held: (freed, requeued, dead-lettered, quarantined,"
     " adopted, detached)."},
    {"vacate", (PyCFunction)mapping_vacate, METH_O, "Free a member's entry."},
    {"repair", (PyCFunction)mapping_repair, METH_NOARGS, "Set lost free bits: how many."},
    {"expire", (PyCFunction)mapping_expire, METH_VARARGS, "Free a slot if its word is still this."},
    {"format", (PyCFunction)mapping_format, METH_NOARGS, "Make the slots of a new pool free."},
    {NULL, NULL, 0, NULL},
};
