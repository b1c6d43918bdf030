"""The words of the errors that poison finds: what was written where nobody may."""

from __future__ import annotations

from shmpool._header import PoolSpec
from shmpool.errors import SlotOverrunError, WriteAfterReleaseError

Damage = tuple[int, int, bytes]  # offset of the first wrong byte, how many are, what stands there


def written_while_free(
    spec: PoolSpec, slot: int, generation: int, damage: Damage
) -> WriteAfterReleaseError:
    """A free slot does not hold the bytes that it was filled with."""
    first, count, found = damage
    message = (
        f"slot {slot} of pool {spec.name!r} was written to while it was free, before lease "
        f"{slot}@{generation}: {_bytes(count)} of {spec.class_of(slot).slot_size} differ, the "
        f"first at offset {first}: {found.hex(' ')}. Somebody kept a pointer into it beyond "
        f"release(): look for C code, DMA or another process that still writes. The slot is free, "
        f"and filled again"
    )
    return WriteAfterReleaseError(message, slot=slot, generation=generation, **_facts(damage))


def overrun(
    spec: PoolSpec, action: str, right: tuple[int, int], behind: int, damage: Damage
) -> SlotOverrunError:
    """The bytes behind slot `behind`, the slot itself or the one before, are not as they were."""
    (slot, generation), (first, count, found) = right, damage
    size = spec.class_of(behind).slot_size
    if behind == slot:
        where = (
            f"{_bytes(count)} behind its end were written to, the first at offset {size + first}"
        )
    else:
        where = (
            f"{_bytes(count)} in front of it were written to, the first at offset {size + first} "
            f"of slot {behind}: from slot {behind} over its end, or from slot {slot} before its "
            f"start"
        )
    message = (
        f"cannot {action} lease {slot}@{generation} of pool {spec.name!r}, which has {size} bytes: "
        f"{where}: {found.hex(' ')}. Check the lengths given to C code, or take larger slots. They "
        f"are whole again, and the lease goes on: it can be ended now"
    )
    facts = {"slot": slot, "generation": generation, "behind": behind, **_facts(damage)}
    return SlotOverrunError(message, **facts)


def _bytes(count: int) -> str:
    return "1 byte" if count == 1 else f"{count} bytes"


def _facts(damage: Damage) -> dict[str, int | bytes]:
    first, count, found = damage
    return {"offset": first, "damaged": count, "found": found}
