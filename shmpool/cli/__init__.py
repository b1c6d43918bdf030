"""The command `shmpool`, or `python -m shmpool`.

    exits       exit codes, and the error that is told before anything starts
    values      what options are made of: sizes, ranges of frames, settings
    target      MODULE:FUNCTION, and the renderers that ship
    jobs        what there is to do, numbered
    journal     what is done, on disk, for --resume
    outputs     where frames go: a film, stills, an array, stdout, nowhere
    film        a film in parts, and how they are joined
    stops       what ^C and SIGTERM ask for
    display     the bar, or plain lines
    report      what became of it all: text, or JSON
    run         one run of a farm
    farm        the command `shmpool farm`
    table       plain tables, for the commands that look at pools
    ls          the command `shmpool ls`
    portrait    what is shown of a pool and of a slot
    inspect     the command `shmpool inspect`
    gc          the command `shmpool gc`
    checks      what may be wrong with a machine
    doctor      the command `shmpool doctor`
    trace       the command `shmpool trace`
    timeline    ... who held what when, from events
    chrome      ... as JSON for Perfetto
    trace_picture, trace_summary    ... as a picture, and as numbers
    completion  completion for shells

One module a command: each has `add(commands)`, which adds a parser whose `run` is a function of
the parsed options that returns an exit code.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from shmpool import __version__
from shmpool.cli import completion, doctor, farm, gc, inspect, ls, trace
from shmpool.cli.exits import INTERRUPTED, PIPE, USAGE, UsageError

__all__ = ["main"]

_COMMANDS = (farm, ls, inspect, trace, gc, doctor)


def parser() -> argparse.ArgumentParser:
    """Of the command with all its subcommands."""
    top = argparse.ArgumentParser(prog="shmpool", description="Shared memory at work.")
    top.add_argument("--version", action="version", version=f"shmpool {__version__}")
    top.add_argument(
        "--completion", choices=completion.SHELLS, help="print a completion script for a shell"
    )
    commands = top.add_subparsers(title="commands", dest="command", metavar="COMMAND")
    for command in _COMMANDS:
        command.add(commands)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command: its exit code."""
    top = parser()
    # As `python -m` does: a renderer may lie where one works.
    if os.getcwd() not in sys.path:  # noqa: PTH109 - sys.path holds texts
        sys.path.insert(0, os.getcwd())  # noqa: PTH109
    options = top.parse_args(arguments)
    if options.completion:
        print(completion.script(top, options.completion))
        return 0
    if options.command is None:
        top.print_help(sys.stderr)
        return USAGE
    try:
        code = int(options.run(options))
        sys.stdout.flush()
    except BrokenPipeError:  # whoever reads, as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for what is flushed at the exit
        return PIPE
    except UsageError as error:
        print(f"shmpool {options.command}: error: {error}", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:  # before there was anything to drain
        return INTERRUPTED
    return code
