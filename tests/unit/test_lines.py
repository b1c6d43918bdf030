"""A line is whole and goes out at once, whatever other threads do with stdout."""

from __future__ import annotations

import sys

import pytest

from shmpool._lines import put_line


class _Recorder:
    def __init__(self, calls: list[str]) -> None:
        self.calls = calls

    def write(self, text: str) -> None:
        self.calls.append(text)

    def flush(self) -> None:
        self.calls.append("flushed")


class _Replaced(_Recorder):
    """Another thread restores sys.stdout in the middle, as the end of a live screen does."""

    def write(self, text: str) -> None:
        sys.stdout = sys.__stdout__
        super().write(text)


@pytest.mark.parametrize("kind", [_Recorder, _Replaced])
def test_a_line_is_one_write_and_a_flush(
    kind: type[_Recorder], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    monkeypatch.setattr(sys, "stdout", kind(calls))
    put_line("rendered 1")
    assert calls == ["rendered 1\n", "flushed"]
