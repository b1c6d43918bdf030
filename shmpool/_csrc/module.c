/* The module: constants, the at-fork epoch, and the types of the other files. */
#include "place.h"

#include <pthread.h>

uint64_t fork_epoch = 1; /* 0 is nobody's epoch */
PyTypeObject *mapping_type, *span_type, *right_type, *lease_type, *borrow_type;

/* A child inherits no right and no membership; Python or C, everybody forks through here. */
static void forked(void)
{
    fork_epoch++;
    place_disown();
}

static const struct {
    const char *name;
    unsigned long long value;
} constants[] = {
    {"MAGIC", SP_MAGIC},
    {"VERSION", SP_VERSION},
    {"MAX_SLOTS", SP_MAX_SLOTS},
    {"MAX_CLASSES", SP_MAX_CLASSES},
    {"MAX_QUEUES", SP_MAX_QUEUES},
    {"MAX_MEMBERS", SP_MAX_MEMBERS},
    {"MAX_READERS", SP_MAX_READERS},
    {"MAX_RECORD", SP_MAX_RECORD},
    {"MAX_DIMENSIONS", SP_MAX_DIMENSIONS},
    {"MAX_DTYPE", SP_MAX_DTYPE},
    {"GENERATION_BITS", SP_GENERATION_BITS},
    {"GENERATION_MAX", SP_GENERATION_MAX},
    {"LINE", SP_LINE},
    {"FOR_SLOT", FOR_SLOT},
    {"FOR_TICKET", FOR_TICKET},
    {"FOR_SPACE", FOR_SPACE},
    {"RELEASED", RELEASED},
    {"PUT", PUT},
    {"DETACHED", DETACHED},
    {"TRACE_MAGIC", SP_TRACE_MAGIC},
    {"TRACE_VERSION", SP_TRACE_VERSION},
    {"TRACE_LEAST", SP_TRACE_LEAST},
    {"TRACE_MOST", SP_TRACE_MOST},
    {"TRACE_PAGE", SP_TRACE_PAGE},
    {"TRACE_NO_SLOT", SP_TRACE_NO_SLOT},
    {"TRACE_WAITS", SP_TRACE_WAITS},
    {"TRACE_WOKE", SP_TRACE_WOKE},
    {"TRACE_STALE", SP_TRACE_STALE},
    {"TRACE_DIED", SP_TRACE_DIED},
    {"TRACE_LEFT", SP_TRACE_LEFT},
};

static int add_constants(PyObject *module)
{
    for (size_t i = 0; i < sizeof constants / sizeof *constants; i++) {
        PyObject *value = PyLong_FromUnsignedLongLong(constants[i].value);
        int result = value ? PyModule_AddObjectRef(module, constants[i].name, value) : -1;
        Py_XDECREF(value);
        if (result < 0)
            return -1;
    }
    return 0;
}

int module_add_type(PyObject *module, PyType_Spec *spec)
{
    PyObject *type = PyType_FromSpec(spec);
    int result = type ? PyModule_AddType(module, (PyTypeObject *)type) : -1;
    Py_XDECREF(type);
    return result;
}

static struct PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "shmpool._core",
    .m_doc = "The shared-memory protocol of shmpool: words, rings, leases.",
    .m_size = -1,
};

PyMODINIT_FUNC PyInit__core(void)
{
    PyObject *module = PyModule_Create(&definition);
    if (module == NULL)
        return NULL;
    bool added = add_constants(module) == 0 && module_add_geometry(module) == 0 &&
                 module_add_mapping(module) == 0 && module_add_span(module) == 0 &&
                 module_add_right(module) == 0 && module_add_array(module) == 0 &&
                 module_add_lease(module) == 0 &&
                 module_add_borrow(module) == 0 &&
                 module_add_pool(module) == 0 && module_add_queue(module) == 0 &&
                 module_add_bell(module) == 0 && module_add_doorbell(module) == 0 &&
                 module_add_site(module) == 0 && module_add_methods(module) == 0 &&
                 module_add_touch(module) == 0 && module_add_fence(module) == 0 &&
                 module_add_handlers(module) == 0 &&
                 module_add_story(module) == 0 &&
                 module_add_leaks(module) == 0;
    if (!added || pthread_atfork(NULL, NULL, forked) != 0) {
        Py_DECREF(module);
        return PyErr_Occurred() ? NULL : PyErr_NoMemory();
    }
    return module;
}
