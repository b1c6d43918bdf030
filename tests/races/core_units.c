/* Units of the core: what can be seen in one process, where no schedule has to be looked for.
 *
 * The explorer has one class of a few slots, one word of each mask and four reader ids; here
 * are summaries of three words, five thousand slots, 256 members and readers, the last of all
 * generations, and the exact values of what the explorer takes for hints. Where one operation
 * has to come between two others of somebody else, `at_moment` puts it there.
 *
 * Prints nothing and exits with 0, or says which line was not so. mutants.py runs it over
 * headers that are changed, test_mutants.py over those that ship.
 */
#include "sp_atomic.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- somebody else moves ---------------------------------------------------------------- */

typedef void (*Action)(void);

static Action meanwhile; /* what somebody else does, once */
static int moment;       /* before which of our atomic operations */

static void turn(void)
{
    Action action = meanwhile;
    if (!action || --moment)
        return;
    meanwhile = NULL;
    action();
}

static void at_moment(int number, Action action)
{
    moment = number;
    meanwhile = action;
}

/* Has it come to that? If not, there are no more moments. */
static bool has_moved(void)
{
    bool moved = !meanwhile;
    meanwhile = NULL;
    return moved;
}

#define LOAD(name) \
    static inline uint64_t turn_##name(const sp_atomic_u64 *at) { turn(); return name(at); }
#define CAS(name) \
    static inline bool turn_##name(sp_atomic_u64 *at, uint64_t expected, uint64_t desired) \
    { turn(); return name(at, expected, desired); }
#define FETCH(name) \
    static inline uint64_t turn_##name(sp_atomic_u64 *at, uint64_t by) { turn(); return name(at, by); }

LOAD(sp_load_relaxed)
LOAD(sp_load_acquire)
LOAD(sp_load_seq_cst)
CAS(sp_cas_acq_rel)
CAS(sp_cas_seq_cst)
FETCH(sp_fetch_or_seq_cst)
FETCH(sp_fetch_and_seq_cst)

#define sp_load_relaxed turn_sp_load_relaxed
#define sp_load_acquire turn_sp_load_acquire
#define sp_load_seq_cst turn_sp_load_seq_cst
#define sp_cas_acq_rel turn_sp_cas_acq_rel
#define sp_cas_seq_cst turn_sp_cas_seq_cst
#define sp_fetch_or_seq_cst turn_sp_fetch_or_seq_cst
#define sp_fetch_and_seq_cst turn_sp_fetch_and_seq_cst

#include "sp_reap.h"
#include "sp_wait.h"

/* --- a pool ------------------------------------------------------------------------------ */

enum { COORDINATOR = 1, ME = 2, OTHER = 3, DEAD = 200, FULL = 255, HANDLES = 4 };
enum { MIDDLE = 0, BIG = 1, SMALL = 2, CLASSES = 3 };
enum { MIDDLE_SLOTS = 70, BIG_SLOTS = 5000, SMALL_SLOTS = 3 };
enum { SLOTS = MIDDLE_SLOTS + BIG_SLOTS + SMALL_SLOTS, FIRST_BIG = MIDDLE_SLOTS };
enum { FIRST_SMALL = MIDDLE_SLOTS + BIG_SLOTS, JOBS = 1, LETTERS = 2, QUEUES = 2 };
enum { NOW = 77 };

#define MAX SP_GENERATION_MAX
#define ALL (~UINT64_C(0))

static _Alignas(64) uint8_t block[1 << 21];
static sp_pool handles[HANDLES];
static sp_pool *const pool = &handles[ME], *const other = &handles[OTHER];
static sp_pool *const reaper = &handles[COORDINATOR];

static _Noreturn void broken(int line, const char *what)
{
    printf("core_units.c:%d: not so: %s\n", line, what);
    exit(1);
}

#define DEMAND(what) ((what) ? (void)0 : broken(__LINE__, #what))

static uint64_t word_of(uint32_t slot)
{
    return pool->slots[slot].word;
}

static void set(uint32_t slot, uint64_t word)
{
    pool->slots[slot].word = word;
}

static sp_right leased(sp_pool *by, uint32_t slot, uint32_t queue, uint64_t generation)
{
    set(slot, sp_word(SP_LEASED, by->me, queue, generation));
    return (sp_right){.slot = slot, .word = word_of(slot)};
}

static void clear_map(uint32_t class)
{
    sp_freemap map = sp_freemap_of(pool, class);
    memset((void *)map.words, 0, map.count * 8);
    if (map.summary)
        memset((void *)map.summary, 0, (map.count + 63) / 64 * 8);
}

static void bind_handle(uint32_t member)
{
    sp_pool *handle = &handles[member];
    memset(handle, 0, sizeof *handle);
    handle->me = member;
    sp_geometry *g = &handle->geometry;
    const uint32_t counts[CLASSES] = {MIDDLE_SLOTS, BIG_SLOTS, SMALL_SLOTS};
    *g = (sp_geometry){.classes = CLASSES, .queues = QUEUES, .members = FULL};
    for (uint32_t i = 0; i < CLASSES; i++)
        g->of_class[i] = (sp_class_geometry){
            .slot_size = 100 + 100 * i, .stride = 512, .count = counts[i], .max_count = counts[i]};
    sp_layout(g);
    handle->queue_spec[JOBS - 1] =
        (sp_queue_spec){.on_death = SP_REQUEUE, .max_attempts = 2, .dead_letter = LETTERS};
    handle->queue_spec[LETTERS - 1] = (sp_queue_spec){.on_death = SP_QUARANTINE};
    sp_pool_bind(handle, block);
}

/* All slots free, under generation 1, and shown. */
static void format(void)
{
    meanwhile = NULL;
    memset(block, 0, sizeof block);
    for (uint32_t member = 1; member < HANDLES; member++)
        bind_handle(member);
    DEMAND(pool->geometry.total_size <= sizeof block && pool->geometry.slots == SLOTS);
    for (uint32_t class = 0; class < CLASSES; class++) {
        const sp_class_geometry *c = &pool->geometry.of_class[class];
        sp_freemap map = sp_freemap_of(pool, class);
        for (uint32_t k = 0; k < c->max_count; k++) {
            set(c->first + k, sp_word(SP_FREE, 0, 0, 1));
            map.words[k / 64] |= UINT64_C(1) << k % 64;
            if (map.summary)
                map.summary[k / 4096] |= UINT64_C(1) << k / 64 % 64;
        }
    }
}

/* --- sp_word.h ---------------------------------------------------------------------------- */

static void words_are_packed_as_the_protocol_says(void)
{
    DEMAND(sp_word(SP_LEASED, 0xab, 0x15, UINT64_C(0x123456789abc)) == UINT64_C(0x123456789abcaba9));
    DEMAND(sp_ticket(0xabcd, UINT64_C(0x123456789abc)) == UINT64_C(0xabcd123456789abc));
    const uint64_t generations[] = {1, 2, MAX - 1, MAX};
    const uint32_t owners[] = {0, 1, 128, 255}, queues[] = {0, 1, 16, 31};
    for (uint32_t i = 0; i < 8 * 64; i++) {
        sp_state state = (sp_state)(i & 7);
        uint32_t owner = owners[i >> 3 & 3], queue = queues[i >> 5 & 3];
        uint64_t generation = generations[i >> 7 & 3], word = sp_word(state, owner, queue, generation);
        DEMAND(sp_word_state(word) == state && sp_word_owner(word) == owner);
        DEMAND(sp_word_queue(word) == queue && sp_word_generation(word) == generation);
        DEMAND(sp_word_with_owner(word, 7) == sp_word(state, 7, queue, generation));
        DEMAND(sp_word_is(word, state, generation) && !sp_word_is(word, state, generation - 1));
        DEMAND(!sp_word_is(word, state ^ 1, generation));
        uint64_t ticket = sp_ticket(owner << 8, generation);
        DEMAND(sp_ticket_slot(ticket) == owner << 8 && sp_ticket_generation(ticket) == generation);
    }
}

static void no_generation_comes_back(void)
{
    for (uint64_t generation = MAX - 2; generation < MAX; generation++) {
        uint64_t word = sp_word(SP_LEASED, ME, JOBS, generation);
        DEMAND(sp_word_ended(word) == sp_word(SP_FREE, 0, 0, generation + 1));
        DEMAND(sp_word_draining(word) == sp_word(SP_DRAINING, 0, 0, generation + 1));
        DEMAND(sp_word_uncommitted(word) == sp_word(SP_UNCOMMITTED, 0, 0, generation + 1));
    }
    uint64_t last = sp_word(SP_LEASED, ME, JOBS, MAX), retired = sp_word(SP_RETIRED, 0, 0, MAX);
    DEMAND(sp_word_ended(last) == retired && sp_word_uncommitted(last) == retired);
}

/* --- sp_pool.h ---------------------------------------------------------------------------- */

static void every_slot_has_its_class(void)
{
    DEMAND(sp_pool_class_of(pool, 0) == MIDDLE && sp_pool_class_of(pool, FIRST_BIG - 1) == MIDDLE);
    DEMAND(sp_pool_class_of(pool, FIRST_BIG) == BIG && sp_pool_class_of(pool, FIRST_SMALL - 1) == BIG);
    DEMAND(sp_pool_class_of(pool, FIRST_SMALL) == SMALL && sp_pool_class_of(pool, SLOTS - 1) == SMALL);
    DEMAND(sp_pool_fitting(pool, 0) == 0 && sp_pool_fitting(pool, 100) == 0);
    DEMAND(sp_pool_fitting(pool, 101) == 1 && sp_pool_fitting(pool, 300) == 2);
    DEMAND(sp_pool_fitting(pool, 301) == CLASSES);
}

static void every_table_has_its_place(void)
{
    const sp_geometry *g = &pool->geometry;
    DEMAND((uint8_t *)sp_pool_ring(pool, 1) == block + g->rings);
    DEMAND((uint8_t *)sp_pool_ring(pool, 2) == block + g->rings + g->ring_cells * UINT64_C(8));
    DEMAND(sp_pool_queue(pool, 1) == pool->queue_states && sp_pool_queue(pool, 2) == pool->queue_states + 1);
    DEMAND((uint8_t *)sp_pool_sheet(pool, 0) == block + g->sheets);
    DEMAND((uint8_t *)sp_pool_sheet(pool, 9) == block + g->sheets + 9 * g->sheet_stride);
}

/* --- sp_ring.h ----------------------------------------------------------------------------- */

static sp_queue_state *jobs(void)
{
    return sp_pool_queue(pool, JOBS);
}

static sp_atomic_u64 *cell_at(uint64_t at)
{
    return &sp_pool_ring(pool, JOBS)[at % pool->geometry.ring_cells];
}

static void set_ends(uint64_t head, uint64_t tail)
{
    jobs()->head = head;
    jobs()->tail = tail;
}

static bool ends_are(uint64_t head, uint64_t tail)
{
    return jobs()->head == head && jobs()->tail == tail;
}

/* A ticket whose word says that it waits in JOBS; in no cell yet. */
static uint64_t queued(uint32_t slot, uint32_t owner, uint64_t generation)
{
    set(slot, sp_word(SP_QUEUED, owner, JOBS, generation));
    return sp_ticket(slot, generation);
}

static void a_ticket_lives_in_one_queue_under_one_generation(void)
{
    uint64_t ticket = queued(5, ME, 7);
    DEMAND(sp_ring_live(pool, JOBS, ticket) == word_of(5));
    DEMAND(!sp_ring_live(pool, LETTERS, ticket));
    DEMAND(!sp_ring_live(pool, JOBS, ticket + 1) && !sp_ring_live(pool, JOBS, ticket - 1));
    set(5, sp_word(SP_LEASED, ME, JOBS, 7));
    DEMAND(!sp_ring_live(pool, JOBS, ticket));
    DEMAND(!sp_ring_live(pool, JOBS, queued(SLOTS, ME, 7))); /* the pool has no such slot */
}

static void head_steps_over_what_is_dead(void)
{
    uint64_t ticket = queued(5, ME, 7);
    set_ends(4, 9);
    sp_ring_step_head(pool, JOBS, 4, ticket);
    DEMAND(ends_are(4, 9));
    sp_ring_step_head(pool, JOBS, 4, ticket + 1);
    DEMAND(ends_are(5, 9));
    sp_ring_step_head(pool, JOBS, 3, ticket + 1); /* others were there before */
    DEMAND(ends_are(5, 9));
}

static void others_move_far_ahead(void)
{
    jobs()->tail += 3;
}

static void tail_steps_over_what_lives(void)
{
    uint32_t cells = pool->geometry.ring_cells;
    set_ends(4, 9);
    sp_ring_step_tail(pool, JOBS);
    DEMAND(ends_are(4, 9));
    *cell_at(9) = queued(5, ME, 7);
    sp_ring_step_tail(pool, JOBS);
    DEMAND(ends_are(4, 10));
    set_ends(10, 9 + cells); /* one place left, and in it stands a ticket */
    sp_ring_step_tail(pool, JOBS);
    DEMAND(ends_are(10, 10 + cells));
    *cell_at(10) = queued(5, ME, 8); /* full: that one is at head, and counted */
    sp_ring_step_tail(pool, JOBS);
    DEMAND(ends_are(10, 10 + cells));
    for (int number = 2; number < 5; number++) {
        set_ends(8, 9);
        *cell_at(9) = queued(5, ME, 7);
        at_moment(number, others_move_far_ahead);
        sp_ring_step_tail(pool, JOBS);
        DEMAND(has_moved() && ends_are(8, 12));
    }
}

static void a_ticket_goes_in_at_tail(void)
{
    uint64_t first = queued(5, ME, 7), second = queued(6, ME, 9);
    set_ends(3, 3);
    DEMAND(sp_ring_try_insert(pool, JOBS, first) && ends_are(3, 4) && *cell_at(3) == first);
    jobs()->tail = 3; /* its sender was killed before it counted it */
    DEMAND(!sp_ring_try_insert(pool, JOBS, second) && ends_are(3, 4));
    DEMAND(sp_ring_try_insert(pool, JOBS, second) && ends_are(3, 5) && *cell_at(4) == second);
    set_ends(7, 6); /* head was read after it had passed this tail */
    pool->seen_head[JOBS - 1] = 7;
    DEMAND(!sp_ring_try_insert(pool, JOBS, second) && ends_are(7, 6) && !*cell_at(6));
}

static void head_is_remembered_as_long_as_it_leaves_room(void)
{
    uint32_t cells = pool->geometry.ring_cells;
    sp_queue_state *state = jobs();
    state->head = 5;
    DEMAND(sp_ring_head_for(pool, JOBS, cells - 1) == 0);
    DEMAND(sp_ring_head_for(pool, JOBS, cells) == 5 && sp_ring_head_for(other, JOBS, 0) == 0);
    state->head = 9;
    DEMAND(sp_ring_head_for(pool, JOBS, cells + 4) == 5);
    DEMAND(sp_ring_head_for(pool, LETTERS, cells) == 0); /* each ring has a head of its own */
    DEMAND(sp_ring_head_for(pool, JOBS, cells + 5) == 9);
}

static void the_next_cell_is_the_one_at_head(void)
{
    set_ends(pool->geometry.ring_cells + 3, pool->geometry.ring_cells + 9);
    DEMAND(sp_ring_next(pool, JOBS) == cell_at(3));
}

static void a_full_ring_is_full_of_the_dead(void)
{
    uint32_t cells = pool->geometry.ring_cells;
    uint64_t ticket = queued(5, ME, 7);
    set_ends(3, 3 + cells);
    DEMAND(!sp_ring_try_insert(pool, JOBS, ticket) && ends_are(4, 3 + cells));
    DEMAND(sp_ring_try_insert(pool, JOBS, ticket) && ends_are(4, 4 + cells) && *cell_at(3) == ticket);
    *cell_at(4) = ticket; /* never so while there are more cells than tickets */
    DEMAND(!sp_ring_try_insert(pool, JOBS, ticket) && ends_are(4, 4 + cells));
}

/* Behind the ring of JOBS stands that of LETTERS, and in it what would mislead whoever comes
 * there. */
static void a_ring_that_has_turned_begins_anew(void)
{
    uint32_t cells = pool->geometry.ring_cells;
    for (uint32_t i = 0; i < 9; i++)
        sp_pool_ring(pool, LETTERS)[i] = queued(6, ME, 9);
    uint64_t ticket = queued(5, ME, 7);
    set_ends(cells + 3, cells + 3 + cells);
    DEMAND(!sp_ring_try_insert(pool, JOBS, ticket) && ends_are(cells + 4, cells + 3 + cells));
    set_ends(cells + 3, cells + 3);
    DEMAND(sp_ring_try_insert(pool, JOBS, ticket) && ends_are(cells + 3, cells + 4));
    DEMAND(*cell_at(3) == ticket);
    sp_right right;
    DEMAND(sp_ring_try_claim(pool, JOBS, &right) == SP_OK && right.slot == 5);
}

static void others_insert(void)
{
    DEMAND(sp_ring_insert(other, JOBS, queued(9, OTHER, 1)) == SP_OK);
}

static void others_insert_and_take(void)
{
    sp_right right;
    others_insert();
    DEMAND(sp_ring_claim(other, JOBS, &right) == SP_OK && sp_release(other, &right) == SP_OK);
}

static void tail_of_an_insert_is_not_set_back(void)
{
    for (int number = 1;; number++) {
        format();
        uint64_t ticket = queued(5, ME, 7);
        at_moment(number, others_insert);
        DEMAND(sp_ring_insert(pool, JOBS, ticket) == SP_OK);
        if (!has_moved())
            break;
        DEMAND(ends_are(0, 2) && *cell_at(0) + *cell_at(1) == ticket + sp_ticket(9, 1));
        format();
        at_moment(number, others_insert_and_take);
        DEMAND(sp_ring_insert(pool, JOBS, queued(5, ME, 7)) == SP_OK);
        has_moved();
        DEMAND(sp_ring_size(pool, JOBS) <= 2 && jobs()->tail <= 2);
        sp_right right;
        DEMAND(sp_ring_claim(pool, JOBS, &right) == SP_OK && (right.slot == 5 || right.slot == 9));
    }
}

static void others_take_far_ahead(void)
{
    jobs()->head += 3;
}

/* Whoever was slow finds them further on, and leaves them there. */
static void neither_end_is_set_back(void)
{
    sp_right right;
    for (int number = 1; number < 8; number++) {
        format();
        set_ends(8, 9);
        *cell_at(9) = queued(5, ME, 7);
        at_moment(number, others_move_far_ahead);
        sp_ring_try_insert(pool, JOBS, queued(6, ME, 7));
        DEMAND(!has_moved() || jobs()->tail >= 12);
        set_ends(9, 9);
        at_moment(number, others_move_far_ahead);
        sp_ring_try_claim(pool, JOBS, &right);
        DEMAND(!has_moved() || jobs()->tail >= 12);
        for (uint64_t at = 9; at < 11; at++) { /* a live one, a dead one */
            set_ends(at, 20);
            set(5, sp_word(SP_QUEUED, ME, JOBS, 7));
            at_moment(number, others_take_far_ahead);
            sp_ring_try_claim(pool, JOBS, &right);
            DEMAND(!has_moved() || jobs()->head >= at + 3);
        }
    }
}

static void a_ring_without_sense_is_called_corrupted(void)
{
    sp_right right;
    set_ends(UINT64_C(1) << 40, pool->geometry.ring_cells);
    DEMAND(sp_ring_insert(pool, JOBS, queued(5, ME, 7)) == SP_CORRUPT);
    DEMAND(sp_ring_claim(pool, JOBS, &right) == SP_CORRUPT);
}

static void what_is_at_head_is_claimed(void)
{
    sp_right right = {0, 0};
    set_ends(3, 3);
    DEMAND(sp_ring_try_claim(pool, JOBS, &right) == SP_EMPTY && ends_are(3, 3) && !right.word);
    *cell_at(3) = queued(5, OTHER, 7); /* not counted by its sender */
    DEMAND(sp_ring_try_claim(pool, JOBS, &right) == SP_STALE && ends_are(3, 4));
    DEMAND(sp_ring_try_claim(pool, JOBS, &right) == SP_OK && ends_are(4, 4));
    DEMAND(right.slot == 5 && right.word == sp_word(SP_LEASED, ME, JOBS, 7) && right.word == word_of(5));
    set_ends(3, 5); /* the same cell again: dead now */
    DEMAND(sp_ring_try_claim(pool, JOBS, &right) == SP_STALE && ends_are(4, 5));
}

static sp_right taken;

static void others_take_what_is_at_head(void)
{
    DEMAND(sp_ring_claim(other, JOBS, &taken) == SP_OK);
}

static void each_ticket_is_claimed_once(void)
{
    for (int number = 1;; number++) {
        sp_right right = {0, 0};
        format();
        sp_ring_insert(pool, JOBS, queued(5, ME, 7));
        sp_ring_insert(pool, JOBS, queued(6, ME, 7));
        at_moment(number, others_take_what_is_at_head);
        DEMAND(sp_ring_claim(pool, JOBS, &right) == SP_OK);
        if (!has_moved())
            break;
        DEMAND(right.slot + taken.slot == 5 + 6 && word_of(right.slot) == right.word);
        DEMAND(word_of(taken.slot) == taken.word && sp_word_owner(taken.word) == OTHER);
        DEMAND(jobs()->head <= 2 && jobs()->tail == 2);
    }
}

static void the_size_of_a_ring_is_a_guess_that_makes_sense(void)
{
    uint32_t cells = pool->geometry.ring_cells;
    const uint64_t sizes[][3] = {
        {5, 5, 0}, {5, 8, 3}, {8, 5, 0}, {5, 5 + cells, cells}, {5, 6 + cells, 0}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        set_ends(sizes[i][0], sizes[i][1]);
        DEMAND(sp_ring_size(pool, JOBS) == sizes[i][2]);
    }
}

/* --- sp_freemap.h ------------------------------------------------------------------------- */

enum { MAP_WORDS = 130, SUMMARY_WORDS = 3, BITS = MAP_WORDS * 64 };

static sp_atomic_u64 map_words[MAP_WORDS + 1]; /* the last one is nobody's */
static sp_atomic_u64 map_summary[SUMMARY_WORDS];
static const sp_freemap wide = {map_words, map_summary, MAP_WORDS};
static const sp_freemap narrow = {map_words, NULL, 1};

static void clear_bits(void)
{
    memset((void *)map_words, 0, sizeof map_words);
    memset((void *)map_summary, 0, sizeof map_summary);
    map_words[MAP_WORDS] = ALL;
}

static bool bit_is(uint32_t i)
{
    return map_words[i / 64] >> i % 64 & 1;
}

static bool summary_is(uint32_t i)
{
    return map_summary[i / 4096] >> i / 64 % 64 & 1;
}

static uint32_t bits_in(const sp_atomic_u64 *words, uint32_t count)
{
    uint32_t bits = 0;
    for (uint32_t i = 0; i < count; i++)
        bits += (uint32_t)__builtin_popcountll(words[i]);
    return bits;
}

static const uint32_t some[] = {0, 1, 63, 64, 127, 4095, 4096, 4159, 8191, 8192, BITS - 1};
enum { SOME = sizeof some / sizeof *some };

static void giving_sets_one_bit_and_the_one_above(void)
{
    for (uint32_t i = 0; i < SOME; i++) {
        clear_bits();
        DEMAND(!sp_freemap_any(&wide) && !sp_freemap_shows(&wide, some[i]));
        sp_freemap_give(&wide, some[i]);
        DEMAND(bit_is(some[i]) && summary_is(some[i]) && sp_freemap_shows(&wide, some[i]));
        DEMAND(bits_in(map_words, MAP_WORDS) == 1 && bits_in(map_summary, SUMMARY_WORDS) == 1);
        DEMAND(sp_freemap_any(&wide) && !sp_freemap_shows(&wide, (some[i] + 1) % BITS));
        DEMAND(!sp_freemap_shows(&wide, (some[i] + 64) % BITS));
        map_summary[some[i] / 4096] = 0;
        DEMAND(!sp_freemap_shows(&wide, some[i]));
        sp_freemap_give(&wide, some[i]);
        DEMAND(summary_is(some[i]));
    }
    for (uint32_t i = 0; i < SOME; i++) { /* of all bits above, its own was missing */
        memset((void *)map_summary, 0xff, sizeof map_summary);
        map_summary[some[i] / 4096] &= ~(UINT64_C(1) << some[i] / 64 % 64);
        sp_freemap_give(&wide, some[i]);
        DEMAND(bits_in(map_summary, SUMMARY_WORDS) == 64 * SUMMARY_WORDS);
    }
    clear_bits();
    map_words[1] = 1;
    DEMAND(!sp_freemap_any(&narrow));
    sp_freemap_give(&narrow, 3);
    DEMAND(map_words[0] == 8 && sp_freemap_shows(&narrow, 3) && !sp_freemap_shows(&narrow, 2));
}

static void taking_goes_round(void)
{
    for (uint32_t start = 0; start < SOME; start++) {
        clear_bits();
        for (uint32_t i = 0; i < SOME; i++)
            sp_freemap_give(&wide, some[i]);
        /* In the first word that is looked at, and the last, only what is on that side. */
        for (uint32_t i = 0; i < SOME; i++)
            DEMAND(sp_freemap_take(&wide, some[start]) == some[(start + i) % SOME]);
        DEMAND(sp_freemap_take(&wide, some[start]) == -1);
        DEMAND(!bits_in(map_words, MAP_WORDS) && !bits_in(map_summary, SUMMARY_WORDS));
    }
}

static void each_single_bit_is_found_from_everywhere(void)
{
    for (uint32_t i = 0; i < SOME; i++)
        for (uint32_t start = 0; start < SOME; start++)
            for (int lost = 0; lost < 2; lost++) { /* the bit above, to a kill */
                clear_bits();
                sp_freemap_give(&wide, some[i]);
                if (lost)
                    map_summary[some[i] / 4096] = 0;
                DEMAND(sp_freemap_take(&wide, some[start]) == some[i]);
                DEMAND(sp_freemap_take(&wide, some[start]) == -1);
            }
}

static void a_single_word_goes_round(void)
{
    clear_bits();
    map_words[0] = 1 << 3 | 1 << 9;
    map_words[1] = 1; /* not of this map */
    DEMAND(sp_freemap_take(&narrow, 4) == 9 && sp_freemap_take(&narrow, 4) == 3);
    DEMAND(sp_freemap_take(&narrow, 4) == -1 && sp_freemap_take(&narrow, 0) == -1);
    for (uint32_t start = 1; start < 64; start++) {
        map_words[0] = 1;
        DEMAND(sp_freemap_take(&narrow, start) == 0 && map_words[1] == 1);
    }
    map_words[0] = UINT64_C(1) << 63;
    DEMAND(sp_freemap_take(&narrow, 63) == 63 && map_words[0] == 0);
    map_words[0] = UINT64_C(1) << 63;
    DEMAND(sp_freemap_take(&narrow, 0) == 63);
}

static void nothing_moves(void)
{
}

static void a_summary_names_no_word_that_is_not_there(void)
{
    const sp_freemap full = {map_words, map_summary, 64};
    at_moment(1, nothing_moves); /* it looks at no word behind the last */
    DEMAND(sp_freemap_next(&full, 64) == 64 && !has_moved());
    clear_bits();
    map_summary[SUMMARY_WORDS - 1] = ALL;
    DEMAND(sp_freemap_next(&wide, 0) == 128 && sp_freemap_next(&wide, 129) == 129);
    DEMAND(sp_freemap_next(&wide, 130) == MAP_WORDS && sp_freemap_next(&wide, 500) == MAP_WORDS);
    map_summary[SUMMARY_WORDS - 1] = ALL << 2;
    DEMAND(sp_freemap_next(&wide, 0) == MAP_WORDS && sp_freemap_take(&wide, 0) == -1);
    map_summary[0] = 1 | UINT64_C(1) << 63;
    DEMAND(sp_freemap_next(&wide, 0) == 0 && sp_freemap_next(&wide, 1) == 63);
    DEMAND(sp_freemap_next(&wide, 63) == 63 && sp_freemap_next(&wide, 64) == MAP_WORDS);
    map_summary[1] = 1;
    DEMAND(sp_freemap_next(&wide, 64) == 64 && sp_freemap_next(&wide, 65) == MAP_WORDS);
}

static void only_what_is_between_is_taken(void)
{
    clear_bits();
    sp_freemap_give(&wide, 64 * 5 + 2);
    DEMAND(sp_freemap_take_between(&wide, 0, 5) == -1 && sp_freemap_take_between(&wide, 6, MAP_WORDS) == -1);
    DEMAND(sp_freemap_take_between(&wide, 5, 6) == 64 * 5 + 2);
    sp_freemap_give(&wide, 64 * 5 + 2);
    DEMAND(sp_freemap_take_word(&wide, 5, ~UINT64_C(7)) == -1 && sp_freemap_take_word(&wide, 5, 4) == 322);
}

static void others_give_a_bit(void)
{
    sp_freemap_give(&wide, 66);
}

/* The word is empty, and the bit above says that it is not. */
static void noting_that_a_word_is_empty_loses_no_bit(void)
{
    for (int number = 1; number < 3; number++) {
        clear_bits();
        map_summary[0] = 1 << 1 | 1 << 7;
        at_moment(number, others_give_a_bit);
        sp_freemap_note_empty(&wide, 1);
        DEMAND(has_moved() && sp_freemap_shows(&wide, 66) && map_summary[0] >> 7 == 1);
    }
    for (uint32_t i = 0; i < SOME; i++) { /* it is not empty */
        clear_bits();
        sp_freemap_give(&wide, some[i]);
        sp_freemap_note_empty(&wide, some[i] / 64);
        DEMAND(summary_is(some[i]) && bits_in(map_summary, SUMMARY_WORDS) == 1);
    }
    clear_bits();
    map_summary[1] = 3;
    sp_freemap_note_empty(&wide, 64);
    DEMAND(map_summary[1] == 2);
    map_words[65] = 1;
    sp_freemap_note_empty(&wide, 65);
    DEMAND(map_summary[1] == 2);
}

static void others_take_the_first_bit(void)
{
    map_words[0] &= map_words[0] - 1;
}

static void others_take_and_give(void)
{
    map_words[0] = UINT64_C(1) << 40 | 1;
}

static void who_takes_a_bit_has_cleared_it(void)
{
    clear_bits();
    for (int next = 4; next < 8; next++) {
        map_words[0] = 8 | UINT64_C(1) << next;
        at_moment(2, others_take_the_first_bit);
        DEMAND(sp_freemap_take_in(map_words, ALL) == next && has_moved() && !map_words[0]);
    }
    map_words[0] = 0x8;
    at_moment(2, others_take_the_first_bit);
    DEMAND(sp_freemap_take_in(map_words, ALL) == -1 && has_moved());
    map_words[0] = 0x8;
    at_moment(2, others_take_and_give); /* one that we may have, and one that we may not */
    DEMAND(sp_freemap_take_in(map_words, ~UINT64_C(1)) == 40 && has_moved() && map_words[0] == 1);
}

static void others_release_in_another_word(void)
{
    sp_right right = leased(other, FIRST_BIG + 130, 0, 1);
    DEMAND(sp_release(other, &right) == SP_OK);
}

/* I7, and nobody's slot is shown twice: each free one can be leased. */
static void audit_map(uint32_t free)
{
    uint32_t seen = 0;
    for (uint32_t slot = 0; slot < SLOTS; slot++)
        if (sp_word_state(word_of(slot)) == SP_FREE) {
            DEMAND(sp_slot_shown(pool, slot));
            seen++;
        }
    DEMAND(seen == free);
}

static void a_release_beside_a_search_stays_shown(void)
{
    for (int number = 1;; number++) {
        sp_right right;
        format();
        clear_map(BIG);
        for (uint32_t i = 0; i < BIG_SLOTS; i++)
            set(FIRST_BIG + i, sp_word(SP_LEASED, OTHER, 0, 1));
        sp_freemap_of(pool, BIG).summary[0] = 7; /* three words are empty, and nobody has noted it */
        pool->cursor[BIG] = 5;
        at_moment(number, others_release_in_another_word);
        sp_result result = sp_acquire(pool, BIG, NOW, &right);
        if (!has_moved())
            break;
        DEMAND(result == SP_EMPTY || right.slot == FIRST_BIG + 130);
        audit_map(MIDDLE_SLOTS + SMALL_SLOTS + (result == SP_EMPTY));
    }
}

/* --- sp_slot.h ----------------------------------------------------------------------------- */

static void a_slot_is_shown_in_the_map_of_its_class(void)
{
    const uint32_t edges[] = {0, 63, 64, FIRST_BIG - 1, FIRST_BIG, FIRST_BIG + 4095, FIRST_BIG + 4096,
                              FIRST_SMALL - 1, FIRST_SMALL, SLOTS - 1};
    for (size_t i = 0; i < sizeof edges / sizeof *edges; i++) {
        uint32_t slot = edges[i], class = sp_pool_class_of(pool, slot);
        clear_map(class);
        DEMAND(!sp_slot_shown(pool, slot));
        sp_slot_give(pool, slot);
        DEMAND(sp_slot_shown(pool, slot));
        sp_freemap map = sp_freemap_of(pool, class);
        uint32_t k = slot - pool->geometry.of_class[class].first;
        DEMAND(bits_in(map.words, map.count) == 1 && map.words[k / 64] >> k % 64 & 1);
    }
}

static void a_right_ends_once(void)
{
    clear_map(MIDDLE);
    sp_right right = leased(pool, 5, JOBS, 9);
    DEMAND(!sp_slot_end(pool, 5, right.word + 8) && word_of(5) == right.word && !sp_slot_shown(pool, 5));
    DEMAND(sp_release(pool, &right) == SP_OK && sp_slot_shown(pool, 5));
    DEMAND(word_of(5) == sp_word(SP_FREE, 0, 0, 10) && sp_release(pool, &right) == SP_STALE);
    right = leased(pool, 6, JOBS, MAX);
    DEMAND(sp_release(pool, &right) == SP_OK && word_of(6) == sp_word(SP_RETIRED, 0, 0, MAX));
    DEMAND(!sp_slot_shown(pool, 6));
}

static void soil(uint32_t slot)
{
    sp_slot *record = &pool->slots[slot];
    record->since_ns = 11;
    record->delivery = UINT64_C(0x500000006);
    record->death = 12;
}

static bool hints_are(uint32_t slot, uint64_t since, uint64_t delivery, uint64_t death)
{
    const sp_slot *record = &pool->slots[slot];
    return record->since_ns == since && record->delivery == delivery && record->death == death;
}

static void others_lease_the_same(void)
{
    sp_right right;
    DEMAND(sp_slot_try_lease(other, 5, NOW, &right));
}

static void a_lease_is_of_a_free_slot(void)
{
    for (sp_state state = SP_FREE; state <= SP_QUARANTINED; state++) {
        sp_right right = {0, 0};
        uint64_t word = sp_word(state, 0, 0, 7);
        set(5, word);
        soil(5);
        DEMAND(sp_slot_try_lease(pool, 5, NOW, &right) == (state == SP_FREE));
        if (state != SP_FREE) {
            DEMAND(word_of(5) == word && hints_are(5, 11, UINT64_C(0x500000006), 12));
            continue;
        }
        DEMAND(right.slot == 5 && right.word == word_of(5) && right.word == sp_word(SP_LEASED, ME, 0, 7));
        DEMAND(hints_are(5, NOW, 0, 0));
    }
    sp_right right;
    set(5, sp_word(SP_FREE, 0, 0, 7));
    at_moment(2, others_lease_the_same);
    DEMAND(!sp_slot_try_lease(pool, 5, NOW, &right) && has_moved() && sp_word_owner(word_of(5)) == OTHER);
}

static uint32_t acquire_one(uint32_t class)
{
    sp_right right;
    DEMAND(sp_acquire(pool, class, NOW, &right) == SP_OK);
    return right.slot - pool->geometry.of_class[class].first;
}

static void reuse_is_warm_or_cold(void)
{
    DEMAND(acquire_one(SMALL) == 0 && pool->cursor[SMALL] == 0);
    set(FIRST_SMALL, sp_word(SP_LEASED, ME, 0, 1));
    sp_right right = {FIRST_SMALL, word_of(FIRST_SMALL)};
    DEMAND(sp_release(pool, &right) == SP_OK && acquire_one(SMALL) == 0);
    for (uint32_t class = 0; class < CLASSES; class++) {
        const sp_class_geometry *c = &pool->geometry.of_class[class];
        format();
        pool->reuse = SP_COLD;
        for (uint32_t i = 0; i < c->max_count + 2; i++) {
            uint32_t k = i % c->max_count;
            DEMAND(acquire_one(class) == k);
            right = (sp_right){c->first + k, word_of(c->first + k)};
            DEMAND(sp_release(pool, &right) == SP_OK && pool->cursor[class] == (k + 1) % c->max_count);
        }
    }
}

static void every_free_slot_can_be_leased_once(void)
{
    for (uint32_t class = 0; class < CLASSES; class++) {
        sp_right right;
        for (uint32_t i = 0; i < pool->geometry.of_class[class].max_count; i++)
            acquire_one(class);
        DEMAND(sp_acquire(pool, class, NOW, &right) == SP_EMPTY);
    }
}

static void wrong_bits_cost_a_round_each(void)
{
    sp_right right;
    set(FIRST_SMALL, sp_word(SP_LEASED, OTHER, 0, 1));
    set(FIRST_SMALL + 1, sp_word(SP_LEASED, OTHER, 0, 1));
    DEMAND(acquire_one(SMALL) == 2 && sp_acquire(pool, SMALL, NOW, &right) == SP_EMPTY);
    /* A bit of no slot: of the next class's first one, if nobody looked. */
    clear_map(MIDDLE);
    sp_freemap_of(pool, MIDDLE).words[1] = UINT64_C(1) << (MIDDLE_SLOTS - 64);
    sp_freemap_of(pool, MIDDLE).summary[0] = 2;
    DEMAND(sp_acquire(pool, MIDDLE, NOW, &right) == SP_EMPTY);
    DEMAND(word_of(FIRST_BIG) == sp_word(SP_FREE, 0, 0, 1));
    /* More wrong bits than slots: not for ever. */
    sp_freemap_of(pool, SMALL).words[0] = ALL << SMALL_SLOTS;
    for (int i = 0; i < 64; i++)
        DEMAND(sp_acquire(pool, SMALL, NOW, &right) == SP_EMPTY);
    DEMAND(!sp_freemap_of(pool, SMALL).words[0]);
}

static void the_right_is_taken_away(void)
{
    set(5, sp_word(SP_LEASED, OTHER, 0, 9));
}

static void a_ticket_is_sent_by_its_owner(void)
{
    uint64_t ticket = 0;
    sp_right right = leased(pool, 5, LETTERS, MAX);
    soil(5);
    DEMAND(sp_send(pool, &right, JOBS, NOW, &ticket) == SP_SPENT && word_of(5) == right.word);
    right = leased(pool, 5, LETTERS, 7);
    set(5, sp_word(SP_LEASED, OTHER, LETTERS, 7));
    DEMAND(sp_send(pool, &right, JOBS, NOW, &ticket) == SP_STALE && !ticket);
    DEMAND(sp_word_owner(word_of(5)) == OTHER && hints_are(5, 11, UINT64_C(0x500000006), 12));
    for (uint64_t generation = 7; generation < MAX; generation += MAX - 8) {
        right = leased(pool, 5, LETTERS, generation);
        soil(5);
        DEMAND(sp_send(pool, &right, JOBS, NOW, &ticket) == SP_OK && hints_are(5, NOW, 6, 0));
        DEMAND(ticket == sp_ticket(5, generation + 1));
        DEMAND(word_of(5) == sp_word(SP_QUEUED, ME, JOBS, generation + 1));
    }
    right = leased(pool, 5, LETTERS, 7);
    at_moment(3, the_right_is_taken_away);
    DEMAND(sp_send(pool, &right, JOBS, NOW, &ticket) == SP_STALE && has_moved());
    DEMAND(word_of(5) == sp_word(SP_LEASED, OTHER, 0, 9));
}

static void what_is_put_is_got(void)
{
    sp_right right = leased(pool, 5, 0, 7), got = {0, 0};
    DEMAND(sp_get(other, JOBS, NOW, &got) == SP_EMPTY && pool->slots[0].since_ns == 0);
    DEMAND(sp_put(pool, &right, JOBS, 3) == SP_OK && sp_ring_size(pool, JOBS) == 1);
    DEMAND(sp_put(pool, &right, JOBS, 3) == SP_STALE && sp_ring_size(pool, JOBS) == 1);
    DEMAND(pool->slots[5].since_ns == 3 && sp_ring_size(pool, LETTERS) == 0);
    DEMAND(sp_get(other, JOBS, NOW, &got) == SP_OK && pool->slots[5].since_ns == NOW);
    DEMAND(got.slot == 5 && got.word == sp_word(SP_LEASED, OTHER, JOBS, 8));
    DEMAND(sp_ring_size(pool, JOBS) == 0);
}

static void what_can_be_claimed(void)
{
    uint64_t ticket = sp_ticket(5, 7);
    for (sp_state state = SP_FREE; state <= SP_QUARANTINED; state++) {
        set(5, sp_word(state, ME, 0, 7));
        bool can = state == SP_QUEUED || state == SP_QUARANTINED;
        DEMAND(sp_claimable(pool, ticket) == (can ? word_of(5) : 0));
        DEMAND(!sp_claimable(pool, ticket + 1));
        set(5, sp_word(state, ME, JOBS, 7));
        DEMAND(sp_claimable(pool, ticket) == (state == SP_QUARANTINED ? word_of(5) : 0));
    }
}

static void the_reaper_adopts_it(void)
{
    set(5, sp_word_with_owner(word_of(5), COORDINATOR));
}

static void a_detached_ticket_is_claimed_once(void)
{
    uint64_t ticket;
    sp_right right = leased(pool, 5, JOBS, 7), got = {0, 0};
    DEMAND(sp_detach(pool, &right, 3, &ticket) == SP_OK && ticket == sp_ticket(5, 8));
    DEMAND(word_of(5) == sp_word(SP_QUEUED, ME, 0, 8));
    DEMAND(sp_claim(other, ticket + 1, NOW, &got) == SP_STALE && !got.word);
    at_moment(2, the_reaper_adopts_it);
    DEMAND(sp_claim(other, ticket, NOW, &got) == SP_OK && has_moved() && got.slot == 5);
    DEMAND(got.word == word_of(5) && got.word == sp_word(SP_LEASED, OTHER, 0, 8));
    DEMAND(pool->slots[5].since_ns == NOW && sp_claim(other, ticket, NOW, &got) == SP_STALE);
    set(SLOTS, sp_word(SP_QUEUED, ME, 0, 8)); /* the pool has no such slot */
    DEMAND(sp_claim(other, sp_ticket(SLOTS, 8), NOW, &got) == SP_CORRUPT);
    right = leased(pool, 5, JOBS, 7);
    DEMAND(sp_detach(pool, &right, 3, &ticket) == SP_OK);
    at_moment(2, the_right_is_taken_away);
    DEMAND(sp_claim(other, ticket, NOW, &got) == SP_STALE && has_moved());
    DEMAND(word_of(5) == sp_word(SP_LEASED, OTHER, 0, 9));
}

static void an_heir_has_the_queue_and_the_attempts(void)
{
    sp_right from = leased(pool, 5, JOBS, 7), heir = leased(pool, 6, 0, 9);
    soil(5);
    uint64_t word = heir.word;
    DEMAND(sp_inherit(pool, &heir, &from) == SP_OK);
    DEMAND(heir.word == sp_word(SP_LEASED, ME, JOBS, 9) && word_of(6) == heir.word);
    DEMAND(hints_are(6, 0, UINT64_C(0x500000000), 12) && word_of(5) == from.word);
    heir.word = word; /* no more what it is */
    DEMAND(sp_inherit(pool, &heir, &from) == SP_STALE && heir.word == word);
    DEMAND(word_of(6) == sp_word(SP_LEASED, ME, JOBS, 9));
}

/* --- sp_share.h ----------------------------------------------------------------------------- */

static void others_take_the_first_reader_id(void)
{
    pool->readers[0] = OTHER;
}

static void a_reader_id_is_ones_own(void)
{
    DEMAND(sp_reader_take(pool) && pool->reader == 1 && pool->readers[0] == ME);
    DEMAND(pool->members[ME].reader == 1);
    DEMAND(sp_reader_take(pool) && pool->reader == 1 && !pool->readers[1]);
    DEMAND(sp_reader_take(other) && other->reader == 2 && pool->readers[1] == OTHER);
    for (uint32_t id = 0; id < SP_MAX_READERS; id++)
        pool->readers[id] = FULL;
    pool->reader = other->reader = 0;
    DEMAND(!sp_reader_take(pool) && !pool->reader && !pool->members[ME].reader);
    DEMAND(pool->readers[SP_MAX_READERS - 1] == FULL);
    pool->readers[SP_MAX_READERS - 1] = SP_NOBODY;
    DEMAND(sp_reader_take(pool) && pool->reader == SP_MAX_READERS);
    DEMAND(pool->readers[SP_MAX_READERS - 1] == ME && pool->members[ME].reader == SP_MAX_READERS);
}

static void a_reader_id_is_taken_by_one(void)
{
    at_moment(2, others_take_the_first_reader_id);
    DEMAND(sp_reader_take(pool) && has_moved() && pool->reader == 2);
    DEMAND(pool->readers[0] == OTHER && pool->readers[1] == ME);
}

static const uint32_t readers[] = {0, 63, 64, 128, 200, 255};
enum { READERS = sizeof readers / sizeof *readers };

static void set_reader(uint32_t slot, uint32_t reader)
{
    pool->slots[slot].readers[reader / 64] |= UINT64_C(1) << reader % 64;
}

static void others_drain_and_lease(void)
{
    sp_right right;
    DEMAND(sp_drain(other, 5) && sp_slot_try_lease(other, 5, NOW, &right));
}

static void the_last_one_frees(void)
{
    uint64_t draining = sp_word(SP_DRAINING, 0, 0, 7);
    for (uint32_t i = 0; i < READERS; i++) {
        format();
        clear_map(MIDDLE);
        soil(5);
        set(5, draining);
        DEMAND(!sp_readers_any(&pool->slots[5]));
        set_reader(5, readers[i]);
        DEMAND(sp_readers_any(&pool->slots[5]) && !sp_drain(pool, 5) && word_of(5) == draining);
        set_reader(5, readers[i] ^ 1);
        sp_give_back(pool, 5, readers[i]);
        DEMAND(word_of(5) == draining && sp_readers_any(&pool->slots[5]) && !sp_slot_shown(pool, 5));
        sp_give_back(pool, 5, readers[i] ^ 1);
        DEMAND(word_of(5) == sp_word(SP_FREE, 0, 0, 7) && sp_slot_shown(pool, 5));
        DEMAND(!sp_readers_any(&pool->slots[5]));
    }
    set(5, sp_word(SP_SHARED, ME, 0, 7));
    DEMAND(!sp_drain(pool, 5) && word_of(5) == sp_word(SP_SHARED, ME, 0, 7));
    clear_map(MIDDLE);
    set(5, draining);
    DEMAND(sp_drain(pool, 5) && sp_slot_shown(pool, 5) && !sp_drain(pool, 5));
    set(5, draining);
    at_moment(6, others_drain_and_lease); /* after the word and four words of readers */
    DEMAND(!sp_drain(pool, 5) && has_moved() && word_of(5) == sp_word(SP_LEASED, OTHER, 0, 7));
}

static void a_share_is_of_a_lease(void)
{
    uint64_t ticket = 0;
    sp_right right = leased(pool, 5, JOBS, MAX);
    DEMAND(sp_share(pool, &right, &ticket) == SP_SPENT && word_of(5) == sp_word(SP_LEASED, ME, JOBS, MAX));
    right = leased(pool, 5, JOBS, 7);
    set(5, sp_word(SP_LEASED, OTHER, 0, 7));
    DEMAND(sp_share(pool, &right, &ticket) == SP_STALE && !ticket && sp_word_owner(word_of(5)) == OTHER);
    DEMAND(right.word == sp_word(SP_LEASED, ME, JOBS, 7));
    right = leased(pool, 5, JOBS, MAX - 1);
    DEMAND(sp_share(pool, &right, &ticket) == SP_OK && ticket == sp_ticket(5, MAX - 1));
    DEMAND(right.word == word_of(5) && right.word == sp_word(SP_SHARED, ME, 0, MAX - 1));
    DEMAND(!sp_shared_end(pool, 5, right.word + 1));
    set_reader(5, 9);
    DEMAND(sp_shared_end(pool, 5, right.word) && word_of(5) == sp_word(SP_DRAINING, 0, 0, MAX));
    right = leased(pool, 5, 0, 7);
    memset((void *)pool->slots[5].readers, 0, sizeof pool->slots[5].readers);
    DEMAND(sp_share(pool, &right, &ticket) == SP_OK && sp_shared_end(pool, 5, right.word));
    DEMAND(word_of(5) == sp_word(SP_FREE, 0, 0, 8));
}

static void the_share_ends(void)
{
    DEMAND(sp_shared_end(other, 5, sp_word(SP_SHARED, OTHER, 0, 7)));
}

static void a_borrow_is_of_what_is_shared(void)
{
    for (uint32_t i = 0; i < READERS; i++) {
        sp_slot *slot = &pool->slots[5];
        format();
        pool->reader = readers[i] + 1;
        set(5, sp_word(SP_SHARED, OTHER, 0, 7));
        DEMAND(sp_borrow(pool, sp_ticket(5, 8)) == SP_STALE && !sp_readers_any(slot));
        DEMAND(sp_borrow(pool, sp_ticket(5, 7)) == SP_OK);
        DEMAND(slot->readers[readers[i] / 64] == UINT64_C(1) << readers[i] % 64);
        sp_give_back(pool, 5, readers[i]);
        DEMAND(!sp_readers_any(slot) && sp_word_state(word_of(5)) == SP_SHARED);
        for (int number = 2; number < 4; number++) { /* before and after the bit is set */
            set(5, sp_word(SP_SHARED, OTHER, 0, 7));
            at_moment(number, the_share_ends);
            DEMAND(sp_borrow(pool, sp_ticket(5, 7)) == SP_STALE && has_moved());
            DEMAND(!sp_readers_any(slot) && word_of(5) == sp_word(SP_FREE, 0, 0, 8));
        }
    }
    set(SLOTS, sp_word(SP_SHARED, OTHER, 0, 7)); /* the pool has no such slot */
    DEMAND(sp_borrow(pool, sp_ticket(SLOTS, 7)) == SP_CORRUPT);
}

static void a_peek_is_of_what_nobody_writes(void)
{
    uint64_t ticket = sp_ticket(5, 7);
    for (sp_state state = SP_FREE; state <= SP_QUARANTINED; state++) {
        set(5, sp_word(state, OTHER, 0, 7));
        bool can = state == SP_QUEUED || state == SP_SHARED || state == SP_QUARANTINED;
        DEMAND(sp_peek_begin(pool, ticket) == (can ? state : SP_FREE));
        DEMAND(sp_peek_begin(pool, ticket + 1) == SP_FREE);
        DEMAND(sp_peek_end(pool, ticket, state) && !sp_peek_end(pool, ticket + 1, state));
        DEMAND(!sp_peek_end(pool, ticket, state ^ 1));
    }
    set(SLOTS, sp_word(SP_QUEUED, OTHER, 0, 7));
    DEMAND(sp_peek_begin(pool, sp_ticket(SLOTS, 7)) == SP_FREE);
}

/* --- sp_commit.h ---------------------------------------------------------------------------- */

static sp_atomic_u64 *hint_of(uint32_t class)
{
    return &pool->class_states[class].uncommitted;
}

static void empty_small(uint64_t generation)
{
    format();
    for (uint32_t k = 0; k < SMALL_SLOTS; k++)
        set(FIRST_SMALL + k, sp_word(SP_UNCOMMITTED, 0, 0, generation));
    clear_map(SMALL);
    *hint_of(SMALL) = SMALL_SLOTS;
}

static uint32_t commit_one(void)
{
    sp_right right;
    DEMAND(sp_commit_begin(pool, SMALL, &right) == SP_OK);
    DEMAND(right.word == sp_word(SP_UNCOMMITTED, ME, 0, 7) && word_of(right.slot) == right.word);
    return right.slot - FIRST_SMALL;
}

static void the_search_for_memory_goes_round(void)
{
    sp_right right;
    for (uint32_t start = 0; start < SMALL_SLOTS; start++) {
        empty_small(7);
        pool->grown[SMALL] = start;
        for (uint32_t i = 0; i < SMALL_SLOTS; i++) {
            DEMAND(commit_one() == (start + i) % SMALL_SLOTS);
            DEMAND(pool->grown[SMALL] == (start + i) % SMALL_SLOTS);
        }
        DEMAND(sp_commit_begin(pool, SMALL, &right) == SP_EMPTY && *hint_of(SMALL) == SMALL_SLOTS);
    }
    empty_small(7);
    *hint_of(SMALL) = 0; /* nobody need look */
    DEMAND(sp_commit_begin(pool, SMALL, &right) == SP_EMPTY);
    DEMAND(sp_commit_begin(pool, MIDDLE, &right) == SP_EMPTY);
}

static void others_commit_the_first(void)
{
    sp_right right;
    DEMAND(sp_commit_try(other, FIRST_SMALL, &right));
}

static void one_fetches_memory_for_a_slot(void)
{
    sp_right right;
    empty_small(7);
    at_moment(2, others_commit_the_first);
    DEMAND(!sp_commit_try(pool, FIRST_SMALL, &right) && has_moved());
    DEMAND(sp_word_owner(word_of(FIRST_SMALL)) == OTHER && !sp_commit_try(pool, FIRST_SMALL, &right));
    for (sp_state state = SP_FREE; state <= SP_QUARANTINED; state++) {
        set(5, sp_word(state, 0, 0, 7));
        DEMAND(sp_commit_try(pool, 5, &right) == (state == SP_UNCOMMITTED));
        DEMAND(word_of(5) == sp_word(state, state == SP_UNCOMMITTED ? ME : 0, 0, 7));
    }
}

static void memory_is_there_for_us_or_for_anybody(void)
{
    sp_right right;
    empty_small(7);
    soil(FIRST_SMALL);
    DEMAND(sp_commit_begin(pool, SMALL, &right) == SP_OK && sp_commit_lease(pool, &right, NOW) == SP_OK);
    DEMAND(right.word == word_of(FIRST_SMALL) && right.word == sp_word(SP_LEASED, ME, 0, 7));
    DEMAND(hints_are(FIRST_SMALL, NOW, 0, 0) && *hint_of(SMALL) == 2 && !sp_slot_shown(pool, FIRST_SMALL));
    right.word = sp_word(SP_UNCOMMITTED, ME, 0, 7);
    soil(FIRST_SMALL);
    DEMAND(sp_commit_lease(pool, &right, NOW) == SP_STALE && sp_commit_free(pool, &right) == SP_STALE);
    DEMAND(*hint_of(SMALL) == 2 && pool->slots[FIRST_SMALL].since_ns == 11);
    DEMAND(right.word == sp_word(SP_UNCOMMITTED, ME, 0, 7) && !sp_slot_shown(pool, FIRST_SMALL));
    DEMAND(sp_commit_begin(pool, SMALL, &right) == SP_OK && sp_commit_free(pool, &right) == SP_OK);
    DEMAND(word_of(right.slot) == sp_word(SP_FREE, 0, 0, 7) && sp_slot_shown(pool, right.slot));
    DEMAND(*hint_of(SMALL) == 1 && *hint_of(BIG) == 0 && *hint_of(MIDDLE) == 0);
    DEMAND(sp_commit_begin(pool, SMALL, &right) == SP_OK);
    DEMAND(sp_commit_undo(pool, right.slot, right.word) && *hint_of(SMALL) == 1);
    DEMAND(word_of(right.slot) == sp_word(SP_UNCOMMITTED, 0, 0, 7));
    DEMAND(!sp_commit_undo(pool, right.slot, right.word));
}

static void others_lease_the_highest(void)
{
    sp_right right;
    DEMAND(sp_slot_try_lease(other, SLOTS - 1, NOW, &right));
}

static void the_highest_free_slot_is_trimmed(void)
{
    sp_right right;
    for (uint32_t k = SMALL_SLOTS; k--;) {
        DEMAND(sp_trim_begin(pool, SMALL, SMALL_SLOTS, &right) == SP_OK && right.slot == FIRST_SMALL + k);
        DEMAND(right.word == word_of(right.slot) && right.word == sp_word(SP_UNCOMMITTED, ME, 0, 1));
        DEMAND(*hint_of(SMALL) == SMALL_SLOTS - k);
        DEMAND(sp_trim_end(pool, &right) == SP_OK && sp_trim_end(pool, &right) == SP_STALE);
        DEMAND(word_of(right.slot) == sp_word(SP_UNCOMMITTED, 0, 0, 2));
    }
    /* The slot before a class's first is another class's. */
    DEMAND(sp_trim_begin(pool, SMALL, SMALL_SLOTS, &right) == SP_EMPTY && *hint_of(SMALL) == SMALL_SLOTS);
    DEMAND(word_of(FIRST_SMALL - 1) == sp_word(SP_FREE, 0, 0, 1));
    DEMAND(sp_trim_begin(pool, BIG, 10, &right) == SP_OK && right.slot == FIRST_BIG + 9);
    format();
    at_moment(2, others_lease_the_highest);
    DEMAND(sp_trim_begin(pool, SMALL, SMALL_SLOTS, &right) == SP_OK && right.slot == SLOTS - 2);
    DEMAND(has_moved() && *hint_of(SMALL) == 1);
    set(5, sp_word(SP_UNCOMMITTED, ME, 0, MAX));
    right = (sp_right){5, word_of(5)};
    DEMAND(sp_trim_end(pool, &right) == SP_OK && word_of(5) == sp_word(SP_RETIRED, 0, 0, MAX));
}

/* --- sp_reap.h ------------------------------------------------------------------------------ */

static void a_dead_holders_slot_goes_where_its_queue_says(void)
{
    DEMAND(sp_reap_target(reaper, SP_NO_QUEUE, 1) == 0 && sp_reap_target(reaper, QUEUES + 1, 1) == 0);
    DEMAND(sp_reap_target(reaper, LETTERS, 1) == 0);
    DEMAND(sp_reap_target(reaper, JOBS, 1) == JOBS && sp_reap_target(reaper, JOBS, 2) == LETTERS);
    DEMAND(sp_reap_target(reaper, JOBS, 3) == LETTERS);
    reaper->queue_spec[JOBS - 1].max_attempts = 0;
    DEMAND(sp_reap_target(reaper, JOBS, 100) == JOBS);
    reaper->queue_spec[JOBS - 1].on_death = SP_DISCARD;
    DEMAND(sp_reap_target(reaper, JOBS, 1) == 0);
    reaper->queue_spec[LETTERS - 1].on_death = SP_REQUEUE;
    DEMAND(sp_reap_target(reaper, LETTERS, 1) == LETTERS);
    reaper->queue_spec[LETTERS - 1].on_death = SP_QUARANTINE;
    reaper->queue_spec[QUEUES].on_death = SP_QUARANTINE; /* of no queue */
    DEMAND(!sp_reap_quarantines(reaper, SP_NO_QUEUE) && !sp_reap_quarantines(reaper, QUEUES + 1));
    DEMAND(!sp_reap_quarantines(reaper, JOBS) && sp_reap_quarantines(reaper, LETTERS));
}

static void die(uint32_t pid)
{
    pool->members[DEAD].identity = sp_identity(pid, SP_ACTIVE);
    sp_member_bury(reaper, DEAD);
}

static void whose_death_it_was_is_noted(void)
{
    die(0xfedcba98);
    pool->slots[5].death = ALL;
    sp_reap_note(reaper, 5, DEAD, 2, 0);
    DEMAND(pool->slots[5].death == UINT64_C(0xfedcba980000ff02));
    sp_reap_note(reaper, 5, DEAD, 31, 9);
    DEMAND(pool->slots[5].death == UINT64_C(0xfedcba980000091f));
}

static uint64_t dead_word(sp_state state, uint32_t slot, uint32_t queue, uint64_t generation)
{
    set(slot, sp_word(state, DEAD, queue, generation));
    return word_of(slot);
}

static sp_reaped reap_held(uint32_t queue, uint64_t generation, uint64_t delivery)
{
    format();
    clear_map(MIDDLE);
    die(1);
    soil(5);
    pool->slots[5].delivery = delivery;
    dead_word(SP_LEASED, 5, queue, generation);
    return sp_reap_slot(reaper, 5, DEAD);
}

static void what_a_dead_member_held_goes_on(void)
{
    DEMAND(reap_held(JOBS, 7, 6) == SP_REAP_REQUEUED && hints_are(5, 11, UINT64_C(1) << 32 | 6, UINT64_C(1) << 32 | 1));
    DEMAND(word_of(5) == sp_word(SP_QUEUED, COORDINATOR, JOBS, 8) && *cell_at(0) == sp_ticket(5, 8));
    DEMAND(ends_are(0, 1));
    DEMAND(reap_held(JOBS, 7, UINT64_C(1) << 32 | 6) == SP_REAP_DEAD_LETTER);
    DEMAND(hints_are(5, 11, UINT64_C(2) << 32 | 6, UINT64_C(1) << 32 | JOBS << 8 | JOBS));
    DEMAND(word_of(5) == sp_word(SP_QUEUED, COORDINATOR, LETTERS, 8) && sp_ring_size(pool, LETTERS) == 1);
    DEMAND(reap_held(LETTERS, 7, 6) == SP_REAP_QUARANTINED);
    DEMAND(word_of(5) == sp_word(SP_QUARANTINED, 0, LETTERS, 8));
    DEMAND(hints_are(5, 11, UINT64_C(1) << 32 | 6, UINT64_C(1) << 32 | LETTERS));
    DEMAND(reap_held(SP_NO_QUEUE, 7, 6) == SP_REAP_FREED && word_of(5) == sp_word(SP_FREE, 0, 0, 8));
    DEMAND(sp_slot_shown(pool, 5) && hints_are(5, 11, 6, 12));
    for (uint32_t queue = SP_NO_QUEUE; queue <= QUEUES; queue++) {
        DEMAND(reap_held(queue, MAX, 6) == SP_REAP_FREED && !sp_slot_shown(pool, 5));
        DEMAND(word_of(5) == sp_word(SP_RETIRED, 0, 0, MAX));
    }
    DEMAND(reap_held(JOBS, MAX - 1, 6) == SP_REAP_REQUEUED && sp_word_generation(word_of(5)) == MAX);
}

static void it_moves(void)
{
    set(5, sp_word(SP_LEASED, OTHER, 0, 9));
}

/* Every step of the reaper asks whether the word is what it was. */
static void the_reaper_takes_nothing_from_the_living(void)
{
    uint64_t word = sp_word(SP_LEASED, DEAD, LETTERS, 7);
    it_moves();
    DEMAND(sp_reap_quarantine(reaper, 5, word) == SP_REAP_NOTHING);
    DEMAND(sp_reap_free(reaper, 5, word) == SP_REAP_NOTHING);
    DEMAND(sp_reap_shared(reaper, 5, sp_word(SP_SHARED, DEAD, 0, 7)) == SP_REAP_NOTHING);
    DEMAND(sp_reap_uncommitted(reaper, 5, sp_word(SP_UNCOMMITTED, DEAD, 0, 7)) == SP_REAP_NOTHING);
    DEMAND(sp_reap_leased(reaper, 5, word) == SP_REAP_NOTHING);
    DEMAND(sp_reap_leased(reaper, 5, sp_word(SP_LEASED, DEAD, JOBS, 7)) == SP_REAP_NOTHING);
    DEMAND(sp_reap_queued(reaper, 5, sp_word(SP_QUEUED, DEAD, 0, 7)) == SP_REAP_NOTHING);
    DEMAND(sp_reap_slot(reaper, 5, DEAD) == SP_REAP_NOTHING && ends_are(0, 0));
    DEMAND(word_of(5) == sp_word(SP_LEASED, OTHER, 0, 9));
}

static void every_state_is_reaped_in_its_way(void)
{
    dead_word(SP_SHARED, 5, 0, 7);
    DEMAND(sp_reap_slot(reaper, 5, DEAD) == SP_REAP_FREED && word_of(5) == sp_word(SP_FREE, 0, 0, 8));
    dead_word(SP_UNCOMMITTED, 5, 0, 7);
    DEMAND(sp_reap_slot(reaper, 5, DEAD) == SP_REAP_UNCOMMITTED);
    DEMAND(word_of(5) == sp_word(SP_UNCOMMITTED, 0, 0, 7));
    dead_word(SP_QUEUED, 5, 0, 7);
    DEMAND(sp_reap_slot(reaper, 5, DEAD) == SP_REAP_DETACHED);
    DEMAND(word_of(5) == sp_word(SP_QUEUED, COORDINATOR, 0, 7));
    dead_word(SP_QUEUED, 5, QUEUES + 1, 7); /* hostile: there is no such queue */
    DEMAND(sp_reap_slot(reaper, 5, DEAD) == SP_REAP_DETACHED);
    dead_word(SP_QUEUED, 5, QUEUES, 7);
    DEMAND(sp_reap_slot(reaper, 5, DEAD) == SP_REAP_ADOPTED);
    DEMAND(word_of(5) == sp_word(SP_QUEUED, COORDINATOR, QUEUES, 7) && sp_ring_size(pool, QUEUES) == 1);
    const sp_state others[] = {SP_FREE, SP_DRAINING, SP_RETIRED, SP_QUARANTINED};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        uint64_t word = dead_word(others[i], 5, 0, 7);
        DEMAND(sp_reap_slot(reaper, 5, DEAD) == SP_REAP_NOTHING && word_of(5) == word);
    }
    set_ends(UINT64_C(1) << 40, pool->geometry.ring_cells);
    dead_word(SP_QUEUED, 5, JOBS, 7);
    DEMAND(sp_reap_slot(reaper, 5, DEAD) == SP_REAP_CORRUPT);
    dead_word(SP_LEASED, 5, JOBS, 7);
    DEMAND(sp_reap_slot(reaper, 5, DEAD) == SP_REAP_CORRUPT);
}

static void it_is_claimed(void)
{
    sp_right right;
    DEMAND(sp_ring_claim(other, JOBS, &right) == SP_OK && right.slot == 5);
}

static void tickets_in_a_ring_are_adopted_where_they_stand(void)
{
    uint32_t cells = pool->geometry.ring_cells;
    set_ends(cells - 1, cells + 1);
    *cell_at(cells - 1) = queued(5, DEAD, 7);
    *cell_at(cells) = queued(6, ME, 7);
    *cell_at(cells + 1) = queued(7, DEAD, 7); /* not counted */
    sp_pool_ring(pool, LETTERS)[0] = sp_ticket(8, 7);
    dead_word(SP_QUEUED, 8, LETTERS, 7);
    DEMAND(sp_reap_ring(reaper, JOBS, DEAD) == 2 && ends_are(cells - 1, cells + 2));
    DEMAND(sp_word_owner(word_of(5)) == COORDINATOR && sp_word_owner(word_of(6)) == ME);
    DEMAND(sp_word_owner(word_of(7)) == COORDINATOR && sp_word_owner(word_of(8)) == DEAD);
    DEMAND(sp_reap_rings(reaper, DEAD) == 1 && sp_word_owner(word_of(8)) == COORDINATOR);
    DEMAND(sp_pool_queue(pool, LETTERS)->tail == 1 && sp_reap_rings(reaper, DEAD) == 0);
    format();
    sp_ring_insert(pool, JOBS, queued(5, DEAD, 7));
    DEMAND(sp_reap_rings(reaper, DEAD) == 1);
    set(5, sp_word(SP_QUEUED, DEAD, JOBS, 7));
    at_moment(3, it_is_claimed);
    DEMAND(sp_reap_ring(reaper, JOBS, DEAD) == 0 && has_moved() && sp_word_owner(word_of(5)) == OTHER);
}

static void a_free_slot_is_shown_again(void)
{
    const uint32_t slots[] = {5, 64, FIRST_BIG + 4096, FIRST_SMALL};
    for (size_t i = 0; i < sizeof slots / sizeof *slots; i++) {
        uint32_t slot = slots[i], class = sp_pool_class_of(pool, slot);
        format();
        DEMAND(!sp_reap_show(reaper, slot));
        clear_map(class);
        DEMAND(sp_reap_show(reaper, slot) && sp_slot_shown(pool, slot) && !sp_reap_show(reaper, slot));
        clear_map(class);
        set(slot, sp_word(SP_LEASED, ME, 0, 1));
        DEMAND(!sp_reap_show(reaper, slot) && !sp_slot_shown(pool, slot));
        set(slot, sp_word(SP_DRAINING, 0, 0, 7));
        DEMAND(sp_reap_show(reaper, slot) && word_of(slot) == sp_word(SP_FREE, 0, 0, 7));
        DEMAND(sp_slot_shown(pool, slot));
    }
}

static void a_dead_readers_bits_go(void)
{
    for (uint32_t i = 0; i < READERS; i++) {
        format();
        uint32_t reader = readers[i], living = reader ^ 1;
        pool->readers[reader] = DEAD;
        pool->readers[living] = ME;
        set(0, sp_word(SP_DRAINING, 0, 0, 7));
        set_reader(0, reader);
        set(SLOTS - 1, sp_word(SP_DRAINING, 0, 0, 7));
        set_reader(SLOTS - 1, reader);
        set_reader(SLOTS - 1, living);
        set(6, sp_word(SP_DRAINING, 0, 0, 7)); /* none of its business: no bit */
        sp_reap_readers(reaper, DEAD);
        DEMAND(pool->readers[reader] == SP_NOBODY && pool->readers[living] == ME);
        DEMAND(word_of(0) == sp_word(SP_FREE, 0, 0, 7) && sp_word_state(word_of(SLOTS - 1)) == SP_DRAINING);
        DEMAND(!sp_readers_any(&pool->slots[0]));
        DEMAND(pool->slots[SLOTS - 1].readers[reader / 64] == UINT64_C(1) << living % 64);
        DEMAND(sp_word_state(word_of(6)) == SP_DRAINING);
    }
}

static void the_dead_wait_for_nothing(void)
{
    sp_atomic_u64 *masks[CLASSES + 2 * QUEUES];
    int count = 0;
    for (uint32_t i = 0; i < CLASSES; i++)
        masks[count++] = pool->class_states[i].waiting;
    for (uint32_t i = 1; i <= QUEUES; i++) {
        masks[count++] = sp_pool_queue(pool, i)->waiting;
        masks[count++] = sp_pool_queue(pool, i)->waiting_space;
    }
    const uint32_t members[] = {1, 63, 64, DEAD, FULL};
    for (size_t k = 0; k < sizeof members / sizeof *members; k++) {
        for (int i = 0; i < count; i++)
            memset((void *)masks[i], 0xff, 8 * SP_MASK_WORDS);
        sp_reap_waiting(reaper, members[k]);
        for (int i = 0; i < count; i++)
            for (uint32_t w = 0; w < SP_MASK_WORDS; w++)
                DEMAND(masks[i][w] == (w == members[k] / 64 ? ~(UINT64_C(1) << members[k] % 64) : ALL));
    }
}

/* --- sp_wait.h ------------------------------------------------------------------------------ */

static sp_atomic_u64 mask[SP_MASK_WORDS];
static const uint32_t sleepers[] = {1, 5, 63, 64, 127, 128, 191, 192, 255};
enum { SLEEPERS = sizeof sleepers / sizeof *sleepers };

static void a_sleeper_has_one_bit(void)
{
    for (uint32_t i = 0; i < SLEEPERS; i++) {
        memset((void *)mask, 0, sizeof mask);
        DEMAND(!sp_wait_any(mask));
        sp_wait_begin(mask, sleepers[i]);
        DEMAND(bits_in(mask, SP_MASK_WORDS) == 1 && mask[sleepers[i] / 64] >> sleepers[i] % 64 & 1);
        DEMAND(sp_wait_any(mask));
        memset((void *)mask, 0xff, sizeof mask);
        sp_wait_end(mask, sleepers[i]);
        DEMAND(bits_in(mask, SP_MASK_WORDS) == 255 && !(mask[sleepers[i] / 64] >> sleepers[i] % 64 & 1));
    }
}

static void nobody_is_passed_over(void)
{
    for (uint32_t start = 0; start < SLEEPERS; start++) {
        memset((void *)mask, 0, sizeof mask);
        for (uint32_t i = 0; i < SLEEPERS; i++)
            sp_wait_begin(mask, sleepers[i]);
        uint32_t after = sleepers[start];
        for (uint32_t i = 1; i <= SLEEPERS; i++) {
            after = sp_wait_next(mask, after);
            DEMAND(after == sleepers[(start + i) % SLEEPERS]);
            DEMAND(bits_in(mask, SP_MASK_WORDS) == SLEEPERS - i && !(mask[after / 64] >> after % 64 & 1));
        }
        DEMAND(sp_wait_next(mask, after) == 0);
    }
    for (uint32_t i = 0; i < SLEEPERS * SLEEPERS; i++)
        for (uint32_t after = 0; after < 256; after++) {
            uint32_t one = sleepers[i / SLEEPERS], two = sleepers[i % SLEEPERS];
            memset((void *)mask, 0, sizeof mask);
            sp_wait_begin(mask, one);
            sp_wait_begin(mask, two);
            bool one_first = (one - after - 1) % 256 <= (two - after - 1) % 256;
            DEMAND(sp_wait_next(mask, after) == (one_first ? one : two));
        }
    memset((void *)mask, 0, sizeof mask);
    for (uint32_t i = 0; i < SLEEPERS; i++)
        for (uint32_t after = 0; after < 256; after++) {
            sp_wait_begin(mask, sleepers[i]);
            DEMAND(sp_wait_next(mask, after) == sleepers[i] && !sp_wait_any(mask));
        }
}

static void another_rings_first(void)
{
    mask[1] &= mask[1] - 1;
}

static void a_sleeper_is_rung_once(void)
{
    memset((void *)mask, 0, sizeof mask);
    mask[1] = 0x88;
    at_moment(2, another_rings_first);
    DEMAND(sp_wait_next_in(mask, 1, ALL) == 64 + 7 && has_moved() && !mask[1]);
    mask[1] = 0x80;
    at_moment(2, another_rings_first);
    DEMAND(sp_wait_next_in(mask, 1, ALL) == 0 && has_moved());
    mask[1] = 0x88;
    DEMAND(sp_wait_next_in(mask, 1, 0x80) == 64 + 7 && mask[1] == 8 && !sp_wait_next_in(mask, 1, 0x80));
}

/* --- sp_member.h ---------------------------------------------------------------------------- */

static void others_join_first(void)
{
    DEMAND(sp_member_join(other, 9) == 1);
}

static void a_member_has_an_entry_of_its_own(void)
{
    DEMAND(sp_identity(0xfedcba98, SP_LEFT) == UINT64_C(0xfedcba9803));
    DEMAND(sp_identity_pid(sp_identity(0xfedcba98, SP_LEFT)) == 0xfedcba98);
    clear_map(MIDDLE); /* which stands behind the last entry */
    for (uint32_t i = 1; i <= FULL; i++) {
        DEMAND(sp_member_join(pool, 100 + i) == i);
        DEMAND(pool->members[i].identity == sp_identity(100 + i, SP_JOINING));
    }
    DEMAND(sp_member_join(pool, 9) == 0 && pool->members[0].identity == 0);
    DEMAND(pool->members[FULL + 1].identity == 0);
    pool->members[200].identity = SP_VACANT;
    DEMAND(sp_member_join(pool, 9) == 200);
    format();
    at_moment(2, others_join_first);
    DEMAND(sp_member_join(pool, 8) == 2 && has_moved());
    DEMAND(pool->members[1].identity == sp_identity(9, SP_JOINING));
}

static void a_member_comes_and_goes(void)
{
    DEMAND(sp_member_join(pool, 8) == 1 && pool->status->joins == 0);
    sp_member_activate(pool, 1, 8);
    DEMAND(pool->members[1].identity == sp_identity(8, SP_ACTIVE) && pool->status->joins == 1);
    sp_member_leave(pool, 1, 9); /* somebody else's by now */
    DEMAND(pool->members[1].identity == sp_identity(8, SP_ACTIVE));
    pool->status->joins = 1;
    sp_member_leave(pool, 1, 8);
    DEMAND(pool->members[1].identity == sp_identity(8, SP_LEFT) && pool->status->joins == 2);
    sp_member_bury(pool, 1);
    DEMAND(pool->members[1].identity == sp_identity(8, SP_DEAD) && pool->status->joins == 2);
}

/* ------------------------------------------------------------------------------------------------ */

static const Action units[] = {
    words_are_packed_as_the_protocol_says,
    no_generation_comes_back,
    every_slot_has_its_class,
    every_table_has_its_place,
    a_ticket_lives_in_one_queue_under_one_generation,
    head_steps_over_what_is_dead,
    tail_steps_over_what_lives,
    a_ticket_goes_in_at_tail,
    head_is_remembered_as_long_as_it_leaves_room,
    the_next_cell_is_the_one_at_head,
    a_full_ring_is_full_of_the_dead,
    a_ring_that_has_turned_begins_anew,
    tail_of_an_insert_is_not_set_back,
    neither_end_is_set_back,
    a_ring_without_sense_is_called_corrupted,
    what_is_at_head_is_claimed,
    each_ticket_is_claimed_once,
    the_size_of_a_ring_is_a_guess_that_makes_sense,
    giving_sets_one_bit_and_the_one_above,
    taking_goes_round,
    each_single_bit_is_found_from_everywhere,
    a_single_word_goes_round,
    a_summary_names_no_word_that_is_not_there,
    only_what_is_between_is_taken,
    noting_that_a_word_is_empty_loses_no_bit,
    who_takes_a_bit_has_cleared_it,
    a_release_beside_a_search_stays_shown,
    a_slot_is_shown_in_the_map_of_its_class,
    a_right_ends_once,
    a_lease_is_of_a_free_slot,
    reuse_is_warm_or_cold,
    every_free_slot_can_be_leased_once,
    wrong_bits_cost_a_round_each,
    a_ticket_is_sent_by_its_owner,
    what_is_put_is_got,
    what_can_be_claimed,
    a_detached_ticket_is_claimed_once,
    an_heir_has_the_queue_and_the_attempts,
    a_reader_id_is_ones_own,
    a_reader_id_is_taken_by_one,
    the_last_one_frees,
    a_share_is_of_a_lease,
    a_borrow_is_of_what_is_shared,
    a_peek_is_of_what_nobody_writes,
    the_search_for_memory_goes_round,
    one_fetches_memory_for_a_slot,
    memory_is_there_for_us_or_for_anybody,
    the_highest_free_slot_is_trimmed,
    a_dead_holders_slot_goes_where_its_queue_says,
    whose_death_it_was_is_noted,
    what_a_dead_member_held_goes_on,
    the_reaper_takes_nothing_from_the_living,
    every_state_is_reaped_in_its_way,
    tickets_in_a_ring_are_adopted_where_they_stand,
    a_free_slot_is_shown_again,
    a_dead_readers_bits_go,
    the_dead_wait_for_nothing,
    a_sleeper_has_one_bit,
    nobody_is_passed_over,
    a_sleeper_is_rung_once,
    a_member_has_an_entry_of_its_own,
    a_member_comes_and_goes,
};

int main(void)
{
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        format();
        units[i]();
    }
    return 0;
}
