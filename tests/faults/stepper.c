/* Follow a forked process through one operation, and kill it at any chosen point of that.
 *
 * The process asks to be traced, and sends itself SIGSTOP before and after the operation.
 * A point is an instruction of the extension about to be executed, or a system call about
 * to be entered or just left. `step_record` goes through the operation instruction by
 * instruction, once, and lists the points; `step_kill_at` runs at full speed to one of them
 * and kills there. So n points cost n short runs, and not n*n/2 single steps.
 *
 * What is outside the extension (the interpreter, libc) runs at full speed even while
 * recording: the extension's code is made inaccessible meanwhile, and the fault says when
 * it is entered again, by whatever way.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#define BREAKPOINT UINT64_C(0xcc)
#define SYSTEM_CALL (UINT64_C(1) << 63) /* a point that is no address: the call's number */
#define CALL_STOP (SIGTRAP | 0x80)
#define FAILED (-1000) /* and less: -1000 - what waitpid said */

typedef struct {
    pid_t pid;
    uint64_t start, end; /* the extension's code */
    uint64_t call_at;    /* a syscall instruction somewhere in libc */
    bool barred;         /* the extension cannot be entered without a fault */
} tracee;

/* What it stopped with: a signal, CALL_STOP, or FAILED and less when it is no more. */
static int await(pid_t pid)
{
    int status;
    while (waitpid(pid, &status, __WALL) < 0)
        if (errno != EINTR)
            return FAILED;
    return WIFSTOPPED(status) ? WSTOPSIG(status) : FAILED - status;
}

static int go(pid_t pid, int how)
{
    return ptrace(how, pid, NULL, NULL) < 0 ? FAILED : await(pid);
}

static uint64_t where(pid_t pid)
{
    size_t at = offsetof(struct user_regs_struct, rip);
    return (uint64_t)ptrace(PTRACE_PEEKUSER, pid, (void *)at, NULL);
}

/* Killed, and gone: only then is its parent's next look at shared memory a look back. */
void step_kill(pid_t pid)
{
    kill(pid, SIGKILL);
    while (await(pid) > FAILED)
        ;
}

/* Give up on a process that did what was not expected. */
static long fail(pid_t pid, int stop)
{
    if (stop > FAILED)
        step_kill(pid);
    return stop > FAILED ? FAILED - stop : stop;
}

/* In the child: be traced by the parent's thread that forked, and do not outlive it. */
int step_trace_me(pid_t parent)
{
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
        return -1;
    if (getppid() != parent) /* dead already: it would be init that traces us, for ever */
        raise(SIGKILL);
    return (int)ptrace(PTRACE_TRACEME, 0, NULL, NULL);
}

/* A stop costs a fraction on one CPU of what it costs across two. */
int step_pin(void)
{
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET((size_t)sched_getcpu(), &one);
    return sched_setaffinity(0, sizeof one, &one);
}

/* Wait for the SIGSTOP that begins the operation: 0, or negative. */
long step_begin(pid_t pid)
{
    int stop = await(pid);
    while (stop == SIGCHLD) /* of a child of its own, which was part of the preparation */
        stop = go(pid, PTRACE_CONT);
    if (stop != SIGSTOP)
        return fail(pid, stop);
    return ptrace(PTRACE_SETOPTIONS, pid, NULL, (void *)PTRACE_O_TRACESYSGOOD) < 0 ? FAILED : 0;
}

/* Let the process do one mprotect of the extension's code, between two of its instructions. */
static int protect(tracee *t, int rights)
{
    struct user_regs_struct saved, registers;
    if (ptrace(PTRACE_GETREGS, t->pid, NULL, &saved) < 0)
        return FAILED;
    registers = saved;
    registers.rax = SYS_mprotect;
    registers.orig_rax = (uint64_t)-1;
    registers.rdi = t->start;
    registers.rsi = t->end - t->start;
    registers.rdx = (uint64_t)rights;
    registers.rip = t->call_at;
    if (ptrace(PTRACE_SETREGS, t->pid, NULL, &registers) < 0)
        return FAILED;
    int stop = go(t->pid, PTRACE_SINGLESTEP);
    if (stop != SIGTRAP)
        return stop;
    if (ptrace(PTRACE_GETREGS, t->pid, NULL, &registers) < 0 || registers.rax != 0)
        return FAILED;
    return ptrace(PTRACE_SETREGS, t->pid, NULL, &saved) < 0 ? FAILED : SIGTRAP;
}

static bool inside(const tracee *t, uint64_t address)
{
    return address >= t->start && address < t->end;
}

/* From outside to the next point or the end: SIGTRAP, CALL_STOP, SIGSTOP or what went wrong. */
static int run_outside(tracee *t)
{
    if (!t->barred) {
        int stop = protect(t, PROT_READ);
        if (stop != SIGTRAP)
            return stop;
        t->barred = true;
    }
    int stop = go(t->pid, PTRACE_SYSCALL);
    if (stop != SIGSEGV || !inside(t, where(t->pid)))
        return stop;
    t->barred = false;
    return protect(t, PROT_READ | PROT_EXEC);
}

static uint64_t point_here(const tracee *t, int stop)
{
    if (stop != CALL_STOP)
        return where(t->pid);
    size_t at = offsetof(struct user_regs_struct, orig_rax);
    return SYSTEM_CALL | (uint64_t)ptrace(PTRACE_PEEKUSER, t->pid, (void *)at, NULL);
}

/* The points of an operation in order, at most `room`; how many there are, and the process
 * is dead. Negative: it did something else. */
long step_record(pid_t pid, uint64_t start, uint64_t end, uint64_t *points, long room)
{
    tracee t = {.pid = pid, .start = start, .end = end, .call_at = where(pid) - 2};
    long count = 0;
    for (;;) {
        int stop = inside(&t, where(pid)) ? go(pid, PTRACE_SINGLESTEP) : run_outside(&t);
        if (stop == SIGSTOP)
            break;
        if (stop != SIGTRAP && stop != CALL_STOP)
            return fail(pid, stop);
        uint64_t here = point_here(&t, stop);
        if (stop == SIGTRAP && !inside(&t, here))
            continue;
        if (count < room)
            points[count] = here;
        count++;
    }
    step_kill(pid);
    return count;
}

/* Every instruction, wherever: slow. Not through run_outside, so without system calls. */
long step_record_all(pid_t pid, uint64_t *points, long room)
{
    long count = 0;
    int stop;
    while ((stop = go(pid, PTRACE_SINGLESTEP)) == SIGTRAP) {
        if (count < room)
            points[count] = where(pid);
        count++;
    }
    if (stop != SIGSTOP)
        return fail(pid, stop);
    step_kill(pid);
    return count;
}

static int to_call(pid_t pid, uint64_t occurrence)
{
    int stop = CALL_STOP;
    while (occurrence-- && stop == CALL_STOP)
        stop = go(pid, PTRACE_SYSCALL);
    return stop;
}

/* Over the instruction under the breakpoint, and on. */
static int pass(pid_t pid, uint64_t address, long code, long planted)
{
    size_t rip = offsetof(struct user_regs_struct, rip);
    ptrace(PTRACE_POKEUSER, pid, (void *)rip, (void *)address);
    ptrace(PTRACE_POKETEXT, pid, (void *)address, (void *)code);
    int stop = go(pid, PTRACE_SINGLESTEP);
    if (stop != SIGTRAP)
        return stop;
    ptrace(PTRACE_POKETEXT, pid, (void *)address, (void *)planted);
    /* An instruction that repeats itself is still there: one more time of it. */
    return where(pid) == address ? SIGTRAP : go(pid, PTRACE_CONT);
}

static int to_address(pid_t pid, uint64_t address, uint64_t occurrence)
{
    errno = 0;
    long code = ptrace(PTRACE_PEEKTEXT, pid, (void *)address, NULL);
    long planted = (long)(((uint64_t)code & ~UINT64_C(255)) | BREAKPOINT);
    if (errno || ptrace(PTRACE_POKETEXT, pid, (void *)address, (void *)planted) < 0)
        return FAILED;
    int stop = go(pid, PTRACE_CONT);
    while (stop == SIGTRAP && --occurrence)
        stop = pass(pid, address, code, planted);
    return stop;
}

/* Kill when the point is reached for the `occurrence`th time (a call: at that many stops):
 * 1, or 0 if the operation ended before. The process is dead. Negative: as above. */
long step_kill_at(pid_t pid, uint64_t point, uint64_t occurrence)
{
    bool call = point & SYSTEM_CALL;
    int stop = call ? to_call(pid, occurrence) : to_address(pid, point, occurrence);
    if (stop != SIGSTOP && stop != (call ? CALL_STOP : SIGTRAP))
        return fail(pid, stop);
    step_kill(pid);
    return stop != SIGSTOP;
}
