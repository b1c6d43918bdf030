"""Exceptions that travel: from a worker, with its traceback as text."""

from __future__ import annotations

import pickle
import traceback

from shmpool.errors import JobError


class RemoteTraceback(Exception):  # noqa: N818 - a cause to be printed, not an error to be caught
    """The traceback of a worker, as text: the cause of an exception that came from there."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


def failure(error: BaseException) -> tuple[BaseException, str]:
    """An exception that can travel, and its traceback as text."""
    text = "".join(traceback.format_exception(error))
    _forget_frames(error)
    if not isinstance(error, Exception):  # raised there, a SystemExit would end the coordinator
        return JobError(f"the function raised {error!r}"), text
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - just made
    except Exception:  # noqa: BLE001 - whatever its __reduce__ raises
        error = JobError(
            f"{type(error).__name__}: {error} (the exception itself cannot be pickled)"
        )
    return error, text


def _forget_frames(error: BaseException) -> None:
    """Tracebacks hold the locals of their frames, and with them arrays over the slot."""
    chain: list[BaseException | None] = [error]
    while chain:
        link = chain.pop()
        if link is not None and link.__traceback__ is not None:
            traceback.clear_frames(link.__traceback__)
            link.__traceback__ = None
            chain += [link.__cause__, link.__context__]
