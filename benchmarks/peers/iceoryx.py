"""iceoryx2: publish and subscribe in shared memory, by events or by polling.

https://github.com/eclipse-iceoryx/iceoryx2/tree/main/examples/python: in
publish_subscribe_dynamic_data slices are loaned without initializing them, with an
`initial_max_slice_len`; event shows `Listener.timed_wait()`. FAQ.md says how to bound the memory,
and that what is sent before the subscriber is connected is lost; so nobody sends here before
both ends are there, and the subscriber has received once. An array over a sample that was
deleted goes on to read the messages that come after it.
"""

from __future__ import annotations

import ctypes
import os
import secrets
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any

import numpy as np

from benchmarks.peers.protocol import ON_MEETING, Bytes, Peer

_MEMORY = Path("/dev/shm")  # noqa: S108  # where it puts its segments
_PATIENCE = 30  # seconds


@dataclass
class ServiceWire:
    """Where the service is to be found. Prefix and directory are its own, so that they can go."""

    prefix: str
    root: str
    size: int
    depth: int
    events: bool
    readers: int = 1

    def sender(self, stack: ExitStack) -> ServiceSender:
        """A publisher, and a notifier."""
        import iceoryx2 as iox2  # noqa: PLC0415  # optional

        node = self._node(stack)
        service = self._service(iox2, node)
        publisher = (
            service.publisher_builder()
            .initial_max_slice_len(self.size)
            .max_loaned_samples(1)
            .allocation_strategy(iox2.AllocationStrategy.Static)
            .backpressure_strategy(iox2.BackpressureStrategy.RetryUntilDelivered)
            .create()
        )
        stack.callback(publisher.delete)
        notifier = None
        if self.events:
            notifier = self._event(iox2, node).notifier_builder().create()
            stack.callback(notifier.delete)
        return ServiceSender(publisher, notifier, self.size)

    def receiver(self, stack: ExitStack) -> ServiceReceiver:
        """A subscriber, and a listener."""
        import iceoryx2 as iox2  # noqa: PLC0415  # optional

        node = self._node(stack)
        subscriber = self._service(iox2, node).subscriber_builder().create()
        stack.callback(subscriber.delete)
        # It connects when it first receives. Until then a publisher whose buffer is full does not
        # wait for it, RetryUntilDelivered or not: it loses the message.
        ON_MEETING.append(subscriber.receive)
        if not self.events:
            return ServiceReceiver(subscriber, self.size)
        listener = self._event(iox2, node).listener_builder().create()
        stack.callback(listener.delete)
        wait = partial(listener.timed_wait, iox2.Duration.from_secs(_PATIENCE))
        return EventReceiver(subscriber, self.size, wait)

    def _node(self, stack: ExitStack) -> Any:
        import iceoryx2 as iox2  # noqa: PLC0415  # optional

        iox2.set_log_level(iox2.LogLevel.Error)
        config = iox2.config.default()
        config.global_cfg.prefix = iox2.FileName.new(self.prefix)
        config.global_cfg.root_path = iox2.Path.new(self.root)
        builder = iox2.NodeBuilder.new().config(config)
        # Otherwise it takes SIGINT and SIGTERM for itself.
        builder = builder.signal_handling_mode(iox2.SignalHandlingMode.Disabled)
        node = builder.create(iox2.ServiceType.Ipc)
        stack.callback(id, node)  # alive as long as its ports
        return node

    def _service(self, iox2: Any, node: Any) -> Any:
        """One sample loaned, one being read, the rest on the way: `depth` in all for a reader."""
        return (
            node.service_builder(iox2.ServiceName.new("wire"))
            .publish_subscribe(iox2.Slice[ctypes.c_uint8])
            .max_publishers(1)
            .max_subscribers(self.readers)
            .history_size(0)
            .enable_safe_overflow(False)  # noqa: FBT003  # nothing may be lost
            .subscriber_max_buffer_size(max(1, self.depth - 2))
            .subscriber_max_borrowed_samples(1)
            .open_or_create()
        )

    @staticmethod
    def _event(iox2: Any, node: Any) -> Any:
        return node.service_builder(iox2.ServiceName.new("bell")).event().open_or_create()


def over(sample: Any, kind: Any) -> Bytes:
    """What `np.frombuffer(sample.payload().as_memory_view())` gives, in half the time."""
    array: Bytes = np.frombuffer(kind.from_address(sample.payload_ptr), np.uint8)
    return array


class ServiceSender:
    """Loans and sends."""

    def __init__(self, publisher: Any, notifier: Any, size: int) -> None:
        self.publisher, self._notifier, self._size = publisher, notifier, size
        self._array = ctypes.c_uint8 * size
        self._sample: Any = None

    def room(self) -> Bytes:
        """An array over a loan."""
        self._sample = self.publisher.loan_slice_uninit(self._size)
        return over(self._sample, self._array)

    def send(self) -> None:
        """Send it, and ring."""
        self._sample.assume_init().send()
        if self._notifier is not None:
            self._notifier.notify()

    def send_blank(self) -> None:
        """A loan as it is."""
        self.publisher.loan_slice_uninit(self._size).assume_init().send()
        if self._notifier is not None:
            self._notifier.notify()


class ServiceReceiver:
    """Asks until there is a sample."""

    def __init__(self, subscriber: Any, size: int) -> None:
        self.subscriber = subscriber
        self._array = ctypes.c_uint8 * size
        self._sample: Any = None

    def receive(self) -> Bytes:
        """An array over the sample."""
        self._sample = self._next()
        return over(self._sample, self._array)

    def done(self) -> None:
        """Give the sample back."""
        self._sample.delete()

    def receive_blank(self) -> None:
        """A sample as it is."""
        self._next().delete()

    def _next(self) -> Any:
        receive = self.subscriber.receive
        sample = receive()
        while sample is None:
            sample = receive()
        return sample


class EventReceiver(ServiceReceiver):
    """Sleeps until it is told that there is one."""

    def __init__(self, subscriber: Any, size: int, wait: Any) -> None:
        super().__init__(subscriber, size)
        self._wait = wait

    def _next(self) -> Any:
        sample = self.subscriber.receive()
        while sample is None:
            self._wait()
            sample = self.subscriber.receive()
        return sample


def open_service(
    stack: ExitStack, size: int, depth: int, *, events: bool, readers: int = 1
) -> ServiceWire:
    """A service under a prefix of its own, all of which is removed afterwards."""
    prefix = f"bench-{os.getpid()}-{secrets.token_hex(4)}-"
    root = mkdtemp(prefix=prefix)
    stack.callback(_remove, prefix, root)
    return ServiceWire(prefix, root, size, depth, events, readers)


def _remove(prefix: str, root: str) -> None:
    rmtree(root, ignore_errors=True)
    for path in _MEMORY.glob(f"{prefix}*"):
        path.unlink(missing_ok=True)


def _peer(name: str, *, events: bool) -> Peer:
    return Peer(
        name, "iceoryx2", "iceoryx2",
        "https://github.com/eclipse-iceoryx/iceoryx2/tree/main/examples/python",
        "none", partial(open_service, events=events), shared=True, many=False,
    )  # fmt: skip


EVENTS = _peer("iceoryx2, events", events=True)
POLLING = _peer("iceoryx2, polling", events=False)
