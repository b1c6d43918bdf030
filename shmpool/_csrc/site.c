/* Where in the user's code we were called from. */
#include "glue.h"

static PyObject *package; /* the directory of our own code, whose frames are nobody's fault */

static bool is_ours(PyObject *filename)
{
    return package != NULL && PyUnicode_Tailmatch(filename, package, 0, PY_SSIZE_T_MAX, -1) == 1;
}

/* The name without its directory, cut to fit. */
static void site_fill(Site *site, PyObject *filename, int line)
{
    Py_ssize_t length;
    const char *path = PyUnicode_AsUTF8AndSize(filename, &length);
    if (path == NULL) {
        PyErr_Clear(); /* a name that is no text */
        path = "?";
    }
    const char *slash = strrchr(path, '/');
    snprintf(site->file, sizeof site->file, "%s", slash ? slash + 1 : path);
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
        found = !is_ours(code->co_filename);
        if (found)
            site_fill(site, code->co_filename, PyFrame_GetLineNumber(frame));
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
