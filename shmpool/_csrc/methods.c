/* Methods of a C base that its Python class has for itself.
 *
 * CPython's interpreter specializes the call of a C method only where the method belongs to the
 * very type of its object (PEP 659; PRECALL_METHOD_DESCRIPTOR_* in ceval.c). What a class merely
 * inherits goes the long way, and is checked each time to be inherited: a tenth of a lease.
 */
#include "glue.h"

/* Is it this base's method that the class has, and nobody's in between? */
static bool inherits(PyTypeObject *class, PyTypeObject *base, const char *name)
{
    PyObject *found = PyObject_GetAttrString((PyObject *)class, name);
    PyErr_Clear();
    Py_XDECREF(found); /* there is another reference in the class that it is of */
    return found != NULL && found == PyDict_GetItemString(base->tp_dict, name);
}

static int adopt(PyTypeObject *class, PyMethodDef *method)
{
    PyObject *own = PyDescr_NewMethod(class, method);
    int result = own ? PyObject_SetAttrString((PyObject *)class, method->ml_name, own) : -1;
    Py_XDECREF(own);
    return result;
}

static int adopt_from(PyTypeObject *class, PyTypeObject *base)
{
    PyMethodDef *method = (PyMethodDef *)PyType_GetSlot(base, Py_tp_methods);
    for (; method != NULL && method->ml_name != NULL; method++)
        if (inherits(class, base, method->ml_name) && adopt(class, method) < 0)
            return -1;
    return 0;
}

static PyObject *own_methods(PyObject *Py_UNUSED(module), PyObject *class)
{
    if (!PyType_Check(class))
        return PyErr_Format(PyExc_TypeError, "not a class: %R", class);
    PyObject *line = ((PyTypeObject *)class)->tp_mro;
    for (Py_ssize_t i = 1; i < PyTuple_GET_SIZE(line); i++) {
        PyTypeObject *base = (PyTypeObject *)PyTuple_GET_ITEM(line, i);
        bool ours = strncmp(base->tp_name, "shmpool._core.", 14) == 0;
        if (ours && adopt_from((PyTypeObject *)class, base) < 0)
            return NULL;
    }
    return Py_NewRef(class);
}

static PyMethodDef functions[] = {
    {"own_methods", own_methods, METH_O, "Give a class the methods of its C bases for its own. A decorator."},
    {NULL, NULL, 0, NULL},
};

int module_add_methods(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
