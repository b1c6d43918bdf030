/* What happens when something touches a fence, or memory that is no longer there.
 *
 * The handlers of SIGSEGV and SIGBUS run in whatever thread touched, with or without the GIL.
 * For an address of ours they put private memory where nothing was, note it, and the statement
 * goes on; the error is raised by a pending call of the interpreter, in the main thread. All
 * other faults are somebody else's: they go to whoever was there before us.
 *
 * A fault is synchronous: the thread is at an instruction that touches a slot's memory, so it
 * is nowhere in malloc or in the interpreter's lists of pending calls, and we may use them. */
#include "place.h"

#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

enum { PAGE = 4096, TOUCHES = 32, ACTIONS = 8, THREADS = 64 };

/* --- notes of what was touched --------------------------------------------------------- */

typedef enum { NOTE_FREE = 0, NOTE_TAKEN, NOTE_READY } NoteState;
typedef enum { TOUCH_UNKNOWN = -1, TOUCH_READ = 0, TOUCH_WRITE = 1, TOUCH_TRUNCATED = 2 } TouchKind;

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
static sp_atomic_u64 main_thread, held;
sp_atomic_u64 touches_pending;
static PyObject *reporter;

static int report(void *none);

static Touch *touch_take(void)
{
    for (int i = 0; i < TOUCHES; i++)
        if (sp_cas_acq_rel(&touches[i].state, NOTE_FREE, NOTE_TAKEN))
            return &touches[i];
    return NULL; /* enough is known already */
}

static void note(Region *region, const Cell *cell, const void *address, TouchKind kind)
{
    Touch *touch = touch_take();
    if (touch != NULL) {
        touch->region = region;
        touch->index = cell ? (uint32_t)(cell - region->cells) : 0;
        memcpy(touch->pool, region->pool, sizeof touch->pool);
        touch->of = cell && cell->of ? *cell->of : (Obituary){.slot = region->first};
        if (cell && !cell->of)
            touch->of.slot += touch->index;
        touch->offset = (uintptr_t)address - sp_load_relaxed(&region->base);
        if (cell)
            touch->offset %= region->stride;
        touch->kind = kind;
        touch->thread = (uint64_t)syscall(SYS_gettid);
        sp_store_release(&touch->state, NOTE_READY);
    }
    sp_store_release(&touches_pending, 1);
    Py_AddPendingCall(report, NULL);
}

/* --- answering ------------------------------------------------------------------------- */

static Region *region_of(uintptr_t address)
{
    for (Region *region = region_first(); region != NULL; region = region->next) {
        uint64_t base = sp_load_acquire(&region->base); /* F-look */
        if (base && address >= base && address - base < region->size)
            return region;
    }
    return NULL;
}

static TouchKind kind_of(const void *context)
{
#ifdef __x86_64__
    /* Bit 1 of the page fault's error code: Intel SDM, volume 3, "Page-Fault Exception". */
    return (((const ucontext_t *)context)->uc_mcontext.gregs[REG_ERR] & 2) ? TOUCH_WRITE : TOUCH_READ;
#else
    (void)context;
    return TOUCH_UNKNOWN;
#endif
}

static bool put_zeros(uintptr_t from, uintptr_t end)
{
    return mmap((void *)from, end - from, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) != MAP_FAILED;
}

/* The slot's bytes, but what is written to them is nobody else's. */
static bool put_private_file(const Region *plane, uint64_t offset, uintptr_t from)
{
    return mmap((void *)from, plane->stride, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE | MAP_FIXED,
                plane->mapping->slab_fd[plane->class], (off_t)offset) != MAP_FAILED;
}

/* Change a cell once, whoever comes first: did it work, or has somebody done it? */
static bool answer_once(Region *plane, Cell *cell, CellState from, CellState to, uintptr_t address,
                        const void *context)
{
    if (!sp_cas_acq_rel(&cell->state, from, to))
        return true; /* another thread is at it: touch again */
    uint64_t offset = (uint64_t)(cell - plane->cells) * plane->stride;
    uintptr_t start = sp_load_relaxed(&plane->base) + offset;
    bool put = to == CELL_BROKEN ? put_private_file(plane, offset, start)
                                 : put_zeros(start, start + plane->stride);
    if (put)
        note(plane, cell, (const void *)address, kind_of(context));
    else
        sp_store_release(&cell->state, from);
    return put;
}

/* Is it a fence of ours? Then it is memory now. */
static bool answer_touch(const siginfo_t *info, const void *context)
{
    uintptr_t address = (uintptr_t)info->si_addr;
    Region *plane = info->si_code > 0 ? region_of(address) : NULL;
    if (plane == NULL || plane->cells == NULL)
        return false;
    Cell *cell = &plane->cells[(address - sp_load_relaxed(&plane->base)) / plane->stride];
    CellState state = (CellState)sp_load_acquire(&cell->state);
    if (state == CELL_GUARDED)
        return answer_once(plane, cell, state, CELL_BROKEN, address, context);
    if (state == CELL_FENCED || state == CELL_VOID)
        return answer_once(plane, cell, state, CELL_TOUCHED, address, context);
    /* Touched a moment ago by another thread, which is just putting memory there? */
    return state == CELL_TOUCHED || state == CELL_BROKEN;
}

/* Is it a page of ours that is in the file no more? Then there are zeros from there on. */
static bool answer_truncation(const siginfo_t *info)
{
    uintptr_t address = (uintptr_t)info->si_addr, from = address & ~(uintptr_t)(PAGE - 1);
    Region *region = info->si_code > 0 ? region_of(address) : NULL;
    if (region == NULL)
        return false;
    uintptr_t base = sp_load_relaxed(&region->base), end = base + region->size;
    uint64_t stride = region->cells ? region->stride : 0;
    Cell *cell = stride ? &region->cells[(address - base) / stride] : NULL;
    if (cell != NULL)
        end = base + ((address - base) / stride + 1) * stride;
    if (!put_zeros(from, end))
        return false;
    if (cell != NULL)
        sp_store_release(&cell->state, CELL_BROKEN);
    sp_store_release(&region->mapping->truncated, 1);
    note(region, cell, info->si_addr, TOUCH_TRUNCATED);
    return true;
}

/* --- those before us ------------------------------------------------------------------- */

typedef struct {
    sp_atomic_u64 thread; /* that is passing a fault on, 0: none */
    uint64_t depth;
    const void *frame; /* of its outermost call */
} Passing;

typedef struct {
    int signal;
    bool installed;
    sp_atomic_u64 count; /* of the actions before ours, the first is the oldest */
    struct sigaction before[ACTIONS];
    Passing passing[THREADS];
} Post;

static Post segv = {.signal = SIGSEGV}, bus = {.signal = SIGBUS};

/* The entry of this thread, a fresh one if it has none. NULL: a crowd. */
static Passing *passing_begin(Post *post, const void *frame)
{
    uint64_t thread = (uint64_t)syscall(SYS_gettid);
    Passing *mine = NULL;
    for (int i = 0; !mine && i < THREADS; i++)
        if (sp_load_relaxed(&post->passing[i].thread) == thread)
            mine = &post->passing[i];
    /* Was its call left by a longjmp? Then we are not within it, but above its frame. */
    if (mine != NULL && (uintptr_t)frame >= (uintptr_t)mine->frame)
        mine->depth = 0;
    for (int i = 0; !mine && i < THREADS; i++)
        if (sp_cas_acq_rel(&post->passing[i].thread, 0, thread))
            mine = &post->passing[i];
    if (mine == NULL)
        return NULL;
    if (mine->depth++ == 0)
        mine->frame = frame;
    return mine;
}

static void passing_end(Passing *mine)
{
    if (mine != NULL && --mine->depth == 0)
        sp_store_release(&mine->thread, 0);
}

/* It has nobody to go to: let the system do what it does, with this very instruction. */
static void step_aside(Post *post, const siginfo_t *info, const struct sigaction *to)
{
    sigaction(post->signal, to, NULL);
    post->installed = false;
    if (info->si_code <= 0)
        raise(post->signal); /* it was sent, no instruction will do it again */
}

static void call_before(Post *post, const struct sigaction *before, siginfo_t *info, void *context)
{
    sigset_t mask = before->sa_mask, old;
    if (!(before->sa_flags & SA_NODEFER))
        sigaddset(&mask, post->signal);
    pthread_sigmask(SIG_BLOCK, &mask, &old);
    if (before->sa_flags & SA_SIGINFO)
        before->sa_sigaction(post->signal, info, context);
    else
        before->sa_handler(post->signal);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
}

/* A handler that passes on in its turn comes back to us: then it is the turn of the one before. */
static void pass_on(Post *post, siginfo_t *info, void *context)
{
    Passing *mine = passing_begin(post, __builtin_frame_address(0));
    uint64_t count = sp_load_acquire(&post->count), depth = mine ? mine->depth : count + 1;
    const struct sigaction *before = &post->before[depth <= count ? count - depth : 0];
    bool nobody = before->sa_handler == SIG_DFL || before->sa_handler == SIG_IGN;
    if (nobody || depth > count)
        step_aside(post, info, before);
    else
        call_before(post, before, info, context);
    passing_end(mine);
}

static void on_segv(int Py_UNUSED(signal), siginfo_t *info, void *context)
{
    int error = errno;
    if (!answer_touch(info, context))
        pass_on(&segv, info, context);
    errno = error;
}

static void on_bus(int Py_UNUSED(signal), siginfo_t *info, void *context)
{
    int error = errno;
    if (!answer_truncation(info))
        pass_on(&bus, info, context);
    errno = error;
}

/* --- standing first -------------------------------------------------------------------- */

static bool same_action(const struct sigaction *one, const struct sigaction *two)
{
    return one->sa_sigaction == two->sa_sigaction;
}

/* One who is there already moves to the end, so that there are not more and more; but the
 * oldest, which is what the process began with, stays. */
static void remember(Post *post, const struct sigaction *action)
{
    uint64_t count = sp_load_relaxed(&post->count), at = count > 0;
    while (at < count && !same_action(&post->before[at], action))
        at++;
    if (at == ACTIONS)
        at = 1;
    for (; at + 1 < count; at++)
        post->before[at] = post->before[at + 1];
    post->before[at] = *action;
    sp_store_release(&post->count, at + 1);
}

/* See to it that ours is the handler in place: 0, or -1 with errno. */
static int stand_first(Post *post, void (*handler)(int, siginfo_t *, void *))
{
    struct sigaction now, ours = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    if (sigaction(post->signal, NULL, &now) < 0)
        return -1;
    post->installed = true;
    if (now.sa_sigaction == handler)
        return 0;
    remember(post, &now);
    sigemptyset(&ours.sa_mask);
    return sigaction(post->signal, &ours, NULL);
}

/* Called at every fence: others may have put theirs over ours since the last. */
int fence_install(void)
{
    return stand_first(&segv, on_segv);
}

int fence_install_truncation(void)
{
    return stand_first(&bus, on_bus);
}

/* --- raising --------------------------------------------------------------------------- */

static PyObject *touch_as_tuple(const Touch *touch)
{
    const Obituary *of = &touch->of;
    return Py_BuildValue("(isIKOssIKK)", (int)touch->kind, touch->pool, of->slot,
                         (unsigned long long)of->generation, of->borrowed ? Py_True : Py_False,
                         of->action ? of->action : "", of->site.file, of->site.line,
                         (unsigned long long)touch->offset, (unsigned long long)touch->thread);
}

/* Told of, and done with. Another thread may be in the middle of it, and go on touching for as
 * long as it likes: that is told once. */
static void touch_done(Touch *touch, uint64_t thread)
{
    if (touch->thread == thread && touch->kind != TOUCH_TRUNCATED)
        place_close_again(touch->region, touch->index);
    sp_store_release(&touch->state, NOTE_FREE);
}

/* All that this thread may tell of: the main thread of every touch, others of their own. */
static PyObject *collect(uint64_t thread)
{
    bool everything = thread == sp_load_relaxed(&main_thread);
    PyObject *list = PyList_New(0);
    for (int i = 0; list && i < TOUCHES; i++) {
        Touch *touch = &touches[i];
        if (sp_load_acquire(&touch->state) != NOTE_READY || !(everything || touch->thread == thread))
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
    PyObject *error = PyObject_CallOneArg(reporter, list);
    if (error != NULL)
        PyErr_SetObject((PyObject *)Py_TYPE(error), error);
    Py_XDECREF(error);
    return -1;
}

/* Raise what was touched and not told of yet: 0 for nothing, -1 with the exception. */
int touches_raise(void)
{
    if (LIKELY(!sp_load_acquire(&touches_pending)) || sp_load_relaxed(&held))
        return 0;
    uint64_t thread = (uint64_t)syscall(SYS_gettid);
    if (thread == sp_load_relaxed(&main_thread))
        sp_store_release(&touches_pending, 0);
    PyObject *list = collect(thread);
    int result = list ? raise_all(list) : -1;
    Py_XDECREF(list);
    return result;
}

static int report(void *Py_UNUSED(none))
{
    return touches_raise();
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
        Py_AddPendingCall(report, NULL);
    Py_RETURN_NONE;
}

static PyObject *py_set_reporter(PyObject *Py_UNUSED(module), PyObject *callable)
{
    Py_XSETREF(reporter, Py_NewRef(callable));
    Py_RETURN_NONE;
}

/* After somebody installed a handler of theirs: ours goes in front again, if it ever stood. */
static PyObject *py_stand_first(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none))
{
    bool failed = (segv.installed && fence_install() < 0) || (bus.installed && fence_install_truncation() < 0);
    return failed ? PyErr_SetFromErrno(PyExc_OSError) : Py_NewRef(Py_None);
}

static PyObject *py_watch_truncation(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none))
{
    return fence_install_truncation() < 0 ? PyErr_SetFromErrno(PyExc_OSError) : Py_NewRef(Py_None);
}

static void find_main_thread(void)
{
    sp_store_relaxed(&main_thread, (uint64_t)getpid()); /* on Linux its id is the process's */
}

static PyMethodDef functions[] = {
    {"raise_touches", py_raise_touches, METH_NOARGS, "Raise what was touched and not told of yet."},
    {"hold_touches", py_hold_touches, METH_O, "Let these errors wait, True, or no longer."},
    {"set_touch_reporter", py_set_reporter, METH_O, "Name what makes an exception of a list of touches."},
    {"watch_truncation", py_watch_truncation, METH_NOARGS, "Answer SIGBUS where memory of ours is gone."},
    {"stand_first", py_stand_first, METH_NOARGS, "Put our signal handlers in front again."},
    {NULL, NULL, 0, NULL},
};

int module_add_fence(PyObject *module)
{
    find_main_thread();
    if (pthread_atfork(NULL, NULL, find_main_thread) != 0)
        return -1;
    return PyModule_AddFunctions(module, functions);
}
