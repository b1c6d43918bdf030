"""`shmpool farm`: its outputs, its arguments, how it is stopped, and how it goes on."""

from __future__ import annotations

import argparse
import errno
import fcntl
import json
import os
import pty
import re
import signal
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from shmpool.cli import film, jobs, journal, parser, values
from shmpool.cli.exits import UsageError
from shmpool.cli.stops import Stops
from workers import whitted

ROOT = Path(__file__).parents[2]
RENDERER = """
import os, signal
import numpy as np

def render(job, frame):
    '''Paint a number; a job from GATE on, or HOLDS, waits until the gate is open.'''
    if job >= int(os.environ.get("GATE", 1000)) or job == int(os.environ.get("HOLDS", -1)):
        print("at the gate")
        os.close(os.open("gate", os.O_RDONLY))
    if job == int(os.environ.get("FAILS", -1)):
        raise LookupError("as told")
    if job == int(os.environ.get("DIES", -1)):
        os.kill(os.getpid(), signal.SIGKILL)
    noise = np.random.default_rng(job).integers(0, 64, frame.shape, np.uint8)
    frame[...] = noise + job * 2
    print("painted", job)
    return job * 10

def number(job, frame):
    return {"it": [float(job), np.float64(job)], 7: float(job), (1, 2): 3}

def paint(job, frame):
    frame[...] = job["frame"] + job["plus"]

made = lambda job, frame: None
nothing = 3
"""
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A directory with a renderer and a gate."""
    (tmp_path / "mine.py").write_text(RENDERER)
    (tmp_path / "broken.py").write_text("import nowhere_to_be_found\n")
    (tmp_path / "fails.py").write_text("1 / 0\n")
    os.mkfifo(tmp_path / "gate")
    return tmp_path


@pytest.fixture
def start(folder: Path) -> Iterator[Start]:
    """Start the command in a session of its own; the gate is for jobs from `gate` on."""
    started = []

    def begin(*arguments: object, **environment: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "shmpool", "farm", *map(str, arguments)]
        more = {name: str(value) for name, value in environment.items()}
        process = subprocess.Popen(
            command, cwd=folder, text=True, start_new_session=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)} | more,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            # In a background job of a script SIGINT is ignored, and stays so.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
        )  # fmt: skip
        started.append(process)
        return process

    yield begin
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.fixture
def farm(start: Start) -> Callable[..., tuple[int, str, str]]:
    """Run the command: exit code, stdout and stderr."""

    def run(*arguments: object, **environment: object) -> tuple[int, str, str]:
        process = start(*arguments, **environment)
        out, error = process.communicate()
        assert "Traceback" not in error, error
        return process.returncode, out, error

    return run


Farm = Callable[..., tuple[int, str, str]]
SMALL = ("mine:render", "--size", "64x36", "--workers", "2")


def painted(job: int, width: int = 64, height: int = 36) -> np.ndarray[Any, Any]:
    """What the renderer makes of a job."""
    shape = (height, width, 3)
    return np.random.default_rng(job).integers(0, 64, shape, np.uint8) + np.uint8(job * 2)


def frames_of(path: Path) -> list[np.ndarray[Any, Any]]:
    with av.open(str(path)) as film:
        return [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]


def is_film(path: Path, count: int, size: tuple[int, int] = (64, 36)) -> None:
    """Every frame is there, once, in order: by its brightness, which is lossy in a film."""
    means = [float(frame.mean()) for frame in frames_of(path)]
    assert len(means) == count
    off = np.array(means) - [float(painted(job, *size).mean()) for job in range(count)]
    # A film is darker by a constant; from frame to frame it is two steps brighter.
    assert np.abs(off - np.median(off)).max(initial=0) < 0.9


def until(process: subprocess.Popen[str], *texts: str, stream: str = "stdout") -> None:
    """Read what it says until it has said all that."""
    seen = ""
    for line in getattr(process, stream):
        seen += line
        if all(text in seen for text in texts):
            return
    pytest.fail(f"ended without {texts!r}: {seen} {process.stderr and process.stderr.read()}")


@contextmanager
def open_gate(folder: Path) -> Iterator[None]:
    """Who waits for the other end of the gate waits no more, for the length of a block."""
    gate = os.open(folder / "gate", os.O_RDWR)
    yield
    os.close(gate)


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


# Outputs.


def test_stills_are_the_frames_named_by_their_numbers(farm: Farm, folder: Path) -> None:
    """A picture each, under the number of its frame."""
    code, _, _ = farm(*SMALL, "--frames", "2-6:2,9", "--out", "still-%03d.png")
    assert code == 0
    assert sorted(path.name for path in folder.glob("*.png")) == [
        f"still-{number:03d}.png" for number in (2, 4, 6, 9)
    ]
    for number in (2, 4, 6, 9):
        assert (np.asarray(Image.open(folder / f"still-{number:03d}.png")) == painted(number)).all()


def test_an_array_has_a_row_for_each_job(farm: Farm, folder: Path) -> None:
    """np.load reads all frames, in the order of the jobs."""
    code, _, _ = farm(*SMALL, "--frames", "0-9", "--out", "frames.npy")
    assert code == 0
    found = np.load(folder / "frames.npy")
    assert found.shape == (10, 36, 64, 3)
    assert (found == [painted(job) for job in range(10)]).all()


@pytest.mark.parametrize("kind", ["mp4", "mkv", "mov"])
def test_a_film_has_every_frame_in_order(farm: Farm, folder: Path, kind: str) -> None:
    """As many frames, each as bright as it was rendered."""
    code, _, _ = farm(*SMALL, "--frames", "0-23", "--out", f"film.{kind}")
    assert code == 0
    is_film(folder / f"film.{kind}", 24)


def test_raw_bytes_go_to_stdout_in_order_and_nothing_else(folder: Path) -> None:
    """What workers print goes to stderr then."""
    command = [sys.executable, "-m", "shmpool", "farm", *SMALL, "--frames", "0-9", "--out", "-"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, capture_output=True, check=True, env=environment)
    assert done.stdout == b"".join(painted(job).tobytes() for job in range(10))
    assert b"painted 3" in done.stderr
    assert b"10 done" in done.stderr


def test_a_renderer_that_ships_makes_its_own_jobs_of_frame_numbers(
    farm: Farm, folder: Path
) -> None:
    """`shots(total)` of its module is asked; frames may be of a longer whole."""
    arguments = ("--frames", "3-4/24", "--size", "64x36", "--workers", "1")
    code, _, _ = farm("workers.whitted:render", *arguments, "--out", "f.npy")
    assert code == 0
    wanted = np.empty((2, 36, 64, 3), np.uint8)
    for row, number in enumerate((3, 4)):
        whitted.render(whitted.Shot(number, 24), wanted[row])
    assert (np.load(folder / "f.npy") == wanted).all()


def test_settings_come_with_the_frame_number(farm: Farm, folder: Path) -> None:
    """Where a module has no shots, a job with settings is a dict."""
    arguments = ("--frames", "0-3", "--set", "plus=7", "--size", "2x2", "--workers", "1")
    assert farm("mine:paint", *arguments, "--out", "f.npy")[0] == 0
    assert np.load(folder / "f.npy")[:, 0, 0, 0].tolist() == [7, 8, 9, 10]


def test_a_report_that_cannot_be_written_is_told(folder: Path) -> None:
    """The work is done all the same; that nobody reads of it has an exit code of its own."""
    command = [sys.executable, "-m", "shmpool", "farm", *SMALL, "--frames", "0-1", "--json"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=full, stderr=subprocess.PIPE, text=True,
            check=False, cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)},
        )  # fmt: skip
    assert done.returncode == 74
    assert "shmpool farm: stdout cannot be written: " in done.stderr
    assert "Traceback" not in done.stderr


def test_jobs_are_lines_of_json_and_values_come_back(farm: Farm, folder: Path) -> None:
    """One JSON object is all that stands on stdout."""
    (folder / "jobs.jsonl").write_bytes(b"4\n\n7\r\n")
    code, out, error = farm(*SMALL, "--jobs", "jobs.jsonl", "--json")
    told = json.loads(out)
    assert (code, told["exit_code"]) == (0, 0)
    assert told["values"] == {"0": 40, "1": 70}
    assert (told["jobs"], told["done"], told["failed"], told["left"]) == (2, 2, [], 0)
    assert told["bytes_without_copy"] == 2 * 64 * 36 * 3
    assert "painted 7" in error


def test_what_is_no_number_of_json_is_null(farm: Farm, folder: Path) -> None:
    """As other programs read it; keys that JSON has not are text."""
    (folder / "jobs").write_text('"nan"\n"-inf"\n"1.5"\n')
    _, out, _ = farm("mine:number", "--jobs", "jobs", "--size", "2x2", "--workers", 1, "--json")
    assert "NaN" not in out
    assert "Infinity" not in out
    nothing, one = ({"it": [value, value], "7": value, "(1, 2)": 3} for value in (None, 1.5))
    assert json.loads(out)["values"] == {"0": nothing, "1": nothing, "2": one}


@pytest.mark.parametrize(
    "arguments",
    [
        "mine:render - --size 2x2 --workers 1 --json",
        "mine:render --size 2x2 --workers 1 --json -",
        "mine:render --size 2x2 - --workers 1 --json",
        "--size 2x2 - mine:render --workers 1 --json",
        "- --size 2x2 --workers 1 --json mine:render",
        "mine:render --size 2x2 --workers 1 --json --jobs -",
    ],
)
def test_stdin_is_asked_for_wherever_its_dash_stands(folder: Path, arguments: str) -> None:
    """Before options, between or behind them."""
    done = subprocess.run(
        [sys.executable, "-m", "shmpool", "farm", *arguments.split()], cwd=folder, check=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)}, input="3\n", capture_output=True, text=True,
    )  # fmt: skip
    assert json.loads(done.stdout)["values"] == {"0": 30}


def test_where_there_is_no_terminal_lines_are_plain(farm: Farm) -> None:
    """No escape sequence; what a worker prints carries its name and job."""
    code, out, error = farm(*SMALL, "--frames", "0-7")
    assert (code, error) == (0, "")
    assert "\x1b" not in out
    assert "rendered 8 of 8 frames\n" in out
    assert re.search(r"^\[render-[12] job 5\] painted 5$", out, re.MULTILINE)
    assert re.search(r"^8 jobs +8 done$", out, re.MULTILINE)


def test_on_a_terminal_there_is_a_bar(folder: Path) -> None:
    """With what workers print above it, and the summary below."""
    ours, theirs = pty.openpty()
    command = [
        sys.executable,
        "-m",
        "shmpool",
        "farm",
        *SMALL,
        "--frames",
        "0-30",
        "--out",
        "f.mp4",
    ]
    environment = os.environ | {
        "PYTHONPATH": str(ROOT), "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"
    }  # fmt: skip
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    screen = b""
    while chunk := _read_terminal(ours):
        screen += chunk
    os.close(ours)
    assert process.wait() == 0
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.decode())
    assert "Traceback" not in text
    for told in (
        "━",
        "31/31",
        "frames/s",
        "ETA",
        "slots free",
        "0 retries",
        "job 30] painted 30",
        "31 done",
    ):
        assert told in text, text


def _read_terminal(fd: int) -> bytes:
    try:
        return os.read(fd, 65536)
    except OSError:  # EIO: nobody has the other end any more
        return b""


def test_the_renderers_that_ship_are_listed(farm: Farm) -> None:
    """With the first line of what they say of themselves."""
    code, out, _ = farm("--list")
    assert code == 0
    assert re.search(
        r"^workers.whitted:render +A small Whitted-style ray tracer", out, re.MULTILINE
    )


# Arguments.

WRONG = [
    ("", "which function?"),
    ("nocolon --frames 1", "MODULE:FUNCTION"),
    ("nowhere.at_all:render --frames 1", "there is no module 'nowhere.at_all'"),
    ("broken:render --frames 1", "broken cannot be imported: No module named"),
    ("fails:render --frames 1", "fails cannot be imported: ZeroDivisionError"),
    (
        "mine:renders --frames 1",
        "no function 'renders'; of its own it has: made, number, paint, render",
    ),
    ("mine:nothing --frames 1", "no function 'nothing'"),
    ("mine:made --frames 1", "cannot be sent to a worker"),
    ("mine:render", "one of --frames RANGE, --jobs FILE, or -"),
    ("mine:render - --frames 1", "one of --frames RANGE, --jobs FILE, or -"),
    ("mine:render --frames 1 -", "one of --frames RANGE, --jobs FILE, or -"),
    ("mine:render --frames 1 - -", "unrecognized arguments: -"),
    ("mine:render --frames 1 more", "unrecognized arguments: more"),
    ("mine:render more --frames 1 --nope", "unrecognized arguments: more --nope"),
    ("--nope --frames 1 mine:render", "unrecognized arguments: --nope"),
    ("-", "which function?"),
    ("mine:render --frames 5-2", "is not before the first"),
    ("mine:render --frames x", "no range of frames"),
    ("mine:render --frames 0-9,9", "frame 9 is asked for twice"),
    ("mine:render --frames 0-9/5", "at least 10"),
    ("mine:render --jobs nowhere.jsonl", "jobs cannot be read from nowhere.jsonl"),
    ("mine:render --jobs mine.py", "mine.py, line 2 is no JSON value"),
    ("mine:render -", "- has no jobs"),
    ("mine:render --frames 1 --size 64", "width x height"),
    ("mine:render --frames 1 --size 0x4", "width x height"),
    ("mine:render --frames 1 --size 63x36 --out f.mp4", "even sides"),
    ("mine:render --frames 1 --size 16386x36 --out f.mp4", "at most 16384 a side"),
    ("mine:render --frames 1 --fps 200000 --out f.mp4", ".mp4 has at most 10000 frames"),
    ("mine:render --frames 1 --fps 200000 --out f.mp4 --resume", "at most 10000 frames"),
    ("mine:render --frames 1 --fps 1001 --out f.mkv", ".mkv has at most 1000 frames"),
    ("mine:render --frames 1 --out f.gif", "has to end in one of"),
    ("mine:render --frames 1 --out nowhere/f.mp4", "there is no directory nowhere"),
    ("mine:render --frames 0-1 --out still.png", "2 stills need a number"),
    ("mine:render --frames 0-1 --out still-%s.png", "one % in the file's name"),
    ("mine:render --frames 1 --workers 0", "1 or more"),
    ("mine:render --frames 1 --slots none", "1 or more"),
    ("mine:render --frames 1 --retries -1", "--retries"),
    ("mine:render --frames 1 --timeout 0", "seconds, more than 0"),
    ("mine:render --frames 1 --memory lots", "memory is 'lots'"),
    ("mine:render --frames 1 --set x", "give name=value"),
    ("mine:render --jobs j.jsonl --set x=1", "--set goes with --frames"),
    ("mine:render --frames 1 --json --out -", "both want stdout"),
    ("mine:render --frames 1 --resume", "--resume needs an output"),
    ("mine:render --frames 1 --resume --out -", "--resume needs an output"),
    (
        "mine:render --frames 1 --resume --out f.mp4 --on-error continue",
        "cannot be put into a film",
    ),
    ("workers.whitted:render --frames 1 --set mood=dark", "TypeError"),
]


@pytest.mark.parametrize(("arguments", "told"), WRONG, ids=[a or "nothing" for a, _ in WRONG])
def test_a_wrong_argument_is_told_before_anything_starts(
    farm: Farm, folder: Path, arguments: str, told: str
) -> None:
    """Exit code 2, a message, and neither output nor journal."""
    before = sorted(folder.iterdir())
    code, out, error = farm(*arguments.split())
    assert (code, out) == (2, "")
    assert told in error
    assert [path for path in sorted(folder.iterdir()) if path.name != "__pycache__"] == before


def test_a_size_that_is_refused_by_the_system_is_exit_code_3(farm: Farm) -> None:
    """Shared memory that is not there, with the numbers and the remedy."""
    code, out, error = farm("mine:render", "--frames", "1", "--size", "1000000x1000000")
    assert code == 3
    assert "OutOfSharedMemoryError" in error
    assert "1 left" in out


@pytest.mark.parametrize("out", ["f.mp4", "f.npy"])
@pytest.mark.parametrize("more", [[], ["--resume"]])
def test_an_output_that_cannot_be_written_is_exit_code_3(
    start: Start, folder: Path, out: str, more: list[str]
) -> None:
    """Though it seemed so: its name leads nowhere. Nothing hangs, and nothing is left."""
    (folder / out).symlink_to("nowhere/there")
    (folder / f"{out}.part-0000.ts").symlink_to("nowhere/there")
    process = start(*SMALL, "--frames", "0-40", "--out", out, "--json", *more)
    text, error = process.communicate()
    told = json.loads(text)
    assert (process.returncode, told["exit_code"]) == (3, 3), error
    assert f"shmpool farm: {told['error']}" in error
    assert re.search("No such file", told["error"])


def test_a_film_that_fails_says_why_and_is_not_claimed(farm: Farm, folder: Path) -> None:
    """The encoder's reason, in a sentence and in the JSON; its disk is full."""
    (folder / "f.mkv").symlink_to("/dev/full")
    code, out, error = farm(*SMALL, "--frames", "0-40", "--out", "f.mkv")
    reason = r"process 'encode' ended with exit code 1: no film, OSError: .*No space left"
    assert code == 3
    assert re.search(reason, error), error
    assert re.search(r"^output +(f\.mkv is not complete|nothing written)$", out, re.MULTILINE)
    _, out, _ = farm(*SMALL, "--frames", "0-40", "--out", "f.mkv", "--json")
    assert re.search(reason, json.loads(out)["error"])


@pytest.mark.parametrize(("kind", "fps"), [("mp4", 10_000), ("mov", 10_000), ("mkv", 1000)])
@pytest.mark.parametrize("more", [[], ["--resume"]])
def test_a_film_as_fast_as_can_be_has_every_frame(
    farm: Farm, folder: Path, kind: str, fps: int, more: list[str]
) -> None:
    """The most that --fps takes."""
    arguments = ("--frames", "0-59", "--fps", fps, "--out", f"f.{kind}")
    assert farm(*SMALL, *arguments, *more)[0] == 0
    assert len(frames_of(folder / f"f.{kind}")) == 60


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("more", [[], ["--resume"]])
def test_an_array_without_room_is_named_and_leaves_nothing(
    folder: Path, more: list[str], *, before: bool
) -> None:
    """On a disk that is full, here by a limit; an array that was there is as it was."""
    if before:
        np.save(folder / "f.npy", np.arange(3))
    line = [sys.executable, "-m", "shmpool", "farm", *SMALL, "--frames", "0-299", "--out", "f.npy"]
    done = subprocess.run(
        ["/bin/sh", "-c", 'ulimit -f 900; exec "$@"', "sh", *line, *more], cwd=folder, check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    assert re.fullmatch(r"shmpool farm: OSError: f\.npy cannot be written: .*\n", done.stderr)
    assert re.search(r"^output +nothing written$", done.stdout, re.MULTILINE)
    left = {path.name for path in folder.glob("*npy*")} | {p.name for p in folder.glob(".f*")}
    assert left == set(["f.npy"] * before + ["f.npy.journal"] * len(more))
    assert not before or np.load(folder / "f.npy").shape == (3,)


def test_an_array_takes_the_place_of_another_when_it_is_whole(start: Start, folder: Path) -> None:
    """Until then the other is there; and a link stays one."""
    np.save(folder / "other.npy", np.arange(3))
    (folder / "f.npy").symlink_to("other.npy")
    process = stopped_at_the_gate(start, "--out", "f.npy")
    assert np.load(folder / "f.npy").shape == (3,)
    with open_gate(folder):
        process.communicate()
    assert (np.load(folder / "other.npy") == [painted(job) for job in range(16)]).all()
    assert (folder / "f.npy").is_symlink()
    assert not list(folder.glob(".*"))


def test_a_picture_that_its_format_cannot_hold_is_exit_code_3(farm: Farm, folder: Path) -> None:
    """In a sentence, with its name; nothing of it is left."""
    code, _, error = farm("mine:render", "--frames", "1", "--size", "20000x1", "--out", "f.webp")
    assert code == 3
    assert re.search(r"f\.webp cannot be written: .*16383", error)
    assert not list(folder.glob("*f.webp*"))


@pytest.mark.parametrize("more", [[], ["--json"], ["--out", "-"]])
def test_a_stdout_that_is_closed_is_no_error(folder: Path, more: list[str]) -> None:
    """As with `>&-`."""
    line = [sys.executable, "-m", "shmpool", "farm", *SMALL, "--frames", "0-2", *more]
    done = subprocess.run(
        ["/bin/sh", "-c", 'exec "$@" >&-', "sh", *line], cwd=folder, check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr


def test_a_reader_that_goes_away_is_exit_code_3(folder: Path) -> None:
    """Of raw bytes: as in `shmpool farm … --out - | head -c 100`."""
    command = [sys.executable, "-m", "shmpool", "farm", *SMALL, "--frames", "0-99", "--out", "-"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=pipe, stderr=pipe)
    assert process.stdout is not None
    process.stdout.read(100)
    process.stdout.close()
    process.stdout = None
    _, error = process.communicate()
    assert process.returncode == 3
    assert b"BrokenPipeError" in error
    assert b"Traceback" not in error


# Failures.


def test_a_job_that_failed_stops_the_others(farm: Farm, folder: Path) -> None:
    """The film has what comes before it; exit code 1."""
    code, out, _ = farm(*SMALL, "--frames", "0-99", "--out", "f.mp4", FAILS=5)
    assert code == 1
    assert "job 5 failed: LookupError: as told" in out
    is_film(folder / "f.mp4", 5)


def test_what_comes_after_a_gap_is_not_in_a_film(start: Start, folder: Path) -> None:
    """Later jobs may be done before one fails: a film ends where that would have been."""
    held = {"HOLDS": 5, "FAILS": 5}
    process = start(*SMALL, "--slots", 20, "--frames", "0-99", "--out", "f.mp4", **held)
    until(process, "painted 8")
    with open_gate(folder):
        process.communicate()
    assert process.returncode == 1
    is_film(folder / "f.mp4", 5)


def test_others_go_on_if_they_are_to(farm: Farm, folder: Path) -> None:
    """What failed is told, all else is there; exit code 1."""
    arguments = ("--frames", "0-19", "--out", "f-%d.png", "--on-error", "continue", "--json")
    code, out, _ = farm(*SMALL, *arguments, FAILS=5)
    told = json.loads(out)
    assert (code, told["done"], told["left"]) == (1, 19, 0)
    assert told["failed"] == [{"job": 5, "kind": "LookupError", "error": "as told"}]
    assert len(list(folder.glob("*.png"))) == 19


def test_a_job_that_kills_its_workers_is_tried_again_and_told(farm: Farm) -> None:
    """As often as --retries says, by new workers."""
    arguments = ("--frames", "0-9", "--on-error", "continue", "--retries", "1", "--json")
    code, out, _ = farm(*SMALL, *arguments, DIES=3)
    told = json.loads(out)
    assert (code, told["done"], told["failed"][0]["kind"]) == (1, 9, "WorkerDiedError")
    assert told["retries"] == 1
    assert told["replaced"] == 2


def test_a_job_that_takes_too_long_is_told(farm: Farm) -> None:
    """Nobody opens the gate: --timeout ends the workers."""
    arguments = ("--frames", "0", "--timeout", "0.3", "--retries", "0", "--json")
    code, out, _ = farm(*SMALL, *arguments, GATE=0)
    told = json.loads(out)
    assert (code, told["failed"][0]["kind"], told["overdue"]) == (1, "JobTimeoutError", 1)


# Stopping.

# One worker and two slots: when 12 of 16 are there, job 12 is at the gate and job 13 behind it.
GATED = ("mine:render", "--size", "64x36", "--workers", "1", "--slots", "2", "--frames", "0-15")


def stopped_at_the_gate(start: Start, *arguments: object) -> subprocess.Popen[str]:
    process = start(*GATED, *arguments, GATE=12)
    until(process, "rendered 12 of 16", "at the gate")
    return process


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("to_all", [False, True])
def test_the_first_signal_lets_what_is_under_way_finish(
    start: Start, folder: Path, number: int, code: int, *, to_all: bool
) -> None:
    """Nothing more is begun, the film is complete as far as it goes; whoever gets the signal."""
    process = stopped_at_the_gate(start, "--out", "f.mp4")
    if to_all and number == signal.SIGINT:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    until(process, "stopping: what is under way", stream="stderr")
    with open_gate(folder):
        out, _ = process.communicate()
    assert process.returncode == code
    left = re.search(r"(\d+) done, (\d+) left", out)
    assert left is not None
    assert int(left[1]) + int(left[2]) == 16
    assert 13 <= int(left[1]) <= 14
    is_film(folder / "f.mp4", int(left[1]))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_to_the_whole_group_leaves_a_film(
    start: Start, folder: Path, number: int, code: int
) -> None:
    """Workers die of it and are replaced, the encoder does not, nor does the resource tracker."""
    process = stopped_at_the_gate(start, "--out", "f.mp4", "--retries", "9")
    os.killpg(process.pid, number)
    until(process, "stopping: what is under way", stream="stderr")
    with open_gate(folder):
        out, error = process.communicate()
    assert process.returncode == code, error
    assert "resource_tracker" not in error
    done = re.search(r"(\d+) done", out)
    assert done is not None
    is_film(folder / "f.mp4", int(done[1]))


@pytest.mark.parametrize("kind", ["f.mp4", "f-%02d.png", "f.npy", None])
def test_the_second_signal_stops_at_once(start: Start, folder: Path, kind: str | None) -> None:
    """A job that will not end is not waited for; what is there can be read."""
    process = stopped_at_the_gate(start, *(["--out", kind] if kind else []))
    process.send_signal(signal.SIGINT)
    until(process, "stopping: what is under way", stream="stderr")
    process.send_signal(signal.SIGINT)
    out, error = process.communicate()
    assert process.returncode == 130
    assert "stopping at once" in error
    assert "12 done, 4 left" in out
    if kind == "f.mp4":
        is_film(folder / kind, 12)
    if kind == "f.npy":
        assert (np.load(folder / kind)[11] == painted(11)).all()


def test_a_signal_stops_at_once_only_where_that_is_allowed() -> None:
    """The first drains; more of them raise once, and not while an output is closed."""
    said: list[str] = []
    drained: list[int] = []
    with Stops(said.append) as stops:
        stops.drain = lambda: drained.append(1)
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        assert (len(said), drained, stops.code) == (1, [1], 143)
        stops.armed = True
        signal.raise_signal(signal.SIGHUP)  # which comes twice to a shell's jobs
        assert (len(said), stops.code) == (1, 143)
        stops.armed = True
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
    assert (len(said), drained, stops.code) == (2, [1], 143)


def test_a_terminal_that_goes_away_is_not_written_to(folder: Path) -> None:
    """The film has what was done by then, and the exit code says why."""
    leader, terminal = pty.openpty()
    command = [sys.executable, "-m", "shmpool", "farm", *GATED, "--out", "f.mp4"]
    process = subprocess.Popen(
        command, cwd=folder, stdin=terminal, stdout=terminal, stderr=terminal,
        env=os.environ | {"PYTHONPATH": str(ROOT), "GATE": "12", "TERM": "dumb"},
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509
    )  # fmt: skip
    os.close(terminal)
    screen = b""
    while b"at the gate" not in screen:
        more = _read_terminal(leader)
        assert more, screen
        screen += more
    os.close(leader)
    with open_gate(folder):
        assert process.wait() == 129
    assert 12 <= len(frames_of(folder / "f.mp4")) <= 14


# Going on.


@pytest.mark.parametrize("out", ["f.mp4", "f-%02d.png", "f.npy"])
def test_a_run_that_was_interrupted_is_gone_on_with(
    start: Start, farm: Farm, folder: Path, out: str
) -> None:
    """Only what is not done is done; the output is that of one run, and nothing else stays."""
    process = stopped_at_the_gate(start, "--out", out, "--resume")
    process.send_signal(signal.SIGINT)
    until(process, "stopping: what is under way", stream="stderr")
    process.send_signal(signal.SIGINT)
    process.communicate()
    assert sum("job" in record for record in records(folder / f"{out}.journal")[1:]) == 12
    code, text, _ = farm(*GATED, "--out", out, "--resume", "--json")
    assert code == 0
    told = json.loads(text)
    assert (told["skipped"], told["done"]) == (12, 4)
    whole(folder, out, 16)


def whole(folder: Path, out: str, count: int) -> None:
    """The output is complete, and neither journal nor parts nor unfinished files are there."""
    if out == "f.mp4":
        is_film(folder / out, count)
    elif out == "f.npy":
        assert (np.load(folder / out) == [painted(job) for job in range(count)]).all()
    else:
        for job in range(count):
            assert (np.asarray(Image.open(folder / (out % job))) == painted(job)).all()
    mine = {path.name for path in folder.iterdir()} - {"gate", "__pycache__"}
    assert {name for name in mine if not name.endswith(".py")} == (
        {out % job for job in range(count)} if "%" in out else {out}
    )


@pytest.mark.parametrize("out", ["f.mp4", "f-%02d.png", "f.npy"])
def test_a_run_that_was_killed_with_all_its_processes_is_gone_on_with(
    start: Start, farm: Farm, folder: Path, out: str
) -> None:
    """What the journal and the parts say is done; the killed run's shared memory is removed."""
    process = stopped_at_the_gate(start, "--out", out, "--resume")
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    lines = records(folder / f"{out}.journal")
    left = next(record["pool"] for record in lines if "pool" in record)
    shm = Path("/dev/shm")  # noqa: S108 - where POSIX shared memory is
    assert any(left in path.name for path in shm.iterdir())  # its resource tracker is dead, too
    code, text, _ = farm(*GATED, "--out", out, "--resume", "--json")
    assert code == 0
    told = json.loads(text)
    assert told["skipped"] + told["done"] == 16
    assert out == "f.mp4" or told["skipped"] == 12
    whole(folder, out, 16)
    assert not any(left in path.name for path in shm.iterdir())


def test_a_film_keeps_the_frames_that_a_killed_encoder_had_written(
    start: Start, farm: Farm, folder: Path
) -> None:
    """All but those that it still held: the part's good beginning is joined with the rest."""
    arguments = ("mine:render", "--size", "256x144", "--workers", "1", "--slots", "3",
                 "--frames", "0-79", "--out", "f.mp4", "--resume")  # fmt: skip
    process = start(*arguments, GATE=70)
    until(process, "rendered 70 of 80")
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    code, text, _ = farm(*arguments, "--json")
    told = json.loads(text)
    assert code == 0
    assert 0 < told["skipped"] < 70
    assert told["skipped"] + told["done"] == 80
    is_film(folder / "f.mp4", 80, (256, 144))
    with av.open(str(folder / "f.mp4")) as made:
        packets = [p for p in made.demux(video=0) if p.dts is not None and p.pts is not None]
    assert all(packet.dts <= packet.pts for packet in packets)
    assert len({packet.dts for packet in packets}) == 80


def test_what_failed_is_done_by_the_next_run(farm: Farm, folder: Path) -> None:
    """The journal stays until all is done."""
    arguments = ("--frames", "0-9", "--out", "f-%02d.png", "--resume", "--json")
    assert farm(*SMALL, *arguments, "--on-error", "continue", FAILS=5)[0] == 1
    code, text, _ = farm(*SMALL, *arguments)
    assert (code, json.loads(text)["skipped"], json.loads(text)["done"]) == (0, 9, 1)
    whole(folder, "f-%02d.png", 10)


def test_a_still_that_somebody_removed_is_rendered_again(farm: Farm, folder: Path) -> None:
    """The journal says it is done; it is not there."""
    arguments = ("--frames", "0-9", "--out", "f-%02d.png", "--resume", "--json")
    farm(*SMALL, *arguments, "--on-error", "continue", FAILS=5)
    (folder / "f-03.png").unlink()
    assert json.loads(farm(*SMALL, *arguments)[1])["done"] == 2
    whole(folder, "f-%02d.png", 10)


def test_a_journal_with_a_torn_last_line_is_read(farm: Farm, folder: Path) -> None:
    """The job of that line is done again, and lines that follow are whole."""
    arguments = ("--frames", "0-9", "--out", "f-%02d.png", "--resume", "--json")
    farm(*SMALL, *arguments, "--on-error", "continue", FAILS=5)
    path = folder / "f-%02d.png.journal"
    path.write_bytes(path.read_bytes()[:-7])
    text = farm(*SMALL, *arguments, "--on-error", "continue", FAILS=5)[1]
    assert json.loads(text)["skipped"] == 8
    assert json.loads(farm(*SMALL, *arguments)[1])["skipped"] == 9
    whole(folder, "f-%02d.png", 10)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (["--size", "32x36"], "size was [64, 36], is [32, 36]"),
        (["--frames", "0-11"], "jobs was 10, is 12"),
        (["--frames", "1-10"], "is not the one that"),
        (["--set", "plus=1"], "settings was {}, is {'plus': 1}"),
    ],
)
def test_another_command_does_not_go_on_with_a_journal(
    farm: Farm, folder: Path, change: list[str], told: str
) -> None:
    """It is told what is different."""
    arguments = ("--frames", "0-9", "--out", "f.npy", "--resume")
    farm(*SMALL, *arguments, "--on-error", "continue", FAILS=5)
    before = (folder / "f.npy.journal").read_bytes()
    code, _, error = farm(*SMALL, *arguments, *change)
    assert code == 2
    assert told in error
    assert (folder / "f.npy.journal").read_bytes() == before


def test_a_journal_is_not_overwritten_by_a_run_that_does_not_go_on(farm: Farm) -> None:
    """It is somebody's work."""
    arguments = ("--frames", "0-9", "--out", "f.npy")
    farm(*SMALL, *arguments, "--resume", "--on-error", "continue", FAILS=5)
    code, _, error = farm(*SMALL, *arguments)
    assert code == 2
    assert "go on with --resume, or remove it" in error


def test_two_runs_do_not_work_on_one_journal(start: Start, farm: Farm, folder: Path) -> None:
    """The second is told."""
    process = stopped_at_the_gate(start, "--out", "f.npy", "--resume")
    code, _, error = farm(*GATED, "--out", "f.npy", "--resume")
    process.send_signal(signal.SIGTERM)
    with open_gate(folder):
        process.communicate()
    assert (code, process.returncode) == (2, 143)
    assert "another run works on it" in error


# Parts.


def test_a_journal_that_is_damaged_is_refused(tmp_path: Path) -> None:
    """Only a last line may be torn."""
    path = tmp_path / "x.journal"
    path.write_text('{"a": 1}\nnonsense\n{"job": 0}\n')
    with pytest.raises(UsageError, match="line 2 is damaged"):
        journal.Journal(path, {"a": 1})


@pytest.mark.parametrize(
    "line", ['{"job": 0}', '{"job": "0", "digest": "d"}', '{"part": 0}', '{"closed": 0}', "[]"]
)
def test_a_line_that_lacks_something_is_damaged(tmp_path: Path, line: str) -> None:
    """As told, not as a KeyError later."""
    path = tmp_path / "x.journal"
    path.write_text(f'{{"a": 1}}\n{line}\n')
    with pytest.raises(UsageError, match="line 2 is damaged"):
        journal.Journal(path, {"a": 1})


def test_a_journal_that_cannot_be_kept_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything starts: it cannot be opened, or its disk is full."""

    def full(_fd: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(UsageError, match=r"cannot be kept: .*Is a directory"):
        journal.Journal(tmp_path, {"a": 1})
    monkeypatch.setattr(os, "fdatasync", full)
    with pytest.raises(UsageError, match=r"cannot be kept: .*No space left"):
        journal.Journal(tmp_path / "x.journal", {"a": 1})


@pytest.mark.parametrize("text", ["somebody's", "some\nbody's", '{"a": 2', '{"a": 2}\n{"x"', "1\n"])
def test_what_somebody_else_wrote_is_no_journal_and_stays(tmp_path: Path, text: str) -> None:
    """To the last byte, also behind the last newline."""
    path = tmp_path / "x.journal"
    path.write_text(text)
    with pytest.raises(UsageError, match="remove"):
        journal.Journal(path, {"a": 1})
    assert path.read_text() == text


@pytest.mark.parametrize("length", range(9))
def test_a_header_of_ours_may_be_torn_anywhere(tmp_path: Path, length: int) -> None:
    """It is written anew."""
    path = tmp_path / "x.journal"
    path.write_text('{"a": 1}'[:length])
    journal.Journal(path, {"a": 1}).close()
    assert path.read_text() == '{"a": 1}\n'


def test_a_digest_tells_jobs_apart() -> None:
    """Equal jobs have equal digests, whatever the order of their keys."""
    some = jobs.Jobs(range(4), [{"a": 1, "b": 2}, {"b": 2, "a": 1}, {"a": 1}, whitted.Shot(1, 2)])
    digests = [some.digest(place) for place in range(4)]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3
    assert jobs.Jobs([0], [whitted.Shot(1, 2)]).digest(0) == digests[3]


def test_frames_of_a_part_that_is_no_film_do_not_count(tmp_path: Path) -> None:
    """Nor do those of one that is not there."""
    (tmp_path / "x.ts").write_bytes(b"nonsense" * 100)
    assert film.whole_frames(tmp_path / "x.ts", 24, torn=True) == 0
    assert film.whole_frames(tmp_path / "y.ts", 24, torn=True) == 0


def encode_moving(path: Path, count: int) -> None:
    """A picture that moves, so that frames are told by those before and after them."""
    picture = np.random.default_rng(0).integers(0, 256, (9, 20, 3), np.uint8).repeat(8, 0)
    picture = picture.repeat(8, 1)
    with av.open(str(path), "w") as made:
        stream: Any = made.add_stream("libx264", rate=24)
        stream.width, stream.height, stream.pix_fmt = 160, 72, "yuv420p"
        stream.options = {"crf": "20", "preset": "fast"}
        for number in range(count):
            moved = np.ascontiguousarray(np.roll(picture, number, 1))
            frame = av.VideoFrame.from_ndarray(moved, "rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 24)
            made.mux(stream.encode(frame))
        made.mux(stream.encode(None))


def test_what_is_kept_of_a_torn_part_is_as_it_was_wherever_it_is_torn(tmp_path: Path) -> None:
    """Joined with another part, its frames are decoded bit by bit as from the whole one."""
    encode_moving(tmp_path / "whole.ts", 48)
    encode_moving(tmp_path / "next.ts", 5)
    data, pictures = (tmp_path / "whole.ts").read_bytes(), frames_of(tmp_path / "whole.ts")
    after = frames_of(tmp_path / "next.ts")
    torn, joined = tmp_path / "torn.ts", tmp_path / "joined.mp4"
    kept = []
    for cut in range(0, len(data), len(data) // 24):
        torn.write_bytes(data[:cut])
        kept.append(film.whole_frames(torn, 24, torn=True))
        parts = [film.Part(torn, kept[-1])] if kept[-1] else []
        film.join([*parts, film.Part(tmp_path / "next.ts", 5)], joined, 24)
        found = frames_of(joined)
        assert len(found) == kept[-1] + 5
        wanted = pictures[: kept[-1]] + after
        assert all((one == two).all() for one, two in zip(found, wanted, strict=True))
    assert kept == sorted(kept)
    assert 24 < kept[-1] < 48
    assert film.whole_frames(tmp_path / "whole.ts", 24, torn=False) == 48


def test_lines_of_jobs_end_where_json_lines_do(tmp_path: Path) -> None:
    """Not at other separators of Unicode, which may stand in texts. A mark in front is no text."""
    path = tmp_path / "jobs.jsonl"
    path.write_bytes('\ufeff"a\u2028b\x85c"\r\n\n[1]\n'.encode())
    assert jobs.of_lines(str(path)).values == ["a\u2028b\x85c", [1]]


def test_a_million_frames_are_parsed_in_one_go() -> None:
    """Each is looked at once; one that is asked for twice is found among however many."""
    assert len(values.frames("0-999999").numbers) == 1_000_000
    with pytest.raises(argparse.ArgumentTypeError, match="frame 7 is asked for twice"):
        values.frames("0-999999,7")


def test_frames_are_ranges() -> None:
    """Of a whole, which is as long as it has to be if nobody says."""
    assert values.frames("0-10:5,20/99") == values.Frames((0, 5, 10, 20), 99)
    assert values.frames("7") == values.Frames((7,), 8)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_completion_script_names_every_option(shell: str) -> None:
    """And the commands."""
    command = [sys.executable, "-m", "shmpool", "--completion", shell]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    for word in ("farm", "resume", "on-error", "frames", "top", "svg", "interval"):
        assert word in done.stdout
    if shell == "bash":
        subprocess.run(["/bin/bash", "-n"], input=done.stdout, text=True, check=True)


def test_the_help_says_the_exit_codes() -> None:
    """All of them."""
    command = [sys.executable, "-m", "shmpool", "farm", "--help"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for code in (0, 1, 2, 3, 130, 143):
        assert re.search(rf"^  {code} +\w", told, re.MULTILINE)
    assert parser().prog == "shmpool"
