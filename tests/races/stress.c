/* Threads at work over one pool, with payload in its slots, for the thread sanitizer and others.
 *
 *   stress OPERATIONS SEED
 *
 * Each worker has its own handle and member index, and does so many random operations: all that
 * a member does, with other members' rights as they come. Now and then it dies between two of
 * them with its hands full: then the reaper's thread gives back what it held, and the worker
 * goes on as another member. Whoever has a slot alone fills it with a stamp and finds it there
 * until the right ends; whoever borrows or gets one finds one stamp and no mixture. Payloads are
 * ordinary memory, and tickets outside queues travel by relaxed atomics: so all that orders
 * accesses to payloads are the orders of the core, which is what the thread sanitizer checks.
 *
 * Afterwards everybody lets go, and every slot has to be there. Prints counts; exit code 1 after
 * a line that begins with FAIL, or what the sanitizer says.
 *
 * Not for the thread sanitizer, which does not know fences: the copy of a peek is hidden from
 * it, and only looked at for mixtures.
 */
#include "sp_reap.h"
#include "sp_wait.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WORKERS = 4, MEMBERS = 12, COORDINATOR = 1, BOARD = 16, HANDS = 6, SHARES = 3 };
enum { SMALL = 0, LARGE = 1, CLASSES = 2, JOBS = 1, LETTERS = 2, KEPT = 3, QUEUES = 3 };
enum { SMALL_WORDS = 8, LARGE_WORDS = 512 /* 4 KiB */, SMALL_SLOTS = 70, LARGE_SLOTS = 8 };
enum { SLOTS = SMALL_SLOTS + LARGE_SLOTS };

typedef struct {
    sp_right right;
    uint64_t stamp;
} Holding;

typedef struct {
    sp_pool pool;
    uint64_t random, stamps;
    Holding leased[HANDS], shared[SHARES];
    uint32_t borrowed[HANDS]; /* slots */
    int leased_count, shared_count, borrowed_count;
    sp_right fetching; /* UNCOMMITTED, ours: memory is coming or going */
    bool is_fetching, is_trimming;
    uint64_t died, moved, peeked, borrows, gots;
    uint32_t number;
} Worker;

/* Tickets that travel outside the pool: written and read without any order. */
typedef struct {
    _Atomic uint64_t detached[BOARD], shared[BOARD];
} Board;

static _Alignas(64) uint8_t block[1 << 17];
static uint64_t small[SMALL_SLOTS][SMALL_WORDS], large[LARGE_SLOTS][LARGE_WORDS];
static bool there[SLOTS]; /* is there memory for it? */
static sp_geometry geometry;
static Board board;
static Worker workers[WORKERS];
static sp_atomic_u64 dead[MEMBERS + 1]; /* set by who dies, cleared by the reaper */
static sp_atomic_u64 working;
static unsigned long operations;

static void fail(const char *what, uint64_t number)
{
    printf("FAIL %s (%llu)\n", what, (unsigned long long)number);
    fflush(stdout);
    _Exit(1);
}

/* Marsaglia's xorshift. */
static uint64_t any(Worker *self)
{
    self->random ^= self->random << 13;
    self->random ^= self->random >> 7;
    self->random ^= self->random << 17;
    return self->random;
}

static bool once_in(Worker *self, uint64_t times)
{
    return any(self) % times == 0;
}

/* --- payload -------------------------------------------------------------------------------- */

static uint64_t *payload(uint32_t slot, int *words)
{
    bool is_small = slot < SMALL_SLOTS;
    *words = is_small ? SMALL_WORDS : LARGE_WORDS;
    return is_small ? small[slot] : large[slot - SMALL_SLOTS];
}

static void fill(uint32_t slot, uint64_t stamp)
{
    int words;
    uint64_t *memory = payload(slot, &words);
    if (!there[slot])
        fail("a slot without memory is leased", slot);
    for (int i = 0; i < words; i++)
        memory[i] = stamp;
}

/* The stamp of a slot that may be read; one and the same in all of it. */
static uint64_t stamp_of(uint32_t slot)
{
    int words;
    const uint64_t *memory = payload(slot, &words);
    if (!there[slot])
        fail("a slot without memory is read", slot);
    for (int i = 1; i < words; i++)
        if (memory[i] != memory[0])
            fail("a payload is a mixture", slot);
    return memory[0];
}

/* A copy of what somebody else may be writing: out of sight of the thread sanitizer. */
__attribute__((no_sanitize("thread"), noinline)) static int copy_hidden(uint64_t *to, uint32_t slot)
{
    int words;
    bool is_small = slot < SMALL_SLOTS;
    const volatile uint64_t *from = is_small ? small[slot] : large[slot - SMALL_SLOTS];
    words = is_small ? SMALL_WORDS : LARGE_WORDS;
    for (int i = 0; i < words; i++)
        to[i] = from[i];
    return words;
}

/* --- rights ------------------------------------------------------------------------------------ */

static void stamp_anew(Worker *self, Holding *held)
{
    held->stamp = (uint64_t)self->number << 56 | ++self->stamps;
    fill(held->right.slot, held->stamp);
}

/* A free slot's contents are anybody's: fill it. */
static void keep_fresh(Worker *self, const sp_right *right)
{
    Holding *held = &self->leased[self->leased_count++];
    *held = (Holding){.right = *right};
    stamp_anew(self, held);
}

/* A ticket's payload is as its sender left it; sometimes write another. */
static void keep_received(Worker *self, const sp_right *right)
{
    Holding *held = &self->leased[self->leased_count++];
    *held = (Holding){.right = *right, .stamp = stamp_of(right->slot)};
    self->gots++;
    if (once_in(self, 2))
        stamp_anew(self, held);
}

static void check_held(const Holding *held)
{
    if (stamp_of(held->right.slot) != held->stamp)
        fail("somebody wrote into a slot that is held", held->right.slot);
}

static Holding give(Holding *hand, int *count, uint64_t which)
{
    int i = (int)(which % (uint64_t)*count);
    Holding held = hand[i];
    hand[i] = hand[--*count];
    check_held(&held);
    return held;
}

static void demand_ok(sp_result result, const Holding *held)
{
    if (result != SP_OK)
        fail("a right that is held is over", held->right.slot);
}

/* Leave a ticket (or 0) at one of the places, and take what was there. */
static uint64_t post(Worker *self, _Atomic uint64_t *places, uint64_t ticket)
{
    return atomic_exchange_explicit(&places[any(self) % BOARD], ticket, memory_order_relaxed);
}

static uint64_t read_post(Worker *self, _Atomic uint64_t *places)
{
    return atomic_load_explicit(&places[any(self) % BOARD], memory_order_relaxed);
}

/* --- operations ---------------------------------------------------------------------------------- */

static void acquire(Worker *self)
{
    sp_right right;
    if (self->leased_count < HANDS && sp_acquire(&self->pool, any(self) % CLASSES, 1, &right) == SP_OK)
        keep_fresh(self, &right);
}

static void release(Worker *self)
{
    if (!self->leased_count)
        return;
    Holding held = give(self->leased, &self->leased_count, any(self));
    demand_ok(sp_release(&self->pool, &held.right), &held);
    sp_wait_next(self->pool.class_states[sp_pool_class_of(&self->pool, held.right.slot)].waiting, 0);
}

static void put(Worker *self)
{
    if (!self->leased_count)
        return;
    uint32_t queue = 1 + any(self) % QUEUES;
    Holding held = give(self->leased, &self->leased_count, any(self));
    demand_ok(sp_put(&self->pool, &held.right, queue, 1), &held);
    sp_wait_next(sp_pool_queue(&self->pool, queue)->waiting, self->number);
}

static void get(Worker *self)
{
    if (self->leased_count == HANDS)
        return;
    sp_right right;
    sp_result result = sp_get(&self->pool, 1 + any(self) % QUEUES, 1, &right);
    if (result == SP_CORRUPT)
        fail("a sound block is called corrupted", 0);
    if (result == SP_OK)
        keep_received(self, &right);
}

static void claim_this(Worker *self, uint64_t ticket)
{
    sp_right right;
    if (ticket && sp_claim(&self->pool, ticket, 1, &right) == SP_OK)
        keep_received(self, &right);
}

static void claim(Worker *self)
{
    if (self->leased_count < HANDS)
        claim_this(self, post(self, board.detached, 0));
}

/* What lies in quarantine is for whoever looks for it. */
static void rescue(Worker *self)
{
    uint32_t slot = any(self) % SLOTS;
    uint64_t word = sp_load_acquire(&self->pool.slots[slot].word);
    if (self->leased_count < HANDS && sp_word_state(word) == SP_QUARANTINED)
        claim_this(self, sp_ticket(slot, sp_word_generation(word)));
}

/* Whose ticket lay there has nobody else to claim it. */
static void detach(Worker *self)
{
    if (!self->leased_count)
        return;
    uint64_t ticket;
    Holding held = give(self->leased, &self->leased_count, any(self));
    demand_ok(sp_detach(&self->pool, &held.right, 1, &ticket), &held);
    claim_this(self, post(self, board.detached, ticket));
}

/* A small slot's payload moves into a large one, which takes its place. */
static void move(Worker *self)
{
    sp_right right;
    if (!self->leased_count || self->leased_count == HANDS)
        return;
    if (sp_acquire(&self->pool, LARGE, 1, &right) != SP_OK)
        return;
    Holding held = give(self->leased, &self->leased_count, any(self));
    Holding heir = {.right = right, .stamp = held.stamp};
    fill(right.slot, held.stamp);
    demand_ok(sp_inherit(&self->pool, &heir.right, &held.right), &heir);
    demand_ok(sp_release(&self->pool, &held.right), &held);
    self->leased[self->leased_count++] = heir;
    self->moved++;
}

static void share(Worker *self)
{
    if (!self->leased_count || self->shared_count == SHARES)
        return;
    uint64_t ticket;
    Holding held = give(self->leased, &self->leased_count, any(self));
    demand_ok(sp_share(&self->pool, &held.right, &ticket), &held);
    self->shared[self->shared_count++] = held;
    post(self, board.shared, ticket);
}

static void end_shared(Worker *self)
{
    if (!self->shared_count)
        return;
    Holding held = give(self->shared, &self->shared_count, any(self));
    if (!sp_shared_end(&self->pool, held.right.slot, held.right.word))
        fail("a shared right that is held is over", held.right.slot);
}

/* One's own further borrows of a slot are counted, in Python: here they are left out. */
static bool has_borrowed(const Worker *self, uint32_t slot)
{
    for (int i = 0; i < self->borrowed_count; i++)
        if (self->borrowed[i] == slot)
            return true;
    return false;
}

static void borrow(Worker *self)
{
    uint64_t ticket = read_post(self, board.shared);
    uint32_t slot = sp_ticket_slot(ticket);
    if (!ticket || self->borrowed_count == HANDS || has_borrowed(self, slot))
        return;
    if (!sp_reader_take(&self->pool))
        fail("no reader id is left", self->pool.me);
    if (sp_borrow(&self->pool, ticket) != SP_OK)
        return;
    stamp_of(slot);
    self->borrowed[self->borrowed_count++] = slot;
    self->borrows++;
}

static void give_back(Worker *self)
{
    if (!self->borrowed_count)
        return;
    int i = (int)(any(self) % (uint64_t)self->borrowed_count);
    uint32_t slot = self->borrowed[i];
    self->borrowed[i] = self->borrowed[--self->borrowed_count];
    stamp_of(slot);
    sp_give_back(&self->pool, slot, self->pool.reader - 1);
}

static void peek(Worker *self)
{
    uint64_t copy[LARGE_WORDS];
    uint64_t ticket = read_post(self, once_in(self, 2) ? board.shared : board.detached);
    sp_state state = ticket ? sp_peek_begin(&self->pool, ticket) : SP_FREE;
    if (state == SP_FREE)
        return;
    int words = copy_hidden(copy, sp_ticket_slot(ticket));
    if (!sp_peek_end(&self->pool, ticket, state))
        return;
    for (int i = 1; i < words; i++)
        if (copy[i] != copy[0])
            fail("a peek saw a mixture", sp_ticket_slot(ticket));
    self->peeked++;
}

static void grow(Worker *self)
{
    if (self->is_fetching || self->is_trimming)
        return;
    if (sp_commit_begin(&self->pool, any(self) % CLASSES, &self->fetching) == SP_OK)
        self->is_fetching = true;
}

static void trim(Worker *self)
{
    if (self->is_fetching || self->is_trimming)
        return;
    uint32_t class = any(self) % CLASSES;
    uint32_t below = geometry.of_class[class].max_count;
    if (sp_trim_begin(&self->pool, class, below, &self->fetching) == SP_OK)
        self->is_trimming = true;
}

/* The system's part: nobody else may look at the slot, and what was in it is lost. */
static void set_memory(const sp_right *right, bool is_there)
{
    int words;
    uint64_t *memory = payload(right->slot, &words);
    memset(memory, 0, (size_t)words * sizeof *memory);
    there[right->slot] = is_there;
}

static void go_on_fetching(Worker *self)
{
    if (!self->is_fetching)
        return;
    sp_right *right = &self->fetching;
    bool wanted = self->leased_count < HANDS && once_in(self, 2);
    self->is_fetching = false;
    if (once_in(self, 4)) {
        if (!sp_commit_undo(&self->pool, right->slot, right->word))
            fail("a slot that was being fetched is somebody else's", right->slot);
        return;
    }
    set_memory(right, true);
    sp_result result = wanted ? sp_commit_lease(&self->pool, right, 1) : sp_commit_free(&self->pool, right);
    if (result != SP_OK)
        fail("a slot that was being fetched is somebody else's", right->slot);
    if (wanted)
        keep_fresh(self, right);
}

static void go_on_trimming(Worker *self)
{
    if (!self->is_trimming)
        return;
    set_memory(&self->fetching, false);
    if (sp_trim_end(&self->pool, &self->fetching) != SP_OK)
        fail("a slot that was being trimmed is somebody else's", self->fetching.slot);
    self->is_trimming = false;
}

static void wait_in_vain(Worker *self)
{
    sp_atomic_u64 *mask = once_in(self, 2) ? self->pool.class_states[SMALL].waiting
                                           : sp_pool_queue(&self->pool, JOBS)->waiting;
    sp_wait_begin(mask, self->pool.me);
    if (once_in(self, 2))
        acquire(self);
    sp_wait_end(mask, self->pool.me);
}

static void look(Worker *self)
{
    if (self->leased_count)
        check_held(&self->leased[any(self) % (uint64_t)self->leased_count]);
    if (self->shared_count)
        check_held(&self->shared[any(self) % (uint64_t)self->shared_count]);
    if (self->borrowed_count)
        stamp_of(self->borrowed[any(self) % (uint64_t)self->borrowed_count]);
}

static void (*const all[])(Worker *) = {
    acquire, acquire,    acquire, release,   release, put,  put,  get,            get,
    detach,  claim,      claim,   move,      share,   end_shared, borrow,        borrow,
    borrow,  give_back,  peek,    peek,      grow,    trim, go_on_fetching, go_on_trimming,
    look,    wait_in_vain, rescue, rescue,
};

/* --- lives --------------------------------------------------------------------------------------- */

static void bind_pool(sp_pool *pool, uint32_t member)
{
    memset(pool, 0, sizeof *pool);
    pool->geometry = geometry;
    pool->queue_spec[JOBS - 1] =
        (sp_queue_spec){.on_death = SP_REQUEUE, .max_attempts = 2, .dead_letter = LETTERS};
    pool->queue_spec[LETTERS - 1].on_death = SP_DISCARD;
    pool->queue_spec[KEPT - 1].on_death = SP_QUARANTINE;
    pool->me = member;
    sp_pool_bind(pool, block);
}

static void join(Worker *self)
{
    uint32_t pid = 1000 + self->number;
    bind_pool(&self->pool, COORDINATOR);
    uint32_t member = sp_member_join(&self->pool, pid);
    while (!member) { /* the reaper will vacate one */
        sched_yield();
        member = sp_member_join(&self->pool, pid);
    }
    bind_pool(&self->pool, member);
    self->pool.reuse = once_in(self, 2) ? SP_COLD : SP_WARM;
    sp_member_activate(&self->pool, member, pid);
}

/* With full hands, and at once somebody else. What the kernel tells the coordinator of a dead
 * process comes after all that the process did: so it is here. */
static void die(Worker *self)
{
    self->leased_count = self->shared_count = self->borrowed_count = 0;
    self->is_fetching = self->is_trimming = false;
    self->died++;
    sp_store_release(&dead[self->pool.me], 1);
    join(self);
}

static void let_go(Worker *self)
{
    while (self->leased_count)
        release(self);
    while (self->shared_count)
        end_shared(self);
    while (self->borrowed_count)
        give_back(self);
    go_on_fetching(self);
    go_on_trimming(self);
    while (self->leased_count)
        release(self);
}

static void *work(void *argument)
{
    Worker *self = argument;
    join(self);
    for (unsigned long i = 0; i < operations; i++) {
        all[any(self) % (sizeof all / sizeof *all)](self);
        if (once_in(self, 500))
            die(self);
    }
    let_go(self);
    sp_member_leave(&self->pool, self->pool.me, 1000 + self->number);
    sp_fetch_add_relaxed(&working, (uint64_t)-1);
    return NULL;
}

/* Nobody knows of this ticket any more, or soon nobody will: end it, if it is still what it was. */
static void expire(sp_pool *pool, uint32_t slot, uint64_t seen)
{
    sp_slot_end(pool, slot, sp_word_with_owner(seen, pool->me));
}

static void reap(sp_pool *pool, uint32_t member)
{
    sp_member_bury(pool, member);
    sp_reap_waiting(pool, member);
    sp_reap_rings(pool, member);
    for (uint32_t slot = 0; slot < SLOTS; slot++) {
        uint64_t seen = sp_load_seq_cst(&pool->slots[slot].word);
        sp_reaped reaped = sp_reap_slot(pool, slot, member);
        if (reaped == SP_REAP_CORRUPT)
            fail("a sound block is called corrupted", slot);
        if (reaped == SP_REAP_DETACHED && slot % 2)
            expire(pool, slot, seen);
    }
    sp_reap_readers(pool, member);
    sp_store_release(&pool->members[member].identity, SP_VACANT);
}

static void reap_all(sp_pool *pool)
{
    for (uint32_t member = 1; member <= MEMBERS; member++)
        if (sp_load_acquire(&dead[member])) {
            sp_store_relaxed(&dead[member], 0); /* before the index is somebody else's */
            reap(pool, member);
        }
    for (uint32_t slot = 0; slot < SLOTS; slot++)
        sp_reap_show(pool, slot);
}

static void *coordinate(void *argument)
{
    sp_pool *pool = argument;
    while (sp_load_relaxed(&working)) {
        reap_all(pool);
        sched_yield();
    }
    return NULL;
}

/* --- before and after -------------------------------------------------------------------------------- */

static void prepare(uint64_t seed, sp_pool *pool)
{
    geometry = (sp_geometry){.classes = CLASSES, .queues = QUEUES, .members = MEMBERS};
    geometry.of_class[SMALL] = (sp_class_geometry){.slot_size = sizeof *small,
                                                   .stride = sizeof *small,
                                                   .count = SMALL_SLOTS / 2,
                                                   .max_count = SMALL_SLOTS};
    geometry.of_class[LARGE] = (sp_class_geometry){.slot_size = sizeof *large,
                                                   .stride = sizeof *large,
                                                   .count = LARGE_SLOTS / 2,
                                                   .max_count = LARGE_SLOTS};
    sp_layout(&geometry);
    if (geometry.total_size > sizeof block)
        abort();
    bind_pool(pool, COORDINATOR);
    sp_member_activate(pool, sp_member_join(pool, 1), 1);
    for (uint32_t i = 0; i < CLASSES; i++) {
        const sp_class_geometry *c = &geometry.of_class[i];
        sp_uncommitted_add(pool, i, c->max_count - c->count);
        for (uint32_t k = 0; k < c->max_count; k++) {
            sp_state state = k < c->count ? SP_FREE : SP_UNCOMMITTED;
            there[c->first + k] = state == SP_FREE;
            sp_store_relaxed(&pool->slots[c->first + k].word,
                             sp_word(state, SP_NOBODY, SP_NO_QUEUE, SP_GENERATION_FIRST));
        }
    }
    for (uint32_t slot = 0; slot < SLOTS; slot++)
        sp_reap_show(pool, slot);
    for (uint32_t i = 0; i < WORKERS; i++)
        workers[i] = (Worker){.number = i + 1, .random = (seed * WORKERS + i + 1) * UINT64_C(0x9e3779b97f4a7c15)};
}

/* Every ticket: from its queue, and outside, known or in quarantine. */
static void take_tickets(sp_pool *pool)
{
    sp_right right;
    for (uint32_t queue = 1; queue <= QUEUES; queue++)
        while (sp_get(pool, queue, 1, &right) == SP_OK) {
            stamp_of(right.slot);
            if (sp_release(pool, &right) != SP_OK)
                fail("a right that was got is over", right.slot);
        }
    for (uint32_t slot = 0; slot < SLOTS; slot++) {
        uint64_t word = sp_load_acquire(&pool->slots[slot].word);
        uint64_t ticket = sp_ticket(slot, sp_word_generation(word));
        if (sp_claim(pool, ticket, 1, &right) != SP_OK)
            continue;
        stamp_of(slot);
        if (sp_release(pool, &right) != SP_OK)
            fail("a right that was claimed is over", slot);
    }
}

static void check_words(const sp_pool *pool)
{
    for (uint32_t slot = 0; slot < SLOTS; slot++) {
        uint64_t word = sp_load_acquire(&pool->slots[slot].word);
        bool idle = sp_word_state(word) == SP_FREE || sp_word_state(word) == SP_UNCOMMITTED;
        if (!idle || sp_word_owner(word))
            fail("a slot is lost", word);
        if (sp_word_state(word) == SP_FREE && !there[slot])
            fail("a slot without memory is free", slot);
        if (sp_readers_any(&pool->slots[slot]))
            fail("a reader's bit is left", slot);
    }
    for (uint32_t i = 0; i < SP_MAX_READERS; i++)
        if (i >= WORKERS + MEMBERS && sp_load_relaxed(&pool->readers[i]))
            fail("reader ids are lost", i);
}

/* Every slot can be had, by acquire or by commit, and once. */
static void take_all(sp_pool *pool)
{
    sp_right right;
    for (uint32_t i = 0; i < CLASSES; i++) {
        const sp_class_geometry *c = &geometry.of_class[i];
        uint32_t free = 0, had = 0;
        for (uint32_t k = 0; k < c->max_count; k++)
            free += sp_word_state(sp_load_acquire(&pool->slots[c->first + k].word)) == SP_FREE;
        while (sp_acquire(pool, i, 1, &right) == SP_OK)
            had++;
        if (had != free)
            fail("the free map lies", had);
        while (sp_commit_begin(pool, i, &right) == SP_OK && sp_commit_lease(pool, &right, 1) == SP_OK)
            had++;
        if (had != c->max_count)
            fail("the hint of uncommitted slots lies", had);
    }
}

static void tell(void)
{
    Worker sum = {.number = 0};
    for (int i = 0; i < WORKERS; i++) {
        sum.gots += workers[i].gots;
        sum.borrows += workers[i].borrows;
        sum.peeked += workers[i].peeked;
        sum.moved += workers[i].moved;
        sum.died += workers[i].died;
    }
    printf("%llu received %llu borrowed %llu peeked %llu moved %llu deaths\n",
           (unsigned long long)sum.gots, (unsigned long long)sum.borrows,
           (unsigned long long)sum.peeked, (unsigned long long)sum.moved, (unsigned long long)sum.died);
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    static sp_pool pool;
    pthread_t threads[WORKERS + 1];
    operations = strtoul(argv[1], NULL, 10);
    prepare(strtoul(argv[2], NULL, 10), &pool);
    sp_store_relaxed(&working, WORKERS);
    for (int i = 0; i < WORKERS; i++)
        pthread_create(&threads[i], NULL, work, &workers[i]);
    pthread_create(&threads[WORKERS], NULL, coordinate, &pool);
    for (int i = 0; i <= WORKERS; i++)
        pthread_join(threads[i], NULL);
    reap_all(&pool);
    take_tickets(&pool);
    check_words(&pool);
    take_all(&pool);
    tell();
    return 0;
}
