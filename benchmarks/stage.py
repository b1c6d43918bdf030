"""Processes that play their roles once, on a signal, and are killed when they take too long.

Each role is built in a fresh process of its own; only when all are ready does the play begin, and
nobody closes anything before all have finished. So no peer loses what was sent before its
receiver was there, or its sender gone, and one that hangs is told and does not stop the others.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, TypeAlias

from benchmarks.peers.protocol import CONTEXT, ON_MEETING

LIMIT = 40.0  # seconds for each step: starting, playing, ending

# Builds what is needed, which the stack closes again, and returns what is to be done.
Build: TypeAlias = Callable[..., Callable[[], Any]]


class FailedError(RuntimeError):
    """A role raised, died, or did not end in time."""


@dataclass(frozen=True)
class Role:
    """`build(stack, *arguments)` in a process of its own."""

    build: Build
    arguments: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Played:
    """What the roles returned, in their order."""

    results: list[Any]
    overhead: float  # CPU seconds that this process, the coordinator, took meanwhile


def play(roles: Sequence[Role], limit: float = LIMIT) -> Played:
    """Have the roles played. Raises FailedError; no process is left either way."""
    with ExitStack() as stack:
        actors = [_Actor(stack, role) for role in roles]
        _gather(actors, limit)  # all ends are there
        _cue(actors)
        _gather(actors, limit)  # and have met
        before = time.process_time()
        _cue(actors)
        results = _gather(actors, limit)
        overhead = time.process_time() - before
        _cue(actors)
        for actor in actors:
            actor.leave(limit)
    return Played(results, overhead)


class _Actor:
    """One process, and the connection to it."""

    def __init__(self, stack: ExitStack, role: Role) -> None:
        self.connection, theirs = CONTEXT.Pipe()
        stack.callback(self.connection.close)
        process = CONTEXT.Process(target=_act, args=(theirs, role), daemon=True)
        process.start()
        stack.callback(_end, process)
        theirs.close()
        self._process = process

    def answer(self, until: float) -> Any:
        """What it says next."""
        if not self.connection.poll(max(0.0, until - time.monotonic())):
            raise FailedError("hung: nothing came in time")
        try:
            good, value = self.connection.recv()
        except (EOFError, ConnectionError) as error:
            self._process.join(10)
            raise FailedError(f"died, exit code {self._process.exitcode}") from error
        if not good:
            raise FailedError(value)
        return value

    def leave(self, limit: float) -> None:
        """Wait for its end."""
        self._process.join(limit)
        if self._process.exitcode is None:
            raise FailedError("hung: it does not end")


def _gather(actors: Iterable[_Actor], limit: float) -> list[Any]:
    until = time.monotonic() + limit
    return [actor.answer(until) for actor in actors]


def _cue(actors: Iterable[_Actor]) -> None:
    for actor in actors:
        actor.connection.send(None)


def _end(process: BaseProcess) -> None:
    process.kill()
    process.join()
    process.close()


def _act(director: Connection, role: Role) -> None:
    try:
        with ExitStack() as stack:
            action = role.build(stack, *role.arguments)
            _answer_and_wait(director, None)
            while ON_MEETING:
                ON_MEETING.pop()()
            _answer_and_wait(director, None)
            _answer_and_wait(director, action())
            del action  # and with it what holds the memory that is closed now
    except BaseException:  # noqa: BLE001  # told, whatever it is
        director.send((False, traceback.format_exc(limit=-3).strip()))


def _answer_and_wait(director: Connection, value: Any) -> None:
    director.send((True, value))
    director.recv()
