/* Doorbell: the semaphore on which this process sleeps, shared by its threads; and the wait.
 *
 * One sleeping thread listens to it; when that one wakes, for whatever reason, it wakes the others
 * of this process, who look again and of whom one listens next. All that is not sleep happens
 * under the GIL, so no signal handler and no other thread ever sees it half done.
 *
 * Python makes and unlinks the semaphore. Waiting is done here because posix_ipc's acquire() replaces
 * whatever a signal handler raises by an error of its own: a time-out from SIGALRM or a SystemExit
 * from SIGTERM would be lost, and the wait would go on. And because what happens between the
 * wake-up and the ticket is what a sleeper pays: in Python, on a core that has just been idle,
 * that was a quarter of a hand-off.
 */
#include "glue.h"

#include <errno.h>
#include <fcntl.h>
#include <semaphore.h>
#include <time.h>

enum {
    KINDS = 3,
    MOST_THINGS = SP_MAX_CLASSES,      /* that one thread waits for at a time */
    NOT_YET_NS = 2000000,              /* to doze while the coordinator has not hung our bell up */
};

/* Another thread than the one that listens. It stands on the stack of that thread. */
typedef struct Dozer {
    sem_t woken;
    struct Dozer *next;
} Dozer;

typedef struct {
    PyObject_HEAD
    PyObject *name;
    sem_t *semaphore; /* NULL: not opened yet */
    bool listened;    /* a thread listens to it */
    uint32_t heard;   /* how often one has done so */
    uint32_t asleep;  /* threads that sleep */
    Dozer *dozers;    /* ... those of them who do not listen */
    uint32_t waiting[KINDS][SP_MAX_QUEUES + 1]; /* threads that wait for each thing */
} DoorbellObject;

/* One call of wait(). */
typedef struct {
    MappingObject *mapping;
    Thing things[MOST_THINGS];
    uint32_t count;
    PyObject *attempt, *look;
    uint64_t deadline_ns, slice_ns;
} Wait;

/* --- sleeping ------------------------------------------------------------------------- */

/* Both on the clock that clock_ns reads, but where the C library cannot. */
static int wait_until(sem_t *semaphore, uint64_t end_ns)
{
#if defined(__GLIBC__)
    struct timespec end = {.tv_sec = end_ns / 1000000000, .tv_nsec = end_ns % 1000000000};
    return sem_clockwait(semaphore, CLOCK_MONOTONIC, &end);
#else
    struct timespec end;
    clock_gettime(CLOCK_REALTIME, &end);
    uint64_t now = clock_ns(), left = end_ns > now ? end_ns - now : 0, nanoseconds = end.tv_nsec + left;
    end.tv_sec += nanoseconds / 1000000000;
    end.tv_nsec = nanoseconds % 1000000000;
    return sem_timedwait(semaphore, &end);
#endif
}

/* Until it is posted, the time is up, or a signal comes: whether it was that. */
static bool sleep_on(sem_t *semaphore, uint64_t end_ns)
{
    bool posted = false;
    while (sem_trywait(semaphore) == 0) /* however often: one look does for all */
        posted = true;
    if (posted)
        return false;
    int result;
    Py_BEGIN_ALLOW_THREADS
    result = wait_until(semaphore, end_ns) == 0 ? 0 : errno;
    Py_END_ALLOW_THREADS
    return result == EINTR;
}

/* Sleep until the listening thread wakes us. */
static bool doze(DoorbellObject *self, uint64_t end_ns)
{
    Dozer me = {.next = self->dozers};
    sem_init(&me.woken, 0, 0);
    self->dozers = &me;
    bool interrupted = sleep_on(&me.woken, end_ns);
    Dozer **link = &self->dozers;
    while (*link != NULL && *link != &me)
        link = &(*link)->next;
    if (*link != NULL) /* woken by nobody: nobody has taken us out */
        *link = me.next;
    sem_destroy(&me.woken); /* whoever posted held the GIL until it was done */
    return interrupted;
}

static void wake_dozers(DoorbellObject *self)
{
    while (self->dozers != NULL) {
        Dozer *dozer = self->dozers;
        self->dozers = dozer->next;
        sem_post(&dozer->woken);
    }
}

static bool hung_up(DoorbellObject *self)
{
    if (self->semaphore == NULL) {
        sem_t *semaphore = sem_open(PyUnicode_AsUTF8(self->name), 0);
        self->semaphore = semaphore == SEM_FAILED ? NULL : semaphore;
    }
    return self->semaphore != NULL;
}

static bool listen(DoorbellObject *self, uint64_t end_ns)
{
    self->listened = true;
    bool interrupted;
    if (LIKELY(hung_up(self))) {
        interrupted = sleep_on(self->semaphore, end_ns);
    } else {
        uint64_t soon = clock_ns() + NOT_YET_NS;
        interrupted = doze(self, end_ns < soon ? end_ns : soon);
    }
    self->listened = false;
    self->heard++;
    wake_dozers(self);
    return interrupted;
}

/* Signal handlers run when nobody's sleep depends on us any more: they may wait themselves. */
static int sleep_until(DoorbellObject *self, uint64_t end_ns)
{
    self->asleep++;
    bool interrupted = self->listened ? doze(self, end_ns) : listen(self, end_ns);
    self->asleep--;
    return interrupted ? PyErr_CheckSignals() : 0;
}

/* --- the wait ------------------------------------------------------------------------- */

/* The bits first, then the look: whoever makes one available does the opposite. */
static PyObject *attempt(const Wait *wait)
{
    for (uint32_t i = 0; i < wait->count; i++)
        mapping_wait_begin(wait->mapping, &wait->things[i]);
    return PyObject_CallNoArgs(wait->attempt);
}

static int look_around(const Wait *wait)
{
    PyObject *looked = PyObject_CallNoArgs(wait->look);
    Py_XDECREF(looked);
    return looked ? 0 : -1;
}

/* Sleep for a slice: 0, 1 when the time is up, -1 with an exception. Not if another thread has
 * listened since our look began: it may have taken our ring, while we were nobody that it woke. */
static int rest(DoorbellObject *self, const Wait *wait, uint32_t heard)
{
    uint64_t now = clock_ns();
    if (now >= wait->deadline_ns)
        return 1;
    if (heard != self->heard)
        return 0;
    uint64_t left = wait->deadline_ns - now;
    return sleep_until(self, now + (left < wait->slice_ns ? left : wait->slice_ns));
}

/* What attempt() returned in the end, None when the time is up, NULL with an exception. */
static PyObject *sleep_for(DoorbellObject *self, const Wait *wait)
{
    for (bool rested = false;; rested = true) {
        uint32_t heard = self->heard;
        PyObject *found = attempt(wait);
        if (found != Py_None) /* NULL, too */
            return found;
        int over = rested && look_around(wait) < 0 ? -1 : rest(self, wait, heard);
        if (over > 0)
            return found;
        Py_DECREF(found);
        if (over < 0)
            return NULL;
    }
}

/* This process's bit of a thing goes with the last thread that waits for it. `found`, or NULL. */
static PyObject *stop_waiting(DoorbellObject *self, const Wait *wait, PyObject *found)
{
    for (uint32_t i = 0; i < wait->count; i++)
        if (--self->waiting[wait->things[i].kind][wait->things[i].index] == 0)
            sp_wait_end(wait->things[i].mask, wait->mapping->pool.me);
    /* Rung for several of them, we took one: the others are for whoever waits next. */
    for (uint32_t i = 0; wait->count > 1 && i < wait->count; i++)
        if (mapping_pass_on(wait->mapping, &wait->things[i]) < 0)
            Py_CLEAR(found);
    return found;
}

static int things_parse(Wait *wait, PyObject *things)
{
    Py_ssize_t count = PyTuple_GET_SIZE(things);
    if (count > MOST_THINGS) {
        PyErr_Format(PyExc_ValueError, "%zd things to wait for: at most %d", count, MOST_THINGS);
        return -1;
    }
    for (wait->count = 0; wait->count < count; wait->count++)
        if (mapping_thing_from(wait->mapping, PyTuple_GET_ITEM(things, wait->count), &wait->things[wait->count]) < 0)
            return -1;
    return 0;
}

static PyObject *doorbell_wait(DoorbellObject *self, PyObject *args)
{
    Wait wait;
    PyObject *things;
    unsigned long long deadline, slice;
    if (!PyArg_ParseTuple(args, "O!O!OOKK", mapping_type, &wait.mapping, &PyTuple_Type, &things, &wait.attempt,
                          &wait.look, &deadline, &slice) ||
        things_parse(&wait, things) < 0)
        return NULL;
    wait.deadline_ns = deadline;
    wait.slice_ns = slice;
    for (uint32_t i = 0; i < wait.count; i++)
        self->waiting[wait.things[i].kind][wait.things[i].index]++;
    uint64_t began = clock_ns();
    PyObject *found = stop_waiting(self, &wait, sleep_for(self, &wait));
    mapping_count_wait(wait.mapping, clock_ns() - began);
    return found;
}

/* --- the type ------------------------------------------------------------------------- */

static PyObject *doorbell_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(keywords))
{
    PyObject *name;
    if (!PyArg_ParseTuple(args, "U", &name) || PyUnicode_AsUTF8(name) == NULL)
        return NULL;
    DoorbellObject *self = (DoorbellObject *)type->tp_alloc(type, 0);
    if (self != NULL)
        self->name = Py_NewRef(name);
    return (PyObject *)self;
}

static void doorbell_dealloc(DoorbellObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    if (self->semaphore != NULL)
        sem_close(self->semaphore);
    Py_XDECREF(self->name);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyObject *doorbell_asleep(DoorbellObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLong(self->asleep);
}

static PyObject *doorbell_heard(DoorbellObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLong(self->heard);
}

static PyObject *doorbell_threads(DoorbellObject *self, PyObject *args)
{
    int kind;
    unsigned int index;
    if (!PyArg_ParseTuple(args, "iI", &kind, &index))
        return NULL;
    if (kind < 0 || kind >= KINDS || index > SP_MAX_QUEUES)
        return PyErr_Format(PyExc_IndexError, "nothing to wait for: kind %d, index %u", kind, index);
    return PyLong_FromUnsignedLong(self->waiting[kind][index]);
}

static PyMethodDef doorbell_methods[] = {
    {"wait", (PyCFunction)doorbell_wait, METH_VARARGS,
     "wait(mapping, things, attempt, look, deadline_ns, slice_ns): what attempt() returned, or None."},
    {"threads", (PyCFunction)doorbell_threads, METH_VARARGS,
     "threads(kind, index): how many of this process wait for it. For tests."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef doorbell_getset[] = {
    {"asleep", (getter)doorbell_asleep, NULL, "How many threads sleep: each has had its last look. For tests.", NULL},
    {"heard", (getter)doorbell_heard, NULL, "How often one has listened. For tests.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot doorbell_slots[] = {
    {Py_tp_new, doorbell_new},
    {Py_tp_dealloc, doorbell_dealloc},
    {Py_tp_methods, doorbell_methods},
    {Py_tp_getset, doorbell_getset},
    {Py_tp_doc, "Doorbell(name): on which this process sleeps; opened when it first does."},
    {0, NULL},
};

static PyType_Spec doorbell_spec = {
    .name = "shmpool._core.Doorbell",
    .basicsize = sizeof(DoorbellObject),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = doorbell_slots,
};

int module_add_doorbell(PyObject *module)
{
    return module_add_type(module, &doorbell_spec);
}
