/* Where slots stand in this process: planes and cells, and what moves between them.
 *
 * A slot moves by its page tables (mremap with MREMAP_DONTUNMAP): no page of it is faulted in
 * again, and at no instant is there a hole that another thread's mmap could fall into. Planes
 * are aligned alike modulo 2 MiB, so that where they can whole tables are moved at once. */
#include "place.h"

#include <errno.h>
#include <sys/mman.h>

enum { TABLE = 2 << 20 }; /* bytes that one table of pages maps */

sp_atomic_u64 all_regions;
static Obituary *spare_obituaries;

/* --- regions ------------------------------------------------------------------------- */

static Region *region_spare(void)
{
    for (Region *region = region_first(); region != NULL; region = region->next)
        if (!sp_load_relaxed(&region->base))
            return region;
    Region *region = PyMem_RawCalloc(1, sizeof *region);
    if (region == NULL)
        return NULL;
    region->next = region_first();
    sp_store_release(&all_regions, (uint64_t)(uintptr_t)region);
    return region;
}

/* Make addresses known to the signal handlers as ours. NULL: no memory. */
Region *region_new(const Region *what, const uint8_t *base)
{
    Region *region = region_spare();
    if (region == NULL)
        return NULL;
    /* Handlers walk through it meanwhile: it stays in the list, and nowhere. */
    Region fresh = *what;
    fresh.next = region->next;
    sp_store_relaxed(&fresh.base, 0);
    fresh.annex = NULL;
    *region = fresh;
    /* F-known pairs with F-look: what is in the region, then its base. */
    sp_store_release(&region->base, (uint64_t)(uintptr_t)base);
    return region;
}

static void region_retire(Region *region)
{
    sp_cas_seq_cst(&region->base, sp_load_relaxed(&region->base), 0);
    answers_settle();
    PyMem_RawFree(region->cells);
    region->cells = NULL;
}

/* It has no cells, or nothing stands on them any more. */
void region_drop(Region *region)
{
    uint8_t *base = (uint8_t *)(uintptr_t)sp_load_relaxed(&region->base);
    uint64_t size = region->size;
    region_retire(region);
    munmap(base, size);
}

static uint8_t *cell_memory(const Region *plane, const Cell *cell)
{
    return (uint8_t *)(uintptr_t)sp_load_relaxed(&plane->base) + (uint64_t)(cell - plane->cells) * plane->stride;
}

static CellState cell_state(const Cell *cell)
{
    return (CellState)sp_load_acquire(&cell->state);
}

static void cell_set(Cell *cell, CellState state)
{
    sp_store_release(&cell->state, state);
}

/* Nobody answers a touch of it from now on, and those who are at it finish. What it was. */
static CellState cell_freeze(Cell *cell)
{
    CellState before;
    do
        before = (CellState)sp_load_seq_cst(&cell->state);
    while (!sp_cas_seq_cst(&cell->state, before, CELL_TOUCHED));
    answers_settle();
    return before;
}

/* Can a slot be put here? Also where a stray pointer touched reserved addresses. */
static bool cell_is_vacant(const Cell *cell)
{
    return cell->span == NULL && (cell_state(cell) == CELL_VOID || cell_state(cell) == CELL_TOUCHED);
}

/* --- planes -------------------------------------------------------------------------- */

/* One cell for each slot. NULL: no memory. */
Cell *plane_cells(uint32_t count, CellState state)
{
    Cell *cells = PyMem_RawCalloc(count, sizeof *cells);
    for (uint32_t i = 0; cells && state && i < count; i++)
        cell_set(&cells[i], state);
    return cells;
}

static void *reserve(void *at, uint64_t size, int flags)
{
    return mmap(at, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | flags, -1, 0);
}

/* Reserved addresses that stand to a table of pages as the home plane does. NULL: errno. */
static uint8_t *reserve_like(const uint8_t *home, uint64_t size)
{
    uint8_t *whole = reserve(NULL, size + TABLE, 0);
    if (whole == MAP_FAILED)
        return NULL;
    uint64_t before = ((uintptr_t)home - (uintptr_t)whole) % TABLE;
    if (before)
        munmap(whole, before);
    munmap(whole + before + size, TABLE - before);
    return whole + before;
}

/* One more plane behind the last. NULL: errno. */
static Region *plane_add(Region *last)
{
    Region plane = *last;
    const uint8_t *home = (uint8_t *)(uintptr_t)sp_load_relaxed(&last->base);
    uint8_t *base = reserve_like(home, plane.size);
    if (base == NULL)
        return NULL;
    plane.cells = plane_cells(plane.count, CELL_VOID);
    last->annex = plane.cells ? region_new(&plane, base) : NULL;
    if (last->annex != NULL)
        return last->annex;
    PyMem_RawFree(plane.cells);
    munmap(base, plane.size);
    errno = ENOMEM;
    return NULL;
}

/* Everything goes: no span of the mapping is alive. */
void place_forget(MappingObject *mapping)
{
    for (Region *region = region_first(); region != NULL; region = region->next) {
        if (sp_load_relaxed(&region->base) && region->mapping == mapping)
            region_drop(region);
    }
}

/* --- moving -------------------------------------------------------------------------- */

static uint64_t file_offset(const Region *plane, const Cell *cell)
{
    return (uint64_t)(cell - plane->cells) * plane->stride;
}

static int map_slot(const Region *plane, const Cell *cell, int protection)
{
    void *at = cell_memory(plane, cell);
    int fd = plane->mapping->slab_fd[plane->class];
    void *mapped = mmap(at, plane->stride, protection, MAP_SHARED | MAP_FIXED, fd,
                        (off_t)file_offset(plane, cell));
    return mapped == MAP_FAILED ? -1 : 0;
}

static int cell_close(const Region *plane, const Cell *cell)
{
    return reserve(cell_memory(plane, cell), plane->stride, MAP_FIXED) == MAP_FAILED ? -1 : 0;
}

/* Take a slot's page tables to a frozen cell. The memory stays mapped at the old one. */
static int take_tables(const Region *from, const Cell *old, bool guarded, const Region *to, const Cell *new)
{
#ifdef MREMAP_DONTUNMAP
    void *moved = mremap(cell_memory(from, old), from->stride, from->stride,
                         MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, cell_memory(to, new));
    if (moved != MAP_FAILED) {
        if (!guarded)
            return 0;
        return mprotect(moved, to->stride, PROT_READ | PROT_WRITE);
    }
    if (errno != EINVAL)
        return -1;
#else
    (void)from, (void)old, (void)guarded;
#endif
    return map_slot(to, new, PROT_READ | PROT_WRITE); /* a system that cannot: the pages are faulted in again */
}

/* Make a cell inaccessible, with whatever is there. */
static void cell_clear(const Region *plane, Cell *cell)
{
    CellState state = cell_freeze(cell);
    bool closed = state == CELL_FENCED || state == CELL_VOID;
    /* If the system refuses, it stays what it is with nothing on it, and is vacant if touched. */
    cell_set(cell, closed || cell_close(plane, cell) == 0 ? CELL_VOID : state);
}

/* Put a slot into a vacant cell: from another one, NULL: from the file. 0, or -1 with errno. */
static int cell_fill(const Region *to, Cell *new, const Region *from, const Cell *old, bool guarded)
{
    cell_freeze(new);
    bool filled = (old ? take_tables(from, old, guarded, to, new)
                       : map_slot(to, new, PROT_READ | PROT_WRITE)) == 0;
    int error = errno;
    if (filled)
        cell_set(new, CELL_SLOT);
    else
        cell_clear(to, new);
    errno = error;
    return filled ? 0 : -1;
}

typedef struct {
    Region *plane;
    Cell *cell;
} Place;

static Place find_place(Region *home, uint32_t index, bool (*fits)(const Cell *))
{
    for (Region *plane = home; plane != NULL; plane = plane->annex)
        if (fits(&plane->cells[index]))
            return (Place){plane, &plane->cells[index]};
    return (Place){NULL, NULL};
}

static bool cell_is_ready(const Cell *cell)
{
    return cell->span == NULL && cell_state(cell) == CELL_SLOT;
}

static bool cell_has_slot(const Cell *cell)
{
    return cell_state(cell) == CELL_SLOT || cell_state(cell) == CELL_GUARDED;
}

/* A cell that a slot can be put into, in a new plane if need be. No cell: errno. */
static Place vacant_place(Region *home, uint32_t index)
{
    Place place = find_place(home, index, cell_is_vacant);
    if (place.cell != NULL)
        return place;
    Region *last = home;
    while (last->annex != NULL)
        last = last->annex;
    Region *plane = plane_add(last);
    return plane ? (Place){plane, &plane->cells[index]} : (Place){NULL, NULL};
}

static Place ready_place(Region *home, uint32_t index)
{
    Place place = find_place(home, index, cell_is_ready);
    if (LIKELY(place.cell != NULL))
        return place;
    place = vacant_place(home, index);
    if (place.cell == NULL || cell_fill(place.plane, place.cell, NULL, NULL, false) < 0)
        return (Place){NULL, NULL};
    return place;
}

/* Give a span addresses at which its slot is, and nothing else stands: 0, or -1 with an exception. */
int place_take(MappingObject *mapping, uint32_t slot, SpanObject *span)
{
    Region *home = mapping->home[sp_pool_class_of(&mapping->pool, slot)];
    Place place = ready_place(home, slot - home->first);
    if (place.cell == NULL) {
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    place.cell->span = span;
    span->plane = place.plane;
    span->cell = place.cell;
    span->memory = cell_memory(place.plane, place.cell);
    return 0;
}

/* --- leaving ------------------------------------------------------------------------- */

static void obituary_put_away(Cell *cell)
{
    Obituary *of = cell->of;
    if (of == NULL)
        return;
    cell->of = NULL;
    of->next = spare_obituaries;
    spare_obituaries = of;
}

/* Bring a slot that stands elsewhere home, if both places are free; else put it away. */
static void settle(Region *home, Cell *at_home, Region *plane, Cell *cell)
{
    if (!cell_is_ready(cell))
        return;
    if (cell_is_vacant(at_home)) {
        if (cell_fill(home, at_home, plane, cell, false) < 0)
            return;
    } else if (!cell_has_slot(at_home)) {
        return; /* a fence is at home: this is where the slot is meanwhile */
    }
    cell_clear(plane, cell);
}

static void settle_all(const SpanObject *span)
{
    Region *home = span->mapping->home[span->plane->class];
    uint32_t index = (uint32_t)(span->cell - span->plane->cells);
    for (Region *plane = home->annex; plane != NULL; plane = plane->annex)
        settle(home, &home->cells[index], plane, &plane->cells[index]);
}

/* Something other than the slot is there, or the slot under guard: only the slot may stay. */
static void restore(SpanObject *span)
{
    Region *plane = span->plane;
    Cell *cell = span->cell;
    CellState state = cell_freeze(cell);
    obituary_put_away(cell);
    bool opened = state == CELL_GUARDED && mprotect(span->memory, plane->stride, PROT_READ | PROT_WRITE) == 0;
    cell_set(cell, opened ? CELL_SLOT : state);
    if (!opened)
        cell_clear(plane, cell);
}

/* The last view of a span is gone, or there never was one. */
void place_leave(SpanObject *span)
{
    span->cell->span = NULL;
    if (UNLIKELY(cell_state(span->cell) != CELL_SLOT))
        restore(span);
    settle_all(span);
}

/* --- fences -------------------------------------------------------------------------- */

static int obituary_write(Cell *cell, const Obituary *of)
{
    if (cell->of == NULL) {
        cell->of = spare_obituaries ? spare_obituaries : PyMem_RawMalloc(sizeof *cell->of);
        if (cell->of == NULL) {
            errno = ENOMEM;
            return -1;
        }
        if (cell->of == spare_obituaries)
            spare_obituaries = spare_obituaries->next;
    }
    *cell->of = *of;
    return 0;
}

/* Does the slot stand at another cell, so that this one is not needed for it? */
static bool stands_elsewhere(Region *home, const Cell *cell, uint32_t index)
{
    for (Region *plane = home; plane != NULL; plane = plane->annex)
        if (&plane->cells[index] != cell && cell_has_slot(&plane->cells[index]))
            return true;
    return false;
}

/* See to it that the slot has another place than the one that is about to be closed. */
static int slot_moves_out(SpanObject *span, CellState state)
{
    Region *home = span->mapping->home[span->plane->class];
    uint32_t index = (uint32_t)(span->cell - span->plane->cells);
    bool here = state == CELL_SLOT || state == CELL_GUARDED;
    if (!here || stands_elsewhere(home, span->cell, index))
        return 0;
    Place to = vacant_place(home, index);
    if (to.cell == NULL)
        return -1;
    return cell_fill(to.plane, to.cell, span->plane, span->cell, state == CELL_GUARDED);
}

/* Cut a span's views off from the slot: 0, or -1 with errno, and nothing is changed. */
int place_fence(SpanObject *span, const Obituary *of)
{
    if (fence_install() < 0)
        return -1;
    CellState before = cell_freeze(span->cell);
    if (obituary_write(span->cell, of) == 0 && slot_moves_out(span, before) == 0 &&
        cell_close(span->plane, span->cell) == 0) {
        cell_set(span->cell, CELL_FENCED);
        return 0;
    }
    int error = errno;
    cell_set(span->cell, before);
    settle_all(span);
    errno = error;
    return -1;
}

static void disown(Region *plane, uint32_t index)
{
    Cell *cell = &plane->cells[index];
    if (cell->span == NULL || !cell_has_slot(cell) || fence_install() < 0)
        return;
    Obituary of = {.generation = 1, .slot = plane->first + index, .action = "fork"};
    if (obituary_write(cell, &of) < 0)
        return;
    cell_set(cell, CELL_FENCED);
    cell_close(plane, cell);
}

/* In a forked child: the rights are its parent's, who does not know of the views here. */
void place_disown(void)
{
    for (Region *plane = region_first(); plane != NULL; plane = plane->next)
        for (uint32_t i = 0; sp_load_relaxed(&plane->base) && plane->cells && i < plane->count; i++)
            disown(plane, i);
}

/* Close again what was opened by a touch, so that the next is told of, too. */
void place_close_again(Region *plane, uint32_t index)
{
    if (!sp_load_relaxed(&plane->base) || plane->cells == NULL || index >= plane->count)
        return; /* gone meanwhile */
    Cell *cell = &plane->cells[index];
    CellState state = cell_state(cell);
    bool broken = state == CELL_BROKEN && cell->of != NULL;
    if (state != CELL_TOUCHED && !broken)
        return;
    cell_freeze(cell);
    if (broken && map_slot(plane, cell, PROT_READ) == 0)
        state = CELL_GUARDED;
    else if (!broken && cell_close(plane, cell) == 0)
        state = cell->span ? CELL_FENCED : CELL_VOID;
    cell_set(cell, state);
}

/* From now on its views only read: 0, or -1 with errno. */
int place_guard(SpanObject *span, const Obituary *of)
{
    if (fence_install() < 0 || obituary_write(span->cell, of) < 0)
        return -1;
    cell_set(span->cell, CELL_GUARDED);
    if (mprotect(span->memory, span->plane->stride, PROT_READ) == 0)
        return 0;
    cell_set(span->cell, CELL_SLOT);
    return -1;
}

/* Leave a private copy of the bytes to its views: 0, or -1 with errno. */
int place_copy(SpanObject *span)
{
    uint64_t stride = span->plane->stride;
    void *copy = mmap(NULL, stride, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (copy == MAP_FAILED)
        return -1;
    memcpy(copy, span->memory, (size_t)span->length);
    bool moved = slot_moves_out(span, cell_state(span->cell)) == 0 &&
                 mremap(copy, stride, stride, MREMAP_MAYMOVE | MREMAP_FIXED, span->memory) != MAP_FAILED;
    int error = errno;
    if (moved)
        cell_set(span->cell, CELL_COPY);
    else
        munmap(copy, stride);
    if (!moved)
        settle_all(span);
    errno = error;
    return moved ? 0 : -1;
}
