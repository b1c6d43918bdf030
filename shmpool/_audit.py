"""The invariants of a pool, as stated at the top of sp_slot.h, checked against its memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from shmpool import _core
from shmpool._explain import ticket_text
from shmpool._header import PoolSpec
from shmpool._layout import ControlView, Standing, State, Word
from shmpool.errors import AuditError

_OWNED = {State.LEASED, State.QUEUED, State.SHARED}
_MAY_BE_OWNED = _OWNED | {State.UNCOMMITTED}
_OF_A_QUEUE = {State.LEASED, State.QUEUED, State.QUARANTINED}
_READ = {State.SHARED, State.DRAINING}


def audit(spec: PoolSpec, view: ControlView, shown: Callable[[int], bool]) -> Counter[State]:
    """Check every invariant, I1 to I11; how many slots are in each state.

    `shown` tells whether the free map shows a slot. Exact while nobody moves. Raises
    AuditError naming slot, word and rule.
    """
    words = view.unpacked()
    for slot, word in enumerate(words):
        _check_word(spec, view, slot, word)
        _check_hints(view, shown, slot, word)
    _check_rings(spec, view, words)
    _check_uncommitted(spec, view, words)
    counts = Counter(word.state for word in words)
    if sum(counts.values()) != spec.slots:
        raise AuditError(f"I1: {sum(counts.values())} slots counted, the pool has {spec.slots}")
    return counts


def _check(slot: int, word: Word, rules: dict[str, bool]) -> None:
    for rule, holds in rules.items():
        if not holds:
            message = f"slot {slot} is {word}, against {rule}"
            raise AuditError(message, slot=slot, word=word, rule=rule)


def _check_word(spec: PoolSpec, view: ControlView, slot: int, word: Word) -> None:
    last, state = word.generation == _core.GENERATION_MAX, word.state
    rules = {
        "I2: a generation is at least 1": word.generation >= 1,
        "I2: retired => the last generation": state is not State.RETIRED or last,
        "I3: leased, queued or shared => owner != 0": bool(word.owner) or state not in _OWNED,
        "I3: owner != 0 => leased, queued, shared or being committed": not word.owner
        or state in _MAY_BE_OWNED,
        "I4: an owner is a member": not word.owner or _is_member(spec, view, word.owner),
        "I5: queue != 0 => leased, queued or quarantined": not word.queue or state in _OF_A_QUEUE,
        "I5: a queue is one of the pool's": word.queue <= len(spec.queues),
    }
    _check(slot, word, rules)


def _check_hints(view: ControlView, shown: Callable[[int], bool], slot: int, word: Word) -> None:
    readers = view.readers_of(slot)
    rules = {
        "I7: free => the free map shows it": word.state is not State.FREE or shown(slot),
        "I8: readers => shared or draining": not readers or word.state in _READ,
        "I8: a reader is a member": all(readers),
        "I9: draining => readers": word.state is not State.DRAINING or bool(readers),
    }
    _check(slot, word, rules)


def _is_member(spec: PoolSpec, view: ControlView, owner: int) -> bool:
    return owner <= spec.members and view.standing(owner) is not Standing.VACANT


def _check_rings(spec: PoolSpec, view: ControlView, words: list[Word]) -> None:
    standing = {
        (number, t) for number in range(1, len(spec.queues) + 1) for t in tickets(view, number)
    }
    for slot, word in enumerate(words):
        if word.state is not State.QUEUED or not word.queue:
            continue
        if (word.queue, (slot, word.generation)) not in standing:
            rule = "I6: a queued ticket stands in its ring"
            ticket = ticket_text(slot, word.generation)
            message = f"ticket {ticket} is queued in queue {word.queue}, against {rule}"
            raise AuditError(message, slot=slot, word=word, rule=rule)


def _check_uncommitted(spec: PoolSpec, view: ControlView, words: list[Word]) -> None:
    for number, (first, c) in enumerate(zip(spec.firsts, spec.classes, strict=True)):
        found = sum(w.state is State.UNCOMMITTED for w in words[first : first + c.max_count])
        hint = int(view.class_states["uncommitted"][number])
        if found > hint:
            rule = "I10: no more slots are uncommitted than the class says"
            raise AuditError(f"class {number}: {found} of {hint}, against {rule}", rule=rule)


def tickets(view: ControlView, queue: int) -> list[tuple[int, int]]:
    """(slot, generation) of the cells between head and tail of a queue, dead ones included."""
    state = view.queue_states[queue - 1]
    head, tail = int(state["head"]), int(state["tail"])
    cells = view.rings[queue - 1]
    if not 0 <= tail - head <= len(cells):
        message = f"queue {queue}: head {head} and tail {tail}, of {len(cells)} cells"
        raise AuditError(f"{message}, against I11: 0 <= tail - head <= cells")
    numbers = [int(cells[i % len(cells)]) for i in range(head, tail)]
    return [(number >> 48, number & (1 << 48) - 1) for number in numbers]
