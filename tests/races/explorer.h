/* What the parts of the explorer know of each other.
 *
 *   explore_hooks.h     the atomics that the core is compiled with
 *   explore_memory.c    what each of them sees: sequentially consistent, or weaker
 *   explore_schedule.c  who moves next: coroutines, kills, depth-first through all choices
 *   explore_ghost.c     what must hold: shadow state, checks at each change of a word and at the end
 *   explore_script.c    what members and reaper do, letter by letter
 *   explorer.c          scenarios from stdin
 */
#ifndef EXPLORER_H
#define EXPLORER_H

#define SP_ATOMIC_HOOKS "explore_hooks.h"
#include "sp_layout.h"

/* The layout is the real one, but nobody walks over the 252 reader ids and the three words of
 * each mask that two or three members never touch: those loops are made shorter. */
#undef SP_MAX_READERS
#define SP_MAX_READERS 4u
#undef SP_MASK_WORDS
#define SP_MASK_WORDS 1u

#include "sp_reap.h"
#include "sp_wait.h"

enum { MEMBERS = 3, REAPER = MEMBERS, ACTORS = MEMBERS + 1, SLOTS = 4, NOBODY = -1 };
enum { COORDINATOR = 1, FIRST_MEMBER = 2, QUEUE = 1, LETTERS = 2, QUEUES = 2 };
enum { BLOCK_WORDS = 1024, MAX_SCRIPT = 32 };

typedef struct {
    char script[MEMBERS][MAX_SCRIPT], before[MEMBERS][MAX_SCRIPT], slots[SLOTS + 1];
    int members, queued, lap, kills, restarts, preemptions, stale, attempts, death;
} Scenario;

/* What a member knows privately; copied back before each execution. */
typedef struct {
    sp_pool pool;
    sp_right held[SLOTS];
    uint64_t borrowed[SLOTS];
    int count, borrows;
    bool leaving, done, dead, rung; /* leaving: at the end of its script, and may still die */
    char asleep;                    /* the letter that it sleeps by, 0 awake */
} Member;

/* What all share: the control block, and what the tests keep in shared memory beside it. */
typedef struct {
    sp_atomic_u64 payload[SLOTS]; /* a stamp of whoever wrote last */
    sp_atomic_u64 memory[SLOTS];  /* is there memory behind the slot? */
    sp_atomic_u64 shared_ticket;  /* the last ones made known, by whatever way tickets travel */
    sp_atomic_u64 queued_ticket;
    sp_atomic_u64 detached_ticket;
    sp_atomic_u64 pause; /* a turn in which nothing happens */
} Beside;

extern Scenario scenario;
extern Member members[ACTORS];
extern _Alignas(64) uint64_t block[BLOCK_WORDS];
extern Beside *beside;
extern sp_geometry geometry;

/* schedule */
extern int running; /* whose turn it is; NOBODY while setting up and checking */
extern unsigned long executions;
_Noreturn void fail(const char *format, ...);
void explore_turn(void);
int explore_choose(int alternatives);
_Noreturn void explore_again(void);
unsigned long explore_all(void);

/* memory */
void memory_forget(void);
void memory_hint(const sp_atomic_u64 *at);
void memory_always(const sp_atomic_u64 *at);
void memory_begin(void);
void memory_join(int reader, int writer);
void memory_tell(void);

/* ghost */
void ghost_forget(void);
void ghost_begin(void);
void ghost_save(void);
void ghost_word(const sp_atomic_u64 *at, uint64_t before, uint64_t after);
void ghost_put_done(uint64_t ticket);
void ghost_requeued(bool done);
void ghost_own(int actor, const sp_right *right);
void ghost_disown(const sp_right *right);
void ghost_borrow(int actor, uint64_t ticket);
void ghost_unborrow(int actor, uint64_t ticket);
uint64_t ghost_stamp(void);
uint64_t ghost_payload(uint64_t ticket);
void ghost_check(void);

/* script */
void script_run(int actor, const char *script);
void script_reap(void);
void script_prepare(void);
void script_restart(void);
int script_to_reap(void);

#endif
