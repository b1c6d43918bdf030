"""Text that comes from shared memory, and so from anybody."""

from __future__ import annotations


def printable(thing: object) -> str:
    r"""As text without what could break a line, or a terminal.

    >>> printable("a\x1b[2Jb")
    'a?[2Jb'
    """
    return "".join(letter if letter.isprintable() else "?" for letter in str(thing))
