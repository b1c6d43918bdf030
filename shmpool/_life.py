"""Whether a process of a pool lives, as far as that can be told from here."""

from __future__ import annotations

from enum import StrEnum

from shmpool._header import PoolSpec
from shmpool._process import Identity, is_dead, pid_namespace
from shmpool.errors import UnsupportedPlatformError


class Life(StrEnum):
    """What is known of a process."""

    ALIVE = "alive"
    DEAD = "dead"
    UNKNOWN = "unknown"  # it is in another pid namespace, or cannot be asked for


def life(spec: PoolSpec, process: Identity) -> Life:
    """Whether a process of a pool is dead: numbers of another pid namespace say nothing here."""
    if pid_namespace() != spec.pid_namespace:
        return Life.UNKNOWN
    try:
        return Life.DEAD if is_dead(process) else Life.ALIVE
    except (OSError, UnsupportedPlatformError):  # it cannot be seen here who lives
        return Life.UNKNOWN


def why_unknown(spec: PoolSpec) -> str:
    """What follows "its coordinator" where `life` does not know."""
    if spec.pid_namespace != pid_namespace():
        return f"is in another pid namespace ({spec.pid_namespace}), and cannot be seen from here"
    return "may be alive: it cannot be told here, see shmpool doctor"
