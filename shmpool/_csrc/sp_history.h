/* The story of a slot: its last transitions, in shared memory, for people.
 *
 *   note    take a turn; entry = turn % history; turn 0, the fields, turn + 1
 *   read    turn, the fields, turn again: an entry whose turn is 0 or changed is left out
 *
 * Nothing is ever decided by it: a note comes after the word has changed, by whoever changed
 * it, and holds up nobody. What that costs, and why it is little:
 *
 *   - Notes of two members may stand in another order than their transitions. Each has its
 *     generation, so readers sort by that, and by turn within one: there, an owner's notes are
 *     in its own order.
 *   - A writer killed halfway leaves turn 0: one entry is missing, until its turn comes again.
 *   - A writer that sleeps between its turn and its fields while `history` others pass writes
 *     over a newer entry with an older one. The turn says so, and the newer one is missing. If
 *     both write at the same moment, one entry may be made of two. Both happened to this slot.
 *   - The turn is hostile memory: the entry it leads to is taken modulo the private geometry.
 */
#ifndef SP_HISTORY_H
#define SP_HISTORY_H

#include <string.h>

#include "sp_pool.h"

/* What happened. Python has the names, in this order: see story.c. */
typedef enum {
    SP_WAS_LEASED = 1,
    SP_WAS_GOT,
    SP_WAS_CLAIMED,
    SP_WAS_SHARED,
    SP_WAS_BORROWED,
    SP_WAS_RETURNED, /* a borrow ended */
    SP_WAS_MOVED,    /* its lease goes on in a larger slot */
    SP_WAS_PUT,
    SP_WAS_DETACHED,
    SP_WAS_RELEASED,
    SP_WAS_COLLECTED,     /* released, but by nobody's release() */
    SP_WAS_EXPIRED,       /* a ticket whose sender is gone, and that nobody claimed */
    SP_WAS_FREED,         /* from here on: its holder died, whose name stands in the entry */
    SP_WAS_REQUEUED,
    SP_WAS_DEAD_LETTERED,
    SP_WAS_QUARANTINED,
} sp_event;

/* One transition as it is to be noted. */
typedef struct {
    uint64_t when_ns;
    uint64_t generation;
    uint32_t line;
    uint32_t queue;
    uint32_t member;
    uint32_t pid;
    uint32_t thread;
    sp_event event;
    char name[sizeof(((sp_transition *)0)->name)];
    char file[sizeof(((sp_transition *)0)->file)];
} sp_note;

static inline sp_history *sp_pool_history(const sp_pool *pool, uint32_t slot)
{
    uint64_t at = (uint64_t)slot * pool->geometry.history_stride;
    return (sp_history *)(pool->base + pool->geometry.history_table + at);
}

/* Only in pools that have a history, for slots that they have. */
static inline void sp_history_note(sp_pool *pool, uint32_t slot, const sp_note *note)
{
    sp_history *history = sp_pool_history(pool, slot);
    /* Relaxed: the count gives everybody an entry of their own, and publishes nothing. */
    uint64_t turn = sp_fetch_add_relaxed(&history->turns, 1);
    sp_transition *entry = (sp_transition *)(history + 1) + turn % pool->geometry.history;
    sp_store_relaxed(&entry->turn, 0);
    /* H-begin pairs with H-again: no field is seen changed under the old turn. */
    sp_fence_release();
    sp_store_relaxed(&entry->when_ns, note->when_ns);
    sp_store_relaxed(&entry->generation, note->generation);
    sp_store_relaxed(&entry->what, (uint64_t)note->line << 32 | (uint64_t)note->queue << 16 |
                                       (uint64_t)note->member << 8 | (uint64_t)note->event);
    sp_store_relaxed(&entry->who, (uint64_t)note->pid << 32 | note->thread);
    memcpy(entry->name, note->name, sizeof entry->name);
    memcpy(entry->file, note->file, sizeof entry->file);
    /* H-end pairs with H-first: the fields precede the turn. */
    sp_store_release(&entry->turn, turn + 1);
}

#endif
