"""What a reader's result differs in from the one that is right: type, shape, and the first number."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfguide.exercises.arrays import is_array, to_array

#: How far a number may be from the right one, as a part of it or of 1, by the type that the result has.
TOLERANCES = {"float64": 1e-9, "float32": 2e-5, "float16": 2e-3, "bfloat16": 2e-2}

_KINDS = {"f": "floating-point numbers", "i": "integers", "u": "integers", "b": "booleans"}


def difference(expected: Any, got: Any, what: str = "The result", least: float = 0.0) -> str | None:
    """What is wrong with a result, in a sentence or two; None if nothing is.

    expected: arrays, numbers, strings, lists of these as one result, or a tuple of several results. Floating-point
    numbers are compared within `TOLERANCES`, or within `least` where that is more; everything else exactly. NaN equals
    NaN.
    """
    if got is None:
        return f"{what} is None: is there a `return`?"
    if isinstance(expected, tuple):
        return _several(expected, got, least)
    if isinstance(expected, (str, list)):
        return _plain(expected, got, what)
    if isinstance(expected, np.ndarray) and not is_array(got):
        return f"{what} must be an array or a tensor of shape {expected.shape}, got {_type(got)}."
    if not isinstance(expected, np.ndarray) and not is_array(got) and not isinstance(got, (bool, int, float)):
        return f"{what} must be a number, got {_type(got)}."
    return _array(np.asarray(expected), *to_array(got), what, least)


def _several(expected, got, least):
    if not isinstance(got, (tuple, list)):
        return f"{len(expected)} results are expected, got one {_type(got)}: `return a, b` returns two."
    if len(got) != len(expected):
        return f"{len(expected)} results are expected, got {len(got)}."
    for i, (one, other) in enumerate(zip(expected, got, strict=True), start=1):
        found = difference(one, other, f"Result {i} of {len(expected)}", least)
        if found:
            return found
    return None


def _plain(expected, got, what):
    if isinstance(expected, list) and is_array(got):
        got = to_array(got)[0].tolist()
    if isinstance(expected, list) and isinstance(got, tuple):
        got = list(got)
    if type(got) is not type(expected):
        return f"{what} must be a {type(expected).__name__}, got {_type(got)}."
    if isinstance(expected, str):
        return None if got == expected else f"{what} must be {expected!r}, got {got!r}."
    for i, (one, other) in enumerate(zip(expected, got, strict=False)):
        if one != other:
            return (
                f"{what} has {len(got)} entries, expected {len(expected)}. The first that differs is number {i}, "
                + (f"counted from 0: expected {one!r}, got {other!r}.")
            )
    if len(got) != len(expected):
        return f"{what} has {len(got)} entries, expected {len(expected)}: {expected!r}, got {got!r}."
    return None


def _array(expected, got, dtype, what, least):
    if got.shape != expected.shape:
        return f"{what} has shape {_shape(got.shape)}, expected {_shape(expected.shape)}."
    kind, wanted = got.dtype.kind, expected.dtype.kind
    whole = kind == "i" and wanted == "f" and not expected.shape  # a Python number: 3 is as good as 3.0
    if _KINDS.get(kind) != _KINDS[wanted] and not whole:
        if not expected.shape:
            return f"{what} must be one of the {_KINDS[wanted]}, got {got.item()!r}, {dtype}."
        return f"{what} must hold {_KINDS[wanted]}, got {dtype}: the shape is right."
    wrong = _wrong(expected, got, max(least, TOLERANCES.get(dtype, 0.0)))
    if not wrong.any():
        return None
    place = tuple(int(i) for i in np.unravel_index(np.argmax(wrong), wrong.shape))
    one, other = _two_numbers(expected[place], got[place])
    if not expected.shape:
        return f"{what} is {other}, expected {one}."
    return (
        f"{what} has the right shape, {_shape(expected.shape)}, and {wrong.sum()} of {wrong.size} numbers differ.\n"
        f"The first is at index {_shape(place)}: expected {one}, got {other}."
    )


def _wrong(expected, got, tolerance):
    if expected.dtype.kind != "f":
        return expected != got
    got, bound = got.astype(np.float64), tolerance * np.maximum(1, np.abs(expected))
    with np.errstate(invalid="ignore"):
        close = (got == expected) | (np.abs(got - expected) <= bound) & np.isfinite(expected)
    return ~(close | np.isnan(got) & np.isnan(expected))


def _shape(numbers):
    return str(tuple(int(n) for n in numbers))


def _two_numbers(one, other):
    """Two numbers that differ, with as many digits as show it."""
    for digits in (6, 10, 17):
        texts = [f"{float(x):.{digits}g}" if x.dtype.kind == "f" else str(x.item()) for x in (one, other)]
        if texts[0] != texts[1]:
            break
    return texts


def _type(value):
    return f"the string {value!r}" if isinstance(value, str) else f"a value of type {type(value).__name__}"
