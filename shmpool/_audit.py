"""The invariants of a pool, checked against its memory."""

from __future__ import annotations

from collections import Counter

from shmpool._explain import ticket_text
from shmpool._header import PoolSpec
from shmpool._layout import ControlView, Standing, State, Word
from shmpool.errors import AuditError

_OWNED = {State.LEASED, State.QUEUED, State.SHARED}
_IN_QUEUE = {State.LEASED, State.QUEUED}


def audit(spec: PoolSpec, view: ControlView) -> Counter[State]:
    """Check every slot word and every ring; how many slots are in each state.

    Exact while nobody moves. Raises AuditError naming slot, word and rule.
    """
    words = [Word.unpack(packed) for packed in view.words().tolist()]
    for slot, word in enumerate(words):
        _check_word(spec, view, slot, word)
    _check_rings(spec, view, words)
    counts = Counter(word.state for word in words)
    if sum(counts.values()) != spec.slots:
        raise AuditError(f"{sum(counts.values())} slots counted, the pool has {spec.slots}")
    return counts


def _check_word(spec: PoolSpec, view: ControlView, slot: int, word: Word) -> None:
    rules = {
        "a generation is at least 1": word.generation >= 1,
        "owner != 0 <=> leased, queued or shared": bool(word.owner) == (word.state in _OWNED),
        "queue != 0 => leased or queued": not word.queue or word.state in _IN_QUEUE,
        "a queue is one of the pool's": word.queue <= len(spec.queues),
        "an owner is a member": not word.owner or _is_member(spec, view, word.owner),
        "readers => shared or draining": not view.slots["readers"][slot].any()
        or word.state in (State.SHARED, State.DRAINING),
    }
    for rule, holds in rules.items():
        if not holds:
            message = f"slot {slot} is {word}, against the rule: {rule}"
            raise AuditError(message, slot=slot, word=word, rule=rule)


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
            rule = "a queued ticket stands in its ring"
            ticket = ticket_text(slot, word.generation)
            message = f"ticket {ticket} is queued in queue {word.queue}, against the rule: {rule}"
            raise AuditError(message, slot=slot, word=word, rule=rule)


def tickets(view: ControlView, queue: int) -> list[tuple[int, int]]:
    """(slot, generation) of the cells between head and tail of a queue, dead ones included."""
    state = view.queue_states[queue - 1]
    head, tail = int(state["head"]), int(state["tail"])
    cells = view.rings[queue - 1]
    if not 0 <= tail - head <= len(cells):
        raise AuditError(f"queue {queue}: head {head} and tail {tail}, of {len(cells)} cells")
    numbers = [int(cells[i % len(cells)]) for i in range(head, tail)]
    return [(number >> 48, number & (1 << 48) - 1) for number in numbers]
