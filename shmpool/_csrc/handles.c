/* PoolBase and QueueBase: acquire, put and get. The fast path is here, wholly; whatever
 * has to wait, explain or rejoin is the Python method whose name ends in _slow. */
#include "glue.h"

typedef struct {
    PyObject_HEAD
    MappingObject *mapping; /* NULL until attached */
} PoolObject;

typedef struct {
    PyObject_HEAD
    MappingObject *mapping;
    uint32_t number;
    uint64_t budget_ns; /* how long the next spin may be */
} QueueObject;

static PyObject *str_acquire_slow, *str_acquire_nowait_slow, *str_get_slow, *str_get_nowait_slow;
static PyObject *str_put_slow, *str_timeout;

/* Call self.name(*args): the slow path with the very arguments of the fast one. */
static PyObject *call_slow(PyObject *self, PyObject *name, PyObject *const *args, Py_ssize_t count,
                           PyObject *keywords)
{
    PyObject *method = PyObject_GetAttr(self, name);
    if (method == NULL)
        return NULL;
    PyObject *result = PyObject_Vectorcall(method, args, (size_t)count, keywords);
    Py_DECREF(method);
    return result;
}

/* Does the call name nothing but a time-out that needs no complaint? */
static bool only_timeout(PyObject *const *args, PyObject *keywords)
{
    if (keywords == NULL)
        return true;
    if (PyTuple_GET_SIZE(keywords) != 1)
        return false;
    if (PyUnicode_Compare(PyTuple_GET_ITEM(keywords, 0), str_timeout) != 0)
        return false;
    if (args[0] == Py_None)
        return true;
    if (PyFloat_CheckExact(args[0]))
        return PyFloat_AS_DOUBLE(args[0]) >= 0;
    return PyLong_CheckExact(args[0]) && Py_SIZE(args[0]) >= 0;
}

/* For a time-out that only_timeout has let through. */
static bool is_zero(PyObject *timeout)
{
    return PyFloat_CheckExact(timeout) ? PyFloat_AS_DOUBLE(timeout) == 0
                                       : PyLong_CheckExact(timeout) && Py_SIZE(timeout) == 0;
}

/* --- acquire ------------------------------------------------------------------------ */

/* The class for acquire's first argument, if that is a plain number that some class fits. */
static bool class_for(const MappingObject *mapping, PyObject *const *args, Py_ssize_t count, uint32_t *class)
{
    *class = 0;
    if (LIKELY(count == 0))
        return true;
    if (count != 1 || !PyLong_CheckExact(args[0]) || Py_SIZE(args[0]) < 0)
        return false;
    unsigned long long nbytes = PyLong_AsUnsignedLongLong(args[0]);
    if (nbytes == (unsigned long long)-1 && PyErr_Occurred())
        PyErr_Clear();
    *class = sp_pool_fitting(&mapping->pool, nbytes);
    return *class < mapping->pool.geometry.classes;
}

static PyObject *try_acquire(PoolObject *self, PyObject *const *args, Py_ssize_t count)
{
    uint64_t now = clock_coarse_ns();
    uint32_t class;
    bool ready = LIKELY(self->mapping != NULL) && mapping_ready(self->mapping, now) &&
                 class_for(self->mapping, args, count, &class);
    return ready ? mapping_lease(self->mapping, class, now) : NULL;
}

static PyObject *pool_acquire(PoolObject *self, PyObject *const *args, Py_ssize_t count, PyObject *keywords)
{
    if (LIKELY(only_timeout(args + count, keywords))) {
        PyObject *lease = try_acquire(self, args, count);
        if (LIKELY(lease != NULL) || PyErr_Occurred())
            return lease;
    }
    return call_slow((PyObject *)self, str_acquire_slow, args, count, keywords);
}

static PyObject *pool_acquire_nowait(PoolObject *self, PyObject *const *args, Py_ssize_t count)
{
    PyObject *lease = try_acquire(self, args, count);
    if (LIKELY(lease != NULL) || PyErr_Occurred())
        return lease;
    return call_slow((PyObject *)self, str_acquire_nowait_slow, args, count, NULL);
}

static PyObject *pool_bind(PoolObject *self, PyObject *mapping)
{
    if (!PyObject_TypeCheck(mapping, mapping_type))
        return PyErr_Format(PyExc_TypeError, "not a Mapping: %R", mapping);
    Py_XSETREF(self->mapping, (MappingObject *)Py_NewRef(mapping));
    Py_RETURN_NONE;
}

static void pool_dealloc(PoolObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    Py_XDECREF(self->mapping);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

/* For PoolBase and QueueBase alike: both begin with their mapping. */
static int handle_traverse(PoolObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->mapping);
    return 0;
}

/* --- put ------------------------------------------------------------------------------ */

static bool queue_has_room(const QueueObject *self)
{
    const sp_pool *pool = &self->mapping->pool;
    uint32_t maxsize = pool->queue_spec[self->number - 1].maxsize;
    return !maxsize || sp_ring_size(pool, self->number) < maxsize;
}

static bool queue_open(const QueueObject *self)
{
    return !sp_load_seq_cst(&sp_pool_queue(&self->mapping->pool, self->number)->closed);
}

static PyObject *put_failed(MappingObject *mapping, RightObject *lease, sp_result result)
{
    if (result == SP_CORRUPT)
        return mapping_fail_corrupt(mapping, "a ring has no room for a ticket");
    if (result == SP_SPENT)
        return mapping_fail_corrupt(mapping, "the generations of a slot are used up");
    right_over(lease, RELEASED, 0);
    const sp_right *at = &lease->right.at;
    return mapping_fail_stale(mapping, "put", at->slot, sp_word_generation(at->word), LIVE, 0);
}

static PyObject *put_lease(QueueObject *self, RightObject *lease)
{
    MappingObject *mapping = self->mapping;
    if (right_unviewed(lease, "put") < 0)
        return NULL;
    sp_result result = sp_put(&mapping->pool, &lease->right.at, self->number, clock_coarse_ns());
    if (result != SP_OK)
        return put_failed(mapping, lease, result);
    sp_count(&mapping_me(mapping)->put);
    right_over(lease, PUT, self->number);
    if (mapping_ring(mapping, sp_pool_queue(&mapping->pool, self->number)->waiting) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static int put_refuse(QueueObject *self, PyObject *object)
{
    if (!PyObject_TypeCheck(object, lease_type)) {
        PyErr_Format(PyExc_TypeError, "put takes a Lease of this pool, not %.100s: acquire() one, "
                     "or claim() a ticket", Py_TYPE(object)->tp_name);
        return -1;
    }
    RightObject *lease = (RightObject *)object;
    if (mapping_refuse_foreign(self->mapping, lease) < 0 || right_usable(lease, "put") < 0)
        return -1;
    bool shared = sp_word_state(lease->right.at.word) == SP_SHARED;
    return UNLIKELY(shared) ? mapping_refuse_shared(self->mapping, lease, "put") : 0;
}

static PyObject *queue_check(QueueObject *self, PyObject *object)
{
    if (put_refuse(self, object) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *queue_put(QueueObject *self, PyObject *const *args, Py_ssize_t count, PyObject *keywords)
{
    if (LIKELY(count == 1 && only_timeout(args + count, keywords))) {
        if (put_refuse(self, args[0]) < 0)
            return NULL;
        if (LIKELY(mapping_ready(self->mapping, clock_coarse_ns()) && queue_open(self) &&
                   queue_has_room(self)))
            return put_lease(self, (RightObject *)args[0]);
    }
    return call_slow((PyObject *)self, str_put_slow, args, count, keywords);
}

/* True when it is in, False when the queue is full; the slow path has checked the rest. */
static PyObject *queue_try_put(QueueObject *self, PyObject *object)
{
    if (put_refuse(self, object) < 0)
        return NULL;
    if (!queue_has_room(self))
        Py_RETURN_FALSE;
    PyObject *done = put_lease(self, (RightObject *)object);
    Py_XDECREF(done);
    return done ? Py_NewRef(Py_True) : NULL;
}

/* --- get ------------------------------------------------------------------------------- */

static PyObject *claim_next(QueueObject *self, uint64_t now)
{
    MappingObject *mapping = self->mapping;
    sp_right right;
    sp_result result = sp_get(&mapping->pool, self->number, now, &right);
    if (result == SP_CORRUPT)
        return mapping_fail_corrupt(mapping, "a ring whose head never reaches its tail");
    if (result != SP_OK)
        return NULL;
    sp_count(&mapping_me(mapping)->got);
    mapping_count_received(mapping, right.slot);
    PyObject *lease = lease_new(mapping, &right);
    if (lease && mapping->pool.queue_spec[self->number - 1].maxsize &&
        mapping_ring(mapping, sp_pool_queue(&mapping->pool, self->number)->waiting_space) < 0)
        Py_CLEAR(lease);
    return lease;
}

static PyObject *try_get(QueueObject *self)
{
    uint64_t now = clock_coarse_ns();
    return mapping_ready(self->mapping, now) ? claim_next(self, now) : NULL;
}

static bool queue_looks_empty(const QueueObject *self)
{
    const sp_queue_state *state = sp_pool_queue(&self->mapping->pool, self->number);
    return sp_load_acquire(&state->tail) == sp_load_acquire(&state->head);
}

/* Poll until something is there or the time is up. */
static bool spin(const QueueObject *self, uint64_t nanoseconds)
{
    uint64_t end = clock_ns() + nanoseconds;
    do
        for (int i = 0; i < 16; i++) {
            if (!queue_looks_empty(self))
                return true;
            sp_relax();
        }
    while (clock_ns() < end);
    return false;
}

/* A first part with the GIL, which costs nobody more than a bytecode does, and the rest
 * without it. */
static bool spin_some(QueueObject *self)
{
    const uint64_t with_gil = 2000;
    if (spin(self, self->budget_ns < with_gil ? self->budget_ns : with_gil))
        return true;
    if (self->budget_ns <= with_gil)
        return false;
    bool found;
    Py_BEGIN_ALLOW_THREADS
    found = spin(self, self->budget_ns - with_gil);
    Py_END_ALLOW_THREADS
    return found;
}

/* Spin before sleeping, longer where that has been worth it: the budget doubles with
 * each success and halves with each failure, as adaptive mutexes do. */
static PyObject *spin_get(QueueObject *self, PyObject *const *timeout, PyObject *keywords)
{
    bool no_wait = keywords != NULL && is_zero(*timeout);
    const uint64_t least = 1000, most = self->mapping->spin_ns;
    if (most == 0 || no_wait || !mapping_usable(self->mapping))
        return NULL;
    bool found = spin_some(self);
    uint64_t budget = found ? self->budget_ns * 2 : self->budget_ns / 2;
    self->budget_ns = budget < least ? least : budget > most ? most : budget;
    return found ? try_get(self) : NULL;
}

static PyObject *queue_get(QueueObject *self, PyObject *const *args, Py_ssize_t count, PyObject *keywords)
{
    if (LIKELY(count == 0 && only_timeout(args, keywords))) {
        PyObject *lease = try_get(self);
        if (lease == NULL && !PyErr_Occurred())
            lease = spin_get(self, args, keywords);
        if (LIKELY(lease != NULL) || PyErr_Occurred())
            return lease;
    }
    return call_slow((PyObject *)self, str_get_slow, args, count, keywords);
}

static PyObject *queue_get_nowait(QueueObject *self, PyObject *Py_UNUSED(none))
{
    PyObject *lease = try_get(self);
    if (LIKELY(lease != NULL) || PyErr_Occurred())
        return lease;
    return call_slow((PyObject *)self, str_get_nowait_slow, NULL, 0, NULL);
}

static PyObject *queue_try_get(QueueObject *self, PyObject *Py_UNUSED(none))
{
    if (!mapping_usable(self->mapping))
        Py_RETURN_NONE;
    PyObject *lease = claim_next(self, clock_coarse_ns());
    return lease || PyErr_Occurred() ? lease : Py_NewRef(Py_None);
}

/* --- the objects -------------------------------------------------------------------------- */

static PyObject *queue_bind(QueueObject *self, PyObject *args)
{
    PyObject *mapping;
    unsigned int number;
    if (!PyArg_ParseTuple(args, "O!I", mapping_type, &mapping, &number))
        return NULL;
    if (number < 1 || number > ((MappingObject *)mapping)->pool.geometry.queues)
        return PyErr_Format(PyExc_IndexError, "no queue %u", number);
    Py_XSETREF(self->mapping, (MappingObject *)Py_NewRef(mapping));
    self->number = number;
    self->budget_ns = self->mapping->spin_ns;
    Py_RETURN_NONE;
}

static PyObject *handle_get_mapping(PoolObject *self, void *Py_UNUSED(closure))
{
    return Py_NewRef(self->mapping ? (PyObject *)self->mapping : Py_None);
}

static PyGetSetDef handle_getset[] = {
    {"_mapping", (getter)handle_get_mapping, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

#define FASTCALL(function) (PyCFunction)(void (*)(void))function, METH_FASTCALL | METH_KEYWORDS

static PyMethodDef pool_methods[] = {
    {"acquire", FASTCALL(pool_acquire),
     "acquire($self, nbytes=None, /, *, timeout=None)\n--\n\n"
     "Lease a free slot of at least `nbytes` bytes: of the smallest class that has room.\n\n"
     "A class that can grow fetches memory for one more slot before a larger class is tried.\n"
     "Blocks while every slot is held: for ever, or for `timeout` seconds (0 does not block).\n"
     "Raises PoolExhaustedError when the time is up, PoolClosedError, CoordinatorDiedError,\n"
     "SizeError if no slot has `nbytes` bytes, and OutOfSharedMemoryError if there is none to\n"
     "wait for and no memory to make one."},
    {"acquire_nowait", (PyCFunction)(void (*)(void))pool_acquire_nowait, METH_FASTCALL,
     "acquire_nowait($self, nbytes=None, /)\n--\n\n"
     "As acquire, but raises PoolExhaustedError at once."},
    {"_bind", (PyCFunction)pool_bind, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMethodDef queue_methods[] = {
    {"put", FASTCALL(queue_put),
     "put($self, lease, /, *, timeout=None)\n--\n\n"
     "Send the slot on; the lease is over, and so are the rights of whoever kept it.\n\n"
     "Blocks only while a queue made with maxsize is full: for ever, or for `timeout` seconds.\n"
     "Raises QueueFull when the time is up, QueueClosedError, PoolClosedError,\n"
     "AlreadyEndedError for a lease that is over, and ViewsAliveError (the lease goes on)\n"
     "while arrays or memoryviews of it are alive."},
    {"get", FASTCALL(queue_get),
     "get($self, /, *, timeout=None)\n--\n\n"
     "Take the oldest ticket and return the Lease that it stands for.\n\n"
     "Blocks while the queue is empty: for ever, or for `timeout` seconds. Raises QueueEmpty\n"
     "when the time is up, QueueClosedError when the queue is closed and drained,\n"
     "PoolClosedError, and CoordinatorDiedError."},
    {"get_nowait", (PyCFunction)queue_get_nowait, METH_NOARGS,
     "get_nowait($self, /)\n--\n\nAs get, but raises QueueEmpty at once."},
    {"_check", (PyCFunction)queue_check, METH_O, "Raise if this cannot be put here."},
    {"_try_put", (PyCFunction)queue_try_put, METH_O, "Whether there was room."},
    {"_try_get", (PyCFunction)queue_try_get, METH_NOARGS, "A Lease, or None."},
    {"_bind", (PyCFunction)queue_bind, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef queue_members[] = {
    {"_number", T_UINT, offsetof(QueueObject, number), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot pool_slots[] = {
    {Py_tp_dealloc, pool_dealloc},       {Py_tp_traverse, handle_traverse},
    {Py_tp_methods, pool_methods},       {Py_tp_getset, handle_getset},
    {Py_tp_new, PyType_GenericNew},      {0, NULL},
};

static PyType_Slot queue_slots[] = {
    {Py_tp_dealloc, pool_dealloc},       {Py_tp_traverse, handle_traverse},
    {Py_tp_methods, queue_methods},      {Py_tp_members, queue_members},
    {Py_tp_getset, handle_getset},       {Py_tp_new, PyType_GenericNew},
    {0, NULL},
};

static PyType_Spec pool_spec = {
    .name = "shmpool._core.PoolBase",
    .basicsize = sizeof(PoolObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = pool_slots,
};

static PyType_Spec queue_spec = {
    .name = "shmpool._core.QueueBase",
    .basicsize = sizeof(QueueObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = queue_slots,
};

static int add_type(PyObject *module, PyType_Spec *spec)
{
    PyObject *type = PyType_FromSpec(spec);
    int result = type ? PyModule_AddType(module, (PyTypeObject *)type) : -1;
    Py_XDECREF(type);
    return result;
}

static const struct {
    PyObject **interned;
    const char *text;
} names[] = {
    {&str_acquire_slow, "_acquire_slow"},
    {&str_acquire_nowait_slow, "_acquire_nowait_slow"},
    {&str_get_slow, "_get_slow"},
    {&str_get_nowait_slow, "_get_nowait_slow"},
    {&str_put_slow, "_put_slow"},
    {&str_timeout, "timeout"},
};

int module_add_handles(PyObject *module)
{
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if ((*names[i].interned = PyUnicode_InternFromString(names[i].text)) == NULL)
            return -1;
    return add_type(module, &pool_spec) < 0 ? -1 : add_type(module, &queue_spec);
}
