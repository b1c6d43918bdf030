"""Touches of memory whose right is over, as exceptions; and who stands first at SIGSEGV.

The core's signal handlers note what was touched. Here is what there is to say of it, and what
keeps the handlers in front of those that others install later.
"""

from __future__ import annotations

import faulthandler
import functools
import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, ParamSpec, TypeVar

from shmpool import _core, _exits, _explain, _story
from shmpool._attachment import Attachment, attachments, slab_name
from shmpool._header import PoolSpec
from shmpool._segment import SHM
from shmpool._story import Transition
from shmpool.errors import SegmentTruncatedError, ShmpoolError, UseAfterReleaseError

P = ParamSpec("P")
T = TypeVar("T")

Touch = tuple[int, str, int, int, bool, str, str, int, int, int]

_WRITE, _SLAB_GONE, _CONTROL_GONE = 1, 2, 3
_TOUCHED = {-1: "touched", 0: "read", 1: "written to"}
_ENDED = {"release": "released", "put": "put", "detach": "detached", "move": "moved on"}


def report(touches: list[Touch]) -> ShmpoolError:
    """One error for all of them: of the first, and notes of the others."""
    errors = [_error(touch) for touch in touches]
    for other in errors[1:]:
        errors[0].add_note(f"and: {other}")
    return errors[0]


def _error(touch: Touch) -> ShmpoolError:
    return _truncated(touch) if touch[0] >= _SLAB_GONE else _use_after_release(touch)


def _use_after_release(touch: Touch) -> UseAfterReleaseError:
    kind, pool, slot, generation, borrowed, action, file, line, offset, thread = touch
    kind_of_right = "borrow" if borrowed else "lease"
    right = f"{kind_of_right} {_explain.ticket_text(slot, generation)}"
    where = f" at {file}:{line}" if line else ""
    facts = {
        "pool": pool, "slot": slot, "generation": generation, "offset": offset,
        "write": None if kind < 0 else kind == _WRITE, "thread": thread, "file": file, "line": line,
    }  # fmt: skip
    done = f"{_TOUCHED[kind]} at byte {offset}{_in_thread(thread)}"
    if not generation:
        message = f"slot {slot} of pool {pool!r} was {done} by an address that no view has any more"
        return UseAfterReleaseError(message, **facts)
    if action == "fork":
        message = (
            f"a view of slot {slot} of pool {pool!r} was {done} in a forked child: the right to it "
            f"is the parent's; attach here and borrow() it, or copy what you need before the fork"
        )
        return UseAfterReleaseError(message, **facts)
    if action == "share":
        message = (
            f"a view of {right} of pool {pool!r} was {done} after share(){where}: what is shared "
            f"is read-only, and the write went to a private copy; write before you share"
        )
        return UseAfterReleaseError(message, **facts)
    message = (
        f"a view of {right} of pool {pool!r} was {done} after it was "
        f"{_ENDED.get(action, action)}{where}: the view is cut off and has zeros, the slot was not "
        f"touched; copy() what you keep, or end the {kind_of_right} later"
    )
    now, history = _now(pool, slot, generation)
    return UseAfterReleaseError(message + now, history=history, **facts)


def _now(pool: str, slot: int, generation: int) -> tuple[str, list[Transition]]:
    """What the slot is now, and in debug its story."""
    mapping = _attachment_of(pool)
    if mapping is None:
        return "", []
    spec, view = mapping.spec, mapping.view()
    story = _story.tell(spec, view, slot, generation)
    now = f"; slot {slot} is now {_explain.what_it_is(spec, view, slot)}"
    return now + (f":\n{story}" if story else ""), _story.transitions(spec, view, slot)


def _in_thread(number: int) -> str:
    if number == os.getpid():  # the main thread's, on Linux; in a forked child too
        return ""
    names = [thread.name for thread in threading.enumerate() if thread.native_id == number]
    return f" in thread {names[0]!r}" if names else f" in thread {number}"


def _truncated(touch: Touch) -> SegmentTruncatedError:
    kind, pool, slot, *_, offset, thread = touch
    where = "the control block" if kind == _CONTROL_GONE else f"slot {slot}"
    message = (
        f"{_what_is_gone(pool)} while it was in use (found at byte {offset} of "
        f"{where}{_in_thread(thread)}): what is gone reads zeros; close the pool"
    )
    return SegmentTruncatedError(message, pool=pool, slot=slot, offset=offset)


def _what_is_gone(pool: str) -> str:
    mapping = _attachment_of(pool)
    sizes = {} if mapping is None else _sizes(mapping.spec)
    for name, size in sizes.items():
        with suppress(OSError):
            found = (SHM / name).stat().st_size
            if found < size:
                return f"segment {name!r} of pool {pool!r} was cut from {size} to {found} bytes"
    return (
        f"pages of a segment of pool {pool!r} were taken away (by something that cut it, or made "
        f"a hole in it when {SHM} was full)"
    )


def _sizes(spec: PoolSpec) -> dict[str, int]:
    slabs = enumerate(spec.classes)
    return {spec.name: spec.control_size} | {slab_name(spec.name, i): c.slab_size for i, c in slabs}


def _attachment_of(pool: str) -> Attachment | None:
    """None as well where pools had that name one after the other: the view may be of any."""
    named = [mapping for mapping in attachments() if mapping.spec.name == pool]
    return named[0] if len(named) == 1 else None


def _then(install: Callable[P, T], stand_first: Callable[[], None]) -> Callable[P, T]:
    @functools.wraps(install)
    def installed(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return install(*args, **kwargs)
        finally:
            stand_first()

    installed.__shmpool__ = True  # type: ignore[attr-defined]
    return installed


@functools.cache  # once for the process
def _watch_the_end() -> None:
    _exits.when_main_thread_ends(_core.spare_main_thread)


def watch() -> None:
    """Answer SIGBUS from now on, and SIGSEGV from the first fence on.

    Our handlers are put in front again when others are installed from Python.

    They pass on every fault that is not ours, so nobody loses any. Without this, a handler
    that comes later would take a touched fence for a crash, and nothing tells us of it.
    """
    _core.watch_truncation()
    _watch_the_end()
    changes: tuple[tuple[Any, str, Callable[[], None]], ...] = (
        (signal, "signal", _core.stand_first),
        (faulthandler, "enable", _core.faulthandler_enabled),
        (faulthandler, "disable", _core.faulthandler_disabled),
    )
    for module, name, stand_first in changes:
        install = getattr(module, name)
        if not hasattr(install, "__shmpool__"):
            setattr(module, name, _then(install, stand_first))


_core.set_touch_reporter(report)
