/* Every interleaving, and every kill, of two processes and the reaper over the real core.
 *
 *   explorer SCRIPT_1 SCRIPT_2 QUEUED WRAP KILLS PREEMPTIONS
 *
 * A script is a string of operations: a acquire, r release, p put, g get, d detach,
 * c claim what was detached. QUEUED tickets wait at the start, head and tail stand at
 * WRAP. Depth-first over schedules by replay: a schedule is a list of choices, each a
 * process to step or to kill; after one has run to its end the last choice that has an
 * alternative takes it. Prints the number of executions, or the schedule that failed.
 *
 * In the manner of VeriSoft (P. Godefroid, POPL 1997), with preemption bounding
 * (M. Musuvathi, S. Qadeer, PLDI 2007).
 */
#define SP_ATOMIC_HOOKS "explore_hooks.h"
#include "sp_reap.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

enum { SLOTS = 2, ACTORS = 2, REAPER = ACTORS, ALL = ACTORS + 1, DEPTH = 4096, STACK = 1 << 16 };
enum { COORDINATOR = 1, FIRST_MEMBER = 2, QUEUE = 1 };

typedef struct {
    const char *script;
    sp_pool pool;
    sp_right held[SLOTS];
    int count;
    uint64_t ticket;
    bool done, dead;
    ucontext_t start;
    jmp_buf at;
    bool begun;
    char stack[STACK];
} Actor;

static Actor actors[ALL];
static jmp_buf scheduler;
static int running;
static _Alignas(64) uint8_t block[1 << 16], fresh[1 << 16];
static sp_geometry geometry;
static bool reaped[ACTORS];
static int owner_of[SLOTS]; /* shadow: actor + 1 */
static int kills_left, preemptions_left;
static int choice[DEPTH], options[DEPTH], depth, length;
static unsigned long executions;

static void fail(const char *what)
{
    printf("FAIL %s after %lu executions, schedule", what, executions);
    for (int i = 0; i < depth; i++)
        printf(" %d/%d", choice[i], options[i]);
    printf("\n");
    exit(1);
}

void explore_turn(void)
{
    if (running < 0)
        return; /* setting up or checking: nobody else is there */
    if (_setjmp(actors[running].at) == 0)
        _longjmp(scheduler, 1);
}

static void own(int actor, const sp_right *right)
{
    int owner = owner_of[right->slot];
    if (owner && !actors[owner - 1].dead)
        fail("two owners");
    owner_of[right->slot] = actor + 1;
}

static void take(Actor *self, sp_result result, const sp_right *right)
{
    if (result == SP_CORRUPT)
        fail("a sound block called corrupted");
    if (result != SP_OK)
        return;
    own((int)(self - actors), right);
    self->held[self->count++] = *right;
}

static sp_right give(Actor *self)
{
    sp_right right = self->held[--self->count];
    owner_of[right.slot] = 0;
    return right;
}

static void operate(Actor *self, char operation)
{
    sp_right right;
    switch (operation) {
    case 'a':
        take(self, sp_acquire(&self->pool, 0, 0, &right), &right);
        break;
    case 'g':
        take(self, sp_get(&self->pool, QUEUE, 0, &right), &right);
        break;
    case 'c':
        if (self->ticket)
            take(self, sp_claim(&self->pool, self->ticket, 0, &right), &right);
        break;
    default:
        if (!self->count)
            return;
        right = give(self);
        sp_result result = operation == 'r'   ? sp_release(&self->pool, &right)
                           : operation == 'p' ? sp_put(&self->pool, &right, QUEUE, 0)
                                              : sp_detach(&self->pool, &right, 0, &self->ticket);
        if (result != SP_OK)
            fail("a right that was held is stale");
    }
}

static void reap(Actor *self, int dead)
{
    uint32_t member = FIRST_MEMBER + (uint32_t)dead;
    for (uint32_t slot = 0; slot < SLOTS; slot++)
        if (sp_reap_slot(&self->pool, slot, member) == SP_REAP_DETACHED)
            sp_slot_end(&self->pool, slot, self->pool.slots[slot].word); /* nobody knows it */
    for (uint32_t slot = 0; slot < SLOTS; slot++)
        sp_reap_show(&self->pool, slot);
}

static void body(int number)
{
    Actor *self = &actors[number];
    for (const char *o = self->script; *o; o++)
        operate(self, *o);
    /* Twice: another may have died while the first was being reaped. */
    for (int i = 0; number == REAPER && i < 2 * ACTORS; i++)
        if (actors[i % ACTORS].dead && !reaped[i % ACTORS]) {
            reaped[i % ACTORS] = true;
            reap(self, i % ACTORS);
        }
    self->done = true;
    _longjmp(scheduler, 1);
}

/* Let one actor run to its next turn. */
static void step(int number)
{
    running = number;
    if (_setjmp(scheduler) == 0) {
        Actor *actor = &actors[number];
        if (actor->begun)
            _longjmp(actor->at, 1);
        actor->begun = true;
        setcontext(&actor->start);
    }
    running = -1;
}

static void bind_pool(sp_pool *pool, uint32_t member)
{
    memset(pool, 0, sizeof *pool);
    pool->geometry = geometry;
    pool->me = member;
    sp_pool_bind(pool, block);
}

static void prepare(int queued, uint64_t wrap)
{
    geometry = (sp_geometry){.classes = 1, .queues = 1, .members = ALL};
    geometry.of_class[0] =
        (sp_class_geometry){.slot_size = 64, .stride = 64, .count = SLOTS, .max_count = SLOTS};
    sp_layout(&geometry);
    if (geometry.total_size > sizeof block)
        abort();
    sp_pool pool;
    running = -1;
    bind_pool(&pool, COORDINATOR);
    for (uint32_t slot = 0; slot < SLOTS; slot++) {
        pool.slots[slot].word = sp_word(SP_FREE, SP_NOBODY, SP_NO_QUEUE, SP_GENERATION_FIRST);
        sp_slot_give(&pool, slot);
    }
    sp_right right;
    for (uint64_t i = 0; i < wrap; i++) /* a lap of dead cells */
        if (sp_acquire(&pool, 0, 0, &right) || sp_put(&pool, &right, QUEUE, 0) ||
            sp_get(&pool, QUEUE, 0, &right) || sp_release(&pool, &right))
            abort();
    for (int i = 0; i < queued; i++)
        if (sp_acquire(&pool, 0, 0, &right) || sp_put(&pool, &right, QUEUE, 0))
            abort();
    memcpy(fresh, block, geometry.total_size);
}

static void restart(int kills, int preemptions)
{
    memcpy(block, fresh, geometry.total_size);
    memset(owner_of, 0, sizeof owner_of);
    memset(reaped, 0, sizeof reaped);
    kills_left = kills;
    preemptions_left = preemptions;
    depth = 0;
    for (int i = 0; i < ALL; i++) {
        Actor *actor = &actors[i];
        actor->count = 0;
        actor->ticket = 0;
        actor->done = i == REAPER;
        actor->dead = actor->begun = false;
    }
}

static int choose(int alternatives)
{
    if (depth == DEPTH)
        fail("no end");
    if (depth == length)
        choice[length++] = 0;
    options[depth] = alternatives;
    return choice[depth++];
}

static void kill_actor(int number)
{
    actors[number].dead = actors[number].done = true;
    kills_left--;
    if (actors[REAPER].done)
        actors[REAPER].done = actors[REAPER].begun = false;
}

/* The choices at this point: go on with the last one first, then the others, then kills. */
static int candidates(int last, int *moves)
{
    int count = 0;
    bool going = last >= 0 && !actors[last].done;
    if (going)
        moves[count++] = last;
    for (int i = 0; i < ALL; i++)
        if (i != last && !actors[i].done && (!going || preemptions_left > 0))
            moves[count++] = i;
    for (int i = 0; i < ACTORS && kills_left; i++)
        if (!actors[i].done)
            moves[count++] = ALL + i;
    return count;
}

static void execute(void)
{
    int last = -1, moves[ALL + ACTORS];
    for (;;) {
        int count = candidates(last, moves);
        if (!count)
            return;
        int move = moves[choose(count)];
        if (move >= ALL) {
            kill_actor(move - ALL);
            continue;
        }
        if (last >= 0 && move != last && !actors[last].done)
            preemptions_left--;
        step(move);
        last = move;
    }
}

/* After the last step: what is held is released, what is queued is taken, and then every
 * slot is free, can be leased once, and no more. */
static void check(void)
{
    sp_pool pool;
    bind_pool(&pool, COORDINATOR);
    for (int i = 0; i < ACTORS; i++)
        while (!actors[i].dead && actors[i].count) {
            sp_right right = give(&actors[i]);
            if (sp_release(&actors[i].pool, &right) != SP_OK)
                fail("a right that was held is stale");
        }
    sp_right right;
    while (sp_get(&pool, QUEUE, 0, &right) == SP_OK)
        if (sp_release(&pool, &right) != SP_OK)
            fail("a right that was got is stale");
    for (int i = 0; i < ACTORS; i++)
        if (!actors[i].dead && actors[i].ticket && sp_claim(&pool, actors[i].ticket, 0, &right) == SP_OK)
            sp_release(&pool, &right);
    for (uint32_t slot = 0; slot < SLOTS; slot++)
        if (sp_word_state(pool.slots[slot].word) != SP_FREE)
            fail("a slot is lost");
    for (int i = 0; i <= SLOTS; i++)
        if ((sp_acquire(&pool, 0, 0, &right) == SP_OK) != (i < SLOTS))
            fail("the free map lies");
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

static void set_up_actor(int number, const char *script)
{
    Actor *actor = &actors[number];
    actor->script = script;
    bind_pool(&actor->pool, number == REAPER ? COORDINATOR : FIRST_MEMBER + (uint32_t)number);
    getcontext(&actor->start);
    actor->start.uc_stack.ss_sp = actor->stack;
    actor->start.uc_stack.ss_size = STACK;
    makecontext(&actor->start, (void (*)(void))body, 1, number);
}

int main(int argc, char **argv)
{
    if (argc != 7)
        return 2;
    prepare(atoi(argv[3]), (uint64_t)atoi(argv[4]));
    do {
        for (int i = 0; i < ALL; i++)
            set_up_actor(i, i == REAPER ? "" : argv[1 + i]);
        restart(atoi(argv[5]), atoi(argv[6]));
        execute();
        check();
        executions++;
    } while (advance());
    printf("%lu executions\n", executions);
    return 0;
}
