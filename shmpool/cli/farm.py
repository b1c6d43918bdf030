"""The command `shmpool farm`: a function, many jobs, all cores, and an output."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from shmpool.cli import jobs, outputs, values
from shmpool.cli.exits import DONE, EXPLAINED, UsageError
from shmpool.cli.jobs import Jobs
from shmpool.cli.journal import Journal
from shmpool.cli.outputs import Output
from shmpool.cli.report import Report
from shmpool.cli.run import Plan, Run
from shmpool.cli.target import Target, load, shipped

_ABOUT = """\
Run function(job, frame) for many jobs in worker processes. frame is a (height, width, 3) uint8
array over shared memory, to be filled with RGB pixels.
"""


def add(commands: Any) -> None:
    """Add the parser."""
    codes = "\n".join(f"  {code:<4} {text}" for code, text in EXPLAINED.items())
    parser = commands.add_parser(
        "farm",
        help="run a function over many jobs on all cores",
        description=_ABOUT,
        epilog=f"exit codes:\n{codes}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument("target", nargs="?", metavar="MODULE:FUNCTION")
    parser.add_argument("stdin", nargs="?", metavar="-", help="jobs on stdin")
    parser.parse_known_args = partial(_with_stdin_anywhere, parser.parse_known_args)
    _add_work(parser)
    _add_limits(parser)
    parser.add_argument("--json", action="store_true", help="a JSON object on stdout at the end")
    parser.add_argument("--list", action="store_true", help="show the renderers that ship")


def _with_stdin_anywhere(
    parse: Callable[..., tuple[argparse.Namespace, list[str]]], *arguments: Any
) -> tuple[argparse.Namespace, list[str]]:
    """Parse; a `-` may stand behind options, where argparse leaves it over, or be first."""
    options, left = parse(*arguments)
    words = [word for word in (options.target, options.stdin) if word is not None] + left
    options.target = options.stdin = None
    if jobs.STDIN in words:
        words.remove(jobs.STDIN)
        options.stdin = jobs.STDIN
    if words and not words[0].startswith("-"):
        options.target = words.pop(0)
    return options, words


def _add_work(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("work").add_argument
    add("--frames", type=values.frames, metavar="RANGE", help="0-239, 0-100:10, 5, 0-9,20-29/240")
    add("--jobs", metavar="FILE", help="a JSON value a line; - for stdin")
    add(
        "--set", type=values.setting, action="append", default=[], metavar="NAME=VALUE",
        help="a setting of the renderer; may be given again",
    )  # fmt: skip
    add("--size", type=values.size, default=(480, 270), metavar="WxH", help="default 480x270")
    add("--out", metavar="OUT", help="film.mp4, still-%%04d.png, frames.npy, or - for raw bytes")
    add("--fps", type=values.positive, default=24, metavar="N", help="of a film (default 24)")
    add("--resume", action="store_true", help="keep a journal, and go on where one ends")
    add(
        "--on-error", choices=("stop", "continue"), default="stop", metavar="WHAT",
        help="stop (default) or continue when a job fails",
    )  # fmt: skip


def _add_limits(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("limits").add_argument
    add("--workers", type=values.positive, metavar="N", help="processes (default: one a CPU)")
    add("--slots", type=values.positive, metavar="N", help="frames at a time (2 a worker, and 2)")
    add("--retries", type=values.natural, default=2, metavar="N", help="after a worker's death (2)")
    add("--timeout", type=values.seconds, metavar="S", help="seconds that a job may take")
    add("--memory", type=values.memory, metavar="SIZE", help="private memory a worker, as 2GiB")


def run(options: argparse.Namespace) -> int:
    """Check everything, then do it."""
    if options.list:
        for name, said in shipped():
            print(f"{name:<26} {said}")
        return DONE
    with _own_stdout(wanted=options.json or options.out == outputs.STDOUT) as stdout:
        code, report = _run(options, stdout)
    if options.json:
        print(report.json(), flush=True)
    return code


@contextmanager
def _own_stdout(*, wanted: bool) -> Iterator[int]:
    """A descriptor of stdout that nothing else writes to: what others print goes to stderr.

    Those are this process, its workers, and whatever these start.
    """
    if not wanted:
        yield 1
        return
    sys.stdout.flush()
    stdout = os.dup(1)
    os.dup2(2, 1)
    try:
        yield stdout
    finally:
        sys.stdout.flush()
        os.dup2(stdout, 1)
        os.close(stdout)


def _run(options: argparse.Namespace, stdout: int) -> tuple[int, Report]:
    _check(options)
    target = load(options.target)
    todo = _jobs(options, target)
    output = outputs.choose(
        options.out, todo, options.size, options.fps, stdout, resume=options.resume
    )
    journal = _journal(options, todo, output)
    try:
        report = Report(options.target, options.out, len(todo))
        if options.json and options.out is None:
            report.values = {}
        code = Run(_plan(options, target, todo, output, journal), report)()
    finally:
        if journal is not None:
            journal.close()
    _tell(options, report)
    return code, report


def _check(options: argparse.Namespace) -> None:
    """What argparse cannot."""
    if options.target is None:
        raise UsageError("which function? give MODULE:FUNCTION, or --list for those that ship")
    given = [options.frames, options.jobs, options.stdin]
    if sum(source is not None for source in given) != 1:
        raise UsageError("what is to be done? give one of --frames RANGE, --jobs FILE, or -")
    if options.set and options.frames is None:
        raise UsageError("--set goes with --frames: with --jobs, each job is what its line says")
    if options.json and options.out == outputs.STDOUT:
        raise UsageError("--json and --out - both want stdout")
    if options.resume and options.out in (None, outputs.STDOUT):
        raise UsageError("--resume needs an output that is kept: --out FILE")


def _jobs(options: argparse.Namespace, target: Target) -> Jobs:
    if options.frames is not None:
        return jobs.of_frames(target, options.frames, dict(options.set))
    return jobs.of_lines(options.jobs or options.stdin)


def _journal(options: argparse.Namespace, todo: Jobs, output: Output) -> Journal | None:
    if output.path is None:
        return None
    path = Path(f"{output.path}.journal")
    if not options.resume:
        if path.exists():
            message = f"{path} is of a run that is not done: go on with --resume, or remove it"
            raise UsageError(message)
        return None
    if isinstance(output, outputs.Film) and options.on_error == "continue":
        message = (
            "--resume with --on-error continue: a frame that failed cannot be put into a film "
            "later; write stills or .npy, or leave out one of the two"
        )
        raise UsageError(message)
    header = {
        "function": options.target, "out": str(output.path), "size": list(options.size),
        "jobs": len(todo), "settings": dict(options.set), "fps": options.fps,
    }  # fmt: skip
    return Journal(path, header)


def _plan(
    options: argparse.Namespace, target: Target, todo: Jobs, output: Output, journal: Journal | None
) -> Plan:
    limits = {
        "workers": options.workers, "slots": options.slots, "retries": options.retries,
        "job_timeout": options.timeout, "memory_limit": options.memory,
    }  # fmt: skip
    stop = options.on_error == "stop"
    return Plan(target, todo, output, journal, options.size, limits, stop)


def _tell(options: argparse.Namespace, report: Report) -> None:
    if report.error:
        print(f"shmpool farm: {report.error}", file=sys.stderr)
    if not options.json:
        print(report, flush=True)
