/* Mapping, continued: leasing a free slot, fetching memory for one, giving it back to the system. */
#include "glue.h"

#include <errno.h>
#include <fcntl.h>

/* Put memory behind a slot: 0, or an errno. Not the memory's own: EINTR with an exception. */
static int fetch(MappingObject *self, uint32_t class, uint32_t slot)
{
    off_t offset = (off_t)mapping_slot_offset(self, class, slot);
    off_t length = (off_t)self->pool.geometry.of_class[class].stride;
    int error;
    do {
        Py_BEGIN_ALLOW_THREADS
        error = posix_fallocate(self->slab_fd[class], offset, length);
        Py_END_ALLOW_THREADS
    } while (error == EINTR && PyErr_CheckSignals() == 0);
    return error;
}

static bool is_want_of_memory(int error)
{
    return error == ENOSPC || error == ENOMEM || error == EFBIG || error == EDQUOT;
}

/* Undo, tell of what keeps us from growing: 0 for want of memory, else -1 with an exception. */
static int commit_failed(MappingObject *self, uint32_t class, const sp_right *right, int error)
{
    sp_commit_undo(&self->pool, right->slot, right->word);
    if (PyErr_Occurred())
        return -1;
    if (is_want_of_memory(error)) {
        self->starved = self->pool.geometry.of_class[class].stride;
        return 0;
    }
    errno = error;
    PyErr_SetFromErrno(PyExc_OSError);
    return -1;
}

/* Take an uncommitted slot and fetch its memory: 1, 0 for none, -1 with an exception. If 1, it
 * counts as a right of ours, so that a close() meanwhile leaves after this and not before. */
static int commit(MappingObject *self, uint32_t class, sp_right *right)
{
    if (sp_commit_begin(&self->pool, class, right) != SP_OK)
        return 0;
    self->live++;
    int error = fetch(self, class, right->slot);
    if (!error && UNLIKELY(self->poison != NULL))
        poison_begin(self, right->slot);
    if (!error)
        return 1;
    int failed = commit_failed(self, class, right, error);
    mapping_right_over(self);
    return failed;
}

static int commit_lease(MappingObject *self, uint32_t class, uint64_t now, sp_right *right)
{
    int committed = commit(self, class, right);
    if (committed != 1)
        return committed;
    self->live--; /* the Lease counts itself before anybody else runs */
    if (sp_commit_lease(&self->pool, right, now) == SP_OK)
        return 1;
    mapping_fail_corrupt(self, "a slot that was being committed is somebody else's");
    return -1;
}

/* A free slot of a class, or one that has only an address yet: 1, 0 for none, -1. */
static int take_slot(MappingObject *mapping, uint32_t class, uint64_t now, sp_right *right)
{
    if (LIKELY(sp_acquire(&mapping->pool, class, now, right) == SP_OK))
        return 1;
    if (LIKELY(!sp_load_relaxed(&mapping->pool.class_states[class].uncommitted)))
        return 0;
    return commit_lease(mapping, class, now, right);
}

/* From the smallest class that fits, up. NULL without an exception: nothing free. `now` is
 * checked and recorded. */
PyObject *mapping_lease(MappingObject *mapping, uint32_t class, uint64_t now)
{
    sp_right right;
    int taken = 0;
    for (; !taken && class < mapping->pool.geometry.classes; class++)
        taken = take_slot(mapping, class, now, &right);
    if (taken != 1 || (UNLIKELY(mapping->poison != NULL) && poison_check(mapping, &right) < 0))
        return NULL;
    sp_count(&mapping_me(mapping)->acquired);
    mapping_note(mapping, right.slot, sp_word_generation(right.word), SP_WAS_LEASED, SP_NO_QUEUE);
    return lease_new(mapping, &right);
}

static PyObject *mapping_try_acquire(MappingObject *self, PyObject *number)
{
    unsigned long class = PyLong_AsUnsignedLong(number);
    if (PyErr_Occurred())
        return NULL;
    if (class >= self->pool.geometry.classes)
        return PyErr_Format(PyExc_IndexError, "no class %lu", class);
    if (!mapping_usable(self))
        Py_RETURN_NONE;
    self->starved = 0;
    PyObject *lease = mapping_lease(self, (uint32_t)class, clock_coarse_ns());
    return lease || PyErr_Occurred() ? lease : Py_NewRef(Py_None);
}

static int class_from(MappingObject *self, PyObject *args, unsigned int *class, unsigned int *below)
{
    *below = 0;
    if (!PyArg_ParseTuple(args, "I|I", class, below))
        return -1;
    if (*class < self->pool.geometry.classes && *below <= self->pool.geometry.of_class[*class].max_count)
        return 0;
    PyErr_Format(PyExc_IndexError, "no class %u with %u slots", *class, *below);
    return -1;
}

/* Commit one slot of a class and leave it free: whether one was there. */
static PyObject *mapping_grow(MappingObject *self, PyObject *args)
{
    unsigned int class, none;
    sp_right right;
    self->starved = 0;
    int committed = class_from(self, args, &class, &none) < 0 ? -1 : commit(self, class, &right);
    if (committed < 0)
        return NULL;
    if (committed == 0)
        Py_RETURN_FALSE;
    sp_result freed = sp_commit_free(&self->pool, &right);
    mapping_right_over(self);
    if (freed != SP_OK)
        return mapping_fail_corrupt(self, "a slot that was being committed is somebody else's");
    if (mapping_ring(self, self->pool.class_states[class].waiting) < 0)
        return NULL;
    Py_RETURN_TRUE;
}

/* Punch a hole where the slot was: 0, or an errno. */
static int punch(MappingObject *self, uint32_t class, uint32_t slot)
{
    off_t offset = (off_t)mapping_slot_offset(self, class, slot);
    off_t length = (off_t)self->pool.geometry.of_class[class].stride;
    int result;
    Py_BEGIN_ALLOW_THREADS
    result = fallocate(self->slab_fd[class], FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length);
    Py_END_ALLOW_THREADS
    return result < 0 ? errno : 0;
}

/* Give back the memory of the highest free slot of a class below its `below`th: its place in
 * the class, -1 if there is none. */
static PyObject *mapping_trim(MappingObject *self, PyObject *args)
{
    unsigned int class, below;
    if (class_from(self, args, &class, &below) < 0)
        return NULL;
    const sp_class_geometry *c = &self->pool.geometry.of_class[class];
    sp_right right;
    /* Slots smaller than a page share it with others. */
    if (c->stride % PAGE || sp_trim_begin(&self->pool, class, below, &right) != SP_OK)
        return PyLong_FromLong(-1);
    self->live++;
    int error = punch(self, class, right.slot);
    sp_trim_end(&self->pool, &right); /* punched or not: it is committed before it is used */
    mapping_right_over(self);
    if (mapping_ring(self, self->pool.class_states[class].waiting) < 0)
        return NULL;
    errno = error;
    return error ? PyErr_SetFromErrno(PyExc_OSError) : PyLong_FromUnsignedLong(right.slot - c->first);
}

static PyObject *mapping_get_starved(MappingObject *self, PyObject *Py_UNUSED(none))
{
    return PyLong_FromUnsignedLongLong(self->starved);
}

PyMethodDef memory_methods[] = {
    {"try_acquire", (PyCFunction)mapping_try_acquire, METH_O, "A Lease of a class or a larger one, or None."},
    {"grow", (PyCFunction)mapping_grow, METH_VARARGS, "Commit a slot of a class: False for none."},
    {"trim", (PyCFunction)mapping_trim, METH_VARARGS, "Uncommit a free slot of a class below a place."},
    {"starved", (PyCFunction)mapping_get_starved, METH_NOARGS,
     "Bytes that the last attempt to grow could not have, 0: it could."},
    {NULL, NULL, 0, NULL},
};
