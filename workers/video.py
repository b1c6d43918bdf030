"""An encoder process that takes frames straight from their slots.

A frame is wrapped, not copied (`av.VideoFrame.from_numpy_buffer`), and its slot goes back
to the pool when the encoder lets go of it: x264 may hold frames long after `encode()` has
returned. That needs no bookkeeping here: the array holds the slot, the frame the array.
"""

from __future__ import annotations

import signal
import threading
from fractions import Fraction
from multiprocessing import get_context
from types import TracebackType
from typing import Self

import av

from shmpool import Lease, Queue, QueueClosedError


def encode(queue: Queue, path: str, fps: int, codec: str = "libx264", crf: int = 20) -> None:
    """Write the frames of a queue, (height, width, 3) uint8 RGB, to a film, until it is closed."""
    with av.open(path, "w") as film:
        stream: av.VideoStream | None = None
        for number, lease in enumerate(queue):
            with lease:
                if stream is None:
                    stream = _open_stream(film, lease, fps, codec, crf)
                film.mux(stream.encode(_wrap(lease, number, fps)))
                lease.leave_to_views()  # what is left of it are the encoder's references
        if stream is not None:
            film.mux(stream.encode(None))


def _open_stream(
    film: av.container.OutputContainer, lease: Lease, fps: int, codec: str, crf: int
) -> av.VideoStream:
    stream = film.add_stream(codec, rate=fps)
    assert isinstance(stream, av.VideoStream)  # noqa: S101 - the codec is one for video
    stream.height, stream.width = lease.array().shape[:2]
    stream.pix_fmt = "yuv420p"
    stream.options = {"crf": str(crf), "preset": "fast"}
    return stream


def _wrap(lease: Lease, number: int, fps: int) -> av.VideoFrame:
    frame = av.VideoFrame.from_numpy_buffer(lease.array(), "rgb24")
    frame.pts, frame.time_base = number, Fraction(1, fps)
    return frame


class Encoder:
    """Runs `encode` in a process of its own; `write` hands it a slot.

    A context manager: leaving it waits until the film is complete. If the encoder fails or
    is killed, the slots that were on their way to it are freed and `write` raises
    QueueClosedError.
    """

    def __init__(self, queue: Queue, path: str, fps: int) -> None:
        self._queue = queue
        context = get_context("spawn")
        arguments = (queue, path, fps)
        self._process = context.Process(target=_run, args=arguments, name="encode", daemon=True)
        # Ctrl-C reaches the whole group: the encoder then completes the film of what there is.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        self._process.start()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        self._watcher = threading.Thread(target=self._watch, name="encoder-watch", daemon=True)
        self._watcher.start()

    def write(self, lease: Lease) -> None:
        """Send a frame to be encoded after those before it."""
        self._queue.put(lease)

    def _watch(self) -> None:
        self._process.join()
        # Orderly or not, nobody takes frames any more.
        self._queue.close()
        for lease in self._queue:
            lease.release()

    def close(self) -> None:
        """Wait until every frame is in the film. Raises RuntimeError if it is not complete."""
        self._queue.close()
        self._watcher.join()
        if self._process.exitcode:
            message = f"the encoder ended with exit code {self._process.exitcode}: no film"
            raise RuntimeError(message)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.close()
        except RuntimeError:
            # QueueClosedError only tells that the encoder is gone; this says why.
            if error is None or isinstance(error, QueueClosedError):
                raise


def _run(queue: Queue, path: str, fps: int) -> None:
    with queue.pool:
        encode(queue, path, fps)
