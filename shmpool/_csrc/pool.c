/* PoolBase: acquire, borrow and claim. The fast path is here, wholly; whatever has to wait,
 * explain or rejoin is the Python method whose name ends in _slow. */
#include "handle.h"

static PyObject *str_acquire_slow, *str_acquire_nowait_slow, *str_borrow_slow, *str_claim_slow;

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

static PyObject *try_acquire(HandleObject *self, PyObject *const *args, Py_ssize_t count)
{
    uint64_t now = clock_coarse_ns();
    uint32_t class;
    bool ready = LIKELY(self->mapping != NULL) && mapping_ready(self->mapping, now) &&
                 class_for(self->mapping, args, count, &class);
    return ready ? mapping_lease(self->mapping, class, now) : NULL;
}

static PyObject *pool_acquire(HandleObject *self, PyObject *const *args, Py_ssize_t count, PyObject *keywords)
{
    if (LIKELY(only_timeout(args + count, keywords))) {
        PyObject *lease = try_acquire(self, args, count);
        if (LIKELY(lease != NULL) || PyErr_Occurred())
            return lease;
    }
    return call_slow((PyObject *)self, str_acquire_slow, args, count, keywords);
}

static PyObject *pool_acquire_nowait(HandleObject *self, PyObject *const *args, Py_ssize_t count)
{
    PyObject *lease = try_acquire(self, args, count);
    if (LIKELY(lease != NULL) || PyErr_Occurred())
        return lease;
    return call_slow((PyObject *)self, str_acquire_nowait_slow, args, count, NULL);
}

/* Is it a number that may be a ticket, and is there nothing to look around for first? */
static bool ticket_ready(const HandleObject *self, PyObject *ticket)
{
    if (!PyLong_Check(ticket) || self->mapping == NULL || !mapping_ready(self->mapping, clock_coarse_ns()))
        return false;
    bool fits = PyLong_AsUnsignedLongLong(ticket) != (unsigned long long)-1 || !PyErr_Occurred();
    PyErr_Clear();
    return fits;
}

static PyObject *pool_borrow(HandleObject *self, PyObject *ticket)
{
    if (LIKELY(ticket_ready(self, ticket)))
        return mapping_borrow(self->mapping, ticket);
    return call_slow((PyObject *)self, str_borrow_slow, &ticket, 1, NULL);
}

static PyObject *pool_claim(HandleObject *self, PyObject *ticket)
{
    if (LIKELY(ticket_ready(self, ticket)))
        return mapping_claim(self->mapping, ticket);
    return call_slow((PyObject *)self, str_claim_slow, &ticket, 1, NULL);
}

static PyObject *pool_bind(HandleObject *self, PyObject *mapping)
{
    if (!PyObject_TypeCheck(mapping, mapping_type))
        return PyErr_Format(PyExc_TypeError, "not a Mapping: %R", mapping);
    Py_XSETREF(self->mapping, (MappingObject *)Py_NewRef(mapping));
    Py_RETURN_NONE;
}

static PyMethodDef pool_methods[] = {
    {"acquire", FASTCALL(pool_acquire),
     "acquire($self, nbytes=None, /, *, timeout=None)\n--\n\n"
     "Lease a free slot of at least `nbytes` bytes: of the smallest class that has room.\n\n"
     "A class that can grow fetches memory for one more slot before a larger class is tried.\n"
     "Blocks while every slot is held: for ever, or for `timeout` seconds (0 waits for nobody).\n"
     "Raises PoolExhaustedError when the time is up, PoolClosedError, CoordinatorDiedError,\n"
     "SizeError if no slot has `nbytes` bytes, and OutOfSharedMemoryError if there is none to\n"
     "wait for and no memory to make one."},
    {"acquire_nowait", (PyCFunction)(void (*)(void))pool_acquire_nowait, METH_FASTCALL,
     "acquire_nowait($self, nbytes=None, /)\n--\n\n"
     "As acquire, but raises PoolExhaustedError at once."},
    {"borrow", (PyCFunction)pool_borrow, METH_O,
     "borrow($self, ticket, /)\n--\n\n"
     "Read what a ticket of Lease.share() stands for, with others, as often as you like.\n\n"
     "Does not block. Raises StaleTicketError when its owner has released it, or never shared\n"
     "it; PoolClosedError, CoordinatorDiedError."},
    {"claim", (PyCFunction)pool_claim, METH_O,
     "claim($self, ticket, /)\n--\n\n"
     "Turn a ticket that was detached, or is in quarantine, into a lease: once.\n\n"
     "However it came: by pipe, socket, file. Does not block. Raises AlreadyClaimedError or\n"
     "StaleTicketError, PoolClosedError, CoordinatorDiedError."},
    {"_bind", (PyCFunction)pool_bind, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot pool_slots[] = {
    {Py_tp_dealloc, handle_dealloc},     {Py_tp_traverse, handle_traverse},
    {Py_tp_methods, pool_methods},       {Py_tp_getset, handle_getset},
    {Py_tp_new, PyType_GenericNew},      {0, NULL},
};

static PyType_Spec pool_spec = {
    .name = "shmpool._core.PoolBase",
    .basicsize = sizeof(HandleObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = pool_slots,
};

static const Name names[] = {
    {&str_acquire_slow, "_acquire_slow"},
    {&str_acquire_nowait_slow, "_acquire_nowait_slow"},
    {&str_borrow_slow, "_borrow_slow"},
    {&str_claim_slow, "_claim_slow"},
    {NULL, NULL},
};

int module_add_pool(PyObject *module)
{
    return handle_add_type(module, &pool_spec, names);
}
