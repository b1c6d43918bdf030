"""Big frames in tiles: bands of rows, each a job of its own, put together where they are wanted.

A tile goes from its worker's slot into the frame's by one copy: no two processes write to one slot.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np

from shmpool import ArraySpec, Farm, Lease, Pool, Result

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class Tile(Generic[S]):
    """A job: rows `top` to `bottom` of the picture of a shot, which has `height` of them."""

    shot: S
    top: int
    bottom: int
    height: int

    @property
    def rows(self) -> int:
        """How many it has."""
        return self.bottom - self.top


def tiled(shots: Iterable[S], height: int, rows: int) -> Iterator[Tile[S]]:
    """Yield the tiles of all shots, in order, of `rows` rows each but perhaps for the last."""
    if rows < 1 or height < 1:
        raise ValueError(f"{height} rows in tiles of {rows}: both have to be 1 or more")
    for shot in shots:
        for top in range(0, height, rows):
            yield Tile(shot, top, min(top + rows, height), height)


def tile_spec(width: int) -> Callable[[Tile[Any]], ArraySpec]:
    """Return what a Farm is to know of tiles, as its `frame`; frame_size is that of the largest."""
    return lambda tile: ArraySpec((tile.rows, width, 3), np.uint8)


def gathered(results: Iterable[Result], pool: Pool) -> Iterator[Lease]:
    """Yield whole frames in slots of `pool`, from the results of `tiled` jobs in order.

    Blocks for a slot of `pool`, which is not to be the farm's.
    """
    lease: Lease | None = None
    for result in results:
        tile = result.job
        if lease is None:
            lease = pool.acquire()
        frame = lease.array((tile.height, *result.array.shape[1:]), result.array.dtype)
        frame[tile.top : tile.bottom] = result.array
        del frame
        if tile.bottom == tile.height:
            yield lease
            lease = None


def main() -> int:
    """Trace one big picture on all cores, in tiles, and write it to a file."""
    # Only this command needs them.
    from workers import tiles, whitted  # noqa: PLC0415, PLW0406 - whose Tile others know
    from workers.stills import save  # noqa: PLC0415

    parser = argparse.ArgumentParser(prog="python -m workers.tiles", description=main.__doc__)
    parser.add_argument("--size", default="1920x1080", help="width x height in pixels")
    parser.add_argument("--rows", type=int, default=64, help="of a tile")
    parser.add_argument("--workers", type=int, help="processes (default: one for each CPU)")
    parser.add_argument("out", help="the file to write, such as out.png")
    options = parser.parse_args()
    width, height = (int(side) for side in options.size.split("x"))
    room = options.rows * width * 3
    farm = Farm(whitted.render, tiles.tile_spec(width), frame_size=room, workers=options.workers)
    with Pool.create(1, width * height * 3) as frames, farm:
        jobs = tiles.tiled(whitted.shots(1), height, options.rows)
        for lease in tiles.gathered(farm.map(jobs), frames):
            with lease:
                save(options.out, lease.array())
    return 0


if __name__ == "__main__":
    sys.exit(main())
