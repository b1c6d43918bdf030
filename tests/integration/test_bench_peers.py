"""What benchmarks/ compares us with is used rightly, verified, and never waited for for ever."""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from threading import Event

import numpy as np
import pytest

from benchmarks import catalogue, many_to_many, stream
from benchmarks.contest import contest
from benchmarks.peers import all_peers, fans, mp_queue, ours
from benchmarks.peers.protocol import check, fill, pins, read
from benchmarks.stage import LIMIT, FailedError, Role, play
from benchmarks.traffic import Load, check_filled, send_filled

# All but torch, which has half a gigabyte and is installed by `make bench` alone.
OTHERS = [peer for peer in all_peers.PEERS if peer.distribution not in pins("bench-torch")]
PEERS = (ours.OURS, ours.ASLEEP, *OTHERS)


def _available(peer):
    reason = peer.available()
    if reason:
        pytest.skip(reason)


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_a_peer_hands_on_every_message(peer, monkeypatch):
    """In order, filled at every place that is looked at; more of them than there are slots."""
    _available(peer)
    monkeypatch.setattr(stream, "SIZE", 100_000)
    measured = stream.block(peer, 10)
    assert measured["time"][0] > 0
    assert measured["cpu"][0] > 0


@pytest.mark.parametrize("peer", [peer for peer in PEERS if peer.many], ids=lambda peer: peer.name)
def test_several_share_the_messages(peer):
    """The block itself verifies that the numbers add up."""
    _available(peer)
    assert many_to_many.block(peer, 2, 2, 32)["time"][0] > 0


@pytest.mark.parametrize("fan", fans.FANS, ids=lambda fan: fan.name)
def test_all_readers_get_all_messages(fan, make_wires):
    """Each reader checks each message, while the sender goes round its slots twice."""
    _available(fan.peer)
    sender, receivers = make_wires(fan)
    load = Load(0, 16)
    roles = [Role(check_filled, (wire, load)) for wire in receivers]
    assert len(play([Role(send_filled, (sender, load)), *roles]).results) == 3


@pytest.fixture
def make_wires():
    """A fan to two readers, closed afterwards."""
    with ExitStack() as stack:
        yield lambda fan: fan.open(stack, 100_000, 8, 2)


@pytest.mark.parametrize("at", [0, 50, 99])
def test_a_message_that_is_another_s_is_noticed(at):
    """At its start, in its middle, at its end."""
    frame = np.zeros(100, np.uint8)
    fill(frame, 7)
    assert read(frame) == 7
    check(frame, 7)
    frame[at] ^= 1
    with pytest.raises(ValueError, match="message"):
        check(frame, 7)


def test_every_pinned_peer_is_one_that_is_measured():
    """And the other way round: no extra is installed for nothing, none is measured unpinned."""
    assert set(pins()) == {peer.distribution for peer in all_peers.PEERS if peer.distribution}


def test_every_benchmark_is_explained():
    """The table of benchmarks/README.md names each that can be run."""
    page = (Path(catalogue.__file__).parent / "README.md").read_text()
    assert [name for name in catalogue.BENCHMARKS if f"| `{name}` |" not in page] == []


def test_what_is_not_installed_is_skipped_with_a_reason():
    """The reason says how to have it."""
    absent = mp_queue.QUEUE.__class__(
        "absent", "absent", "faster-fifo-absent", "", "", mp_queue.QUEUE.open
    )
    present, missing = all_peers.present([absent, mp_queue.QUEUE])
    assert present == [mp_queue.QUEUE]
    assert "absent" in missing[0]
    assert "pip install" in missing[0]


def _hang(stack):
    del stack
    return Event().wait


def _raise(stack):
    del stack
    return partial(int, "no number")


def _die(stack):
    del stack
    return partial(os.kill, os.getpid(), signal.SIGKILL)


def _pass(stack):
    del stack
    return int


@pytest.mark.parametrize(
    ("build", "words", "limit"),
    [(_hang, "hung", 2), (_raise, "no number", LIMIT), (_die, "died, exit code -9", LIMIT)],
)
def test_a_peer_that_fails_is_told_and_leaves_no_process(build, words, limit):
    """Whatever it does; the process that waits for it is ended with it."""
    with pytest.raises(FailedError, match=words):
        play([Role(build), Role(_pass)], limit=limit)


def test_a_side_that_fails_stops_no_other():
    """It is noted, and left out from there on; one that must not fail is an error."""

    def fails():
        raise FailedError("as planned")

    sides = {"good": lambda: {"time": [1.0]}, "bad": fails}
    found = contest(2, sides)
    assert list(found.series) == ["good"]
    assert found.notes == ["bad failed in round 1: as planned"]
    with pytest.raises(FailedError):
        contest(1, sides, must=["bad"])
