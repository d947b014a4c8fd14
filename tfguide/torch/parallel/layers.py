"""Layers of which each process holds a part."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from tfguide.torch.experts import MixtureOfExperts
from tfguide.torch.gguf import BlockEmbedding
from tfguide.torch.parallel.group import Group


class Summed(nn.Module):
    """A linear layer whose inputs are cut: each process multiplies its part of them, and all get the sum.

    layer: with the bias on one process alone, on the others 0. step: the name under which `group` counts.
    """

    def __init__(self, layer: nn.Module, group: Group, step: str):
        super().__init__()
        self.layer, self.group, self.step = layer, group, step

    def forward(self, x):
        """x: (..., in / n) to (..., out)."""
        return self.group.all_reduce(self.layer(x), self.step)


class VocabularyEmbedding(nn.Module):
    """A table whose words are cut: a process looks up its own, the others are 0 there, and all get the sum.

    table: of the words from `start` on.
    """

    def __init__(self, table: nn.Module, start: int, group: Group):
        super().__init__()
        self.table, self.start, self.group = table, start, group
        self.n_own = len(table.weight)

    @property
    def weight(self) -> Tensor:
        """The words of this process, (V / n, D)."""
        return self.table.weight

    @property
    def is_in_blocks(self) -> bool:
        """Whether the table stays in the blocks of a file."""
        return isinstance(self.table, BlockEmbedding)

    def forward(self, tokens):
        """tokens: (...) to (..., D)."""
        own = tokens - self.start
        inside = (own >= 0) & (own < self.n_own)
        rows = self.table(torch.where(inside, own, 0))
        return self.group.all_reduce(rows.masked_fill(~inside[..., None], 0.0), "embedding")


class ParallelMixture(nn.Module):
    """A mixture whose experts are divided: each process has some of them, and sends tokens to those of the others.

    Every process begins with all tokens, routes its share of them, sends each to the processes that have its experts,
    and gets their outputs back; at the end all get all outputs. mixture: with the experts of this process alone, and
    with the shared ones as far as they are its own.
    """

    def __init__(self, mixture: MixtureOfExperts, group: Group):
        super().__init__()
        self.sizes, self.group = mixture.sizes, group
        self.router, self.experts, self.shared = mixture.router, mixture.experts, mixture.shared

    def forward(self, x):
        """x: (B, T, D) to (B, T, D)."""
        rows, group = x.reshape(-1, x.shape[-1]), self.group
        ends = [len(rows) * rank // group.n for rank in range(group.n + 1)]
        mine = rows[ends[group.rank] : ends[group.rank + 1]]
        sizes = [end - start for start, end in pairwise(ends)]
        y = group.all_gather(self._routed(mine).to(x.dtype), 0, "gather outputs of experts", sizes).reshape(x.shape)
        return y if self.shared is None else y + self.shared(x)

    def _routed(self, rows):
        """The sum of the chosen experts of some rows (N, D), wherever these experts are."""
        group, k = self.group, self.sizes.per_token
        n_own = self.sizes.n_experts // group.n
        chosen, weights = self.router(rows)  # (N, k)
        order = chosen.flatten().argsort(stable=True)  # the N k choices by expert, and so by process
        experts = chosen.flatten()[order]
        counts = (experts // n_own).bincount(minlength=group.n).tolist()
        came, received = group.exchange(rows[order // k], counts, "tokens to experts")
        wanted, _ = group.exchange(experts[:, None] % n_own, counts, "which expert")
        outputs = torch.zeros_like(came)
        for expert in wanted.unique().tolist():
            own = (wanted[:, 0] == expert).nonzero()[:, 0]
            outputs[own] = self.experts(came[own], expert).to(outputs.dtype)
        back, _ = group.exchange(outputs, received, "outputs to tokens")
        weighted = weights.flatten()[order, None] * back
        return torch.zeros(rows.shape, dtype=weighted.dtype).index_add(0, order // k, weighted)
