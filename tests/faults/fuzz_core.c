/* Hostile memory as libFuzzer likes it: bytes that are hostile hands and operations in turn.
 *
 * Built with -fsanitize=fuzzer and run for a number of inputs from a seed. An input is read from
 * its front: an operation with its member and its number, a byte of a table set, a word of a
 * table set, or a bit of a table turned over. All begin with the sound pool of hostile.h.
 */
#include "hostile.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { GAP = 64, SET_WORD = OPERATIONS, SET_BYTE, TURN_BIT, KINDS, LONG_NUMBER = 255 };

typedef struct {
    const uint8_t *at, *end;
} Input;

/* So many bytes of the input as a number; zeros beyond its end. */
static uint64_t next(Input *input, int bytes)
{
    uint64_t number = 0;
    for (int i = 0; i < bytes; i++)
        number |= (uint64_t)(input->at < input->end ? *input->at++ : 0) << 8 * i;
    return number;
}

static void operate(World *world, Input *input, uint64_t kind)
{
    uint64_t member = 1 + next(input, 1) % MEMBERS, number = next(input, 1);
    if (number == LONG_NUMBER)
        number = next(input, 8);
    /* Only the coordinator reaps, and nobody else frees entries. */
    if (operations[kind] == do_reap || operations[kind] == do_vacate)
        member = COORDINATOR;
    operations[kind](world, world->handles[member], number);
}

/* Table, and place in it: so that small tables are hit as often as large ones. */
static uint8_t *hostile_place(World *world, Input *input, uint64_t unit)
{
    const Table *table = &world->tables[next(input, 1) % world->table_count];
    uint64_t place = next(input, 2) * unit % table->size;
    return world->block + table->at + place;
}

static void tamper(World *world, Input *input, uint64_t kind)
{
    uint64_t unit = kind == SET_WORD ? 8 : 1;
    uint8_t *place = hostile_place(world, input, unit);
    uint64_t value = next(input, (int)unit);
    if (kind == SET_WORD)
        memcpy(place, &value, sizeof value);
    else if (kind == SET_BYTE)
        *place = (uint8_t)value;
    else
        *place ^= (uint8_t)(1 << value % 8);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static World *world;
    if (!world)
        world = world_new(GAP);
    Input input = {data, data + size};
    while (input.at < input.end) {
        uint64_t kind = next(&input, 1) % KINDS;
        if (kind < OPERATIONS)
            operate(world, &input, kind);
        else
            tamper(world, &input, kind);
    }
    world_restore(world);
    return 0;
}
