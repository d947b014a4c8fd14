"""Matrices in a framework's memory, and their products."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tfguide.checks.values import check_choice, check_count, make_plain
from tfguide.compress.packing import LANES
from tfguide.dtypes import BITS
from tfguide.native import abi
from tfguide.native.blocks import BLOCK_TYPES, PACKED, PLAIN, is_mapped, repack
from tfguide.native.library import library
from tfguide.native.machine import default_threads, forget
from tfguide.native.tensors import address_of, dtype_of, in_place


@dataclass(frozen=True)
class Matrix:
    """The address and the format, one of FORMATS, of a linear layer's weight. `owner` keeps the memory alive.

    scale, unit, scaling, group: of packed weights, see tfguide.compress.packing and abi.h; scale and unit are
    addresses; scaling: one of SCALINGS, default: "halves" of 4-bit weights, else "per output". bias: float32, (out,).
    `of`, `of_packed` and `of_blocks` make one from tensors and check them; the constructor trusts the addresses. Raises
    TypeError or ValueError for sizes, a format, a scaling or a bias that do not match.
    """

    address: int
    format: str
    d_in: int
    d_out: int
    scale: int = 0
    group: int = 0
    bias: np.ndarray | None = None
    owner: Any = field(default=None, repr=False)
    unit: int = 0
    scaling: str = ""

    def __post_init__(self):
        check_choice("format", self.format, abi.FORMATS)
        check_count("d_in", self.d_in)
        check_count("d_out", self.d_out)
        check_count("address", self.address)
        if not self.scaling:
            object.__setattr__(self, "scaling", "halves" if self.format.startswith("int4") else "per output")
        check_choice("scaling", self.scaling, abi.SCALINGS)
        if self.is_packed:
            self._check_scales()
        if self.bias is not None:
            if not isinstance(self.bias, np.ndarray):
                raise TypeError(f"bias must be an array, got {type(self.bias).__name__}")
            address_of("bias", self.bias, (self.d_out,))
        make_plain(self)

    def _check_scales(self):
        check_count("scale", self.scale)
        in_groups = self.scaling != "per output"
        if in_groups and (self.group < 8 or self.group % 8 or self.d_in % self.group):
            raise ValueError(
                f"group must be a multiple of 8 that divides d_in={self.d_in} for scales of groups, got {self.group}"
            )
        if "bytes" in self.scaling:
            check_count("unit", self.unit)
        if self.format == "int8" and in_groups:
            raise ValueError("8-bit weights with scales of groups take 8-bit activations: format 'int8 a8'")
        if self.format.startswith("int4") and not in_groups:
            raise ValueError("4-bit weights have scales of groups, got 'per output'")

    @classmethod
    def of(cls, weight: Any, order: str, bias: np.ndarray | None = None) -> Matrix:
        """A weight of 32 or 16 bits, a NumPy array or a PyTorch tensor.

        order: "rows", (out, in), or "columns", (in, out).
        Raises TypeError or ValueError for a weight that the kernels cannot read in place.
        """
        check_choice("order", order, ("rows", "columns"))
        check_choice("the weight's type", dtype_of(weight), abi.TYPES)
        if len(weight.shape) != 2:
            raise ValueError(f"the weight must have 2 axes, got shape {tuple(weight.shape)}")
        address = address_of("the weight", weight, weight.shape, dtype_of(weight))
        d_out, d_in = weight.shape if order == "rows" else reversed(weight.shape)
        return cls(address, f"{dtype_of(weight)} {order}", d_in, d_out, bias=bias, owner=weight)

    @classmethod
    def of_packed(
        cls, packed: np.ndarray, scale: np.ndarray, d_in: int, d_out: int, rounds: bool, bias: np.ndarray | None = None,
        unit: np.ndarray | None = None,
    ) -> Matrix:  # fmt: skip
        """A weight (in, out) that `tfguide.compress.Quantization.pack` packed.

        rounds: 8-bit activations; unit: of asymmetric weights.

        Raises TypeError or ValueError for arrays that are not of these sizes.
        """
        check_choice("the packed weight's type", dtype_of(packed), ("int8", "uint8"))
        bits, blocks = (8 if packed.dtype == np.int8 else 4), -(-check_count("d_out", d_out) // LANES)
        words = -(-check_count("d_in", d_in) // 4) if bits == 8 else d_in // 8  # of four bytes for each output
        address = address_of("the packed weight", packed, (blocks, words, LANES, 4), dtype_of(packed))
        form = f"int{bits}" + (" a8" if rounds else "")
        if bits == 8:
            scales = address_of("the scales", scale, (blocks * LANES,))
            return cls(address, form, d_in, d_out, scales, 0, bias, owner=(packed, scale))
        groups = scale.shape[1] if scale.ndim == (3 if unit is None else 4) else 0
        group = d_in // groups if groups and d_in % groups == 0 else 0
        if unit is None:
            scales, units, scaling = address_of("the scales", scale, (blocks, groups, LANES), "float16"), 0, "halves"
        else:
            scales = address_of("the scales", scale, (blocks, groups, 2, LANES), "uint8")
            units, scaling = address_of("the units", unit, (2, blocks * LANES), "float16"), "bytes"
        return cls(address, form, d_in, d_out, scales, group, bias, (packed, scale, unit), units, scaling)

    @classmethod
    def of_blocks(
        cls, block_type: str, rows: np.ndarray, d_in: int, d_out: int, bias: np.ndarray | None = None,
        threads: int | None = None,
    ) -> Matrix:  # fmt: skip
        """A weight of a GGUF file, from its rows of blocks: uint8 (out, bytes); block_type: one of BLOCK_TYPES.

        F32, F16 and BF16 are read in place. All others are packed, which changes no number, and multiplied by rows
        that are rounded to 8 bits. Memory that is mapped from a file is given back when it has been packed. threads:
        default: TFGUIDE_THREADS, or all cores. Raises TypeError or ValueError for another type, or other sizes.
        """
        check_choice("block_type", block_type, BLOCK_TYPES)
        if block_type in PLAIN:
            dtype = PLAIN[block_type]
            size = BITS[dtype] // 8
            rows = in_place(rows, size)
            address = address_of("the rows", rows, (d_out, check_count("d_in", d_in) * size), "uint8")
            return cls(address, f"{dtype} rows", d_in, d_out, bias=bias, owner=rows)
        parts = repack(block_type, rows, d_in, d_out, default_threads() if threads is None else threads)
        if is_mapped(rows):
            forget(rows.ctypes.data, rows.nbytes)
        layout, (levels, scale, unit) = PACKED[block_type], (part.ctypes.data if part.size else 0 for part in parts)
        form = f"int{layout.bits} a8"
        return cls(levels, form, d_in, d_out, scale, layout.group, bias, parts, unit, layout.scaling)

    @property
    def is_packed(self) -> bool:
        """Whether the weight has 8 or 4 bits."""
        return self.format.startswith("int")

    @property
    def n_bytes(self) -> int:
        """The bytes of the weight; scales are not counted."""
        return self.d_in * self.d_out * BITS[self.format.split()[0]] // 8

    @property
    def linear(self) -> abi.Linear:
        """The matrix as the kernels read it."""
        bias = None if self.bias is None else self.bias.ctypes.data
        return abi.linear(
            self.address, self.format, self.d_in, self.d_out, self.scale, self.unit, self.scaling, self.group, bias
        )


def multiply(matrix: Matrix, x: np.ndarray, threads: int) -> np.ndarray:
    """x W + b for float32 rows x (rows, in): (rows, out). Raises TypeError or ValueError for another x."""
    x = np.ascontiguousarray(x)
    if x.ndim != 2:
        raise ValueError(f"x must be (rows, {matrix.d_in}), got shape {x.shape}")
    address = address_of("x", x, (len(x), matrix.d_in))
    y = np.empty((len(x), matrix.d_out), np.float32)
    library().tfguide_linear(matrix.linear, address, len(x), y.ctypes.data, check_count("threads", threads))
    return y


def unpack(matrix: Matrix, y: int, dtype: str, threads: int) -> None:
    """Unpack a matrix to (in, out) numbers, y: 8-bit weights without their outputs' scales, 4-bit ones with theirs.

    y: the address of (in, out) numbers of this type. Raises TypeError or ValueError for a matrix that is not packed.
    """
    check_choice("dtype", dtype, abi.TYPES)
    if not matrix.is_packed:
        raise ValueError(f"only weights of 8 and 4 bits are packed, got {matrix.format!r}")
    library().tfguide_unpack(
        matrix.linear, check_count("y", y), abi.code("Type", dtype), check_count("threads", threads)
    )
