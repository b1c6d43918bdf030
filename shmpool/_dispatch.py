"""Jobs on their way out, as there are slots, and results on their way back, to whom they belong.

Slots are leased in job order, together with their jobs. Were they leased by the workers,
later jobs could take every slot and wait, in order, for one that has none.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pickle import HIGHEST_PROTOCOL, dumps
from typing import Any

from shmpool._acquiring import acquire_or_none, fitting
from shmpool._crew import Crew
from shmpool._envelope import ArraySpec, Envelope, Head
from shmpool._lease import Lease
from shmpool._queue import Queue
from shmpool.errors import FarmError, QueueClosedError, QueueEmpty, SizeError
from shmpool.pool import Pool

Frame = ArraySpec | Callable[[Any], ArraySpec]

_CLASS = 0  # of slots: a farm's pool has one size
_LOOK = 1.0  # seconds between two looks at whether there is still something to wait for
_SOON = 0.1  # likewise, where a slot that would do may stand among the results


@dataclass(slots=True)
class Sent:
    """A job that is ready to be sent, and then under way."""

    index: int
    job: Any
    data: bytes  # pickled; b"" once it is sent
    description: bytes
    slot: int = -1
    parts: Sequence[Lease] = ()  # the slots that the job itself is in, where it is big


@dataclass(slots=True)
class Run:
    """One source of jobs, a call of map for example, and what has arrived for it."""

    number: int
    thread: int | None  # whose loop it is; None: results do not wait for anybody's next step
    under_way: dict[int, Sent] = field(default_factory=dict)
    arrived: deque[tuple[Lease, Head]] = field(default_factory=deque)
    ended: bool = False

    def forget(self) -> None:
        """Free what has arrived and nobody will look at."""
        with suppress(IndexError):
            while True:  # whoever brings more meanwhile does this, too
                self.arrived.popleft()[0].release()


Arrived = tuple[Lease, Head, Sent]


class Dispatcher:
    """Sends jobs and brings back their slots. Any thread may use it, each for runs of its own."""

    def __init__(self, pool: Pool, envelope: Envelope, frame: Frame, crew: Crew) -> None:
        self._pool, self._envelope, self._frame, self._crew = pool, envelope, frame, crew
        self._acquire: Callable[[int], Lease | None] = pool._mapping.try_acquire
        self._todo: Queue = pool.queue("todo")
        self._done: Queue = pool.queue("done")
        self._runs: dict[int, Run] = {}
        self._numbers = itertools.count(1)
        self._gathering = threading.Lock()  # two that each have half of what they need never end
        self._electing = threading.Lock()
        self._leader: int | None = None  # the thread that gets for all
        self._followers = 0  # threads that wait for its news
        self._news = threading.Condition()

    @property
    def asks_for_frames(self) -> bool:
        """Whether the user's code is called for each job, which may take its time."""
        return not isinstance(self._frame, ArraySpec)

    def begin(self, thread: int | None) -> Run:
        """A new source of jobs."""
        run = Run(next(self._numbers), thread)
        self._runs[run.number] = run
        return run

    def end(self, run: Run) -> None:
        """Free what has arrived and nobody will look at; the rest when it is collected."""
        self._runs.pop(run.number, None)
        self._take_back()
        self.collect()
        run.ended = True  # first: see _hand_over
        run.forget()
        for sent in run.under_way.values():
            _release_all(sent.parts)

    def _take_back(self) -> None:
        """Jobs that nobody has begun, and nobody wants any more, are not to be done."""
        wanted = []
        for _ in range(self._todo.qsize()):
            lease = self._todo._try_get()
            if lease is None:
                break
            wanted.append(lease)
        for lease in wanted:
            if self._envelope.head(lease).run in self._runs and not self._todo.closed:
                self._todo.put(lease)
            else:
                lease.release()

    # Sending.

    def pack(self, index: int, job: Any) -> Sent:
        """A job, pickled, before there is a slot for it: an error then holds none."""
        data = dumps(job, HIGHEST_PROTOCOL)
        if isinstance(self._frame, ArraySpec):
            return Sent(index, job, data, self._envelope.description)
        frame = self._frame(job)
        if not isinstance(frame, ArraySpec):
            raise TypeError(f"frame({job!r:.80}) returned {frame!r:.80}: it has to be an ArraySpec")
        fitting(self._pool._spec, self._envelope.slot_size_for(frame))
        return Sent(index, job, data, self._envelope.describe(frame))

    def try_send(self, run: Run, packed: Sent) -> bool:
        """Send a job if there is a slot for it now. Wakes nobody: `wake` is to follow."""
        if len(packed.data) > self._envelope.room:
            return self._send_big(run, packed, wait=False)
        lease = self._acquire(_CLASS)
        if lease is None:
            return False
        self._send(run, packed, lease)
        return True

    def wake(self, jobs: int) -> None:
        """Workers that sleep, for so many jobs that were sent."""
        self._todo._wake(jobs)

    def send(self, run: Run, packed: Sent) -> None:
        """Send a job, waiting for a slot. Raises FarmError if there is none to wait for.

        Wakes nobody: `wake` is to follow.
        """
        if len(packed.data) > self._envelope.room:
            with self._gathering:
                self._send_big(run, packed, wait=True)
        else:
            self._send(run, packed, self._wait_for_slot())

    def _send(self, run: Run, packed: Sent, lease: Lease, tickets: Sequence[int] = ()) -> None:
        index = packed.index
        self._envelope.address(lease, run.number, index, packed.data, packed.description, tickets)
        packed.data, packed.slot = b"", lease.slot
        run.under_way[index] = packed
        self._todo._put_quietly(lease)

    def _send_big(self, run: Run, packed: Sent, *, wait: bool) -> bool:
        """The job goes into shared slots of its own, and their tickets to where it would be."""
        size = self._pool.slot_size
        count = -(-len(packed.data) // size)
        if count >= self._pool.slots or 8 * count > self._envelope.room:
            message = (
                f"job {packed.index} has {len(packed.data)} bytes when pickled: that is {count} of "
                f"the farm's {self._pool.slots} slots, and its frame needs one more; create the "
                f"Farm with more slots=, or with job_size={len(packed.data)}, or send a name for it"
            )
            raise SizeError(message, index=packed.index, needed=len(packed.data))
        leases: list[Lease] = []
        try:
            for _ in range(count + 1):
                lease = self._wait_for_slot() if wait else self._acquire(_CLASS)
                if lease is None:
                    return False
                leases.append(lease)
            for number, part in enumerate(leases[:count]):
                part._write_at(0, packed.data[number * size : (number + 1) * size])
            lease = leases.pop()
            packed.parts, leases = leases, []
            self._send(run, packed, lease, [int(part.share()) for part in packed.parts])
        finally:
            _release_all(leases)
        return True

    def _wait_for_slot(self) -> Lease:
        """No job is under way and no slot is free: others have them, or the caller keeps them."""
        while True:
            lease = acquire_or_none(self._pool._mapping, None, _SOON)
            if lease is not None:
                return lease
            self.collect()
            mine = self._pool._mapping.in_hand()
            if len(mine) == self._pool.slots and not self._others_work():
                raise self._starved(mine)

    def _others_work(self) -> bool:
        """Whether another thread may give back what it has in hand, or will take what is done."""
        me = threading.get_ident()
        runs = list(self._runs.values())
        return any(r.thread != me and (r.thread is not None or r.under_way) for r in runs)

    def _starved(self, mine: list[int]) -> FarmError:
        loops = " or that loops around this one have" if len(self._runs) > 1 else ""
        maker = self._envelope.maker.name
        message = (
            f"results that you keep{loops} hold all {len(mine)} slots of the farm ({mine}): "
            f"release some, copy what you keep, or create the {maker} with more slots="
        )
        return FarmError(message, slots=mine)

    # Receiving.

    @property
    def under_way(self) -> int:
        """Jobs sent and not come back, of all runs."""
        return sum(len(run.under_way) for run in list(self._runs.values()))

    def jobs_in_slots(self) -> dict[int, int]:
        """Numbers of the jobs that are under way, by slot."""
        runs = list(self._runs.values())
        return {sent.slot: sent.index for run in runs for sent in list(run.under_way.values())}

    def anything_for(self, run: Run) -> bool:
        """Whether `receive` would not have to wait, as far as can be told."""
        return bool(run.arrived or self._done.qsize())

    def receive(self, run: Run) -> Arrived:
        """The next slot that comes back for this run. Blocks; raises FarmError if none will."""
        while True:
            arrived = self.receive_within(run, _LOOK)
            if arrived is not None:
                return arrived

    def receive_within(self, run: Run, seconds: float) -> Arrived | None:
        """As `receive`, but None when the time is up, or somewhat before."""
        if not run.arrived:
            self._get_or_wait(run, seconds)
            if not run.arrived:
                return None
        lease, head = run.arrived.popleft()
        sent = run.under_way.pop(head.number)
        if sent.parts:
            _release_all(sent.parts)
        return lease, head, sent

    def _get_or_wait(self, run: Run, seconds: float) -> None:
        """One thread gets, for all; the others wait for its news, not for its place."""
        led = False
        try:
            led = self._leads()
            if not led:
                self._follow(run, seconds)
            elif not run.arrived:
                self._get_some(seconds)
        finally:
            self._step_down(led)

    def _follow(self, run: Run, seconds: float) -> None:
        with self._news:
            self._followers += 1  # first: whoever steps down after our look tells us
            try:
                if self._leader is not None and not run.arrived:
                    self._news.wait(seconds)
            finally:
                self._followers -= 1

    def collect(self) -> None:
        """Take what is back, for all: what nobody waits for any more is free. Does not block.

        If another thread gets for all, it does this.
        """
        led = False
        try:
            led = self._leads()
            if led:
                self._hand_over(self._done._try_get())
        finally:
            self._step_down(led)

    def _leads(self) -> bool:
        me = threading.get_ident()
        with self._electing:
            if self._leader is None:
                self._leader = me
            return self._leader == me

    def _step_down(self, led: object) -> None:
        """Tell the news, if we led: also if something within our lead, a collection, ended it."""
        if self._leader == threading.get_ident():
            self._leader = None
        elif not led:
            return
        if self._followers:
            with self._news:
                self._news.notify_all()

    def _get_some(self, seconds: float) -> None:
        try:
            lease = self._done.get(timeout=seconds)
        except QueueEmpty:
            return
        except QueueClosedError:
            raise self._crew.failure() from None
        self._hand_over(lease)

    def _hand_over(self, lease: Lease | None) -> None:
        """A slot, and all others that are back: one lead for all."""
        if lease is not None:
            self._crew.progress()
        head_of, runs, next_one = self._envelope.head, self._runs, self._done._try_get
        while lease is not None:
            head = head_of(lease)
            run = runs.get(head.run)
            if run is None:
                lease.release()  # of a loop that was left before its end
            else:
                run.arrived.append((lease, head))
                # Left just now? Either its end sees what we append, or we see its end.
                if run.ended:
                    run.forget()
            lease = next_one()


def _release_all(leases: Sequence[Lease]) -> None:
    for lease in leases:
        if lease.live:
            lease.release()
