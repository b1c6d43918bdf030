"""Views that outlive their right: the next holder is unharmed, and whoever touches is told.

Every kind of view, every way a right ends, every policy, every way to touch, from the main thread
and from another.
"""

# ruff: noqa: F821 - a name that is deleted later, in a lambda, is there when it runs
from __future__ import annotations

import ctypes
import gc
import itertools
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pytest

import shmpool
from shmpool import Pool, _reaper

PAGE = 4096
MINE, NEXT, TOUCHED = 0x11, 0x5A, 0xFF
CYCLES = 1_000_000 if os.environ.get("SHMPOOL_PROVE") == "1" else 20_000
POINT = np.dtype([("x", "u1"), ("y", "u1")])

MakePool = Callable[..., Pool]
frombuffer: Any = np.frombuffer  # numpy's stubs do not know the buffer protocol


@pytest.fixture(scope="module", autouse=True)
def no_garbage_of_others() -> None:
    """Closed pools that only a collection unmaps are not to go while mappings are compared."""
    gc.collect()


@pytest.fixture(autouse=True)
def collected_between_tests() -> Iterator[None]:
    """The same of a test before."""
    gc.disable()
    yield
    gc.enable()


SEEN: dict[str, Callable[[Any], Any]] = {
    "memoryview": memoryview,
    "slice of a memoryview": lambda right: memoryview(right)[8:16],
    "cast": lambda right: memoryview(right).cast("I"),
    "array": lambda right: right.array((8, 8), "u1"),
    "slice": lambda right: right.array((8, 8), "u1")[1:, ::2],
    "transposed": lambda right: right.array((8, 4), "u1").T,
    "field": lambda right: right.array((8,), POINT)["y"],
    "0-d": lambda right: right.array((), "u4"),
    "reshaped": lambda right: right.array((8, 8), "u1").reshape(4, 16),
    "derived": lambda right: right.array((8, 8), "u1").view("u2")[::-1],
    "frombuffer": lambda right: frombuffer(right, "u1", count=64),
    "asarray": np.asarray,
    "ctypes": (ctypes.c_char * 64).from_buffer,
    "pyarrow": pa.py_buffer,
    "film": lambda right: av.VideoFrame.from_numpy_buffer(right.array((32, 64), "u1"), "gray"),
}
UNSEEN: dict[str, Callable[[Any], Any]] = {
    "ndarray(buffer=)": lambda right: np.ndarray((64,), "u1", buffer=right),
}
VIEWS = SEEN | UNSEEN
READ_ONLY = [name for name in VIEWS if name not in ("ctypes", "film")]  # these want to write


def _with(_: Pool, right: Any) -> None:
    with right:
        pass


def _with_error(_: Pool, right: Any) -> None:
    with suppress(KeyError), right:
        raise KeyError


ENDINGS: dict[str, Callable[[Pool, Any], Any]] = {
    "release": lambda _, right: right.release(),
    "with": _with,
    "with an error": _with_error,
    "put": lambda pool, right: pool.queue("a").put(right),
    "detach": lambda _, right: right.detach(),
    "move": lambda _, right: right.writer().write(bytes(2 * PAGE)),
}
SAID = {"put": "put", "detach": "detached", "move": "moved on"}  # otherwise "released"
READING = ["release", "with", "with an error"]  # how a right to read may end


def line_of(ending: str) -> int:
    """Where the right ends: the lambda's line, or that of the `with`."""
    return ENDINGS[ending].__code__.co_firstlineno + ending.startswith("with")


def memory(view: Any) -> Any:
    """What of a view has the buffer protocol."""
    return view.planes[0] if isinstance(view, av.VideoFrame) else view


def array_of(view: Any) -> np.ndarray[Any, Any]:
    return view if isinstance(view, np.ndarray) else frombuffer(memory(view), "u1")


def bytes_of(view: Any) -> bytes:
    return memoryview(memory(view)).tobytes()


def address(view: Any) -> int:
    at: int = array_of(view).__array_interface__["data"][0]
    return at


def write(view: Any) -> None:
    array = array_of(view)
    if array.flags.writeable:
        array.fill(TOUCHED)
    else:
        ctypes.memset(address(view), TOUCHED, 1)


TOUCHES: dict[str, Callable[[Any], Any]] = {
    "read": bytes_of,
    "write": write,
    "reduction": lambda view: array_of(view).sum(),
    "memmove out": lambda view: ctypes.memmove(ctypes.create_string_buffer(4), address(view), 4),
    "memmove in": lambda view: ctypes.memmove(address(view), b"\xff\xff\xff\xff", 4),
}
WRITING = ("write", "memmove in")


def nothing() -> None:
    """A call: where the interpreter looks for what there is to raise."""


def touch_here(touch: Callable[[Any], Any], view: Any) -> int:
    touch(view)
    nothing()
    return threading.get_native_id()


def touch_in_a_thread(touch: Callable[[Any], Any], view: Any) -> None:
    thread = threading.Thread(target=touch, args=(view,), name="toucher")
    try:
        thread.start()
        thread.join()
    finally:
        thread.join()


HANDS = {"main": touch_here, "thread": touch_in_a_thread}


def told(touch: str, view: Any, hand: str = "main") -> shmpool.UseAfterReleaseError:
    """The error of a touch."""
    try:
        HANDS[hand](TOUCHES[touch], view)
        nothing()  # by now
    except shmpool.UseAfterReleaseError as error:
        return error.with_traceback(None)  # its frames have the view
    raise AssertionError(f"{touch} was not told")


def own_maps(hand: str = "main") -> list[str]:
    """What is mapped from pools, and what is reserved; threads reserve something, too."""
    kept = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        fields = line.split()
        if "slab" in line or (fields[1].startswith("---") and hand == "main"):
            kept.append(" ".join(fields[:2]))
    return kept


def warm_up(pool: Pool, views: int = 4) -> None:
    """Have addresses reserved for so many views of a slot at a time: they are used again."""
    kept = []
    for _ in range(views):
        with pool.acquire() as lease:
            kept.append(memoryview(lease))


def count_maps() -> int:
    return len(Path("/proc/self/maps").read_text().splitlines())


class Stage:
    """A pool of one small slot and a larger one, another attachment of it, and the next holders."""

    def __init__(self, views: str) -> None:
        classes = [(PAGE, 1), (4 * PAGE, 1)]
        self.pool = Pool.create(classes=classes, queues=("a",), views=views, members=2)
        self.other = Pool.attach(self.pool.name)

    def lease(self, shared: bool = False) -> shmpool.Lease:
        """Of the small slot, filled and described."""
        lease = self.pool.acquire_nowait(PAGE)
        memoryview(lease)[:] = bytes([MINE]) * PAGE
        lease.array((8, 8), "u1")
        if shared:
            lease.share()
        return lease

    def next_holder(self, outcome: Any) -> shmpool.Lease:
        """The slot again, from wherever the ending sent it."""
        if isinstance(outcome, shmpool.Ticket):
            lease = self.pool.claim(outcome)
        elif self.pool.queue("a").qsize():
            lease = self.pool.queue("a").get()
        else:
            lease = self.pool.acquire_nowait(PAGE)
        assert lease.slot == 0
        return lease

    def unharmed(self, holder: shmpool.Lease, touch: Callable[[], Any]) -> Any:
        """Fill the slot, touch the view, compare."""
        expected = bytes([NEXT]) * PAGE
        memoryview(holder)[:] = expected
        outcome = touch()
        assert bytes(memoryview(holder)) == expected
        return outcome

    def ended(self) -> None:
        """Nothing is held any more."""
        assert self.pool.audit()["free"] == 2


@pytest.fixture(scope="module")
def stages() -> Iterator[Callable[[str], Stage]]:
    """One pool for each policy, used again and again."""
    made: dict[str, Stage] = {}
    yield lambda views: made.setdefault(views, Stage(views))
    for stage in made.values():
        stage.other.close()
        stage.pool.close()


@pytest.fixture(scope="module", autouse=True)
def every_stage(stages: Callable[[str], Stage]) -> None:
    """They are there before a test looks what it leaves behind."""
    for views in ("fence", "raise", "copy", "ignore"):
        stage = stages(views)
        stage.other.acquire(PAGE).release()
        reaper = next(r for r in _reaper._all if r._mapping.spec.name == stage.pool.name)
        while not reaper._watched:
            pass  # the descriptor by which it sees the other attachment end is to come yet
        if views in ("fence", "copy"):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                warm_up(stage.pool)
                warm_up(stage.other)


# --- fences -------------------------------------------------------------------------------


@pytest.mark.parametrize("hand", HANDS)
@pytest.mark.parametrize("touch", TOUCHES)
@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("viewing", VIEWS)
def test_a_view_of_an_ended_lease_is_cut_off_and_told_of(
    stages: Callable[[str], Stage], viewing: str, ending: str, touch: str, hand: str
) -> None:
    """The next holder's bytes are unharmed, here and elsewhere; the error says what was touched."""
    stage = stages("fence")
    maps = own_maps(hand)
    lease = stage.lease()
    view, generation = VIEWS[viewing](lease), lease.generation
    outcome = ENDINGS[ending](stage.pool, lease)
    with stage.next_holder(outcome) as holder:
        error = stage.unharmed(holder, lambda: told(touch, view, hand))
    assert (error.pool, error.slot, error.generation) == (stage.pool.name, 0, generation)
    assert (error.file, error.line) == (Path(__file__).name, line_of(ending))
    assert error.write == (touch in WRITING)
    assert (error.thread == threading.get_native_id()) == (hand == "main")
    assert f"lease 0@{generation}" in str(error)
    assert f"after it was {SAID.get(ending, 'released')} at {Path(__file__).name}:" in str(error)
    with stage.other.acquire(PAGE) as elsewhere:
        if hand == "main":  # told again, for it is closed again
            stage.unharmed(elsewhere, lambda: told(touch, view))
        else:
            stage.unharmed(elsewhere, lambda: touch_in_a_thread(TOUCHES[touch], view))
    if lease.live:  # it moved on
        lease.release()
    del view, lease, holder
    stage.ended()
    assert own_maps(hand) == maps


@pytest.mark.parametrize("hand", HANDS)
@pytest.mark.parametrize("touch", TOUCHES)
@pytest.mark.parametrize("ending", READING)
@pytest.mark.parametrize("right", ["borrow", "shared lease"])
@pytest.mark.parametrize("viewing", READ_ONLY)
def test_a_view_of_an_ended_right_to_read_is_cut_off_and_told_of(
    stages: Callable[[str], Stage], viewing: str, right: str, ending: str, touch: str, hand: str
) -> None:
    """As that of a lease: the message says which of the two it was."""
    stage = stages("fence")
    maps = own_maps(hand)
    lease = stage.lease(shared=True)
    ended: Any = stage.pool.borrow(lease.ticket) if right == "borrow" else lease
    view, generation = VIEWS[viewing](ended), lease.generation
    ENDINGS[ending](stage.pool, ended)
    if right == "borrow":
        assert bytes(memoryview(lease)) == bytes([MINE]) * PAGE
        lease.release()
    with stage.next_holder(None) as holder:
        error = stage.unharmed(holder, lambda: told(touch, view, hand))
    assert (error.slot, error.generation) == (0, generation)
    assert (error.file, error.line) == (Path(__file__).name, line_of(ending))
    assert error.write == (touch in WRITING)
    assert f"{right.rsplit(maxsplit=1)[-1]} 0@{generation}" in str(error)
    del view, lease, ended, holder
    stage.ended()
    assert own_maps(hand) == maps


@pytest.mark.parametrize("viewing", VIEWS)
def test_a_view_that_is_cut_off_has_zeros(stages: Callable[[str], Stage], viewing: str) -> None:
    """What a touch reads is neither the old bytes nor the next holder's."""
    stage = stages("fence")
    lease = stage.lease()
    view, seen = VIEWS[viewing](lease), bytearray()
    lease.release()
    with stage.next_holder(None) as holder:
        memoryview(holder)[:] = bytes([NEXT]) * PAGE
        touch_in = threading.Thread(target=lambda: seen.extend(bytes_of(view)))
        with pytest.raises(shmpool.UseAfterReleaseError):  # noqa: PT012
            touch_in.start()
            touch_in.join()
            nothing()
        touch_in.join()
    assert seen
    assert not any(seen)
    del view, lease, holder
    stage.ended()


def test_a_thread_is_told_of_by_name_once_for_each_fence(stages: Callable[[str], Stage]) -> None:
    """It may be in the middle of it: what it goes on to do is no further error."""
    stage = stages("fence")
    for _ in range(3):
        lease = stage.lease()
        view = lease.array((64,), "u1")
        lease.release()
        go, done = threading.Event(), threading.Event()

        def touch_twice(view: Any = view, go: Any = go, done: Any = done) -> None:
            view.fill(1)
            done.set()
            go.wait()
            view.fill(2)

        toucher = threading.Thread(target=touch_twice, name="the painter")
        with pytest.raises(shmpool.UseAfterReleaseError, match="in thread 'the painter'"):  # noqa: PT012
            toucher.start()
            done.wait()
            nothing()
        go.set()
        toucher.join()
        nothing()
        del view, touch_twice, toucher
    del lease
    stage.ended()


# --- sharing ------------------------------------------------------------------------------


def test_a_view_of_a_pool_that_is_gone_is_not_told_of_as_one_of_the_next(
    make_pool: MakePool,
) -> None:
    """Pools of one name: of a slot that may be any of theirs no state and no story is told."""
    first = make_pool(slots=1, slot_size=4096, name="views-twice", debug=True)
    with first, first.acquire() as lease:
        view = lease.array((8,), np.uint8)
    with (
        make_pool(slots=1, slot_size=4096, name="views-twice", debug=True) as second,
        second.acquire(),
        pytest.raises(shmpool.UseAfterReleaseError) as told,
    ):
        view.fill(1)
    assert "is now" not in str(told.value)
    assert told.value.history == []


@pytest.mark.parametrize("hand", HANDS)
@pytest.mark.parametrize("touch", TOUCHES)
@pytest.mark.parametrize("viewing", VIEWS)
def test_a_view_of_before_share_only_reads(
    stages: Callable[[str], Stage], viewing: str, touch: str, hand: str
) -> None:
    """Reading is fine; a write goes to a private copy and is told; the end cuts it off."""
    stage = stages("fence")
    maps = own_maps(hand)
    lease = stage.lease()
    view, generation = VIEWS[viewing](lease), lease.generation
    shared = bytes(memoryview(lease))
    line = sys._getframe().f_lineno + 1
    ticket = lease.share()
    with stage.other.borrow(ticket) as borrow:
        if touch in WRITING:
            error = told(touch, view, hand)
            assert "after share()" in str(error)
            assert (error.slot, error.generation, error.line) == (0, generation, line)
            assert error.write is True
        else:
            HANDS[hand](TOUCHES[touch], view)
        assert bytes(borrow) == shared
        assert bytes(memoryview(lease)) == shared  # what the owner sees is what others see
    lease.release()
    with stage.next_holder(None) as holder:
        error = stage.unharmed(holder, lambda: told(touch, view))
    assert "after it was released" in str(error)
    del view, lease, holder
    stage.ended()
    assert own_maps(hand) == maps


# --- collection ---------------------------------------------------------------------------


@pytest.mark.parametrize("views", ["fence", "raise", "copy"])
@pytest.mark.parametrize("viewing", SEEN)
def test_the_right_of_a_collected_lease_passes_to_its_views(
    stages: Callable[[str], Stage], viewing: str, views: str
) -> None:
    """They stay what they were, and the slot comes back with the last of them: no error."""
    stage = stages(views)
    lease = stage.lease()
    view = VIEWS[viewing](lease)
    del lease
    assert stage.pool.audit()["leased"] == 1
    assert set(bytes_of(view)) == {MINE}
    write(view)
    nothing()
    del view
    stage.ended()


# --- the other policies -------------------------------------------------------------------


@pytest.mark.parametrize("ending", [name for name in ENDINGS if name != "with an error"])
@pytest.mark.parametrize("viewing", SEEN)
def test_a_lease_goes_on_under_views_where_they_are_an_error(
    stages: Callable[[str], Stage], viewing: str, ending: str
) -> None:
    """views="raise": ViewsAliveError, and the view is of the slot as before."""
    stage = stages("raise")
    lease = stage.lease()
    view = VIEWS[viewing](lease)
    with pytest.raises(shmpool.ViewsAliveError):
        ENDINGS[ending](stage.pool, lease)
    assert lease.live
    assert set(bytes_of(view)) == {MINE}
    del view
    lease.release()
    stage.ended()


@pytest.mark.parametrize("touch", TOUCHES)
@pytest.mark.parametrize("ending", [name for name in ENDINGS if name != "with an error"])
def test_a_view_that_cannot_be_counted_is_cut_off_instead(
    stages: Callable[[str], Stage], ending: str, touch: str
) -> None:
    """views="raise": np.ndarray(buffer=lease) refers to the lease alone, so it is fenced."""
    stage = stages("raise")
    lease = stage.lease()
    view = UNSEEN["ndarray(buffer=)"](lease)
    outcome = ENDINGS[ending](stage.pool, lease)
    with stage.next_holder(outcome) as holder:
        error = stage.unharmed(holder, lambda: told(touch, view))
    assert error.line == line_of(ending)
    if lease.live:
        lease.release()
    del view, lease, holder
    stage.ended()


@pytest.mark.parametrize("touch", TOUCHES)
@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("viewing", VIEWS)
def test_views_keep_a_copy_where_the_pool_says_so(
    stages: Callable[[str], Stage], viewing: str, ending: str, touch: str
) -> None:
    """views="copy": ViewsCopiedWarning at the user's line; bytes and writes are the view's own."""
    stage = stages("copy")
    maps = own_maps()
    lease = stage.lease()
    view, name = VIEWS[viewing](lease), str(lease)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        outcome = ENDINGS[ending](stage.pool, lease)
    (warning,) = [each for each in caught if each.category is shmpool.ViewsCopiedWarning]
    assert (warning.filename, warning.lineno) == (__file__, line_of(ending))
    assert str(warning.message).startswith(f"{PAGE} bytes of slot 0 were copied")
    assert name in str(warning.message)
    with stage.next_holder(outcome) as holder:
        stage.unharmed(holder, lambda: set(bytes_of(view)) == {MINE} or pytest.fail("lost"))
        stage.unharmed(holder, lambda: TOUCHES[touch](view))
    if lease.live:
        lease.release()
    del view, lease, holder
    stage.ended()
    assert own_maps() == maps


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("viewing", VIEWS)
def test_nothing_is_done_for_views_where_the_pool_says_so(
    stages: Callable[[str], Stage], viewing: str, ending: str
) -> None:
    """views="ignore": the view is of the slot, whoever holds it."""
    stage = stages("ignore")
    lease = stage.lease()
    view = VIEWS[viewing](lease)
    outcome = ENDINGS[ending](stage.pool, lease)
    with stage.next_holder(outcome) as holder:
        memoryview(holder)[:] = bytes([NEXT]) * PAGE
        assert set(bytes_of(view)) == {NEXT}
    if lease.live:
        lease.release()
    del view, lease, holder
    stage.ended()


# --- sizes, numbers, and what is left -----------------------------------------------------


@pytest.mark.parametrize("size", [1, PAGE, 64 << 20])
def test_slots_of_any_size_are_fenced(make_pool: MakePool, size: int) -> None:
    """A byte, a page, 64 MiB: the last byte is cut off as the first."""
    pool = make_pool(slots=2, slot_size=size)
    warm_up(pool)
    maps = own_maps()
    lease = pool.acquire()
    view = memoryview(lease)
    view[-1] = MINE
    lease.release()
    with pool.acquire() as holder:
        memoryview(holder)[-1] = NEXT
        for touch in ("read", "write"):
            error = told(touch, view[-1:])
            assert error.offset == size - 1
        assert memoryview(holder)[-1] == NEXT
    del view, lease, holder, error
    assert own_maps() == maps


def test_many_fences_leave_nothing_behind(stages: Callable[[str], Stage]) -> None:
    """20,000 in a row, 1,000,000 with SHMPOOL_PROVE=1: no mapping and no descriptor is left."""
    stage = stages("fence")

    def cycle() -> None:
        lease = stage.pool.acquire(PAGE)
        view = memoryview(lease)
        lease.release()
        del view

    for _ in range(100):
        cycle()
    maps, files = own_maps(), len(list(Path("/proc/self/fd").iterdir()))
    before = count_maps()
    for _ in range(CYCLES):
        cycle()
    assert own_maps() == maps
    assert count_maps() < before + CYCLES // 100  # Python's own heap may have grown by a few
    assert len(list(Path("/proc/self/fd").iterdir())) == files


@pytest.mark.parametrize("order", [*itertools.permutations(range(4))], ids=str)
@pytest.mark.parametrize("touching", [False, True])
def test_views_of_several_generations_die_in_any_order(
    make_pool: MakePool, order: tuple[int, ...], touching: bool
) -> None:
    """Each is told as its own; the mappings are those of the beginning when the last is gone."""
    pool = make_pool(slots=1)
    warm_up(pool)
    maps = own_maps()
    views, generations = {}, {}
    for number in range(4):
        lease = pool.acquire()
        views[number], generations[number] = memoryview(lease), lease.generation
        lease.release()
    for number in order:
        if touching:
            assert told("read", views[number]).generation == generations[number]
        del views[number]
        with pool.acquire() as holder:
            memoryview(holder)[:] = bytes([NEXT]) * PAGE
            for other, view in views.items():
                assert told("write", view).generation == generations[other]
            assert bytes(memoryview(holder)) == bytes([NEXT]) * PAGE
            view = None
    assert own_maps() == maps


def test_many_slots_are_fenced_at_once(make_pool: MakePool) -> None:
    """Each fence is its own slot's, and all are told."""
    pool = make_pool(slots=64)
    warm_up(pool)
    maps = own_maps()
    leases = [pool.acquire() for _ in range(64)]
    views = [memoryview(lease) for lease in leases]
    for lease in leases:
        lease.release()
    for lease, view in zip(leases, views, strict=True):
        error = told("write", view)
        assert (error.slot, error.generation) == (lease.slot, lease.generation)
    del leases, lease, views, view
    assert own_maps() == maps


SCARCE = """
import mmap, resource, shmpool
pool = shmpool.Pool.create(slots=1, slot_size="64 MiB")
lease = pool.acquire()
view = memoryview(lease)
used = int(open("/proc/self/statm").read().split()[0]) * 4096
soft, hard = resource.getrlimit(resource.RLIMIT_AS)
resource.setrlimit(resource.RLIMIT_AS, (used + (8 << 20), hard))
try:
    lease.release()
except shmpool.ViewsAliveError as error:
    print(error)
assert lease.live and view[0] == 0
view[0] = 7
assert memoryview(lease)[0] == 7
resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
lease.release()
assert not lease.live and pool.audit()["free"] == 1
del view
pool.close()
"""


def test_where_no_fence_can_be_put_up_the_lease_goes_on() -> None:
    """ViewsAliveError says why; when there is room for addresses again, the lease ends."""
    done = subprocess.run(
        [sys.executable, "-c", SCARCE], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "No fence could be put up: Cannot allocate memory" in done.stdout
    assert "The lease goes on" in done.stdout


FULL = """
import ctypes, mmap, numpy as np, shmpool
pool = shmpool.Pool.create(slots=8, slot_size=4096)
leases = [pool.acquire() for _ in range(8)]
views = [lease.array((4096,), "u1") for lease in leases]
for lease in leases:
    lease.release()
libc = ctypes.CDLL(None)
limit = int(open("/proc/sys/vm/max_map_count").read())
many = mmap.mmap(-1, 2 * limit * mmap.PAGESIZE, flags=mmap.MAP_PRIVATE)
base = ctypes.addressof(ctypes.c_char.from_buffer(many))
pages = (base + 2 * page * mmap.PAGESIZE for page in range(limit))
full = any(libc.mprotect(ctypes.c_void_p(page), mmap.PAGESIZE, mmap.PROT_READ) for page in pages)
told = 0
for view in views:
    try:
        view.fill(1)
    except shmpool.UseAfterReleaseError:
        told += 1
print(full, told)
"""


@pytest.mark.skipif(
    int(Path("/proc/sys/vm/max_map_count").read_text()) > 1 << 20, reason="too many to have them"
)
def test_a_touch_is_told_where_there_is_room_for_no_mapping_more() -> None:
    """Among closed neighbours it takes two more, which were put aside."""
    done = subprocess.run([sys.executable, "-c", FULL], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "True 8\n", "")
