"""Still pictures, by Pillow: PNG, JPEG, WebP and what else it writes.

Pillow takes grey and RGBA pixels where they are; RGB it always copies into a form of its own.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from shmpool import Queue
from workers.consumer import Consumer, Pixels, fill

OPTIONS: Mapping[str, Mapping[str, Any]] = {
    ".png": {"compress_level": 4},
    ".jpg": {"quality": 90},
    ".jpeg": {"quality": 90},
    ".webp": {"lossless": True},
}


def save(path: str | Path, pixels: Pixels, **options: Any) -> None:
    """Write (height, width[, 3 or 4]) uint8 pixels to a file, in the format of its suffix.

    The file appears when it is complete. options: Pillow's for that format, over OPTIONS.
    """
    path = Path(path)
    unfinished = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        Image.fromarray(pixels).save(unfinished, **{**OPTIONS.get(path.suffix, {}), **options})
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


class Stills:
    """An output that writes each frame to a file of its own, in any order.

    pattern: such as "still-%04d.png". options: as of `save`.
    """

    def __init__(self, pattern: str, **options: Any) -> None:
        self._pattern = check_pattern(pattern)
        self._options = options

    def write(self, number: int, pixels: Pixels) -> None:
        """Write a frame."""
        save(self._pattern % number, pixels, **self._options)

    def skip(self, number: int) -> None:
        """Nothing waits for it."""

    def close(self) -> None:
        """Every file is complete."""


def check_pattern(pattern: str) -> str:
    """Return it. Raises ValueError unless it has one place for a number."""
    try:
        if pattern % 1 != pattern % 2:
            return pattern
    except (TypeError, ValueError):
        pass
    raise ValueError(f"{pattern!r}: a pattern has one place for the number, as in still-%04d.png")


def save_all(queue: Queue, pattern: str, **options: Any) -> int:
    """Write the frames of a queue, numbered as they come, until it is closed: how many."""
    return fill(queue, Stills(pattern, **options))


class StillsWriter(Consumer):
    """Runs `save_all` in a process of its own; `write` hands it a slot."""

    def __init__(self, queue: Queue, pattern: str, **options: Any) -> None:
        make = partial(Stills, check_pattern(pattern), **options)
        super().__init__(queue, make, name="stills", product="complete set of stills")


def main() -> int:
    """Write the frames of a .npy file, (frames, height, width, 3) uint8, to files."""
    parser = argparse.ArgumentParser(prog="python -m workers.stills", description=main.__doc__)
    parser.add_argument("frames", help="the .npy file")
    parser.add_argument("pattern", nargs="?", default="still-%04d.png")
    options = parser.parse_args()
    try:
        stills = Stills(options.pattern)
        for number, pixels in enumerate(np.load(options.frames, mmap_mode="r")):
            stills.write(number, pixels)
    except (ValueError, OSError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
