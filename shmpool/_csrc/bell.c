/* Bell: the doorbell of another member, opened by name, to ring it. */
#include "glue.h"

#include <fcntl.h>
#include <semaphore.h>

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

static PyMethodDef bell_methods[] = {
    {"ring", (PyCFunction)bell_ring, METH_NOARGS, "Wake the member, now or at its next wait."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot bell_slots[] = {
    {Py_tp_new, bell_new},
    {Py_tp_dealloc, bell_dealloc},
    {Py_tp_methods, bell_methods},
    {Py_tp_doc, "Bell(name): another member's doorbell. Raises FileNotFoundError."},
    {0, NULL},
};

static PyType_Spec bell_spec = {
    .name = "shmpool._core.Bell",
    .basicsize = sizeof(BellObject),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = bell_slots,
};

/* What stands in the file of a named semaphore that nobody has rung: sem_overview(7) does not say
 * so, but sem_open() maps the file and takes it for what sem_init() makes. */
static PyObject *silent_semaphore(void)
{
    sem_t semaphore;
    memset(&semaphore, 0, sizeof semaphore);
    if (sem_init(&semaphore, 1, 0) < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    return PyBytes_FromStringAndSize((const char *)&semaphore, sizeof semaphore);
}

int module_add_bell(PyObject *module)
{
    PyObject *silent = silent_semaphore();
    int added = silent ? PyModule_AddObjectRef(module, "SEMAPHORE", silent) : -1;
    Py_XDECREF(silent);
    return added < 0 ? -1 : module_add_type(module, &bell_spec);
}
