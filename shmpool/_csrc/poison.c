/* Poison: bytes that stand in free slots and behind all of them, and nowhere else, to find
 * writes that go past every right: by raw pointers, from C, over the end.
 *
 *   fill      whoever gives a slot back fills it while it is still theirs, and writes down the
 *             generation under which it will be free. Who acquires it under that one looks; a
 *             slot that the reaper freed, or the last reader, has another, and nobody looks
 *   canary    the bytes from a slot's end to its neighbour, there as long as its memory is
 */
#include "glue.h"

#include <sys/mman.h>

enum { FREE_BYTE = 0xDD, CANARY_BYTE = 0xFD, SHOWN = 16 };

/* The slabs once more: what is done to the pages of a slot elsewhere is no matter here. */
struct Poison {
    uint8_t *slab[SP_MAX_CLASSES];
    uint64_t size[SP_MAX_CLASSES];
};

typedef struct {
    uint64_t first; /* where, from the beginning of what was looked at */
    uint64_t count; /* how many bytes are wrong */
} Damage;

/* Each byte is as the next, and the first is right: memcmp is the fastest loop there is. */
static bool is_filled(const uint8_t *at, uint64_t length, uint8_t with)
{
    return at[0] == with && memcmp(at, at + 1, length - 1) == 0;
}

static Damage damage_to(const uint8_t *at, uint64_t length, uint8_t with)
{
    Damage damage = {.first = length};
    if (LIKELY(is_filled(at, length, with)))
        return damage;
    for (uint64_t i = length; i > 0; i--)
        if (at[i - 1] != with) {
            damage.first = i - 1;
            damage.count++;
        }
    return damage;
}

static uint8_t *bytes_of(const MappingObject *self, uint32_t slot)
{
    uint32_t class = sp_pool_class_of(&self->pool, slot);
    return self->poison->slab[class] + mapping_slot_offset(self, class, slot);
}

static uint64_t canary_length(const MappingObject *self, uint32_t slot)
{
    const sp_class_geometry *c = &self->pool.geometry.of_class[sp_pool_class_of(&self->pool, slot)];
    return c->stride - c->slot_size;
}

static uint8_t *canary_of(const MappingObject *self, uint32_t slot)
{
    return bytes_of(self, slot) + mapping_slot_size(self, slot);
}

/* --- free slots ------------------------------------------------------------------------ */

/* There is memory for a slot, all zeros, and nobody has it yet but us. */
void poison_begin(MappingObject *self, uint32_t slot)
{
    sp_store_relaxed(&sp_pool_history(&self->pool, slot)->poisoned, 0);
    memset(canary_of(self, slot), CANARY_BYTE, canary_length(self, slot));
}

/* Of a delivery, killed in the middle of filling, others would get what is left: it is none
 * any more. False if the right is over, and the bytes are somebody else's. */
static bool renounce(MappingObject *self, sp_right *right)
{
    sp_atomic_u64 *word = &self->pool.slots[right->slot].word;
    uint64_t mine = sp_word(SP_LEASED, self->pool.me, SP_NO_QUEUE, sp_word_generation(right->word));
    if (right->word == mine)
        return sp_load_acquire(word) == mine;
    if (!sp_cas_acq_rel(word, right->word, mine))
        return false;
    right->word = mine;
    return true;
}

/* Fill a slot that is about to be free: the right to end. What is shared others may be reading,
 * and a slot that was at its last generation is never free. */
sp_right poison_fill(MappingObject *self, const sp_right *at)
{
    sp_right right = *at;
    if (sp_word_state(right.word) != SP_LEASED || sp_word_state(sp_word_ended(right.word)) != SP_FREE ||
        !renounce(self, &right))
        return right;
    memset(bytes_of(self, right.slot), FREE_BYTE, mapping_slot_size(self, right.slot));
    /* After the bytes: killed before it, nobody looks at them. */
    sp_store_release(&sp_pool_history(&self->pool, right.slot)->poisoned, sp_word_generation(right.word) + 1);
    return right;
}

static Py_ssize_t shown(uint64_t length, Damage damage)
{
    uint64_t left = length - damage.first;
    return (Py_ssize_t)(left < SHOWN ? left : SHOWN);
}

/* Was a slot, just acquired, written to while it was free? If so it goes back, and -1. */
int poison_check(MappingObject *self, const sp_right *right)
{
    uint32_t slot = right->slot;
    uint64_t generation = sp_word_generation(right->word), length = mapping_slot_size(self, slot);
    if (sp_load_acquire(&sp_pool_history(&self->pool, slot)->poisoned) != generation)
        return 0;
    const uint8_t *bytes = bytes_of(self, slot);
    Damage damage = damage_to(bytes, length, FREE_BYTE);
    if (LIKELY(!damage.count))
        return 0;
    PyObject *found = PyBytes_FromStringAndSize((const char *)bytes + damage.first, shown(length, damage));
    sp_right again = poison_fill(self, right);
    sp_slot_end(&self->pool, slot, again.word);
    if (found == NULL || mapping_ring(self, mapping_slot_waiting(self, slot)) < 0) {
        Py_XDECREF(found);
        return -1;
    }
    raise_instance(PyObject_CallMethod((PyObject *)self, "_written_while_free", "IKKKN", slot,
                                       (unsigned long long)generation, (unsigned long long)damage.first,
                                       (unsigned long long)damage.count, found));
    return -1;
}

/* --- canaries ---------------------------------------------------------------------------- */

/* What is wrong with the canary behind a slot, which is right again afterwards. */
static Damage mend(MappingObject *self, uint32_t slot, uint8_t found[SHOWN])
{
    uint8_t *canary = canary_of(self, slot);
    uint64_t length = canary_length(self, slot);
    Damage damage = damage_to(canary, length, CANARY_BYTE);
    if (damage.count) {
        memcpy(found, canary + damage.first, (size_t)shown(length, damage));
        memset(canary, CANARY_BYTE, length);
    }
    return damage;
}

/* The slot in front, of the same class and with memory behind it: UINT32_MAX if there is none. */
static uint32_t in_front_of(const MappingObject *self, uint32_t slot)
{
    const sp_class_geometry *c = &self->pool.geometry.of_class[sp_pool_class_of(&self->pool, slot)];
    bool has = slot > c->first &&
               sp_word_state(sp_load_acquire(&self->pool.slots[slot - 1].word)) != SP_UNCOMMITTED;
    return has ? slot - 1 : UINT32_MAX;
}

static int fail_overrun(MappingObject *self, const Right *right, const char *action, uint32_t behind,
                        Damage damage, const uint8_t *found)
{
    Py_ssize_t length = shown(canary_length(self, behind), damage);
    raise_instance(PyObject_CallMethod((PyObject *)self, "_overrun", "sIKIKKy#", action, right->at.slot,
                                       (unsigned long long)sp_word_generation(right->at.word), behind,
                                       (unsigned long long)damage.first, (unsigned long long)damage.count,
                                       (const char *)found, length));
    return -1;
}

/* Are the canaries behind and in front of a slot whole? -1 with SlotOverrunError if not: they
 * are mended, and the right goes on. */
int poison_check_around(MappingObject *self, const Right *right, const char *action)
{
    uint8_t found[SHOWN];
    uint32_t slot = right->at.slot, front = in_front_of(self, slot);
    Damage damage = mend(self, slot, found);
    if (damage.count)
        return fail_overrun(self, right, action, slot, damage, found);
    if (front == UINT32_MAX)
        return 0;
    damage = mend(self, front, found);
    /* Or has its memory gone back to the system just now? Who fetches it again writes them. */
    if (!damage.count || in_front_of(self, slot) == UINT32_MAX)
        return 0;
    return fail_overrun(self, right, action, front, damage, found);
}

/* As above where nothing can be raised: whoever watches sys.unraisablehook is told. */
void poison_check_quietly(MappingObject *self, const Right *right)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    if (poison_check_around(self, right, "give back") < 0)
        PyErr_WriteUnraisable((PyObject *)self);
    PyErr_Restore(type, value, traceback);
}

/* --- the mapping ------------------------------------------------------------------------- */

void poison_free(MappingObject *self)
{
    for (uint32_t i = 0; self->poison && i < SP_MAX_CLASSES; i++)
        if (self->poison->slab[i])
            munmap(self->poison->slab[i], self->poison->size[i]);
    PyMem_Free(self->poison);
    self->poison = NULL;
}

static int map_slab(MappingObject *self, uint32_t class)
{
    const sp_class_geometry *c = &self->pool.geometry.of_class[class];
    uint64_t size = c->stride * c->max_count;
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, self->slab_fd[class], 0);
    if (memory == MAP_FAILED) {
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    self->poison->slab[class] = memory;
    self->poison->size[class] = size;
    return 0;
}

static PyObject *mapping_poison(MappingObject *self, PyObject *Py_UNUSED(none))
{
    const sp_geometry *g = &self->pool.geometry;
    for (uint32_t i = 0; i < g->classes; i++)
        if (!g->history_stride || g->of_class[i].stride <= g->of_class[i].slot_size)
            return PyErr_Format(PyExc_ValueError, "no room for poison");
    self->poison = PyMem_Calloc(1, sizeof *self->poison);
    if (self->poison == NULL)
        return PyErr_NoMemory();
    for (uint32_t i = 0; i < g->classes; i++)
        if (map_slab(self, i) < 0) {
            poison_free(self);
            return NULL;
        }
    Py_RETURN_NONE;
}

PyMethodDef poison_methods[] = {
    {"watch_poison", (PyCFunction)mapping_poison, METH_NOARGS, "Fill and look, from now on."},
    {NULL, NULL, 0, NULL},
};
