/* Objects that are made and dropped all the time: their memory is kept for the next of the kind.
 *
 * None of them is ever tracked by the garbage collector, though a Python subclass has the
 * flag: what they refer to, a mapping and memory, never refers back to them.
 */
#ifndef SHMPOOL_SPARES_H
#define SHMPOOL_SPARES_H

#include "glue.h"

enum { SPARES = 16 };

typedef struct {
    PyTypeObject *type; /* whose objects these are */
    int count;
    PyObject *kept[SPARES];
} Spares;

/* A fresh object of a heap type, of which the caller fills in all but the head. */
static inline PyObject *spares_take(Spares *spares, PyTypeObject *type)
{
    if (LIKELY(spares->count && type == spares->type))
        return PyObject_Init(spares->kept[--spares->count], type);
    PyObject *object = type->tp_alloc(type, 0);
    if (object != NULL && PyType_IS_GC(type))
        PyObject_GC_UnTrack(object);
    return object;
}

/* The end of a dealloc: the object's memory, and its reference to its type. */
static inline void spares_give(Spares *spares, PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    if (UNLIKELY(!spares->count))
        spares->type = type;
    if (LIKELY(spares->count < SPARES && type == spares->type))
        spares->kept[spares->count++] = object;
    else
        type->tp_free(object);
    Py_DECREF(type);
}

#endif
