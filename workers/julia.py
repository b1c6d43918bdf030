"""A smooth-coloured Julia set: cheap to draw, for tests and first tries.

z -> z*z + c, with c on a circle that the loop goes round once. How fast a point escapes is its
colour, made smooth by the renormalised count of Linas Vepstas, "Renormalizing the Mandelbrot
Escape" (1997).
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

BOUND = 1e3  # |z|² beyond which a point has escaped; big, so that the count is smooth
_WAVES = np.array((0.0, 0.09, 0.24), dtype=np.float32)  # of red, green and blue, in turns


@dataclass(frozen=True, slots=True)
class Shot:
    """One job: picture number `frame` of a loop which is `frames` pictures long."""

    frame: int
    frames: int
    radius: float = 0.7885  # of the circle that c is on
    zoom: float = 1.0
    steps: int = 48


def shots(frames: int, *, radius: float = 0.7885, zoom: float = 1.0, steps: int = 48) -> list[Shot]:
    """List the jobs which make one loop of `frames` pictures."""
    return [Shot(frame, frames, radius, zoom, steps) for frame in range(frames)]


def render(shot: Shot, frame: npt.NDArray[np.uint8]) -> None:
    """Draw `shot` into `frame`, a (height, width, 3) uint8 array."""
    height, width = frame.shape[:2]
    turn = math.tau * shot.frame / shot.frames
    c = np.complex64(complex(shot.radius * math.cos(turn), shot.radius * math.sin(turn)))
    side = 3.0 / (shot.zoom * min(height, width))
    x = (np.arange(width, dtype=np.float32) - (width - 1) / 2) * np.float32(side)
    y = ((height - 1) / 2 - np.arange(height, dtype=np.float32)) * np.float32(side)
    count = _escape((x[None, :] + 1j * y[:, None]).astype(np.complex64).ravel(), c, shot.steps)
    _colour(count.reshape(height, width), shot.steps, frame)


def _escape(z: npt.NDArray[np.complex64], c: np.complex64, steps: int) -> npt.NDArray[np.float32]:
    """Return the smooth number of steps after which each point of `z` (n,) escapes."""
    count = np.full(z.size, steps, dtype=np.float32)
    there = np.arange(z.size)  # points that are still in
    for step in range(steps):
        z *= z
        z += c
        size = z.real * z.real + z.imag * z.imag
        out = size > BOUND
        if out.any():
            count[there[out]] = step + 1 - np.log2(np.log2(size[out]) / math.log2(BOUND))
            there, z = there[~out], z[~out]
    return count


def _colour(count: npt.NDArray[np.float32], steps: int, frame: npt.NDArray[np.uint8]) -> None:
    """Turn counts (height, width) into colours; what never escapes is black."""
    level = np.sqrt(np.clip(count, 0, None) / steps)
    for channel, wave in enumerate(_WAVES):
        tone = 0.5 - 0.5 * np.cos(math.tau * (1.6 * level - 0.42 + wave))
        tone *= (count < steps) * np.float32(255)
        np.rint(tone, out=frame[..., channel], casting="unsafe")


def main() -> None:
    """Write one picture to a file."""
    from workers.stills import save  # noqa: PLC0415 - only this command needs Pillow

    parser = argparse.ArgumentParser(prog="python -m workers.julia", description=main.__doc__)
    parser.add_argument("--frame", type=int, default=0, help="which picture of the loop")
    parser.add_argument("--frames", type=int, default=240, help="length of the loop")
    parser.add_argument("--size", default="480x270", help="width x height in pixels")
    parser.add_argument("--zoom", type=float, default=1.0)
    parser.add_argument("out", help="the file to write, such as out.png")
    options = parser.parse_args()
    width, height = (int(side) for side in options.size.split("x"))
    pixels = np.empty((height, width, 3), dtype=np.uint8)
    render(Shot(options.frame, options.frames, zoom=options.zoom), pixels)
    save(options.out, pixels)


if __name__ == "__main__":
    main()
