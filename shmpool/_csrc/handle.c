/* What PoolBase and QueueBase have in common. */
#include "handle.h"

static PyObject *str_timeout;

/* Call self.name(*args): the slow path with the very arguments of the fast one. */
PyObject *call_slow(PyObject *self, PyObject *name, PyObject *const *args, Py_ssize_t count,
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
bool only_timeout(PyObject *const *args, PyObject *keywords)
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

void handle_dealloc(HandleObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    Py_XDECREF(self->mapping);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

int handle_traverse(HandleObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->mapping);
    return 0;
}

static PyObject *handle_get_mapping(HandleObject *self, void *Py_UNUSED(closure))
{
    return Py_NewRef(self->mapping ? (PyObject *)self->mapping : Py_None);
}

PyGetSetDef handle_getset[] = {
    {"_mapping", (getter)handle_get_mapping, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static int intern(const Name *name)
{
    return (*name->interned = PyUnicode_InternFromString(name->text)) ? 0 : -1;
}

int handle_add_type(PyObject *module, PyType_Spec *spec, const Name *names)
{
    const Name timeout = {&str_timeout, "timeout"};
    if (str_timeout == NULL && intern(&timeout) < 0)
        return -1;
    for (; names->text; names++)
        if (intern(names) < 0)
            return -1;
    return module_add_type(module, spec);
}
