"""torch.multiprocessing: tensors in shared memory through a queue, their buffers sent back.

https://docs.pytorch.org/docs/stable/notes/multiprocessing.html, "Reuse buffers passed through a
Queue": a tensor that is shared already is not copied, and sending the buffers back is nearly free.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from benchmarks.peers.protocol import Bytes, Peer


@dataclass
class TensorWire:
    """A queue there and one back, of torch's own."""

    there: Any
    back: Any
    size: int
    depth: int

    def sender(self, stack: ExitStack) -> TensorSender:
        """Makes the buffers, and owns them to the end."""
        import torch  # noqa: PLC0415  # optional

        del stack
        fresh: list[Any] = [torch.empty(self.size, dtype=torch.uint8) for _ in range(self.depth)]
        return TensorSender(self.there, self.back, [each.share_memory_() for each in fresh])

    def receiver(self, stack: ExitStack) -> TensorReceiver:
        """Needs nothing."""
        del stack
        return TensorReceiver(self.there, self.back)


class TensorSender:
    """Fills tensors."""

    def __init__(self, there: Any, back: Any, free: list[Any]) -> None:
        self._there, self._back, self._free = there, back, free
        self._tensor: Any = None

    def room(self) -> Bytes:
        """An array over a tensor that is free, or that came back."""
        self._tensor = self._free.pop() if self._free else self._back.get()
        array: Bytes = self._tensor.numpy()
        return array

    def send(self) -> None:
        """Put the tensor."""
        self._there.put(self._tensor)
        self._tensor = None

    def send_blank(self) -> None:
        """A tensor as it is."""
        self.room()
        self.send()


class TensorReceiver:
    """Reads tensors, and sends them back."""

    def __init__(self, there: Any, back: Any) -> None:
        self._there, self._back = there, back
        self._tensor: Any = None

    def receive(self) -> Bytes:
        """An array over the tensor."""
        self._tensor = self._there.get()
        array: Bytes = self._tensor.numpy()
        return array

    def done(self) -> None:
        """Send it back."""
        self._back.put(self._tensor)
        self._tensor = None

    def receive_blank(self) -> None:
        """A tensor as it is."""
        self.receive()
        self.done()


def _open(stack: ExitStack, size: int, depth: int) -> TensorWire:
    from torch import multiprocessing  # noqa: PLC0415  # optional

    context = multiprocessing.get_context("forkserver")
    there, back = context.Queue(), context.Queue()
    stack.callback(there.close)
    stack.callback(back.close)
    return TensorWire(there, back, size, depth)


PEER = Peer(
    "torch.multiprocessing", "torch", "torch",
    "https://docs.pytorch.org/docs/stable/notes/multiprocessing.html",
    "none, but a descriptor is sent and mapped each time", _open,
    shared=True, many=False, brisk=1_000,
)  # fmt: skip
