"""`shmpool top`: pools in every state, live on a terminal and printed once; nothing is written."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from outside import SHM, UNREADABLE, as_json, bytes_of, changed, told
from terminals import ROOT, Terminal, plain

from shmpool import Pool, _core, _look
from shmpool.cli import main

root = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces and other users take root")
MakePool = Callable[..., Pool]
FAST = "--interval=0.25"


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    """80 columns, 24 lines."""
    terminal = Terminal()
    yield terminal
    terminal.close()


def without_rich(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command where rich is not installed."""
    program = "import sys; sys.modules['rich'] = None; from shmpool.cli import main; exit(main())"
    command = [sys.executable, "-c", program, "top", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


# Once.


def test_a_pool_is_printed_once(capsys: pytest.CaptureFixture[str], make_pool: MakePool) -> None:
    """Its map, queues, members and holds; no line is longer than the 80 columns of no terminal."""
    pool = make_pool(member_name="boss")
    held = pool.acquire()
    pool.queue("a").put(pool.acquire())
    text = told(capsys, "top", pool.name, "--once", FAST)
    for words in ("2 free", "1 leased", "1 queued", "0 ■a »a", "boss", "1 held: longest first"):
        assert words in text
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 80
    held.release()
    pool.queue("a").get().release()


def test_elsewhere_than_on_a_terminal_it_is_printed_once(
    capsys: pytest.CaptureFixture[str], pool: Pool
) -> None:
    """As in a pipe, without being asked to."""
    assert "4 free" in told(capsys, "top", pool.name, FAST)


def test_the_model_is_printed_as_json(capsys: pytest.CaptureFixture[str], pool: Pool) -> None:
    """A letter a slot, and the numbers that the pool gives of itself."""
    held = pool.acquire()
    shown = as_json(capsys, "top", pool.name, FAST)
    assert shown["states"] == "LFFF"
    assert shown["by_state"]["leased"] == 1
    assert [(hold["slot"], hold["pid"]) for hold in shown["longest"]] == [(0, os.getpid())]
    assert shown["seconds"] >= 0.25
    assert shown["members"][0]["held"] == 1
    held.release()


def test_a_picture_is_saved(capsys: pytest.CaptureFixture[str], pool: Pool, tmp_path: Path) -> None:
    """Vectors, of the size that was asked for; or it is told why not."""
    picture = tmp_path / "top.svg"
    told(capsys, "top", pool.name, FAST, "--svg", str(picture), "--size", "90x30")
    assert picture.read_text().startswith("<svg")
    assert pool.name in picture.read_text()
    assert "No such file" in told(capsys, "top", pool.name, FAST, "--svg", "/no/where", code=1)


def test_without_rich_there_is_json_and_else_the_remedy(pool: Pool) -> None:
    """What is missing can be installed."""
    done = without_rich(pool.name, FAST)
    assert (done.returncode, done.stdout) == (2, "")
    assert "pip install 'shmpool[look]'" in done.stderr
    assert json.loads(without_rich(pool.name, FAST, "--json").stdout)["slots"] == 4


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["no-such-pool"], 1, "there is no pool 'no-such-pool'"),
        (["../etc/passwd"], 1, "no name of a pool"),
    ],
)
def test_what_is_no_pool_is_told(
    capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, words: str
) -> None:
    """In the words of `inspect`, and with its code."""
    assert words in told(capsys, "top", *arguments, code=code)


@pytest.mark.parametrize("interval", ["0.1", "0", "-1", "nan", "soon"])
def test_an_interval_is_a_quarter_of_a_second_or_more(
    capsys: pytest.CaptureFixture[str], interval: str
) -> None:
    """Nobody reads more than four pictures a second."""
    with pytest.raises(SystemExit) as ended:
        main(["top", "x", f"--interval={interval}"])
    assert ended.value.code == 2
    assert "seconds" in capsys.readouterr().err


@pytest.mark.parametrize(("at", "data", "size", "words"), UNREADABLE.values(), ids=UNREADABLE)
@pytest.mark.parametrize("how", ["--once", "--json"])
def test_a_pool_that_cannot_be_read_is_told(
    capsys: pytest.CaptureFixture[str],
    left_behind: Callable[..., str],
    at: int,
    data: bytes,
    size: int | None,
    words: str,
    how: str,
) -> None:
    """The reason is that of attaching to it."""
    name = left_behind("top-orphan")
    with changed(SHM / name, at, data, size):
        assert words in told(capsys, "top", name, how, FAST, code=1)


@root
def test_a_pool_of_another_user_is_told(capsys: pytest.CaptureFixture[str], pool: Pool) -> None:
    """Even to root, who could read it."""
    os.chown(SHM / pool.name, 65534, 65534)
    try:
        assert "belongs to uid 65534" in told(capsys, "top", pool.name, code=1)
    finally:
        os.chown(SHM / pool.name, os.geteuid(), os.getegid())


def test_an_orphan_is_shown(
    capsys: pytest.CaptureFixture[str], left_behind: Callable[..., str]
) -> None:
    """As such, with what it had put into a queue."""
    text = told(capsys, "top", left_behind("top-orphan"), "--once", FAST)
    assert "ORPHANED" in text
    assert "dead" in text
    assert "1 queued" in text


def test_tables_of_noise_are_shown_or_refused(
    capsys: pytest.CaptureFixture[str],
    left_behind: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever others wrote there: no error but ours, and no control character on the terminal."""
    monkeypatch.setattr("time.sleep", lambda _: None)
    name = left_behind("top-orphan")
    at, rng = _core.layout(_look.look(name).spec.counts), np.random.default_rng(7)
    for _ in range(40):
        noise = rng.integers(0, 256, at["total_size"] - at["status"], np.uint8)
        noise[rng.random(noise.size) < rng.choice([0.0, 0.5, 0.99])] = 0
        members = at["members"] - at["status"]
        for entry in range(3 if rng.random() < 0.8 else 0):
            sane = list(struct.pack("<Q", os.getpid() << 8 | 2))
            noise[members + 256 * entry : members + 256 * entry + 8] = sane
        with changed(SHM / name, at["status"], noise.tobytes()):
            for how in ("--once", "--json"):
                assert main(["top", name, how]) in (0, 1, 3)
                text = capsys.readouterr()
                assert (text.out + text.err).replace("\n", "").isprintable()


@pytest.mark.parametrize("how", ["--once", "--json"])
def test_a_pool_that_is_closed_between_two_looks_is_told(
    capsys: pytest.CaptureFixture[str],
    make_pool: MakePool,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
) -> None:
    """It is shown as it was in the end; the exit code says that there is none any more."""
    pool = make_pool()
    monkeypatch.setattr("time.sleep", lambda _: pool.close())
    text = told(capsys, "top", pool.name, how, code=3)
    assert '"state": "closed"' in text or "CLOSED" in text
    assert "was closed by its coordinator; in the end 0 of its 4 slots were in use" in text


def test_a_reader_that_has_seen_enough_is_no_error(pool: Pool) -> None:
    """A closed pipe: nothing on stderr, and the exit code of SIGPIPE."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "shmpool", "top", pool.name, FAST]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False, cwd=ROOT)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def test_an_encoding_that_lacks_symbols_gets_others(pool: Pool) -> None:
    """ASCII has none of them: no error, and still a sign for each state."""
    pool.queue("a").put(pool.acquire())
    command = [sys.executable, "-m", "shmpool", "top", pool.name, FAST]
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = subprocess.run(command, capture_output=True, check=True, cwd=ROOT, env=environment)
    assert b"> 1 queued" in done.stdout
    assert b"0 >a" in done.stdout
    pool.queue("a").get().release()


@pytest.mark.parametrize("command", ["top", "inspect"])
def test_a_shell_completes_the_names_of_pools(pool: Pool, command: str) -> None:
    """Of commands that take one; of others none."""
    script = f"""
        source /dev/stdin
        for COMP_WORDS in "shmpool {command} {pool.name[:-2]}" "shmpool gc {pool.name[:-2]}"; do
            COMP_WORDS=($COMP_WORDS) COMP_CWORD=2
            _shmpool
            echo "<${{COMPREPLY[*]}}>"
        done
    """
    written = subprocess.run(
        [sys.executable, "-m", "shmpool", "--completion", "bash"],
        capture_output=True, text=True, check=True, cwd=ROOT,
    ).stdout  # fmt: skip
    shell = ["/bin/bash", "-c", script]
    done = subprocess.run(shell, input=written, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [f"<{pool.name}>", "<>"]


# Nothing is written.


def test_no_byte_of_a_pool_is_changed(left_behind: Callable[..., str], terminal: Terminal) -> None:
    """Nor an index taken, by a live screen over a pool in which nobody else writes."""
    name = left_behind("top-orphan")
    before = bytes_of(name)
    process = terminal.top(name, FAST)
    terminal.wait_for("quit", times=3)
    assert bytes_of(name) == before
    terminal.type("q")
    assert terminal.end(process) == 0
    assert bytes_of(name) == before


def test_a_live_screen_has_descriptors_to_read_and_no_mapping(
    pool: Pool, terminal: Terminal
) -> None:
    """By what the system says of the process: nothing of the pool is open to write, or mapped."""
    process = terminal.top(pool.name, FAST)
    proc = Path(f"/proc/{process.pid}")
    os.kill(process.pid, signal.SIGSTOP)  # whatever it is about
    os.waitpid(process.pid, os.WUNTRACED)
    flags = {}
    for fd in (proc / "fd").iterdir():
        if (what := fd.readlink()).parent == SHM:
            said = (proc / "fdinfo" / fd.name).read_text()
            flags[what] = int(said.split("flags:")[1].split()[0], 8)
    assert list(flags) == [SHM / pool.name]
    assert [value & os.O_ACCMODE for value in flags.values()] == [os.O_RDONLY]
    assert str(SHM) not in (proc / "maps").read_text()
    os.kill(process.pid, signal.SIGCONT)
    members = as_json_of(pool.name)["members"]
    assert [member["pid"] for member in members] == [os.getpid()]
    terminal.type("q")
    assert terminal.end(process) == 0


def as_json_of(name: str) -> Any:
    """What `inspect` says of a pool."""
    command = [sys.executable, "-m", "shmpool", "inspect", name, "--json"]
    return json.loads(subprocess.run(command, capture_output=True, check=True, cwd=ROOT).stdout)


@root
@pytest.mark.parametrize("how", ["--once", "--json"])
def test_it_works_where_the_system_refuses_every_write(pool: Pool, how: str) -> None:
    """On a /dev/shm that is mounted read-only nobody can join; it shows the same."""
    mounted = "mount --bind /dev/shm /dev/shm && mount -o remount,bind,ro /dev/shm && exec "
    join = f"import shmpool; shmpool.Pool.attach({pool.name!r})"
    commands = {
        "join": [sys.executable, "-c", join],
        "look": [sys.executable, "-m", "shmpool", "top", pool.name, how, FAST],
    }
    done = {
        what: subprocess.run(
            ["/usr/bin/env", "unshare", "-m", "sh", "-c", f'{mounted}"$@"', "sh", *command],
            capture_output=True, text=True, check=False, cwd=ROOT,
        )
        for what, command in commands.items()
    }  # fmt: skip
    assert "Read-only file system" in done["join"].stderr
    assert (done["look"].returncode, done["look"].stderr) == (0, "")
    assert pool.name in done["look"].stdout


# Live.


def test_keys_do_what_the_help_says(make_pool: MakePool, terminal: Terminal) -> None:
    """Sorting, pausing, help, quitting."""
    pool = make_pool()
    process = terminal.top(pool.name, FAST)
    for key, words in (
        ("s", "sort: held"), ("r", "by held, reversed"), ("?", "released by its owner"),
        ("h", "4 slots"), ("p", "PAUSED"), ("\x1b[B", "PAUSED"), (" ", "pause"),
        ("q", "\x1b[?1049l"),
    ):  # fmt: skip
        terminal.type(key)
        terminal.wait_for(words)
    assert terminal.end(process) == 0
    terminal.check_given_back()


def test_a_paused_screen_holds_still(pool: Pool, terminal: Terminal) -> None:
    """What changes meanwhile is not shown until it goes on."""
    process = terminal.top(pool.name, FAST)
    terminal.type("p")
    terminal.wait_for("PAUSED")
    held = pool.acquire()
    assert "4 free" in plain(terminal.wait_for("quit", times=2))
    terminal.type("p")
    terminal.wait_for("■a")
    held.release()
    terminal.type("q")
    assert terminal.end(process) == 0


@pytest.mark.parametrize(
    ("end", "code"),
    [("q", 0), ("\x03", 130), (signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)],
)
def test_the_terminal_is_given_back(
    pool: Pool, terminal: Terminal, end: str | signal.Signals, code: int
) -> None:
    """Whichever way it ends; while it runs, keys are not echoed."""
    process = terminal.top(pool.name, FAST)
    assert not termios.tcgetattr(terminal.theirs)[3] & (termios.ECHO | termios.ICANON)
    if isinstance(end, str):
        terminal.type(end)
    else:
        process.send_signal(end)
    assert terminal.end(process) == code
    terminal.check_given_back()


def test_after_an_error_of_ours_the_terminal_is_given_back(pool: Pool, terminal: Terminal) -> None:
    """And the error is to be read on it."""
    program = """
import sys
from shmpool.cli import main, screen
draw, pictures = screen.draw, iter(range(2))
def fail(*arguments):
    return draw(*arguments) if next(pictures, None) is not None else 1 / 0
screen.draw = fail
main(sys.argv[1:])
"""
    process = terminal.start(sys.executable, "-c", program, "top", pool.name, FAST)
    assert terminal.end(process) == 1
    terminal.check_given_back()
    assert "ZeroDivisionError" in terminal.seen.rpartition("\x1b[?1049l")[2]


def test_a_pool_that_is_closed_ends_it(make_pool: MakePool, terminal: Terminal) -> None:
    """With a last line that says so, and an exit code of its own."""
    pool = make_pool()
    process = terminal.top(pool.name, FAST)
    pool.close()
    assert terminal.end(process) == 3
    terminal.check_given_back()
    last = plain(terminal.seen.rpartition("\x1b[?1049l")[2])
    assert last.strip() == (
        f"shmpool top: pool {pool.name!r} was closed by its coordinator; in the end 0 of its 4 "
        f"slots were in use"
    )


def test_a_pool_that_is_cut_ends_it(left_behind: Callable[..., str], terminal: Terminal) -> None:
    """No SIGBUS; the reason, and exit code 1."""
    name = left_behind("top-orphan")
    process = terminal.top(name, FAST)
    with changed(SHM / name, size=4096):
        assert terminal.end(process) == 1
    terminal.check_given_back()
    assert "truncated" in terminal.seen


def test_a_pool_whose_coordinator_dies_goes_on_without_its_name(
    left_behind: Callable[..., str], terminal: Terminal
) -> None:
    """An orphan is shown for as long as one looks, also when its names have been removed."""
    name = left_behind("top-orphan")
    process = terminal.top(name, FAST)
    assert "ORPHANED" in plain(terminal.seen)
    for path in [*SHM.glob(f"{name}*"), *SHM.glob(f"sem.{name}.*")]:
        path.unlink()
    terminal.wait_for("its name is gone")
    terminal.type("q")
    assert terminal.end(process) == 0


def test_it_takes_the_size_of_the_terminal(pool: Pool, terminal: Terminal) -> None:
    """At once when that changes, larger and smaller."""
    process = terminal.top(pool.name, "--interval=600")  # nothing but the change makes it draw
    for columns, lines in ((120, 40), (60, 12), (20, 5)):
        terminal.resize(columns, lines)
        terminal.wait_for(f"\x1b[{lines};1H")
    terminal.type("q")
    assert terminal.end(process) == 0
    terminal.check_given_back()


def test_it_stops_and_goes_on_as_shells_have_it(pool: Pool, terminal: Terminal) -> None:
    """^Z gives the terminal back to the shell, fg takes it again."""
    top = f"{sys.executable} -m shmpool top {pool.name} {FAST}"
    script = f"set -m; {top}; echo STOPPED $?; read line; fg; echo ENDED $?"
    process = terminal.start("/bin/bash", "-c", script)
    terminal.wait_for("quit")
    terminal.type("\x1a")
    terminal.wait_for("STOPPED 148")
    terminal.check_given_back()
    terminal.type("\n")
    terminal.wait_for("\x1b[?1049h")
    terminal.wait_for("quit", times=2)
    terminal.type("q")
    assert terminal.end(process) == 0
    assert "ENDED 0" in terminal.seen
    terminal.check_given_back()


def test_who_is_stopped_unseen_takes_the_terminal_again(pool: Pool, terminal: Terminal) -> None:
    """SIGSTOP tells nobody; whatever others did to the terminal, SIGCONT undoes it."""
    process = terminal.top(pool.name, FAST)
    process.send_signal(signal.SIGSTOP)
    os.waitpid(process.pid, os.WUNTRACED)
    termios.tcsetattr(terminal.theirs, termios.TCSANOW, terminal.before)
    process.send_signal(signal.SIGCONT)
    terminal.wait_for("\x1b[?1049h")
    terminal.wait_for("quit")
    assert not termios.tcgetattr(terminal.theirs)[3] & termios.ECHO
    terminal.type("q")
    assert terminal.end(process) == 0
    assert termios.tcgetattr(terminal.theirs) == terminal.before


def test_a_terminal_that_is_closed_ends_it(pool: Pool, terminal: Terminal) -> None:
    """Without a word, for there is nobody to hear it."""
    process = terminal.top(pool.name, FAST)
    terminal.hang_up()
    assert process.wait() == 129


def test_without_keys_signals_end_it(pool: Pool, terminal: Terminal) -> None:
    """Stdin is no terminal: it shows the pool all the same."""
    with Path(os.devnull).open() as nothing:
        process = terminal.top(pool.name, FAST, stdin=nothing)
    process.send_signal(signal.SIGTERM)
    assert terminal.end(process) == 143
    terminal.check_given_back()


def test_without_colours_symbols_say_it(pool: Pool, terminal: Terminal) -> None:
    """NO_COLOR: no colour is set, and the map is the same."""
    pool.queue("a").put(pool.acquire())
    process = terminal.top(pool.name, FAST, NO_COLOR="1")
    terminal.type("q")
    assert terminal.end(process) == 0
    assert "38;" not in terminal.seen
    assert "48;" not in terminal.seen
    assert "0 »a" in plain(terminal.seen)
    pool.queue("a").get().release()


def test_a_terminal_that_can_do_nothing_gets_it_once(pool: Pool, terminal: Terminal) -> None:
    """TERM=dumb: text, and the end."""
    command = [sys.executable, "-m", "shmpool", "top", pool.name, FAST]
    process = terminal.start(*command, TERM="dumb")
    assert terminal.end(process) == 0
    assert "4 free" in terminal.seen
    assert "\x1b[?" not in terminal.seen
