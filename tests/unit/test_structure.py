"""How the library is built: floors, names, the tree of errors, and sizes that stay readable."""

from __future__ import annotations

import ast
import pickle
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import shmpool
from shmpool import errors

ROOT = Path(__file__).parents[2]
LIBRARY = ROOT / "shmpool"
MODULES = sorted(LIBRARY.glob("*.py"))
SOURCES = sorted((LIBRARY / "_csrc").iterdir())
WORKERS = sorted((ROOT / "workers").glob("*.py"))
ERRORS = [getattr(errors, name) for name in errors.__all__ if not name.endswith("Warning")]
WARNINGS = [getattr(errors, name) for name in errors.__all__ if name.endswith("Warning")]

PUBLIC = [
    "AlreadyClaimedError",
    "AlreadyEndedError",
    "ArgumentError",
    "ArraySpec",
    "AuditError",
    "Borrow",
    "ClassStatistics",
    "CoordinatorDiedError",
    "CorruptSegmentError",
    "Farm",
    "FarmExecutor",
    "FarmError",
    "FarmStatistics",
    "ForeignLeaseError",
    "ForeignSegmentError",
    "Holder",
    "JobError",
    "JobTimeoutError",
    "LeakWarning",
    "Lease",
    "LeasesAliveError",
    "MemberStatistics",
    "NotAPoolError",
    "NotOwnerError",
    "OrphanedPoolError",
    "OutOfSharedMemoryError",
    "PidNamespaceError",
    "Pool",
    "PoolClosedError",
    "PoolExhaustedError",
    "PoolExistsError",
    "PoolNotFoundError",
    "PoolNotReadyError",
    "PoolStatistics",
    "Quarantined",
    "Queue",
    "QueueClosedError",
    "QueueEmpty",
    "QueueFull",
    "QueueOptions",
    "QueueStatistics",
    "RemoteTraceback",
    "Result",
    "SegmentError",
    "SegmentTruncatedError",
    "ShapeError",
    "SharedLeaseError",
    "ShmpoolError",
    "SizeError",
    "SlotOverflowError",
    "SlotOverrunError",
    "StaleTicketError",
    "Ticket",
    "Transition",
    "TooManyMembersError",
    "TruncatedSegmentError",
    "UnsupportedPlatformError",
    "UseAfterReleaseError",
    "VersionError",
    "ViewsAliveError",
    "ViewsCopiedWarning",
    "WorkerDiedError",
    "WriteAfterReleaseError",
    "errors",
    "remove_orphan",
]


def statements(node: ast.AST) -> Iterator[ast.AST]:
    """Every node that runs: not what stands under `if TYPE_CHECKING`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for other in child.orelse:
                yield other
                yield from statements(other)
            continue
        yield child
        yield from statements(child)


def imports(path: Path) -> set[str]:
    """Full names of what a module imports as it runs: `a.b` and `a.b.name`."""
    found = set()
    for node in statements(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path.name} imports relatively"
            found |= {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def imported_modules(path: Path) -> set[str]:
    """Modules of the library that a module imports."""
    names = {module.stem for module in MODULES}
    parts = [name.split(".") for name in imports(path)]
    return {part[1] for part in parts if part[0] == "shmpool" and part[1:] and part[1] in names}


def floors() -> list[set[str]]:
    """Floors of the house, lowest first, from the docstring of the package."""
    text = str(shmpool.__doc__).split("nothing imports upward:")[1]
    return [set(re.findall(r"\w+", floor)) for floor in text.split("<")]


def test_every_module_that_the_floors_name_exists() -> None:
    """The docstring of the package names modules that are there, each once."""
    named = [name for floor in floors() for name in floor]
    assert sorted(named) == sorted(set(named))
    assert set(named) <= {path.stem for path in MODULES}
    assert len(floors()) >= 8


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_nothing_imports_upward(path: Path) -> None:
    """A module imports from floors below its own, but for names that only types need."""
    if path.stem == "__init__":
        return
    storeys = {name: level for level, floor in enumerate(floors()) for name in floor}
    if path.stem in storeys:
        level = storeys[path.stem]
        upward = {n for n in imported_modules(path) if storeys.get(n, -1) > level}
        assert not upward, f"{path.stem} imports upward: {upward}"


def test_no_modules_import_each_other_in_a_circle() -> None:
    """The graph of imports has an order, with modules of one floor and unnamed ones in it."""
    graph = {path.stem: imported_modules(path) for path in MODULES if path.stem != "__init__"}
    while graph:
        free = [name for name, needs in graph.items() if not needs & graph.keys() - {name}]
        assert free, f"a circle among {sorted(graph)}"
        for name in free:
            del graph[name]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_one_header_alone_knows_the_atomics_of_c(path: Path) -> None:
    """Only sp_atomic.h mentions stdatomic.h: the race explorer replaces it there."""
    assert ("stdatomic.h" in path.read_text()) == (path.name == "sp_atomic.h")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_few_modules_touch_the_system(path: Path) -> None:
    """posix_ipc is for _doorbell and _segment, shared_memory for _segment alone."""
    heads = {name.split(".")[0] for name in imports(path)}
    if path.stem not in ("_doorbell", "_segment"):
        assert "posix_ipc" not in heads
    if path.stem != "_segment":
        assert not any("shared_memory" in name for name in imports(path))


# Names.


def test_the_public_names_are_these() -> None:
    """A name comes into shmpool.__all__, or goes, on purpose only."""
    assert sorted(shmpool.__all__) == sorted(PUBLIC)
    assert len(set(shmpool.__all__)) == len(shmpool.__all__)
    for name in PUBLIC:
        assert getattr(shmpool, name).__doc__, f"{name} has no docstring"


@pytest.mark.parametrize("path", WORKERS, ids=lambda path: path.stem)
def test_workers_use_what_everybody_may_use(path: Path) -> None:
    """workers/ is written against the public names of the library."""
    inner = {name for name in imports(path) if name.startswith("shmpool.")}
    public = {f"shmpool.{name}" for name in PUBLIC}
    public |= {f"shmpool.errors.{name}" for name in errors.__all__}
    assert inner <= public
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            assert node.value.id != "shmpool" or node.attr in PUBLIC


# Errors.


def tree() -> dict[str, tuple[str, list[str]]]:
    """The tree in the docstring of errors: name, its parent there, and its other bases."""
    above: list[str] = []
    found = {}
    for line in str(errors.__doc__).splitlines():
        match = re.match(r"([│├└─ ]*)([A-Z]\w+)(?: \(([\w., ]+)\))?(?:\s|$)", line)
        if not match or (not match[1] and match[2] != "ShmpoolError"):
            continue
        depth = len(match[1]) // 4
        others = [name.split(".")[-1] for name in (match[3] or "").split(", ") if name]
        found[match[2]] = (above[depth - 1] if depth else "Exception", others)
        above[depth:] = [match[2]]
    return found


def test_the_tree_of_errors_shows_every_error_and_no_other() -> None:
    """The classes of the module are the tree of its docstring, and the warnings named below it."""
    things = [thing for thing in vars(errors).values() if isinstance(thing, type)]
    classes = {thing.__name__ for thing in things if thing.__module__ == "shmpool.errors"}
    below = str(errors.__doc__).split("Warnings:")[1]
    warned = set(re.findall(r"\w+Warning", below)) - {"UserWarning"}
    assert warned == {kind.__name__ for kind in WARNINGS}
    assert set(tree()) | warned == set(errors.__all__) == classes
    assert not set(tree()) & warned
    assert errors.__all__ == sorted(errors.__all__)


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_an_error_stands_under_its_parent(kind: type[Exception]) -> None:
    """The tree says the right parent, and the right bases of the standard library."""
    parent, others = tree()[kind.__name__]
    assert [base.__name__ for base in kind.__bases__] == [parent, *others]


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_an_error_travels_with_message_and_facts(
    kind: type[shmpool.ShmpoolError], protocol: int
) -> None:
    """Errors go from process to process by pickle, with their numbers."""
    error = kind("slot 3 is gone", slot=3, name="x", holders=[("me", 1)])
    copy = pickle.loads(pickle.dumps(error, protocol))  # noqa: S301
    assert type(copy) is kind
    assert str(copy) == str(error) == "slot 3 is gone"
    assert copy.facts == error.facts == {"slot": 3, "name": "x", "holders": [("me", 1)]}
    assert copy.slot == 3
    assert not hasattr(copy, "nonsense")
    assert str(pickle.loads(pickle.dumps(kind()))) == ""  # noqa: S301


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_an_error_says_what_it_is(kind: type[Exception]) -> None:
    """Every error has a docstring of its own, and is an error of shmpool."""
    assert vars(kind)["__doc__"]
    assert issubclass(kind, shmpool.ShmpoolError)


@pytest.mark.parametrize("kind", WARNINGS, ids=lambda kind: kind.__name__)
def test_a_warning_is_no_error(kind: type[Warning]) -> None:
    """`except ShmpoolError` does not catch it, and -W finds it among the user's own."""
    assert vars(kind)["__doc__"]
    assert issubclass(kind, UserWarning)
    assert not issubclass(kind, shmpool.ShmpoolError)


# Sizes.


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_modules_and_functions_stay_short(path: Path) -> None:
    """No function has more than 60 lines and no module more than 400."""
    text = path.read_text()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= 60, f"{path.name}: {node.name} has {length} lines"
    assert len(text.splitlines()) <= 400, f"{path.name} has {len(text.splitlines())} lines"
