/* Span and LeaseBase. */
#include "glue.h"

#include <structmember.h>

/* --- Span ------------------------------------------------------------------------ */

static void free_object(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    type->tp_free(object);
    Py_DECREF(type);
}

/* Give a right back where nothing can be raised. */
static void release_quietly(MappingObject *mapping, const sp_right *right, uint64_t epoch)
{
    /* In a forked child the right is the parent's: leave it alone. */
    if (epoch != fork_epoch)
        return;
    if (sp_release(&mapping->pool, right) == SP_OK) {
        sp_count(&mapping_me(mapping)->released);
        uint32_t class = sp_pool_class_of(&mapping->pool, right->slot);
        mapping_ring_quietly(mapping, mapping->pool.class_states[class].waiting);
    }
    mapping_right_over(mapping);
}

static void span_dealloc(SpanObject *self)
{
    if (self->holds)
        release_quietly(self->mapping, &self->right, self->epoch);
    Py_XDECREF(self->mapping);
    free_object((PyObject *)self);
}

static int span_getbuffer(SpanObject *self, Py_buffer *view, int flags)
{
    return PyBuffer_FillInfo(view, (PyObject *)self, self->memory, self->length, 0, flags);
}

SpanObject *span_new(MappingObject *mapping, uint8_t *memory, uint64_t length)
{
    SpanObject *self = (SpanObject *)span_type->tp_alloc(span_type, 0);
    if (self == NULL)
        return NULL;
    self->mapping = (MappingObject *)Py_NewRef(mapping);
    self->memory = memory;
    self->length = (Py_ssize_t)length;
    return self;
}

static PyType_Slot span_slots[] = {
    {Py_tp_dealloc, span_dealloc},
    {Py_bf_getbuffer, span_getbuffer},
    {Py_tp_doc, "Shared memory that stays mapped as long as anything looks at it."},
    {0, NULL},
};

static PyType_Spec span_spec = {
    .name = "shmpool._core.Span",
    .basicsize = sizeof(SpanObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = span_slots,
};

/* --- LeaseBase ------------------------------------------------------------------- */

static PyTypeObject *lease_class; /* the Python subclass that acquire and get return */

PyObject *lease_new(MappingObject *mapping, const sp_right *right)
{
    LeaseObject *self = (LeaseObject *)lease_class->tp_alloc(lease_class, 0);
    if (self == NULL) {
        sp_release(&mapping->pool, right);
        return NULL;
    }
    self->mapping = (MappingObject *)Py_NewRef(mapping);
    self->epoch = fork_epoch;
    self->right = *right;
    mapping->live++;
    mapping->leases++;
    return (PyObject *)self;
}

/* Is the right still held, here? -1 with an exception that says how it ended if not. */
int lease_usable(LeaseObject *self, const char *action)
{
    if (LIKELY(self->ending == LIVE && self->epoch == fork_epoch))
        return 0;
    int ending = self->epoch == fork_epoch ? (int)self->ending : -1;
    mapping_fail_stale(self->mapping, action, self->right.slot, sp_word_generation(self->right.word),
                       ending, self->ended_in);
    return -1;
}

static bool lease_viewed(const LeaseObject *self)
{
    return self->span != NULL && Py_REFCNT(self->span) > 1;
}

/* Does nothing look at the memory any more? -1 with ViewsAliveError if something does. */
int lease_unviewed(LeaseObject *self, const char *action)
{
    if (LIKELY(!lease_viewed(self)) || self->mapping->ignore_views)
        return 0;
    PyObject *error = PyObject_CallMethod((PyObject *)self->mapping, "_views", "Osn", self, action,
                                          Py_REFCNT(self->span) - 1);
    if (error != NULL)
        PyErr_SetObject((PyObject *)Py_TYPE(error), error);
    Py_XDECREF(error);
    return -1;
}

void lease_over(LeaseObject *self, Ending ending, uint32_t queue)
{
    self->ending = ending;
    self->ended_in = queue;
    Py_CLEAR(self->span);
    self->mapping->leases--;
    mapping_right_over(self->mapping);
}

static PyObject *lease_release(LeaseObject *self, PyObject *Py_UNUSED(none))
{
    if (lease_usable(self, "release") < 0 || lease_unviewed(self, "release") < 0)
        return NULL;
    MappingObject *mapping = self->mapping;
    if (sp_release(&mapping->pool, &self->right) != SP_OK) {
        lease_over(self, RELEASED, 0);
        return mapping_fail_stale(mapping, "release", self->right.slot,
                                  sp_word_generation(self->right.word), LIVE, 0);
    }
    sp_count(&mapping_me(mapping)->released);
    lease_over(self, RELEASED, 0);
    uint32_t class = sp_pool_class_of(&mapping->pool, self->right.slot);
    if (mapping_ring(mapping, mapping->pool.class_states[class].waiting) < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* LEASED -> a ticket outside every queue, as an integer. */
static PyObject *lease_detach(LeaseObject *self, PyObject *Py_UNUSED(none))
{
    if (lease_usable(self, "detach") < 0 || lease_unviewed(self, "detach") < 0)
        return NULL;
    uint64_t ticket;
    MappingObject *mapping = self->mapping;
    sp_result result = sp_detach(&mapping->pool, &self->right, clock_coarse_ns(), &ticket);
    if (result == SP_SPENT)
        return mapping_fail_corrupt(mapping, "the generations of a slot are used up");
    lease_over(self, DETACHED, 0);
    if (result != SP_OK)
        return mapping_fail_stale(mapping, "detach", self->right.slot,
                                  sp_word_generation(self->right.word), LIVE, 0);
    sp_count(&mapping_me(mapping)->detached);
    return PyLong_FromUnsignedLongLong(ticket);
}

static void lease_abandon(LeaseObject *self)
{
    SpanObject *span = self->span;
    if (self->epoch == fork_epoch)
        self->mapping->leases--;
    if (lease_viewed(self) && !self->mapping->ignore_views) {
        span->right = self->right;
        span->epoch = self->epoch;
        span->holds = true; /* the last view gives the slot back */
    } else {
        release_quietly(self->mapping, &self->right, self->epoch);
    }
    self->ending = RELEASED;
    Py_CLEAR(self->span);
}

static void lease_dealloc(LeaseObject *self)
{
    if (self->weakrefs != NULL)
        PyObject_ClearWeakRefs((PyObject *)self);
    if (self->ending == LIVE && self->mapping != NULL)
        lease_abandon(self);
    Py_XDECREF(self->span);
    Py_XDECREF(self->mapping);
    free_object((PyObject *)self);
}

static PyObject *lease_enter(LeaseObject *self, PyObject *Py_UNUSED(none))
{
    return lease_usable(self, "enter") < 0 ? NULL : Py_NewRef(self);
}

static PyObject *lease_exit(LeaseObject *self, PyObject *const *args, Py_ssize_t count)
{
    /* Put or released inside the block: nothing is left to do. */
    if (self->ending != LIVE)
        Py_RETURN_FALSE;
    bool failing = count > 0 && args[0] != Py_None;
    /* An error is on its way, and its traceback may hold views: never mask it. */
    if (failing) {
        lease_abandon(self);
        Py_RETURN_FALSE;
    }
    PyObject *done = lease_release(self, NULL);
    Py_XDECREF(done);
    return done ? Py_NewRef(Py_False) : NULL;
}

static SpanObject *lease_span(LeaseObject *self)
{
    if (self->span != NULL)
        return self->span;
    sp_pool *pool = &self->mapping->pool;
    uint32_t class = sp_pool_class_of(pool, self->right.slot);
    const sp_class_geometry *c = &pool->geometry.of_class[class];
    uint64_t offset = (self->right.slot - c->first) * c->stride;
    self->span = span_new(self->mapping, self->mapping->slab[class] + offset, c->slot_size);
    return self->span;
}

static int lease_getbuffer(LeaseObject *self, Py_buffer *view, int flags)
{
    SpanObject *span = lease_usable(self, "look at") < 0 ? NULL : lease_span(self);
    if (span == NULL) {
        view->obj = NULL;
        return -1;
    }
    return span_getbuffer(span, view, flags);
}

/* Exports belong to the span, so there is nothing to do; but numpy's frombuffer keeps a
 * memoryview, which we see, only of objects that have this, and else just a reference. */
static void lease_releasebuffer(LeaseObject *Py_UNUSED(self), Py_buffer *Py_UNUSED(view))
{
}

static PyObject *lease_memory(LeaseObject *self, PyObject *Py_UNUSED(none))
{
    SpanObject *span = lease_usable(self, "look at") < 0 ? NULL : lease_span(self);
    return span ? Py_NewRef(span) : NULL;
}

static PyObject *lease_check(LeaseObject *self, PyObject *Py_UNUSED(none))
{
    if (lease_usable(self, "use") < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* The bytes as they are to be read: a description, 0 long for none. */
static PyObject *lease_describe(LeaseObject *self, PyObject *description)
{
    if (lease_usable(self, "describe") < 0)
        return NULL;
    Py_buffer view;
    if (PyObject_GetBuffer(description, &view, PyBUF_SIMPLE) < 0)
        return NULL;
    sp_slot *slot = &self->mapping->pool.slots[self->right.slot];
    uint64_t attempts = sp_load_relaxed(&slot->delivery) & ~(uint64_t)UINT32_MAX;
    bool fits = (size_t)view.len <= sizeof(sp_sheet);
    if (fits) {
        /* Killed in the middle: the slot is undescribed, never half described. */
        sp_store_release(&slot->delivery, attempts);
        memcpy(sp_pool_sheet(&self->mapping->pool, self->right.slot), view.buf, (size_t)view.len);
        sp_store_release(&slot->delivery, attempts | (uint64_t)view.len);
    }
    PyBuffer_Release(&view);
    return PyBool_FromLong(fits);
}

static PyObject *lease_description(LeaseObject *self, PyObject *Py_UNUSED(none))
{
    if (lease_usable(self, "read the description of") < 0)
        return NULL;
    sp_pool *pool = &self->mapping->pool;
    uint64_t length = sp_load_acquire(&pool->slots[self->right.slot].delivery) & UINT32_MAX;
    if (length > sizeof(sp_sheet))
        return mapping_fail_corrupt(self->mapping, "a description longer than its place");
    const char *sheet = (const char *)sp_pool_sheet(pool, self->right.slot);
    return PyBytes_FromStringAndSize(sheet, (Py_ssize_t)length);
}

/* Copy bytes in at an offset that the caller has checked against the slot's size. */
static PyObject *lease_write_at(LeaseObject *self, PyObject *const *args, Py_ssize_t count)
{
    if (count != 2)
        return PyErr_Format(PyExc_TypeError, "_write_at takes offset and data");
    SpanObject *span = lease_usable(self, "write to") < 0 ? NULL : lease_span(self);
    Py_ssize_t offset = span ? PyLong_AsSsize_t(args[0]) : -1;
    Py_buffer view;
    if (span == NULL || (offset == -1 && PyErr_Occurred()) ||
        PyObject_GetBuffer(args[1], &view, PyBUF_C_CONTIGUOUS) < 0)
        return NULL;
    bool fits = offset >= 0 && view.len <= span->length && offset <= span->length - view.len;
    if (fits)
        memmove(span->memory + offset, view.buf, (size_t)view.len); /* data may be a view of us */
    PyBuffer_Release(&view);
    if (!fits)
        return PyErr_Format(PyExc_IndexError, "offset %zd is outside the slot", offset);
    Py_RETURN_NONE;
}

static PyObject *lease_get_slot(LeaseObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLong(self->right.slot);
}

static PyObject *lease_get_generation(LeaseObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLongLong(sp_word_generation(self->right.word));
}

static PyObject *lease_get_live(LeaseObject *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(self->ending == LIVE && self->epoch == fork_epoch);
}

static PyObject *lease_get_nbytes(LeaseObject *self, void *Py_UNUSED(closure))
{
    const sp_pool *pool = &self->mapping->pool;
    uint32_t class = sp_pool_class_of(pool, self->right.slot);
    return PyLong_FromUnsignedLongLong(pool->geometry.of_class[class].slot_size);
}

static PyObject *lease_get_attempts(LeaseObject *self, void *Py_UNUSED(closure))
{
    if (lease_usable(self, "count the attempts of") < 0)
        return NULL;
    const sp_slot *slot = &self->mapping->pool.slots[self->right.slot];
    return PyLong_FromUnsignedLongLong(sp_load_relaxed(&slot->delivery) >> 32);
}

static PyObject *lease_get_mapping(LeaseObject *self, void *Py_UNUSED(closure))
{
    return Py_NewRef(self->mapping);
}

static PyMethodDef lease_methods[] = {
    {"release", (PyCFunction)lease_release, METH_NOARGS,
     "release($self, /)\n--\n\n"
     "Give the slot back to the pool. Does not block.\n\n"
     "Raises AlreadyEndedError if the lease is over, NotOwnerError in a forked child, and\n"
     "ViewsAliveError (the lease goes on) while arrays or memoryviews of it are alive."},
    {"__enter__", (PyCFunction)lease_enter, METH_NOARGS, NULL},
    {"__exit__", (PyCFunction)(void (*)(void))lease_exit, METH_FASTCALL, NULL},
    {"_detach", (PyCFunction)lease_detach, METH_NOARGS, "End the lease: its ticket as an integer."},
    {"_memory", (PyCFunction)lease_memory, METH_NOARGS, "The Span that every view keeps."},
    {"_check", (PyCFunction)lease_check, METH_NOARGS, "Raise if the lease is over."},
    {"_describe", (PyCFunction)lease_describe, METH_O, "Store a description: False if it is too long."},
    {"_description", (PyCFunction)lease_description, METH_NOARGS, "The stored description, b'' for none."},
    {"_write_at", (PyCFunction)(void (*)(void))lease_write_at, METH_FASTCALL, "Copy bytes in."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef lease_getset[] = {
    {"slot", (getter)lease_get_slot, NULL, "Number of the slot in the pool, from 0.", NULL},
    {"generation", (getter)lease_get_generation, NULL, "Generation under which the slot is held.", NULL},
    {"live", (getter)lease_get_live, NULL, "Whether the lease still holds its slot, in this process.", NULL},
    {"nbytes", (getter)lease_get_nbytes, NULL, "Size of the slot in bytes.", NULL},
    {"attempts", (getter)lease_get_attempts, NULL,
     "How many members died holding this delivery before it came here.", NULL},
    {"_mapping", (getter)lease_get_mapping, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef lease_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(LeaseObject, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot lease_slots[] = {
    {Py_tp_dealloc, lease_dealloc},
    {Py_tp_methods, lease_methods},
    {Py_tp_getset, lease_getset},
    {Py_tp_members, lease_members},
    {Py_bf_getbuffer, lease_getbuffer},
    {Py_bf_releasebuffer, lease_releasebuffer},
    {Py_tp_doc, "The right of this process to one slot, until it is released, put or detached."},
    {0, NULL},
};

static PyType_Spec lease_spec = {
    .name = "shmpool._core.LeaseBase",
    .basicsize = sizeof(LeaseObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = lease_slots,
};

static PyObject *set_lease_class(PyObject *Py_UNUSED(module), PyObject *class)
{
    if (!PyType_Check(class) || !PyType_IsSubtype((PyTypeObject *)class, lease_type))
        return PyErr_Format(PyExc_TypeError, "not a subclass of LeaseBase: %R", class);
    Py_XSETREF(lease_class, (PyTypeObject *)Py_NewRef(class));
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"set_lease_class", set_lease_class, METH_O, "Name the class that acquire and get return."},
    {NULL, NULL, 0, NULL},
};

int module_add_lease(PyObject *module)
{
    span_type = (PyTypeObject *)PyType_FromSpec(&span_spec);
    lease_type = (PyTypeObject *)PyType_FromSpec(&lease_spec);
    if (span_type == NULL || lease_type == NULL)
        return -1;
    lease_class = (PyTypeObject *)Py_NewRef(lease_type);
    if (PyModule_AddFunctions(module, functions) < 0 || PyModule_AddType(module, span_type) < 0)
        return -1;
    return PyModule_AddType(module, lease_type);
}
