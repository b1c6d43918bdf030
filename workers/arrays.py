"""Array files: .npy, one for all frames or one for each, and zarr.

numpy writes a frame to its file from where it is; zarr compresses it from there.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from shmpool import Queue
from workers.consumer import Consumer, Pixels, fill
from workers.stills import check_pattern


class Npy:
    """An output that writes all frames to one file, (frames, …), in any order.

    frames: how many there will be; those that never come stay zero. The file is mapped: frame
    n is copied to its place once, and the system writes it back in its own time.
    """

    def __init__(self, path: str, frames: int) -> None:
        self._path, self._frames = path, frames
        self._array: np.memmap[Any, Any] | None = None

    def write(self, number: int, pixels: Pixels) -> None:
        """Write a frame."""
        if self._array is None:
            shape = (self._frames, *pixels.shape)
            self._array = np.lib.format.open_memmap(self._path, "w+", pixels.dtype, shape)
        self._array[_within(number, self._frames)] = pixels

    def skip(self, number: int) -> None:
        """It stays zero."""

    def close(self) -> None:
        """Hand what is left to the system."""
        if self._array is not None:
            self._array.flush()


class NpyFiles:
    """An output that writes each frame to a .npy file of its own, in any order.

    pattern: such as "frame-%04d.npy".
    """

    def __init__(self, pattern: str) -> None:
        self._pattern = check_pattern(pattern)

    def write(self, number: int, pixels: Pixels) -> None:
        """Write a frame."""
        np.save(self._pattern % number, pixels)

    def skip(self, number: int) -> None:
        """Nothing waits for it."""

    def close(self) -> None:
        """Every file is complete."""


class Zarr:
    """An output that writes all frames to a zarr array, a chunk for each, in any order."""

    def __init__(self, path: str, frames: int) -> None:
        self._path, self._frames = path, frames
        self._array: Any = None

    def write(self, number: int, pixels: Pixels) -> None:
        """Write a frame."""
        if self._array is None:
            import zarr  # noqa: PLC0415 - optional, and slow to import

            self._array = zarr.create_array(
                self._path,
                shape=(self._frames, *pixels.shape),
                chunks=(1, *pixels.shape),
                dtype=pixels.dtype,
                overwrite=True,
            )
        self._array[_within(number, self._frames)] = pixels

    def skip(self, number: int) -> None:
        """It stays zero, and takes no room."""

    def close(self) -> None:
        """Every chunk is complete."""


def _within(number: int, frames: int) -> int:
    if not 0 <= number < frames:
        raise ValueError(f"frame {number} of {frames}: numbers go from 0 to {frames - 1}")
    return number


def output(path: str, frames: int) -> partial[Npy] | partial[NpyFiles] | partial[Zarr]:
    """What to make for a path: a directory x.zarr, a file x.npy, or one for each: x-%04d.npy."""
    if Path(path).suffix == ".zarr":
        return partial(Zarr, path, frames)
    return partial(NpyFiles, path) if "%" in path else partial(Npy, path, frames)


def save_all(queue: Queue, path: str, frames: int) -> int:
    """Write the frames of a queue, numbered as they come, until it is closed: how many."""
    return fill(queue, output(path, frames)())


class ArraysWriter(Consumer):
    """Runs `save_all` in a process of its own; `write` hands it a slot."""

    def __init__(self, queue: Queue, path: str, frames: int) -> None:
        super().__init__(queue, output(path, frames), name="arrays", product="complete array")


def main() -> int:
    """Copy the frames of a film into an array file."""
    from workers import ingest  # noqa: PLC0415 - only this command decodes

    parser = argparse.ArgumentParser(prog="python -m workers.arrays", description=main.__doc__)
    parser.add_argument("film", help="what to decode")
    parser.add_argument("out", help="such as out.npy, out-%%04d.npy or out.zarr")
    options = parser.parse_args()
    try:
        clip = ingest.probe(options.film)
        array = output(options.out, clip.frames)()
        for number, pixels in enumerate(ingest.decoded(options.film)):
            array.write(number, pixels)
        array.close()
    except (ValueError, OSError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
