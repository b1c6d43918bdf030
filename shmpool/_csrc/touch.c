/* Notes of what was touched, and how they are told: by a pending call, in the main thread. */
#include "touch.h"

#include <sys/syscall.h>
#include <unistd.h>

enum { TOUCHES = 32 };

/* --- notes of what was touched --------------------------------------------------------- */

typedef enum { NOTE_FREE = 0, NOTE_TAKEN, NOTE_READY } NoteState;

typedef struct {
    sp_atomic_u64 state;
    Region *region;
    uint32_t index; /* of the cell */
    char pool[64];
    Obituary of; /* generation 0: nobody's views, a stray pointer */
    TouchKind kind;
    uint64_t offset;
    uint64_t thread;
} Touch;

static Touch touches[TOUCHES];
static sp_atomic_u64 main_thread, held, asked, spared;
sp_atomic_u64 touches_pending;
static PyObject *reporter;

static int report(void *none);

/* One call in the interpreter's list is enough, which is short and not for us alone. If it is
 * full, the next touch asks again, and the next call into a pool tells. */
void touches_ask(void)
{
    /* At the very end there is neither a list nor anybody to tell. */
    if (sp_cas_acq_rel(&asked, 0, 1) && (!Py_IsInitialized() || Py_AddPendingCall(report, NULL) < 0))
        sp_store_release(&asked, 0);
}

static Touch *touch_take(void)
{
    for (int i = 0; i < TOUCHES; i++)
        if (sp_cas_acq_rel(&touches[i].state, NOTE_FREE, NOTE_TAKEN))
            return &touches[i];
    return NULL; /* enough is known already */
}

static void note_fill(Touch *touch, Region *region, const Cell *cell, uint64_t offset)
{
    touch->region = region;
    touch->index = region->stride ? (uint32_t)(offset / region->stride) : 0;
    touch->offset = region->stride ? offset % region->stride : offset;
    memcpy(touch->pool, region->pool, sizeof touch->pool);
    touch->of = cell && cell->of ? *cell->of : (Obituary){.slot = region->first + touch->index};
    touch->thread = (uint64_t)syscall(SYS_gettid);
}

void touch_note(Region *region, const Cell *cell, const void *address, TouchKind kind)
{
    Touch *touch = touch_take();
    if (touch != NULL) {
        note_fill(touch, region, cell, (uintptr_t)address - sp_load_relaxed(&region->base));
        touch->kind = kind;
        sp_store_release(&touch->state, NOTE_READY);
    }
    sp_store_release(&touches_pending, 1);
}


/* --- raising --------------------------------------------------------------------------- */

static PyObject *touch_as_tuple(const Touch *touch)
{
    const Obituary *of = &touch->of;
    /* A name that was cut to fit may end in half a character. */
    PyObject *file = PyUnicode_DecodeUTF8(of->site.file, (Py_ssize_t)strlen(of->site.file), "replace");
    if (file == NULL)
        return NULL;
    return Py_BuildValue("(isIKOsNIKK)", (int)touch->kind, touch->pool, of->slot,
                         (unsigned long long)of->generation, of->borrowed ? Py_True : Py_False,
                         of->action ? of->action : "", file, of->site.line,
                         (unsigned long long)touch->offset, (unsigned long long)touch->thread);
}

/* Told of, and done with. Another thread may be in the middle of it, and go on touching for as
 * long as it likes: that is told once. */
static void touch_done(Touch *touch, uint64_t thread)
{
    if (touch->thread == thread && touch->kind < SLAB_GONE)
        place_close_again(touch->region, touch->index);
    sp_store_release(&touch->state, NOTE_FREE);
}

/* Take one that may be told of: nobody else tells of it, not even code that runs meanwhile. */
static bool touch_claim(Touch *touch, uint64_t thread, bool everything)
{
    bool ready = sp_load_acquire(&touch->state) == NOTE_READY;
    return ready && (everything || touch->thread == thread) &&
           sp_cas_acq_rel(&touch->state, NOTE_READY, NOTE_TAKEN);
}

static PyObject *collect(uint64_t thread, bool everything)
{
    PyObject *list = PyList_New(0);
    for (int i = 0; list && i < TOUCHES; i++) {
        Touch *touch = &touches[i];
        if (!touch_claim(touch, thread, everything))
            continue;
        PyObject *entry = touch_as_tuple(touch);
        if (entry == NULL || PyList_Append(list, entry) < 0)
            Py_CLEAR(list);
        Py_XDECREF(entry);
        touch_done(touch, thread);
    }
    return list;
}

static int raise_all(PyObject *list)
{
    if (reporter == NULL || PyList_GET_SIZE(list) == 0)
        return 0;
    raise_instance(PyObject_CallOneArg(reporter, list));
    return -1;
}

/* The main thread is through, and waits for others or runs what was registered for its exit; or it
 * works for somebody who has no part in what others left behind. An error of theirs would keep it
 * from that, and is told without being raised. */
static void tell_of_others(uint64_t thread)
{
    PyObject *list = collect(thread, true);
    if (list == NULL || raise_all(list) < 0)
        PyErr_WriteUnraisable(NULL);
    Py_XDECREF(list);
}

/* The main thread tells of every touch, others of their own. */
static int raise_some(bool everything)
{
    /* In the end, when modules have no names any more, nobody is told. */
    if (LIKELY(!sp_load_acquire(&touches_pending)) || sp_load_relaxed(&held) || !Py_IsInitialized())
        return 0;
    if (everything)
        sp_store_release(&touches_pending, 0);
    uint64_t thread = (uint64_t)syscall(SYS_gettid);
    bool own = everything && sp_load_relaxed(&spared);
    PyObject *list = collect(thread, everything && !own);
    if (list == NULL)
        sp_store_release(&touches_pending, 1); /* there may be more of them */
    else if (own)
        tell_of_others(thread);
    int result = list ? raise_all(list) : -1;
    Py_XDECREF(list);
    return result;
}

/* Raise what was touched and not told of yet: 0 for nothing, -1 with the exception. */
int touches_raise(void)
{
    return raise_some((uint64_t)syscall(SYS_gettid) == sp_load_relaxed(&main_thread));
}

/* Python calls this in its main thread. */
static int report(void *Py_UNUSED(none))
{
    sp_store_release(&asked, 0);
    return raise_some(true);
}

static PyObject *py_raise_touches(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none))
{
    if (touches_raise() < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* While something must not be left half done, errors wait as Ctrl-C does. */
static PyObject *py_hold_touches(PyObject *Py_UNUSED(module), PyObject *hold)
{
    uint64_t now = sp_load_relaxed(&held);
    bool more = PyObject_IsTrue(hold) == 1;
    sp_store_relaxed(&held, more ? now + 1 : now - (now > 0));
    if (now == 1 && !more && sp_load_relaxed(&touches_pending))
        touches_ask();
    Py_RETURN_NONE;
}

static PyObject *py_spare_main_thread(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none))
{
    sp_store_relaxed(&spared, 1);
    Py_RETURN_NONE;
}

static PyObject *py_set_reporter(PyObject *Py_UNUSED(module), PyObject *callable)
{
    Py_XSETREF(reporter, Py_NewRef(callable));
    Py_RETURN_NONE;
}

/* On Linux the main thread's id is the process's. */
static void find_main_thread(void)
{
    sp_store_relaxed(&main_thread, (uint64_t)getpid());
}

bool touches_in_main_thread(void)
{
    return (uint64_t)syscall(SYS_gettid) == sp_load_relaxed(&main_thread);
}

/* In a forked child: what was touched in the parent is told there; here it is a fence again. */
void touches_forget(void)
{
    find_main_thread();
    sp_store_relaxed(&held, 0);
    sp_store_relaxed(&spared, 0); /* its main thread is the one that forked */
    sp_store_relaxed(&asked, 0);
    sp_store_relaxed(&touches_pending, 0);
    for (int i = 0; i < TOUCHES; i++) {
        Touch *touch = &touches[i];
        if (sp_load_relaxed(&touch->state) == NOTE_READY && touch->kind < SLAB_GONE)
            place_close_again(touch->region, touch->index);
        sp_store_relaxed(&touch->state, NOTE_FREE);
    }
}

static PyMethodDef functions[] = {
    {"raise_touches", py_raise_touches, METH_NOARGS, "Raise what was touched and not told of yet."},
    {"hold_touches", py_hold_touches, METH_O, "Let these errors wait, True, or no longer."},
    {"spare_main_thread", py_spare_main_thread, METH_NOARGS, "Raise no other thread's in the main thread any more."},
    {"set_touch_reporter", py_set_reporter, METH_O, "Name what makes an exception of a list of touches."},
    {NULL, NULL, 0, NULL},
};

int module_add_touch(PyObject *module)
{
    find_main_thread();
    return PyModule_AddFunctions(module, functions);
}
