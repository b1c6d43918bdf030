/* Mapping: one process's attachment to a pool's memory. How it is made, joins and leaves. */
#include "place.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* --- joining and leaving ---------------------------------------------------------- */

static void mapping_leave_if_done(MappingObject *self)
{
    if (!self->closed || self->live || !self->pool.me || self->epoch != fork_epoch)
        return;
    sp_member_leave(&self->pool, self->pool.me, (uint32_t)self->pid);
    self->epoch = 0; /* no longer a member; the counters are somebody else's soon */
}

/* A right held through this mapping has ended; after close() the last one leaves. */
void mapping_right_over(MappingObject *self)
{
    self->live--;
    if (UNLIKELY(self->closed))
        mapping_leave_if_done(self);
}

static PyObject *mapping_close(MappingObject *self, PyObject *Py_UNUSED(none))
{
    self->closed = true;
    mapping_leave_if_done(self);
    Py_RETURN_NONE;
}

static void member_fill(sp_member *member, const char *name, uint64_t start, uint64_t inode)
{
    /* The counters of a former member under this index are history. */
    size_t kept = sizeof member->identity;
    memset((uint8_t *)member + kept, 0, sizeof *member - kept);
    sp_store_relaxed(&member->start_time, start);
    sp_store_relaxed(&member->pidfd_inode, inode);
    sp_store_relaxed(&member->joined_ns, clock_ns());
    strncpy(member->name, name, sizeof member->name - 1);
}

/* Members that do not share a word of the map do not fight over its line. */
static void spread_cursors(sp_pool *pool)
{
    for (uint32_t i = 0; i < pool->geometry.classes; i++) {
        uint32_t words = pool->geometry.of_class[i].map_words;
        pool->cursor[i] = words > 1 ? (pool->me - 1) * 8 % words * 64 : 0;
    }
}

static PyObject *mapping_join(MappingObject *self, PyObject *args)
{
    const char *name;
    unsigned long long start, inode;
    if (!PyArg_ParseTuple(args, "sKK", &name, &start, &inode))
        return NULL;
    self->pid = (uint64_t)getpid();
    uint32_t member = sp_member_join(&self->pool, (uint32_t)self->pid);
    if (member) {
        member_fill(&self->pool.members[member], name, start, inode);
        self->pool.me = member;
        self->epoch = fork_epoch;
        self->live = self->leases = 0;
        trace_leave(self); /* the ring that a forked child inherits is its parent's */
        /* What a forked child inherits of its parent's borrows is the parent's. */
        self->pool.reader = 0;
        PyMem_Free(self->borrows);
        self->borrows = NULL;
        spread_cursors(&self->pool);
        sp_member_activate(&self->pool, member, (uint32_t)self->pid);
    }
    return PyLong_FromUnsignedLong(member);
}

/* --- the object ---------------------------------------------------------------------- */

static uint8_t *map_file(int fd, uint64_t size)
{
    struct stat file;
    if (fstat(fd, &file) < 0)
        return (uint8_t *)PyErr_SetFromErrno(PyExc_OSError);
    if ((uint64_t)file.st_size < size) {
        PyErr_Format(PyExc_ValueError, "the segment has %lld bytes, %llu are needed",
                     (long long)file.st_size, (unsigned long long)size);
        return NULL;
    }
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    return memory == MAP_FAILED ? (uint8_t *)PyErr_SetFromErrno(PyExc_OSError) : memory;
}

/* Map a file and let the signal handlers know: its first address, NULL with an exception. */
static Region *map_region(Region *what, int fd)
{
    uint8_t *base = map_file(fd, what->size);
    Region *region = base ? region_new(what, base) : NULL;
    if (region != NULL)
        return region;
    PyMem_RawFree(what->cells);
    if (base == NULL)
        return NULL;
    munmap(base, what->size);
    return (Region *)PyErr_NoMemory();
}

static int map_control(MappingObject *self, Region *what, int fd)
{
    what->size = self->control_size;
    Region *control = map_region(what, fd);
    if (control == NULL)
        return -1;
    sp_pool_bind(&self->pool, (void *)(uintptr_t)sp_load_relaxed(&control->base));
    return 0;
}

static int map_slab(MappingObject *self, Region *what, uint32_t class, int fd)
{
    const sp_class_geometry *c = &self->pool.geometry.of_class[class];
    what->size = sp_up(c->stride * c->max_count, PAGE);
    what->stride = c->stride;
    what->class = class;
    what->first = c->first;
    what->count = c->max_count;
    bool fenced = self->views != VIEWS_IGNORE && c->stride % PAGE == 0;
    what->cells = fenced ? plane_cells(c->max_count, CELL_SLOT) : NULL;
    if (fenced && what->cells == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    self->home[class] = map_region(what, fd);
    if (self->home[class] == NULL)
        return -1;
    self->slab_fd[class] = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (self->slab_fd[class] >= 0)
        return 0;
    PyErr_SetFromErrno(PyExc_OSError);
    return -1;
}

static int map_all(MappingObject *self, const char *name, int control, PyObject *slabs)
{
    if (PyTuple_GET_SIZE(slabs) != (Py_ssize_t)self->pool.geometry.classes) {
        PyErr_SetString(PyExc_ValueError, "one slab for each class");
        return -1;
    }
    Region what = {.mapping = self};
    strncpy(what.pool, name, sizeof what.pool - 1);
    if (map_control(self, &what, control) < 0)
        return -1;
    for (uint32_t i = 0; i < self->pool.geometry.classes; i++) {
        int fd = (int)PyLong_AsLong(PyTuple_GET_ITEM(slabs, (Py_ssize_t)i));
        if (map_slab(self, &what, i, fd) < 0)
            return -1;
    }
    return 0;
}

static PyObject *mapping_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(keywords))
{
    int control;
    unsigned int reuse, views;
    const char *name;
    PyObject *slabs, *counts, *queues;
    if (!PyArg_ParseTuple(args, "siO!O!O!II", &name, &control, &PyTuple_Type, &slabs, &PyTuple_Type, &counts,
                          &PyTuple_Type, &queues, &reuse, &views))
        return NULL;
    MappingObject *self = (MappingObject *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    memset(self->slab_fd, -1, sizeof self->slab_fd);
    self->pool.reuse = reuse;
    self->views = views;
    self->next_check_ns = UINT64_MAX;
    self->bells = PyList_New(0);
    if (self->bells && geometry_parse(counts, &self->pool.geometry) == 0 &&
        queue_specs_parse(queues, &self->pool) == 0) {
        self->control_size = sp_up(self->pool.geometry.total_size, PAGE);
        if (map_all(self, name, control, slabs) == 0)
            return (PyObject *)self;
    }
    Py_DECREF(self);
    return NULL;
}

static int mapping_traverse(MappingObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->bells);
    return 0;
}

static void close_files(MappingObject *self)
{
    for (uint32_t i = 0; i < SP_MAX_CLASSES; i++) {
        if (self->slab_fd[i] >= 0)
            close(self->slab_fd[i]);
        self->slab_fd[i] = -1;
    }
}

/* For a mapping that never joined. Not at close(): another thread may be fetching memory by
 * a descriptor whose number would be another file's a moment later. */
static PyObject *mapping_refused(MappingObject *self, PyObject *Py_UNUSED(none))
{
    close_files(self);
    Py_RETURN_NONE;
}

static void mapping_dealloc(MappingObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    place_forget(self);
    close_files(self);
    poison_free(self);
    PyMem_Free(self->borrows);
    Py_XDECREF(self->bells);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyObject *mapping_control(MappingObject *self, PyObject *Py_UNUSED(none))
{
    return (PyObject *)span_new(self, self->pool.base, self->control_size);
}

static PyObject *mapping_check_again(MappingObject *self, PyObject *seconds)
{
    double after = PyFloat_AsDouble(seconds);
    if (after == -1.0 && PyErr_Occurred())
        return NULL;
    self->next_check_ns = clock_coarse_ns() + (uint64_t)(after * 1e9);
    if (UNLIKELY(self->trace != NULL) && !mapping_traced(self))
        trace_leave(self); /* here is time for it */
    Py_RETURN_NONE;
}

static PyMethodDef mapping_methods[] = {
    {"join", (PyCFunction)mapping_join, METH_VARARGS, "Become a member: its index, 0 if none is vacant."},
    {"refused", (PyCFunction)mapping_refused, METH_NOARGS, "Close the files of one that never joined."},
    {"close", (PyCFunction)mapping_close, METH_NOARGS, "Take no new rights; leave with the last one."},
    {"control", (PyCFunction)mapping_control, METH_NOARGS, "The control block as a Span."},
    {"check_again", (PyCFunction)mapping_check_again, METH_O, "When fast paths stop to look around."},
    {NULL, NULL, 0, NULL},
};

static PyMethodDef all_methods[64]; /* of all these files, put together below */

static PyType_Slot mapping_slots[] = {
    {Py_tp_new, mapping_new},
    {Py_tp_dealloc, mapping_dealloc},
    {Py_tp_traverse, mapping_traverse},
    {Py_tp_methods, all_methods},
    {Py_tp_getset, mapping_getset},
    {Py_tp_doc, "Mapping(control_fd, slab_fds, counts, queue_specs, reuse)"},
    {0, NULL},
};

static PyType_Spec mapping_spec = {
    .name = "shmpool._core.Mapping",
    .basicsize = sizeof(MappingObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = mapping_slots,
};

static void add_methods(const PyMethodDef *more)
{
    PyMethodDef *at = all_methods;
    while (at->ml_name)
        at++;
    while (more->ml_name)
        *at++ = *more++;
}

int module_add_mapping(PyObject *module)
{
    add_methods(mapping_methods);
    add_methods(waiting_methods);
    add_methods(upkeep_methods);
    add_methods(memory_methods);
    add_methods(peek_methods);
    add_methods(borrowing_methods);
    add_methods(poison_methods);
    mapping_type = (PyTypeObject *)PyType_FromSpec(&mapping_spec);
    return mapping_type ? PyModule_AddType(module, mapping_type) : -1;
}
