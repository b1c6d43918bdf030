"""Films into slots, and what a farm sees in them: decode, detect edges, encode.

`python -m workers.ingest in.mp4 out.mp4`

The first stage decodes, the second works on the slots that it filled, the encoder takes them
from there: `Farm(decode, …, workers=1).then(edges).map(cuts(path))`.

libav converts to RGB in memory of its own, which is copied to the slot: PyAV has no call that
converts into memory of ours.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.video.reformatter import VideoReformatter

from shmpool import ArraySpec, Farm, ShmpoolError
from workers.video import CODECS, Encoder

Frame = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Clip:
    """What a film is like."""

    path: str
    width: int
    height: int
    fps: int
    frames: int

    @property
    def spec(self) -> ArraySpec:
        """Of a decoded frame."""
        return ArraySpec((self.height, self.width, 3), np.uint8)


@dataclass(frozen=True, slots=True)
class Cut:
    """One job: frame number `frame` of a film."""

    path: str
    frame: int


def probe(path: str) -> Clip:
    """Look at a film; its frames are counted by their packets, not decoded."""
    with av.open(path) as film:
        if not film.streams.video:
            raise ValueError(f"{path}: there are no pictures in it")
        stream = film.streams.video[0]
        frames = sum(1 for packet in film.demux(stream) if packet.size)
        fps = round(stream.average_rate or 24)
        return Clip(path, stream.width, stream.height, fps, frames)


def cuts(path: str, frames: int) -> list[Cut]:
    """List the jobs which decode the first `frames` frames of a film."""
    return [Cut(path, frame) for frame in range(frames)]


def convert(frame: av.VideoFrame, pixels: Frame, reformatter: VideoReformatter) -> None:
    """Write a decoded frame to `pixels`, (height, width, 3) RGB: one conversion, one copy."""
    plane = reformatter.reformat(frame, format="rgb24", threads=1).planes[0]
    height, width = pixels.shape[:2]
    lines = np.frombuffer(memoryview(plane), np.uint8).reshape(
        -1, plane.line_size
    )  # padded at their ends
    np.copyto(pixels, lines[:height, : 3 * width].reshape(height, width, 3))


def decoded(path: str) -> Iterator[Frame]:
    """Yield the frames of a film, each in the same array: look at it before the next."""
    reformatter, pixels = VideoReformatter(), None
    with av.open(path) as film:
        for frame in film.decode(video=0):
            if pixels is None:
                pixels = np.empty((frame.height, frame.width, 3), np.uint8)
            convert(frame, pixels, reformatter)
            yield pixels


class _Reader:
    """Decodes one film, forward; asked for a frame that is behind, it begins anew."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._reformatter = VideoReformatter()
        self._rewind()

    def _rewind(self) -> None:
        self._film = av.open(self._path)
        self._frames = self._film.decode(video=0)
        self._next = 0

    def read(self, number: int, pixels: Frame) -> None:
        if number < self._next:
            self._film.close()
            self._rewind()
        for frame in self._frames:
            self._next += 1
            if self._next > number:
                convert(frame, pixels, self._reformatter)
                return
        raise IndexError(f"{self._path} has no frame {number}: it ends after {self._next}")


_readers: dict[str, _Reader] = {}


def decode(job: Cut, frame: Frame) -> None:
    """Decode one frame of a film into `frame`. The film stays open: frames in order are cheap."""
    if job.path not in _readers:
        _readers.clear()  # films come one after another
        _readers[job.path] = _Reader(job.path)
    _readers[job.path].read(job.frame, frame)


def edges(_job: Any, frame: Frame) -> None:
    """Replace a picture by its edges, white on black: Sobel's gradient of the luminance.

    Irwin Sobel, Gary Feldman, "A 3x3 Isotropic Gradient Operator" (1968), in integers: |x| + |y|.
    """
    red, green, blue = (frame[..., channel].astype(np.int32) for channel in range(3))
    grey = np.pad((77 * red + 150 * green + 29 * blue) >> 8, 1, mode="edge")
    down = grey[:-2] + 2 * grey[1:-1] + grey[2:]
    across = grey[:, :-2] + 2 * grey[:, 1:-1] + grey[:, 2:]
    strength = np.abs(down[:, 2:] - down[:, :-2]) + np.abs(across[2:] - across[:-2])
    frame[...] = np.minimum(strength, 255)[..., None]


def analyse(
    source: str, target: str, *, workers: int | None = None, codec: str = "h264"
) -> tuple[int, float]:
    """Make a film of the edges in a film: how many frames, and how many seconds it took."""
    clip, began, frames = probe(source), time.perf_counter(), 0
    farm = Farm(decode, clip.spec, workers=1, queues=("film",)).then(edges, workers=workers)
    with farm, Encoder(farm.pool.queue("film"), target, clip.fps, codec=codec) as encoder:
        for result in farm.map(cuts(source, clip.frames)):
            encoder.write(result.keep())
            frames += 1
    return frames, time.perf_counter() - began


def main() -> int:
    """Make a film of the edges in a film."""
    parser = argparse.ArgumentParser(prog="python -m workers.ingest", description=main.__doc__)
    parser.add_argument("--workers", type=int, help="that look for edges (default: one for a CPU)")
    parser.add_argument("--codec", choices=CODECS, default="h264")
    parser.add_argument("film", help="what to decode")
    parser.add_argument("out", help="the film to write")
    options = parser.parse_args()
    try:
        frames, seconds = analyse(
            options.film, options.out, workers=options.workers, codec=options.codec
        )
    except (ShmpoolError, RuntimeError, ValueError, OSError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    print(f"{frames} frames in {seconds:.2f} s ({frames / seconds:.1f} frames/s)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
