/* Counts from Python, checked, and the layout that follows from them. */
#include "glue.h"

/* One class from (slot_size, stride, count, max_count). */
static int class_parse(PyObject *spec, sp_class_geometry *class)
{
    unsigned long long slot_size, stride;
    unsigned int count, max_count;
    if (!PyArg_ParseTuple(spec, "KKII", &slot_size, &stride, &count, &max_count))
        return -1;
    bool fits = slot_size > 0 && slot_size <= stride && stride <= (UINT64_C(1) << 46) &&
                stride % SP_LINE == 0 && max_count > 0 && count <= max_count &&
                max_count <= SP_MAX_SLOTS;
    if (!fits) {
        PyErr_Format(PyExc_ValueError, "class out of range: %R", spec);
        return -1;
    }
    *class = (sp_class_geometry){
        .slot_size = slot_size, .stride = stride, .count = count, .max_count = max_count};
    return 0;
}

static int classes_parse(PyObject *specs, sp_geometry *geometry)
{
    Py_ssize_t classes = PyTuple_GET_SIZE(specs);
    if (classes < 1 || classes > (Py_ssize_t)SP_MAX_CLASSES) {
        PyErr_Format(PyExc_ValueError, "%zd classes: 1 to %u fit", classes, SP_MAX_CLASSES);
        return -1;
    }
    geometry->classes = (uint32_t)classes;
    uint64_t slots = 0;
    for (Py_ssize_t i = 0; i < classes; i++) {
        if (class_parse(PyTuple_GET_ITEM(specs, i), &geometry->of_class[i]) < 0)
            return -1;
        slots += geometry->of_class[i].max_count;
    }
    if (slots <= SP_MAX_SLOTS)
        return 0;
    PyErr_Format(PyExc_ValueError, "%llu slots: 1 to %u fit", (unsigned long long)slots, SP_MAX_SLOTS);
    return -1;
}

/* counts: (classes, queues, members, record_size, record_text, history). */
int geometry_parse(PyObject *counts, sp_geometry *geometry)
{
    PyObject *classes;
    unsigned int queues, members, record_size, record_text, history;
    memset(geometry, 0, sizeof *geometry);
    if (!PyArg_ParseTuple(counts, "O!IIIII", &PyTuple_Type, &classes, &queues, &members, &record_size,
                          &record_text, &history))
        return -1;
    bool fits = queues <= SP_MAX_QUEUES && members >= 1 && members <= SP_MAX_MEMBERS &&
                record_size <= SP_MAX_RECORD && record_text <= SP_MAX_RECORD && history <= 1024;
    if (!fits) {
        PyErr_Format(PyExc_ValueError, "counts out of range: %R", counts);
        return -1;
    }
    if (classes_parse(classes, geometry) < 0)
        return -1;
    geometry->queues = queues;
    geometry->members = members;
    geometry->record_size = record_size;
    geometry->record_text = record_text;
    geometry->history = history;
    sp_layout(geometry);
    return 0;
}

/* Queue specs: (on_death, max_attempts, dead_letter, maxsize) for each. */
int queue_specs_parse(PyObject *specs, sp_pool *pool)
{
    if (!PyTuple_Check(specs) || PyTuple_GET_SIZE(specs) != (Py_ssize_t)pool->geometry.queues) {
        PyErr_SetString(PyExc_ValueError, "one spec for each queue");
        return -1;
    }
    for (uint32_t i = 0; i < pool->geometry.queues; i++) {
        sp_queue_spec *spec = &pool->queue_spec[i];
        if (!PyArg_ParseTuple(PyTuple_GET_ITEM(specs, (Py_ssize_t)i), "IIII", &spec->on_death,
                              &spec->max_attempts, &spec->dead_letter, &spec->maxsize))
            return -1;
        if (spec->on_death > SP_QUARANTINE || spec->dead_letter > pool->geometry.queues) {
            PyErr_Format(PyExc_ValueError, "spec of queue %u out of range", i + 1);
            return -1;
        }
    }
    return 0;
}

static PyObject *layout(PyObject *Py_UNUSED(module), PyObject *counts)
{
    sp_geometry g;
    if (!PyTuple_Check(counts))
        return PyErr_Format(PyExc_TypeError, "counts are a tuple");
    if (geometry_parse(counts, &g) < 0)
        return NULL;
    return Py_BuildValue(
        "{s:K,s:K,s:K,s:K,s:K,s:K,s:K,s:K,s:K,s:K,s:K,s:K,s:K,s:K,s:K,s:I,s:I,s:I,s:I}", "classes",
        g.class_specs, "queues", g.queue_specs, "record", g.record, "static_size", g.static_size,
        "status", g.status, "readers", g.readers, "class_states", g.class_states, "queue_states",
        g.queue_states, "members", g.member_table, "maps", g.maps, "rings", g.rings, "slots",
        g.slot_table, "sheets", g.sheets, "history", g.history_table, "total_size", g.total_size,
        "slot_count", g.slots, "ring_cells", g.ring_cells, "sheet_stride", g.sheet_stride,
        "history_stride", g.history_stride);
}

typedef struct {
    const char *record, *field;
    size_t offset, size;
} Field;

#define FIELD(record, field) {#record, #field, offsetof(record, field), sizeof(((record *)0)->field)}
#define RECORD(record) {#record, "", 0, sizeof(record)}

/* What Python needs to see of the records: names, offsets and sizes from the compiler. */
static const Field fields[] = {
    RECORD(sp_header),
    FIELD(sp_header, magic),
    FIELD(sp_header, version),
    FIELD(sp_header, checksum),
    FIELD(sp_header, total_size),
    FIELD(sp_header, slots),
    FIELD(sp_header, classes),
    FIELD(sp_header, queues),
    FIELD(sp_header, members),
    FIELD(sp_header, record_size),
    FIELD(sp_header, record_text),
    FIELD(sp_header, history),
    FIELD(sp_header, reuse),
    FIELD(sp_header, views),
    FIELD(sp_header, orphan_grace_ns),
    FIELD(sp_header, uid),
    FIELD(sp_header, pid_namespace),
    FIELD(sp_header, coordinator_pid),
    FIELD(sp_header, coordinator_start),
    FIELD(sp_header, coordinator_pidfd_inode),
    FIELD(sp_header, created_ns),
    FIELD(sp_header, name),
    FIELD(sp_header, lease_warning_ns),
    FIELD(sp_header, poison),
    FIELD(sp_header, leaks),
    RECORD(sp_class_spec),
    FIELD(sp_class_spec, slot_size),
    FIELD(sp_class_spec, stride),
    FIELD(sp_class_spec, count),
    FIELD(sp_class_spec, max_count),
    RECORD(sp_queue_spec),
    FIELD(sp_queue_spec, name),
    FIELD(sp_queue_spec, on_death),
    FIELD(sp_queue_spec, max_attempts),
    FIELD(sp_queue_spec, dead_letter),
    FIELD(sp_queue_spec, maxsize),
    RECORD(sp_status),
    FIELD(sp_status, status),
    FIELD(sp_status, joins),
    FIELD(sp_status, doorbells),
    FIELD(sp_status, trace),
    FIELD(sp_status, reaped_members),
    FIELD(sp_status, reaped_leases),
    FIELD(sp_status, requeued),
    FIELD(sp_status, dead_lettered),
    FIELD(sp_status, repaired_bits),
    FIELD(sp_status, expired_tickets),
    FIELD(sp_status, quarantined),
    RECORD(sp_class_state),
    FIELD(sp_class_state, waiting),
    FIELD(sp_class_state, uncommitted),
    RECORD(sp_queue_state),
    FIELD(sp_queue_state, head),
    FIELD(sp_queue_state, tail),
    FIELD(sp_queue_state, closed),
    FIELD(sp_queue_state, waiting),
    FIELD(sp_queue_state, waiting_space),
    RECORD(sp_member),
    FIELD(sp_member, identity),
    FIELD(sp_member, start_time),
    FIELD(sp_member, pidfd_inode),
    FIELD(sp_member, joined_ns),
    FIELD(sp_member, reader),
    FIELD(sp_member, name),
    FIELD(sp_member, acquired),
    FIELD(sp_member, released),
    FIELD(sp_member, put),
    FIELD(sp_member, got),
    FIELD(sp_member, detached),
    FIELD(sp_member, claimed),
    FIELD(sp_member, stale),
    FIELD(sp_member, rung),
    FIELD(sp_member, waits),
    FIELD(sp_member, waited_ns),
    FIELD(sp_member, exhausted),
    FIELD(sp_member, overflows),
    FIELD(sp_member, moved),
    FIELD(sp_member, shared),
    FIELD(sp_member, borrowed),
    FIELD(sp_member, received),
    RECORD(sp_slot),
    FIELD(sp_slot, word),
    FIELD(sp_slot, readers),
    FIELD(sp_slot, since_ns),
    FIELD(sp_slot, delivery),
    FIELD(sp_slot, death),
    RECORD(sp_sheet),
    FIELD(sp_sheet, dimensions),
    FIELD(sp_sheet, dtype_length),
    FIELD(sp_sheet, shape),
    FIELD(sp_sheet, dtype),
    RECORD(sp_transition),
    FIELD(sp_transition, turn),
    FIELD(sp_transition, when_ns),
    FIELD(sp_transition, generation),
    FIELD(sp_transition, what),
    FIELD(sp_transition, who),
    FIELD(sp_transition, name),
    FIELD(sp_transition, file),
    RECORD(sp_history),
    FIELD(sp_history, turns),
    FIELD(sp_history, poisoned),
    RECORD(sp_trace_header),
    FIELD(sp_trace_header, magic),
    FIELD(sp_trace_header, version),
    FIELD(sp_trace_header, members),
    FIELD(sp_trace_header, id),
    FIELD(sp_trace_header, events),
    FIELD(sp_trace_header, ring_size),
    FIELD(sp_trace_header, pid),
    RECORD(sp_trace_ring),
    FIELD(sp_trace_ring, count),
    FIELD(sp_trace_ring, pid),
    FIELD(sp_trace_ring, name),
    RECORD(sp_trace_event),
    FIELD(sp_trace_event, turn),
    FIELD(sp_trace_event, when_ns),
    FIELD(sp_trace_event, ticket),
    FIELD(sp_trace_event, what),
};

/* {record: {field: (offset, size)}}; the field "" is the record itself. */
static int add_fields(PyObject *module)
{
    PyObject *records = PyDict_New();
    if (records == NULL || PyModule_AddObjectRef(module, "RECORDS", records) < 0)
        return -1;
    Py_DECREF(records);
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        const Field *f = &fields[i];
        PyObject *name = PyUnicode_FromString(f->record + sizeof "sp_" - 1);
        PyObject *record = name ? PyDict_SetDefault(records, name, PyDict_New()) : NULL;
        PyObject *place = Py_BuildValue("nn", (Py_ssize_t)f->offset, (Py_ssize_t)f->size);
        int failed = !record || !place || PyDict_SetItemString(record, f->field, place) < 0;
        Py_XDECREF(name);
        Py_XDECREF(place);
        if (failed)
            return -1;
    }
    return 0;
}

static PyMethodDef functions[] = {
    {"layout", layout, METH_O, "Offsets in the control block, from the counts."},
    {NULL, NULL, 0, NULL},
};

int module_add_geometry(PyObject *module)
{
    return PyModule_AddFunctions(module, functions) < 0 ? -1 : add_fields(module);
}
