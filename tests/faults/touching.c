/* What Python cannot do: touch memory in a thread that has never seen Python, and install signal
 * handlers of every kind. Loaded by ctypes, which releases the GIL. */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* --- touching ---------------------------------------------------------------------------- */

typedef struct {
    volatile uint8_t *at;
    size_t length;
    int byte, stop;
    unsigned long rounds;
    pthread_t thread;
} Job;

static void write_all(Job *job)
{
    for (size_t i = 0; i < job->length; i++)
        job->at[i] = (uint8_t)job->byte;
}

static void *run_once(void *job)
{
    write_all(job);
    return NULL;
}

static void *run_on(void *argument)
{
    Job *job = argument;
    while (!__atomic_load_n(&job->stop, __ATOMIC_ACQUIRE)) {
        write_all(job);
        __atomic_add_fetch(&job->rounds, 1, __ATOMIC_RELEASE);
    }
    return NULL;
}

void touch(void *at)
{
    *(volatile uint8_t *)at = 9;
}

/* Write to memory in so many threads at once, and wait for them. */
void touch_in_threads(void *at, size_t length, int byte, int threads)
{
    Job jobs[16];
    for (int i = 0; i < threads; i++) {
        jobs[i] = (Job){.at = at, .length = length, .byte = byte};
        pthread_create(&jobs[i].thread, NULL, run_once, &jobs[i]);
    }
    for (int i = 0; i < threads; i++)
        pthread_join(jobs[i].thread, NULL);
}

/* Go on writing in a thread, until `hammer_end`. */
Job *hammer_begin(void *at, size_t length, int byte)
{
    Job *job = calloc(1, sizeof *job);
    *job = (Job){.at = at, .length = length, .byte = byte};
    pthread_create(&job->thread, NULL, run_on, job);
    return job;
}

unsigned long hammer_rounds(Job *job)
{
    return __atomic_load_n(&job->rounds, __ATOMIC_ACQUIRE);
}

void hammer_end(Job *job)
{
    __atomic_store_n(&job->stop, 1, __ATOMIC_RELEASE);
    pthread_join(job->thread, NULL);
    free(job);
}

static void *late;

static void touch_late(void)
{
    touch(late);
}

/* When Python is over. */
void touch_at_exit(void *at)
{
    late = at;
    atexit(touch_late);
}

/* --- Python's list of pending calls ---------------------------------------------------------- */

static int nothing(void *none)
{
    (void)none;
    return 0;
}

void touch_with_a_full_list(int (*add)(int (*)(void *), void *), void *at)
{
    while (add(nothing, NULL) == 0)
        ;
    touch(at);
}

/* --- handlers ---------------------------------------------------------------------------- */

static struct sigaction old_one, old_two;
static sigjmp_buf out;
static uint8_t *repairable;

static void say(const char *word)
{
    if (write(2, word, strlen(word)) < 0)
        _exit(99);
}

static void plain(int signal)
{
    say(signal == SIGSEGV ? "plain segv\n" : "plain bus\n");
    _exit(3);
}

static void informed(int signal, siginfo_t *info, void *context)
{
    say(signal == info->si_signo && context != NULL ? "informed\n" : "misinformed\n");
    say(info->si_code > 0 ? "a fault\n" : "sent\n");
    _exit(4);
}

static void once(int signal)
{
    (void)signal;
    say("once\n");
}

static void call(const struct sigaction *old, int signal, siginfo_t *info, void *context)
{
    if (old->sa_flags & SA_SIGINFO) {
        old->sa_sigaction(signal, info, context);
    } else if (old->sa_handler == SIG_DFL) {
        sigaction(signal, old, NULL);
        raise(signal);
    } else if (old->sa_handler != SIG_IGN) {
        old->sa_handler(signal);
    }
}

static void chain_one(int signal, siginfo_t *info, void *context)
{
    say("one\n");
    call(&old_one, signal, info, context);
}

static void chain_two(int signal, siginfo_t *info, void *context)
{
    say("two\n");
    call(&old_two, signal, info, context);
}

static void masks(int signal)
{
    sigset_t now;
    pthread_sigmask(SIG_BLOCK, NULL, &now);
    for (int other = 1; other < 32; other++)
        if (sigismember(&now, other) == 1)
            say((char[]){'0' + (char)(other / 10), '0' + (char)(other % 10), ' ', 0});
    say(signal ? "blocked\n" : "");
    _exit(5);
}

static void jump(int signal)
{
    (void)signal;
    siglongjmp(out, 1);
}

static void repair(int signal)
{
    (void)signal;
    mprotect(repairable, 4096, PROT_READ | PROT_WRITE);
}

static void install_one(int signal, void *handler, int flags, struct sigaction *old)
{
    struct sigaction action = {.sa_handler = (void (*)(int))handler, .sa_flags = flags};
    sigemptyset(&action.sa_mask);
    if (handler == (void *)masks)
        sigaddset(&action.sa_mask, SIGUSR2);
    sigaction(signal, &action, old);
}

void install(const char *kind, int signal)
{
    if (!strcmp(kind, "plain"))
        install_one(signal, (void *)plain, 0, NULL);
    if (!strcmp(kind, "informed"))
        install_one(signal, (void *)informed, SA_SIGINFO, NULL);
    if (!strcmp(kind, "once"))
        install_one(signal, (void *)once, (int)SA_RESETHAND, NULL);
    if (!strcmp(kind, "chain") || !strcmp(kind, "chains"))
        install_one(signal, (void *)chain_one, SA_SIGINFO | SA_NODEFER, &old_one);
    if (!strcmp(kind, "chains"))
        install_one(signal, (void *)chain_two, SA_SIGINFO, &old_two);
    if (!strcmp(kind, "masks"))
        install_one(signal, (void *)masks, 0, NULL);
    if (!strcmp(kind, "jump"))
        install_one(signal, (void *)jump, 0, NULL);
    if (!strcmp(kind, "repair"))
        install_one(signal, (void *)repair, 0, NULL);
    if (!strcmp(kind, "ignored"))
        install_one(signal, (void *)SIG_IGN, 0, NULL);
    if (!strcmp(kind, "default"))
        install_one(signal, (void *)SIG_DFL, 0, NULL);
}

/* Was there a fault, and did the handler jump out of it? */
int touch_or_jump(void *at)
{
    if (sigsetjmp(out, 1))
        return 1;
    touch(at);
    return 0;
}

static void *jump_in_thread(void *at)
{
    return (void *)(intptr_t)touch_or_jump(at);
}

int jump_in_threads(void *at, int times)
{
    int jumps = 0;
    for (int i = 0; i < times; i++) {
        pthread_t thread;
        void *jumped;
        pthread_create(&thread, NULL, jump_in_thread, at);
        pthread_join(thread, &jumped);
        jumps += (int)(intptr_t)jumped;
    }
    return jumps;
}

uint8_t *memory_to_repair(void)
{
    return repairable = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static void *crash_thread(void *at)
{
    touch(at);
    return NULL;
}

void crash_in_thread(void *at)
{
    pthread_t thread;
    pthread_create(&thread, NULL, crash_thread, at);
    pthread_join(thread, NULL);
}

/* Without an end, for a depth that is not 0. */
__attribute__((noinline)) int overflow(int depth)
{
    volatile char frame[1024];
    frame[0] = (char)depth;
    return depth ? overflow(depth + 2) + frame[0] : 0;
}
