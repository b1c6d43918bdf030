/* Notes of what happens to slots, in pools made to keep them: see sp_history.h. */
#include "glue.h"

#include <unistd.h>

_Static_assert(sizeof(((Site *)0)->file) == sizeof(((sp_note *)0)->file), "one size of file names");

/* By sp_event; _story.py words them. */
static const char *const events[] = {
    "",
    [SP_WAS_LEASED] = "leased",
    [SP_WAS_GOT] = "got",
    [SP_WAS_CLAIMED] = "claimed",
    [SP_WAS_SHARED] = "shared",
    [SP_WAS_BORROWED] = "borrowed",
    [SP_WAS_RETURNED] = "returned",
    [SP_WAS_MOVED] = "moved",
    [SP_WAS_PUT] = "put",
    [SP_WAS_DETACHED] = "detached",
    [SP_WAS_RELEASED] = "released",
    [SP_WAS_COLLECTED] = "collected",
    [SP_WAS_EXPIRED] = "expired",
    [SP_WAS_FREED] = "freed",
    [SP_WAS_REQUEUED] = "requeued",
    [SP_WAS_DEAD_LETTERED] = "dead-lettered",
    [SP_WAS_QUARANTINED] = "quarantined",
};

/* The kernel's number of this thread. A forked child's only thread has another one. */
static uint32_t thread_id(void)
{
    static _Thread_local uint64_t epoch;
    static _Thread_local uint32_t id;
    if (UNLIKELY(epoch != fork_epoch)) {
        id = (uint32_t)gettid();
        epoch = fork_epoch;
    }
    return id;
}

/* The beginning of a member's name: its entry may be another's when somebody reads this. */
static void note_member(MappingObject *self, sp_note *note, uint32_t member)
{
    const sp_member *entry = &self->pool.members[member];
    note->member = member;
    note->pid = sp_identity_pid(sp_load_relaxed(&entry->identity));
    memcpy(note->name, entry->name, sizeof note->name);
}

static sp_note note_of(sp_event event, uint64_t generation, uint32_t queue)
{
    return (sp_note){
        .when_ns = clock_ns(), .event = event, .generation = generation, .queue = queue};
}

static void note_site(sp_note *note)
{
    PyObject *type, *value, *traceback;
    Site site;
    /* A lease may be collected while an error is on its way. */
    PyErr_Fetch(&type, &value, &traceback);
    site_find(&site);
    PyErr_Restore(type, value, traceback);
    note->line = site.line;
    memcpy(note->file, site.file, sizeof note->file);
}

/* Of our own acts, with the line that asked for it. */
static void story_note(MappingObject *self, uint32_t slot, uint64_t generation, sp_event event, uint32_t queue)
{
    sp_note note = note_of(event, generation, queue);
    note_member(self, &note, self->pool.me);
    note.thread = thread_id();
    if (event != SP_WAS_EXPIRED) /* the reaper's thread has no line of the user's */
        note_site(&note);
    sp_history_note(&self->pool, slot, &note);
}

/* To whoever wants to know. */
void story_tell(MappingObject *self, uint32_t slot, uint64_t generation, sp_event event, uint32_t queue)
{
    if (mapping_traced(self)) /* first: it has the better clock */
        trace_note(self, slot, generation, (int)event, queue);
    if (self->pool.geometry.history)
        story_note(self, slot, generation, event, queue);
}

/* Where a slot went whose holder, `dead`, had it under `word`: does nothing if it went nowhere. */
void story_reaped(MappingObject *self, uint32_t slot, uint64_t word, sp_reaped reaped, uint32_t dead)
{
    static const sp_event became[SP_REAP_CORRUPT + 1] = {
        [SP_REAP_FREED] = SP_WAS_FREED,
        [SP_REAP_REQUEUED] = SP_WAS_REQUEUED,
        [SP_REAP_DEAD_LETTER] = SP_WAS_DEAD_LETTERED,
        [SP_REAP_QUARANTINED] = SP_WAS_QUARANTINED,
    };
    if (!became[reaped])
        return;
    if (mapping_traced(self))
        trace_note_of_dead(self, slot, sp_word_generation(word), (int)became[reaped], sp_word_queue(word), dead);
    if (!self->pool.geometry.history)
        return;
    sp_note note = note_of(became[reaped], sp_word_generation(word), sp_word_queue(word));
    note_member(self, &note, dead);
    sp_history_note(&self->pool, slot, &note);
}

int module_add_story(PyObject *module)
{
    const Py_ssize_t count = sizeof events / sizeof *events;
    PyObject *names = PyTuple_New(count);
    for (Py_ssize_t i = 0; names && i < count; i++) {
        PyObject *name = PyUnicode_FromString(events[i]);
        if (name == NULL)
            Py_CLEAR(names);
        else
            PyTuple_SET_ITEM(names, i, name);
    }
    int result = names ? PyModule_AddObjectRef(module, "EVENTS", names) : -1;
    Py_XDECREF(names);
    return result;
}
