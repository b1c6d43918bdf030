"""shmpool: a buffer pool in shared memory for Python processes.

    Pool        slots of shared memory: create, attach, acquire, queue, claim, borrow, peek
    Lease       the right to one slot: array, header, writer, share, release, detach
    Borrow      the right to read a shared slot, with others
    Queue       slots on their way to another process: put, get, close
    Ticket      a lease on its way, as one integer
    Farm        a function, many jobs, worker processes: results without a copy
    errors      every error, as a tree
    testing     a pytest plugin: a test that leaves something behind fails

Floors, nothing imports upward:
    errors, _interrupts < _ticket, _sizes, _process, _layout < _header, _segment, _doorbell
    < _story, _tracing < _explain, _leaks, _poison < _attachment < _touches < _waiting < _acquiring
    < _writer, _record < _right < _overdue < _lease, _borrow, _queue, _reaper, _audit
    < _plan, _orphan < _create < _look, pool < _trace < _sweep
    < _remote < _envelope < _relay < _farm_worker < _crew < _dispatch < _source, _result
    < _futures < farm < executor, testing
"""

import logging

from shmpool import errors
from shmpool._borrow import Borrow
from shmpool._create import remove_orphan
from shmpool._lease import Lease
from shmpool._queue import Queue, QueueOptions
from shmpool._remote import RemoteTraceback
from shmpool._result import Result
from shmpool._statistics import ClassStatistics, MemberStatistics, PoolStatistics, Quarantined
from shmpool._story import Transition
from shmpool._ticket import Ticket
from shmpool.errors import *  # noqa: F403 - every error is public; errors.__all__ names them
from shmpool.executor import FarmExecutor
from shmpool.farm import ArraySpec, Farm, FarmStatistics
from shmpool.pool import Pool

# Silent unless the program sets up logging.
logging.getLogger("shmpool").addHandler(logging.NullHandler())

__version__ = "0.1.0"

__all__ = [
    "ArraySpec",
    "Borrow",
    "ClassStatistics",
    "Farm",
    "FarmExecutor",
    "FarmStatistics",
    "Lease",
    "MemberStatistics",
    "Pool",
    "PoolStatistics",
    "Quarantined",
    "Queue",
    "QueueOptions",
    "RemoteTraceback",
    "Result",
    "Ticket",
    "Transition",
    "errors",
    "remove_orphan",
]
__all__ += errors.__all__
