/* What each atomic operation sees.
 *
 * Which operations take a turn: those on words that one actor writes and another reads or
 * writes. An operation on any other word commutes with whatever the others do, so a schedule
 * that moves it is the same schedule. Which words those are is learnt: when one turns out to
 * be shared, the exploration begins anew.
 *
 * Weak mode (a scenario with stale > 0): a word keeps the messages written to it, in order,
 * and each thread has a view, the oldest message of each word that it may still read. A load
 * may read any message from its view on: a branch, newest first, and at most `stale` times in
 * one execution. Release writes carry their thread's view, acquire loads join it, fences do
 * the same for the relaxed ones around them. Seq_cst operations also agree on one order, that
 * of execution: such a load reads nothing older than what one before it read or wrote. In the
 * manner of J. Kang et al., "A promising semantics for relaxed-memory concurrency", POPL 2017,
 * without promises.
 *
 * Not covered: a store whose place is before an earlier one of another thread; a load that
 * reads what is written later in execution (load buffering); a failing CAS that reads an old
 * value; a thread that reads old values more than `stale` times.
 */
#include "explorer.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LOCATIONS = 64, MESSAGES = 128, LOG = 1 << 16 };

typedef struct {
    uint8_t from[LOCATIONS];
} View;

typedef struct {
    uint64_t value;
    View view;
} Message;

typedef struct {
    unsigned long execution; /* the one that its messages are of */
    int count, agreed;       /* agreed: the newest message of a seq_cst operation */
    Message messages[MESSAGES];
} Location;

/* What has been learnt of a word, in bits of actors. */
typedef struct {
    uint8_t readers, writers, location;
    bool hint, always;
} Word;

typedef struct {
    View now, acquired, released; /* the last two for fences */
} Thread;

typedef struct {
    const char *what;
    uint64_t before, after;
    uint16_t word;
    int8_t actor, age;
} Event;

static Word words[BLOCK_WORDS];
static Location locations[LOCATIONS];
static Thread threads[ACTORS];
static int locations_used, stale_left, events;
static Event history[LOG];
static unsigned long current;

/* A new scenario: nothing is known of any word. */
void memory_forget(void)
{
    memset(words, 0, sizeof words);
    locations_used = 0;
}

/* A word that no right depends on and no test looks at: never a turn. */
void memory_hint(const sp_atomic_u64 *at)
{
    words[at - block].hint = true;
}

/* A word that stands for something outside the block: always a turn. */
void memory_always(const sp_atomic_u64 *at)
{
    words[at - block].always = true;
    words[at - block].location = (uint8_t)++locations_used;
}

void memory_begin(void)
{
    memset(threads, 0, sizeof threads);
    stale_left = scenario.stale;
    events = 0;
    current++;
}

static void join(View *view, const View *other)
{
    for (int i = 0; i < LOCATIONS; i++)
        if (view->from[i] < other->from[i])
            view->from[i] = other->from[i];
}

/* The death of a process is known from the kernel, which orders all that it did. */
void memory_join(int reader, int writer)
{
    join(&threads[reader].now, &threads[writer].now);
}

static void note(const char *what, const sp_atomic_u64 *at, uint64_t before, uint64_t after, int age)
{
    if (running == NOBODY || events == LOG || words[at - block].hint)
        return;
    history[events++] = (Event){what, before, after, (uint16_t)(at - block), (int8_t)running,
                                (int8_t)age};
}

/* Take a turn if this can be seen by others: the word's location then, NULL otherwise. */
static Location *visible(const sp_atomic_u64 *at, bool write)
{
    if (running == NOBODY)
        return NULL;
    Word *word = &words[at - block];
    *(write ? &word->writers : &word->readers) |= (uint8_t)(1 << running);
    int actors = word->readers | word->writers;
    bool shared = word->always || (word->writers && (actors & (actors - 1)));
    if (word->hint || !shared)
        return NULL;
    if (!word->location) {
        word->location = (uint8_t)++locations_used;
        if (locations_used == LOCATIONS)
            fail("too many locations");
        explore_again();
    }
    explore_turn();
    Location *location = &locations[word->location];
    if (location->execution != current) {
        location->execution = current;
        location->count = 1;
        location->agreed = 0;
        memset(&location->messages[0].view, 0, sizeof(View));
        location->messages[0].value = *at;
    }
    return location;
}

static void agree(Location *location, int message, explore_order order)
{
    if (order == SEQ_CST && location->agreed < message)
        location->agreed = message;
}

/* Read one message: what it carries is now known, or will be at the next acquire fence. */
static void take(Location *location, int message, explore_order order)
{
    Thread *thread = &threads[running];
    const View *carried = &location->messages[message].view;
    thread->now.from[location - locations] = (uint8_t)message;
    join(&thread->acquired, carried);
    if (order & ACQUIRE)
        join(&thread->now, carried);
    agree(location, message, order);
}

static void append(Location *location, uint64_t value, explore_order order, bool exchange)
{
    Thread *thread = &threads[running];
    int message = location->count++;
    if (message == MESSAGES)
        fail("too many messages");
    thread->now.from[location - locations] = (uint8_t)message;
    Message *written = &location->messages[message];
    written->value = value;
    written->view = order & RELEASE ? thread->now : thread->released;
    written->view.from[location - locations] = (uint8_t)message;
    if (exchange) /* a release sequence goes on through read-modify-writes */
        join(&written->view, &location->messages[message - 1].view);
    agree(location, message, order);
}

/* How old a message this load reads: 0 is the newest. */
static int age_of_load(const Location *location, explore_order order)
{
    int oldest = threads[running].now.from[location - locations];
    if (order == SEQ_CST && oldest < location->agreed)
        oldest = location->agreed;
    int choices = location->count - oldest;
    if (choices == 1 || !stale_left)
        return 0;
    int age = explore_choose(choices);
    stale_left -= age > 0;
    return age;
}

uint64_t explore_load(const sp_atomic_u64 *at, explore_order order)
{
    Location *location = visible(at, false);
    uint64_t value = *at;
    int age = 0;
    if (location && scenario.stale) {
        age = age_of_load(location, order);
        int message = location->count - 1 - age;
        value = location->messages[message].value;
        take(location, message, order);
    }
    note("reads", at, value, value, age);
    return value;
}

void explore_store(sp_atomic_u64 *at, uint64_t value, explore_order order)
{
    Location *location = visible(at, true);
    if (location && scenario.stale)
        append(location, value, order, false);
    note("writes", at, *at, value, 0);
    *at = value;
}

bool explore_cas(sp_atomic_u64 *at, uint64_t expected, uint64_t desired, explore_order order)
{
    Location *location = visible(at, true);
    bool same = *at == expected;
    if (location && scenario.stale) {
        take(location, location->count - 1, order);
        if (same)
            append(location, desired, order, true);
    }
    note(same ? "swaps" : "fails to swap", at, *at, desired, 0);
    if (!same)
        return false;
    *at = desired;
    ghost_word(at, expected, desired);
    return true;
}

uint64_t explore_fetch(sp_atomic_u64 *at, explore_change change, uint64_t by, explore_order order)
{
    Location *location = visible(at, true);
    uint64_t before = *at;
    uint64_t after = change == OR ? before | by : change == AND ? before & by : before + by;
    if (location && scenario.stale) {
        take(location, location->count - 1, order);
        append(location, after, order, true);
    }
    note("changes", at, before, after, 0);
    *at = after;
    return before;
}

void explore_fence(explore_order order)
{
    if (running == NOBODY)
        return;
    Thread *thread = &threads[running];
    if (order & ACQUIRE)
        join(&thread->now, &thread->acquired);
    if (order & RELEASE)
        thread->released = thread->now;
}

/* --- the story of a failure --------------------------------------------------------- */

static void tell_word(uint64_t word)
{
    static const char *states[] = {"FREE",     "LEASED",      "QUEUED",  "SHARED",
                                   "DRAINING", "UNCOMMITTED", "RETIRED", "QUARANTINED"};
    printf("%s(%u, %u, %" PRIu64 ")", states[sp_word_state(word)], sp_word_owner(word),
           sp_word_queue(word), sp_word_generation(word));
}

/* Is it the word? */
static bool tell_slot(size_t at)
{
    size_t slot = (at - geometry.slot_table) / sizeof(sp_slot), field = at % sizeof(sp_slot);
    printf("slot %zu %s", slot, field ? "readers" : "word");
    return !field;
}

static void tell_place(size_t at)
{
    size_t beside_at = (size_t)((uint8_t *)beside - (uint8_t *)block);
    if (at >= beside_at)
        printf("beside %zu", (at - beside_at) / 8);
    else if (at >= geometry.rings)
        printf("cell %zu", (at - geometry.rings) / 8);
    else if (at >= geometry.maps)
        printf("free bits");
    else if (at >= geometry.member_table)
        printf("member %zu", (at - geometry.member_table) / sizeof(sp_member));
    else if (at >= geometry.queue_states)
        printf("queue %zu+%zu", (at - geometry.queue_states) / sizeof(sp_queue_state) + 1,
               (at - geometry.queue_states) % sizeof(sp_queue_state));
    else if (at >= geometry.class_states)
        printf("class+%zu", at - geometry.class_states);
    else
        printf("reader id %zu", (at - geometry.readers) / 8);
}

/* Every visible step of this execution. */
void memory_tell(void)
{
    for (int i = 0; i < events; i++) {
        const Event *event = &history[i];
        size_t at = event->word * sizeof(uint64_t);
        printf("  %c %s ", "ABCr"[event->actor], event->what);
        if (at >= geometry.slot_table && at < geometry.sheets && tell_slot(at)) {
            printf(" ");
            tell_word(event->before);
            if (event->before != event->after) {
                printf(" -> ");
                tell_word(event->after);
            }
        } else {
            if (at < geometry.slot_table || at >= geometry.sheets)
                tell_place(at);
            printf(" %" PRIx64 " -> %" PRIx64, event->before, event->after);
        }
        printf(event->age ? ", %d old\n" : "\n", event->age);
    }
}
