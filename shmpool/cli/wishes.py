"""What whoever looks at `shmpool top` has chosen, and what keys change of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from shmpool.cli.motion import SORTS

KEYS = {
    "q": "quit",
    "p, space": "pause, and go on",
    "s": f"sort members by {', '.join(SORTS)}",
    "r": "reverse their order",
    "j k, \u2193 \u2191": "show members further down or up",
    "?, h": "help, and back",
    "^C": "quit, with exit code 130",
    "^Z": "stop; fg goes on",
}


@dataclass(frozen=True, slots=True)
class Wishes:
    """What is shown, and how."""

    sort: str = "rate"
    reversed: bool = False
    skip: int = 0  # members that are not shown, from the first
    paused: bool = False
    help: bool = False
    live: bool = False  # keys do something
    every: float = 0.0  # seconds between looks
    past: tuple[float, ...] = ()  # rights taken per second, until now

    def after(self, key: str, members: int) -> Wishes:
        """What is wished for after a key, of a pool with so many members.

        >>> Wishes().after("s", 1).sort, Wishes().after("p", 1).paused, Wishes().after("x", 1).skip
        ('held', True, 0)
        """
        orders = list(SORTS)
        following = orders[(orders.index(self.sort) + 1) % len(orders)]
        changes: dict[str, dict[str, object]] = {
            "pause": {"paused": not self.paused},
            "sort": {"sort": following, "skip": 0},
            "reverse": {"reversed": not self.reversed, "skip": 0},
            "help": {"help": not self.help},
            "down": {"skip": max(0, min(self.skip + 1, members - 1))},
            "up": {"skip": max(0, self.skip - 1)},
        }
        return replace(self, **changes.get(_MEANT.get(key, ""), {}))  # type: ignore[arg-type]


_MEANT = {"p": "pause", " ": "pause", "s": "sort", "r": "reverse", "?": "help", "h": "help",
          "j": "down", "down": "down", "k": "up", "up": "up"}  # fmt: skip
