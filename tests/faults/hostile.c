/* Every byte of the shared tables set to every value, and every operation upon each image.
 *
 *   hostile GAP STEP
 *
 * The tables stand GAP bytes apart; every STEP-th byte is taken, 1 for all. Prints how many
 * images there were. A crash, a report of a sanitizer, a broken rule or no end within a few
 * seconds of processor time is told with the image, and the exit code is not 0.
 */
#include "hostile.h"

#include <sanitizer/common_interface_defs.h>
#include <signal.h>
#include <sys/time.h>
#include <unistd.h>

typedef struct {
    Operation operation;
    uint32_t member;
    uint64_t number;
} Call;

enum { CALLS = 256, PATIENCE = 2 /* seconds of processor time, twice, for one image */ };

static World *world;
static Call calls[CALLS];
static uint32_t call_count;
static uint64_t images;
static const char *table;
static uint64_t offset;
static unsigned int value;

static void tell(void)
{
    fprintf(stderr, "IMAGE %lu: byte %lu of the %s set to 0x%02x\n", (unsigned long)images,
            (unsigned long)offset, table, value);
}

static void aborted(int signal_number)
{
    (void)signal_number;
    tell();
    _exit(3);
}

static void look_at_the_clock(int signal_number)
{
    (void)signal_number;
    static uint64_t seen = UINT64_MAX;
    if (seen == images) {
        fprintf(stderr, "NO END\n");
        tell();
        _exit(4);
    }
    seen = images;
}

static void watch(void)
{
    struct itimerval every = {{PATIENCE, 0}, {PATIENCE, 0}};
    __sanitizer_set_death_callback(tell);
    signal(SIGABRT, aborted);
    signal(SIGVTALRM, look_at_the_clock);
    setitimer(ITIMER_VIRTUAL, &every, NULL);
}

static void call(Operation operation, uint32_t member, uint64_t number)
{
    demand(call_count < CALLS, "a place for each call");
    calls[call_count++] = (Call){operation, member, number};
}

/* Every operation at least once: each class, queue and known ticket, and tickets of nowhere. */
static void list_calls(void)
{
    for (uint32_t i = 0; i < OPERATIONS; i++)
        if (operations[i] != do_reap && operations[i] != do_vacate)
            call(operations[i], WORKER, i);
    for (uint64_t i = 0; i < CLASSES; i++) {
        call(do_acquire, WORKER + i % 2, i);
        call(do_release, WORKER + i % 2, i);
        call(do_commit_begin, HELPER, i);
        call(do_trim_begin, HELPER, i);
    }
    for (uint64_t i = 0; i < 2 * QUEUES; i++)
        call(do_put, WORKER, i);
    for (uint64_t i = 0; i < 10 * QUEUES; i++)
        call(do_get, HELPER, i); /* more than there are: to what stands behind the last */
    for (uint64_t i = 0; i < CLASSES + 2 * QUEUES; i++)
        call(do_wait_next, COORDINATOR, i);
    for (uint64_t i = 0; i < world->notes.ticket_count; i++) {
        call(do_peek, HELPER, i);
        call(i % 3 ? do_borrow : do_claim, HELPER, i);
    }
    uint64_t nowhere[] = {sp_ticket(world->geometry.slots, 1), UINT64_MAX, sp_ticket(UINT16_MAX, 0)};
    for (uint64_t i = 0; i < sizeof nowhere / sizeof *nowhere; i++) {
        call(do_claim, WORKER, nowhere[i]);
        call(do_borrow, WORKER, nowhere[i]);
        call(do_peek, WORKER, nowhere[i]);
    }
    call(do_reap, COORDINATOR, DYING - 1);
    call(do_vacate, COORDINATOR, DYING - 1);
}

/* In a circle, from another call on for each image: so each call also comes first. */
static void operate(void)
{
    for (uint32_t i = 0; i < call_count; i++) {
        const Call *next = &calls[(images + i) % call_count];
        next->operation(world, world->handles[next->member], next->number);
    }
}

static void try_every_value(uint8_t *byte)
{
    uint8_t sound = *byte;
    for (value = 0; value < 256; value++) {
        *byte = (uint8_t)value;
        operate();
        world_restore(world);
        images++;
    }
    demand(*byte == sound, "the world is restored");
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    world = world_new(strtoul(argv[1], NULL, 10));
    uint64_t step = strtoul(argv[2], NULL, 10);
    list_calls();
    watch();
    for (uint32_t i = 0; i < world->table_count; i++) {
        table = world->tables[i].name;
        for (offset = 0; offset < world->tables[i].size; offset += step)
            try_every_value(world->block + world->tables[i].at + offset);
    }
    printf("%lu images, %u calls each\n", (unsigned long)images, call_count);
    return 0;
}
