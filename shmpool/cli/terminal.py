"""The terminal while something is shown on all of it: keys at once, and given back as it was.

Signals come as events, to be dealt with between two pictures, never in the middle of one.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import termios
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_TOLD = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGWINCH, signal.SIGTSTP,
         signal.SIGCONT)  # fmt: skip
_ARROWS = {b"\x1b[A": "up", b"\x1bOA": "up", b"\x1b[B": "down", b"\x1bOB": "down"}
Event = str | signal.Signals  # a key, or a signal


class Hangup(Exception):  # noqa: N818 - nothing is wrong: whoever looked has gone
    """The terminal is gone."""


class Terminal:
    """The whole screen for the length of a block, whichever way that ends.

    Without a terminal on stdin there are no keys, and signals alone end it.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._keys = sys.stdin.fileno() if _is_terminal(sys.stdin) else None
        self._before: list[Any] | None = None  # the terminal's settings
        self._told, self._wake = socket.socketpair()
        self._wake.settimeout(0)  # or a signal too many would stand still
        self._stack = ExitStack()
        self._went_on = False  # from a stop of ours, of which a SIGCONT tells next

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.callback(self._told.close)
            stack.callback(self._wake.close)
            stack.enter_context(_signals_to(self._wake))
            stack.callback(self._give_back)
            self._take()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def size(self) -> tuple[int, int]:
        """Columns and lines, now."""
        return self._console.size

    def show(self, picture: RenderableType) -> None:
        """Draw over what is there. Raises Hangup."""
        with _hangups():
            self._console.update_screen(picture)

    def wait(self, seconds: float) -> list[Event]:
        """What came, at the latest after so long. Raises Hangup."""
        told = self._told.fileno()
        watched = [told] if self._keys is None else [told, self._keys]
        ready, _, _ = select.select(watched, [], [], max(0.0, seconds))
        events: list[Event] = []
        if told in ready:
            events += [signal.Signals(number) for number in self._told.recv(64)]
        if self._keys in ready:
            with _hangups():
                events += _keys(os.read(self._keys, 64))
        if signal.SIGCONT in events and not self._went_on:  # stopped by what nobody sees
            self._take()
        self._went_on = False
        return events

    def stop(self) -> None:
        """As ^Z does elsewhere: give the terminal back, stop, and take it again afterwards."""
        self._give_back()
        ours = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        signal.raise_signal(signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, ours)
        self._take()
        self._went_on = True

    def _take(self) -> None:
        with _hangups():
            if self._keys is not None:
                if self._before is None:
                    self._before = termios.tcgetattr(self._keys)
                termios.tcsetattr(self._keys, termios.TCSADRAIN, _raw(self._before))
            self._console.set_alt_screen(enable=True)
            self._console.show_cursor(show=False)

    def _give_back(self) -> None:
        with suppress(OSError, termios.error):  # it is gone, and needs nothing
            self._console.show_cursor(show=True)
            self._console.set_alt_screen(enable=False)
        if self._keys is not None and self._before is not None:
            with suppress(termios.error):
                termios.tcsetattr(self._keys, termios.TCSADRAIN, self._before)
            self._before = None  # others may change them while we are stopped


def _is_terminal(stream: Any) -> bool:
    return stream is not None and not stream.closed and stream.isatty()


def _raw(settings: list[Any]) -> list[Any]:
    """Keys without Enter and without echo; ^C and ^Z stay signals, ^S is a key."""
    changed = [*settings]
    changed[0] &= ~(termios.IXON | termios.IXOFF)
    changed[3] &= ~(termios.ICANON | termios.ECHO)
    changed[6] = [*settings[6]]
    changed[6][termios.VMIN], changed[6][termios.VTIME] = 1, 0
    return changed


def _keys(typed: bytes) -> list[Event]:
    """Keys by name. Raises Hangup for none: the terminal's end."""
    if not typed:
        raise Hangup
    keys: list[Event] = []
    while typed:
        arrow = _ARROWS.get(typed[:3])
        if arrow:
            keys.append(arrow)
        elif typed[:1] != b"\x1b":
            keys.append(chr(typed[0]))
        elif len(typed) > 1:  # another sequence: none of it is a key of ours
            break
        typed = typed[3:] if arrow else typed[1:]
    return keys


@contextmanager
def _hangups() -> Iterator[None]:
    try:
        yield
    except (OSError, termios.error) as error:
        raise Hangup from error


@contextmanager
def _signals_to(wake: socket.socket) -> Iterator[None]:
    """Numbers of signals are written there, by the interpreter; what is ignored stays so."""
    before: dict[signal.Signals, Any] = {}
    wakeup = signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
    try:
        for number in _TOLD:
            handler = signal.getsignal(number)
            if handler not in (signal.SIG_IGN, None):
                before[number] = handler
                signal.signal(number, lambda *_: None)
        yield
    finally:
        for told, handler in before.items():
            signal.signal(told, handler)
        signal.set_wakeup_fd(wakeup)
