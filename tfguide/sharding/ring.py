"""Collectives round by round: which piece moves from which chip to which, and what each chip holds after that.

The chips stand in a ring, chip 0 behind the last one. Every function yields a `Round` for the state before and one for
each round of sending; in a round every chip sends one piece. The whole of `p` pieces takes p - 1 rounds, so that a chip
sends (p - 1) / p of the elements, which is what `tfguide.sharding.Mesh` counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Piece:
    """One part of an array: its number, the chips whose values are in it (more than one in a sum), and the values."""

    part: int
    origins: frozenset[int]
    values: np.ndarray

    def plus(self, other: Piece) -> Piece:
        """The sum of the same part of two arrays."""
        return Piece(self.part, self.origins | other.origins, self.values + other.values)


@dataclass(frozen=True, eq=False)
class Move:
    """One piece that goes from one chip to another."""

    source: int
    target: int
    piece: Piece


@dataclass(frozen=True, eq=False)
class Round:
    """What moves at the same time, none at the start, and the pieces that each chip holds afterwards."""

    moves: tuple[Move, ...]
    held: tuple[tuple[Piece, ...], ...]


def all_gather(parts: Sequence[np.ndarray]) -> Iterator[Round]:
    """Chip i begins with part i, and ends with all of them: it passes on the piece that came last, and keeps it.

    Raises ValueError for fewer than two chips.
    """
    _check(parts)
    yield from _gather([Piece(i, frozenset((i,)), values) for i, values in enumerate(parts)])


def reduce_scatter(arrays: Sequence[Sequence[np.ndarray]]) -> Iterator[Round]:
    """Chip i begins with all parts of a summand, `arrays[i]`, and ends with part i of the sum.

    It passes on a sum that has grown on its way round the ring, and keeps no copy; the next chip adds its own part.
    Raises ValueError for fewer than two chips, or if an array has not as many parts as there are chips.
    """
    held = _own_pieces(arrays)
    yield Round((), _state(held))
    p = len(held)
    for r in range(1, p):
        moves = tuple(Move(i, (i + 1) % p, _take(held[i], (i - r) % p)) for i in range(p))
        for move in moves:
            own = _take(held[move.target], move.piece.part)
            held[move.target].append(own.plus(move.piece))
        yield Round(moves, _state(held))


def all_reduce(arrays: Sequence[Sequence[np.ndarray]]) -> Iterator[Round]:
    """Chip i begins with a summand, `arrays[i]`, and ends with all parts of the sum: `reduce_scatter`, `all_gather`.

    Raises as `reduce_scatter`.
    """
    last = None
    for last in reduce_scatter(arrays):
        yield last
    rounds = _gather([piece for (piece,) in last.held])
    next(rounds)  # the state before is the one that was just shown
    yield from rounds


def all_to_all(arrays: Sequence[Sequence[np.ndarray]]) -> Iterator[Round]:
    """Chip i begins with all parts of its own array, `arrays[i]`, and ends with part i of the array of every chip.

    In round r it sends a part to the chip r places ahead, and keeps no copy. Where only neighbours are linked, the part
    passes over r links. Raises as `reduce_scatter`.
    """
    held = _own_pieces(arrays)
    yield Round((), _state(held))
    p = len(held)
    for r in range(1, p):
        moves = tuple(Move(i, (i + r) % p, _take(held[i], (i + r) % p)) for i in range(p))
        for move in moves:
            held[move.target].append(move.piece)
        yield Round(moves, _state(held))


def sent(rounds: Sequence[Round], chip: int = 0) -> int:
    """The elements that a chip has sent in these rounds."""
    return sum(move.piece.values.size for one in rounds for move in one.moves if move.source == chip)


def _gather(pieces):
    held = [[piece] for piece in pieces]
    yield Round((), _state(held))
    p = len(held)
    for _ in range(p - 1):
        moves = tuple(Move(i, (i + 1) % p, held[i][-1]) for i in range(p))
        for move in moves:
            held[move.target].append(move.piece)
        yield Round(moves, _state(held))


def _take(pieces, part):
    """The piece with this part, which is no longer among them."""
    return pieces.pop(next(k for k, piece in enumerate(pieces) if piece.part == part))


def _own_pieces(arrays):
    """For each chip the pieces of its own array."""
    _check(arrays)
    for parts in arrays:
        if len(parts) != len(arrays):
            raise ValueError(f"expected an array of {len(arrays)} parts on each of as many chips, got {len(parts)}")
    return [
        [Piece(part, frozenset((i,)), values) for part, values in enumerate(parts)] for i, parts in enumerate(arrays)
    ]


def _check(chips):
    if len(chips) < 2:
        raise ValueError(f"a collective needs two chips or more, got {len(chips)}")


def _state(held):
    """What each chip holds, in the order of the chips it came from and of the parts."""
    return tuple(tuple(sorted(pieces, key=lambda piece: (min(piece.origins), piece.part))) for pieces in held)
