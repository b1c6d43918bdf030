/* What happens when something touches a fence, or memory that is no longer there.
 *
 * The handlers of SIGSEGV and SIGBUS run in whatever thread touched, with or without the GIL.
 * For an address of ours they put private memory where nothing was, note it, and the statement
 * goes on; the error is raised by a pending call of the interpreter, in the main thread. All
 * other faults are somebody else's: they go to whoever was there before us.
 *
 * What the handlers call: mmap, munmap, gettid and sigaction are system calls. Py_AddPendingCall takes
 * the lock of the interpreter's list, and is called for addresses of ours only: a thread that
 * touches a slot is not in the middle of that list, and no signal handler that adds to it
 * (CPython's, where its wake-up descriptor is full) comes in between, since all signals but
 * those of faults are blocked meanwhile. No handler waits for the GIL, so that who has it may
 * wait for the handlers. */
#include "touch.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

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

/* --- room for an answer ---------------------------------------------------------------- */

/* To open a cell takes up to two mappings more, where its neighbours are closed as well. A process
 * that has as many as the system allows, vm.max_map_count, gets them from here: there is a touch
 * to be told of, and a fence that cannot be put up is an error anyway. */
enum { SPARE_MAPPINGS = 8 };

static sp_atomic_u64 spare_mappings; /* where they are, 0: spent */

/* Called at every fence. Where it fails there are fewer of them, or none. */
void fence_spare_mappings(void)
{
    if (LIKELY(sp_load_relaxed(&spare_mappings)))
        return;
    uint8_t *base = mmap(NULL, SPARE_MAPPINGS * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED)
        return;
    for (int i = 1; i < SPARE_MAPPINGS; i += 2) /* what is protected otherwise is one of its own */
        mprotect(base + i * PAGE, PAGE, PROT_NONE);
    sp_store_release(&spare_mappings, (uint64_t)(uintptr_t)base);
}

static void spend_spare_mappings(void)
{
    uint64_t base = sp_load_acquire(&spare_mappings);
    if (base && sp_cas_acq_rel(&spare_mappings, base, 0))
        munmap((void *)(uintptr_t)base, SPARE_MAPPINGS * PAGE);
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

static bool put(uintptr_t from, size_t length, int flags, int fd, off_t offset)
{
    int all = MAP_PRIVATE | MAP_NORESERVE | MAP_FIXED | flags;
    if (mmap((void *)from, length, PROT_READ | PROT_WRITE, all, fd, offset) != MAP_FAILED)
        return true;
    if (errno != ENOMEM)
        return false;
    spend_spare_mappings(); /* or another thread has just done so */
    return mmap((void *)from, length, PROT_READ | PROT_WRITE, all, fd, offset) != MAP_FAILED;
}

static bool put_zeros(uintptr_t from, uintptr_t end)
{
    return put(from, end - from, MAP_ANONYMOUS, -1, 0);
}

/* The slot's bytes, but what is written to them is nobody else's. */
static bool put_private_file(const Region *plane, uint64_t offset, uintptr_t from)
{
    return put(from, plane->stride, 0, plane->mapping->slab_fd[plane->class], (off_t)offset);
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
        touch_note(plane, cell, (const void *)address, kind_of(context));
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
    if (region->expendable)
        return true;
    if (cell != NULL)
        sp_store_release(&cell->state, CELL_BROKEN);
    sp_store_release(&region->mapping->truncated, 1);
    touch_note(region, cell, info->si_addr, region->stride ? SLAB_GONE : CONTROL_GONE);
    return true;
}

/* --- between signals ------------------------------------------------------------------- */

static bool answer_signal(int signal, const siginfo_t *info, const void *context)
{
    answer_begin();
    bool answered = signal == SIGSEGV ? answer_touch(info, context) : answer_truncation(info);
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
bool fence_answer(int signal, const siginfo_t *info, const void *context)
{
    bool is_main = touches_in_main_thread();
    sigset_t old;
    if (is_main && !answer_signal(signal, info, context))
        return false;
    signals_block(&old);
    bool answered = is_main || answer_signal(signal, info, context);
    if (answered && sp_load_relaxed(&touches_pending))
        touches_ask();
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return answered;
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

static void after_fork_in_child(void)
{
    sp_store_relaxed(&answering, 0);
    touches_forget();
    sp_store_relaxed(&forking, 0);
}

int module_add_fence(PyObject *Py_UNUSED(module))
{
    return pthread_atfork(before_fork, after_fork, after_fork_in_child) == 0 ? 0 : -1;
}
