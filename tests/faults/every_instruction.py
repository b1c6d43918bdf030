"""A coordinator whose members are killed at every point of an operation, one after the other.

Run by test_every_instruction.py with a compiled stepper.c and the name of an operation; the
extension is the one that PYTHONPATH names. Prints a report as JSON.

This process is coordinator, fork server and tracer in one. For each point it sets the scene, forks
a member that does the operation and is killed there, waits until the reaper has done its work,
and looks at what is left. Then everything is taken back, for the next point.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import logging
import os
import random
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from stepped_operations import OPERATIONS, Act, Operation, arm_reaper
from stepped_scene import (
    PATIENCE,
    SLOTS,
    Errors,
    LostError,
    Rounds,
    Scene,
    check_generations,
    check_masks,
    check_sums,
    check_torn,
    rewind,
    settle,
    take_all,
)

import shmpool
from shmpool import Lease, Pool, _core, _waiting
from shmpool._segment import SHM

ROOM = 1 << 22  # points
CALL = 1 << 63  # as in stepper.c


# --- after a kill ---


def outcome(scene: Scene, operation: Operation, before: Counter[str]) -> str:
    """Check what a kill left, take everything back, and say what happened."""
    settle(scene)
    if not operation.moving:
        scene.pool.audit()
    check_generations(scene)
    scene.kept["before"] = before
    said = [operation.look(scene)]
    scene.pool.audit()
    counted = scene.totals() - before
    taken: list[Lease] = []
    for queue in ("a", "b"):
        leases, text = take_all(scene, queue)
        taken += leases
        said.append(text)
    check_sums(scene, taken)
    check_masks(scene)
    rewind(scene)
    said += [f"{name}={number}" for name, number in sorted(counted.items())]
    scene.kept.clear()
    return " ".join(filter(None, said))


def refused(survivor: Pool) -> str:
    """What a survivor is told at its next acquire; its fast path would go on for a while."""
    survivor._mapping.check_again(0)
    try:
        survivor.acquire_nowait()
    except (shmpool.CoordinatorDiedError, shmpool.PoolClosedError) as error:
        return type(error).__name__
    raise LostError("a survivor of the coordinator still gets slots")


def check_survivor(survivor: Pool, lease: Lease) -> str:
    """It has what it had, is told, can give back and leave; and then nothing is left."""
    if lease.array().tolist() != [5, 5]:
        raise LostError("a survivor's bytes have changed")
    told = refused(survivor)
    lease.release()
    survivor.close()
    with suppress(shmpool.PoolNotFoundError):
        shmpool.remove_orphan(survivor.name)
    if left := [entry.name for entry in SHM.iterdir() if survivor.name in entry.name]:
        raise LostError(f"left in /dev/shm: {left}")
    return told


def with_survivor(scene: Scene, kill: Callable[[], Any]) -> tuple[Any, str]:
    """Kill a coordinator that has armed itself, under a member that has attached to it."""
    scene.pool = survivor = Pool.attach(scene.kept["name"], spin=0)
    scene.kept |= {"held": [scene.lease(5)], "dead": [2]}
    words = scene.words()
    result = kill()
    check_torn(scene, words)
    [lease] = scene.kept.pop("held")
    return result, check_survivor(survivor, lease)


# --- killing ---


class Stepper:
    """stepper.c, and where the extension's code is."""

    def __init__(self, library: str) -> None:
        self._c = ctypes.CDLL(library, use_errno=True)
        for name in ("step_begin", "step_record", "step_record_all", "step_kill_at"):
            getattr(self._c, name).restype = ctypes.c_long
        self._points = (ctypes.c_uint64 * ROOM)()
        maps = Path("/proc/self/maps").read_text().splitlines()
        [line] = [m for m in maps if m.endswith(_core.__file__ or "") and " r-xp " in m]
        self._start, self._end = (int(end, 16) for end in line.split()[0].split("-"))
        self._offset = int(line.split()[2], 16)
        self._c.step_pin()
        self._pid = os.getpid()

    def trace_me(self) -> None:
        """In the child."""
        if self._c.step_trace_me(self._pid):
            raise OSError(ctypes.get_errno(), "ptrace")

    def begin(self, pid: int) -> None:
        """Until a child is about to do the operation."""
        if self._c.step_begin(pid):
            raise LostError("a member could not prepare the operation")

    def record(self, pid: int) -> list[int]:
        """The points of the operation that a child does: it is then dead."""
        ends = ctypes.c_uint64(self._start), ctypes.c_uint64(self._end)
        count = self._c.step_record(pid, *ends, self._points, ctypes.c_long(ROOM))
        return self._listed(count)

    def record_all(self, pid: int) -> list[int]:
        """Every instruction, the interpreter's too."""
        return self._listed(self._c.step_record_all(pid, self._points, ctypes.c_long(ROOM)))

    def _listed(self, count: int) -> list[int]:
        if not 0 <= count <= ROOM:
            raise LostError(f"a member did not do the operation: {count}")
        return list(self._points[:count])

    def kill_at(self, pid: int, point: tuple[int, int]) -> bool:
        """Whether the child was killed there, and not after the operation."""
        code = self._c.step_kill_at(pid, *map(ctypes.c_uint64, point))
        if code < 0:
            raise LostError(f"a member did not do the operation: {code}")
        return bool(code)

    def kill_now(self, pid: int) -> None:
        """Kill a child before the operation."""
        self._c.step_kill(pid)

    def name(self, point: int) -> str:
        """For messages: a system call's number, or an address for addr2line."""
        if point & CALL:
            return f"system call {point - CALL}"
        inside = self._start <= point < self._end
        return f"{point - self._start + self._offset if inside else point:#x}"


def occurrences(points: list[int]) -> list[tuple[int, int]]:
    """Each point with how many times it had come by then; a call with all calls before it."""
    seen: Counter[int] = Counter()
    result = []
    for point in points:
        kind = CALL if point & CALL else point
        seen[kind] += 1
        result.append((point, seen[kind]))
    return result


def child(scene: Scene, arm: Callable[[Scene], Act], stepper: Stepper) -> None:
    """The member's life: killed between the two signals, or at the second."""
    try:
        stepper.trace_me()
        act = arm(scene)
        signal.raise_signal(signal.SIGSTOP)
        result = act()
        signal.raise_signal(signal.SIGSTOP)
        del result
    except BaseException:  # noqa: BLE001 - the child ends here in any case
        traceback.print_exc()
    finally:
        os._exit(1)


def fork(scene: Scene, arm: Callable[[Scene], Act], stepper: Stepper) -> int:
    """Start a member, while the reaper is not in the middle of anything."""
    with scene.rounds.between():
        pid = os.fork()
        if not pid:
            child(scene, arm, stepper)
    stepper.begin(pid)
    return pid


@dataclass
class Run:
    """All kills of one operation."""

    scene: Scene
    stepper: Stepper
    operation: Operation
    every: int  # of how many points one is taken
    outcomes: list[str] = field(default_factory=list)
    missed: int = 0
    number: int = 0  # of the last coordinator

    def once(self, kill: Callable[[int], Any]) -> tuple[Any, str]:
        """Set the scene, fork, kill, and look."""
        scene, operation = self.scene, self.operation
        if operation.coordinator:
            return self._in_coordinator(kill)
        operation.prepare(scene)
        before = scene.totals()
        result = (self._in_reaper if operation.reaping else self._in_member)(kill)
        return result, outcome(scene, operation, before)

    def _in_coordinator(self, kill: Callable[[int], Any]) -> tuple[Any, str]:
        scene, self.number = self.scene, self.number + 1
        mine, scene.kept = scene.pool, {"name": f"{scene.pool.name}-{self.number}"}
        pid = fork(scene, self.operation.arm, self.stepper)
        try:
            return with_survivor(scene, lambda: kill(pid))
        finally:
            for entry in SHM.glob(f"*{scene.kept['name']}*"):  # only if something went wrong
                entry.unlink()
            scene.pool, scene.kept = mine, {}

    def _in_member(self, kill: Callable[[int], Any]) -> Any:
        pid = fork(self.scene, self.operation.arm, self.stepper)
        self.operation.meet(self.scene)
        return kill(pid)

    def _in_reaper(self, kill: Callable[[int], Any]) -> Any:
        """A member dies, then its reaper, and only then comes the one that does the work."""
        scene = self.scene
        with scene.rounds.pause():
            self._in_member(self.stepper.kill_now)
            scene.kept["dead"] = [index for index in scene.view.present() if index != 1]
            words = scene.words()
            result = kill(fork(scene, arm_reaper, self.stepper))
            check_torn(scene, words)
        return result

    def at(self, point: tuple[int, int]) -> None:
        """One kill; a member that came by another way is no kill."""
        try:
            hit, said = self.once(lambda pid: self.stepper.kill_at(pid, point))
        except (LostError, shmpool.ShmpoolError) as error:
            name = f"{self.stepper.name(point[0])}, time {point[1]}"
            raise LostError(f"killed at {name}: {type(error).__name__}: {error}") from error
        if hit:
            self.outcomes.append(said)
        elif point[0] < CALL:  # of calls there may be fewer: then all that there are had their turn
            self.missed += 1

    def points(self) -> list[tuple[int, int]]:
        """Every k-th point, in order, always with the first and the last."""
        self.once(self.stepper.kill_now)  # the first time, caches are cold
        _waiting.SLICE = PATIENCE  # recording is slow: a sleeper must not wake by itself
        recorded, _ = self.once(self.stepper.record)
        _waiting.SLICE = 0.01  # it will, after kills between its bit and its bell
        points = occurrences(recorded)
        return points[: -1 : self.every] + points[-1:]

    def samples(self, number: int) -> list[tuple[int, int]]:
        """Instructions chosen from all."""
        recorded, _ = self.once(self.stepper.record_all)
        points = occurrences(recorded)
        chosen = random.Random(20).sample(range(len(points)), number)
        return [points[i] for i in sorted(chosen)]

    def check_path(self) -> None:
        """The outcomes come in the order of the table: before, and after, and never back."""
        path, expected = [said for said, _ in groupby(self.outcomes)], self.operation.path
        if self.operation.coordinator:  # two threads: about the point of change, order varies
            path = sorted(set(path))
        rest = iter(expected)
        in_order = all(said in rest for said in path)  # some may lie between the points chosen
        if not in_order or {path[0], path[-1]} != {expected[0], expected[-1]}:
            raise LostError(f"outcomes {path}, expected {expected}")
        if self.every == 1 and len(path) != len(expected):
            raise LostError(f"outcomes {path}, expected all of {expected}")


def run(operation: Operation, library: str, every: int) -> Iterator[dict[str, Any]]:
    """Kill at every point; the report, in parts."""
    rounds, errors = Rounds(), Errors()
    logging.getLogger("shmpool").addHandler(errors)
    logging.getLogger("shmpool").propagate = False
    size = operation.slot_size
    options = {"slots": SLOTS, "slot_size": size, "queues": operation.queues, "members": 4}
    with Pool.create(**options, orphan_grace=0, spin=0) as pool:
        scene = Scene(pool, rounds, errors)
        this = Run(scene, Stepper(library), operation, every)
        points = this.points()
        yield {"points": len(points), "calls": sum(point >= CALL for point, _ in points)}
        for point in points:
            this.at(point)
        this.check_path()
        yield {"missed": this.missed, "outcomes": Counter(this.outcomes)}
        yield {"repaired": int(scene.view.status["repaired_bits"])}
        if operation.samples // every >= 10:
            this.outcomes.clear()
            this.every = 0
            for point in this.samples(operation.samples // every):
                this.at(point)
            this.check_path()
            yield {"samples": len(this.outcomes)}


def main() -> None:
    """Run one operation, and print a report."""
    parser = argparse.ArgumentParser()
    parser.add_argument("library")
    parser.add_argument("operation", choices=OPERATIONS)
    parser.add_argument("--every", type=int, default=1)
    arguments = parser.parse_args()
    operation = OPERATIONS[arguments.operation]
    report: dict[str, Any] = {"extension": _core.__file__, "failure": None}
    began = time.monotonic()
    gc.disable()
    sys.setswitchinterval(1e-4)  # the reaper and sleepers need not wait for the tracer's bytecodes
    try:
        for part in run(operation, arguments.library, arguments.every):
            report |= part
    except (LostError, shmpool.ShmpoolError) as error:
        report["failure"] = f"{type(error).__name__}: {error}"
    report["seconds"] = round(time.monotonic() - began, 2)
    json.dump(report, sys.stdout)


if __name__ == "__main__":
    main()
