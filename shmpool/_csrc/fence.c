/* What happens when something touches a fence, or memory that is no longer there.
 *
 * The handlers of SIGSEGV and SIGBUS run in whatever thread touched, with or without the GIL.
 * For an address of ours they put private memory where nothing was, note it, and the statement
 * goes on; the error is raised by a pending call of the interpreter, in the main thread. All
 * other faults are somebody else's: they go to whoever was there before us.
 *
 * What the handlers call: mmap, gettid and sigaction are system calls. Py_AddPendingCall takes
 * the lock of the interpreter's list, and is called for addresses of ours only: a thread that
 * touches a slot is not in the middle of that list, and no signal handler that adds to it
 * (CPython's, where its wake-up descriptor is full) comes in between, since all signals but
 * those of faults are blocked meanwhile. No handler waits for the GIL, so that who has it may
 * wait for the handlers. */
#include "place.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

enum { PAGE = 4096, TOUCHES = 32, ACTIONS = 15, MOST_BEFORE = 8, THREADS = 64 };

/* --- who is answering ------------------------------------------------------------------ */

static sp_atomic_u64 answering, forking; /* how many threads are at it */

static void add(sp_atomic_u64 *to, uint64_t by)
{
    uint64_t now;
    do
        now = sp_load_seq_cst(to);
    while (!sp_cas_seq_cst(to, now, now + by));
}

/* F-answer pairs with F-settle: we are counted before we look at any region or cell. */
static void answer_begin(void)
{
    add(&answering, 1);
    while (sp_load_seq_cst(&forking)) {
        add(&answering, (uint64_t)-1);
        sched_yield();
        add(&answering, 1);
    }
}

static void answer_end(void)
{
    add(&answering, (uint64_t)-1);
}

/* F-settle: whoever still answers by what was there before has finished. No handler waits for
 * us, and none for the GIL. */
void answers_settle(void)
{
    for (int spins = 0; sp_load_seq_cst(&answering); spins++)
        if (spins < 100)
            sp_relax();
        else
            sched_yield();
}

/* --- notes of what was touched --------------------------------------------------------- */

typedef enum { NOTE_FREE = 0, NOTE_TAKEN, NOTE_READY } NoteState;
typedef enum { TOUCH_UNKNOWN = -1, TOUCH_READ = 0, TOUCH_WRITE = 1, SLAB_GONE = 2, CONTROL_GONE = 3 } TouchKind;

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
static sp_atomic_u64 main_thread, held, asked;
sp_atomic_u64 touches_pending;
static PyObject *reporter;

static int report(void *none);

/* One call in the interpreter's list is enough, which is short and not for us alone. If it is
 * full, the next touch asks again, and the next call into a pool tells. */
static void ask_to_report(void)
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

static void note(Region *region, const Cell *cell, const void *address, TouchKind kind)
{
    Touch *touch = touch_take();
    if (touch != NULL) {
        note_fill(touch, region, cell, (uintptr_t)address - sp_load_relaxed(&region->base));
        touch->kind = kind;
        sp_store_release(&touch->state, NOTE_READY);
    }
    sp_store_release(&touches_pending, 1);
}

/* --- answering ------------------------------------------------------------------------- */

static Region *region_of(uintptr_t address)
{
    for (Region *region = region_first(); region != NULL; region = region->next) {
        uint64_t base = sp_load_seq_cst(&region->base); /* F-look */
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
    CellState state = (CellState)sp_load_seq_cst(&cell->state);
    if (state == CELL_GUARDED)
        return answer_once(plane, cell, state, CELL_BROKEN, address, context);
    if (state == CELL_FENCED || state == CELL_VOID)
        return answer_once(plane, cell, state, CELL_TOUCHED, address, context);
    /* Is another thread just putting memory there, for a touch or for good? Then touch again. */
    return state == CELL_TOUCHED || state == CELL_BROKEN;
}

/* Is it a page of ours that is in the file no more? Then there are zeros from there on. */
static bool answer_truncation(const siginfo_t *info)
{
    uintptr_t address = (uintptr_t)info->si_addr, from = address & ~(uintptr_t)(PAGE - 1);
    /* Others than BUS_ADRERR are of broken memory: nobody should go on with that. */
    Region *region = info->si_code == BUS_ADRERR ? region_of(address) : NULL;
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
    note(region, cell, info->si_addr, region->stride ? SLAB_GONE : CONTROL_GONE);
    return true;
}

/* --- those before us ------------------------------------------------------------------- */

typedef struct {
    sp_atomic_u64 thread; /* that is passing a fault on, 0: none */
    uint64_t depth;
    const void *frame; /* of its outermost call */
} Passing;

typedef struct {
    struct sigaction action;
    sp_atomic_u64 spent; /* was for one signal, SA_RESETHAND, and has had it */
    bool of_faulthandler;
} Before;

/* The handlers read `order` once, and then actions that do not change as long as they are in
 * it. One that has left it is written over when all the other entries have been used. */
typedef struct {
    int signal;
    bool installed;
    sp_atomic_u64 order; /* numbers of entries, four bits each, the newest first; 0 ends it */
    uint64_t last;       /* the entry that was used last */
    Before before[ACTIONS + 1];
    Passing passing[THREADS];
} Post;

static Post segv = {.signal = SIGSEGV}, bus = {.signal = SIGBUS};

static bool thread_is_gone(uint64_t thread)
{
    return syscall(SYS_tgkill, getpid(), (pid_t)thread, 0) < 0 && errno == ESRCH;
}

static Passing *passing_of(Post *post, uint64_t thread)
{
    for (int i = 0; i < THREADS; i++)
        if (sp_load_relaxed(&post->passing[i].thread) == thread)
            return &post->passing[i];
    return NULL;
}

/* A free entry, or one whose thread has ended: its handler was left by a longjmp. */
static Passing *passing_take(Post *post, uint64_t thread)
{
    for (int i = 0; i < THREADS; i++)
        if (sp_cas_acq_rel(&post->passing[i].thread, 0, thread))
            return &post->passing[i];
    for (int i = 0; i < THREADS; i++) {
        uint64_t other = sp_load_relaxed(&post->passing[i].thread);
        if (thread_is_gone(other) && sp_cas_acq_rel(&post->passing[i].thread, other, thread)) {
            post->passing[i].depth = 0;
            return &post->passing[i];
        }
    }
    return NULL;
}

/* The entry of this thread, a fresh one if it has none. NULL: a crowd. */
static Passing *passing_begin(Post *post, const void *frame)
{
    uint64_t thread = (uint64_t)syscall(SYS_gettid);
    Passing *mine = passing_of(post, thread);
    /* Was its call left by a longjmp? Then we are not within it, but above its frame. */
    if (mine != NULL && (uintptr_t)frame >= (uintptr_t)mine->frame)
        mine->depth = 0;
    if (mine == NULL)
        mine = passing_take(post, thread);
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
static void step_aside(const Post *post, const siginfo_t *info, bool ignored)
{
    bool sent = info->si_code <= 0; /* by somebody: no instruction will do it again */
    if (sent && ignored)
        return;
    struct sigaction to = {.sa_handler = ignored ? SIG_IGN : SIG_DFL};
    sigaction(post->signal, &to, NULL);
    if (sent)
        raise(post->signal);
}

/* With the mask that the system would have set. */
static void call_before(const Post *post, const struct sigaction *before, siginfo_t *info, void *context)
{
    sigset_t mask, old;
    sigorset(&mask, &((const ucontext_t *)context)->uc_sigmask, &before->sa_mask);
    if (!(before->sa_flags & SA_NODEFER))
        sigaddset(&mask, post->signal);
    pthread_sigmask(SIG_SETMASK, &mask, &old);
    if (before->sa_flags & SA_SIGINFO)
        before->sa_sigaction(post->signal, info, context);
    else
        before->sa_handler(post->signal);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
}

/* The first before us is the newest, and so on. NULL: there are not so many. */
static Before *before_us(Post *post, uint64_t depth)
{
    uint64_t order = sp_load_acquire(&post->order); /* F-order */
    uint64_t number = depth <= MOST_BEFORE ? order >> 4 * (depth - 1) & 15 : 0;
    return number ? &post->before[number] : NULL;
}

/* Has it had the one signal that it was for? */
static bool is_spent(Before *before)
{
    return (before->action.sa_flags & (int)SA_RESETHAND) && !sp_cas_acq_rel(&before->spent, 0, 1);
}

/* A handler that passes on in its turn comes back to us: then it is the turn of the one before. */
static void pass_on(Post *post, siginfo_t *info, void *context)
{
    Passing *mine = passing_begin(post, __builtin_frame_address(0));
    Before *before = before_us(post, mine ? mine->depth : MOST_BEFORE + 1);
    bool ignored = before && before->action.sa_handler == SIG_IGN;
    if (before == NULL || ignored || before->action.sa_handler == SIG_DFL || is_spent(before))
        step_aside(post, info, ignored);
    else
        call_before(post, &before->action, info, context);
    passing_end(mine);
}

static bool answer_signal(const Post *post, const siginfo_t *info, const void *context)
{
    answer_begin();
    bool answered = post == &segv ? answer_touch(info, context) : answer_truncation(info);
    answer_end();
    return answered;
}

static void signals_block(sigset_t *old)
{
    static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT};
    sigset_t others;
    sigfillset(&others);
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++)
        sigdelset(&others, faults[i]);
    pthread_sigmask(SIG_BLOCK, &others, old);
}

/* Other signals wait, in the main thread for no longer than it takes to ask: what it blocks goes
 * to another thread, where CPython's handler finds nothing to do for it and takes away the mark
 * that makes the interpreter look at its list. */
static bool answer(const Post *post, const siginfo_t *info, const void *context)
{
    bool is_main = (uint64_t)syscall(SYS_gettid) == sp_load_relaxed(&main_thread);
    sigset_t old;
    if (is_main && !answer_signal(post, info, context))
        return false;
    signals_block(&old);
    bool answered = is_main || answer_signal(post, info, context);
    if (answered && sp_load_relaxed(&touches_pending))
        ask_to_report();
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return answered;
}

static void on_fault(Post *post, siginfo_t *info, void *context)
{
    int error = errno;
    if (!answer(post, info, context))
        pass_on(post, info, context);
    errno = error;
}

static void on_segv(int Py_UNUSED(signal), siginfo_t *info, void *context)
{
    on_fault(&segv, info, context);
}

static void on_bus(int Py_UNUSED(signal), siginfo_t *info, void *context)
{
    on_fault(&bus, info, context);
}

/* --- standing first -------------------------------------------------------------------- */

static bool same_handler(const struct sigaction *one, const struct sigaction *two)
{
    return one->sa_sigaction == two->sa_sigaction;
}

/* The order without those who may not stay, and so that there is room for one more. The oldest
 * does: it is what the process began with. */
static uint64_t order_without(const Post *post, uint64_t order, bool (*goes)(const Before *, const void *),
                              const void *what)
{
    uint64_t kept = 0;
    for (int count = 0; order; order >>= 4) {
        bool oldest = order < 16;
        if (oldest || (count < MOST_BEFORE - 2 && !goes(&post->before[order & 15], what)))
            kept |= (order & 15) << 4 * count++;
    }
    return kept;
}

static bool has_handler(const Before *before, const void *action)
{
    return same_handler(&before->action, action);
}

static bool is_of_faulthandler(const Before *before, const void *Py_UNUSED(nothing))
{
    return before->of_faulthandler;
}

static bool order_has(uint64_t order, uint64_t number)
{
    while (order && (order & 15) != number)
        order >>= 4;
    return order != 0;
}

/* Where an action stands already, or an entry that nobody has been in for the longest time. */
static uint64_t entry_for(Post *post, uint64_t order, const struct sigaction *action)
{
    for (uint64_t number = 1; number <= ACTIONS; number++)
        if (memcmp(&post->before[number].action, action, sizeof *action) == 0)
            return number;
    do
        post->last = post->last % ACTIONS + 1;
    while (order_has(order, post->last));
    post->before[post->last].action = *action;
    return post->last;
}

/* One who is there already moves to the front, so that there are not more and more. */
static void remember(Post *post, const struct sigaction *action, bool of_faulthandler)
{
    uint64_t order = sp_load_relaxed(&post->order), number = entry_for(post, order, action);
    sp_store_relaxed(&post->before[number].spent, 0);
    post->before[number].of_faulthandler = of_faulthandler;
    /* F-order: what is in the entry, then that it is one of those before us. */
    sp_store_release(&post->order, order_without(post, order, has_handler, action) << 4 | number);
}

/* See to it that ours is the handler in place: 0, or -1 with errno. */
static int stand_first(Post *post, bool after_faulthandler)
{
    struct sigaction now = {0}, ours = {.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    ours.sa_sigaction = post == &segv ? on_segv : on_bus;
    if (sigaction(post->signal, NULL, &now) < 0)
        return -1;
    post->installed = true;
    if (same_handler(&now, &ours))
        return 0;
    remember(post, &now, after_faulthandler);
    sigemptyset(&ours.sa_mask);
    return sigaction(post->signal, &ours, NULL);
}

/* Called at every fence: others may have put theirs over ours since the last. */
int fence_install(void)
{
    return stand_first(&segv, false);
}

int fence_install_truncation(void)
{
    return stand_first(&bus, false);
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
    PyObject *error = PyObject_CallOneArg(reporter, list);
    if (error != NULL)
        PyErr_SetObject((PyObject *)Py_TYPE(error), error);
    Py_XDECREF(error);
    return -1;
}

/* The main thread tells of every touch, others of their own. */
static int raise_some(bool everything)
{
    /* In the end, when modules have no names any more, nobody is told. */
    if (LIKELY(!sp_load_acquire(&touches_pending)) || sp_load_relaxed(&held) || !Py_IsInitialized())
        return 0;
    if (everything)
        sp_store_release(&touches_pending, 0);
    PyObject *list = collect((uint64_t)syscall(SYS_gettid), everything);
    if (list == NULL)
        sp_store_release(&touches_pending, 1); /* there may be more of them */
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
        ask_to_report();
    Py_RETURN_NONE;
}

static PyObject *py_set_reporter(PyObject *Py_UNUSED(module), PyObject *callable)
{
    Py_XSETREF(reporter, Py_NewRef(callable));
    Py_RETURN_NONE;
}

static PyObject *stand_first_again(bool after_faulthandler)
{
    bool failed = (segv.installed && stand_first(&segv, after_faulthandler) < 0) ||
                  (bus.installed && stand_first(&bus, after_faulthandler) < 0);
    return failed ? PyErr_SetFromErrno(PyExc_OSError) : Py_NewRef(Py_None);
}

/* After somebody installed a handler of theirs: ours goes in front again, if it ever stood. */
static PyObject *py_stand_first(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none))
{
    return stand_first_again(false);
}

static PyObject *py_faulthandler_enabled(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none))
{
    return stand_first_again(true);
}

static void forget_faulthandler(Post *post)
{
    uint64_t order = sp_load_relaxed(&post->order);
    sp_store_release(&post->order, order_without(post, order, is_of_faulthandler, NULL));
}

/* It restores what it found, which is us if it came later, and returns when it is called: the
 * instruction would fault for ever. */
static PyObject *py_faulthandler_disabled(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none))
{
    forget_faulthandler(&segv);
    forget_faulthandler(&bus);
    return stand_first_again(false);
}

static PyObject *py_watch_truncation(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none))
{
    return fence_install_truncation() < 0 ? PyErr_SetFromErrno(PyExc_OSError) : Py_NewRef(Py_None);
}

static void find_main_thread(void)
{
    sp_store_relaxed(&main_thread, (uint64_t)getpid()); /* on Linux its id is the process's */
}

/* A cell whose answer is half done would never be finished in the child. */
static void before_fork(void)
{
    add(&forking, 1);
    answers_settle();
}

static void after_fork(void)
{
    add(&forking, (uint64_t)-1);
}

/* What was touched in the parent is told there; here it is a fence like the others. */
static void after_fork_in_child(void)
{
    find_main_thread();
    sp_store_relaxed(&answering, 0);
    sp_store_relaxed(&held, 0);
    sp_store_relaxed(&asked, 0);
    sp_store_relaxed(&touches_pending, 0);
    for (int i = 0; i < TOUCHES; i++) {
        Touch *touch = &touches[i];
        if (sp_load_relaxed(&touch->state) == NOTE_READY && touch->kind < SLAB_GONE)
            place_close_again(touch->region, touch->index);
        sp_store_relaxed(&touch->state, NOTE_FREE);
    }
    sp_store_relaxed(&forking, 0);
}

static PyMethodDef functions[] = {
    {"raise_touches", py_raise_touches, METH_NOARGS, "Raise what was touched and not told of yet."},
    {"hold_touches", py_hold_touches, METH_O, "Let these errors wait, True, or no longer."},
    {"set_touch_reporter", py_set_reporter, METH_O, "Name what makes an exception of a list of touches."},
    {"watch_truncation", py_watch_truncation, METH_NOARGS, "Answer SIGBUS where memory of ours is gone."},
    {"stand_first", py_stand_first, METH_NOARGS, "Put our signal handlers in front again."},
    {"faulthandler_enabled", py_faulthandler_enabled, METH_NOARGS, "The same, after faulthandler.enable."},
    {"faulthandler_disabled", py_faulthandler_disabled, METH_NOARGS, "The same, after its disable."},
    {NULL, NULL, 0, NULL},
};

int module_add_fence(PyObject *module)
{
    find_main_thread();
    if (pthread_atfork(before_fork, after_fork, after_fork_in_child) != 0)
        return -1;
    return PyModule_AddFunctions(module, functions);
}
