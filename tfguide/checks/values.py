"""Checks of a caller's numbers and names."""

from __future__ import annotations

import dataclasses
import difflib
import math
import numbers

import numpy as np


def check_choice(name, value, allowed):
    """Raises TypeError or ValueError for a value that is none of the allowed strings."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be one of {', '.join(map(repr, allowed))}, got {value!r}")
    if value not in allowed:
        raise ValueError(
            f"{name} must be one of {', '.join(map(repr, allowed))}, got {value!r}{nearest(value, allowed)}"
        )


def check_count(name, value, least=1) -> int:
    """An integer of Python or NumPy, as Python's. Raises TypeError for another type, ValueError below `least`.

    NumPy's narrow integers would overflow in sums that Python's do not.
    """
    if not isinstance(value, numbers.Integral) or isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")
    return int(value)


def make_plain(instance) -> None:
    """Convert NumPy's numbers in the fields of a frozen dataclass to Python's, which JSON and sums need."""
    for field in dataclasses.fields(instance):
        value = getattr(instance, field.name)
        if isinstance(value, np.generic):
            object.__setattr__(instance, field.name, value.item())


def check_number(name, value, above=None):
    """Raises TypeError for a value that is not a number, ValueError if it is not finite or not above the bound."""
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number, got {value!r}")
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite, got {value}")
    if above is not None and value <= above:
        raise ValueError(f"{name} must be above {above}, got {value}")


def nearest(name, known) -> str:
    """The known names nearest to a wrong one, as the end of an error message."""
    near = difflib.get_close_matches(name, list(known), n=3, cutoff=0.4)
    return f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
