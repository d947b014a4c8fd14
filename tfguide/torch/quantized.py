"""Linear layers with weights of 8 or 4 bits."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from tfguide.compress import ACTIVATION_BLOCK, Quantization, dequantize
from tfguide.compress.packing import aligned
from tfguide.torch.experts import multiply


class QuantizedLinear(nn.Module):
    """A linear layer with packed weights of 8 or 4 bits: `x @ dequantised weight + bias`, (..., in) to (..., out).

    packed, scale, unit: as `tfguide.compress.packing` lays them out; unit is None unless the weight is asymmetric.
    bias: (out,) or None. With 8-bit activations the input
    is rounded in blocks of 32 first. This is the readable path: it dequantises the weight in every call; the fast
    decoder multiplies by the packed weight.
    """

    def __init__(self, d_in: int, d_out: int, quantization: Quantization, packed, scale, bias=None, unit=None):
        super().__init__()
        self.d_in, self.d_out, self.quantization = d_in, d_out, quantization
        self.packed, self.scale = aligned(packed), aligned(scale)
        self.unit = None if unit is None else aligned(unit)
        self.register_buffer("bias", None if bias is None else torch.tensor(bias, dtype=torch.float32))

    @property
    def arrays(self) -> tuple[np.ndarray, ...]:
        """The arrays of the weight, as `Quantization.parts` names them."""
        return (self.packed, self.scale) if self.unit is None else (self.packed, self.scale, self.unit)

    def forward(self, x):
        """x: (..., in) to (..., out)."""
        rows = round_activations(x) if self.quantization.activation_bits else x
        y = rows.float() @ self.weight.T
        return (y if self.bias is None else y + self.bias).to(x.dtype)

    @property
    def weight(self) -> Tensor:
        """The dequantised weight, computed at each access: float32, (out, in) as in nn.Linear."""
        return torch.from_numpy(dequantize(self.packed, self.scale, self.d_out, self.d_in, self.unit).T)


class QuantizedStack(nn.Module):
    """`QuantizedLinear` for each of n experts; packed, scale, unit: with the experts along a first axis; bias (n, out).

    A call dequantises the weight of the one expert that it names, or, of numbers (N, k), the weights of all.
    """

    def __init__(self, n: int, d_in: int, d_out: int, quantization: Quantization, packed, scale, bias=None, unit=None):
        super().__init__()
        units = [None] * n if unit is None else unit
        self.layers = nn.ModuleList(
            QuantizedLinear(d_in, d_out, quantization, packed[e], scale[e], None, units[e]) for e in range(n)
        )
        self.register_buffer("bias", None if bias is None else torch.tensor(bias, dtype=torch.float32))

    @property
    def arrays(self) -> tuple[np.ndarray, ...]:
        """The arrays of the weights, as `Quantization.parts` names them."""
        return tuple(np.stack(parts) for parts in zip(*(layer.arrays for layer in self.layers), strict=True))

    def forward(self, x, expert):
        """x: (N, in) to (N, out) by one expert, or (N, k, in) to (N, k, out) each by its own, expert (N, k)."""
        if isinstance(expert, int):
            y = self.layers[expert](x)
        else:
            rows = round_activations(x) if self.layers[0].quantization.activation_bits else x
            y = multiply(rows.float(), self.weight[expert]).to(x.dtype)
        return y if self.bias is None else (y + self.bias[expert]).to(x.dtype)

    @property
    def weight(self) -> Tensor:
        """The dequantised weights, computed at each access: float32, (n, out, in)."""
        return torch.stack([layer.weight for layer in self.layers])


def round_activations(x: Tensor) -> Tensor:
    """Activations (..., in) rounded to 8 bits in blocks of 32 inputs and converted back to their type."""
    fill = -x.shape[-1] % ACTIVATION_BLOCK
    blocks = nn.functional.pad(x.float(), (0, fill)).unflatten(-1, (-1, ACTIVATION_BLOCK))
    scale = blocks.abs().amax(dim=-1, keepdim=True) / 127
    rounded = torch.round(blocks / scale.masked_fill(scale == 0, 1)) * scale
    return rounded.flatten(-2)[..., : x.shape[-1]].to(x.dtype)
