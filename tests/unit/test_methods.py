"""Methods written in C are each class's own, so that the interpreter can specialize their calls."""

from __future__ import annotations

from types import MethodDescriptorType
from typing import Any

import pytest

from shmpool import Borrow, Lease, Pool, Queue, _core


def in_c(class_: type) -> list[tuple[type, str, Any]]:
    """The methods of the C bases of a class: base, name, descriptor."""
    return [
        (base, name, thing)
        for base in class_.__mro__[1:]
        if base.__module__ == "shmpool._core"
        for name, thing in vars(base).items()
        if isinstance(thing, MethodDescriptorType)
    ]


@pytest.mark.parametrize("class_", [Pool, Queue, Lease, Borrow])
def test_what_is_called_is_of_the_class_itself(class_: type) -> None:
    """Of the very type of the object: only then a call is specialized."""
    names = {name for _, name, _ in in_c(class_)}
    assert names
    for name in names:
        found = vars(class_)[name]
        if isinstance(found, MethodDescriptorType):
            assert found.__objclass__ is class_, name


def test_documentation_and_signature_are_the_base_s() -> None:
    """Nothing else changes by it."""
    for _, name, of_base in in_c(Queue):
        own = vars(Queue)[name]
        if isinstance(own, MethodDescriptorType):
            assert (own.__doc__, own.__text_signature__) == (
                of_base.__doc__, of_base.__text_signature__,
            )  # fmt: skip


def test_what_a_class_in_between_defines_stays() -> None:
    """Only what comes from C is taken over."""

    class Between(_core.QueueBase):
        def put(self, *_: object, **__: object) -> None:
            raise NotImplementedError

    @_core.own_methods
    class Last(Between):
        pass

    assert Last.put is Between.put
    assert Last.get is not _core.QueueBase.get


def test_a_subclass_may_override_and_go_on() -> None:
    """As with any class."""
    calls = []

    class Counting(Pool):
        def acquire(self, *arguments: Any, **options: Any) -> Lease:
            calls.append(arguments)
            return super().acquire(*arguments, **options)

    with Pool.create(slots=1, slot_size=64) as pool, Counting.attach(pool.name) as counting:
        counting.acquire(8).release()
    assert calls == [(8,)]


def test_only_a_class_has_methods() -> None:
    """What is none is refused."""
    with pytest.raises(TypeError, match="not a class: 3"):
        _core.own_methods(3)  # type: ignore[type-var]
