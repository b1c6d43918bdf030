"""Blender renders into a pool that it joins by name, from an interpreter of its own.

    python -m workers.blender scene.blend still-%04d.png --python ~/blender/bin/python

bpy is a program in the shape of a module: it brings its own numpy, replaces `__main__`, is licensed
under the GPL and has 357 MB. So it is never imported here: `--python` names the interpreter of
another virtual environment (`pip install bpy`, and shmpool), in which this file is run as a
script. The two programs have nothing in common but the name of a pool.

A slot of the pool has a float32 (height, width, 4) frame, RGBA of linear light, the lowest row
first, as Blender has it; the number of the frame is in its header record.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import shmpool

RECORD = np.dtype([("frame", "<i4")])
Light = npt.NDArray[np.float32]


# In Blender's interpreter.


def serve(name: str, scene: str) -> None:
    """Join a pool, and render the frames whose slots come through its queue "todo"."""
    import bpy  # noqa: PLC0415 - the one place

    bpy.ops.wm.open_mainfile(filepath=scene)
    with shmpool.Pool.attach(name, member_name="blender") as pool:
        done = pool.queue("done")
        for lease in pool.queue("todo"):
            number = int(lease.header["frame"])
            _render(bpy, number, lease.array())
            done.put(lease)


def _render(bpy: Any, number: int, frame: Light) -> None:
    """Render one frame into `frame`, by way of a file: bpy shows its result no other way."""
    scene, (height, width) = bpy.context.scene, frame.shape[:2]
    settings = scene.render
    settings.resolution_x, settings.resolution_y = width, height
    settings.resolution_percentage = 100
    settings.image_settings.file_format = "OPEN_EXR"
    scene.frame_set(number)
    with tempfile.TemporaryDirectory() as folder:
        settings.filepath = str(Path(folder) / "frame.exr")
        bpy.ops.render.render(write_still=True)
        image = bpy.data.images.load(settings.filepath)
        try:
            image.pixels.foreach_get(frame.reshape(-1))  # straight into the slot
        finally:
            bpy.data.images.remove(image)


# In ours.


@contextmanager
def blender(pool: shmpool.Pool, scene: str, python: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run `serve` in another interpreter while the block runs; it ends when "todo" is closed."""
    command = [python, str(Path(__file__)), "--serve", pool.name, scene]
    # Modules beside this file are named like others that Blender wants.
    environment = {**os.environ, "PYTHONSAFEPATH": "1"}
    with subprocess.Popen(command, env=environment) as process:  # noqa: S603 - as told
        try:
            yield process
        finally:
            if not pool.closed:
                pool.queue("todo").close()
            if sys.exc_info()[0] is not None:
                process.terminate()


def frames(
    scene: str, numbers: range, size: tuple[int, int], *, python: str, slots: int = 3
) -> Iterator[tuple[int, Light]]:
    """Yield frames of a scene, with their numbers; look at each before the next.

    size: width and height. Raises RuntimeError if Blender ends before it is done.
    """
    width, height = size
    queues = ("todo", "done")
    with (
        shmpool.Pool.create(slots, width * height * 16, queues=queues, header=RECORD) as pool,
        blender(pool, scene, python) as process,
    ):
        ahead = iter(numbers)
        for _ in range(min(slots, len(numbers))):
            _ask(pool, pool.acquire(), next(ahead), size)
        for _ in numbers:
            lease = _answer(pool, process)
            with lease:
                yield int(lease.header["frame"]), lease.array()
            number = next(ahead, None)
            if number is not None:
                _ask(pool, pool.acquire(), number, size)


def _ask(pool: shmpool.Pool, lease: shmpool.Lease, number: int, size: tuple[int, int]) -> None:
    width, height = size
    lease.array((height, width, 4), np.float32)
    lease.header["frame"] = number
    pool.queue("todo").put(lease)


def _answer(pool: shmpool.Pool, process: subprocess.Popen[bytes]) -> shmpool.Lease:
    while True:
        try:
            return pool.queue("done").get(timeout=0.2)
        except shmpool.QueueEmpty:
            if process.poll() is not None:
                message = f"Blender's interpreter ended with exit code {process.returncode}"
                raise RuntimeError(message) from None


def shown(light: Light) -> npt.NDArray[np.uint8]:
    """Return linear light, lowest row first, as an sRGB picture (height, width, 3)."""
    level = np.clip(light[::-1, :, :3], 0, 1)
    curve = np.where(level < 0.0031308, 12.92 * level, 1.055 * level ** (1 / 2.4) - 0.055)
    picture: npt.NDArray[np.uint8] = np.rint(255 * curve).astype(np.uint8)
    return picture


def main() -> int:
    """Render frames of a .blend file into still pictures, by a Blender in another environment."""
    parser = argparse.ArgumentParser(prog="python -m workers.blender", description=main.__doc__)
    parser.add_argument("--serve", metavar="POOL", help="be the one that renders (for itself)")
    parser.add_argument("--python", default=sys.executable, help="an interpreter with bpy")
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--frames", type=int, default=1)
    parser.add_argument("--size", default="480x270", help="width x height in pixels")
    parser.add_argument("scene", help="the .blend file")
    parser.add_argument("pattern", nargs="?", default="still-%04d.png")
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, options.scene)
        return 0
    from workers.stills import Stills  # noqa: PLC0415 - Blender's interpreter has no Pillow

    width, height = (int(side) for side in options.size.split("x"))
    numbers = range(options.first, options.first + options.frames)
    try:
        stills = Stills(options.pattern)
        for number, light in frames(options.scene, numbers, (width, height), python=options.python):
            stills.write(number, shown(light))
            print(options.pattern % number, flush=True)
    except (shmpool.ShmpoolError, RuntimeError, ValueError, OSError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
