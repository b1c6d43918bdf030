/* RightBase: what LeaseBase and BorrowBase have in common: a right, its memory, and its end. */
#include "spares.h"

static Spares spares;

PyObject *right_new(PyTypeObject *class, MappingObject *mapping, const sp_right *at, bool borrowed)
{
    Right right = {.at = *at, .epoch = fork_epoch, .borrowed = borrowed};
    RightObject *self = (RightObject *)spares_take(&spares, class);
    if (self == NULL) {
        right_end(mapping, &right);
        return NULL;
    }
    *self = (RightObject){.ob_base = self->ob_base,
                          .mapping = (MappingObject *)Py_NewRef(mapping),
                          .right = right};
    mapping->live++;
    mapping->leases++;
    if (UNLIKELY(mapping->track_every))
        right_track(self);
    return (PyObject *)self;
}

/* Is the right still held, here? -1 with an exception that says how it ended if not. */
int right_usable(RightObject *self, const char *action)
{
    const Right *right = &self->right;
    if (LIKELY(self->ending == LIVE && right->epoch == fork_epoch))
        return 0;
    int ending = right->epoch == fork_epoch ? (int)self->ending : -1;
    char what[64];
    PyOS_snprintf(what, sizeof what, "%s %s", action, right->borrowed ? "borrow" : "lease");
    mapping_fail_stale(self->mapping, what, right->at.slot, sp_word_generation(right->at.word), ending,
                       self->ended_in);
    return -1;
}

void right_over(RightObject *self, Ending ending, uint32_t queue)
{
    self->ending = ending;
    self->ended_in = queue;
    if (UNLIKELY(self->tracked != NULL))
        right_untrack(self);
    if (UNLIKELY(self->guarded))
        right_cut_guarded(self);
    Py_CLEAR(self->span);
    self->mapping->leases--;
    mapping_right_over(self->mapping);
}

PyObject *right_release(RightObject *self, PyObject *Py_UNUSED(none))
{
    if (right_usable(self, "release") < 0 || right_whole(self, "release") < 0 || right_part(self, "release") < 0)
        return NULL;
    MappingObject *mapping = self->mapping;
    bool ended = right_end(mapping, &self->right);
    uint32_t slot = self->right.at.slot;
    if (LIKELY(ended))
        mapping_note_end(mapping, &self->right, SP_WAS_RELEASED);
    right_over(self, RELEASED, 0);
    if (UNLIKELY(!ended))
        return mapping_fail_stale(mapping, "release", slot, sp_word_generation(self->right.at.word), LIVE, 0);
    if (!right_left_read(mapping, &self->right) && mapping_ring(mapping, mapping_slot_waiting(mapping, slot)) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static void right_abandon(RightObject *self)
{
    self->ending = RELEASED; /* first: to ring may be Python code, and others run meanwhile */
    if (UNLIKELY(self->tracked != NULL))
        right_untrack(self);
    if (self->right.epoch == fork_epoch)
        self->mapping->leases--;
    if (!right_pass_to_views(self))
        right_end_quietly(self->mapping, &self->right);
    if (self->span != NULL)
        right_let_go(self);
}

void right_dealloc(RightObject *self)
{
    if (self->weakrefs != NULL)
        PyObject_ClearWeakRefs((PyObject *)self);
    self->exposed = false; /* nothing refers to us any more */
    Tracked *leaked = UNLIKELY(self->tracked != NULL) ? right_found_dead(self) : NULL;
    if (self->ending == LIVE && self->mapping != NULL)
        right_abandon(self);
    if (UNLIKELY(leaked != NULL))
        right_tell_leak(self, leaked);
    Py_XDECREF(self->kept);
    Py_XDECREF(self->span);
    Py_XDECREF(self->mapping);
    spares_give(&spares, (PyObject *)self);
}

static PyObject *right_leave_to_views(RightObject *self, PyObject *Py_UNUSED(none))
{
    if (right_usable(self, "leave to its views") < 0)
        return NULL;
    right_abandon(self);
    Py_RETURN_NONE;
}

static PyObject *right_enter(RightObject *self, PyObject *Py_UNUSED(none))
{
    return right_usable(self, "enter") < 0 ? NULL : Py_NewRef(self);
}

/* An error is on its way, and its traceback may hold views: never mask it. */
static PyObject *exit_failing(RightObject *self)
{
    if (self->mapping->views != VIEWS_RAISE)
        Py_XDECREF(right_release(self, NULL));
    PyErr_Clear();
    if (self->ending == LIVE)
        right_abandon(self);
    Py_RETURN_FALSE;
}

static PyObject *right_exit(RightObject *self, PyObject *const *args, Py_ssize_t count)
{
    /* Put or released inside the block: nothing is left to do. */
    if (self->ending != LIVE)
        Py_RETURN_FALSE;
    bool failing = count > 0 && args[0] != Py_None;
    if (UNLIKELY(failing))
        return exit_failing(self);
    PyObject *done = right_release(self, NULL);
    Py_XDECREF(done);
    return done ? Py_NewRef(Py_False) : NULL;
}

SpanObject *right_span(RightObject *self)
{
    if (self->span != NULL)
        return self->span;
    self->span = span_of_slot(self->mapping, self->right.at.slot);
    /* Others read what is shared: its owner, too, only reads it now. */
    if (self->span != NULL)
        self->span->readonly = sp_word_state(self->right.at.word) == SP_SHARED;
    return self->span;
}

static int right_getbuffer(RightObject *self, Py_buffer *view, int flags)
{
    SpanObject *span = right_usable(self, "look at") < 0 ? NULL : right_span(self);
    if (span == NULL) {
        view->obj = NULL;
        return -1;
    }
    /* What np.ndarray(buffer=…) asks for. It then lets go, and keeps a reference to us. */
    if ((flags & ~PyBUF_WRITABLE) == PyBUF_ANY_CONTIGUOUS)
        self->exposed = true;
    return span_getbuffer(span, view, flags);
}

/* Exports belong to the span, so there is nothing to do; but numpy's frombuffer keeps a
 * memoryview, which we see, only of objects that have this, and else just a reference. */
static void right_releasebuffer(RightObject *Py_UNUSED(self), Py_buffer *Py_UNUSED(view))
{
}

static PyObject *right_memory(RightObject *self, PyObject *Py_UNUSED(none))
{
    SpanObject *span = right_usable(self, "look at") < 0 ? NULL : right_span(self);
    return span ? Py_NewRef(span) : NULL;
}

/* The user's header record stands behind the sheet. */
static PyObject *right_record(RightObject *self, PyObject *Py_UNUSED(none))
{
    if (right_usable(self, "use") < 0)
        return NULL;
    const sp_pool *pool = &self->mapping->pool;
    uint8_t *record = (uint8_t *)(sp_pool_sheet(pool, self->right.at.slot) + 1);
    return (PyObject *)span_new(self->mapping, record, pool->geometry.record_size);
}

static PyObject *right_check(RightObject *self, PyObject *Py_UNUSED(none))
{
    if (right_usable(self, "use") < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *right_description(RightObject *self, PyObject *Py_UNUSED(none))
{
    if (right_usable(self, "read the description of") < 0)
        return NULL;
    sp_pool *pool = &self->mapping->pool;
    uint64_t length = sp_load_acquire(&pool->slots[self->right.at.slot].delivery) & UINT32_MAX;
    if (length > sizeof(sp_sheet))
        return mapping_fail_corrupt(self->mapping, "a description longer than its place");
    const char *sheet = (const char *)sp_pool_sheet(pool, self->right.at.slot);
    return PyBytes_FromStringAndSize(sheet, (Py_ssize_t)length);
}

static PyObject *right_get_slot(RightObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLong(self->right.at.slot);
}

static PyObject *right_get_generation(RightObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLongLong(sp_word_generation(self->right.at.word));
}

static PyObject *right_get_live(RightObject *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(self->ending == LIVE && self->right.epoch == fork_epoch);
}

static PyObject *right_get_nbytes(RightObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLongLong(mapping_slot_size(self->mapping, self->right.at.slot));
}

static PyObject *right_get_mapping(RightObject *self, void *Py_UNUSED(closure))
{
    return Py_NewRef(self->mapping);
}

static PyGetSetDef right_getset[] = {
    {"slot", (getter)right_get_slot, NULL, "Number of the slot in the pool, from 0.", NULL},
    {"generation", (getter)right_get_generation, NULL, "Generation under which the slot is held.", NULL},
    {"live", (getter)right_get_live, NULL, "Whether the right is still held, in this process.", NULL},
    {"nbytes", (getter)right_get_nbytes, NULL, "Size of the slot in bytes.", NULL},
    {"_mapping", (getter)right_get_mapping, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef right_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(RightObject, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyMethodDef right_methods[] = {
    {"__enter__", (PyCFunction)right_enter, METH_NOARGS, NULL},
    {"__exit__", (PyCFunction)(void (*)(void))right_exit, METH_FASTCALL, NULL},
    {"leave_to_views", (PyCFunction)right_leave_to_views, METH_NOARGS,
     "leave_to_views($self, /)\n--\n\n"
     "Give the right to the views: the slot goes back with the last of them, now if there are none.\n\n"
     "For what keeps arrays longer than the block that made them. Does not block. Raises\n"
     "AlreadyEndedError if the right is over, and NotOwnerError in a forked child."},
    {"_memory", (PyCFunction)right_memory, METH_NOARGS, "The Span that every view keeps."},
    {"_record", (PyCFunction)right_record, METH_NOARGS, "A Span of the header record."},
    {"_check", (PyCFunction)right_check, METH_NOARGS, "Raise if the right is over."},
    {"_description", (PyCFunction)right_description, METH_NOARGS, "The stored description, b'' for none."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot right_slots[] = {
    {Py_tp_dealloc, right_dealloc},
    {Py_tp_methods, right_methods},
    {Py_tp_getset, right_getset},
    {Py_tp_members, right_members},
    {Py_bf_getbuffer, right_getbuffer},
    {Py_bf_releasebuffer, right_releasebuffer},
    {Py_tp_doc, "A right of this process to one slot."},
    {0, NULL},
};

static PyType_Spec right_spec = {
    .name = "shmpool._core.RightBase",
    .basicsize = sizeof(RightObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = right_slots,
};

/* LeaseBase or BorrowBase. */
PyTypeObject *right_subtype(PyType_Spec *spec)
{
    return (PyTypeObject *)PyType_FromSpecWithBases(spec, (PyObject *)right_type);
}

/* Name the Python subclass of one of them that the core is to make. */
PyObject *right_set_class(PyTypeObject **class, PyTypeObject *base, PyObject *value)
{
    if (!PyType_Check(value) || !PyType_IsSubtype((PyTypeObject *)value, base))
        return PyErr_Format(PyExc_TypeError, "not a subclass of %.100s: %R", base->tp_name, value);
    Py_XSETREF(*class, (PyTypeObject *)Py_NewRef(value));
    /* Of Python's own dealloc nothing is needed, if the subclass adds nothing to free. */
    if ((*class)->tp_basicsize == base->tp_basicsize && !(*class)->tp_finalize && !(*class)->tp_del)
        (*class)->tp_dealloc = base->tp_dealloc;
    Py_RETURN_NONE;
}

int module_add_right(PyObject *module)
{
    right_type = (PyTypeObject *)PyType_FromSpec(&right_spec);
    return right_type ? PyModule_AddType(module, right_type) : -1;
}
