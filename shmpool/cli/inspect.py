"""The command `shmpool inspect`: one pool, one slot of it, and the slot's bytes."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

from shmpool._layout import State
from shmpool._look import SlotBytes, look, read_slot
from shmpool._text import printable
from shmpool.cli import portrait, values
from shmpool.cli.exits import UsageError
from shmpool.cli.table import add_parser, show_json
from shmpool.errors import ShapeError, ShmpoolError

CODES = {
    0: "shown, and written if that was asked",
    1: "no such pool or slot, it cannot be read, or what was asked cannot be written",
    2: "wrong arguments",
    3: "shown and written, but the slot changed hands while its bytes were read",
}
_CHANNELS = (3, 4)


def add(commands: Any) -> None:
    """Add the parser."""
    about = "show a pool: classes, queues, members, and what a slot holds"
    parser = add_parser(commands, "inspect", about, CODES)
    parser.set_defaults(run=run)
    parser.add_argument("name", metavar="NAME", help="of the pool, as shmpool ls shows it")
    parser.add_argument("--slot", type=values.natural, metavar="N", help="show this slot only")
    parser.add_argument("--dump", type=Path, metavar="FILE", help="write the slot's bytes")
    parser.add_argument("--png", type=Path, metavar="FILE", help="write its array as a picture")


def run(options: argparse.Namespace) -> int:
    """Look once, and once more at the bytes."""
    if options.slot is None and (options.dump or options.png):
        raise UsageError("--dump and --png are of one slot: add --slot N")
    try:
        return _show(options)
    except (ShmpoolError, OSError) as error:
        print(f"shmpool inspect: {printable(error)}", file=sys.stderr)
        return 1


def _show(options: argparse.Namespace) -> int:
    seen = look(options.name, options.slot)
    shown = portrait.pool(seen) if options.slot is None else portrait.slot(seen, options.slot)
    taken = _write(options) if options.dump or options.png else None
    if taken is not None:
        shown["written"] = {"changed": taken.changed, "before": taken.before._asdict(),
                            "after": taken.after._asdict()}  # fmt: skip
    if options.json:
        show_json(shown)
    else:
        text = portrait.pool_text if options.slot is None else portrait.slot_text
        print(text(seen, shown))
        if taken is not None:
            print(_remark(taken))
    return 3 if taken is not None and taken.changed else 0


def _write(options: argparse.Namespace) -> SlotBytes:
    taken = read_slot(options.name, options.slot)
    if options.png:
        _write_picture(taken.array(), options.png)
    if options.dump:
        options.dump.write_bytes(taken.data)
    return taken


def _write_picture(array: np.ndarray[Any, Any], path: Path) -> None:
    try:
        from PIL import Image
    except ImportError:
        raise UsageError("--png needs Pillow: pip install 'shmpool[film]'") from None
    flat = array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array
    colours = flat.ndim == 2 or (flat.ndim == 3 and flat.shape[2] in _CHANNELS)
    if flat.dtype != np.uint8 or not colours or not flat.size:
        message = (
            f"the slot's array is {array.dtype} {array.shape}, which is no picture: "
            f"--png writes uint8 of (height, width) or (height, width, 1, 3 or 4)"
        )
        raise ShapeError(message)
    Image.fromarray(flat).save(path, "PNG")


def _remark(taken: SlotBytes) -> str:
    if taken.changed:
        return f"written, but the slot CHANGED meanwhile: from {taken.before} to {taken.after}"
    if taken.after.state is State.LEASED:
        return "written; the slot changed no hands, but its holder may have been writing to it"
    return "written; the slot did not change meanwhile"
