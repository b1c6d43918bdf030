"""`import shmpool` brings the pool, and the farm when it is asked for."""

from __future__ import annotations

import subprocess
import sys

import pytest

import shmpool

LATE = ("shmpool.farm", "shmpool.executor", "concurrent.futures", "secrets", "shutil")


def _run(program: str) -> str:
    command = [sys.executable, "-c", program]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_a_pool_does_not_pay_for_what_it_does_not_use() -> None:
    """Neither the farm nor what only that needs is imported; numpy brings what it likes."""
    program = f"import numpy, sys; before = set(sys.modules); import shmpool; print(*({{*{LATE}}} & (set(sys.modules) - before)))"  # noqa: E501 - a program
    assert _run(program).split() == []


def test_a_pool_lives_without_what_comes_late() -> None:
    """Made, used and closed."""
    program = f"import numpy, sys; before = set(sys.modules); import shmpool\nwith shmpool.Pool.create(slots=1, slot_size=1) as pool: pool.acquire().release()\nprint(*({{*{LATE[:3]}}} & (set(sys.modules) - before)))"  # noqa: E501 - a program
    assert _run(program).split() == []


@pytest.mark.parametrize("name", shmpool.__all__)
def test_every_public_name_is_there(name: str) -> None:
    """And is listed."""
    assert name in dir(shmpool)
    assert getattr(shmpool, name) is getattr(shmpool, name)


def test_a_name_that_is_none_is_told() -> None:
    """As of any module."""
    with pytest.raises(AttributeError, match="module 'shmpool' has no attribute 'Frm'"):
        shmpool.Frm  # noqa: B018 - it is looked for
