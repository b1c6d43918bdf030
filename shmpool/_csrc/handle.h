/* What PoolBase and QueueBase have in common: a mapping, and slow paths written in Python. */
#ifndef SHMPOOL_HANDLE_H
#define SHMPOOL_HANDLE_H

#include "glue.h"

typedef struct {
    PyObject_HEAD
    MappingObject *mapping; /* NULL until attached */
} HandleObject;

#define FASTCALL(function) (PyCFunction)(void (*)(void))function, METH_FASTCALL | METH_KEYWORDS

PyObject *call_slow(PyObject *self, PyObject *name, PyObject *const *args, Py_ssize_t count, PyObject *keywords);
bool only_timeout(PyObject *const *args, PyObject *keywords);
void handle_dealloc(HandleObject *self);
int handle_traverse(HandleObject *self, visitproc visit, void *arg);
extern PyGetSetDef handle_getset[];

/* An interned name, made when the module is. */
typedef struct {
    PyObject **interned;
    const char *text;
} Name;

int handle_add_type(PyObject *module, PyType_Spec *spec, const Name *names);

#endif
