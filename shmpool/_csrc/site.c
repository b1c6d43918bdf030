/* Where in the user's code we were called from. */
#include "glue.h"

static PyObject *package; /* the directory of our own code, whose frames are nobody's fault */

/* What we know of a file's name: modules have few, and the same objects again and again. */
typedef struct {
    PyObject *filename;
    bool ours;
    char file[sizeof(((Site *)0)->file)]; /* without its directory, cut to fit */
} Known;

static Known known_files[64];

static void forget_all(void)
{
    for (size_t i = 0; i < sizeof known_files / sizeof *known_files; i++)
        Py_CLEAR(known_files[i].filename);
}

static void learn(Known *known, PyObject *filename)
{
    Py_ssize_t length;
    const char *path = PyUnicode_AsUTF8AndSize(filename, &length);
    if (path == NULL) {
        PyErr_Clear(); /* a name that is no text */
        path = "?";
    }
    const char *slash = strrchr(path, '/');
    snprintf(known->file, sizeof known->file, "%s", slash ? slash + 1 : path);
    known->ours = package != NULL && PyUnicode_Tailmatch(filename, package, 0, PY_SSIZE_T_MAX, -1) == 1;
    Py_XSETREF(known->filename, Py_NewRef(filename));
}

/* Under the GIL. Kept names stay alive, so that an address is one name's. */
static const Known *lookup(PyObject *filename)
{
    Known *known = &known_files[((uintptr_t)filename >> 5) % (sizeof known_files / sizeof *known_files)];
    if (UNLIKELY(known->filename != filename))
        learn(known, filename);
    return known;
}

static void site_fill(Site *site, const Known *known, int line)
{
    memcpy(site->file, known->file, sizeof site->file);
    site->line = line > 0 ? (uint32_t)line : 0;
}

/* The innermost frame that is not ours: false, and an empty site, if there is none. */
bool site_find(Site *site)
{
    memset(site, 0, sizeof *site);
    bool found = false;
    PyFrameObject *frame = (PyFrameObject *)Py_XNewRef((PyObject *)PyEval_GetFrame());
    while (frame != NULL && !found) {
        PyCodeObject *code = PyFrame_GetCode(frame);
        const Known *known = lookup(code->co_filename);
        found = !known->ours;
        if (found)
            site_fill(site, known, PyFrame_GetLineNumber(frame));
        Py_DECREF(code);
        PyFrameObject *back = found ? NULL : PyFrame_GetBack(frame);
        Py_DECREF(frame);
        frame = back;
    }
    Py_XDECREF((PyObject *)frame);
    return found;
}

static PyObject *set_package(PyObject *Py_UNUSED(module), PyObject *directory)
{
    if (!PyUnicode_Check(directory))
        return PyErr_Format(PyExc_TypeError, "not a directory: %R", directory);
    Py_XSETREF(package, Py_NewRef(directory));
    forget_all();
    Py_RETURN_NONE;
}

static PyObject *site(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none))
{
    Site found;
    site_find(&found);
    return Py_BuildValue("sI", found.file, found.line);
}

static PyMethodDef functions[] = {
    {"set_package", set_package, METH_O, "Name the directory whose frames a site is not in."},
    {"site", site, METH_NOARGS, "(file, line) of the innermost frame that is not ours."},
    {NULL, NULL, 0, NULL},
};

int module_add_site(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
