"""Render a film on all cores: `python -m workers.film --frames 96 --size 480x270 film.mp4`.

Workers ray-trace into slots of shared memory, this process puts them into order, an
encoder process takes them from there. No pixel is copied between processes.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from shmpool import ArraySpec, Farm, ShmpoolError
from workers import whitted
from workers.video import Encoder

Progress = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Summary:
    """What rendering a film took."""

    frames: int
    seconds: float
    workers: int
    zero_copy_bytes: int
    waits: int
    waited: float
    render_seconds: float

    def __str__(self) -> str:
        rate = f"{self.frames / self.seconds:.1f} frames/s, {self.workers} workers"
        crossed = (
            f"{self.zero_copy_bytes / 2**20:,.1f} MiB crossed between processes without a copy"
        )
        lines = (
            f"{self.frames} frames in {self.seconds:.2f} s ({rate})",
            f"{self.render_seconds:.2f} s of rendering in the workers",
            f"{crossed}: renderer -> coordinator -> encoder",
            f"the coordinator waited {self.waits} times, {self.waited:.2f} s in all",
        )
        return "\n".join(lines)


def film(
    path: str, frames: int, size: tuple[int, int], workers: int | None, fps: int, tick: Progress
) -> Summary:
    """Render `frames` frames of (width, height) pixels into a film; `tick` is called for each."""
    width, height = size
    spec = ArraySpec((height, width, 3), np.uint8)
    began, rendering = time.perf_counter(), 0.0
    with Farm(whitted.render, spec, workers=workers, queues=("film",)) as farm:
        with Encoder(farm.pool.queue("film"), path, fps) as encoder:
            for result in farm.map(whitted.shots(frames)):
                rendering += result.seconds
                encoder.write(result.keep())
                tick()
        done = farm.statistics()
    # Each frame crosses twice: from its renderer to us, and from us to the encoder.
    crossed, seconds = 2 * done.frame_bytes, time.perf_counter() - began
    return Summary(done.jobs, seconds, farm.workers, crossed, done.waits, done.waited, rendering)


@contextmanager
def progress(total: int) -> Iterator[Progress]:
    """A progress bar on a terminal with rich installed, a line now and then elsewhere."""
    if sys.stdout.isatty():
        try:
            from rich.progress import Progress as Bar  # noqa: PLC0415 - optional
        except ImportError:
            pass
        else:
            with Bar() as bar:
                task = bar.add_task("rendering", total=total)
                yield lambda: bar.advance(task)
            return
    yield _Lines(total)


class _Lines:
    def __init__(self, total: int) -> None:
        self._total, self._done = total, 0

    def __call__(self) -> None:
        self._done += 1
        if self._done * 8 % self._total < 8 or self._done == self._total:
            print(f"rendered {self._done} of {self._total} frames", flush=True)


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    size = int(width), int(height)
    if min(size) < 2 or any(side % 2 for side in size):
        message = f"{text}: H.264 wants even sides, such as 480x270"
        raise argparse.ArgumentTypeError(message)
    return size


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number}: at least 1")
    return number


def main() -> int:
    """Parse arguments, render, report."""
    parser = argparse.ArgumentParser(prog="python -m workers.film", description=__doc__)
    parser.add_argument("--frames", type=_positive, default=96, help="length (default 96)")
    parser.add_argument("--size", type=_size, default=(480, 270), metavar="WxH")
    parser.add_argument("--workers", type=_positive, help="processes (default: one for each CPU)")
    parser.add_argument("--fps", type=_positive, default=24, help="frames per second (default 24)")
    parser.add_argument("out", nargs="?", default="film.mp4", help="the film (default film.mp4)")
    options = parser.parse_args()
    try:
        with progress(options.frames) as tick:
            summary = film(
                options.out, options.frames, options.size, options.workers, options.fps, tick
            )
    except KeyboardInterrupt:
        print("stopped")
        return 130
    except (ShmpoolError, RuntimeError, ValueError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    print(summary, f"\nwrote {options.out}", sep="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
