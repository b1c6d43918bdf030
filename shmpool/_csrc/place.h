/* Where slots stand in this process, and what stands over the addresses of ended rights.
 *
 *   plane  addresses for every slot of a class, one stride each: the home plane, where the slab
 *          is mapped at first, and reserves of the same shape, made when they are needed
 *   cell   the addresses of one slot in one plane
 *
 *   invariants, under the GIL
 *     P1  a span stands on one cell, and no two on the same
 *     P2  cell.state in {SLOT, GUARDED} <=> the slot's memory is mapped there
 *     P3  a right that can still look at memory has its span on a cell of {SLOT, GUARDED, BROKEN}
 *     P4  where no span stands: SLOT at home, VOID in every other plane
 *
 * The signal handler reads all this in any thread and without the GIL. Regions are used again
 * but never freed. A cell that may be answered (all but SLOT and COPY) is frozen before it
 * changes: it becomes TOUCHED, where who touches it tries again, and those who are answering
 * finish.
 */
#ifndef SHMPOOL_PLACE_H
#define SHMPOOL_PLACE_H

#include "glue.h"

typedef enum {
    CELL_SLOT = 0, /* the slot's memory */
    CELL_VOID,     /* reserved, inaccessible, and nobody knows the address */
    CELL_GUARDED,  /* the slot's memory, read-only: it was shared under views that could write */
    CELL_BROKEN,   /* was guarded, and was written to: a private copy on write */
    CELL_FENCED,   /* inaccessible: views of an ended right are alive */
    CELL_TOUCHED,  /* was fenced, or void, and was touched: private zeros, in a moment */
    CELL_COPY,     /* a private copy of the bytes, for the views */
} CellState;

/* What there is to say of a right whose views are still there. */
typedef struct Obituary {
    uint64_t generation;
    uint32_t slot;
    bool borrowed;
    const char *action; /* that ended it */
    Site site;          /* where */
    struct Obituary *next;
} Obituary;

typedef struct Cell {
    sp_atomic_u64 state;
    SpanObject *span; /* what stands here, NULL: nothing */
    Obituary *of;
} Cell;

/* Addresses that are ours: a plane, or the control block, which has no cells. */
typedef struct Region {
    sp_atomic_u64 base; /* 0: not in use */
    uint64_t size, stride;
    MappingObject *mapping;
    Cell *cells; /* NULL: it has none, or nothing is ever fenced here */
    uint32_t class, first, count;
    char pool[64];
    bool expendable; /* if its file is cut, nobody has to be told: a tracer's */
    struct Region *annex; /* the next plane of this slab */
    struct Region *next;  /* in the list of all regions, used or not */
} Region;

extern sp_atomic_u64 all_regions; /* the first of them */

static inline Region *region_first(void)
{
    return (Region *)(uintptr_t)sp_load_acquire(&all_regions);
}

/* place.c */
Region *region_new(const Region *what, const uint8_t *base);
void region_drop(Region *region);
Cell *plane_cells(uint32_t count, CellState state);
void place_forget(MappingObject *mapping);
int place_take(MappingObject *mapping, uint32_t slot, SpanObject *span);
void place_leave(SpanObject *span);
int place_fence(SpanObject *span, const Obituary *of);
int place_guard(SpanObject *span, const Obituary *of);
int place_copy(SpanObject *span);
void place_disown(void);
void place_close_again(Region *plane, uint32_t index);

/* fence.c */
void answers_settle(void);

/* handlers.c */
int fence_install(void);
int fence_install_truncation(void);

#endif
