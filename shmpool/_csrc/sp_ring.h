/* A FIFO of tickets: a ring of plain integers, lock-free because every step can be helped.
 *
 * The slot word decides; head, tail and cells are hints that anybody may repair. A cell
 * is live if the slot that it names is QUEUED in this queue at exactly its generation.
 * A ticket never comes again, so a dead cell stays dead: there is no ABA and no lap mark.
 *
 *   put    word first, cell second, tail third        (killed after the first: the reaper
 *   get    word first (that is the claim), head second  inserts the ticket; after the
 *                                                       second: anybody moves the hint on)
 *
 * Three rules carry it, and losing any one loses tickets:
 *   - tail is read again after the liveness check of its cell, not before;
 *   - head never moves past a live cell;
 *   - a ticket is written into one cell only, so that a dead cell at tail is of an earlier lap.
 *
 * A helped queue in the manner of M. Michael and M. Scott, "Simple, fast, and practical
 * non-blocking and blocking concurrent queue algorithms", PODC 1996.
 */
#ifndef SP_RING_H
#define SP_RING_H

#include "sp_pool.h"

typedef enum { SP_OK = 0, SP_EMPTY, SP_STALE, SP_CORRUPT, SP_SPENT } sp_result;

/* The right to a slot: which one, and its word as its owner left it. */
typedef struct {
    uint32_t slot;
    uint64_t word;
} sp_right;

/* Tests over hostile memory, where nobody else moves, have less. */
#ifndef SP_RING_PATIENCE_BASE
#define SP_RING_PATIENCE_BASE (UINT64_C(1) << 20)
#endif

/* More steps than any schedule of live members needs: beyond it the block is corrupted. */
static inline uint64_t sp_ring_patience(const sp_pool *pool)
{
    return UINT64_C(64) * pool->geometry.ring_cells + SP_RING_PATIENCE_BASE;
}

/* Is this ticket waiting in this queue? Its slot's word as seen, 0 if not. */
static inline uint64_t sp_ring_live(const sp_pool *pool, uint32_t queue, uint64_t ticket)
{
    uint32_t slot = sp_ticket_slot(ticket);
    if (slot >= pool->geometry.slots)
        return 0;
    uint64_t word = sp_load_seq_cst(&pool->slots[slot].word);
    bool live = sp_word_state(word) == SP_QUEUED && sp_word_queue(word) == queue &&
                sp_word_generation(word) == sp_ticket_generation(ticket);
    return live ? word : 0;
}

static inline void sp_ring_step_head(sp_pool *pool, uint32_t queue, uint64_t head, uint64_t ticket)
{
    if (!sp_ring_live(pool, queue, ticket))
        sp_cas_seq_cst(&sp_pool_queue(pool, queue)->head, head, head + 1);
}

/* Move tail over a cell that somebody has written and not counted. */
static inline void sp_ring_step_tail(sp_pool *pool, uint32_t queue)
{
    sp_queue_state *state = sp_pool_queue(pool, queue);
    uint64_t tail = sp_load_seq_cst(&state->tail);
    uint64_t mask = pool->geometry.ring_cells - 1;
    /* Full? Then the cell at tail is the one at head, and counted. */
    if (tail - sp_load_seq_cst(&state->head) > mask)
        return;
    if (sp_ring_live(pool, queue, sp_load_seq_cst(&sp_pool_ring(pool, queue)[tail & mask])))
        sp_cas_seq_cst(&state->tail, tail, tail + 1);
}

/* A head that is no older than it has to be: head only goes up, so one that leaves room for a
 * ticket at `tail` leaves it for ever. Consumers write that line, and putters need not read it. */
static inline uint64_t sp_ring_head_for(sp_pool *pool, uint32_t queue, uint64_t tail)
{
    uint64_t *seen = &pool->seen_head[queue - 1];
    if (tail - *seen > pool->geometry.ring_cells - 1)
        *seen = sp_load_seq_cst(&sp_pool_queue(pool, queue)->head);
    return *seen;
}

/* One try to write the ticket at the tail; true when it is in. */
static inline bool sp_ring_try_insert(sp_pool *pool, uint32_t queue, uint64_t ticket)
{
    sp_queue_state *state = sp_pool_queue(pool, queue);
    sp_atomic_u64 *cells = sp_pool_ring(pool, queue);
    uint64_t mask = pool->geometry.ring_cells - 1;
    sp_will_write(&state->tail);
    uint64_t tail = sp_load_seq_cst(&state->tail);
    uint64_t head = sp_ring_head_for(pool, queue, tail);
    /* Was head read after it had passed this tail? Then tail is old. */
    if ((int64_t)(tail - head) < 0)
        return false;
    /* Is the ring full? Only of dead cells: there are more cells than tickets. */
    if (tail - head > mask) {
        sp_ring_step_head(pool, queue, head, sp_load_seq_cst(&cells[head & mask]));
        return false;
    }
    sp_will_write(&cells[tail & mask]);
    uint64_t cell = sp_load_seq_cst(&cells[tail & mask]);
    /* Has somebody written here and not moved tail yet? Then do it for them. */
    if (sp_ring_live(pool, queue, cell)) {
        sp_cas_seq_cst(&state->tail, tail, tail + 1);
        return false;
    }
    /* Was it dead because its time had passed, and tail with it? Then tail is old. */
    if (sp_load_seq_cst(&state->tail) != tail)
        return false;
    if (!sp_cas_seq_cst(&cells[tail & mask], cell, ticket))
        return false;
    sp_cas_seq_cst(&state->tail, tail, tail + 1);
    return true;
}

/* Write a ticket, whose word already says QUEUED here, into the ring. */
static inline sp_result sp_ring_insert(sp_pool *pool, uint32_t queue, uint64_t ticket)
{
    for (uint64_t patience = sp_ring_patience(pool); patience; patience--)
        if (sp_ring_try_insert(pool, queue, ticket))
            return SP_OK;
    return SP_CORRUPT;
}

/* One try to claim the ticket at the head: SP_STALE means try again. */
static inline sp_result sp_ring_try_claim(sp_pool *pool, uint32_t queue, sp_right *right)
{
    sp_queue_state *state = sp_pool_queue(pool, queue);
    sp_atomic_u64 *cells = sp_pool_ring(pool, queue);
    uint64_t mask = pool->geometry.ring_cells - 1;
    uint64_t head = sp_load_seq_cst(&state->head);
    uint64_t tail = sp_load_seq_cst(&state->tail);
    uint64_t cell = sp_load_seq_cst(&cells[head & mask]);
    uint64_t word = sp_ring_live(pool, queue, cell);
    if (head == tail && word) {
        sp_cas_seq_cst(&state->tail, tail, tail + 1);
        return SP_STALE;
    }
    if (sp_load_seq_cst(&state->head) != head)
        return SP_STALE;
    if (head == tail)
        return SP_EMPTY;
    if (!word) {
        sp_cas_seq_cst(&state->head, head, head + 1);
        return SP_STALE;
    }
    /* R-claim pairs with R-publish in sp_put: the payload precedes the QUEUED word. */
    uint32_t slot = sp_ticket_slot(cell);
    uint64_t claimed = sp_word(SP_LEASED, pool->me, queue, sp_word_generation(word));
    /* Lost it? Either it is claimed (dead) or only its owner changed (the reaper): look again. */
    if (!sp_cas_seq_cst(&pool->slots[slot].word, word, claimed))
        return SP_STALE;
    sp_fence_release(); /* P-begin */
    sp_cas_seq_cst(&state->head, head, head + 1);
    *right = (sp_right){.slot = slot, .word = claimed};
    return SP_OK;
}

static inline sp_result sp_ring_claim(sp_pool *pool, uint32_t queue, sp_right *right)
{
    for (uint64_t patience = sp_ring_patience(pool); patience; patience--) {
        sp_result result = sp_ring_try_claim(pool, queue, right);
        if (result != SP_STALE)
            return result;
    }
    return SP_CORRUPT;
}

/* The cell that is claimed next. A put shows there first: whoever polls it instead of tail has the
 * ticket one transfer earlier, and leaves tail to the putter. */
static inline const sp_atomic_u64 *sp_ring_next(const sp_pool *pool, uint32_t queue)
{
    uint64_t head = sp_load_relaxed(&sp_pool_queue(pool, queue)->head);
    return &sp_pool_ring(pool, queue)[head & (pool->geometry.ring_cells - 1)];
}

/* How many tickets wait, as of a moment ago. */
static inline uint32_t sp_ring_size(const sp_pool *pool, uint32_t queue)
{
    const sp_queue_state *state = sp_pool_queue(pool, queue);
    uint64_t tail = sp_load_relaxed(&state->tail);
    uint64_t size = tail - sp_load_relaxed(&state->head);
    /* Read at different moments: a wrapped difference is an empty queue. */
    return size > pool->geometry.ring_cells ? 0 : (uint32_t)size;
}

#endif
