/* What must hold. Beside the real memory runs a shadow of it, which no process could keep and
 * which knows who is alive; each change of a slot word is judged at the moment it happens, and
 * when nobody moves any more the whole block is.
 */
#include "explorer.h"

#include <stdio.h>
#include <string.h>

enum { KEPT = 8 }; /* generations of a slot that are remembered */

/* A right that others can know of: what its bytes are, and when it was put. */
typedef struct {
    uint64_t generation, payload;
    unsigned begun, done; /* on the ghost's clock: the word; the return of the put, 0 never */
} Ticket;

typedef struct {
    int owner[SLOTS];      /* actor + 1, 0 nobody */
    unsigned readers[SLOTS]; /* bits of actors */
    Ticket tickets[SLOTS][KEPT];
    Ticket *requeued; /* by the reaper, which has not written its cell yet */
    unsigned clock;
    uint64_t stamps;
} Ghost;

static Ghost ghost, saved;

void ghost_forget(void)
{
    memset(&ghost, 0, sizeof ghost);
}

void ghost_save(void)
{
    saved = ghost;
}

void ghost_begin(void)
{
    ghost = saved;
}

static sp_pool *any_pool(void)
{
    return &members[REAPER].pool;
}

static uint64_t word_of(uint32_t slot)
{
    return any_pool()->slots[slot].word;
}

static bool is_dead(uint32_t member)
{
    return member >= FIRST_MEMBER && members[member - FIRST_MEMBER].dead;
}

static Ticket *ticket_of(uint32_t slot, uint64_t generation)
{
    return &ghost.tickets[slot][generation % KEPT];
}

/* --- rights ------------------------------------------------------------------------- */

void ghost_own(int actor, const sp_right *right)
{
    int owner = ghost.owner[right->slot];
    if (owner && !members[owner - 1].dead)
        fail("two owners of slot %u", right->slot);
    ghost.owner[right->slot] = actor + 1;
}

void ghost_disown(const sp_right *right)
{
    ghost.owner[right->slot] = 0;
}

void ghost_borrow(int actor, uint64_t ticket)
{
    ghost.readers[sp_ticket_slot(ticket)] |= 1u << actor;
}

void ghost_unborrow(int actor, uint64_t ticket)
{
    ghost.readers[sp_ticket_slot(ticket)] &= ~(1u << actor);
}

static bool is_read(uint32_t slot)
{
    for (int i = 0; i < MEMBERS; i++)
        if (ghost.readers[slot] >> i & 1 && !members[i].dead)
            return true;
    return false;
}

uint64_t ghost_stamp(void)
{
    return ++ghost.stamps;
}

/* The bytes that go with a ticket. */
uint64_t ghost_payload(uint64_t ticket)
{
    uint64_t generation = sp_ticket_generation(ticket);
    const Ticket *known = ticket_of(sp_ticket_slot(ticket), generation);
    if (known->generation != generation)
        fail("a ticket that nobody made");
    return known->payload;
}

/* --- queues ------------------------------------------------------------------------- */

void ghost_put_done(uint64_t ticket)
{
    Ticket *put = ticket_of(sp_ticket_slot(ticket), sp_ticket_generation(ticket));
    if (put->generation == sp_ticket_generation(ticket) && !put->done)
        put->done = ++ghost.clock;
}

/* The reaper has inserted what it had made QUEUED again; or it is started over, and has not. */
void ghost_requeued(bool done)
{
    if (ghost.requeued && !ghost.requeued->done && done)
        ghost.requeued->done = ++ghost.clock;
    ghost.requeued = NULL;
}

/* First in, first out: nothing is claimed while there waits in the same queue what had been
 * put, to the end of its put, before this one became QUEUED. */
static void judge_claim(uint32_t slot, uint64_t word)
{
    const Ticket *claimed = ticket_of(slot, sp_word_generation(word));
    for (uint32_t other = 0; other < geometry.slots; other++) {
        uint64_t waits = word_of(other);
        const Ticket *earlier = ticket_of(other, sp_word_generation(waits));
        if (other != slot && sp_word_state(waits) == SP_QUEUED && sp_word_queue(word) &&
            sp_word_queue(waits) == sp_word_queue(word) && earlier->done &&
            earlier->done < claimed->begun)
            fail("slot %u is taken before slot %u, which was put before it", slot, other);
    }
}

/* A slot whose bytes others may read from now on under this ticket. */
static void note_ticket(uint32_t slot, uint64_t word)
{
    Ticket *ticket = ticket_of(slot, sp_word_generation(word));
    *ticket = (Ticket){.generation = sp_word_generation(word), .payload = beside->payload[slot],
                       .begun = ++ghost.clock};
    if (running == REAPER && sp_word_state(word) == SP_QUEUED)
        ghost.requeued = ticket;
}

/* --- changes of a word -------------------------------------------------------------- */

/* Who may end a right: its owner, or the reaper if that is dead. When all is over, anybody. */
static bool may_end(uint64_t word)
{
    if (running == NOBODY)
        return true;
    uint32_t owner = sp_word_owner(word);
    return running == REAPER ? is_dead(owner) || owner == COORDINATOR
                             : owner == FIRST_MEMBER + (uint32_t)running;
}

static bool is_mine(uint64_t word)
{
    return running == NOBODY || running == REAPER ||
           sp_word_owner(word) == FIRST_MEMBER + (uint32_t)running;
}

/* From LEASED: all but what readers and the queue keep goes on under a new generation. */
static bool legal_from_leased(sp_state to, uint64_t steps)
{
    if (to == SP_SHARED || to == SP_LEASED)
        return steps == 0;
    return steps == 1 && (to == SP_FREE || to == SP_QUEUED || to == SP_QUARANTINED);
}

static bool legal_from_queued(uint64_t before, uint64_t after, uint64_t steps)
{
    sp_state to = sp_word_state(after);
    if (to == SP_QUEUED)
        return steps == 0 && (running == NOBODY || (running == REAPER && may_end(before)));
    return to == SP_LEASED ? steps == 0 && is_mine(after) : to == SP_FREE && steps == 1 && may_end(before);
}

static bool legal_from_uncommitted(uint64_t before, uint64_t after, uint64_t steps)
{
    sp_state to = sp_word_state(after);
    if (sp_word_owner(before) == SP_NOBODY)
        return to == SP_UNCOMMITTED && steps == 0 && is_mine(after);
    if (to == SP_UNCOMMITTED)
        return may_end(before) && sp_word_owner(after) == SP_NOBODY && steps <= 1;
    return may_end(before) && (to == SP_LEASED || to == SP_FREE) && steps == 0;
}

static bool is_legal(uint64_t before, uint64_t after)
{
    uint64_t steps = sp_word_generation(after) - sp_word_generation(before);
    sp_state to = sp_word_state(after);
    switch (sp_word_state(before)) {
    case SP_FREE:
        return steps == 0 && is_mine(after) && (to == SP_LEASED || to == SP_UNCOMMITTED);
    case SP_LEASED:
        return may_end(before) && legal_from_leased(to, steps);
    case SP_QUEUED:
        return legal_from_queued(before, after, steps);
    case SP_SHARED:
        return may_end(before) && to == SP_DRAINING && steps == 1;
    case SP_DRAINING:
        return to == SP_FREE && steps == 0;
    case SP_UNCOMMITTED:
        return legal_from_uncommitted(before, after, steps);
    case SP_QUARANTINED:
        return to == SP_LEASED && steps == 0;
    default:
        return false;
    }
}

static void judge_uncommitted(void)
{
    uint64_t count = 0, hint = any_pool()->class_states[0].uncommitted;
    for (uint32_t slot = 0; slot < geometry.slots; slot++)
        count += sp_word_state(word_of(slot)) == SP_UNCOMMITTED;
    if (count > hint || hint > 64)
        fail("%u slots have no memory, and the hint is %d", (unsigned)count, (int)hint);
}

/* A word has just been swapped, and stands in memory. */
void ghost_word(const sp_atomic_u64 *at, uint64_t before, uint64_t after)
{
    size_t offset = (size_t)((const uint8_t *)at - (const uint8_t *)block) - geometry.slot_table;
    uint32_t slot = (uint32_t)(offset / sizeof(sp_slot));
    if (offset % sizeof(sp_slot) || slot >= geometry.slots)
        return;
    sp_state from = sp_word_state(before), to = sp_word_state(after);
    if (!is_legal(before, after))
        fail("no such transition of slot %u", slot);
    if (is_read(slot) && to != SP_DRAINING)
        fail("slot %u is taken from under its reader", slot);
    if (to != SP_UNCOMMITTED && !beside->memory[slot])
        fail("slot %u has no memory", slot);
    if (from != SP_QUEUED && (to == SP_QUEUED || to == SP_SHARED || to == SP_QUARANTINED))
        note_ticket(slot, after);
    if (from == SP_QUEUED && to == SP_QUEUED) /* adopted: it is in the ring by now */
        ghost_put_done(sp_ticket(slot, sp_word_generation(after)));
    if (from == SP_QUEUED && to == SP_LEASED)
        judge_claim(slot, before);
    judge_uncommitted();
}

/* --- when nobody moves -------------------------------------------------------------- */

static bool stands_in_ring(uint32_t slot, uint64_t word)
{
    uint32_t queue = sp_word_queue(word);
    const sp_queue_state *state = sp_pool_queue(any_pool(), queue);
    const sp_atomic_u64 *cells = sp_pool_ring(any_pool(), queue);
    for (uint64_t at = state->head; at != state->tail; at++)
        if (cells[at & (geometry.ring_cells - 1)] == sp_ticket(slot, sp_word_generation(word)))
            return true;
    return false;
}

static void audit_owner(uint32_t slot, uint64_t word)
{
    sp_state state = sp_word_state(word);
    uint32_t owner = sp_word_owner(word), queue = sp_word_queue(word);
    bool owned = state == SP_LEASED || state == SP_QUEUED || state == SP_SHARED;
    if (owned ? owner == SP_NOBODY : owner != SP_NOBODY && state != SP_UNCOMMITTED)
        fail("I3: owner of slot %u", slot);
    if (owner && any_pool()->members[owner].identity == SP_VACANT)
        fail("I4: slot %u belongs to nobody's entry", slot);
    if (queue > geometry.queues ||
        (queue && state != SP_LEASED && state != SP_QUEUED && state != SP_QUARANTINED))
        fail("I5: queue of slot %u", slot);
    if (state == SP_QUEUED && queue && !stands_in_ring(slot, word))
        fail("I6: slot %u is in no ring", slot);
}

static void audit_readers(uint32_t slot, sp_state state)
{
    uint64_t bits = any_pool()->slots[slot].readers[0];
    for (uint32_t id = 0; id < 64; id++) {
        bool somebodys = id < SP_MAX_READERS && any_pool()->readers[id] != SP_NOBODY;
        if (bits >> id & 1 && ((state != SP_SHARED && state != SP_DRAINING) || !somebodys))
            fail("I8: reader %u of slot %u", id, slot);
    }
    if (state == SP_DRAINING && !bits)
        fail("I9: slot %u is drained by nobody", slot);
}

static void audit(void)
{
    for (uint32_t slot = 0; slot < geometry.slots; slot++) {
        uint64_t word = word_of(slot);
        audit_owner(slot, word);
        audit_readers(slot, sp_word_state(word));
        if (sp_word_state(word) == SP_FREE && !(sp_freemap_of(any_pool(), 0).words[0] >> slot & 1))
            fail("I7: slot %u is free and not shown", slot);
    }
    for (uint32_t id = 0; id < SP_MAX_READERS; id++)
        if (is_dead((uint32_t)any_pool()->readers[id]))
            fail("reader id %u belongs to a dead member", id);
    judge_uncommitted(); /* I10 */
    for (uint32_t queue = 1; queue <= geometry.queues; queue++) {
        const sp_queue_state *state = sp_pool_queue(any_pool(), queue);
        if (state->tail - state->head > geometry.ring_cells)
            fail("I11: head and tail of queue %u", queue);
    }
}

/* Is there what this letter sleeps for? */
static bool is_there(char letter)
{
    for (uint32_t slot = 0; slot < geometry.slots; slot++) {
        uint64_t word = word_of(slot);
        if (letter == 'S' ? sp_word_state(word) == SP_FREE
                          : sp_word_state(word) == SP_QUEUED && sp_word_queue(word) == QUEUE)
            return true;
    }
    return false;
}

/* Nobody sleeps beside what it sleeps for; but one ring may have gone to a member that had
 * just found something, which costs the other a slice. */
static void audit_sleepers(void)
{
    bool missed = false, rung = false;
    for (int i = 0; i < MEMBERS; i++) {
        missed |= members[i].asleep && !members[i].dead && is_there(members[i].asleep);
        rung |= members[i].rung;
    }
    if (missed && !rung)
        fail("a sleeper was not rung");
}

static void give_back_all(Member *member)
{
    while (member->borrows) {
        uint64_t ticket = member->borrowed[--member->borrows];
        ghost_unborrow((int)(member - members), ticket);
        sp_give_back(&member->pool, sp_ticket_slot(ticket), member->pool.reader - 1);
    }
    while (member->count) {
        const sp_right *right = &member->held[--member->count];
        bool shared = sp_word_state(right->word) == SP_SHARED;
        if (shared ? !sp_shared_end(&member->pool, right->slot, right->word)
                   : sp_release(&member->pool, right) != SP_OK)
            fail("a right that was held is stale");
    }
}

/* Take what is queued, detached or in quarantine, and release it. */
static void take_all(void)
{
    sp_pool *pool = any_pool();
    sp_right right;
    for (uint32_t queue = 1; queue <= geometry.queues; queue++)
        while (sp_get(pool, queue, 0, &right) == SP_OK)
            sp_release(pool, &right);
    for (uint32_t slot = 0; slot < geometry.slots; slot++) {
        uint64_t ticket = sp_ticket(slot, sp_word_generation(word_of(slot)));
        if (sp_claimable(pool, ticket) && sp_claim(pool, ticket, 0, &right) == SP_OK)
            sp_release(pool, &right);
    }
}

/* Once all are quiet: the audit; and when everything has been given back, every slot is free,
 * can be leased once and no more, or is nobody's and without memory. */
void ghost_check(void)
{
    audit();
    audit_sleepers();
    for (int i = 0; i < MEMBERS; i++)
        if (!members[i].dead)
            give_back_all(&members[i]);
    take_all();
    int free = 0;
    for (uint32_t slot = 0; slot < geometry.slots; slot++) {
        sp_state state = sp_word_state(word_of(slot));
        free += state == SP_FREE;
        if (state != SP_FREE && (state != SP_UNCOMMITTED || sp_word_owner(word_of(slot))))
            fail("slot %u is lost", slot);
        if (any_pool()->slots[slot].readers[0])
            fail("slot %u is read by nobody", slot);
    }
    sp_right right;
    for (int i = 0; i <= free; i++)
        if ((sp_acquire(any_pool(), 0, 0, &right) == SP_OK) != (i < free))
            fail("the free map lies");
}
