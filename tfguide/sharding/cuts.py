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

#: The sizes that are divided, by the name that stands first in an axis.
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


def piece_of(config: ModelConfig, weight: Weight, n: int, rank: int, unit: int = 1) -> Piece:
    """The piece of a weight that process `rank` of n holds. Raises ValueError as `check_processes`.

    unit: hidden features are cut between groups of so many, which share a scale.
    """
    axis = divided_axis(weight)
    if axis is None:
        check_processes(config, n)
        return Piece(None, copies=n)
    name, length = weight.axes[axis][0], weight.shape[axis]
    start, stop = part_of(config, name, n, rank, unit)
    each = length // _size_of(config, name)  # features of a head
    copies = n // config.n_kv_heads if name == "K" and n > config.n_kv_heads else 1
    return Piece(axis, start * each, stop * each, copies)


def part_of(config: ModelConfig, name: str, n: int, rank: int, unit: int = 1) -> tuple[int, int]:
    """From which to which (excluded) of the heads, features, words or experts process `rank` of n has.

    name: one of DIVIDED. Heads stay with the key/value head that they read; of fewer key/value heads than processes,
    some processes share one. unit: as in `piece_of`. Raises ValueError as `check_processes`.
    """
    check_processes(config, n)
    check_count("rank", rank, least=0)
    if rank >= n:
        raise ValueError(f"rank must be below {n}, the number of processes, got {rank}")
    size = _size_of(config, name)
    if name == "H" and config.latent is None and n <= config.n_kv_heads:
        group = config.n_heads // config.n_kv_heads
        return tuple(group * end for end in part_of(config, "K", n, rank))
    if name == "K" and n > size:
        own = rank * size // n
        return own, own + 1
    unit = unit if name in ("F", "shared") else 1
    groups = -(-size // unit)
    if groups < n:
        raise ValueError(f"{n} processes cannot divide {size} hidden features that share a scale in groups of {unit}")
    return groups * rank // n * unit, min(size, groups * (rank + 1) // n * unit)


def _size_of(config, name):
    """How many there are to divide: the shared experts are one network, whose features are divided."""
    return config.experts.d_shared if name == "shared" else axis_sizes(config)[name]


def check_processes(config: ModelConfig, n: int) -> int:
    """n, if so many processes can divide a model. Raises ValueError with the numbers that can, and what they divide.

    Each needs a head, with its key/value head whole, and as many experts as the others. Otherwise the parts may differ
    in size: the process with the largest decides how long a step takes.
    """
    check_count("processes", n)
    sizes = _sizes(config)
    wrong = [f"{size} {what}" for what, size, fits in sizes if not fits(n)]
    if wrong:
        most = max(size for _, size, _ in sizes)
        can = ", ".join(str(one) for one in range(1, most + 1) if all(fits(one) for _, _, fits in sizes))
        raise ValueError(f"{n} processes cannot divide {' and '.join(wrong)}: choose {can}")
    return n


def _sizes(config):
    """What is divided: its name, its size, and whether a number of processes divides it."""
    H, K = config.n_heads, config.n_kv_heads
    if config.latent is not None or H == K:
        found = [("heads", H, lambda n: n <= H)]
    else:
        found = [
            ("heads", H, lambda n: n <= K or H % n == 0),
            ("key/value heads", K, lambda n: n <= K or n % K == 0),
        ]  # fmt: skip
    if config.experts is None or config.experts.n_dense_layers:
        found.append(("hidden features", config.d_ff, lambda n: n <= config.d_ff))
    if config.experts is not None:
        n_experts, n_features = config.experts.n_experts, config.experts.d_shared
        found.append(("experts", n_experts, lambda n: n_experts % n == 0))
        if config.experts.n_shared:
            found.append(("features of the shared experts", n_features, lambda n: n_features % n == 0))
    return found


def local_config(config: ModelConfig, n: int, rank: int, unit: int = 1) -> ModelConfig:
    """The configuration of what process `rank` of n computes: its own heads and hidden features, all words.

    A mixture keeps its sizes: its router chooses among all experts. unit: as in `piece_of`. Raises ValueError as
    `check_processes`.
    """
    own = {name: stop - start for name in ("H", "K", "F") for start, stop in [part_of(config, name, n, rank, unit)]}
    if config.latent is not None:
        own["K"] = own["H"]
    sizes = {"n_heads": own["H"], "n_kv_heads": own["K"], "d_ff": max(1, own["F"])}
    return dataclasses.replace(config, **sizes, d_head=config.d_head, d_rotary=config.d_rotary)


def elements_of(config: ModelConfig, n: int, rank: int) -> int:
    """The elements of all weights that a process holds."""
    weights = weight_table(config).values()
    return sum(math.prod(piece_of(config, weight, n, rank).shape_of(weight)) for weight in weights)
