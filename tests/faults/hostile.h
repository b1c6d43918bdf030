/* A small pool in a block of its own, every operation of the core upon it, and what must hold.
 *
 * For whoever changes the block under the operations: hostile.c byte by byte, fuzz_core.c as a
 * fuzzer likes. Whatever stands in shared memory, an operation ends after a bounded number of
 * steps, touches nothing but the shared tables, says one of its results, and names a slot that
 * the pool has. Between the tables lie `gap` bytes that nobody may touch, and neither may the
 * static part or the sheets, which are not the core's.
 */
#ifndef HOSTILE_H
#define HOSTILE_H

#define SP_RING_PATIENCE_BASE 0
#include "sp_reap.h"
#include "sp_wait.h"

#include <sanitizer/asan_interface.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { COORDINATOR = 1, WORKER = 2, HELPER = 3, DYING = 4, MEMBERS = 4 };
enum { MANY = 0, GROWABLE = 1, FEW = 2, CLASSES = 3 };
enum { JOBS = 1, LETTERS = 2, QUEUES = 2 };
enum { RIGHTS = 64, TICKETS = 32, BORROWS = 64, TABLES = 16 };

typedef struct {
    const char *name;
    uint64_t at, size;
} Table;

typedef struct {
    uint32_t member, slot;
} Borrow;

/* What members keep to themselves: no hostile hand reaches it. */
typedef struct {
    sp_right rights[RIGHTS];
    uint64_t tickets[TICKETS];
    Borrow borrows[BORROWS];
    uint32_t right_count, ticket_count, borrow_count;
} Notes;

typedef struct {
    sp_geometry geometry;
    uint8_t *block, *sound; /* the memory, and what stands in it while all is well */
    Table tables[TABLES];   /* the shared ones, which the core may touch */
    uint32_t table_count;
    sp_pool *handles[MEMBERS + 1], *sound_handles[MEMBERS + 1];
    Notes notes, sound_notes;
} World;

static void demand(bool holds, const char *rule)
{
    if (holds)
        return;
    fprintf(stderr, "BROKEN RULE: %s\n", rule);
    abort();
}

/* --- memory ---------------------------------------------------------------------------- */

static void world_table(World *world, const char *name, uint64_t at, uint64_t size)
{
    demand(world->table_count < TABLES, "a place for each table");
    world->tables[world->table_count++] = (Table){name, at, size};
}

static void world_list_tables(World *world)
{
    const sp_geometry *g = &world->geometry;
    world_table(world, "status", g->status, sizeof(sp_status));
    world_table(world, "readers", g->readers, SP_MAX_READERS * sizeof(sp_atomic_u64));
    world_table(world, "class states", g->class_states, g->classes * sizeof(sp_class_state));
    world_table(world, "queue states", g->queue_states, g->queues * sizeof(sp_queue_state));
    world_table(world, "members", g->member_table, (g->members + 1) * sizeof(sp_member));
    for (uint32_t i = 0; i < g->classes; i++) {
        const sp_class_geometry *c = &g->of_class[i];
        world_table(world, "free map", c->map, c->map_words * sizeof(sp_atomic_u64));
        if (c->summary_words)
            world_table(world, "summary", c->summary, c->summary_words * sizeof(sp_atomic_u64));
    }
    world_table(world, "rings", g->rings, (uint64_t)g->queues * g->ring_cells * sizeof(sp_atomic_u64));
    world_table(world, "slots", g->slot_table, g->slots * sizeof(sp_slot));
}

/* Push the tables apart: the k-th by k gaps. */
static void world_spread(sp_geometry *g, uint64_t gap)
{
    uint64_t *starts[TABLES + 8], by = 0, count = 0;
    starts[count++] = &g->status;
    starts[count++] = &g->readers;
    starts[count++] = &g->class_states;
    starts[count++] = &g->queue_states;
    starts[count++] = &g->member_table;
    for (uint32_t i = 0; i < g->classes; i++) {
        starts[count++] = &g->of_class[i].map;
        starts[count++] = &g->of_class[i].summary;
    }
    starts[count++] = &g->rings;
    starts[count++] = &g->slot_table;
    starts[count++] = &g->sheets;
    starts[count++] = &g->history_table;
    starts[count++] = &g->total_size;
    for (uint64_t i = 0; i < count; i++)
        *starts[i] += by += gap;
}

/* Forbid all of the block, then allow the tables. */
static void world_fence(World *world)
{
    ASAN_POISON_MEMORY_REGION(world->block, world->geometry.total_size);
    for (uint32_t i = 0; i < world->table_count; i++)
        ASAN_UNPOISON_MEMORY_REGION(world->block + world->tables[i].at, world->tables[i].size);
}

static void copy_tables(const World *world, uint8_t *to, const uint8_t *from)
{
    for (uint32_t i = 0; i < world->table_count; i++)
        memcpy(to + world->tables[i].at, from + world->tables[i].at, world->tables[i].size);
}

static void copy_handles(sp_pool *const *to, sp_pool *const *from)
{
    /* Geometry and tables never change: what is behind them does. */
    size_t from_here = offsetof(sp_pool, reuse);
    for (uint32_t i = 1; i <= MEMBERS; i++)
        memcpy((char *)to[i] + from_here, (const char *)from[i] + from_here, sizeof(sp_pool) - from_here);
}

/* Everything as it was before the hostile hand, and before the operations. */
static void world_restore(World *world)
{
    copy_tables(world, world->block, world->sound);
    copy_handles(world->handles, world->sound_handles);
    world->notes = world->sound_notes;
}

static void world_keep(World *world)
{
    copy_tables(world, world->sound, world->block);
    copy_handles(world->sound_handles, world->handles);
    world->sound_notes = world->notes;
}

/* --- notes ------------------------------------------------------------------------------- */

static void note_ticket(World *world, uint64_t ticket)
{
    if (world->notes.ticket_count < TICKETS)
        world->notes.tickets[world->notes.ticket_count++] = ticket;
}

/* A slot is handed out: it has to be one of the pool's, with an address in its class's slab. */
static void note_right(World *world, sp_pool *pool, const sp_right *right)
{
    demand(right->slot < pool->geometry.slots, "a slot that is handed out is one of the pool's");
    uint32_t class = sp_pool_class_of(pool, right->slot);
    demand(class < CLASSES, "a slot has a class");
    const sp_class_geometry *c = &pool->geometry.of_class[class];
    demand(right->slot - c->first < c->max_count, "a slot has an address in its class's slab");
    demand(sp_word_owner(right->word) == pool->me, "whoever gets a right is its owner");
    if (world->notes.right_count < RIGHTS)
        world->notes.rights[world->notes.right_count++] = *right;
}

/* One of the rights of a member in a state, by a number; NULL if it has none. */
static sp_right *find_right(World *world, const sp_pool *pool, sp_state state, uint64_t number)
{
    uint32_t count = world->notes.right_count;
    for (uint32_t i = 0; i < count; i++) {
        sp_right *right = &world->notes.rights[(number + i) % count];
        if (sp_word_owner(right->word) == pool->me && sp_word_state(right->word) == state)
            return right;
    }
    return NULL;
}

static void forget_right(World *world, sp_right *right)
{
    *right = world->notes.rights[--world->notes.right_count];
}

/* Tickets that went around, by small numbers; any other number is a ticket that never did. */
static uint64_t find_ticket(const World *world, uint64_t number)
{
    return number < world->notes.ticket_count ? world->notes.tickets[number] : number;
}

static sp_result defined(sp_result result)
{
    demand(result >= SP_OK && result <= SP_SPENT, "a result is one of sp_result");
    return result;
}

/* --- operations ----------------------------------------------------------------------------- */

typedef void (*Operation)(World *world, sp_pool *pool, uint64_t number);

static void take_if_ok(World *world, sp_pool *pool, sp_result result, const sp_right *right)
{
    if (defined(result) == SP_OK)
        note_right(world, pool, right);
}

static void do_acquire(World *world, sp_pool *pool, uint64_t number)
{
    sp_right right = {UINT32_MAX, 0};
    take_if_ok(world, pool, sp_acquire(pool, number % CLASSES, 1, &right), &right);
}

static void do_get(World *world, sp_pool *pool, uint64_t number)
{
    sp_right right = {UINT32_MAX, 0};
    take_if_ok(world, pool, sp_get(pool, 1 + number % QUEUES, 1, &right), &right);
}

static void do_claim(World *world, sp_pool *pool, uint64_t number)
{
    sp_right right = {UINT32_MAX, 0};
    take_if_ok(world, pool, sp_claim(pool, find_ticket(world, number), 1, &right), &right);
}

static void do_commit_begin(World *world, sp_pool *pool, uint64_t number)
{
    sp_right right = {UINT32_MAX, 0};
    take_if_ok(world, pool, sp_commit_begin(pool, number % CLASSES, &right), &right);
}

static void do_trim_begin(World *world, sp_pool *pool, uint64_t number)
{
    sp_right right = {UINT32_MAX, 0};
    uint32_t class = number % CLASSES;
    uint32_t below = pool->geometry.of_class[class].max_count;
    take_if_ok(world, pool, sp_trim_begin(pool, class, below, &right), &right);
}

static void do_release(World *world, sp_pool *pool, uint64_t number)
{
    sp_right *right = find_right(world, pool, SP_LEASED, number);
    if (!right)
        return;
    defined(sp_release(pool, right));
    forget_right(world, right);
}

static void do_put(World *world, sp_pool *pool, uint64_t number)
{
    sp_right *right = find_right(world, pool, SP_LEASED, number / QUEUES);
    if (right && defined(sp_put(pool, right, 1 + number % QUEUES, 1)) != SP_SPENT)
        forget_right(world, right);
}

static void do_detach(World *world, sp_pool *pool, uint64_t number)
{
    uint64_t ticket;
    sp_right *right = find_right(world, pool, SP_LEASED, number);
    if (!right || defined(sp_detach(pool, right, 1, &ticket)) != SP_OK)
        return;
    note_ticket(world, ticket);
    forget_right(world, right);
}

static void do_inherit(World *world, sp_pool *pool, uint64_t number)
{
    sp_right *from = find_right(world, pool, SP_LEASED, number);
    sp_right *heir = find_right(world, pool, SP_LEASED, number + 1);
    if (from && from != heir)
        defined(sp_inherit(pool, heir, from));
}

static void do_share(World *world, sp_pool *pool, uint64_t number)
{
    uint64_t ticket;
    sp_right *right = find_right(world, pool, SP_LEASED, number);
    if (right && defined(sp_share(pool, right, &ticket)) == SP_OK)
        note_ticket(world, ticket);
}

static void do_end_shared(World *world, sp_pool *pool, uint64_t number)
{
    sp_right *right = find_right(world, pool, SP_SHARED, number);
    if (!right)
        return;
    sp_shared_end(pool, right->slot, right->word);
    forget_right(world, right);
}

static void do_borrow(World *world, sp_pool *pool, uint64_t number)
{
    uint64_t ticket = find_ticket(world, number);
    if (world->notes.borrow_count == BORROWS || !sp_reader_take(pool))
        return;
    demand(pool->reader <= SP_MAX_READERS, "a reader id is one of 256");
    if (defined(sp_borrow(pool, ticket)) != SP_OK)
        return;
    demand(sp_ticket_slot(ticket) < pool->geometry.slots, "a slot that is lent is one of the pool's");
    world->notes.borrows[world->notes.borrow_count++] = (Borrow){pool->me, sp_ticket_slot(ticket)};
}

static void do_give_back(World *world, sp_pool *pool, uint64_t number)
{
    uint32_t count = world->notes.borrow_count;
    for (uint32_t i = 0; i < count; i++) {
        Borrow *borrow = &world->notes.borrows[(number + i) % count];
        if (borrow->member != pool->me)
            continue;
        sp_give_back(pool, borrow->slot, pool->reader - 1);
        *borrow = world->notes.borrows[--world->notes.borrow_count];
        return;
    }
}

static void do_peek(World *world, sp_pool *pool, uint64_t number)
{
    uint64_t ticket = find_ticket(world, number);
    sp_state state = sp_peek_begin(pool, ticket);
    bool readable = state == SP_QUEUED || state == SP_SHARED || state == SP_QUARANTINED;
    demand(readable || state == SP_FREE, "a peek says in which of three states, or none");
    demand(!readable || sp_ticket_slot(ticket) < pool->geometry.slots, "a slot that is peeked at exists");
    if (readable)
        demand(sp_peek_end(pool, ticket, state), "while nobody moves, a peek holds");
}

static void do_commit_lease(World *world, sp_pool *pool, uint64_t number)
{
    sp_right *right = find_right(world, pool, SP_UNCOMMITTED, number);
    if (right && defined(sp_commit_lease(pool, right, 1)) != SP_OK)
        forget_right(world, right);
}

static void do_commit_free(World *world, sp_pool *pool, uint64_t number)
{
    sp_right *right = find_right(world, pool, SP_UNCOMMITTED, number);
    if (!right)
        return;
    defined(sp_commit_free(pool, right));
    forget_right(world, right);
}

static void do_commit_undo(World *world, sp_pool *pool, uint64_t number)
{
    sp_right *right = find_right(world, pool, SP_UNCOMMITTED, number);
    if (!right)
        return;
    sp_commit_undo(pool, right->slot, right->word);
    forget_right(world, right);
}

static void do_trim_end(World *world, sp_pool *pool, uint64_t number)
{
    sp_right *right = find_right(world, pool, SP_UNCOMMITTED, number);
    if (!right)
        return;
    defined(sp_trim_end(pool, right));
    forget_right(world, right);
}

static sp_atomic_u64 *find_mask(sp_pool *pool, uint64_t number)
{
    uint64_t thing = number % (CLASSES + 2 * QUEUES);
    if (thing < CLASSES)
        return pool->class_states[thing].waiting;
    sp_queue_state *state = sp_pool_queue(pool, 1 + (uint32_t)(thing - CLASSES) / 2);
    return (thing - CLASSES) % 2 ? state->waiting_space : state->waiting;
}

static void do_wait_begin(World *world, sp_pool *pool, uint64_t number)
{
    (void)world;
    sp_wait_begin(find_mask(pool, number), pool->me);
}

static void do_wait_end(World *world, sp_pool *pool, uint64_t number)
{
    (void)world;
    sp_wait_end(find_mask(pool, number), pool->me);
}

static void do_wait_next(World *world, sp_pool *pool, uint64_t number)
{
    (void)world;
    sp_atomic_u64 *mask = find_mask(pool, number);
    if (!sp_wait_any(mask))
        return;
    uint32_t member = sp_wait_next(mask, pool->last_rung);
    demand(member <= SP_MAX_MEMBERS, "whoever is woken has an index");
    pool->last_rung = member;
}

static void do_size(World *world, sp_pool *pool, uint64_t number)
{
    (void)world;
    uint32_t size = sp_ring_size(pool, 1 + number % QUEUES);
    demand(size <= pool->geometry.ring_cells, "no ring has more tickets than cells");
}

static void do_drain(World *world, sp_pool *pool, uint64_t number)
{
    (void)world;
    sp_drain(pool, (uint32_t)(number % pool->geometry.slots));
}

static void do_show(World *world, sp_pool *pool, uint64_t number)
{
    (void)world;
    (void)number;
    for (uint32_t slot = 0; slot < pool->geometry.slots; slot++)
        sp_reap_show(pool, slot);
}

/* All that the coordinator does when a member is dead, but for vacating its entry. */
static void do_reap(World *world, sp_pool *pool, uint64_t number)
{
    uint32_t dead = 1 + (uint32_t)(number % MEMBERS);
    if (dead == pool->me)
        return;
    sp_member_bury(pool, dead);
    sp_reap_waiting(pool, dead);
    sp_reap_rings(pool, dead);
    for (uint32_t slot = 0; slot < pool->geometry.slots; slot++) {
        sp_reaped reaped = sp_reap_slot(pool, slot, dead);
        demand(reaped >= SP_REAP_NOTHING && reaped <= SP_REAP_CORRUPT, "one of sp_reaped");
    }
    sp_reap_readers(pool, dead);
    do_show(world, pool, 0);
}

static void do_vacate(World *world, sp_pool *pool, uint64_t number)
{
    (void)world;
    sp_store_release(&pool->members[1 + number % MEMBERS].identity, SP_VACANT);
}

static void do_join(World *world, sp_pool *pool, uint64_t number)
{
    (void)world;
    uint32_t member = sp_member_join(pool, (uint32_t)number);
    demand(member <= MEMBERS, "a member's index is one of the table's");
    if (member)
        sp_member_activate(pool, member, (uint32_t)number);
}

static void do_leave(World *world, sp_pool *pool, uint64_t number)
{
    (void)world;
    sp_member_leave(pool, pool->me, (uint32_t)number);
}

static const Operation operations[] = {
    do_acquire,    do_get,       do_claim,       do_commit_begin, do_trim_begin,  do_release,
    do_put,        do_detach,    do_inherit,     do_share,        do_end_shared,  do_borrow,
    do_give_back,  do_peek,      do_commit_lease, do_commit_free, do_commit_undo, do_trim_end,
    do_wait_begin, do_wait_end,  do_wait_next,   do_size,         do_drain,       do_show,
    do_reap,       do_vacate,    do_join,        do_leave,
};

enum { OPERATIONS = sizeof operations / sizeof *operations };

/* --- the sound pool ---------------------------------------------------------------------------- */

static void world_lay_out(World *world, uint64_t gap)
{
    sp_geometry *g = &world->geometry;
    *g = (sp_geometry){.classes = CLASSES, .queues = QUEUES, .members = MEMBERS};
    g->of_class[MANY] = (sp_class_geometry){.slot_size = 64, .stride = 64, .count = 70, .max_count = 70};
    g->of_class[GROWABLE] = (sp_class_geometry){.slot_size = 128, .stride = 128, .count = 2, .max_count = 6};
    g->of_class[FEW] = (sp_class_geometry){.slot_size = 256, .stride = 256, .count = 2, .max_count = 2};
    sp_layout(g);
    world_spread(g, gap);
    world->block = aligned_alloc(SP_LINE, g->total_size);
    world->sound = calloc(1, g->total_size);
    demand(world->block && world->sound, "there is memory");
    memset(world->block, 0, g->total_size);
    world_list_tables(world);
    world_fence(world);
}

static sp_pool *new_handle(const World *world, uint32_t member)
{
    sp_pool *pool = calloc(1, sizeof *pool);
    demand(pool != NULL, "there is memory");
    pool->geometry = world->geometry;
    pool->queue_spec[JOBS - 1] =
        (sp_queue_spec){.on_death = SP_REQUEUE, .max_attempts = 2, .dead_letter = LETTERS};
    pool->queue_spec[LETTERS - 1] = (sp_queue_spec){.on_death = SP_QUARANTINE, .maxsize = 3};
    pool->reuse = member == HELPER ? SP_COLD : SP_WARM;
    pool->me = member;
    sp_pool_bind(pool, world->block);
    return pool;
}

static void world_format(World *world)
{
    sp_pool *pool = world->handles[COORDINATOR];
    for (uint32_t i = 0; i < CLASSES; i++) {
        const sp_class_geometry *c = &pool->geometry.of_class[i];
        sp_uncommitted_add(pool, i, c->max_count - c->count);
        for (uint32_t k = 0; k < c->max_count; k++) {
            sp_state state = k < c->count ? SP_FREE : SP_UNCOMMITTED;
            uint64_t word = sp_word(state, SP_NOBODY, SP_NO_QUEUE, SP_GENERATION_FIRST);
            sp_store_release(&pool->slots[c->first + k].word, word);
        }
    }
    do_show(world, pool, 0);
    for (uint32_t member = 1; member <= MEMBERS; member++)
        sp_member_activate(pool, sp_member_join(pool, 100 + member), 100 + member);
    sp_store_release(&pool->status->status, SP_OPEN);
}

static sp_right *newest_right(World *world)
{
    return &world->notes.rights[world->notes.right_count - 1];
}

static void send_one(World *world, uint32_t member, uint32_t queue)
{
    sp_pool *pool = world->handles[member];
    do_acquire(world, pool, MANY);
    sp_right *right = newest_right(world);
    note_ticket(world, sp_ticket(right->slot, sp_word_generation(right->word) + 1));
    demand(sp_put(pool, right, queue, 1) == SP_OK, "a sound pool works");
    forget_right(world, right);
}

static void send_and_take(World *world, uint32_t member, uint32_t queue)
{
    send_one(world, member, queue);
    do_get(world, world->handles[member], queue - 1);
}

static void detach_one(World *world, uint32_t member)
{
    do_acquire(world, world->handles[member], MANY);
    uint32_t newest = world->notes.right_count - 1;
    do_detach(world, world->handles[member], newest);
}

static void share_one(World *world, uint32_t member)
{
    do_acquire(world, world->handles[member], MANY);
    do_share(world, world->handles[member], world->notes.right_count - 1);
    uint64_t ticket = world->notes.ticket_count - 1;
    for (uint32_t reader = COORDINATOR; reader <= DYING; reader++)
        if (reader != member)
            do_borrow(world, world->handles[reader], ticket);
}

/* So many tickets through a queue that its ring has turned. */
static void turn_ring(World *world, uint32_t queue)
{
    sp_pool *pool = world->handles[WORKER];
    for (uint32_t i = 0; i < pool->geometry.ring_cells + 5; i++) {
        send_and_take(world, WORKER, queue);
        do_release(world, pool, world->notes.right_count - 1);
        world->notes.ticket_count = 0;
    }
}

/* A slot at the end of its generations: once leased, it can only be released, and retires. */
static void lease_last_generation(World *world, uint32_t slot)
{
    sp_pool *pool = world->handles[WORKER];
    sp_store_release(&pool->slots[slot].word, sp_word(SP_FREE, 0, 0, SP_GENERATION_MAX));
    do_acquire(world, pool, MANY);
    demand(newest_right(world)->slot == slot, "the lowest slot comes first");
}

/* A slot in quarantine: its holder had it from a queue that wants that, and died. */
static void quarantine_one(World *world)
{
    send_and_take(world, HELPER, LETTERS);
    sp_right *right = newest_right(world);
    sp_reaped reaped = sp_reap_leased(world->handles[COORDINATOR], right->slot, right->word);
    demand(reaped == SP_REAP_QUARANTINED, "a sound pool works");
    note_ticket(world, sp_ticket(right->slot, sp_word_generation(right->word) + 1));
    forget_right(world, right);
}

/* Rights of every kind in the hands of a member. */
static void equip(World *world, uint32_t member)
{
    sp_pool *pool = world->handles[member];
    for (uint32_t i = 0; i < 4; i++)
        do_acquire(world, pool, MANY);
    send_and_take(world, member, JOBS);
    send_and_take(world, member, LETTERS);
    detach_one(world, member);
    share_one(world, member);
    do_commit_begin(world, pool, GROWABLE);
    for (uint64_t thing = 0; thing < CLASSES + 2 * QUEUES; thing++)
        do_wait_begin(world, pool, thing);
}

/* Nothing free in the first word of the map: who looks for a slot goes by the summary. */
static void fill_first_word(World *world)
{
    sp_pool *pool = world->handles[HELPER];
    sp_freemap map = sp_freemap_of(pool, MANY);
    uint32_t kept = world->notes.right_count;
    while (sp_load_relaxed(&map.words[0])) {
        pool->cursor[MANY] = 0;
        do_acquire(world, pool, MANY);
        world->notes.right_count = kept; /* nobody will release these */
    }
}

/* Slots in every state, tickets in both queues, readers, and a member that is about to die. */
static void world_populate(World *world)
{
    turn_ring(world, JOBS);
    lease_last_generation(world, 0);
    do_release(world, world->handles[WORKER], world->notes.right_count - 1);
    lease_last_generation(world, 1);
    equip(world, WORKER);
    equip(world, DYING);
    /* Draining, with two readers. */
    share_one(world, HELPER);
    do_end_shared(world, world->handles[HELPER], world->notes.right_count - 1);
    /* Taken back by the system, not wholly yet. */
    do_trim_begin(world, world->handles[WORKER], GROWABLE);
    quarantine_one(world);
    for (uint32_t i = 0; i < 2; i++) {
        send_one(world, WORKER, JOBS);
        send_one(world, DYING, JOBS);
        send_one(world, WORKER, LETTERS);
        send_one(world, DYING, LETTERS);
    }
    fill_first_word(world);
}

static World *world_new(uint64_t gap)
{
    World *world = calloc(1, sizeof *world);
    demand(world != NULL, "there is memory");
    world_lay_out(world, gap);
    for (uint32_t member = 1; member <= MEMBERS; member++) {
        world->handles[member] = new_handle(world, member);
        world->sound_handles[member] = new_handle(world, member);
    }
    world_format(world);
    world_populate(world);
    world_keep(world);
    return world;
}

#endif
