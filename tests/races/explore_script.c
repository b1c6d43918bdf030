/* What members do, letter by letter, and what the reaper does.
 *
 *   a acquire   r release, also a shared right   p put   g get   d detach   c claim
 *   s share     b borrow    e give back     peek at what is: k shared   K queued   D detached
 *   w grow: fetch memory and lease    f grow: fetch it for anybody          x there is no memory
 *   t trim      S sleep for a slot    G sleep for a ticket                  . a turn of nothing
 *
 * What needs something that is not there (a right to release, a ticket to borrow) does nothing.
 */
#include "explorer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

Member members[ACTORS];
_Alignas(64) uint64_t block[BLOCK_WORDS];
Beside *beside;
sp_geometry geometry;

static Member fresh_members[ACTORS];
static uint64_t fresh[BLOCK_WORDS];

/* --- rights ------------------------------------------------------------------------- */

static int number_of(const Member *member)
{
    return (int)(member - members);
}

static bool succeeds(sp_result result)
{
    if (result == SP_CORRUPT)
        fail("a sound block called corrupted");
    return result == SP_OK;
}

static sp_right give(Member *self)
{
    sp_right right = self->held[--self->count];
    ghost_disown(&right);
    return right;
}

static void must(bool done, const char *what)
{
    if (!done)
        fail("%s of a right that was held fails", what);
}

/* One's own now: what was sent is there, and from now on something else. */
static void keep(Member *self, sp_result result, const sp_right *right, bool sent)
{
    if (!succeeds(result))
        return;
    ghost_own(number_of(self), right);
    self->held[self->count++] = *right;
    uint64_t ticket = sp_ticket(right->slot, sp_word_generation(right->word));
    uint64_t found = sp_load_relaxed(&beside->payload[right->slot]);
    if (sent && found != ghost_payload(ticket))
        fail("slot %u was not received as it was sent", right->slot);
    sp_store_relaxed(&beside->payload[right->slot], ghost_stamp());
}

/* As mapping_ring: whoever waits, one of them, is woken. */
static void ring(Member *self, sp_atomic_u64 *mask)
{
    if (!sp_wait_any(mask))
        return;
    uint32_t member = sp_wait_next(mask, self->pool.last_rung);
    if (!member)
        return;
    self->pool.last_rung = member;
    members[member - FIRST_MEMBER].rung = true;
}

static void ring_for_slot(Member *self)
{
    ring(self, self->pool.class_states[0].waiting);
}

static void ring_for_ticket(Member *self)
{
    ring(self, sp_pool_queue(&self->pool, QUEUE)->waiting);
}

static void release(Member *self)
{
    sp_right right = give(self);
    if (sp_word_state(right.word) == SP_SHARED)
        must(sp_shared_end(&self->pool, right.slot, right.word), "the end");
    else
        must(sp_release(&self->pool, &right) == SP_OK, "the release");
    ring_for_slot(self);
}

/* put and detach; a shared right can do neither. */
static void send(Member *self, bool into_queue)
{
    if (sp_word_state(self->held[self->count - 1].word) != SP_LEASED)
        return;
    sp_right right = give(self);
    uint64_t ticket = sp_ticket(right.slot, sp_word_generation(right.word) + 1);
    if (into_queue) {
        must(sp_put(&self->pool, &right, QUEUE, 0) == SP_OK, "the put");
        ghost_put_done(ticket);
        sp_store_relaxed(&beside->queued_ticket, ticket);
        ring_for_ticket(self);
        return;
    }
    must(sp_detach(&self->pool, &right, 0, &ticket) == SP_OK, "the detach");
    sp_store_relaxed(&beside->detached_ticket, ticket);
}

static void claim(Member *self)
{
    sp_right right;
    uint64_t ticket = sp_load_relaxed(&beside->detached_ticket);
    if (ticket)
        keep(self, sp_claim(&self->pool, ticket, 0, &right), &right, true);
}

/* --- readers ------------------------------------------------------------------------ */

static void share(Member *self)
{
    sp_right *right = &self->held[self->count - 1];
    uint64_t ticket;
    if (sp_word_state(right->word) != SP_LEASED)
        return;
    must(sp_share(&self->pool, right, &ticket) == SP_OK, "the share");
    sp_store_relaxed(&beside->shared_ticket, ticket);
}

static bool reads(const Member *self, uint64_t ticket)
{
    for (int i = 0; i < self->borrows; i++)
        if (sp_ticket_slot(self->borrowed[i]) == sp_ticket_slot(ticket))
            return true;
    return false;
}

static void borrow(Member *self)
{
    uint64_t ticket = sp_load_relaxed(&beside->shared_ticket);
    if (!ticket || reads(self, ticket))
        return;
    if (!self->pool.reader && !sp_reader_take(&self->pool))
        fail("there is no reader id");
    if (!succeeds(sp_borrow(&self->pool, ticket)))
        return;
    self->borrowed[self->borrows++] = ticket;
    ghost_borrow(number_of(self), ticket);
    if (sp_load_relaxed(&beside->payload[sp_ticket_slot(ticket)]) != ghost_payload(ticket))
        fail("a reader reads what was not shared");
}

static void give_back(Member *self)
{
    if (!self->borrows)
        return;
    uint64_t ticket = self->borrowed[--self->borrows];
    if (sp_load_relaxed(&beside->payload[sp_ticket_slot(ticket)]) != ghost_payload(ticket))
        fail("what a reader reads has changed");
    ghost_unborrow(number_of(self), ticket);
    sp_give_back(&self->pool, sp_ticket_slot(ticket), self->pool.reader - 1);
    ring_for_slot(self);
}

static void peek(Member *self, const sp_atomic_u64 *known)
{
    uint64_t ticket = sp_load_relaxed(known);
    sp_state state = ticket ? sp_peek_begin(&self->pool, ticket) : SP_FREE;
    if (state == SP_FREE)
        return;
    uint64_t copy = sp_load_relaxed(&beside->payload[sp_ticket_slot(ticket)]);
    if (sp_peek_end(&self->pool, ticket, state) && copy != ghost_payload(ticket))
        fail("a peek that counts has read something else");
}

/* --- memory ------------------------------------------------------------------------- */

/* fallocate, or the punching of a hole: a step of the kernel, which orders all before it. */
static void change_memory(uint32_t slot, bool there)
{
    sp_fetch_or_seq_cst(&beside->memory[slot], 0);
    beside->memory[slot] = there;
    if (!there)
        sp_store_release(&beside->payload[slot], 0);
}

static void grow(Member *self, char how)
{
    sp_right right;
    if (!succeeds(sp_commit_begin(&self->pool, 0, &right)))
        return;
    if (how == 'x') {
        must(sp_commit_undo(&self->pool, right.slot, right.word), "the undoing");
        return;
    }
    change_memory(right.slot, true);
    if (how == 'w') {
        sp_result result = sp_commit_lease(&self->pool, &right, 0);
        must(result == SP_OK, "the lease");
        keep(self, result, &right, false);
        return;
    }
    must(sp_commit_free(&self->pool, &right) == SP_OK, "the freeing");
    ring_for_slot(self);
}

static void trim(Member *self)
{
    sp_right right;
    if (!succeeds(sp_trim_begin(&self->pool, 0, geometry.slots, &right)))
        return;
    change_memory(right.slot, false);
    must(sp_trim_end(&self->pool, &right) == SP_OK, "the trim");
}

/* --- sleepers ----------------------------------------------------------------------- */

/* As in docs/protocol.md, but that sleep is for ever: whoever ought to be rung must be. */
static void sleep_for(Member *self, char what)
{
    sp_right right;
    sp_pool *pool = &self->pool;
    sp_atomic_u64 *mask = what == 'S' ? pool->class_states[0].waiting : sp_pool_queue(pool, QUEUE)->waiting;
    sp_wait_begin(mask, pool->me);
    sp_result result = what == 'S' ? sp_acquire(pool, 0, 0, &right) : sp_get(pool, QUEUE, 0, &right);
    if (!succeeds(result)) {
        self->asleep = what;
        return;
    }
    sp_wait_end(mask, pool->me);
    keep(self, result, &right, what == 'G');
}

/* --- letters ------------------------------------------------------------------------ */

static void operate_on_held(Member *self, char letter)
{
    if (!self->count)
        return;
    if (letter == 'r')
        release(self);
    else if (letter == 's')
        share(self);
    else
        send(self, letter == 'p');
}

static void operate(Member *self, char letter)
{
    sp_right right;
    if (strchr("rspd", letter))
        operate_on_held(self, letter);
    else if (letter == 'a')
        keep(self, sp_acquire(&self->pool, 0, 0, &right), &right, false);
    else if (letter == 'g')
        keep(self, sp_get(&self->pool, QUEUE, 0, &right), &right, true);
    else if (letter == 'c')
        claim(self);
    else if (letter == 'b')
        borrow(self);
    else if (letter == 'e')
        give_back(self);
    else if (strchr("kKD", letter))
        peek(self, letter == 'k'   ? &beside->shared_ticket
                   : letter == 'K' ? &beside->queued_ticket
                                   : &beside->detached_ticket);
    else if (letter == 't')
        trim(self);
    else if (letter == 'S' || letter == 'G')
        sleep_for(self, letter);
    else if (letter == '.')
        sp_fetch_or_seq_cst(&beside->pause, 0);
    else
        grow(self, letter);
}

void script_run(int actor, const char *script)
{
    for (const char *letter = script; *letter && !members[actor].asleep; letter++)
        operate(&members[actor], *letter);
}

/* --- the reaper --------------------------------------------------------------------- */

/* mapping_reap and mapping_repair of upkeep.c, and around them Reaper._reap of _reaper.py. */
static void reap(Member *self, uint32_t dead)
{
    sp_pool *pool = &self->pool;
    uint64_t detached[SLOTS] = {0};
    memory_join(REAPER, (int)dead - FIRST_MEMBER);
    sp_member_bury(pool, dead);
    sp_reap_waiting(pool, dead);
    sp_reap_rings(pool, dead);
    for (uint32_t slot = 0; slot < geometry.slots; slot++) {
        uint64_t word = sp_load_acquire(&pool->slots[slot].word);
        sp_reaped reaped = sp_reap_slot(pool, slot, dead);
        ghost_requeued(true);
        if (reaped == SP_REAP_CORRUPT)
            fail("a ring has no room for the tickets of a dead member");
        if (reaped == SP_REAP_DETACHED)
            detached[slot] = sp_word_with_owner(word, pool->me);
    }
    sp_reap_readers(pool, dead);
    for (uint32_t slot = 0; slot < geometry.slots; slot++)
        sp_reap_show(pool, slot);
    for (int i = 0; i < MEMBERS; i++)
        members[i].rung = true; /* ring_all */
    sp_store_release(&pool->members[dead].identity, SP_VACANT);
    for (uint32_t slot = 0; slot < geometry.slots; slot++)
        if (detached[slot]) /* orphan_grace has passed */
            sp_slot_end(pool, slot, detached[slot]);
}

/* A dead member whose entry is still taken. */
int script_to_reap(void)
{
    for (int i = 0; i < MEMBERS; i++)
        if (members[i].dead && members[REAPER].pool.members[FIRST_MEMBER + i].identity != SP_VACANT)
            return i;
    return NOBODY;
}

void script_reap(void)
{
    ghost_requeued(false);
    for (int dead = script_to_reap(); dead != NOBODY; dead = script_to_reap())
        reap(&members[REAPER], FIRST_MEMBER + (uint32_t)dead);
}

/* --- setting up --------------------------------------------------------------------- */

static void make_geometry(void)
{
    memset(&geometry, 0, sizeof geometry);
    geometry.classes = 1;
    geometry.queues = QUEUES;
    geometry.members = ACTORS;
    uint32_t slots = (uint32_t)strlen(scenario.slots);
    geometry.of_class[0] =
        (sp_class_geometry){.slot_size = 64, .stride = 64, .count = slots, .max_count = slots};
    sp_layout(&geometry);
    if (geometry.slots <= 2)
        geometry.ring_cells = 4; /* enough, and half of what the reaper has to go through */
    beside = (Beside *)((uint8_t *)block + geometry.total_size);
    if (geometry.total_size + sizeof *beside > sizeof block)
        abort();
}

static void bind_pool(sp_pool *pool, uint32_t member)
{
    pool->geometry = geometry;
    pool->me = member;
    sp_queue_spec *spec = &pool->queue_spec[QUEUE - 1];
    spec->on_death = (uint32_t)scenario.death;
    spec->max_attempts = (uint32_t)scenario.attempts;
    spec->dead_letter = LETTERS;
    sp_pool_bind(pool, block);
    pool->members[member].identity = sp_identity(100 + member, SP_ACTIVE);
}

static void make_slot(sp_pool *pool, uint32_t slot, bool there)
{
    sp_state state = there ? SP_FREE : SP_UNCOMMITTED;
    beside->memory[slot] = there;
    pool->slots[slot].word = sp_word(state, SP_NOBODY, SP_NO_QUEUE, SP_GENERATION_FIRST);
    pool->class_states[0].uncommitted += !there;
    sp_reap_show(pool, slot);
}

/* Payload cells matter to those who read without a right, and to what weak memory shows. */
static void choose_words(sp_pool *pool)
{
    bool peeks = scenario.stale;
    for (int i = 0; i < MEMBERS; i++)
        peeks |= strpbrk(scenario.script[i], "kKD") != NULL;
    memory_forget();
    memory_always(&beside->pause);
    for (uint32_t slot = 0; slot < geometry.slots; slot++) {
        memory_hint(&pool->slots[slot].since_ns);
        memory_hint(&pool->slots[slot].delivery);
        memory_hint(&pool->slots[slot].death);
        memory_always(&beside->memory[slot]);
        if (!peeks)
            memory_hint(&beside->payload[slot]);
    }
}

void script_prepare(void)
{
    make_geometry();
    ghost_forget();
    memset(block, 0, sizeof block);
    memset(members, 0, sizeof members);
    for (int i = 0; i < ACTORS; i++) {
        bind_pool(&members[i].pool, i == REAPER ? COORDINATOR : FIRST_MEMBER + (uint32_t)i);
        members[i].done = true;
    }
    for (uint32_t slot = 0; slot < geometry.slots; slot++)
        make_slot(&members[REAPER].pool, slot, scenario.slots[slot] == 'F');
    for (int i = 0; i < scenario.lap; i++) /* a lap of dead cells */
        script_run(REAPER, "apgr");
    for (int i = 0; i < scenario.queued; i++)
        script_run(REAPER, "ap");
    for (int i = 0; i < scenario.members; i++)
        script_run(i, scenario.before[i]);
    choose_words(&members[REAPER].pool);
    memcpy(fresh, block, sizeof fresh);
    memcpy(fresh_members, members, sizeof members);
    ghost_save();
}

void script_restart(void)
{
    memcpy(block, fresh, geometry.total_size + sizeof *beside);
    memcpy(members, fresh_members, sizeof members);
}
