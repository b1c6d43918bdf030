"""Several outputs of the same frames: each slot is read by all, and free when the last is done.

    coordinator: lease -> share() -> (number, ticket) through a pipe to each output's process
    output:      borrow(ticket), say so, write pixels when there is time, let go

The number of a frame travels with its ticket, so frames may come in any order: stills and array
files are written as they come, a film waits in its slots for what is missing. An output
that dies loses what it was to write and nothing else: the pool takes back its borrows.
"""

from __future__ import annotations

import argparse
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from queue import SimpleQueue
from types import TracebackType
from typing import Self, TypeAlias

import numpy as np

from shmpool import ArraySpec, Borrow, Farm, Lease, Pool, ShmpoolError
from workers.consumer import Make, Output, Pixels, start

Frame: TypeAlias = tuple[int, Pixels | None]  # its number, and None if there is none of it
Arrived: TypeAlias = "SimpleQueue[Frame | Exception | None]"


class OutputLostError(RuntimeError):
    """Outputs ended before they were complete; `lost` has the exit code of each by name."""

    def __init__(self, lost: dict[str, int | None]) -> None:
        self.lost = lost
        ended = ", ".join(f"{name} (exit code {code})" for name, code in lost.items())
        super().__init__(f"incomplete, for its process ended: {ended}")


@dataclass(frozen=True, slots=True)
class _Reader:
    process: BaseProcess
    pipe: Connection


class Fan:
    """Runs outputs in processes of their own; `write` lets all of them read a slot.

    outputs: names, and for each a function without arguments that makes it, in its process; see
    workers.consumer.Output. A context manager: leaving it waits until all are complete, and
    raises OutputLostError if one is not. Use it from one thread.
    """

    def __init__(self, pool: Pool, outputs: Mapping[str, Make]) -> None:
        self._lost: dict[str, int | None] = {}
        self._readers: dict[str, _Reader] = {}
        try:
            for name, make in outputs.items():
                self._readers[name] = _begin(pool, name, make)
        except BaseException:
            self.close()
            raise

    @property
    def lost(self) -> dict[str, int | None]:
        """Outputs that ended before the fan was closed: exit codes by name, as far as noticed."""
        return dict(self._lost)

    def pid(self, name: str) -> int | None:
        """The process of an output that is alive."""
        return self._readers[name].process.pid

    def write(self, lease: Lease, number: int) -> None:
        """Let every output have frame `number`; ends the lease.

        Blocks until all have their right to read it, not until it is written. An output
        that is gone is noticed, see `lost`; with none left, raises OutputLostError.
        """
        with lease:
            self._send((number, lease.share()))

    def skip(self, number: int) -> None:
        """Tell every output that there will be no frame `number`."""
        self._send((number, None))

    def _send(self, message: tuple[int, int | None]) -> None:
        for name, reader in list(self._readers.items()):
            try:
                reader.pipe.send(message)
            except OSError:
                self._lose(name)
        for name, reader in list(self._readers.items()):
            try:
                reader.pipe.recv()
            except (OSError, EOFError):
                self._lose(name)
        if not self._readers:
            raise OutputLostError(self.lost)

    def _lose(self, name: str) -> None:
        reader = self._readers.pop(name)
        reader.pipe.close()
        reader.process.join()
        self._lost[name] = reader.process.exitcode

    def close(self) -> None:
        """Wait until every output is complete. Raises OutputLostError if one is not."""
        for name, reader in list(self._readers.items()):
            try:
                reader.pipe.send(None)
            except OSError:
                self._lose(name)
        for name, reader in list(self._readers.items()):
            reader.process.join()
            reader.pipe.close()
            del self._readers[name]
            if reader.process.exitcode:
                self._lost[name] = reader.process.exitcode
        if self._lost:
            raise OutputLostError(self.lost)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.close()
        except OutputLostError:
            # An error on its way is the one to be seen.
            if error is None:
                raise


def _begin(pool: Pool, name: str, make: Make) -> _Reader:
    ours, theirs = Pipe()
    with theirs:  # so that we are told when the process, then its only holder, is gone
        return _Reader(start(_run, (pool, theirs, make), name), ours)


def _run(pool: Pool, pipe: Connection, make: Make) -> None:
    with pool:
        fill(pool, pipe, make())


def fill(pool: Pool, pipe: Connection, output: Output) -> None:
    """Write the frames whose tickets come through a pipe, until None does."""
    arrived: Arrived = SimpleQueue()
    # The coordinator waits until we have our right, and must not wait for an encoder.
    taker = threading.Thread(target=_take, args=(pool, pipe, arrived), name="take", daemon=True)
    taker.start()
    for number, pixels in _frames(arrived):
        if pixels is None:
            output.skip(number)
        else:
            output.write(number, pixels)
        del pixels  # the next may be long in coming, and this slot is wanted
    output.close()


def _take(pool: Pool, pipe: Connection, arrived: Arrived) -> None:
    """Borrow what is offered, at once, until None is."""
    last: Exception | None = None
    try:
        while (message := pipe.recv()) is not None:
            number, ticket = message
            arrived.put((number, None if ticket is None else _pixels(pool.borrow(ticket))))
            pipe.send(None)
    except EOFError:
        pass  # the coordinator is gone: complete what there is
    except Exception as error:  # noqa: BLE001 - raised by the thread that writes
        last = error
    arrived.put(last)


def _pixels(borrow: Borrow) -> Pixels:
    """The frame: the array holds the borrow's slot, for as long as somebody has it."""
    pixels = borrow.array()
    borrow.leave_to_views()
    return pixels


def _frames(arrived: Arrived) -> Iterator[Frame]:
    while (frame := arrived.get()) is not None:
        if isinstance(frame, Exception):
            raise frame
        number, pixels = frame
        del frame
        yield number, pixels
        del pixels


def main() -> int:
    """Render Julia sets into a film, stills and an array at once, whichever are asked for."""
    # Only this command needs them.
    from workers import arrays, julia, stills, video  # noqa: PLC0415

    parser = argparse.ArgumentParser(prog="python -m workers.fan", description=main.__doc__)
    parser.add_argument("--frames", type=int, default=48)
    parser.add_argument("--size", default="480x270", help="width x height in pixels")
    parser.add_argument("--workers", type=int, help="that render (default: one for each CPU)")
    parser.add_argument("--film", help="such as film.mp4")
    parser.add_argument("--stills", metavar="PATTERN", help="such as still-%%04d.png")
    parser.add_argument("--array", help="such as all.npy, each-%%04d.npy or all.zarr")
    options = parser.parse_args()
    width, height = (int(side) for side in options.size.split("x"))
    outputs: dict[str, Make] = {}
    if options.film:
        outputs["film"] = partial(video.Film, options.film)
    if options.stills:
        outputs["stills"] = partial(stills.Stills, options.stills)
    if options.array:
        outputs["array"] = arrays.output(options.array, options.frames)
    if not outputs:
        parser.error("nothing to write: give --film, --stills or --array")
    spec = ArraySpec((height, width, 3), np.uint8)
    try:
        with (
            Farm(julia.render, spec, workers=options.workers) as farm,
            Fan(farm.pool, outputs) as fan,
        ):
            for result in farm.map(julia.shots(options.frames), ordered=False):
                fan.write(result.keep(), result.index)
    except (ShmpoolError, OutputLostError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
