"""How to read a slot's payload: dtype and shape, in a fixed place beside the slot.

Text and integers, no pickles: a reader checks them like anything else in the segment.
"""

from __future__ import annotations

import math
from functools import lru_cache
from operator import index
from typing import Any

import numpy as np

from shmpool import _core
from shmpool._header import dtype_text, text_dtype
from shmpool._layout import SHEET
from shmpool.errors import ArgumentError, CorruptSegmentError, ShapeError


@lru_cache(maxsize=1024)
def encode(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
    """A sheet that says shape and dtype. Raises ShapeError if they do not fit on one."""
    text = _text(dtype)
    if len(shape) > _core.MAX_DIMENSIONS or len(text) > _core.MAX_DTYPE:
        message = (
            f"an array of {len(shape)} dimensions with a dtype of {len(text)} characters cannot be "
            f"described in its slot (at most {_core.MAX_DIMENSIONS} and {_core.MAX_DTYPE}): use "
            f"np.frombuffer(lease, …) on both sides"
        )
        raise ShapeError(message)
    sheet = np.zeros((), SHEET)
    sheet["dimensions"], sheet["dtype_length"] = len(shape), len(text)
    sheet["shape"][: len(shape)] = shape
    sheet["dtype"] = text
    return sheet.tobytes()


@lru_cache(maxsize=1024)
def decode(description: bytes) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and dtype from a sheet. Raises CorruptSegmentError if it says neither."""
    if len(description) != SHEET.itemsize:
        raise CorruptSegmentError(f"a description of {len(description)} bytes")
    sheet = np.frombuffer(description, SHEET)[0]
    dimensions, length = int(sheet["dimensions"]), int(sheet["dtype_length"])
    if dimensions > _core.MAX_DIMENSIONS or length > _core.MAX_DTYPE:
        raise CorruptSegmentError(f"a description of {dimensions} dimensions")
    try:
        dtype = text_dtype(bytes(sheet["dtype"])[:length])
    except ValueError as error:
        raise CorruptSegmentError("a description with no dtype") from error
    return tuple(int(n) for n in sheet["shape"][:dimensions]), dtype


def _text(dtype: np.dtype[Any]) -> bytes:
    try:
        return dtype_text(dtype)
    except ArgumentError as error:
        raise ShapeError(str(error)) from None


def lengths(shape: Any) -> tuple[int, ...]:
    """A shape as a tuple of ints. Raises ShapeError for what is no shape."""
    try:
        return (index(shape),)
    except TypeError:
        pass
    try:
        return tuple(index(n) for n in shape)
    except TypeError as error:
        raise ShapeError(f"shape is {shape!r}: an integer, or a sequence of integers") from error


def check_fits(shape: tuple[int, ...], dtype: np.dtype[Any], slot_size: int) -> int:
    """Bytes of an array; ShapeError if the slot has fewer, or a length is negative."""
    if any(n < 0 for n in shape):
        raise ShapeError(f"shape {shape} has a negative length")
    if math.prod(n for n in shape if n) * max(dtype.itemsize, 1) >= 1 << 63:
        raise ShapeError(f"shape {shape} is beyond what numpy can count")
    needed = math.prod(shape) * dtype.itemsize
    if needed > slot_size:
        message = (
            f"an array of shape {shape} and dtype {dtype} needs {needed} bytes, the slot has "
            f"{slot_size}: create the pool with slot_size={needed} or more"
        )
        raise ShapeError(message, needed=needed, slot_size=slot_size)
    return needed
