/* Parting: what becomes of the views of a right when it ends, or when others begin to read. */
#include "place.h"

#include <errno.h>

static bool span_seen(const SpanObject *span)
{
    return Py_REFCNT(span) > 1;
}

/* Does anything look at the memory, or may it? */
static bool right_viewed(const RightObject *self)
{
    return self->span != NULL && (span_seen(self->span) || self->exposed);
}

/* Views that refer to a right alone, and not to its span, are as old as it is at most: the
 * span lives as long as that. Takes over the reference. */
static void keep(RightObject *self, SpanObject *span)
{
    span->kept = self->kept;
    self->kept = span;
}

/* The one kept last is kept no longer: its views have it, or nobody. */
static void keep_no_longer(RightObject *self)
{
    SpanObject *span = self->kept;
    self->kept = span->kept;
    span->kept = NULL;
    Py_DECREF(span);
}

/* The views of a span are no longer ours to care for. */
void right_let_go(RightObject *self)
{
    SpanObject *span = self->span;
    self->span = NULL;
    if (UNLIKELY(self->exposed))
        keep(self, span);
    else
        Py_XDECREF(span);
    self->exposed = false;
}

static Obituary obituary(const RightObject *self, const char *action)
{
    const Right *right = &self->right;
    Obituary of = {.generation = sp_word_generation(right->at.word), .slot = right->at.slot,
                   .borrowed = right->borrowed, .action = action};
    site_find(&of.site);
    return of;
}

/* `error`: why the system refuses a fence, 0 if it was not asked. */
static int refuse(RightObject *self, const SpanObject *span, const char *action, int error)
{
    raise_instance(PyObject_CallMethod((PyObject *)self->mapping, "_views", "Osni", self, action,
                                       Py_REFCNT(span) - 1, error));
    return -1;
}

/* --- when a right ends ----------------------------------------------------------------- */

static int part_by_copy(RightObject *self, const char *action)
{
    if (place_copy(self->span) < 0)
        return refuse(self, self->span, action, errno);
    right_let_go(self);
    PyObject *told = PyObject_CallMethod((PyObject *)self->mapping, "_copied", "Os", self, action);
    Py_XDECREF(told);
    /* That was Python: another thread may have ended it meanwhile. */
    return told ? right_usable(self, action) : -1;
}

static int part_by_fence(RightObject *self, const char *action)
{
    Obituary of = obituary(self, action);
    if (place_fence(self->span, &of) < 0)
        return refuse(self, self->span, action, errno);
    right_let_go(self);
    return 0;
}

static int part_from_views(RightObject *self, const char *action)
{
    Views views = self->mapping->views;
    if (views == VIEWS_RAISE && span_seen(self->span))
        return refuse(self, self->span, action, 0);
    if (self->span->cell == NULL)
        return 0; /* ignored; or unseen, and smaller than a page */
    return views == VIEWS_COPY ? part_by_copy(self, action) : part_by_fence(self, action);
}

static int part_from_guarded(RightObject *self, const char *action)
{
    Obituary of = obituary(self, action);
    if (place_fence(self->kept, &of) < 0)
        return refuse(self, self->kept, action, errno);
    self->guarded = false;
    if (!self->kept->exposed)
        keep_no_longer(self);
    return 0;
}

/* Before a right ends: part from its views as the pool's policy says. 0, or -1 with an
 * exception, and the right goes on. */
int right_part(RightObject *self, const char *action)
{
    if (UNLIKELY(self->guarded) && part_from_guarded(self, action) < 0)
        return -1;
    return LIKELY(!right_viewed(self)) ? 0 : part_from_views(self, action);
}

/* It is over without having been asked: memory that was written to by nobody's right. */
void right_cut_guarded(RightObject *self)
{
    if (part_from_guarded(self, "share") < 0)
        PyErr_Clear();
}

/* --- when others begin to read --------------------------------------------------------- */

/* Its views go on reading, at pages that nobody writes to. What looks from now on has other
 * addresses: if one of them writes, what it writes is seen by them alone. */
static int guard(RightObject *self, const char *action)
{
    SpanObject *span = self->span;
    Obituary of = obituary(self, action);
    if (place_guard(span, &of) < 0)
        return refuse(self, span, action, errno);
    span->exposed = self->exposed;
    self->span = NULL;
    self->exposed = false;
    self->guarded = true;
    keep(self, span);
    return 0;
}

/* See to it that no view can write: 0, or -1 with an exception. */
int right_guard(RightObject *self, const char *action)
{
    Views views = self->mapping->views;
    bool guards = right_viewed(self) && views != VIEWS_COPY && self->span->cell != NULL;
    if (guards && !(views == VIEWS_RAISE && span_seen(self->span)))
        return guard(self, action);
    int parted = right_part(self, action);
    if (parted == 0)
        Py_CLEAR(self->span); /* the next one is read-only */
    return parted;
}

/* --- when nobody ends it --------------------------------------------------------------- */

/* Give the right to what looks at the memory: false if nothing does. */
bool right_pass_to_views(RightObject *self)
{
    SpanObject *heir = self->guarded ? self->kept : self->span;
    bool viewed = self->guarded || right_viewed(self);
    if (!viewed || self->mapping->views == VIEWS_IGNORE)
        return false;
    heir->right = self->right;
    heir->holds = true; /* the last view gives the slot back */
    if (!self->guarded)
        return true;
    if (self->span != NULL)
        self->span->kept = (SpanObject *)Py_NewRef(heir); /* of two, the last of either */
    self->guarded = false;
    if (!heir->exposed)
        keep_no_longer(self);
    return true;
}
