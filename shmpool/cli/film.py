"""A film in parts, one for each run, and how they are joined without encoding anything again.

A film cannot be appended to, and one whose writer was killed may not even be readable. So a run
that may be gone on with writes a part, `OUT.part-0000.ts`: an MPEG transport stream has no index,
what is there of it is good. The frames that a part can be trusted to have are the longest run of
packets, in the order of decoding, that are the frames 0…k-1 and no others: whatever one of them
refers to is among them, and the next part begins with a key frame.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av


@dataclass(frozen=True, slots=True)
class Part:
    """A file, and how many of its frames count."""

    path: Path
    frames: int


def whole_frames(path: Path, fps: int, *, torn: bool) -> int:
    """How many frames of a part can be trusted. torn: its writer was killed, maybe in a packet."""
    try:
        with av.open(str(path)) as part:
            order = [number for _, number in _packets(part, fps)]
    except (av.FFmpegError, OSError, IndexError):
        return 0
    if torn:
        del order[-1:]
    best, highest = 0, -1
    for count, number in enumerate(order, 1):
        highest = max(highest, number)
        if highest == count - 1:
            best = count
    return best


def join(parts: list[Part], path: Path, fps: int) -> None:
    """Put parts one behind another, packet by packet."""
    with av.open(str(path), "w") as film:
        stream: av.VideoStream | None = None
        first, delay = 0, _delay(parts, fps)
        for part in parts:
            with av.open(str(part.path)) as source:
                if stream is None:
                    stream = film.add_stream_from_template(source.streams.video[0])
                    stream.time_base = Fraction(1, fps)
                for place, (packet, number) in enumerate(_packets(source, fps)):
                    if place == part.frames:
                        break
                    packet.time_base = Fraction(1, fps)
                    # Decoded one a frame, and none after it is shown.
                    packet.pts, packet.dts = first + number, first + place - delay
                    packet.duration, packet.stream = 1, stream
                    film.mux(packet)
            first += part.frames


def _delay(parts: list[Part], fps: int) -> int:
    """By how many frames decoding has to be ahead of showing."""
    delay = 0
    for part in parts:
        with av.open(str(part.path)) as source:
            order = [number for _, number in _packets(source, fps)][: part.frames]
        delay = max([delay, *(place - number for place, number in enumerate(order))])
    return delay


def _packets(part: av.container.InputContainer, fps: int) -> Iterator[tuple[av.Packet[Any], int]]:
    """Packets as they are decoded, each with the number of its frame."""
    zero: int | None = None
    for packet in part.demux(part.streams.video[0]):
        if packet.pts is None or packet.time_base is None:
            continue
        zero = packet.pts if zero is None else zero  # a part begins with its first frame
        yield packet, round((packet.pts - zero) * packet.time_base * fps)
