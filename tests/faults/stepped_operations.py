"""What members and coordinators do when they are killed, and what may then be left.

OPERATIONS is the table to add lines to; every_instruction.py kills at every point of each.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from typing import Any

import numpy as np
from stepped_scene import PATIENCE, SLOTS, LostError, Scene, number_in

import shmpool
from shmpool import Pool, QueueOptions, _audit, _description
from shmpool._layout import State

Act = Callable[[], object]


def nothing(_: Scene) -> None:
    """Nothing to do."""


def no_text(_: Scene) -> str:
    """Nothing to add."""
    return ""


@dataclass(frozen=True)
class Operation:
    """What is done, and what a kill may leave.

    `prepare` runs in the coordinator before the fork. `arm` runs in the member, and returns the
    operation itself. `meet` runs in the coordinator while the member is about to begin. `look`
    runs there after the death, before anything is taken back, and adds to the outcome. `path`
    lists the outcomes in the order in which the kill points must give them, each once: what was
    before the operation took effect, and what after.
    """

    arm: Callable[[Scene], Act]
    path: tuple[str, ...]
    prepare: Callable[[Scene], None] = nothing
    meet: Callable[[Scene], None] = nothing
    look: Callable[[Scene], str] = no_text
    queues: Any = ("a", "b")
    slot_size: int = 64
    moving: bool = False  # a sleeper, or half a repair: no audit before `look` has ended that
    coordinator: bool = False  # what is killed is one; the outcome is what a member is told
    reaping: bool = False  # what is killed is a reaper, over what a member armed so has left
    thin: int = 1  # how many times fewer points are enough where time is short
    samples: int = 0  # instructions chosen from all, the interpreter's too


def joined(scene: Scene) -> Pool:
    """The pool, after this forked child has become a member of its own, who has rung nobody yet.

    It looks no more whether the coordinator lives: however late it comes to its operation, that
    goes the fast way.
    """
    scene.pool._mapping.check()
    scene.pool._mapping.check_again(PATIENCE)
    scene.pool._mapping.bells.clear()
    return scene.pool


def arm_acquire(scene: Scene) -> Act:
    """Lease a slot."""
    return joined(scene).acquire


def arm_release(scene: Scene) -> Act:
    """Give back a fresh slot."""
    joined(scene)
    return scene.lease(9).release


def arm_put(scene: Scene) -> Act:
    """Send a fresh slot on."""
    queue = joined(scene).queue("a")
    lease = scene.lease(9)
    return lambda: queue.put(lease)


def arm_get(scene: Scene) -> Act:
    """Take a ticket."""
    return joined(scene).queue("a").get


def arm_detach(scene: Scene) -> Act:
    """Make a fresh slot a ticket."""
    joined(scene)
    return scene.lease(9)._detach


def arm_claim(scene: Scene) -> Act:
    """Claim the coordinator's ticket."""
    pool, ticket = joined(scene), scene.kept["ticket"]
    return lambda: pool.claim(ticket)


def arm_release_again(scene: Scene) -> Act:
    """Finish work that came from a queue."""
    return joined(scene).queue("a").get().release


def arm_pass_on(scene: Scene) -> Act:
    """Send work on that came from a queue."""
    pool = joined(scene)
    queue, lease = pool.queue("b"), pool.queue("a").get()
    return lambda: queue.put(lease)


def arm_describe(scene: Scene) -> Act:
    """Describe work anew that came from a queue."""
    lease = joined(scene).queue("a").get()
    description = _description.encode((1,), np.dtype("<u2"))
    return lambda: lease._describe(description)


def arm_abandon(scene: Scene) -> Act:
    """Let a lease be collected."""
    joined(scene)
    return [scene.lease(9)].clear


def arm_abandon_view(scene: Scene) -> Act:
    """Let the last array of a collected lease be collected."""
    joined(scene)
    return [scene.lease(9).array()].clear


def arm_vain_get(scene: Scene) -> Act:
    """Sleep for a ticket that does not come."""
    queue = joined(scene).queue("a")

    def get() -> None:
        with suppress(shmpool.QueueEmpty):
            queue.get(timeout=0.001)

    return get


def arm_join(scene: Scene) -> Act:
    """Become a member, as a forked child does at its first use."""
    return scene.pool._mapping.check


def arm_attach(scene: Scene) -> Act:
    """Become a member by the pool's name."""
    return lambda: Pool.attach(scene.pool.name, spin=0)


def arm_close(scene: Scene) -> Act:
    """Leave in good order, a ticket on its way."""
    joined(scene)
    scene.put(9)
    return scene.pool.close


def arm_share(scene: Scene) -> Act:
    """Share a fresh slot."""
    joined(scene)
    return scene.lease(9)._share


def arm_borrow(scene: Scene) -> Act:
    """Borrow what the coordinator shares."""
    pool, ticket = joined(scene), scene.kept["ticket"]
    return lambda: pool.borrow(ticket)


def arm_give_back(scene: Scene) -> Act:
    """Give back what the coordinator shares."""
    return joined(scene).borrow(scene.kept["ticket"]).release


def arm_end_share(scene: Scene) -> Act:
    """Release a slot that is shared."""
    joined(scene)
    lease = scene.lease(9)
    lease.share()
    return lease.release


def arm_move(scene: Scene) -> Act:
    """Move work that came from a queue on to another slot."""
    lease, larger = joined(scene).queue("a").get(), scene.lease(8)
    return lambda: lease._move(larger)


def arm_grow(scene: Scene) -> Act:
    """Fetch memory for two slots."""
    pool = joined(scene)
    return lambda: pool.grow(2)


def arm_trim(scene: Scene) -> Act:
    """Give the memory of all slots back."""
    return joined(scene).trim


def share_one(scene: Scene) -> None:
    """Set the scene: the coordinator shares a slot."""
    scene.kept["owner"] = scene.lease(7)
    scene.kept["ticket"] = scene.kept["owner"].share()


def end_share(scene: Scene) -> None:
    """Meet a borrower: the coordinator releases what it shares."""
    scene.kept.pop("owner").release()


def look_for_readers(scene: Scene) -> str:
    """Nobody reads any more: what the coordinator shared is free at once."""
    if "owner" in scene.kept:
        end_share(scene)
    slot = scene.kept["ticket"].slot
    if scene.words()[slot].state is not State.FREE:
        raise LostError(f"slot {slot} is {scene.words()[slot]}, and nobody reads it")
    return ""


def borrow_it(scene: Scene) -> None:
    """Meet an owner: the coordinator borrows what it shares."""
    [(slot, word)] = [(i, w) for i, w in enumerate(scene.words()) if w.state is State.SHARED]
    scene.kept["ticket"] = shmpool.Ticket.of(slot, word.generation)
    scene.kept["borrow"] = scene.pool.borrow(scene.kept["ticket"])


def read_on(scene: Scene) -> str:
    """The borrower's bytes are what they were, and its slot is free when it is done."""
    borrow = scene.kept.pop("borrow")
    if borrow.array().tolist() != [9, 9]:
        raise LostError("a borrower's bytes have changed")
    borrow.release()
    return look_for_readers(scene)


def trim_all(scene: Scene) -> None:
    """Set the scene: no slot has memory."""
    scene.pool.trim()


def look_into_quarantine(scene: Scene) -> str:
    """What is held out, and then it is no longer."""
    said = []
    for held in scene.pool.quarantined():
        with scene.pool.claim(held.ticket) as lease:
            said.append(f"held {number_in(lease)}")
    return ",".join(said)


def detach_one(scene: Scene) -> None:
    """Set the scene: a ticket of the coordinator's, outside every queue."""
    scene.kept["ticket"] = scene.lease(7).detach()


def put_one(scene: Scene) -> None:
    """Set the scene: one number waits in a queue."""
    scene.put(7)


def look_for_ticket(scene: Scene) -> str:
    """Whether the coordinator's ticket is still good: and then it is claimed, once."""
    try:
        lease = scene.pool.claim(scene.kept["ticket"])
    except shmpool.StaleTicketError:
        return ""
    lease.release()
    return "claimable"


def sleep_for(scene: Scene, get: Callable[[], Any]) -> None:
    """Another thread of the coordinator sleeps for something."""
    got: list[Any] = []
    thread = threading.Thread(target=lambda: got.append(get()))
    scene.kept |= {"thread": thread, "got": got}
    thread.start()
    while scene.pool._mapping.doorbell.asleep == 0:  # it has had its last look by then
        os.sched_yield()


def sleeper_for_ticket(scene: Scene) -> None:
    """Set the scene: somebody sleeps for a ticket."""
    sleep_for(scene, scene.pool.queue("a").get)


def sleeper_wakes(scene: Scene) -> str:
    """The sleeper has woken up, with what there was for it."""
    thread, got = scene.kept["thread"], scene.kept["got"]
    thread.join(PATIENCE)
    if not got:
        raise LostError("a sleeper was not woken")
    got.pop().release()
    return ""


def sleeper_gets_number(scene: Scene) -> str:
    """What the sleeper for a ticket got: if nothing was put, it still sleeps, and we put."""
    if scene.totals() != scene.kept["before"]:  # the member still had its lease
        scene.put(0)
    thread, got = scene.kept["thread"], scene.kept["got"]
    thread.join(PATIENCE)
    if not got:
        raise LostError("a sleeper was not woken")
    number = int(got[0].array()[0])
    got.pop().release()
    return f"sleeper got {number}"


def sleeper_for_slot(scene: Scene) -> None:
    """Meet a member: it holds a slot, the coordinator all others, and a thread sleeps for one."""
    scene.kept["held"] = [scene.pool.acquire_nowait() for _ in range(SLOTS - 1)]
    sleep_for(scene, scene.pool.acquire)


def sleeper_for_room(scene: Scene) -> None:
    """Set the scene: a full queue, and a thread that sleeps until it can put one more there."""
    queue = scene.pool.queue("a")
    scene.put(7)
    lease = scene.lease(9)
    sleep_for(scene, lambda: queue.put(lease))


def sleeper_finds_room(scene: Scene) -> str:
    """Both numbers come out of the queue, when we make the room that the member did not."""
    said = []
    for _ in range(2):
        with scene.pool.queue("a").get(timeout=PATIENCE) as lease:
            said.append(number_in(lease))
    scene.kept["thread"].join(PATIENCE)
    return ",".join(sorted(said))


def arm_estate(scene: Scene) -> Act:
    """Hold one of each: work from a queue, a fresh slot, a ticket on its way, and one outside."""
    pool = joined(scene)
    held = pool.queue("a").get(), scene.lease(8)
    scene.put(9, "b")
    scene.lease(6).detach()
    return lambda: held


def survive(scene: Scene) -> None:
    """Set the scene: the coordinator holds a lease, and work waits."""
    scene.kept["held"] = [scene.lease(5)]
    scene.put(7)


def arm_reaper(scene: Scene) -> Act:
    """What the reaper does: in a fork of the coordinator, which still has its index."""
    mapping, [member] = scene.pool._mapping, scene.kept["dead"]

    def reap() -> None:
        mapping.reap(member)
        mapping.repair()
        mapping.ring_all()
        mapping.vacate(member)

    return reap


def look_for_stuck(scene: Scene) -> str:
    """Tickets that are the reaper's by now, and that it has not sent on nor will let expire."""
    stuck = []
    for slot, word in enumerate(scene.words()):
        if word.state is not State.QUEUED or word.owner != 1:
            continue
        ring = _audit.tickets(scene.view, word.queue) if word.queue else []
        if (slot, word.generation) not in ring:
            stuck.append(f"stuck in {word.queue}")
            scene.pool._mapping.expire(slot, int(scene.view.words()[slot]))
    return ",".join(stuck)


# --- coordinators as victims ---


def create(scene: Scene, name: str) -> Pool:
    """In a forked child: become a coordinator, unknown to the resource tracker, with a dead member.

    The tracker is the parent's, and lives on: it would tidy up, and not at the right time.
    """
    resource_tracker.register = resource_tracker.unregister = lambda *_: None
    scene.rounds.hold()
    scene.pool = pool = Pool.create(SLOTS, 64, queues=("a", "b"), members=4, name=name, spin=0)
    scene.put(7)
    pid = os.fork()
    if not pid:
        arm_estate(scene)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    return pool


def arm_coordinator_reaps(scene: Scene) -> Act:
    """A coordinator about to reap a member that held one of each."""
    create(scene, scene.kept["name"])
    scene.kept["dead"] = [2]
    return arm_reaper(scene)


def arm_coordinator_closes(scene: Scene) -> Act:
    """A coordinator about to close its pool."""
    return create(scene, scene.kept["name"]).close


# --- the table ---

FREED, REQUEUED, EXPIRED = "reaped_leases=1", "a=7/1 requeued=1", "expired_tickets=1"
# A second reaper does all over again, but that it counts a death twice whose slot it had not come
# to, and does not know of detached tickets that the first had already taken over. It need not: a
# reaper is killed with its coordinator, and then nobody gets anything any more.
REAPED = (
    "a=7/1 b=9 expired_tickets=1 reaped_leases=1 requeued=1",
    "a=7/2 b=9 expired_tickets=1 reaped_leases=1 requeued=1",  # the attempt, not yet the word
    "a=7/1 b=9 expired_tickets=1 reaped_leases=1",  # in the ring, or not yet
    "a=7/1 b=9 expired_tickets=1",
    "stuck in 0 a=7/1 b=9",  # adopted, and its end not noted
)
LETTERS = {"a": QueueOptions(max_attempts=1, dead_letter="b"), "b": QueueOptions()}
HELD = {"a": QueueOptions(on_death="quarantine"), "b": QueueOptions()}
FULL = {"a": QueueOptions(maxsize=1), "b": QueueOptions()}

OPERATIONS = {
    "acquire": Operation(arm_acquire, ("", FREED)),
    "release": Operation(arm_release, (FREED, "")),
    "put": Operation(arm_put, (FREED, "a=9")),
    "get": Operation(arm_get, ("a=7", REQUEUED), prepare=put_one),
    "detach": Operation(arm_detach, (FREED, EXPIRED)),
    "claim": Operation(arm_claim, ("claimable", FREED), prepare=detach_one, look=look_for_ticket),
    "release what came from a queue": Operation(arm_release_again, (REQUEUED, ""), prepare=put_one),
    "put what came from a queue": Operation(arm_pass_on, (REQUEUED, "b=7"), prepare=put_one),
    "get at the last attempt": Operation(
        arm_get, ("a=7", "b=7/1 dead_lettered=1"), prepare=put_one, queues=LETTERS
    ),
    "get, and quarantine": Operation(
        arm_get, ("a=7", "held 7/1"), prepare=put_one, look=look_into_quarantine, queues=HELD
    ),
    "share": Operation(arm_share, (FREED,)),
    "borrow": Operation(arm_borrow, ("",), prepare=share_one, look=look_for_readers),
    "give back": Operation(arm_give_back, ("",), prepare=share_one, look=look_for_readers),
    "give back as the last": Operation(
        arm_give_back, ("",), prepare=share_one, meet=end_share, look=look_for_readers
    ),
    "release under a borrower": Operation(arm_end_share, (FREED, ""), meet=borrow_it, look=read_on),
    "release of a shared": Operation(arm_end_share, (FREED, "")),
    "a lease moves": Operation(
        arm_move,
        (
            "a=7/1 reaped_leases=1 requeued=1",
            "a=7/1,undescribed/1 requeued=2",  # both: a writer describes at its end
            "a=undescribed/1 requeued=1",
        ),
        prepare=put_one,
    ),
    "acquire that commits": Operation(arm_acquire, ("", FREED), prepare=trim_all, slot_size=4096),
    "grow": Operation(arm_grow, ("",), prepare=trim_all, slot_size=4096, samples=300),
    "trim": Operation(arm_trim, ("",), slot_size=4096, samples=300),
    "describe": Operation(
        arm_describe,
        (REQUEUED, "a=undescribed/1 requeued=1", "a=1799/1 requeued=1"),
        prepare=put_one,
    ),
    "a lease is collected": Operation(arm_abandon, (FREED, "")),
    "the last view is collected": Operation(arm_abandon_view, (FREED, "")),
    "release that wakes": Operation(
        arm_release, (FREED, ""), meet=sleeper_for_slot, look=sleeper_wakes, moving=True
    ),
    "put that wakes": Operation(
        arm_put,
        ("sleeper got 0 reaped_leases=1", "sleeper got 9"),
        prepare=sleeper_for_ticket,
        look=sleeper_gets_number,
        moving=True,
    ),
    "get that makes room": Operation(
        arm_get,
        ("7,9", "7/1,9 requeued=1"),
        prepare=sleeper_for_room,
        look=sleeper_finds_room,
        moving=True,
        queues=FULL,
    ),
    "get in vain": Operation(arm_vain_get, ("",)),
    "join": Operation(arm_join, ("",)),
    "attach": Operation(arm_attach, ("",), thin=10, samples=300),
    "close": Operation(arm_close, ("a=9",), samples=300),
    "reap": Operation(
        arm_estate,
        REAPED,
        prepare=survive,
        look=look_for_stuck,
        moving=True,
        reaping=True,
        thin=4,
    ),
    "reap, and nobody after": Operation(
        arm_coordinator_reaps, ("CoordinatorDiedError",), coordinator=True, thin=8
    ),
    "close by the coordinator": Operation(
        arm_coordinator_closes,
        ("CoordinatorDiedError", "PoolClosedError"),
        coordinator=True,
        thin=4,
    ),
}
