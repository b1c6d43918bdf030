"""shmpool: a buffer pool in shared memory for Python processes.

    Pool        slots of shared memory: create, attach, acquire, queue, claim, borrow, peek
    Lease       the right to one slot: array, header, writer, share, release, detach
    Borrow      the right to read a shared slot, with others
    Queue       slots on their way to another process: put, get, close
    Ticket      a lease on its way, as one integer
    Farm        a function, many jobs, worker processes: results without a copy
    errors      every error, as a tree
    metrics     numbers of pools for Prometheus (the extra `metrics`)
    testing     a pytest plugin: a test that leaves something behind fails

Floors, nothing imports upward:
    errors, _interrupts, _exits, _text < _ticket, _sizes, _process, _layout
    < _header, _segment, _doorbell < _life, _story, _tracing < _explain, _leaks, _poison
    < _holders < _wanting < _attachment
    < _touches < _waiting < _acquiring < _writer, _record < _right < _overdue
    < _lease, _borrow, _queue, _reaper, _audit
    < _plan, _orphan < _create < _look, pool < _trace < _sweep, _measuring < metrics
    < _remote < _envelope < _relay < _farm_worker < _crew < _dispatch < _source, _result,
    _farm_checks, _farm_statistics < _futures < farm < executor, testing
"""

import importlib
import logging
from typing import TYPE_CHECKING, Any

from shmpool import errors
from shmpool._borrow import Borrow
from shmpool._create import remove_orphan
from shmpool._holders import Holder
from shmpool._lease import Lease
from shmpool._queue import Queue, QueueOptions
from shmpool._story import Transition
from shmpool._ticket import Ticket
from shmpool.errors import *  # noqa: F403 - every error is public; errors.__all__ names them
from shmpool.pool import Pool

if TYPE_CHECKING:
    from shmpool._remote import RemoteTraceback
    from shmpool._result import Result
    from shmpool._statistics import (
        ClassStatistics,
        MemberStatistics,
        PoolStatistics,
        Quarantined,
        QueueStatistics,
    )
    from shmpool.executor import FarmExecutor
    from shmpool.farm import ArraySpec, Farm, FarmStatistics

# Silent unless the program sets up logging.
logging.getLogger("shmpool").addHandler(logging.NullHandler())

__version__ = "0.1.0"

# Imported when they are first asked for: a pool alone needs neither processes nor futures, and
# its statistics cost more to import than all that it does.
_LATE = {
    "ArraySpec": "shmpool.farm",
    "ClassStatistics": "shmpool._statistics",
    "Farm": "shmpool.farm",
    "FarmExecutor": "shmpool.executor",
    "FarmStatistics": "shmpool.farm",
    "MemberStatistics": "shmpool._statistics",
    "PoolStatistics": "shmpool._statistics",
    "Quarantined": "shmpool._statistics",
    "QueueStatistics": "shmpool._statistics",
    "RemoteTraceback": "shmpool._remote",
    "Result": "shmpool._result",
}

__all__ = [
    "ArraySpec",
    "Borrow",
    "ClassStatistics",
    "Farm",
    "FarmExecutor",
    "FarmStatistics",
    "Holder",
    "Lease",
    "MemberStatistics",
    "Pool",
    "PoolStatistics",
    "Quarantined",
    "Queue",
    "QueueOptions",
    "QueueStatistics",
    "RemoteTraceback",
    "Result",
    "Ticket",
    "Transition",
    "errors",
    "remove_orphan",
]
__all__ += errors.__all__


def __getattr__(name: str) -> Any:
    if name not in _LATE:
        raise AttributeError(f"module 'shmpool' has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_LATE[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
