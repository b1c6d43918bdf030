"""What `shmpool top` shows: it fits, says all, and says it without colours."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from rich.text import Text

from shmpool import Pool, _look
from shmpool._layout import State
from shmpool.cli import slotmap
from shmpool.cli.motion import Motion, motion
from shmpool.cli.screen import draw, share
from shmpool.cli.wishes import KEYS, Wishes

MakePool = Callable[..., Pool]
SIZES = [(80, 24), (120, 40), (100, 36), (200, 60), (60, 15), (40, 10), (20, 5), (1, 1)]
LIVE = Wishes(live=True, every=0.5, past=(0.0, 3.0, 9.0))
NAMES = (
    "worker-1",
    "ein-sehr-langer-Name-der-nirgends-passt",
    "工作进程" * 6,
    "",
    "\x1b[2J\n",
    "é" * 64,
)


def crowded(make_pool: MakePool, *, slots: int = 4096) -> Motion:
    """As full as a pool can be: 255 members, 31 queues, everything in use and waiting."""
    queues = tuple(f"{'q' * (n % 20)}{n}" for n in range(31))
    pool = make_pool(slots=slots, slot_size=64, views="raise", queues=queues, members=255)
    before, now = _look.look(pool.name), _look.look(pool.name)
    rng, view = np.random.default_rng(1), now.view
    view.members["identity"] = [0, *(1 << 31 - n % 20 << 8 | 2 for n in range(1, 256))]
    view.members["name"] = [b"", *(NAMES[n % len(NAMES)].encode()[:64] for n in range(255))]
    for name in ("acquired", "got", "put", "released", "received", "stale", "waited_ns"):
        view.members[name] = rng.integers(0, 1 << 40, 256)
    for table, mask in (("queue_states", "waiting"), ("class_states", "waiting")):
        getattr(view, table)[mask][:] = (1 << 64) - 1
    view.queue_states["tail"] += rng.integers(0, slots, 31).astype(np.uint64)
    words = 9 << 16 | rng.integers(1, 255, slots) << 8 | rng.integers(0, 31, slots) << 3
    view.slots["word"] = words | rng.integers(0, 8, slots)
    view.slots["since_ns"] = now.when_ns - rng.integers(0, 10**17, slots)
    for name in ("reaped_members", "reaped_leases", "requeued", "dead_lettered"):
        view.status[name] = 10**9
    return motion(before, replace(now, when_ns=before.when_ns + 10**9), most=64)


@pytest.fixture
def small(make_pool: MakePool) -> Motion:
    """Four slots, one of them leased and one in a queue."""
    pool = make_pool(member_name="boss")
    with pool.acquire():
        pool.queue("a").put(pool.acquire())
        look = _look.look(pool.name)
    pool.queue("a").get().release()
    return motion(look, look)


def written(lines: list[Text], width: int, **options: Any) -> list[str]:
    """The lines as a terminal gets them."""
    file = io.StringIO()
    console = Console(file=file, width=width, highlight=False, **options)
    for line in lines:
        console.print(line)
    return file.getvalue().splitlines()


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("wishes", [LIVE, replace(LIVE, help=True, paused=True), Wishes()])
def test_nothing_wraps_and_nothing_overflows(
    make_pool: MakePool, wishes: Wishes, width: int, height: int
) -> None:
    """The most crowded pool on any screen."""
    lines = draw(crowded(make_pool), wishes, width, height)
    assert max(line.cell_len for line in lines) <= width
    assert len(lines) == height if wishes.live else len(lines) <= height
    shown = written(lines, width)
    assert len(shown) == len(lines)
    assert all(line.isprintable() for line in shown)


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_a_small_pool_fits(small: Motion, width: int, height: int) -> None:
    """With the keys in the last line."""
    lines = draw(small, LIVE, width, height)
    assert max(line.cell_len for line in lines) <= width
    assert len(lines) == height
    if width >= 20 and height > 1:
        assert lines[-1].plain.startswith(" q  quit")


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40)])
def test_all_parts_are_on_a_screen_of_24_lines(
    make_pool: MakePool, width: int, height: int
) -> None:
    """The map with its scale, queues, members, holds: each with a line at least."""
    text = "\n".join(line.plain for line in draw(crowded(make_pool), LIVE, width, height))
    for words in ("4096 slots: ", " a cell: the rarest", "31 queues: the ", "held: the longest",
                  "255 members: by rate, 1 to ", "stale rights", "ages now: ", "OPEN"):  # fmt: skip
        assert words in text


@pytest.mark.parametrize("height", range(1, 30))
def test_a_title_never_stands_without_a_line_of_its_own(make_pool: MakePool, height: int) -> None:
    """Where there is no room for a table, it is not begun; members go last."""
    lines = [line.plain for line in draw(crowded(make_pool), LIVE, 80, height)]
    titles = [n for n, line in enumerate(lines) if line.startswith("─ ")]
    if height >= 13:
        assert any("members: " in lines[n] for n in titles)
        for number in titles[1:]:
            assert lines[number + 2][:2].strip() != "─"
            assert number + 2 < height - 1


def test_without_a_height_all_members_and_queues_are_shown(make_pool: MakePool) -> None:
    """As it is printed once."""
    text = "\n".join(line.plain for line in draw(crowded(make_pool), Wishes(), 80))
    assert "255 members: by rate ─" in text
    assert text.count("worker-1") >= 43
    assert "31 queues: bars" in text


def test_members_further_down_can_be_reached(make_pool: MakePool) -> None:
    """The last of 255 too; beyond it there is nothing to go to."""
    of = crowded(make_pool)
    wishes = replace(LIVE, sort="index", skip=254)
    text = "\n".join(line.plain for line in draw(of, wishes, 80, 24))
    assert "to 255" in text
    last = of.members[-1]
    assert f"{last.pid}" in text


# The map.


@pytest.mark.parametrize("slots", [1, 7, 24, 25, 96, 500, 4096, 65536])
@pytest.mark.parametrize(("width", "rows"), [(80, 4), (120, 16), (20, 1), (1, 1)])
def test_every_slot_is_in_a_cell(slots: int, width: int, rows: int) -> None:
    """One slot in quarantine, wherever it is, is seen; and the map has the rows that it may."""
    by = slotmap.scale(slots, width, rows)
    for place in {0, slots // 2, slots - 1}:
        states = [int(State.LEASED)] * slots
        states[place] = int(State.QUARANTINED)
        lines = list(slotmap.lines(states, [1] * slots, by))
        assert len(lines) == by.rows(slots) <= rows
        text = "".join(line.plain.partition(" ")[2] if width > 1 else line.plain for line in lines)
        assert text.count(slotmap.MARKS[State.QUARANTINED].symbol) == 1
        assert max(line.cell_len for line in lines) <= max(width, by.label + by.columns)


def test_cells_are_as_large_as_they_can_be() -> None:
    """Room for a letter where there is room; else none, else several slots a cell."""
    scales = [slotmap.scale(slots, 80, 4) for slots in (96, 97, 128, 129, 256, 257, 4096)]
    assert [(by.columns, by.slots) for by in scales] == [
        (3, 1), (2, 1), (2, 1), (1, 1), (1, 1), (1, 2), (1, 16),
    ]  # fmt: skip


def test_a_cell_of_several_says_by_its_weight_how_many_are_in_use() -> None:
    """Bold, with or without colours, if most are."""
    by = slotmap.Scale(1, 4, 3, 2)
    states = [1, 1, 1, 0, 1, 0, 0, 0, 0, 0, 0, 5]
    (line,) = slotmap.lines(states, [1] * 12, by)
    assert line.plain == "0 ■■·"
    styles = [str(span.style) for span in line.spans]
    assert [style.startswith("bold") for style in styles] == [True, False, False]


def test_states_have_a_symbol_each() -> None:
    """Of one column, in ASCII too."""
    symbols = [mark.symbol for mark in slotmap.MARKS.values()]
    assert len(set(symbols)) == len(State) == len(slotmap.MARKS)
    assert all(Text(symbol).cell_len == 1 for symbol in symbols)
    error = UnicodeEncodeError("ascii", "".join(symbols), 0, len(symbols), "")
    assert len(set(slotmap.in_ascii(error)[0])) == len(State)


def test_colours_say_nothing_that_symbols_do_not(small: Motion) -> None:
    """The same text without; and no code that colours."""
    lines = draw(small, LIVE, 80, 24)
    bare = "\n".join(written(lines, 80, force_terminal=True, no_color=True))
    assert "0 ■a »a ·  ·" in "\n".join(line.plain for line in lines)
    assert "38;" not in bare
    assert "48;" not in bare


# What it says.


def test_names_are_not_taken_for_markup_or_codes(make_pool: MakePool) -> None:
    """What other processes call themselves goes to the terminal as text."""
    look = _look.look(make_pool(member_name="[red]x[/]").name)
    look.view.members["name"][1] = b"[red]a\x1b]0;b\x07"
    assert "[red]a?]0;b?" in "\n".join(written(draw(motion(look, look), LIVE, 120, 40), 120))


def test_the_help_says_all_keys_and_states(small: Motion) -> None:
    """On 80 columns and 24 lines, whole."""
    text = "\n".join(line.plain for line in draw(small, replace(LIVE, help=True), 80, 24))
    assert "…" not in text
    assert all(what in text for what in KEYS.values())
    assert all(
        f"{mark.symbol} {state.name.lower()} " in text for state, mark in slotmap.MARKS.items()
    )
    assert "no latencies" in text
    assert "(+n)" in text


def test_what_happened_while_one_looked_is_told_apart(small: Motion) -> None:
    """From what happened before."""
    fresh = {name: 2 * (name == "reaped_leases") for name in small.events}
    text = draw(replace(small, events=small.events | fresh, events_seen=fresh), LIVE, 120, 40)
    assert "reaped 2 (+2)" in "\n".join(line.plain for line in text)


def test_a_line_given_in_turn() -> None:
    """No section is left without one before another has its second."""
    assert share(10, [2, 9, 0, 9]) == [2, 4, 0, 4]
    assert share(3, [5, 5]) == [2, 1]
    assert share(99, [1, 2]) == [1, 2]
    assert share(-1, [1, 2]) == [0, 0]


# Keys.


def test_a_key_changes_what_is_wished_for() -> None:
    """And those that mean nothing change nothing."""
    seen = Wishes()
    for key, changed in (
        ("p", {"paused": True}), (" ", {"paused": False}), ("r", {"reversed": True}),
        ("s", {"sort": "held"}), ("?", {"help": True}), ("h", {"help": False}),
        ("j", {"skip": 1}), ("down", {"skip": 2}), ("j", {"skip": 2}), ("k", {"skip": 1}),
        ("up", {"skip": 0}), ("up", {"skip": 0}), ("x", {}), ("\x00", {}),
    ):  # fmt: skip
        before, seen = seen, seen.after(key, 3)
        assert seen == replace(before, **changed)
    for _ in range(5):
        seen = seen.after("s", 3)
    assert seen.sort == "rate"
