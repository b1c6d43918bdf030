"""Mitsuba 3, a physically based renderer, on the Cornell box that comes with it or on a scene file.

Wenzel Jakob and others, "Mitsuba 3 renderer" (2022); BSD licence; `pip install shmpool[mitsuba]`.

A picture is rendered in bands of rows, each with random numbers of its own and a filter that looks
at no other, so that tiles of whole bands have the bytes of the whole picture. Light goes into the
slot as it is if that is float32, and through the sRGB curve if it is uint8.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from workers.tiles import Tile

BAND = 32  # rows rendered at a time; tiles begin at multiples of it
Pixels = npt.NDArray[np.uint8] | npt.NDArray[np.float32]

_PROBE = """
import mitsuba as mi
mi.set_variant("llvm_ad_rgb")
scene = mi.cornell_box()
scene["sensor"]["film"].update(width=4, height=4)
mi.Bitmap(mi.render(mi.load_dict(scene), spp=1))
"""


@dataclass(frozen=True, slots=True)
class Shot:
    """One job: picture number `frame` of a loop which is `frames` pictures long."""

    frame: int
    frames: int
    file: str | None = None  # of a scene; None for the Cornell box
    spp: int = 16  # samples for each pixel
    variant: str = "scalar_rgb"


@cache
def variant() -> str:
    """Return the fastest of Mitsuba's variants that works here: found out in another process.

    LLVM that Dr.Jit cannot work with aborts the process that tries.
    """
    command = [sys.executable, "-c", _PROBE]
    done = subprocess.run(command, check=False, capture_output=True)  # noqa: S603 - ourselves
    return "scalar_rgb" if done.returncode else "llvm_ad_rgb"


def shots(
    frames: int, *, file: str | None = None, spp: int = 16, variant: str | None = None
) -> list[Shot]:
    """List the jobs which make one loop of `frames` pictures.

    The camera sways before the Cornell box; that of a scene file stays. variant: by default
    what `variant()` finds.
    """
    chosen = globals()["variant"]() if variant is None else variant
    return [Shot(frame, frames, file, spp, chosen) for frame in range(frames)]


def render(job: Shot | Tile[Shot], frame: Pixels) -> None:
    """Render `job` into `frame`, (height, width, 3), uint8 sRGB or float32 linear light."""
    tile = job if isinstance(job, Tile) else Tile(job, 0, frame.shape[0], frame.shape[0])
    shot, top, height = tile.shot, tile.top, tile.height
    if top % BAND:
        raise ValueError(f"a tile begins at row {top}: tiles have multiples of {BAND} rows")
    picture = _picture(shot.variant, shot.file, frame.shape[1], height)
    for row in range(0, frame.shape[0], BAND):
        band = frame[row : row + BAND]
        light = picture.render(shot, top + row, band.shape[0])
        if band.dtype == np.float32:
            np.copyto(band, light)
        else:
            np.multiply(_srgb(light), 255, out=band, casting="unsafe")


def _srgb(light: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return linear light as sRGB (IEC 61966-2-1), plus half a step for the cast to round."""
    light = np.clip(light, 0, 1)
    curve = np.where(light < 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    shown: npt.NDArray[np.float32] = np.clip(curve + 0.5 / 255, 0, 1)
    return shown


class _Picture:
    """A loaded scene, for pictures of one size."""

    def __init__(self, variant: str, file: str | None, width: int, height: int) -> None:
        import mitsuba  # noqa: PLC0415 - optional, and 0.2 s

        mi: Any = mitsuba  # its stubs know no size of a number

        mi.set_variant(variant)
        mi.set_log_level(mi.LogLevel.Error)
        self._mi, self._file = mi, file
        if file is None:
            self._scene = mi.load_dict(_cornell(mi, width, height))
        else:
            self._scene = mi.load_file(file)
        self._sensor = self._scene.sensors()[0]
        self._settings = mi.traverse(self._sensor)
        self._settings["film.size"] = [width, height]
        self._width = width

    def render(self, shot: Shot, top: int, rows: int) -> npt.NDArray[np.float32]:
        """Return linear light (rows, width, 3)."""
        settings, turn = self._settings, math.tau * (shot.frame % shot.frames) / shot.frames
        settings["film.crop_offset"] = [0, top]
        settings["film.crop_size"] = [self._width, rows]
        if self._file is None:
            settings["to_world"] = self._mi.ScalarTransform4f().look_at(
                origin=[0.6 * math.sin(turn), 0.2 * math.sin(2 * turn), 3.9],
                target=[0, 0, 0],
                up=[0, 1, 0],
            )
        settings.update()
        seed = shot.frame << 16 | top // BAND
        light = self._mi.render(self._scene, sensor=self._sensor, spp=shot.spp, seed=seed)
        return np.asarray(light, dtype=np.float32)[..., :3]


def _cornell(mi: Any, width: int, height: int) -> dict[str, Any]:
    scene: dict[str, Any] = mi.cornell_box()
    scene["sensor"]["film"].update(width=width, height=height, rfilter={"type": "box"})
    return scene


_picture = lru_cache(maxsize=2)(_Picture)


def main() -> None:
    """Write one picture to a file."""
    from workers.stills import save  # noqa: PLC0415 - only this command needs Pillow

    parser = argparse.ArgumentParser(prog="python -m workers.mitsuba", description=main.__doc__)
    parser.add_argument("--frame", type=int, default=0, help="which picture of the loop")
    parser.add_argument("--frames", type=int, default=240, help="length of the loop")
    parser.add_argument("--size", default="256x256", help="width x height in pixels")
    parser.add_argument("--spp", type=int, default=64, help="samples for each pixel")
    parser.add_argument("--scene", help="a scene file of Mitsuba's (default: the Cornell box)")
    parser.add_argument("--variant", help="of Mitsuba (default: the fastest that works here)")
    parser.add_argument("out", help="the file to write, such as out.png")
    options = parser.parse_args()
    width, height = (int(side) for side in options.size.split("x"))
    pixels = np.empty((height, width, 3), dtype=np.uint8)
    chosen = options.variant or variant()
    render(Shot(options.frame, options.frames, options.scene, options.spp, chosen), pixels)
    save(options.out, pixels)


if __name__ == "__main__":
    main()
