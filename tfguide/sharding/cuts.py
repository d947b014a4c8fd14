"""How the weights of a model are cut among processes, read from the axes of each: no table of names.

Heads, hidden features, experts and words of the vocabulary are divided; what has none of them is repeated. A matrix
whose outputs are cut gives each process its own outputs; one whose inputs are cut gives each a part of the sum.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from tfguide.checks.values import check_count
from tfguide.config import ModelConfig
from tfguide.weights import Weight, axis_sizes, weight_table

#: The sizes that are divided, by the name that stands first in an axis. Words may be divided unevenly.
DIVIDED = ("H", "K", "F", "V", "shared", "experts")


@dataclass(frozen=True)
class Piece:
    """What a process holds of a weight: `start` to `stop` along `axis`; axis None: all of it.

    copies: how many processes hold the same piece.
    """

    axis: int | None
    start: int = 0
    stop: int = 0
    copies: int = 1

    @property
    def index(self) -> tuple[slice, ...]:
        """The piece as an index of the whole array."""
        return () if self.axis is None else (*[slice(None)] * self.axis, slice(self.start, self.stop))

    def shape_of(self, weight: Weight) -> tuple[int, ...]:
        """The shape of the piece."""
        return tuple(self.stop - self.start if i == self.axis else n for i, n in enumerate(weight.shape))


def divided_axis(weight: Weight) -> int | None:
    """The axis along which a weight is cut, None where every process has all of it.

    The router of a mixture of experts has a number for each expert and is needed whole: only weights that hold a
    matrix or a bias for each expert are cut by experts.

    >>> from tfguide import ModelConfig
    >>> from tfguide.weights import weight_table
    >>> table = weight_table(ModelConfig(kind="decoder", d_model=8, n_layers=1, n_heads=2, d_ff=16, vocab_size=11))
    >>> layer = "decoder.layers.0."
    >>> [divided_axis(table[layer + name]) for name in ("feed_forward.up.weight", "feed_forward.down.weight")]
    [1, 0]
    """
    for i, axis in enumerate(weight.axes):
        if axis[0] in DIVIDED and (axis[0] != "experts" or weight.is_routed):
            return i
    return None


def piece_of(config: ModelConfig, weight: Weight, n: int, rank: int) -> Piece:
    """The piece of a weight that process `rank` of n holds. Raises ValueError as `check_processes`."""
    check_processes(config, n)
    check_count("rank", rank, least=0)
    if rank >= n:
        raise ValueError(f"rank must be below {n}, the number of processes, got {rank}")
    axis = divided_axis(weight)
    if axis is None:
        return Piece(None, copies=n)
    name, length = weight.axes[axis][0], weight.shape[axis]
    if name == "V":
        return Piece(axis, length * rank // n, length * (rank + 1) // n)
    parts = min(n, axis_sizes(config)[name]) if name == "K" else n  # of fewer heads than processes, some share one
    own = rank * parts // n
    return Piece(axis, length * own // parts, length * (own + 1) // parts, n // parts)


def check_processes(config: ModelConfig, n: int) -> int:
    """n, if so many processes can divide a model. Raises ValueError with the numbers that can, and what they divide."""
    check_count("processes", n)
    sizes = _sizes(config)
    wrong = [f"{size} {what}" for what, size, fits in sizes if not fits(n)]
    if wrong:
        most = max(size for _, size, _ in sizes)
        can = ", ".join(str(one) for one in range(1, most + 1) if all(fits(one) for _, _, fits in sizes))
        raise ValueError(f"{n} processes cannot divide {' and '.join(wrong)}: choose {can}")
    return n


def _sizes(config):
    """What is divided evenly: its name, its size, and whether a number of processes divides it."""
    sizes = [("heads", config.n_heads)]
    if config.experts is None or config.experts.n_dense_layers:
        sizes.append(("hidden features", config.d_ff))
    if config.experts is not None:
        sizes.append(("experts", config.experts.n_experts))
        if config.experts.n_shared:
            sizes.append(("features of the shared experts", config.experts.d_shared))
    found = [(what, size, lambda n, size=size: size % n == 0) for what, size in sizes]
    if config.latent is None:
        K = config.n_kv_heads
        found.append(("key/value heads", K, lambda n: K % n == 0 or n % K == 0))
    return found


def local_config(config: ModelConfig, n: int) -> ModelConfig:
    """The configuration of what one of n processes computes: its own heads and hidden features, all words.

    A mixture keeps its sizes: its router chooses among all experts. Raises ValueError as `check_processes`.
    """
    check_processes(config, n)
    changes = {"n_heads": config.n_heads // n, "d_ff": max(1, config.d_ff // n)}
    changes["n_kv_heads"] = changes["n_heads"] if config.latent is not None else max(1, config.n_kv_heads // n)
    return dataclasses.replace(config, **changes, d_head=config.d_head, d_rotary=config.d_rotary)


def elements_of(config: ModelConfig, n: int, rank: int) -> int:
    """The elements of all weights that a process holds."""
    weights = weight_table(config).values()
    return sum(math.prod(piece_of(config, weight, n, rank).shape_of(weight)) for weight in weights)
