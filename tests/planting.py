"""Planting bugs: a test that finds nothing in broken code proves nothing about sound code."""

from __future__ import annotations

from pathlib import Path


def plant(file: Path, *places: str) -> None:
    """Change a copy of a source: each place, which must be there once, into what follows it."""
    text = file.read_text()
    for sound, broken in zip(places[::2], places[1::2], strict=True):
        assert text.count(sound) == 1, f"{file.name} has changed: plant the bug anew"
        text = text.replace(sound, broken)
    file.write_text(text)
