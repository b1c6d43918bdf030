/* Span: memory that stays mapped as long as anything looks at it. And how a right ends. */
#include "place.h"
#include "spares.h"

static Spares spares;

/* One Borrow less of a slot in this process; with the last one our bit goes. */
static bool borrow_end(MappingObject *mapping, uint32_t slot)
{
    if (--mapping->borrows[slot] == 0)
        sp_give_back(&mapping->pool, slot, mapping->pool.reader - 1);
    return true;
}

/* End a right in shared memory: false if it was over already. */
bool right_end(MappingObject *mapping, const Right *right)
{
    sp_pool *pool = &mapping->pool;
    sp_right left = UNLIKELY(mapping->poison != NULL) ? poison_fill(mapping, &right->at) : right->at;
    const sp_right *at = &left;
    if (UNLIKELY(right->borrowed))
        return borrow_end(mapping, at->slot);
    bool shared = sp_word_state(at->word) == SP_SHARED;
    bool ended = UNLIKELY(shared) ? sp_shared_end(pool, at->slot, at->word)
                                  : sp_slot_end(pool, at->slot, at->word);
    if (LIKELY(ended))
        sp_count(&mapping_me(mapping)->released);
    return ended;
}

/* Of a right that has ended: do others still read? Then nothing is free, and the last rings. */
bool right_left_read(MappingObject *mapping, const Right *right)
{
    if (LIKELY(!right->borrowed && sp_word_state(right->at.word) != SP_SHARED))
        return false;
    sp_state state = sp_word_state(sp_load_seq_cst(&mapping->pool.slots[right->at.slot].word));
    return state == SP_SHARED || state == SP_DRAINING;
}

/* Give a right back where nothing can be raised. */
void right_end_quietly(MappingObject *mapping, const Right *right)
{
    /* In a forked child the right is the parent's: leave it alone. */
    if (right->epoch != fork_epoch)
        return;
    if (UNLIKELY(mapping->poison != NULL) && !right->borrowed)
        poison_check_quietly(mapping, right);
    bool ended = right_end(mapping, right);
    if (ended)
        mapping_note_end(mapping, right, SP_WAS_COLLECTED);
    if (ended && !right_left_read(mapping, right))
        mapping_ring_quietly(mapping, mapping_slot_waiting(mapping, right->at.slot));
    mapping_right_over(mapping);
}

static void span_dealloc(SpanObject *self)
{
    if (self->cell != NULL)
        place_leave(self);
    Py_XDECREF(self->kept);
    if (self->holds)
        right_end_quietly(self->mapping, &self->right);
    Py_XDECREF(self->mapping);
    spares_give(&spares, (PyObject *)self);
}

int span_getbuffer(SpanObject *self, Py_buffer *view, int flags)
{
    return PyBuffer_FillInfo(view, (PyObject *)self, self->memory, self->length, self->readonly, flags);
}

SpanObject *span_new(MappingObject *mapping, uint8_t *memory, uint64_t length)
{
    SpanObject *self = (SpanObject *)spares_take(&spares, span_type);
    if (self == NULL)
        return NULL;
    *self = (SpanObject){.ob_base = self->ob_base,
                         .mapping = (MappingObject *)Py_NewRef(mapping),
                         .memory = memory,
                         .length = (Py_ssize_t)length};
    return self;
}

/* The memory of a slot, where nothing else of ours looks at it. */
SpanObject *span_of_slot(MappingObject *mapping, uint32_t slot)
{
    uint32_t class = sp_pool_class_of(&mapping->pool, slot);
    Region *home = mapping->home[class];
    uint8_t *memory = (uint8_t *)(uintptr_t)sp_load_relaxed(&home->base) + mapping_slot_offset(mapping, class, slot);
    SpanObject *span = span_new(mapping, memory, mapping->pool.geometry.of_class[class].slot_size);
    if (span != NULL && home->cells != NULL && place_take(mapping, slot, span) < 0)
        Py_CLEAR(span);
    return span;
}

static PyType_Slot span_slots[] = {
    {Py_tp_dealloc, span_dealloc},
    {Py_bf_getbuffer, span_getbuffer},
    {Py_tp_doc, "Shared memory that stays mapped as long as anything looks at it."},
    {0, NULL},
};

static PyType_Spec span_spec = {
    .name = "shmpool._core.Span",
    .basicsize = sizeof(SpanObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = span_slots,
};

int module_add_span(PyObject *module)
{
    span_type = (PyTypeObject *)PyType_FromSpec(&span_spec);
    return span_type ? PyModule_AddType(module, span_type) : -1;
}
