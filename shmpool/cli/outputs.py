"""Where frames go: a film, stills, one array, stdout, or nowhere.

An output is chosen, checked, opened when the pool is there, written to, and closed whatever
happened; `finish` follows when nothing is left to do. What of it is complete it knows best
itself: a journal may say that a still was written which somebody has removed since.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from shmpool import Pool, Result, _exits
from shmpool.cli.exits import UsageError
from shmpool.cli.jobs import Jobs
from shmpool.cli.journal import Journal

if TYPE_CHECKING:
    from workers.video import Encoder

FILMS = (".mp4", ".mkv", ".mov")
_MOST_PIXELS = 16384  # a side, that x264 takes
# Frames a second, all of which can be read again: Matroska counts milliseconds; the others tell
# where a film begins in milliseconds, and faster ones lose frames by that.
_MOST_FPS = {".mp4": 10_000, ".mkv": 1000, ".mov": 10_000}
STILLS = (".png", ".jpg", ".jpeg", ".webp")
STDOUT = "-"
_QUEUE = "out"
_NUMBER = re.compile(r"%0?\d*d")


class Output(Protocol):
    """Something that takes frames."""

    path: Path | None  # that a journal can lie beside
    ordered: bool  # whether frames have to come in order
    queues: tuple[str, ...]  # that it wants the pool to have
    crossings: int  # how often a frame goes from process to process

    def complete(self, journal: Journal) -> set[int]:
        """Places of the jobs that need not be done again."""

    def open(self, pool: Pool, journal: Journal | None) -> None:
        """Begin; with a journal, go on."""

    def write(self, place: int, result: Result) -> None:
        """Take a frame; when it comes back, the frame is where a kill cannot harm it."""

    def close(self) -> None:
        """Leave something that can be used. Raises if that cannot be done."""

    def finish(self, journal: Journal | None) -> None:
        """All is there."""


class Nothing:
    """No output: what functions return may be all that is wanted."""

    path: Path | None = None
    ordered = False
    queues: tuple[str, ...] = ()
    crossings = 1

    def complete(self, _journal: Journal) -> set[int]:
        """Nothing is kept."""
        return set()

    def open(self, _pool: Pool, _journal: Journal | None) -> None:
        """There is nothing to open."""

    def write(self, _place: int, _result: Result) -> None:
        """Let it go."""

    def close(self) -> None:
        """There is nothing to close."""

    def finish(self, _journal: Journal | None) -> None:
        """It is."""


class Raw(Nothing):
    """The bytes of all frames in order, into a descriptor."""

    ordered = True

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def write(self, _place: int, result: Result) -> None:
        """Write all of it, from the slot."""
        with _naming("stdout"), result.array.data.cast("B") as view:
            at = 0
            while at < len(view):
                at += os.write(self._fd, view[at:])


class Stills(Nothing):
    """A picture each. There under its name when it is whole, not before."""

    def __init__(self, pattern: str, jobs: Jobs) -> None:
        self.path = self._path = Path(pattern)
        self._jobs = jobs
        self._sync = False

    def _place(self, place: int) -> Path:
        name = str(self._path)
        return Path(_NUMBER.sub(lambda match: match[0] % self._jobs.numbers[place], name))

    def complete(self, journal: Journal) -> set[int]:
        """Those that are still there."""
        return {place for place in journal.done(self._jobs) if self._place(place).exists()}

    def open(self, _pool: Pool, journal: Journal | None) -> None:
        """With a journal, a picture is on the disk before the journal says so."""
        self._sync = journal is not None

    def write(self, place: int, result: Result) -> None:
        """Through a file of another name."""
        from PIL import Image

        path = self._place(place)
        unfinished = _unfinished(path)
        try:
            Image.fromarray(result.array).save(unfinished)
            if self._sync:
                _sync(unfinished)
            unfinished.replace(path)
        except (OSError, ValueError) as error:  # the second of a size that the format has not
            unfinished.unlink(missing_ok=True)
            raise OSError(f"{path} cannot be written: {error}") from error


class Array(Nothing):
    """All frames in one array, (jobs, height, width, 3), as `np.load` reads it.

    It has another name until it is closed; of one that ends early, what is there is kept.
    """

    def __init__(self, path: Path, jobs: Jobs, size: tuple[int, int]) -> None:
        self.path = path
        self._path = path.resolve()  # a link stays one
        self._unfinished = _unfinished(self._path)
        self._jobs = jobs
        self._shape = (len(jobs), size[1], size[0], 3)
        self._array: np.memmap[Any, Any] | None = None
        self._fd: int | None = None
        self._there = self._path  # what there is of it
        self._keep = False

    def complete(self, journal: Journal) -> set[int]:
        """What the journal says, if the array is still there."""
        self._there = self._unfinished if self._unfinished.exists() else self._path
        try:
            found = np.load(self._there, mmap_mode="r")
        except (OSError, ValueError):
            return set()
        same = found.shape == self._shape and found.dtype == np.uint8
        return set(journal.done(self._jobs)) if same else set()

    def open(self, _pool: Pool, journal: Journal | None) -> None:
        """Make the file, with room for all on its disk, or go on with it."""
        self._keep = journal is not None and bool(self.complete(journal))
        self._sync = journal is not None
        with _naming(self.path):
            self._open()

    def _open(self) -> None:
        if not self._keep:
            self._there = self._unfinished
        kind: dict[str, Any] = {} if self._keep else {"dtype": np.uint8, "shape": self._shape}
        array = np.lib.format.open_memmap(self._there, "r+" if self._keep else "w+", **kind)
        # A full disk is an error here, not a SIGBUS in the middle.
        fd = os.open(self._there, os.O_RDWR)
        self._fd = fd
        os.posix_fallocate(fd, 0, array.offset + array.nbytes)
        self._array = array

    def write(self, place: int, result: Result) -> None:
        """In its row."""
        assert self._array is not None  # noqa: S101 - it is open
        self._array[place] = result.array
        if self._sync and self._fd is not None:
            os.fdatasync(self._fd)
        self._keep = True

    def close(self) -> None:
        """Give it its name, or remove it if nothing was written. Idempotent."""
        self._array = None
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)
        if self._keep and self._there.exists():
            self._there.replace(self._path)
        elif not self._keep:
            self._unfinished.unlink(missing_ok=True)


class Film(Nothing):
    """A film, by an encoder in a process of its own that takes frames from their slots."""

    ordered = True
    queues: tuple[str, ...] = (_QUEUE,)
    crossings = 2

    def __init__(self, path: Path, fps: int) -> None:
        self.path = self._path = path
        self._fps = fps
        self._target = path
        self._encoder: Encoder | None = None
        self._sent = 0

    def open(self, pool: Pool, _journal: Journal | None) -> None:
        """Start the encoder."""
        from workers.video import Encoder

        # A SIGTERM or SIGHUP that is sent to the whole group is not for the encoder.
        with _exits.blocked(signal.SIGTERM, signal.SIGHUP):
            self._encoder = Encoder(pool.queue(_QUEUE), str(self._target), self._fps)

    def write(self, _place: int, result: Result) -> None:
        """Send it to the encoder."""
        assert self._encoder is not None  # noqa: S101 - it is open
        self._encoder.write(result.keep())
        self._sent += 1

    def close(self) -> None:
        """Wait until what was sent is in the film. Idempotent."""
        encoder, self._encoder = self._encoder, None
        if encoder is not None:
            encoder.close()
            if not self._sent:
                self._target.unlink(missing_ok=True)


class FilmInParts(Film):
    """A film that another run may go on with: a part for each run, joined at the end."""

    def __init__(self, path: Path, fps: int) -> None:
        super().__init__(path, fps)
        self._journal: Journal | None = None
        self._number = 0

    def _part(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.part-{number:04d}.ts")

    def complete(self, journal: Journal) -> set[int]:
        """The frames at its beginning that are in parts."""
        return set(range(sum(frames for _, frames in self._parts(journal))))

    def _parts(self, journal: Journal) -> list[tuple[int, int]]:
        """Parts that follow each other, and how many frames of each count."""
        parts, total = [], 0
        for record in journal.of_kind("part"):
            number = record["part"]
            if record["first"] == total and self._part(number).exists():
                parts.append((number, self._frames(number, journal)))
                total += parts[-1][1]
        return [part for part in parts if part[1]]

    def _frames(self, number: int, journal: Journal) -> int:
        closed = [r["frames"] for r in journal.of_kind("closed") if r["closed"] == number]
        return int(closed[0]) if closed else self._settle(number, journal, torn=True)

    def _settle(self, number: int, journal: Journal, *, torn: bool) -> int:
        """Count a part's frames, for good: whoever joins takes as many."""
        from shmpool.cli.film import whole_frames

        frames = whole_frames(self._part(number), self._fps, torn=torn)
        journal.add(closed=number, frames=frames)
        return frames

    def open(self, pool: Pool, journal: Journal | None) -> None:
        """Begin the next part."""
        assert journal is not None  # noqa: S101 - it was chosen because there is one
        first = len(self.complete(journal))
        self._journal = journal
        self._number = len(journal.of_kind("part"))
        self._target = self._part(self._number)
        journal.add(part=self._number, first=first)
        super().open(pool, journal)

    def close(self) -> None:
        """Complete the part."""
        journal, self._journal = self._journal, None
        super().close()
        if journal is not None and self._sent:
            _sync(self._target)
            self._settle(self._number, journal, torn=False)

    def finish(self, journal: Journal | None) -> None:
        """Join the parts, under another name until they are."""
        from shmpool.cli.film import Part, join

        assert journal is not None  # noqa: S101 - it was chosen because there is one
        parts = [Part(self._part(number), frames) for number, frames in self._parts(journal)]
        unfinished = _unfinished(self._path)
        join(parts, unfinished, self._fps)
        _sync(unfinished)
        unfinished.replace(self._path)
        for record in journal.of_kind("part"):
            self._part(record["part"]).unlink(missing_ok=True)


@contextmanager
def _naming(what: object) -> Iterator[None]:
    """Say what cannot be written, but of a pipe that nobody reads any more."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OSError(f"{what} cannot be written: {error}") from error


def _unfinished(path: Path) -> Path:
    """The name of a file until it is whole."""
    return path.with_name(f".{path.name}.unfinished{path.suffix}")


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def choose(
    out: str | None, jobs: Jobs, size: tuple[int, int], fps: int, stdout: int, *, resume: bool
) -> Output:
    """The output that a name asks for. Raises UsageError."""
    if out is None:
        return Nothing()
    if out == STDOUT:
        return Raw(stdout)
    path = Path(out)
    _check_place(path)
    kind = path.suffix.lower()
    if kind in FILMS:
        _check_film(path, size, fps)
        return FilmInParts(path, fps) if resume else Film(path, fps)
    if kind in STILLS:
        _need("PIL", "Pillow")
        _check_pattern(path, jobs)
        return Stills(out, jobs)
    if kind == ".npy":
        return Array(path, jobs, size)
    kinds = ", ".join((*FILMS, *STILLS, ".npy"))
    raise UsageError(f"--out {out}: it has to end in one of {kinds}, or be -")


def _check_place(path: Path) -> None:
    folder = path.parent
    if not folder.is_dir():
        raise UsageError(f"--out {path}: there is no directory {folder}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"--out {path}: {folder} cannot be written to")
    if path.is_dir():
        raise UsageError(f"--out {path}: that is a directory")


def _check_film(path: Path, size: tuple[int, int], fps: int) -> None:
    _need("av", "PyAV")
    if any(side % 2 for side in size):
        raise UsageError(f"--size {size[0]}x{size[1]}: H.264 wants even sides")
    if max(size) > _MOST_PIXELS:
        raise UsageError(f"--size {size[0]}x{size[1]}: H.264 has at most {_MOST_PIXELS} a side")
    most = _MOST_FPS[path.suffix.lower()]
    if fps > most:
        raise UsageError(f"--fps {fps}: {path.suffix} has at most {most} frames a second")


def _check_pattern(path: Path, jobs: Jobs) -> None:
    directives = path.name.count("%"), len(_NUMBER.findall(path.name))
    if "%" in str(path.parent) or directives not in ((0, 0), (1, 1)):
        raise UsageError(f"--out {path}: one % in the file's name, as in still-%04d.png")
    if directives == (0, 0) and len(jobs) > 1:
        raise UsageError(f"--out {path}: {len(jobs)} stills need a number, as in still-%04d.png")


def _need(module: str, name: str) -> None:
    if find_spec(module) is None:
        raise UsageError(f"that needs {name}: pip install 'shmpool[film]'")
