"""What a trace tells of each slot is a way through the state machine of docs/protocol.md."""

from __future__ import annotations

import os
import time
from itertools import pairwise
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from trace_format import check_format

from shmpool import Borrow, Lease, Pool, Ticket, _core
from shmpool._layout import TRACE_EVENT, TRACE_RING, State
from shmpool._trace import KINDS, Recording, recorder
from shmpool.cli import chrome, trace_summary
from shmpool.cli.timeline import build

# From the page: event, state before and after, and how much the generation goes up with it.
LEGAL = {
    ("leased", "free"): ("leased", 0),
    ("got", "queued"): ("leased", 0),
    ("claimed", "detached"): ("leased", 0),
    ("shared", "leased"): ("shared", 0),
    ("put", "leased"): ("queued", 1),
    ("detached", "leased"): ("detached", 1),
    ("released", "leased"): ("free", 1),
    ("collected", "leased"): ("free", 1),
    ("moved", "leased"): ("leased", 0),  # a remark: the release comes next
    ("released", "shared"): ("free", 1),  # once nobody reads
    ("collected", "shared"): ("free", 1),
}
ENDS = {State.FREE: "free", State.DRAINING: "free", State.LEASED: "leased", State.SHARED: "shared"}
STEPS = ("acquire", "put", "get", "detach", "claim", "share", "borrow", "return", "release",
         "collect", "move")  # fmt: skip


class Hands:
    """Two members of a pool, and what each holds."""

    def __init__(self, pools: list[Pool]) -> None:
        self.pools = pools
        self.leases: list[list[Lease]] = [[], []]
        self.borrows: list[Borrow] = []
        self.tickets: list[Ticket] = []
        self.shared: list[Ticket] = []

    def take(self, who: int, *, shared: bool | None = None) -> Lease | None:
        """The oldest lease in a hand, of one kind if that is asked."""
        fits = [x for x in self.leases[who] if shared is None or x.shared == shared]
        if fits:
            self.leases[who] = [x for x in self.leases[who] if x is not fits[0]]
        return fits[0] if fits else None

    def do(self, who: int, step: str) -> None:  # noqa: C901 - a case for each step
        """One step, if there is something to do it with."""
        pool, queue = self.pools[who], self.pools[who].queue("a")
        kind = {"put": False, "detach": False, "share": False, "move": False}.get(step)
        uses = ("put", "detach", "share", "release", "collect", "move")
        lease = self.take(who, shared=kind) if step in uses else None
        if step in uses and lease is None:
            return
        match step:
            case "acquire" if pool.statistics().free:
                self.leases[who].append(pool.acquire())
            case "get" if queue.qsize():
                self.leases[who].append(queue.get())
            case "put":
                queue.put(lease)  # type: ignore[arg-type]
            case "detach" if lease:
                self.tickets.append(lease.detach())
            case "claim" if self.tickets:
                self.leases[who].append(pool.claim(self.tickets.pop()))
            case "share" if lease:
                self.shared.append(lease.share())
                self.leases[who].append(lease)
            case "borrow" if [x for hand in self.leases for x in hand if x.shared]:
                live = [x for hand in self.leases for x in hand if x.shared]
                self.borrows.append(pool.borrow(live[0].ticket))
            case "return" if self.borrows:
                self.borrows.pop(0).release()
            case "release" if lease:
                lease.release()
            case "collect":
                del lease
            case "move" if lease:
                self._overflow(who, lease)

    def _overflow(self, who: int, lease: Lease) -> None:
        """A writer that needs more than a small slot has, if there is a large one."""
        self.leases[who].append(lease)
        if self.pools[who].statistics().classes[1].free:
            with lease.writer() as file:
                file.write(bytes(100))


def check(recording: Recording) -> None:
    """Every event is legal where it stands, and in the end the words are what the events say."""
    # One process has one clock: the events of both members are in order by it.
    events = np.sort(recording.events, order="when", kind="stable")
    for slot, word in enumerate(recording.after.unpacked()):
        mine = events[events["slot"] == slot]
        told = [(int(e["generation"]), KINDS[e["kind"]]) for e in mine]
        state, generation = "free", 1
        for at, kind in [(at, k) for at, k in told if k not in ("borrowed", "returned")]:
            assert at == generation, (slot, told)
            state, more = LEGAL[kind, state]
            generation += more
        assert word.generation == generation
        assert state == ENDS.get(word.state, "queued" if word.queue else "detached")
        borrowed = [kind for _, kind in told].count("borrowed")
        returned = [kind for _, kind in told].count("returned")
        assert (borrowed > returned) == bool(recording.after.readers_of(slot))


def check_timeline(recording: Recording) -> None:
    """No event is out of place, and no two spans of a slot are at the same time."""
    line = build(recording)
    assert line.misfits == 0
    for slot in range(recording.spec.slots):
        spans = [span for span in line.spans if span.slot == slot]
        for one, two in pairwise(spans):
            assert one.begin <= one.end <= two.begin
    words = recording.after.unpacked()
    going_on: dict[int, Any] = {s.slot: s.what for s in line.spans if not s.until}
    names = {"leased": "held"}
    for slot, word in enumerate(words):
        state = word.state.name.lower()
        if state == "queued" and not word.queue:
            state = "detached"
        assert going_on.get(slot, "free") == names.get(state, state)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 1), st.sampled_from(STEPS)), max_size=60))
def test_what_is_told_of_a_slot_is_a_legal_history(steps: list[tuple[int, str]]) -> None:
    """None is lost: every event follows from the one before, and the last ones from the words."""
    with Pool.create(classes=[(64, 3), (4096, 2)], queues=("a",)) as pool:
        other = Pool.attach(pool.name)
        hands = Hands([pool, other])
        with recorder(pool.name) as listening:
            for who, step in steps:
                hands.do(who, step)
            recording = listening.stop()
        assert recording.lost == {}
        check(recording)
        check_timeline(recording)
        for things in (*hands.leases, hands.borrows):
            while things:
                things.pop().release()
        del things
        other.close()


MOSTLY = {
    "kind": st.sampled_from(sorted(KINDS)) | st.integers(0, 255),
    "queue": st.integers(0, 3) | st.integers(0, 255),
    "member": st.integers(0, 4) | st.integers(0, 255),
    "slot": st.integers(0, 3) | st.just(_core.TRACE_NO_SLOT),
    "generation": st.integers(0, 6) | st.integers(0, _core.GENERATION_MAX),
    "ago": st.integers(-10, 1000) | st.integers(0, 10**9) | st.integers(-(1 << 62), 1 << 62),
    "pid": st.integers(0, 3) | st.integers(0, (1 << 32) - 1),
}


@settings(max_examples=150)
@given(st.lists(st.tuples(st.integers(1, 3), st.fixed_dictionaries(MOSTLY)), max_size=40))
def test_whatever_stands_in_the_rings_is_shown_as_something(
    noted: list[tuple[int, dict[str, int]]],
) -> None:
    """Members may write there what they like: what is made of it is valid, and nothing raises."""
    with Pool.create(slots=3, slot_size=64, queues=("a", "b"), members=4) as pool:
        with recorder(pool.name, _core.TRACE_LEAST) as listening:
            made, now = listening._segment, time.monotonic_ns()
            for ring in (1, 2, 3):
                mine = [event for number, event in noted if number == ring]
                events = np.zeros(len(mine), TRACE_EVENT)
                for number, (raw, event) in enumerate(zip(events, mine, strict=True), 1):
                    raw["turn"] = number
                    raw["when_ns"] = (now - event["ago"]) % (1 << 64)
                    raw["ticket"] = event["slot"] << 48 | event["generation"]
                    raw["what"] = (
                        event["pid"] << 32 | event["queue"] << 16
                        | event["member"] << 8 | event["kind"]
                    )  # fmt: skip
                head = np.zeros((), TRACE_RING)
                head["count"], head["pid"], head["name"] = len(mine), 2, b"\xff\x1b$"
                os.pwrite(made.fd, head.tobytes() + events.tobytes(), made.offset(ring))
            line = build(listening.stop())
        told = trace_summary.summary(line)
        assert told["events"] + told["lost"] == len(noted)
        assert trace_summary.text(told)
        check_format(chrome.trace_events(line))
