"""The face of `concurrent.futures.Executor` over a farm, for programs that have one already."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from functools import partial, update_wrapper
from multiprocessing.context import BaseContext
from typing import Any, ParamSpec, TypeVar

import numpy as np

from shmpool import _core
from shmpool._dispatch import Arrived
from shmpool._envelope import ArraySpec, Maker
from shmpool._farm_checks import check_count, job_room, size_of
from shmpool._futures import FutureDesk
from shmpool._lease import Lease
from shmpool.errors import JobError
from shmpool.farm import Farm

P = ParamSpec("P")
T = TypeVar("T")

_Call = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class _InFrame:
    """What travels in place of an array that is in the slot already."""

    shape: tuple[int, ...]
    dtype: str


def _call(room: int, job: _Call, frame: np.ndarray[Any, Any]) -> Any:
    function, args, kwargs = job
    value = function(*args, **kwargs)
    if type(value) is not np.ndarray or value.dtype.hasobject or value.dtype.names is not None:
        return value
    if value.ndim > _core.MAX_DIMENSIONS:
        return value
    if max(room, frame.nbytes) < value.nbytes:
        message = (
            f"the array has {value.nbytes} bytes, there is room for {frame.nbytes}: create the "
            f"FarmExecutor with result_size={value.nbytes}"
        )
        raise JobError(message)
    if not 0 < value.nbytes <= frame.nbytes:
        return value
    np.ndarray(value.shape, value.dtype, buffer=frame)[...] = value
    return _InFrame(value.shape, value.dtype.str)


class _Farm(Farm):
    _maker = Maker("FarmExecutor", "")  # whose calls have no frame


class FarmExecutor(Executor):
    """Runs calls in worker processes; an array that a call returns comes back without a pipe.

    As `concurrent.futures.ProcessPoolExecutor`, which it replaces by changing one line: it takes
    the same arguments, too; of mp_context the start method, "spawn" without one. An
    array of up to result_size bytes is read where its worker left it, and gives its slot back
    when it dies; when such arrays have half of the slots it is copied instead, so results may
    be kept. Bigger arrays and all other values are pickled, and need job_size bytes.
    max_workers: processes. initializer, initargs: called in each. max_tasks_per_child: calls after
    which a worker is replaced. farm: options of Farm.

    >>> from math import factorial
    >>> from shmpool import FarmExecutor
    >>> with FarmExecutor(max_workers=1) as executor:
    ...     list(executor.map(factorial, range(5)))
    [1, 1, 2, 6, 24]
    """

    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: BaseContext | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        max_tasks_per_child: int | None = None,
        result_size: int | str = "1 MiB",
        **farm: Any,
    ) -> None:
        spec = ArraySpec((size_of("result_size", result_size),), np.uint8)
        options = {"job_size": "64 KiB", "initializer": initializer, "initargs": initargs} | farm
        if mp_context is not None:
            options = {"start_method": mp_context.get_start_method()} | options
        if max_tasks_per_child is not None:
            check_count("max_tasks_per_child", max_tasks_per_child, 1)
            options = {"recycle_after": max_tasks_per_child} | options
        call = update_wrapper(partial(_call, job_room(options["job_size"])), _call)
        self._farm = _Farm(call, spec, workers=max_workers, **options)
        self._starting = threading.Lock()
        self._desk: FutureDesk | None = None
        self._ending = False

    @property
    def farm(self) -> Farm:
        """The farm behind it."""
        return self._farm

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """A future of `fn(*args, **kwargs)`, all of which pickle. Does not block."""
        if self._farm._closed or self._ending:
            raise RuntimeError("cannot schedule new futures after shutdown")
        dispatcher = self._farm._started()[2]
        with self._starting:
            if self._desk is None:
                self._desk = FutureDesk(dispatcher, self._value, self._farm.pool.slots)
        try:
            return self._desk.submit((fn, args, kwargs))
        except Exception as error:  # noqa: BLE001 - what pickle says, told as the original does
            future: Future[T] = Future()
            future.set_exception(error)
            return future

    def _value(self, arrived: Arrived) -> Any:
        result = self._farm._open(arrived, yields=False)
        value = result.value
        if type(value) is _InFrame:
            value = self._array(result.keep(), value)
        else:
            result.release()
        return value

    def _array(self, lease: Lease, value: _InFrame) -> np.ndarray[Any, Any]:
        array = np.ndarray(value.shape, np.dtype(value.dtype), buffer=lease._memory())
        pool = self._farm.pool
        if 2 * pool._mapping.live <= pool.slots:
            lease.leave_to_views()  # the array has the slot now
            return array
        copy = array.copy()
        del array
        lease.release()
        return copy

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002 - as in Executor
        """Do what was submitted, or cancel what nobody has begun, and end the workers.

        wait=False returns at once; the rest is then done by a thread.
        """
        self._ending = True
        if not wait:
            threading.Thread(target=self._close, args=(cancel_futures,)).start()
            return
        self._close(cancel_futures)

    def _close(self, cancel: bool) -> None:  # noqa: FBT001
        if self._desk is not None:
            self._desk.close(cancel=cancel)
        self._farm.close()
