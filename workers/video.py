"""Films, by PyAV: H.264, H.265, AV1, VP9 and ProRes, encoded straight from slots.

A frame is wrapped, not copied (`av.VideoFrame.from_numpy_buffer`), and its slot goes back
to the pool when the encoder lets go of it: x264 may hold frames long after `encode()` has
returned. That needs no bookkeeping here: the array holds the slot, the frame the array.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np

from shmpool import Queue
from workers.consumer import Consumer, Pixels, fill


@dataclass(frozen=True, slots=True)
class Codec:
    """How a kind of film is made."""

    encoder: str  # as FFmpeg calls it
    quality: int  # if nobody asks for another
    pixel_format: str
    suffixes: tuple[str, ...]  # of files that can hold it
    scale: str = "crf"  # the encoder's option for quality
    options: Mapping[str, str] = field(default_factory=dict)


CODECS = {
    "h264": Codec(
        "libx264",
        20,
        "yuv420p",
        (".mp4", ".mkv", ".mov", ".m4v", ".avi", ".ts"),
        options={"preset": "fast"},
    ),
    "h265": Codec(
        "libx265",
        24,
        "yuv420p",
        (".mp4", ".mkv", ".mov"),
        options={"preset": "fast", "x265-params": "log-level=error"},
    ),
    "av1": Codec("libsvtav1", 30, "yuv420p", (".mp4", ".mkv", ".webm"), options={"preset": "9"}),
    "vp9": Codec(
        "libvpx-vp9",
        32,
        "yuv420p",
        (".webm", ".mkv", ".mp4"),
        options={"b": "0", "deadline": "realtime", "cpu-used": "5"},
    ),
    # Quality is one of Apple's profiles: 0 proxy, 1 LT, 2 standard, 3 HQ.
    "prores": Codec("prores_ks", 3, "yuv422p10le", (".mov", ".mkv"), scale="profile"),
}
_WRAPPED = {2: "gray", 3: "rgb24", 4: "rgba"}  # by channels, 2 for an array without that axis


class Film:
    """An output that encodes frames in the order of their numbers, from 0 on.

    A frame that comes too early waits in its slot for those before it; one that will not come
    has to be skipped. Frames are (height, width, 3) uint8 RGB, (…, 4) RGBA or (height, width)
    grey. quality: lower is better and bigger, except for ProRes, where it is the profile.
    options: the encoder's own, over ours.
    """

    def __init__(
        self,
        path: str,
        fps: int = 24,
        *,
        codec: str = "h264",
        quality: int | None = None,
        pixel_format: str | None = None,
        options: Mapping[str, str] | None = None,
    ) -> None:
        made = find_codec(path, codec)
        self._codec, self._fps = made, fps
        self._pixel_format = pixel_format or made.pixel_format
        scale = {made.scale: str(made.quality if quality is None else quality)}
        self._options: Any = {**made.options, **scale, **(options or {})}
        os.environ.setdefault("SVT_LOG", "1")  # else libsvtav1 prints twenty lines about itself
        self._film = av.open(path, "w")
        self._stream: av.VideoStream | None = None
        self._early: dict[int, Pixels | None] = {}
        self._next = self.frames = 0

    def write(self, number: int, pixels: Pixels) -> None:
        """Encode a frame, and those that waited for it."""
        self._early[number] = pixels
        del pixels  # the slot is then free as soon as the encoder is done
        self._catch_up()

    def skip(self, number: int) -> None:
        """The film goes on with the frame after."""
        self._early[number] = None
        self._catch_up()

    def _catch_up(self) -> None:
        while self._next in self._early:
            self._encode(self._early.pop(self._next))
            self._next += 1

    def _encode(self, pixels: Pixels | None) -> None:
        if pixels is None:
            return
        if self._stream is None:
            self._stream = self._open_stream(*pixels.shape[:2])
        frame = _wrap(pixels)
        frame.pts, frame.time_base = self.frames, Fraction(1, self._fps)
        self._film.mux(self._stream.encode(frame))
        self.frames += 1

    def _open_stream(self, height: int, width: int) -> av.VideoStream:
        _check_size(width, height, self._pixel_format)
        stream = self._film.add_stream(self._codec.encoder, rate=self._fps)
        assert isinstance(stream, av.VideoStream)  # noqa: S101 - the codec is one for video
        stream.height, stream.width = height, width
        stream.pix_fmt = self._pixel_format
        stream.options = self._options
        return stream

    def close(self) -> None:
        """Encode what still waits, without the frames that never came, and complete the file."""
        for number in sorted(self._early):
            self._encode(self._early.pop(number))
        if self._stream is not None:
            self._film.mux(self._stream.encode(None))
        self._film.close()


def find_codec(path: str, codec: str) -> Codec:
    """One of CODECS. Raises ValueError for a name that is none, or a file that cannot hold it."""
    if codec not in CODECS:
        raise ValueError(f"codec {codec!r}: one of {', '.join(CODECS)}")
    made = CODECS[codec]
    if Path(path).suffix.lower() not in made.suffixes:
        raise ValueError(f"{path}: {codec} goes into {' or '.join(made.suffixes)}")
    return made


def _check_size(width: int, height: int, pixel_format: str) -> None:
    across, down = _subsampling(pixel_format)
    if width % across or height % down:
        raise ValueError(
            f"{width}x{height}: {pixel_format} has one colour for {across}x{down} pixels; use "
            f"sides that are multiples of these, or pixel_format='yuv444p'"
        )


def _subsampling(pixel_format: str) -> tuple[int, int]:
    """Pixels, across and down, that share a colour."""
    form = av.VideoFormat(pixel_format, 16, 16)
    return 16 // form.chroma_width(16), 16 // form.chroma_height(16)


def _wrap(pixels: Pixels) -> av.VideoFrame:
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3):
        raise ValueError(f"a frame is (height, width[, 3 or 4]) uint8, not {pixels.shape}")
    form = _WRAPPED[pixels.shape[2] if pixels.ndim == 3 else 2]
    try:
        return av.VideoFrame.from_numpy_buffer(pixels, form)
    except (BufferError, ValueError):  # older PyAV wraps no array that is read-only: a borrow's
        return av.VideoFrame.from_ndarray(pixels, form)


def encode(queue: Queue, path: str, fps: int, **settings: object) -> None:
    """Write the frames of a queue, (height, width, 3) uint8 RGB, to a film, until it is closed.

    settings: as of Film.
    """
    fill(queue, Film(path, fps, **settings))  # type: ignore[arg-type]


class Encoder(Consumer):
    """Runs `encode` in a process of its own; `write` hands it a slot.

    A context manager: leaving it waits until the film is complete. If the encoder fails or
    is killed, the slots that were on their way to it are freed and `write` raises
    QueueClosedError. codec and the others: as of Film. Raises ValueError for those at once.
    """

    def __init__(
        self,
        queue: Queue,
        path: str,
        fps: int,
        *,
        codec: str = "h264",
        quality: int | None = None,
        pixel_format: str | None = None,
        options: Mapping[str, str] | None = None,
    ) -> None:
        find_codec(path, codec)
        make = partial(
            Film,
            path,
            fps,
            codec=codec,
            quality=quality,
            pixel_format=pixel_format,
            options=options,
        )
        super().__init__(queue, make, name="encode", product="film")


def main() -> int:
    """Encode pictures of one size into a film."""
    from PIL import Image  # noqa: PLC0415 - only this command needs Pillow

    parser = argparse.ArgumentParser(prog="python -m workers.video", description=main.__doc__)
    parser.add_argument("--codec", choices=CODECS, default="h264")
    parser.add_argument("--quality", type=int, help="lower is better; for prores a profile, 0 to 3")
    parser.add_argument("--pixel-format", help="such as yuv444p or yuv420p10le")
    parser.add_argument("--fps", type=int, default=24)
    parser.add_argument("out", help="the film")
    parser.add_argument("pictures", nargs="+", help="its frames, in order")
    options = parser.parse_args()
    try:
        film = Film(
            options.out,
            options.fps,
            codec=options.codec,
            quality=options.quality,
            pixel_format=options.pixel_format,
        )
        for number, picture in enumerate(options.pictures):
            with Image.open(picture) as image:
                film.write(number, np.array(image.convert("RGB")))
        film.close()
    except (ValueError, OSError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
