"""The keys of a config.json: read by a family, refused by name, or passed over because transformers does so too."""

from __future__ import annotations

import contextlib
import copy
import json
import math
import numbers
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from tfguide.checkpoints.keys import FIXED, FULL_ATTENTION, INERT


class Fields:
    """A config.json being read: every key taken is checked, and `finish` refuses or passes over what is left.

    source: what errors call the file. ignore: keys treated as if they were absent, each with a warning; a key inside
    another is "outer.inner". nullable: counts and flags that may be null, whatever their default: None, and false.
    peer: the program whose reading of these keys is the measure.
    Every error is a ValueError that names the file, the key, what came and what is supported.
    """

    def __init__(
        self,
        keys: Mapping[str, Any],
        source: str = "config.json",
        ignore: Iterable[str] = (),
        nullable: Collection[str] = (),
        peer: str = "transformers",
    ):
        self.source, self._peer = source, peer
        self._nullable = frozenset(nullable)
        self._ignore = frozenset(ignore)
        self._ignored: list[str] = []  # "key=value", for the warnings of `finish`
        self._passed_over: list[str] = []
        self._outer = ""
        self._keys = self._without_ignored(keys)

    def unsupported(self, key: str, value: Any, supported: str) -> ValueError:
        """The error for a value that is not supported; says what is, and how to read the model without the key."""
        key = self._outer + key
        return ValueError(
            f"{self.source}: {key}={short(value)} is not supported: {supported}; "
            f"ignore=({key!r},), or --ignore {key}, reads the model as if the key were absent"
        )

    @contextlib.contextmanager
    def named_errors(self) -> Iterator[None]:
        """Turn the errors of a block into ValueErrors that begin with the name of the file."""
        try:
            yield
        except (TypeError, ValueError, OverflowError) as error:
            if str(error).startswith(self.source):
                raise
            raise ValueError(f"{self.source}: {error}") from error

    def count(self, key: str, default: int | None, least: int = 1, null: bool = False) -> int | None:
        """A whole number of at least `least`; None where the key is null, if `null` or a default of None allows it."""
        value = self._take(key, default)
        if value is None:
            if null or default is None or key in self._nullable:
                return None
            raise self._null(key, default)
        if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < least:
            raise self._wrong(key, f"an integer of at least {least}", value)
        return int(value)

    def number(self, key: str, default: float | None, null: bool = False) -> float | None:
        """A finite number, as a float; None where the key is null and `null` allows it."""
        value = self._take(key, default)
        if value is None and null:
            return None
        try:
            if isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value):
                return float(value)
        except OverflowError:  # an integer beyond the largest float
            pass
        raise self._wrong(key, "a finite number", value)

    def flag(self, key: str, default: bool, null: bool | None = None) -> bool:
        """true or false. null: what null stands for; default: null is refused."""
        value = self._take(key, default)
        if value is None:
            if null is None and key not in self._nullable:
                raise self._null(key, default)
            return bool(null)
        if not isinstance(value, bool):
            raise self._wrong(key, "true or false", value)
        return value

    def choice(self, key: str, default: str, known: Mapping[str, Any]) -> Any:
        """The value of `known` that a name stands for."""
        value = self._take(key, default)
        if not isinstance(value, str) or value not in known:
            raise self.unsupported(key, value, f"expected one of {', '.join(map(repr, known))}")
        return known[value]

    def fixed(self, key: str, value: Any, meaning: str, null: bool = True) -> None:
        """A key that may be absent, have this one value or, unless `null` is False, be null."""
        received = self._take(key, value)
        if received is None and null:
            return
        if received != value or isinstance(received, bool) != isinstance(value, bool):
            raise self.unsupported(key, received, f"expected {json.dumps(value)}, {meaning}")

    def dropout(self, key: str, default: float) -> float:
        """A rate of at least 0 and below 1, for training only."""
        rate = self.number(key, default)
        if not 0.0 <= rate < 1.0:
            raise self._wrong(key, "a number of at least 0 and below 1", rate)
        return rate

    def entries(self, key: str, default: list[Any] | None) -> list[Any] | None:
        """A list; None where the key is null."""
        value = self._take(key, default)
        if value is not None and not isinstance(value, list):
            raise self._wrong(key, "a list or null", value)
        return value

    def inner(self, key: str) -> Fields | None:
        """The object under a key; None where the key is absent, null or {}."""
        value = self._take(key, None)
        if value is not None and not isinstance(value, dict):
            raise self._wrong(key, "an object", value)
        if not value:
            return None
        inside = copy.copy(self)  # with the same lists, so that `finish` warns of everything at once
        inside._outer = f"{self._outer}{key}."
        inside._keys = inside._without_ignored(value)
        return inside

    def alias(self, other: str, key: str) -> None:
        """Let `other` stand for `key`, as transformers does. Raises ValueError where both are given and differ."""
        if other not in self._keys:
            return
        value = self._keys.pop(other)
        if self._keys.setdefault(key, value) != value:
            raise self.unsupported(other, value, f"it is another name of {key}, which is {short(self._keys[key])}")

    def fill(self, key: str, value: Any) -> None:
        """Let a key that is absent or null have this value, as a class of transformers fills it in."""
        if self._keys.get(key) is None:
            self._keys[key] = value

    def look(self, key: str, default: Any, null: bool = False) -> Any:
        """A value that is still to be taken, as it is; null is refused unless `null` allows it."""
        value = self._keys.get(key, default)
        if value is None and not null:
            raise self._null(key, default)
        return value

    def has(self, key: str) -> bool:
        """Whether a key is there and has not been taken yet."""
        return key in self._keys

    def token_ids(self, vocab_size: int, **defaults: int | None) -> dict[str, int | None]:
        """The special tokens, by the names that a ModelConfig gives them; absent ones have the family's defaults.

        Warns where an id lies outside the vocabulary, which is then read as None, or left out of several.
        """
        names = ("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id")
        return {name: self._token_id(name, defaults.get(name), vocab_size) for name in names}

    def pass_over(self, key: str, why: str) -> None:
        """Name a key in the warning of `finish`, with the reason why it has no effect."""
        self._passed_over.append(f"{self._outer}{key} ({why})")

    def finish(self, inert: Collection[str] = ()) -> None:
        """Check the keys that nobody has taken; warn once of those that were ignored, and of those passed over.

        Raises ValueError for a key that transformers reads, with a value that would change the result.
        """
        for key, value in self._keys.items():
            if not self._outer and key in FIXED:
                Fields({key: value}, self.source).fixed(key, *FIXED[key])
            elif not self._outer and key == "layer_types":
                self._check_layer_types(value)
            elif self._outer and isinstance(value, dict):
                raise self.unsupported(key, value, "expected one set of numbers for all layers")
            elif (self._outer or key not in INERT) and key not in inert:
                self._passed_over.append(f"{self._outer}{key}={short(value)}")
        if not self._outer:
            self._warn()

    def _check_layer_types(self, value):
        if value is not None and not (isinstance(value, list) and value and all(v in FULL_ATTENTION for v in value)):
            raise self.unsupported("layer_types", value, "expected 'full_attention' for every layer")

    def _warn(self):
        if self._ignored:
            warnings.warn(f"{self.source}: ignored as told: {', '.join(self._ignored)}", stacklevel=2)
        if self._passed_over:
            keys = ", ".join(self._passed_over)
            warnings.warn(f"{self.source}: passed over, as {self._peer} does: {keys}", stacklevel=2)

    def _without_ignored(self, keys):
        self._ignored += [
            f"{self._outer}{key}={short(value)}" for key, value in keys.items() if self._outer + key in self._ignore
        ]
        return {key: value for key, value in keys.items() if self._outer + key not in self._ignore}

    def _take(self, key, default):
        return self._keys.pop(key, default)

    def _wrong(self, key, expected, value):
        return ValueError(f"{self.source}: {self._outer}{key} must be {expected}, got {short(value)}")

    def _null(self, key, default):
        return ValueError(f"{self.source}: {self._outer}{key} must not be null; absent, it is {default!r}")

    def _token_id(self, name, default, vocab_size):
        given = name in self._keys
        value = self._take(name, default)
        if name == "eos_token_id" and isinstance(value, list) and value:
            ends = tuple(end for end in (self._one_token(name, v, vocab_size, given) for v in value) if end is not None)
            return ends if len(ends) > 1 else next(iter(ends), None)
        return self._one_token(name, value, vocab_size, given)

    def _one_token(self, name, value, vocab_size, given):
        if value is None:
            return None
        if not isinstance(value, numbers.Integral) or isinstance(value, bool):
            raise self._wrong(name, "an integer or null", value)
        if 0 <= value < vocab_size:
            return int(value)
        if given:
            advice = f"not one of the {vocab_size} tokens of the vocabulary, read as None"
            warnings.warn(f"{self.source}: {name}={short(value)} is {advice}", stacklevel=2)
        return None


def as_keys(ignore: Iterable[str]) -> tuple[str, ...]:
    """Keys to ignore, as a tuple. Raises TypeError."""
    if isinstance(ignore, str) or not isinstance(ignore, Iterable) or not all(isinstance(key, str) for key in ignore):
        raise TypeError(f"ignore must be a sequence of keys of config.json or of a GGUF file, got {ignore!r}")
    return tuple(ignore)


def short(value: Any) -> str:
    """A value for a message, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
