"""The header record: the user's fields that travel beside the payload of a slot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import shmpool

HEADER = np.dtype(
    [
        ("frame", "<i8"),
        ("gain", "<f4"),
        ("label", "S8"),
        ("name", "<U6"),
        ("box", "<i4", (4,)),
        ("matrix", "<f8", (2, 3)),
        ("at", [("x", "<i2"), ("y", "<i2")]),
        ("copy", "u1"),
    ]
)
VALUES: dict[str, Any] = {
    "frame": -(1 << 40),
    "gain": 0.5,
    "label": b"left",
    "name": "süd",
    "box": [1, 2, 3, 4],
    "matrix": [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]],
    "at": (7, -8),
    "copy": 200,
}
BY_ATTRIBUTE = [field for field in VALUES if field != "copy"]


def same(value: Any, expected: Any) -> bool:
    return bool(np.array_equal(np.asarray(value).tolist(), np.asarray(expected).tolist()))


@pytest.fixture
def headed(make_pool: Callable[..., shmpool.Pool]) -> shmpool.Pool:
    """A pool whose slots have a header."""
    return make_pool(header=HEADER)


@pytest.mark.parametrize("field", VALUES)
def test_a_field_is_set_and_read_by_item(headed: shmpool.Pool, field: str) -> None:
    """`header[field]` gives what was assigned to `header[field]`."""
    with headed.acquire() as lease:
        lease.header[field] = VALUES[field]
        assert same(lease.header[field], VALUES[field])


@pytest.mark.parametrize("field", BY_ATTRIBUTE)
def test_a_field_is_set_and_read_by_attribute(headed: shmpool.Pool, field: str) -> None:
    """`header.field` and `header["field"]` are one thing."""
    with headed.acquire() as lease:
        setattr(lease.header, field, VALUES[field])
        assert same(getattr(lease.header, field), VALUES[field])
        assert same(lease.header[field], VALUES[field])


def test_a_field_named_like_a_method_is_read_by_item(headed: shmpool.Pool) -> None:
    """Methods of the record win over fields of their name, which items still reach."""
    with headed.acquire() as lease:
        setattr(lease.header, "copy", 9)  # noqa: B010 - as a type checker allows it
        assert lease.header["copy"] == 9
        assert callable(lease.header.copy)


def test_setting_one_field_leaves_the_others(headed: shmpool.Pool) -> None:
    """Fields do not overlap."""
    with headed.acquire() as lease:
        for field, value in VALUES.items():
            lease.header[field] = value
        for field, value in VALUES.items():
            assert same(lease.header[field], value), field


def test_headers_of_two_slots_are_two(headed: shmpool.Pool) -> None:
    """Each slot has a record of its own."""
    leases = [headed.acquire() for _ in range(headed.slots)]
    for number, lease in enumerate(leases):
        lease.header.assign(tuple((VALUES | {"frame": number}).values()))
    assert [int(lease.header.frame) for lease in leases] == list(range(headed.slots))
    for lease in leases:
        lease.release()


def test_two_looks_at_one_header_see_the_same_record(headed: shmpool.Pool) -> None:
    """`lease.header` is no copy: writing goes to the slot at once."""
    with headed.acquire() as lease:
        one, other = lease.header, lease.header
        one.frame = 1
        other.frame += 1
        assert one.frame == 2


def test_the_header_has_the_dtype_given_at_create(headed: shmpool.Pool) -> None:
    """`header.dtype` is the structured dtype of the pool."""
    with headed.acquire() as lease:
        assert lease.header.dtype == HEADER


@pytest.mark.parametrize("field", ["frame", "gain", "at"])
def test_a_scalar_field_is_read_as_a_value_of_its_own(headed: shmpool.Pool, field: str) -> None:
    """What was read does not change when the record does."""
    with headed.acquire() as lease:
        lease.header[field] = VALUES[field]
        value = lease.header[field]
        lease.header[field] = np.zeros((), HEADER[field])[()]
        assert same(value, VALUES[field])


@pytest.mark.parametrize("field", ["box", "matrix"])
def test_a_subarray_is_read_as_a_read_only_copy(headed: shmpool.Pool, field: str) -> None:
    """Writing to a subarray that was read would be lost, so it raises; reading stays valid."""
    with headed.acquire() as lease:
        lease.header[field] = VALUES[field]
        value = lease.header[field]
        with pytest.raises(ValueError, match="read-only"):
            value[0] = 0
        lease.header[field] = 0
        assert same(value, VALUES[field])
    assert same(value, VALUES[field])


def test_a_subarray_is_no_view_of_the_lease(headed: shmpool.Pool) -> None:
    """A field that was read does not keep the lease from ending."""
    lease = headed.acquire()
    box, header = lease.header.box, lease.header
    lease.release()
    assert box.shape == (4,)
    with pytest.raises(shmpool.AlreadyEndedError):
        _ = header.box


def test_assign_sets_every_field(headed: shmpool.Pool) -> None:
    """`assign(tuple)` takes one value for each field, in order."""
    with headed.acquire() as lease:
        lease.header.assign(tuple(VALUES.values()))
        for field, value in VALUES.items():
            assert same(lease.header[field], value), field


def test_assign_takes_the_copy_of_another_header(headed: shmpool.Pool) -> None:
    """`assign(other.copy())` moves a whole record from slot to slot."""
    with headed.acquire() as one, headed.acquire() as other:
        one.header.assign(tuple(VALUES.values()))
        other.header.assign((0, 0, b"", "", 0, 0, (0, 0), 0))
        other.header.assign(one.header.copy())
        for field, value in VALUES.items():
            assert same(other.header[field], value), field


def test_assign_with_too_few_values_changes_nothing(headed: shmpool.Pool) -> None:
    """A tuple of another length is refused as a whole."""
    with headed.acquire() as lease:
        lease.header.assign(tuple(VALUES.values()))
        with pytest.raises((ValueError, TypeError)):
            lease.header.assign((1, 2))
        assert lease.header.frame == VALUES["frame"]


def test_a_copy_of_the_header_outlives_the_lease(headed: shmpool.Pool) -> None:
    """`copy()` is a numpy record of its own, by item and by attribute."""
    with headed.acquire() as lease:
        lease.header.assign(tuple(VALUES.values()))
        copied = lease.header.copy()
        lease.header.frame = 0
    assert isinstance(copied, np.record)
    assert copied.frame == copied["frame"] == VALUES["frame"]
    assert copied.label == b"left"
    assert same(copied.box, VALUES["box"])


@pytest.mark.parametrize("field", ["nothing", "Frame", "__array__", ""])
def test_an_unknown_attribute_raises_attribute_error(headed: shmpool.Pool, field: str) -> None:
    """Reading or setting an attribute that is no field names the fields there are."""
    with headed.acquire() as lease:
        with pytest.raises(AttributeError, match="frame"):
            getattr(lease.header, field)
        with pytest.raises(AttributeError, match="frame"):
            setattr(lease.header, field, 1)


def test_an_unknown_item_raises(headed: shmpool.Pool) -> None:
    """Items that are no field raise as numpy's do."""
    with headed.acquire() as lease:
        with pytest.raises((ValueError, KeyError), match="nothing"):
            _ = lease.header["nothing"]
        with pytest.raises((ValueError, KeyError), match="nothing"):
            lease.header["nothing"] = 1


def test_the_header_travels_through_a_queue(headed: shmpool.Pool) -> None:
    """The receiver reads what the sender set."""
    with headed.acquire() as lease:
        lease.header.assign(tuple(VALUES.values()))
        headed.queue("a").put(lease)
    with headed.queue("a").get() as lease:
        for field, value in VALUES.items():
            assert same(lease.header[field], value), field


def test_the_header_travels_with_a_detached_ticket(headed: shmpool.Pool) -> None:
    """Who claims a ticket reads what its sender set."""
    lease = headed.acquire()
    lease.header.frame = 77
    with headed.claim(lease.detach()) as claimed:
        assert claimed.header.frame == 77


def test_the_header_is_apart_from_the_payload(headed: shmpool.Pool) -> None:
    """Filling the slot leaves the header alone, and setting the header the slot."""
    with headed.acquire() as lease:
        lease.header.assign(tuple(VALUES.values()))
        lease.array(headed.slot_size, "u1")[:] = 255
        for field, value in VALUES.items():
            assert same(lease.header[field], value), field
        lease.header.assign((0, 0, b"", "", 0, 0, (0, 0), 0))
        assert (lease.array() == 255).all()


def _assign(header: Any) -> None:
    header.assign((0, 0, b"", "", 0, 0, (0, 0), 0))


def _set_item(header: Any) -> None:
    header["frame"] = 1


def _set_attribute(header: Any) -> None:
    header.frame = 1


ACCESSES: dict[str, Callable[[Any], object]] = {
    "item": lambda header: header["frame"],
    "attribute": lambda header: header.frame,
    "subarray": lambda header: header.box,
    "set item": _set_item,
    "set attribute": _set_attribute,
    "copy": lambda header: header.copy(),
    "assign": _assign,
}
ENDINGS: dict[str, Callable[[shmpool.Pool, shmpool.Lease], object]] = {
    "released": lambda _, lease: lease.release(),
    "put": lambda pool, lease: pool.queue("a").put(lease),
    "detached": lambda _, lease: lease.detach(),
}


@pytest.mark.parametrize("access", ACCESSES)
@pytest.mark.parametrize("ending", ENDINGS)
def test_every_access_after_the_end_raises(headed: shmpool.Pool, ending: str, access: str) -> None:
    """A record belongs to its lease: it never reads or writes the next holder's fields."""
    lease = headed.acquire()
    header = lease.header
    header.frame = 5
    ENDINGS[ending](headed, lease)
    with pytest.raises(shmpool.AlreadyEndedError, match=ending):
        ACCESSES[access](header)


def test_a_late_write_does_not_reach_the_next_holder(headed: shmpool.Pool) -> None:
    """The header of a lease that is over cannot change the slot's record."""
    lease = headed.acquire()
    header, slot = lease.header, lease.slot
    lease.release()
    with headed.acquire() as following:
        assert following.slot == slot
        following.header.frame = 3
        with pytest.raises(shmpool.StaleTicketError):
            header.frame = 4
        assert following.header.frame == 3


def test_a_pool_without_a_header_has_none(pool: shmpool.Pool) -> None:
    """`lease.header` raises ArgumentError that says how to get one."""
    with pool.acquire() as lease, pytest.raises(shmpool.ArgumentError, match="header="):
        _ = lease.header


def test_repr_shows_the_fields_or_that_it_is_over(headed: shmpool.Pool) -> None:
    """The repr of a record never raises."""
    lease = headed.acquire()
    header = lease.header
    header.label = b"shown"
    assert "shown" in repr(header)
    lease.release()
    assert "over" in repr(header)
