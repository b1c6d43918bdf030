/* Who moves next: actors as coroutines, and depth-first through all choices by replay.
 *
 * A schedule is a list of choices; after one has run to its end the last choice that has an
 * alternative takes it. In the manner of VeriSoft (P. Godefroid, POPL 1997), with preemption
 * bounding (M. Musuvathi, S. Qadeer, PLDI 2007).
 *
 * An actor can be killed when it has just moved, or before it has moved at all: to kill it
 * later, after others have moved, comes to the same, since nobody sees its death before the
 * reaper runs, and when that is, is a choice anyway.
 */
#include "explorer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <ucontext.h>

enum { DEPTH = 4096, STACK = 1 << 16 };

typedef struct {
    ucontext_t start;
    jmp_buf top, at; /* where its body begins, and where it stands */
    bool made;
    _Alignas(16) char stack[STACK];
} Coroutine;

int running = NOBODY;
unsigned long executions;

static Coroutine coroutines[ACTORS];
static jmp_buf scheduler, beginning;
static int choice[DEPTH], options[DEPTH], depth, length;
static int kills_left, restarts_left, preemptions_left;

static void tell_schedule(void)
{
    printf(" after %lu executions, schedule", executions);
    for (int i = 0; i < depth; i++)
        printf(" %d/%d", choice[i], options[i]);
    printf("\n");
    memory_tell();
    for (int i = 0; i < MEMBERS; i++)
        if (members[i].dead)
            printf("  %c is dead\n", 'A' + i);
}

_Noreturn void fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    printf("FAIL ");
    vprintf(format, arguments);
    va_end(arguments);
    tell_schedule();
    exit(1);
}

_Noreturn void explore_again(void)
{
    _longjmp(beginning, 1);
}

void explore_turn(void)
{
    if (_setjmp(coroutines[running].at) == 0)
        _longjmp(scheduler, 1);
}

int explore_choose(int alternatives)
{
    if (depth == DEPTH)
        fail("no end");
    if (depth == length)
        choice[length++] = 0;
    options[depth] = alternatives;
    return choice[depth++];
}

/* --- coroutines --------------------------------------------------------------------- */

static void body(void)
{
    _setjmp(coroutines[running].top); /* the next execution comes back to here */
    if (running == REAPER)
        script_reap();
    else
        script_run(running, scenario.script[running]);
    members[running].leaving = kills_left > 0 && running != REAPER;
    members[running].done = !members[running].leaving;
    _longjmp(scheduler, 1);
}

static _Noreturn void first_entry(Coroutine *coroutine)
{
    coroutine->made = true;
    getcontext(&coroutine->start);
    coroutine->start.uc_stack.ss_sp = coroutine->stack;
    coroutine->start.uc_stack.ss_size = STACK;
    makecontext(&coroutine->start, body, 0);
    setcontext(&coroutine->start);
    abort();
}

/* Let an actor do what it stands before, and go on to its next turn. */
static void step(int actor)
{
    if (members[actor].leaving) {
        members[actor].done = true;
        return;
    }
    running = actor;
    if (_setjmp(scheduler) == 0)
        _longjmp(coroutines[actor].at, 1);
    running = NOBODY;
}

/* Let an actor go to its first turn: nobody can see how far it has come. */
static void begin(int actor)
{
    running = actor;
    members[actor].done = false;
    if (_setjmp(scheduler) == 0) {
        if (coroutines[actor].made)
            _longjmp(coroutines[actor].top, 1);
        first_entry(&coroutines[actor]);
    }
    running = NOBODY;
}

/* --- moves -------------------------------------------------------------------------- */

/* Members and reaper move; ACTORS + i kills member i; ACTORS + REAPER starts the reaper over. */
static void interrupt(int actor)
{
    if (actor == REAPER) {
        restarts_left--;
        begin(REAPER);
        return;
    }
    members[actor].dead = members[actor].done = true;
    kills_left--;
    if (members[REAPER].done)
        begin(REAPER);
}

/* The reaper is only started over for members whose entries it has not given back. */
static bool interruptible(int actor)
{
    if (members[actor].done)
        return false;
    return actor == REAPER ? restarts_left && script_to_reap() != NOBODY : kills_left > 0;
}

/* The choices at this point: go on with the last one first, then the others, then kills. When
 * it leaves, the others have their turn after that. */
static int candidates(int last, int *moves)
{
    int count = 0;
    bool going = last != NOBODY && !members[last].done;
    bool others = !going || (preemptions_left > 0 && !members[last].leaving);
    if (going)
        moves[count++] = last;
    for (int i = 0; i < ACTORS && others; i++)
        if (i != last && !members[i].done)
            moves[count++] = i;
    for (int i = 0; i < ACTORS; i++)
        if ((i == last || (last == NOBODY && i != REAPER)) && interruptible(i))
            moves[count++] = ACTORS + i;
    return count;
}

static void execute(void)
{
    int last = NOBODY, moves[2 * ACTORS];
    for (;;) {
        int count = candidates(last, moves);
        if (!count)
            return;
        int move = moves[count > 1 ? explore_choose(count) : 0];
        if (move >= ACTORS) {
            interrupt(move - ACTORS);
            continue;
        }
        if (last != NOBODY && move != last && !members[last].done)
            preemptions_left--;
        step(move);
        last = move;
    }
}

static void restart(void)
{
    depth = 0;
    kills_left = scenario.kills;
    restarts_left = scenario.restarts;
    preemptions_left = scenario.preemptions;
    memory_begin();
    ghost_begin();
    script_restart();
    for (int i = 0; i < scenario.members; i++)
        begin(i);
}

/* The next schedule: the last choice that has an alternative takes it. */
static bool advance(void)
{
    for (length = depth; length; length--)
        if (choice[length - 1] + 1 < options[length - 1]) {
            choice[length - 1]++;
            return true;
        }
    return false;
}

unsigned long explore_all(void)
{
    _setjmp(beginning); /* and again when a word turns out to be shared */
    running = NOBODY;
    executions = 0;
    length = 0;
    do {
        restart();
        execute();
        ghost_check();
        executions++;
    } while (advance());
    return executions;
}
