"""Layers whose weights stay in the blocks of a GGUF file."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tfguide.checkpoints import Blocks
from tfguide.torch.experts import multiply


class BlockLinear(nn.Module):
    """A linear layer whose weight stays in blocks: `x @ dequantised weight + bias`, (..., in) to (..., out).

    blocks: the rows of a weight (out, in), mapped from a file or in memory. bias: (out,) or None. The product is
    computed in float32. This is the readable path: it dequantises the weight in every call; the fast decoder multiplies
    by the blocks. The weight records no gradient.
    """

    def __init__(self, blocks: Blocks, bias=None):
        super().__init__()
        self.blocks, (self.d_out, self.d_in) = blocks, blocks.shape
        self.register_buffer("bias", None if bias is None else torch.tensor(bias, dtype=torch.float32))

    def forward(self, x):
        """x: (..., in) to (..., out)."""
        y = x.float() @ self.weight.to(x.device).T
        return (y if self.bias is None else y + self.bias).to(x.dtype)

    @property
    def weight(self) -> Tensor:
        """The dequantised weight, computed at each access: float32, (out, in) as in nn.Linear."""
        return torch.from_numpy(self.blocks.dequantised())


class BlockStack(nn.Module):
    """`BlockLinear` for each of n experts: blocks (n, out, in), bias (n, out) or None.

    A call dequantises the weight of the one expert that it names, or, of numbers (N, k), those of all N k of them.
    """

    def __init__(self, blocks: Blocks, bias=None):
        super().__init__()
        self.blocks = blocks
        self.register_buffer("bias", None if bias is None else torch.tensor(bias, dtype=torch.float32))

    def forward(self, x, expert):
        """x: (N, in) to (N, out) by one expert, or (N, k, in) to (N, k, out) each by its own, expert (N, k)."""
        numbers = expert if isinstance(expert, int) else expert.cpu().numpy()
        y = multiply(x.float(), torch.from_numpy(self.blocks.take(numbers)).to(x.device))
        return (y if self.bias is None else y + self.bias[expert]).to(x.dtype)

    @property
    def weight(self) -> Tensor:
        """The dequantised weights, computed at each access: float32, (n, out, in)."""
        return torch.from_numpy(self.blocks.dequantised())


class BlockEmbedding(nn.Module):
    """A table (rows, D) that stays in blocks: row numbers (...) to the dequantised rows (..., D), float32.

    blocks: the rows of the table, mapped from a file or in memory. A call dequantises the rows that it reads. The table
    records no gradient.
    """

    def __init__(self, blocks: Blocks):
        super().__init__()
        self.blocks = blocks

    def forward(self, rows):
        """rows: integers (...) to (..., D)."""
        return torch.from_numpy(self.blocks.take(rows.cpu().numpy())).to(rows.device)

    @property
    def weight(self) -> Tensor:
        """The dequantised table, computed at each access: float32, (rows, D) as in nn.Embedding."""
        return torch.from_numpy(self.blocks.dequantised())
