/* Leaks: where a right was taken, for those that nobody ends. Only of rights that are tracked:
 * none, one in 128 or all, as the pool was made, so that the others cost one branch. */
#include "glue.h"

/* All rights of this process that are tracked. Under the GIL. */
struct Tracked {
    struct Tracked *next, **link;
    RightObject *right;
    uint64_t since_ns, epoch, number;
    Site site;
};

static struct {
    Tracked *first;
    uint64_t epoch;  /* of the process whose list this is */
    uint64_t number; /* how many there were */
} all;

/* A forked child starts with none: what it inherits is the parent's. */
static void all_of_this_process(void)
{
    if (LIKELY(all.epoch == fork_epoch))
        return;
    all.first = NULL;
    all.epoch = fork_epoch;
}

static void list_insert(Tracked *tracked)
{
    all_of_this_process();
    tracked->next = all.first;
    tracked->link = &all.first;
    if (all.first != NULL)
        all.first->link = &tracked->next;
    all.first = tracked;
}

static void list_remove(Tracked *tracked)
{
    if (tracked->epoch != fork_epoch)
        return; /* its neighbours are the parent's, and may be gone */
    *tracked->link = tracked->next;
    if (tracked->next != NULL)
        tracked->next->link = tracked->link;
}

/* Is it this one's turn? Want of memory only leaves it untracked. */
void right_track(RightObject *self)
{
    MappingObject *mapping = self->mapping;
    if (mapping->taken++ % mapping->track_every)
        return;
    Tracked *tracked = PyMem_Calloc(1, sizeof *tracked);
    if (tracked == NULL)
        return;
    tracked->right = self;
    tracked->since_ns = clock_ns();
    tracked->epoch = fork_epoch;
    tracked->number = ++all.number;
    site_find(&tracked->site);
    list_insert(tracked);
    self->tracked = tracked;
}

/* Its end was asked for. */
void right_untrack(RightObject *self)
{
    Tracked *tracked = self->tracked;
    self->tracked = NULL;
    list_remove(tracked);
    PyMem_Free(tracked);
}

static bool is_finalizing(void)
{
#if PY_VERSION_HEX >= 0x030d0000
    return Py_IsFinalizing();
#else
    return _Py_IsFinalizing();
#endif
}

/* Python words and warns. The right itself is in its destructor: nobody may see it. */
static void tell(MappingObject *mapping, const Right *right, const Tracked *of)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyObject *told = PyObject_CallMethod(
        (PyObject *)mapping, "_leaked", "sIKsId", right->borrowed ? "borrow" : "lease", right->at.slot,
        (unsigned long long)sp_word_generation(right->at.word), of->site.file, of->site.line,
        (double)(clock_ns() - of->since_ns) / 1e9);
    if (told == NULL)
        PyErr_WriteUnraisable((PyObject *)mapping);
    Py_XDECREF(told);
    PyErr_Restore(type, value, traceback);
}

/* A tracked right has died that nobody ended; its slot went back before this. */
void right_tell_leak(RightObject *self, Tracked *leaked)
{
    if (leaked->epoch == fork_epoch && !is_finalizing())
        tell(self->mapping, &self->right, leaked);
    PyMem_Free(leaked);
}

/* What the collector found, to be told of when the slot is back. */
Tracked *right_found_dead(RightObject *self)
{
    Tracked *tracked = self->tracked;
    self->tracked = NULL;
    list_remove(tracked);
    return tracked;
}

/* --- for Python ------------------------------------------------------------------------ */

typedef struct {
    MappingObject *mapping;
    Right right;
    Tracked of;
} Copy;

static size_t list_length(uint64_t after)
{
    size_t length = 0;
    all_of_this_process();
    for (const Tracked *at = all.first; at != NULL; at = at->next)
        length += at->number > after;
    return length;
}

/* To make Python objects may run Python code, and that may end rights: work on a copy. */
static Copy *copy_list(size_t length, uint64_t after)
{
    Copy *copies = PyMem_Calloc(length ? length : 1, sizeof *copies);
    if (copies == NULL)
        return (Copy *)PyErr_NoMemory();
    size_t i = length; /* the oldest first */
    for (const Tracked *at = all.first; at != NULL; at = at->next)
        if (at->number > after)
            copies[--i] = (Copy){(MappingObject *)Py_NewRef(at->right->mapping), at->right->right, *at};
    return copies;
}

static PyObject *describe(const Copy *copy)
{
    PyObject *spec = PyObject_GetAttrString((PyObject *)copy->mapping, "spec");
    PyObject *name = spec ? PyObject_GetAttrString(spec, "name") : NULL;
    Py_XDECREF(spec);
    if (name == NULL)
        return NULL;
    return Py_BuildValue("sNIKsId", copy->right.borrowed ? "borrow" : "lease", name, copy->right.at.slot,
                         (unsigned long long)sp_word_generation(copy->right.at.word), copy->of.site.file,
                         copy->of.site.line, (double)(clock_ns() - copy->of.since_ns) / 1e9);
}

static PyObject *tracked(PyObject *Py_UNUSED(module), PyObject *args)
{
    unsigned long long after = 0;
    if (!PyArg_ParseTuple(args, "|K", &after))
        return NULL;
    size_t length = list_length(after);
    Copy *copies = copy_list(length, after);
    PyObject *list = copies ? PyList_New(0) : NULL;
    for (size_t i = 0; copies && i < length; i++) {
        PyObject *entry = list ? describe(&copies[i]) : NULL;
        if (entry == NULL || PyList_Append(list, entry) < 0)
            Py_CLEAR(list);
        Py_XDECREF(entry);
        Py_DECREF(copies[i].mapping);
    }
    PyMem_Free(copies);
    return list;
}

static PyObject *tracked_so_far(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none))
{
    return PyLong_FromUnsignedLongLong(all.number);
}

/* As if this process had been killed: nothing ends the right, and nothing here holds it. */
static PyObject *forget(PyObject *Py_UNUSED(module), PyObject *object)
{
    if (!PyObject_TypeCheck(object, right_type))
        return PyErr_Format(PyExc_TypeError, "not a lease or borrow: %R", object);
    RightObject *right = (RightObject *)object;
    if (right_usable(right, "abandon") < 0)
        return NULL;
    right_over(right, RELEASED, 0);
    Py_RETURN_NONE;
}

static PyObject *untrack(PyObject *Py_UNUSED(module), PyObject *args)
{
    unsigned long long after;
    if (!PyArg_ParseTuple(args, "K", &after))
        return NULL;
    all_of_this_process();
    for (Tracked *at = all.first, *next; at != NULL; at = next) {
        next = at->next;
        if (at->number > after)
            right_untrack(at->right);
    }
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"forget", forget, METH_O, "Drop a right and never end it."},
    {"tracked", tracked, METH_VARARGS,
     "tracked(after=0): (kind, pool, slot, generation, file, line, seconds) of each right of this\n"
     "process that is tracked and alive, oldest first, but for those up to number `after`."},
    {"untrack", untrack, METH_VARARGS, "Track none any more of those with a number above that."},
    {"tracked_so_far", tracked_so_far, METH_NOARGS, "Number of the right tracked last."},
    {NULL, NULL, 0, NULL},
};

int module_add_leaks(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
