"""MODULE:FUNCTION, and the renderers that ship."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import pickle
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from shmpool.cli.exits import UsageError

SHIPPED = "workers"


@dataclass(frozen=True, slots=True)
class Target:
    """A function that renders, and its module."""

    name: str
    module: ModuleType
    function: Callable[[Any, Any], Any]


def load(name: str) -> Target:
    """Import what `package.module:function` names. Raises UsageError."""
    module_name, colon, path = name.partition(":")
    if not (colon and module_name and path):
        raise UsageError(f"{name!r}: give MODULE:FUNCTION, such as workers.whitted:render")
    module = _module(module_name)
    function: Any = module
    for part in path.split("."):
        function = getattr(function, part, None)
    if not callable(function):
        there = ", ".join(sorted(_functions(module))) or "none"
        raise UsageError(f"{module_name} has no function {path!r}; of its own it has: {there}")
    _check_that_it_travels(name, function)
    return Target(name, module, function)


def _module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            message = f"there is no module {name!r}, neither here nor installed"
            raise UsageError(message) from None
        raise UsageError(f"{name} cannot be imported: {error}") from error
    except Exception as error:
        message = f"{name} cannot be imported: {type(error).__name__}: {error}"
        raise UsageError(message) from error


def _functions(module: ModuleType) -> Iterator[str]:
    for name, thing in vars(module).items():
        own = callable(thing) and getattr(thing, "__module__", None) == module.__name__
        if own and not isinstance(thing, type) and not name.startswith("_"):
            yield name


def _check_that_it_travels(name: str, function: Any) -> None:
    try:
        pickle.dumps(function)
    except Exception as error:
        message = f"{name} cannot be sent to a worker, it has to stand at module level: {error}"
        raise UsageError(message) from error


def shipped() -> list[tuple[str, str]]:
    """Renderers that ship, by name, and what they say of themselves.

    Sources are read, not run: what some of them import may not be installed.
    """
    package = importlib.util.find_spec(SHIPPED)
    places = package.submodule_search_locations if package else None
    rows = []
    for module in pkgutil.iter_modules(places or []):
        for place in places or []:
            source = Path(place, f"{module.name}.py")
            if source.exists() and (said := _renders(source)) is not None:
                rows.append((f"{SHIPPED}.{module.name}:render", said))
    return rows


def _renders(source: Path) -> str | None:
    """The first line of the docstring of a module that has a function `render`."""
    tree = ast.parse(source.read_bytes())
    if not any(isinstance(node, ast.FunctionDef) and node.name == "render" for node in tree.body):
        return None
    return (ast.get_docstring(tree) or "").partition("\n")[0]
