/* The control block, byte by byte. docs/protocol.md draws it; a test compares the two.
 *
 *   static, written once before the magic:   header | classes | queues | record text
 *   shared, changed by atomics only:         status | reader table | class states |
 *                                            queue states | members | free maps |
 *                                            rings | slots | sheets | history
 *
 * Nothing in it is a pointer and no offset is stored: every offset follows from the
 * counts in the header, so that there is one thing to check and nothing to contradict it.
 * The counts are read once into an sp_geometry, private to the process, and checked there.
 */
#ifndef SP_LAYOUT_H
#define SP_LAYOUT_H

#include <stddef.h>
#include <stdint.h>

#include "sp_atomic.h"

#define SP_MAGIC UINT64_C(0x4c4f4f504d485301) /* "\x01SHMPOOL", little-endian */
#define SP_VERSION 3u

#define SP_LINE 64u
#define SP_MAX_SLOTS 65535u
#define SP_MAX_CLASSES 8u
#define SP_MAX_QUEUES 31u
#define SP_MAX_MEMBERS 255u
#define SP_MAX_READERS 256u
#define SP_MAX_RECORD 65536u
#define SP_MASK_WORDS 4u /* 256 bits: one for each member index or reader id */

typedef enum { SP_FORMING = 0, SP_OPEN = 1, SP_CLOSED = 2, SP_ORPHANED = 3 } sp_pool_status;
typedef enum { SP_REQUEUE = 0, SP_DISCARD = 1, SP_QUARANTINE = 2 } sp_on_death;
typedef enum { SP_WARM = 0, SP_COLD = 1 } sp_reuse;

typedef struct {
    sp_atomic_u64 magic; /* last to be written: a block without it is still being made */
    uint32_t version;
    uint32_t checksum; /* CRC-32 of the static part from offset 16 on */
    uint64_t total_size;
    uint32_t slots;
    uint32_t classes;
    uint32_t queues;
    uint32_t members;
    uint32_t record_size; /* bytes of the user's header record */
    uint32_t record_text; /* bytes of its dtype's description */
    uint32_t history;     /* transitions kept for each slot, 0: none */
    uint32_t reuse;
    uint64_t views; /* policy at the end of a lease */
    uint64_t orphan_grace_ns;
    uint64_t uid;
    uint64_t pid_namespace;
    uint64_t coordinator_pid;
    uint64_t coordinator_start;
    uint64_t coordinator_pidfd_inode;
    uint64_t created_ns; /* since the epoch */
    char name[64];
    uint64_t lease_warning_ns; /* a lease held longer is reported, 0: none is */
    uint32_t poison;           /* whether free slots are filled and checked */
    uint32_t leaks;            /* which leases are watched for leaks */
    uint8_t unused[56];
} sp_header;

typedef struct {
    uint64_t slot_size;
    uint64_t stride;
    uint32_t count;     /* slots with memory behind them at the start */
    uint32_t max_count; /* slots with an address */
    uint8_t unused[40];
} sp_class_spec;

typedef struct {
    char name[32];
    uint32_t on_death;
    uint32_t max_attempts; /* deliveries before the dead letter, 0: no limit */
    uint32_t dead_letter;  /* queue number, 0: none */
    uint32_t maxsize;      /* tickets, 0: no limit */
    uint8_t unused[16];
} sp_queue_spec;

/* One line that everybody reads and nearly nobody writes, one that the reaper writes. */
typedef struct {
    sp_atomic_u64 status;    /* sp_pool_status */
    sp_atomic_u64 joins;     /* goes up with each member that joins or leaves */
    sp_atomic_u64 doorbells; /* member indices below this have a semaphore */
    sp_atomic_u64 trace;     /* id of a tracer's segment, 0: nobody listens; see sp_trace.h */
    sp_atomic_u64 unused_0[4];
    sp_atomic_u64 reaped_members;
    sp_atomic_u64 reaped_leases;
    sp_atomic_u64 requeued;
    sp_atomic_u64 dead_lettered;
    sp_atomic_u64 repaired_bits;
    sp_atomic_u64 expired_tickets;
    sp_atomic_u64 quarantined;
    sp_atomic_u64 unused_1[1];
} sp_status;

typedef struct {
    sp_atomic_u64 waiting[SP_MASK_WORDS];
    sp_atomic_u64 uncommitted; /* hint: no fewer than there are; too many cost a search */
    sp_atomic_u64 unused[3];
} sp_class_state;

/* head and tail are on lines of their own: consumers write one, producers the other. */
typedef struct {
    sp_atomic_u64 head;
    sp_atomic_u64 unused_0[7];
    sp_atomic_u64 tail;
    sp_atomic_u64 unused_1[7];
    sp_atomic_u64 closed;
    sp_atomic_u64 unused_2[7];
    sp_atomic_u64 waiting[SP_MASK_WORDS];       /* for a ticket */
    sp_atomic_u64 waiting_space[SP_MASK_WORDS]; /* for room, where maxsize is set */
} sp_queue_state;

/* identity: pid:32 | state:8, in one word, so that no entry is ever taken by nobody. */
typedef enum { SP_VACANT = 0, SP_JOINING = 1, SP_ACTIVE = 2, SP_LEFT = 3, SP_DEAD = 4 } sp_member_state;

typedef struct {
    sp_atomic_u64 identity;
    sp_atomic_u64 start_time;
    sp_atomic_u64 pidfd_inode;
    sp_atomic_u64 joined_ns;
    sp_atomic_u64 reader; /* hint: reader id + 1, 0: none yet; the reader table decides */
    sp_atomic_u64 unused_0[3];
    char name[64];
    /* Counters with one writer: the member. */
    sp_atomic_u64 acquired;
    sp_atomic_u64 released;
    sp_atomic_u64 put;
    sp_atomic_u64 got;
    sp_atomic_u64 detached;
    sp_atomic_u64 claimed;
    sp_atomic_u64 stale;
    sp_atomic_u64 rung;
    sp_atomic_u64 waits;
    sp_atomic_u64 waited_ns;
    sp_atomic_u64 exhausted;
    sp_atomic_u64 overflows;
    sp_atomic_u64 moved;    /* of the overflows, those that went on in a larger slot */
    sp_atomic_u64 shared;
    sp_atomic_u64 borrowed;
    sp_atomic_u64 received; /* bytes of the slots got, claimed and borrowed */
} sp_member;

/* Everything about a slot that changes hands with it: one slot, one cache line. */
typedef struct {
    sp_atomic_u64 word;
    sp_atomic_u64 readers[SP_MASK_WORDS];
    sp_atomic_u64 since_ns;  /* hint: when the present right began, coarse monotonic clock */
    sp_atomic_u64 delivery;  /* attempts:32 | described:32; written by the owner */
    sp_atomic_u64 death;     /* pid:32 | unused:16 | letter:8 | queue:8; written by the reaper */
} sp_slot;

#define SP_MAX_DIMENSIONS 8u
#define SP_MAX_DTYPE 112u

/* How to read a slot's payload, written by its owner. The user's header record follows. */
typedef struct {
    uint32_t dimensions;
    uint32_t dtype_length;
    uint64_t unused;
    uint64_t shape[SP_MAX_DIMENSIONS];
    char dtype[SP_MAX_DTYPE];
} sp_sheet;

/* What happened to a slot, when, by whom and where in their code: for people. Written by those
 * who changed its word, after that; several may write at once, into different entries. */
typedef struct {
    sp_atomic_u64 turn;       /* 1 + how many came before; 0 while it is being written */
    sp_atomic_u64 when_ns;    /* monotonic clock */
    sp_atomic_u64 generation; /* under which it happened */
    sp_atomic_u64 what;       /* line:32 | unused:8 | queue:8 | member:8 | kind:8 */
    sp_atomic_u64 who;        /* pid:32 | thread id:32 */
    uint8_t unused[8];
    char name[32]; /* of the member: its entry may be another's by now */
    char file[48];
} sp_transition;

typedef struct {
    sp_atomic_u64 turns;    /* how many transitions there were */
    sp_atomic_u64 poisoned; /* generation for which the free slot was filled with poison */
    uint8_t unused[112];
} sp_history;

_Static_assert(sizeof(sp_header) == 256, "four lines");
_Static_assert(sizeof(sp_class_spec) == 64, "one line");
_Static_assert(sizeof(sp_queue_spec) == 64, "one line");
_Static_assert(sizeof(sp_status) == 128, "two lines");
_Static_assert(sizeof(sp_class_state) == 64, "one line");
_Static_assert(sizeof(sp_queue_state) == 256, "four lines");
_Static_assert(sizeof(sp_member) == 256, "four lines");
_Static_assert(sizeof(sp_slot) == 64, "one slot, one cache line");
_Static_assert(sizeof(sp_sheet) == 192, "three lines");
_Static_assert(sizeof(sp_transition) == 128, "two lines");
_Static_assert(sizeof(sp_history) == sizeof(sp_transition), "its head is as long as one entry");
_Static_assert(offsetof(sp_queue_state, tail) == 64, "tail on a line of its own");

typedef struct {
    uint64_t slot_size;
    uint64_t stride;
    uint32_t count;
    uint32_t max_count;
    uint32_t first;         /* number of its first slot in the pool */
    uint32_t map_words;     /* words of its free bitmap */
    uint32_t summary_words; /* words above it, 0 where one word is enough */
    uint64_t map;           /* offset of the bitmap */
    uint64_t summary;
} sp_class_geometry;

/* Where everything is: computed, never read from shared memory. */
typedef struct {
    uint32_t slots, classes, queues, members, record_size, record_text, history;
    uint32_t ring_cells;
    uint32_t sheet_stride;
    uint32_t history_stride; /* bytes of a slot's history, 0: there is none */
    sp_class_geometry of_class[SP_MAX_CLASSES];
    uint64_t class_specs, queue_specs, record, static_size;
    uint64_t status, readers, class_states, queue_states, member_table;
    uint64_t maps, rings, slot_table, sheets, history_table, total_size;
} sp_geometry;

static inline uint64_t sp_up(uint64_t bytes, uint64_t to)
{
    return (bytes + to - 1) / to * to;
}

/* A power of two >= 2 * slots + 2. What stands behind a live cell at head is alive, since
 * tickets are taken from head only: at most one for each slot, and one dead cell at head. The
 * rest lets a head that lags behind cost nothing. */
static inline uint32_t sp_ring_cells(uint32_t slots)
{
    uint32_t cells = 4;
    while (cells < 2 * slots + 2)
        cells *= 2;
    return cells;
}

static inline uint64_t sp_layout_maps(sp_geometry *g, uint64_t at)
{
    uint32_t first = 0;
    for (uint32_t i = 0; i < g->classes; i++) {
        sp_class_geometry *c = &g->of_class[i];
        c->first = first;
        c->map_words = (c->max_count + 63) / 64;
        c->summary_words = c->map_words > 1 ? (c->map_words + 63) / 64 : 0;
        c->map = at;
        c->summary = at + sp_up(c->map_words * UINT64_C(8), SP_LINE);
        at = c->summary + sp_up(c->summary_words * UINT64_C(8), SP_LINE);
        first += c->max_count;
    }
    g->slots = first;
    return at;
}

static inline uint64_t sp_layout_static(sp_geometry *g)
{
    g->class_specs = sizeof(sp_header);
    g->queue_specs = g->class_specs + g->classes * sizeof(sp_class_spec);
    g->record = g->queue_specs + g->queues * sizeof(sp_queue_spec);
    g->static_size = sp_up(g->record + g->record_text, SP_LINE);
    return g->static_size;
}

/* Fill in every offset from the counts; the caller has checked their ranges. */
static inline void sp_layout(sp_geometry *g)
{
    g->status = sp_layout_static(g);
    g->readers = g->status + sizeof(sp_status);
    g->class_states = g->readers + SP_MAX_READERS * sizeof(sp_atomic_u64);
    g->queue_states = g->class_states + g->classes * sizeof(sp_class_state);
    g->member_table = g->queue_states + g->queues * sizeof(sp_queue_state);
    g->maps = g->member_table + (g->members + 1) * sizeof(sp_member);
    g->rings = sp_layout_maps(g, g->maps);
    g->ring_cells = sp_ring_cells(g->slots);
    g->slot_table = g->rings + sp_up(g->queues * UINT64_C(8) * g->ring_cells, SP_LINE);
    g->sheets = g->slot_table + g->slots * sizeof(sp_slot);
    g->sheet_stride = (uint32_t)(sizeof(sp_sheet) + sp_up(g->record_size, SP_LINE));
    g->history_table = g->sheets + (uint64_t)g->slots * g->sheet_stride;
    g->history_stride = g->history ? (1 + g->history) * (uint32_t)sizeof(sp_transition) : 0;
    g->total_size = g->history_table + (uint64_t)g->slots * g->history_stride;
}

#endif
