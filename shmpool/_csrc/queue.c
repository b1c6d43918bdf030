/* QueueBase: put and get. The fast path is here, wholly; whatever has to wait, explain or
 * rejoin is the Python method whose name ends in _slow. */
#include "handle.h"

typedef struct {
    HandleObject handle;
    uint32_t number;
    uint64_t budget_ns; /* how long the next spin may be */
} QueueObject;

static PyObject *str_get_slow, *str_get_nowait_slow, *str_nothing, *str_take_slow, *str_put_slow;

/* For a time-out that only_timeout has let through. */
static bool is_zero(PyObject *timeout)
{
    return PyFloat_CheckExact(timeout) ? PyFloat_AS_DOUBLE(timeout) == 0
                                       : PyLong_CheckExact(timeout) && Py_SIZE(timeout) == 0;
}

/* --- put ------------------------------------------------------------------------------ */

static bool queue_has_room(const QueueObject *self)
{
    const sp_pool *pool = &self->handle.mapping->pool;
    uint32_t maxsize = pool->queue_spec[self->number - 1].maxsize;
    return !maxsize || sp_ring_size(pool, self->number) < maxsize;
}

static bool queue_open(const QueueObject *self)
{
    return !sp_load_seq_cst(&sp_pool_queue(&self->handle.mapping->pool, self->number)->closed);
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

static sp_atomic_u64 *queue_waiting(const QueueObject *self)
{
    return sp_pool_queue(&self->handle.mapping->pool, self->number)->waiting;
}

static PyObject *put_quietly(QueueObject *self, RightObject *lease, uint64_t now)
{
    MappingObject *mapping = self->handle.mapping;
    if (right_whole(lease, "put") < 0 || right_part(lease, "put") < 0)
        return NULL;
    sp_result result = sp_put(&mapping->pool, &lease->right.at, self->number, now);
    if (result != SP_OK)
        return put_failed(mapping, lease, result);
    sp_count(&mapping_me(mapping)->put);
    mapping_note(mapping, lease->right.at.slot, sp_word_generation(lease->right.at.word), SP_WAS_PUT, self->number);
    right_over(lease, PUT, self->number);
    Py_RETURN_NONE;
}

static PyObject *put_lease(QueueObject *self, RightObject *lease, uint64_t now)
{
    PyObject *done = put_quietly(self, lease, now);
    if (LIKELY(done != NULL) && mapping_ring(self->handle.mapping, queue_waiting(self)) < 0)
        Py_CLEAR(done);
    return done;
}

static int put_refuse_others(PyObject *object)
{
    if (PyObject_TypeCheck(object, borrow_type)) {
        PyErr_SetString(PyExc_TypeError, "a Borrow cannot be put, since others read it too: send its ticket");
        return -1;
    }
    if (!PyObject_TypeCheck(object, lease_type)) {
        PyErr_Format(PyExc_TypeError, "put takes a Lease of this pool, not %.100s: acquire() one, "
                     "or claim() a ticket", Py_TYPE(object)->tp_name);
        return -1;
    }
    return 0;
}

static int put_refuse(QueueObject *self, PyObject *object)
{
    if (UNLIKELY(Py_TYPE(object) != lease_class) && put_refuse_others(object) < 0)
        return -1;
    RightObject *lease = (RightObject *)object;
    if (self->handle.mapping == NULL) {
        PyErr_SetString(PyExc_TypeError, "a queue comes from pool.queue(name)");
        return -1;
    }
    if (mapping_refuse_foreign(self->handle.mapping, lease) < 0 || right_usable(lease, "put") < 0)
        return -1;
    bool shared = sp_word_state(lease->right.at.word) == SP_SHARED;
    return UNLIKELY(shared) ? mapping_refuse_shared(self->handle.mapping, lease, "put") : 0;
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
        uint64_t now = clock_coarse_ns();
        if (LIKELY(mapping_ready(self->handle.mapping, now) && queue_open(self) && queue_has_room(self)))
            return put_lease(self, (RightObject *)args[0], now);
    }
    return call_slow((PyObject *)self, str_put_slow, args, count, keywords);
}

/* As put, but whoever sleeps is woken later, by _wake: one who is woken for the first of many may
 * take the CPU from us, do that one, and sleep again. At worst he finds it when his slice is over. */
static PyObject *queue_put_quietly(QueueObject *self, PyObject *object)
{
    if (put_refuse(self, object) < 0)
        return NULL;
    uint64_t now = clock_coarse_ns();
    if (LIKELY(mapping_ready(self->handle.mapping, now) && queue_open(self) && queue_has_room(self)))
        return put_quietly(self, (RightObject *)object, now);
    return call_slow((PyObject *)self, str_put_slow, &object, 1, NULL);
}

/* Wake so many sleepers, or all. */
static PyObject *queue_wake(QueueObject *self, PyObject *number)
{
    long most = PyLong_AsLong(number);
    if (most == -1 && PyErr_Occurred())
        return NULL;
    if (mapping_ring_some(self->handle.mapping, queue_waiting(self), most) < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* True when it is in, False when the queue is full; the slow path has checked the rest. */
static PyObject *queue_try_put(QueueObject *self, PyObject *object)
{
    if (put_refuse(self, object) < 0)
        return NULL;
    if (!queue_has_room(self))
        Py_RETURN_FALSE;
    PyObject *done = put_lease(self, (RightObject *)object, clock_coarse_ns());
    Py_XDECREF(done);
    return done ? Py_NewRef(Py_True) : NULL;
}

/* --- get ------------------------------------------------------------------------------- */

static PyObject *claim_next(QueueObject *self, uint64_t now)
{
    MappingObject *mapping = self->handle.mapping;
    sp_right right;
    sp_result result = sp_get(&mapping->pool, self->number, now, &right);
    if (result == SP_CORRUPT)
        return mapping_fail_corrupt(mapping, "a ring whose head never reaches its tail");
    if (result != SP_OK)
        return NULL;
    sp_count(&mapping_me(mapping)->got);
    mapping_note(mapping, right.slot, sp_word_generation(right.word), SP_WAS_GOT, self->number);
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
    bool ready = LIKELY(self->handle.mapping != NULL) && mapping_ready(self->handle.mapping, now);
    return ready ? claim_next(self, now) : NULL;
}

/* Look at the next cell for a while, or until it changes. Is there a ticket? */
static bool poll(const sp_pool *pool, uint32_t queue)
{
    const sp_atomic_u64 *next = sp_ring_next(pool, queue);
    uint64_t before = sp_load_acquire(next);
    /* It may have been written before we looked; or others have taken it, and head is further. */
    if (sp_ring_size(pool, queue) || sp_ring_live(pool, queue, before))
        return true;
    for (int i = 0; i < 64; i++) {
        sp_relax();
        if (sp_load_acquire(next) != before)
            return true;
    }
    return false;
}

/* Poll until something is there or the time is up. */
static bool spin(const QueueObject *self, uint64_t nanoseconds)
{
    uint64_t end = clock_ns() + nanoseconds;
    do
        if (poll(&self->handle.mapping->pool, self->number))
            return true;
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
    if (no_wait || self->handle.mapping == NULL || !mapping_usable(self->handle.mapping))
        return NULL;
    const uint64_t least = 1000, most = self->handle.mapping->spin_ns;
    if (most == 0)
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
    uint64_t now = clock_coarse_ns();
    MappingObject *mapping = self->handle.mapping;
    bool ready = LIKELY(mapping != NULL) && mapping_ready(mapping, now);
    PyObject *lease = ready ? claim_next(self, now) : NULL;
    if (LIKELY(lease != NULL) || PyErr_Occurred())
        return lease;
    /* An ordinary answer to who polls several queues: nothing else is to be found out. */
    PyObject *slow = ready && queue_open(self) ? str_nothing : str_get_nowait_slow;
    return call_slow((PyObject *)self, slow, NULL, 0, NULL);
}

static PyObject *queue_try_get(QueueObject *self, PyObject *Py_UNUSED(none))
{
    if (!mapping_usable(self->handle.mapping))
        Py_RETURN_NONE;
    PyObject *lease = claim_next(self, clock_coarse_ns());
    return lease || PyErr_Occurred() ? lease : Py_NewRef(Py_None);
}

/* What a get that waits tries each time: as _try_get, but raises where nothing will come. */
static PyObject *queue_take(QueueObject *self, PyObject *none)
{
    PyObject *lease = queue_try_get(self, none);
    if (LIKELY(lease != Py_None || queue_open(self)))
        return lease;
    Py_DECREF(lease);
    return call_slow((PyObject *)self, str_take_slow, NULL, 0, NULL);
}

static PyObject *queue_bind(QueueObject *self, PyObject *args)
{
    PyObject *mapping;
    unsigned int number;
    if (!PyArg_ParseTuple(args, "O!I", mapping_type, &mapping, &number))
        return NULL;
    if (number < 1 || number > ((MappingObject *)mapping)->pool.geometry.queues)
        return PyErr_Format(PyExc_IndexError, "no queue %u", number);
    Py_XSETREF(self->handle.mapping, (MappingObject *)Py_NewRef(mapping));
    self->number = number;
    self->budget_ns = self->handle.mapping->spin_ns;
    Py_RETURN_NONE;
}

static PyMethodDef queue_methods[] = {
    {"put", FASTCALL(queue_put),
     "put($self, lease, /, *, timeout=None)\n--\n\n"
     "Send the slot on; the lease is over, and so are the rights of whoever kept it.\n\n"
     "Blocks only while a queue made with maxsize is full: for ever, or for `timeout` seconds.\n"
     "Raises QueueFull when the time is up, QueueClosedError, PoolClosedError,\n"
     "AlreadyEndedError for a lease that is over, and ViewsAliveError (the lease goes on)\n"
     "as release()."},
    {"get", FASTCALL(queue_get),
     "get($self, /, *, timeout=None)\n--\n\n"
     "Take the oldest ticket and return the Lease that it stands for.\n\n"
     "Blocks while the queue is empty: for ever, or for `timeout` seconds. Raises QueueEmpty\n"
     "when the time is up, QueueClosedError when the queue is closed and drained,\n"
     "PoolClosedError, and CoordinatorDiedError."},
    {"get_nowait", (PyCFunction)queue_get_nowait, METH_NOARGS,
     "get_nowait($self, /)\n--\n\nAs get, but raises QueueEmpty at once."},
    {"_check", (PyCFunction)queue_check, METH_O, "Raise if this cannot be put here."},
    {"_put_quietly", (PyCFunction)queue_put_quietly, METH_O, "As put, but wake nobody yet."},
    {"_wake", (PyCFunction)queue_wake, METH_O, "Wake so many who wait for a ticket, or all."},
    {"_try_put", (PyCFunction)queue_try_put, METH_O, "Whether there was room."},
    {"_try_get", (PyCFunction)queue_try_get, METH_NOARGS, "A Lease, or None."},
    {"_take", (PyCFunction)queue_take, METH_NOARGS, "A Lease, or None while more may come."},
    {"_bind", (PyCFunction)queue_bind, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef queue_members[] = {
    {"_number", T_UINT, offsetof(QueueObject, number), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot queue_slots[] = {
    {Py_tp_dealloc, handle_dealloc},     {Py_tp_traverse, handle_traverse},
    {Py_tp_methods, queue_methods},      {Py_tp_members, queue_members},
    {Py_tp_getset, handle_getset},       {Py_tp_new, PyType_GenericNew},
    {0, NULL},
};

static PyType_Spec queue_spec = {
    .name = "shmpool._core.QueueBase",
    .basicsize = sizeof(QueueObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = queue_slots,
};

static const Name names[] = {
    {&str_get_slow, "_get_slow"},
    {&str_get_nowait_slow, "_get_nowait_slow"},
    {&str_nothing, "_nothing"},
    {&str_take_slow, "_take_slow"},
    {&str_put_slow, "_put_slow"},
    {NULL, NULL},
};

int module_add_queue(PyObject *module)
{
    return handle_add_type(module, &queue_spec, names);
}
