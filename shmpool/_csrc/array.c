/* Arrays over a slot. The fast path is here, for shapes and dtypes that Python has looked at before:
 * what it found out about one is kept as a recipe. All others go to the method _array_slow.
 *
 *   asked      array(shape, dtype): found by the very dtype argument and the lengths
 *   described  array(): found by the sheet beside the slot, byte by byte
 *
 * A sheet is hostile memory: it is copied once, and only what equals one that Python has checked
 * goes on. numpy is called by its type, as Python calls it, so any version of it will do.
 */
#include "handle.h"

enum { RECIPES = 8 };

typedef struct {
    PyObject *given; /* the dtype argument, kept so that its address is nobody else's; NULL: none */
    PyObject *shape;
    PyObject *dtype; /* NULL: this recipe is not used yet */
    Py_ssize_t dimensions;
    long long lengths[SP_MAX_DIMENSIONS];
    unsigned long long nbytes;
    char sheet[sizeof(sp_sheet)];
} Recipe;

static Recipe recipes[RECIPES];
static unsigned int next_recipe; /* that a new one replaces */
static PyTypeObject *array_class;
static PyObject *str_array_slow;

static bool is_length(PyObject *number, long long length)
{
    int overflow;
    return PyLong_CheckExact(number) && PyLong_AsLongLongAndOverflow(number, &overflow) == length && !overflow;
}

static bool shape_is(PyObject *shape, const Recipe *recipe)
{
    if (shape == recipe->shape)
        return true;
    if (!PyTuple_CheckExact(shape) || PyTuple_GET_SIZE(shape) != recipe->dimensions)
        return recipe->dimensions == 1 && is_length(shape, recipe->lengths[0]);
    for (Py_ssize_t i = 0; i < recipe->dimensions; i++)
        if (!is_length(PyTuple_GET_ITEM(shape, i), recipe->lengths[i]))
            return false;
    return true;
}

static const Recipe *recipe_asked(PyObject *shape, PyObject *given)
{
    for (const Recipe *recipe = recipes; recipe < recipes + RECIPES; recipe++)
        if (recipe->given == given && shape_is(shape, recipe))
            return recipe;
    return NULL;
}

static const Recipe *recipe_described(RightObject *self)
{
    const sp_pool *pool = &self->mapping->pool;
    uint32_t slot = self->right.at.slot;
    char sheet[sizeof(sp_sheet)];
    if ((sp_load_acquire(&pool->slots[slot].delivery) & UINT32_MAX) != sizeof sheet)
        return NULL;
    memcpy(sheet, sp_pool_sheet(pool, slot), sizeof sheet);
    for (const Recipe *recipe = recipes; recipe < recipes + RECIPES; recipe++)
        if (recipe->dtype != NULL && memcmp(recipe->sheet, sheet, sizeof sheet) == 0)
            return recipe;
    return NULL;
}

static PyObject *array_over(RightObject *self, const Recipe *recipe)
{
    SpanObject *span = right_span(self);
    if (span == NULL)
        return NULL;
    /* Our own references: to make a tuple may collect garbage, and that may replace the recipe. */
    PyObject *shape = Py_NewRef(recipe->shape), *dtype = Py_NewRef(recipe->dtype);
    PyObject *arguments = PyTuple_Pack(3, shape, dtype, span);
    PyObject *array = arguments ? array_class->tp_new(array_class, arguments, NULL) : NULL;
    Py_XDECREF(arguments);
    Py_DECREF(shape);
    Py_DECREF(dtype);
    return array;
}

/* NULL without an exception: the slow path is to find out. */
static PyObject *try_array(RightObject *self, PyObject *const *args, Py_ssize_t count)
{
    if (self->ending != LIVE || self->right.epoch != fork_epoch || (count != 0 && count != 2))
        return NULL;
    const Recipe *recipe = count ? recipe_asked(args[0], args[1]) : recipe_described(self);
    if (UNLIKELY(recipe == NULL) || recipe->nbytes > mapping_slot_size(self->mapping, self->right.at.slot))
        return NULL;
    if (count && sp_word_state(self->right.at.word) == SP_LEASED)
        right_describe(self, recipe->sheet, sizeof recipe->sheet);
    return array_over(self, recipe);
}

PyObject *right_array(RightObject *self, PyObject *const *args, Py_ssize_t count, PyObject *keywords)
{
    if (LIKELY(keywords == NULL)) {
        PyObject *array = try_array(self, args, count);
        if (LIKELY(array != NULL) || PyErr_Occurred())
            return array;
    }
    return call_slow((PyObject *)self, str_array_slow, args, count, keywords);
}

static void recipe_clear(Recipe *recipe)
{
    Recipe old = *recipe;
    *recipe = (Recipe){0};
    /* Last, since it may run anything. */
    Py_XDECREF(old.given);
    Py_XDECREF(old.shape);
    Py_XDECREF(old.dtype);
}

static bool recipe_lengths(Recipe *recipe, PyObject *shape)
{
    recipe->dimensions = PyTuple_GET_SIZE(shape);
    if (recipe->dimensions > SP_MAX_DIMENSIONS)
        return false;
    for (Py_ssize_t i = 0; i < recipe->dimensions; i++)
        recipe->lengths[i] = PyLong_AsLongLong(PyTuple_GET_ITEM(shape, i));
    return !PyErr_Occurred();
}

static PyObject *keep_recipe(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *given, *shape, *dtype;
    unsigned long long nbytes;
    const char *sheet;
    Py_ssize_t length;
    if (!PyArg_ParseTuple(args, "OO!OKy#", &given, &PyTuple_Type, &shape, &dtype, &nbytes, &sheet, &length))
        return NULL;
    Recipe fresh = {.nbytes = nbytes};
    if (length != sizeof fresh.sheet || !recipe_lengths(&fresh, shape))
        return PyErr_Occurred() ? NULL : PyErr_Format(PyExc_ValueError, "no sheet of %R", shape);
    memcpy(fresh.sheet, sheet, sizeof fresh.sheet);
    Recipe *place = &recipes[next_recipe++ % RECIPES];
    recipe_clear(place);
    fresh.given = given == Py_None ? NULL : Py_NewRef(given);
    fresh.shape = Py_NewRef(shape);
    fresh.dtype = Py_NewRef(dtype);
    *place = fresh;
    Py_RETURN_NONE;
}

static PyObject *set_array_class(PyObject *Py_UNUSED(module), PyObject *class)
{
    if (!PyType_Check(class))
        return PyErr_Format(PyExc_TypeError, "not a class: %R", class);
    Py_XSETREF(array_class, (PyTypeObject *)Py_NewRef(class));
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"keep_recipe", keep_recipe, METH_VARARGS, "Keep what array(shape, given) found out."},
    {"set_array_class", set_array_class, METH_O, "Name numpy's array class."},
    {NULL, NULL, 0, NULL},
};

int module_add_array(PyObject *module)
{
    str_array_slow = PyUnicode_InternFromString("_array_slow");
    return str_array_slow ? PyModule_AddFunctions(module, functions) : -1;
}
