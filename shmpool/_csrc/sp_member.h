/* The member table: who is attached.
 *
 * An entry is taken by one CAS that writes the pid, so that no instant exists at which
 * it is taken by nobody. The coordinator alone frees entries, after it has given back
 * everything that their index still owned.
 */
#ifndef SP_MEMBER_H
#define SP_MEMBER_H

#include "sp_pool.h"

static inline uint64_t sp_identity(uint32_t pid, sp_member_state state)
{
    return (uint64_t)pid << 8 | (uint64_t)state;
}

static inline uint32_t sp_identity_pid(uint64_t identity)
{
    return (uint32_t)(identity >> 8);
}

/* Take a vacant entry: its index, 0 if the table is full. */
static inline uint32_t sp_member_join(sp_pool *pool, uint32_t pid)
{
    for (uint32_t i = 1; i <= pool->geometry.members; i++) {
        sp_atomic_u64 *identity = &pool->members[i].identity;
        if (sp_load_relaxed(identity) == SP_VACANT &&
            sp_cas_acq_rel(identity, SP_VACANT, sp_identity(pid, SP_JOINING)))
            return i;
    }
    return 0;
}

/* The entry is filled in: let the coordinator see it. */
static inline void sp_member_activate(sp_pool *pool, uint32_t member, uint32_t pid)
{
    sp_store_release(&pool->members[member].identity, sp_identity(pid, SP_ACTIVE));
    sp_fetch_add_relaxed(&pool->status->joins, 1);
}

/* Leave in good order; the coordinator frees the entry. */
static inline void sp_member_leave(sp_pool *pool, uint32_t member, uint32_t pid)
{
    sp_cas_acq_rel(&pool->members[member].identity, sp_identity(pid, SP_ACTIVE),
                   sp_identity(pid, SP_LEFT));
    sp_fetch_add_relaxed(&pool->status->joins, 1);
}

/* Known to be dead; the index stays taken until nothing is owned under it. */
static inline void sp_member_bury(sp_pool *pool, uint32_t member)
{
    sp_atomic_u64 *identity = &pool->members[member].identity;
    uint32_t pid = sp_identity_pid(sp_load_relaxed(identity));
    sp_store_release(identity, sp_identity(pid, SP_DEAD));
}

#endif
