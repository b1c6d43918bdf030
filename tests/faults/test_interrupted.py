"""Ctrl-C while a pool or farm is made or closed: all of it, or nothing, and then the interrupt."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import shmpool
from shmpool import ArraySpec, Farm, Pool, _core, _create, _reaper
from workers.crasher import render

SHM = Path("/dev/shm")  # noqa: S108 - where POSIX shared memory is


def interrupting(original: Callable[..., Any]) -> Callable[..., Any]:
    """A function that is interrupted just before its return."""

    def interrupted(*arguments: Any, **options: Any) -> Any:
        result = original(*arguments, **options)
        if threading.current_thread() is threading.main_thread():  # no reaper is to do it again
            os.kill(os.getpid(), signal.SIGINT)
        return result

    return interrupted


@pytest.mark.parametrize(
    ("owner", "name"),
    [(_create, "make"), (_create, "open_up"), (_reaper, "hang_bell"), (_core, "layout")],
    ids=["segments", "magic", "doorbell", "layout"],
)
def test_a_pool_interrupted_while_it_is_made_is_not_there(
    owner: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """KeyboardInterrupt comes out of create, and neither name nor thread is left."""
    monkeypatch.setattr(owner, name, interrupting(getattr(owner, name)))
    before, threads = {entry.name for entry in SHM.iterdir()}, threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        Pool.create(slots=2, slot_size=64, name="interrupted")
    assert {entry.name for entry in SHM.iterdir()} == before
    assert threading.active_count() == threads


def test_a_fork_after_an_interrupted_close_closes_no_file_of_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its traceback keeps the reaper, whose descriptors are numbers of others by then."""
    pool = Pool.create(slots=2, slot_size=64)
    monkeypatch.setattr(_reaper, "take_down_bell", interrupting(_reaper.take_down_bell))
    with pytest.raises(KeyboardInterrupt) as kept:
        pool.close()
    others = [os.open(os.devnull, os.O_RDONLY) for _ in range(8)]
    if (child := os.fork()) == 0:
        open_still = [Path(f"/proc/self/fd/{fd}").is_symlink() for fd in others]
        os._exit(open_still.count(False))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert kept.tb is not None
    for fd in others:
        os.close(fd)


def test_a_pool_interrupted_while_it_closes_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its names are gone and its reaper has ended by the time that the interrupt is seen."""
    pool = Pool.create(slots=2, slot_size=64)
    monkeypatch.setattr(_reaper, "take_down_bell", interrupting(_reaper.take_down_bell))
    threads = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        pool.close()
    assert pool.closed
    assert not list(SHM.glob(f"*{pool.name}*"))
    assert threading.active_count() == threads - 1
    pool.close()


def test_a_farm_interrupted_while_it_is_entered_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Started as a whole, and then ended: there is nobody else who would."""
    farm = Farm(render, ArraySpec((2, 2), "u1"), workers=2)
    monkeypatch.setattr(farm, "_start", interrupting(farm._start))
    with pytest.raises(KeyboardInterrupt), farm:
        pass
    left = multiprocessing.active_children()
    farm.terminate()
    farm.close()
    assert farm._parts is not None
    assert not left


def test_another_handler_of_ctrl_c_is_called_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program's own handler stays in place, and is told once."""
    told: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: told.append(number))
    try:
        monkeypatch.setattr(_create, "make", interrupting(_create.make))
        with Pool.create(slots=1, slot_size=64) as pool:
            assert told == [signal.SIGINT]
            assert isinstance(pool, shmpool.Pool)
    finally:
        signal.signal(signal.SIGINT, before)
