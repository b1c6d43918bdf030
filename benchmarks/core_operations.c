/* The core's operations, to be counted: no Python, nobody else, nothing that has to wait.
 *
 *     core_operations TURNS ROUNDS
 *
 * For each operation: ten times as many turns that do not count, and then, in each round, so many
 * and twice as many. After each of these stands a getppid(), by which callgrind is told to write
 * down what it has counted. Prints the names, in order.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "sp_history.h"
#include "sp_reap.h"
#include "sp_wait.h"

enum { NOW = 1, ME = 1, DEAD = 2, JOBS = 1, QUEUES = 1, MEMBERS = 255 };

/* --- pools -------------------------------------------------------------------------------- */

typedef struct {
    uint32_t classes, slots_each, history;
} Shape;

static sp_pool small, classes, large, noted;

static void format_class(sp_pool *pool, uint32_t class)
{
    for (uint32_t i = 0; i < pool->geometry.of_class[class].max_count; i++) {
        uint32_t slot = pool->geometry.of_class[class].first + i;
        pool->slots[slot].word = sp_word(SP_FREE, SP_NOBODY, SP_NO_QUEUE, SP_GENERATION_FIRST);
        sp_slot_give(pool, slot);
    }
}

static void format(sp_pool *pool, Shape shape)
{
    sp_geometry *g = &pool->geometry;
    *g = (sp_geometry){.classes = shape.classes, .queues = QUEUES, .members = MEMBERS, .history = shape.history};
    for (uint32_t i = 0; i < shape.classes; i++)
        g->of_class[i] = (sp_class_geometry){.slot_size = 4096u << i, .stride = 4096u << i,
                                             .count = shape.slots_each, .max_count = shape.slots_each};
    sp_layout(g);
    void *block = aligned_alloc(SP_LINE, sp_up(g->total_size, SP_LINE));
    if (!block)
        abort();
    memset(block, 0, g->total_size);
    sp_pool_bind(pool, block);
    pool->me = ME;
    for (uint32_t i = 0; i < shape.classes; i++)
        format_class(pool, i);
    sp_reader_take(pool);
}

/* What went wrong would be counted as something else. */
static void demand(bool so)
{
    if (!so)
        abort();
}

static sp_right acquired(sp_pool *pool, uint32_t class)
{
    sp_right right;
    demand(sp_acquire(pool, class, NOW, &right) == SP_OK);
    return right;
}

static void released(sp_pool *pool, sp_right right)
{
    demand(sp_release(pool, &right) == SP_OK);
}

static void prepare(void)
{
    format(&small, (Shape){.classes = 1, .slots_each = 8});
    format(&classes, (Shape){.classes = 3, .slots_each = 8});
    format(&noted, (Shape){.classes = 1, .slots_each = 8, .history = 16});
    format(&large, (Shape){.classes = 1, .slots_each = SP_MAX_SLOTS});
    for (uint32_t i = 0; i < SP_MAX_SLOTS / 2; i++)
        acquired(&large, 0);
}

/* --- operations --------------------------------------------------------------------------- */

static void nothing(void)
{
}

static void acquire_release(void)
{
    released(&small, acquired(&small, 0));
}

static void acquire_release_of_65535_half_held(void)
{
    released(&large, acquired(&large, 0));
}

static void acquire_release_third_class(void)
{
    released(&classes, acquired(&classes, sp_pool_fitting(&classes, 16384)));
}

static void acquire_release_noted(void)
{
    static const sp_note note = {.event = SP_WAS_LEASED, .name = "worker", .file = "worker.py"};
    sp_right right = acquired(&noted, 0);
    sp_history_note(&noted, right.slot, &note);
    released(&noted, right);
    sp_history_note(&noted, right.slot, &note);
}

static void acquire_put_get_release(void)
{
    sp_right right = acquired(&small, 0);
    demand(sp_put(&small, &right, JOBS, NOW) == SP_OK);
    demand(sp_get(&small, JOBS, NOW, &right) == SP_OK);
    released(&small, right);
}

static void get_from_empty(void)
{
    sp_right right;
    demand(sp_get(&small, JOBS, NOW, &right) == SP_EMPTY);
}

static void acquire_detach_claim_release(void)
{
    uint64_t ticket;
    sp_right right = acquired(&small, 0);
    demand(sp_detach(&small, &right, NOW, &ticket) == SP_OK);
    demand(sp_claim(&small, ticket, NOW, &right) == SP_OK);
    released(&small, right);
}

static void acquire_share_borrow_return_release(void)
{
    uint64_t ticket;
    sp_right right = acquired(&small, 0);
    demand(sp_share(&small, &right, &ticket) == SP_OK);
    demand(sp_borrow(&small, ticket) == SP_OK);
    sp_give_back(&small, right.slot, small.reader - 1);
    demand(sp_shared_end(&small, right.slot, right.word));
}

static void acquire_share_peek_release(void)
{
    uint64_t ticket;
    sp_right right = acquired(&small, 0);
    demand(sp_share(&small, &right, &ticket) == SP_OK);
    demand(sp_peek_end(&small, ticket, sp_peek_begin(&small, ticket)));
    demand(sp_shared_end(&small, right.slot, right.word));
}

static void acquire_move_release(void)
{
    sp_right right = acquired(&classes, 0), heir = acquired(&classes, 1);
    demand(sp_inherit(&classes, &heir, &right) == SP_OK);
    released(&classes, right);
    released(&classes, heir);
}

static void stale_release(void)
{
    const sp_right over = {.slot = 0, .word = sp_word(SP_LEASED, ME, SP_NO_QUEUE, 0)};
    demand(sp_release(&small, &over) == SP_STALE);
}

static void nobody_to_ring(void)
{
    demand(!sp_wait_any(small.class_states[0].waiting));
}

static void ring_one(void)
{
    sp_atomic_u64 *mask = small.class_states[0].waiting;
    sp_wait_begin(mask, ME);
    demand(sp_wait_next(mask, ME) == ME);
}

static void acquire_die_reap(void)
{
    small.me = DEAD;
    sp_right right = acquired(&small, 0);
    small.me = ME;
    demand(sp_reap_slot(&small, right.slot, DEAD) == SP_REAP_FREED);
}

typedef void (*Operation)(void);

static const struct {
    const char *name;
    Operation run;
} operations[] = {
    {"nothing", nothing},
    {"acquire, release", acquire_release},
    {"acquire, release, 65,535 slots half held", acquire_release_of_65535_half_held},
    {"acquire, release, third class", acquire_release_third_class},
    {"acquire, release, with a history", acquire_release_noted},
    {"acquire, put, get, release", acquire_put_get_release},
    {"get from an empty queue", get_from_empty},
    {"acquire, detach, claim, release", acquire_detach_claim_release},
    {"acquire, share, borrow, return, release", acquire_share_borrow_return_release},
    {"acquire, share, peek, release", acquire_share_peek_release},
    {"acquire two, move, release both", acquire_move_release},
    {"release what is over", stale_release},
    {"look for sleepers, none", nobody_to_ring},
    {"sleep, and be found", ring_one},
    {"acquire, die, be reaped", acquire_die_reap},
};

/* --- turns -------------------------------------------------------------------------------- */

static void turn(Operation volatile *operation, unsigned long turns)
{
    for (unsigned long i = 0; i < turns; i++)
        (*operation)();
    getppid();
}

int main(int count, char **args)
{
    if (count != 3)
        return 2;
    unsigned long turns = strtoul(args[1], NULL, 10), rounds = strtoul(args[2], NULL, 10);
    prepare();
    for (size_t i = 0; i < sizeof operations / sizeof *operations; i++) {
        Operation volatile operation = operations[i].run; /* not to be known, and inlined */
        turn(&operation, 10 * turns);
        for (unsigned long round = 0; round < rounds; round++) {
            turn(&operation, turns);
            turn(&operation, 2 * turns);
        }
        puts(operations[i].name);
    }
    return 0;
}
