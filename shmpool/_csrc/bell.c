/* Bell: one member's doorbell, opened by name, to wait on and to ring.
 *
 * posix_ipc makes and unlinks the semaphore. Waiting is done here because its acquire()
 * replaces whatever a signal handler raises by an error of its own: a time-out from
 * SIGALRM or a SystemExit from SIGTERM would be lost, and the wait would go on.
 */
#include "glue.h"

#include <errno.h>
#include <fcntl.h>
#include <semaphore.h>
#include <time.h>

typedef struct {
    PyObject_HEAD
    sem_t *semaphore;
} BellObject;

static PyObject *bell_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(keywords))
{
    const char *name;
    if (!PyArg_ParseTuple(args, "s", &name))
        return NULL;
    sem_t *semaphore = sem_open(name, 0);
    if (semaphore == SEM_FAILED)
        return PyErr_SetFromErrnoWithFilename(PyExc_OSError, name);
    BellObject *self = (BellObject *)type->tp_alloc(type, 0);
    if (self == NULL)
        sem_close(semaphore);
    else
        self->semaphore = semaphore;
    return (PyObject *)self;
}

static void bell_dealloc(BellObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    sem_close(self->semaphore);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyObject *bell_ring(BellObject *self, PyObject *Py_UNUSED(none))
{
    /* EOVERFLOW: rung two thousand million times and never heard. It is loud enough. */
    sem_post(self->semaphore);
    Py_RETURN_NONE;
}

static struct timespec in_seconds(double seconds)
{
    struct timespec end;
#if defined(__GLIBC__)
    clock_gettime(CLOCK_MONOTONIC, &end);
#else
    clock_gettime(CLOCK_REALTIME, &end);
#endif
    int64_t nanoseconds = end.tv_nsec + (int64_t)(seconds * 1e9);
    end.tv_sec += nanoseconds / 1000000000;
    end.tv_nsec = nanoseconds % 1000000000;
    return end;
}

static int wait_until(sem_t *semaphore, const struct timespec *end)
{
#if defined(__GLIBC__)
    return sem_clockwait(semaphore, CLOCK_MONOTONIC, end);
#else
    return sem_timedwait(semaphore, end);
#endif
}

static PyObject *bell_wait(BellObject *self, PyObject *number)
{
    double seconds = PyFloat_AsDouble(number);
    if (seconds == -1.0 && PyErr_Occurred())
        return NULL;
    if (sem_trywait(self->semaphore) == 0)
        Py_RETURN_TRUE;
    struct timespec end = in_seconds(seconds);
    int result;
    do {
        Py_BEGIN_ALLOW_THREADS
        result = wait_until(self->semaphore, &end) == 0 ? 0 : errno;
        Py_END_ALLOW_THREADS
        if (result == EINTR && PyErr_CheckSignals() < 0)
            return NULL;
    } while (result == EINTR);
    return PyBool_FromLong(result == 0);
}

static PyMethodDef bell_methods[] = {
    {"ring", (PyCFunction)bell_ring, METH_NOARGS, "Wake the member, now or at its next wait."},
    {"wait", (PyCFunction)bell_wait, METH_O,
     "Sleep until rung, at most so many seconds: whether it rang. Signal handlers may raise."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot bell_slots[] = {
    {Py_tp_new, bell_new},
    {Py_tp_dealloc, bell_dealloc},
    {Py_tp_methods, bell_methods},
    {Py_tp_doc, "Bell(name): a member's doorbell. Raises FileNotFoundError."},
    {0, NULL},
};

static PyType_Spec bell_spec = {
    .name = "shmpool._core.Bell",
    .basicsize = sizeof(BellObject),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = bell_slots,
};

int module_add_bell(PyObject *module)
{
    PyObject *type = PyType_FromSpec(&bell_spec);
    int result = type ? PyModule_AddType(module, (PyTypeObject *)type) : -1;
    Py_XDECREF(type);
    return result;
}
