/* SIGSEGV and SIGBUS: ours are answered, all others go to whoever was there before us, and we
 * stay in front of those who come later. */
#include "touch.h"

#include <errno.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

enum { ACTIONS = 15, MOST_BEFORE = 8, THREADS = 64 };

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

static void on_fault(Post *post, siginfo_t *info, void *context)
{
    int error = errno;
    if (!fence_answer(post->signal, info, context))
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
    fence_spare_mappings();
    return stand_first(&segv, false);
}

int fence_install_truncation(void)
{
    return stand_first(&bus, false);
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

static PyMethodDef functions[] = {
    {"watch_truncation", py_watch_truncation, METH_NOARGS, "Answer SIGBUS where memory of ours is gone."},
    {"stand_first", py_stand_first, METH_NOARGS, "Put our signal handlers in front again."},
    {"faulthandler_enabled", py_faulthandler_enabled, METH_NOARGS, "The same, after faulthandler.enable."},
    {"faulthandler_disabled", py_faulthandler_disabled, METH_NOARGS, "The same, after its disable."},
    {NULL, NULL, 0, NULL},
};

int module_add_handlers(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
