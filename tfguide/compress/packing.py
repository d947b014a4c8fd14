"""The memory layout of quantised weights: 16 outputs side by side, four bytes of each.

A vector register holds 16 numbers of 32 bits. One load brings four weights of each of 16 outputs, one instruction
multiplies them with the same four inputs and adds them up in 16 lanes, and lane i is output i: no sum crosses lanes.
Rows of zeros pad the outputs to a multiple of 16.
"""

from __future__ import annotations

import numpy as np

LANES = 16
CACHE_LINE = 64  # bytes


def aligned(array: np.ndarray) -> np.ndarray:
    """The array in C order from the beginning of a cache line on: itself, or a copy.

    The 64 bytes that a kernel loads at once would otherwise lie in two cache lines. NumPy's memory begins anywhere.
    """
    if array.flags.c_contiguous and array.ctypes.data % CACHE_LINE == 0:
        return array
    memory = np.empty(array.nbytes + CACHE_LINE, np.uint8)
    start = -memory.ctypes.data % CACHE_LINE
    result = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    result[...] = array
    return result


def pack_int8(q: np.ndarray) -> np.ndarray:
    """8-bit weights (out, in) to (out / 16, in / 4, 16, 4), outputs and inputs padded with zeros."""
    q = _filled(np.asarray(q, np.int8), 4, 0)
    n_out, n_in = q.shape
    return aligned(q.reshape(n_out // LANES, LANES, n_in // 4, 4).transpose(0, 2, 1, 3))


def unpack_int8(packed: np.ndarray, n_out: int, n_in: int) -> np.ndarray:
    """The inverse of `pack_int8`: int8 (out, in)."""
    blocks, fours = packed.shape[:2]
    return packed.transpose(0, 2, 1, 3).reshape(blocks * LANES, fours * 4)[:n_out, :n_in]


def pack_int4(q: np.ndarray) -> np.ndarray:
    """4-bit weights from -8 to 7, (out, in), to bytes (out / 16, in / 8, 16, 4): each plus 8, as `pack_uint4`.

    Raises ValueError if the inputs are not a multiple of 8.
    """
    return pack_uint4(np.asarray(q, np.int8) + np.int8(8), padding=8)


def pack_uint4(levels: np.ndarray, padding: int = 0) -> np.ndarray:
    """Levels from 0 to 15, (out, in), to bytes (out / 16, in / 8, 16, 4); padding: the level of missing outputs.

    A byte is two levels: inputs 8i to 8i + 3 in the lower halves of four bytes, 8i + 4 to 8i + 7 in the upper halves.
    Raises ValueError if the inputs are not a multiple of 8.
    """
    if np.shape(levels)[1] % 8:
        raise ValueError(f"4-bit weights are packed by 8 inputs, got {np.shape(levels)[1]} inputs")
    u = _filled(np.asarray(levels, np.uint8), 8, padding)
    n_out, n_in = u.shape
    u = u.reshape(n_out // LANES, LANES, n_in // 8, 2, 4).transpose(0, 2, 1, 4, 3)  # (blocks, eights, 16, 4, 2)
    return aligned(u[..., 0] | u[..., 1] << 4)


def unpack_int4(packed: np.ndarray, n_out: int, n_in: int) -> np.ndarray:
    """The inverse of `pack_int4`: int8 (out, in), from -8 to 7."""
    return unpack_uint4(packed, n_out, n_in).astype(np.int8) - np.int8(8)


def unpack_uint4(packed: np.ndarray, n_out: int, n_in: int) -> np.ndarray:
    """The inverse of `pack_uint4`: uint8 (out, in), from 0 to 15."""
    halves = np.stack([packed & 15, packed >> 4], axis=-1)  # (blocks, eights, 16, 4, 2)
    blocks, eights = packed.shape[:2]
    return halves.transpose(0, 2, 1, 4, 3).reshape(blocks * LANES, eights * 8)[:n_out, :n_in]


def pack_scales(scale: np.ndarray) -> np.ndarray:
    """Scales (out,) to (padded out,), or (out, groups) to (out / 16, groups, 16); 0 for padding."""
    if scale.ndim == 1:
        return aligned(_filled(scale[:, None], 1, 0)[:, 0])
    scale = _filled(scale, 1, 0)
    return aligned(scale.reshape(-1, LANES, scale.shape[1]).transpose(0, 2, 1))


def unpack_scales(packed: np.ndarray, n_out: int) -> np.ndarray:
    """The inverse of `pack_scales`, in float32."""
    packed = packed.astype(np.float32)
    if packed.ndim == 1:
        return packed[:n_out]
    return packed.transpose(0, 2, 1).reshape(-1, packed.shape[1])[:n_out]


def pack_bytes(scale: np.ndarray) -> np.ndarray:
    """The bytes of steps and minima, (out, groups, 2), to (out / 16, groups, 2, 16); 0 for padding."""
    n_out, groups, _ = scale.shape
    filled = _filled(scale.reshape(n_out, groups * 2), 1, 0)
    return aligned(filled.reshape(-1, LANES, groups, 2).transpose(0, 2, 3, 1))


def unpack_bytes(packed: np.ndarray, n_out: int) -> np.ndarray:
    """The inverse of `pack_bytes`: uint8 (out, groups, 2)."""
    return packed.transpose(0, 3, 1, 2).reshape(-1, packed.shape[1], 2)[:n_out]


def pack_units(unit: np.ndarray) -> np.ndarray:
    """The largest step and the largest depth of each output, (out, 2), to (2, padded out); 0 for padding."""
    return aligned(_filled(unit, 1, 0).T)


def dequantize(
    packed: np.ndarray, scale: np.ndarray, n_out: int, n_in: int, unit: np.ndarray | None = None
) -> np.ndarray:
    """The weight (in, out), float32, that packed integers and packed scales represent; unit: of asymmetric weights."""
    if unit is not None:
        parts = unit.T[:n_out].astype(np.float32) / np.float32(255)
        step, minimum = np.moveaxis(unpack_bytes(scale, n_out) * parts[:, None], -1, 0)[..., None]  # (out, groups, 1)
        groups = unpack_uint4(packed, n_out, n_in).reshape(*step.shape[:2], -1)
        return (groups * step - minimum).reshape(n_out, n_in).T
    scale = unpack_scales(scale, n_out)
    if packed.dtype == np.int8:
        return (unpack_int8(packed, n_out, n_in) * scale[:, None]).T
    groups = unpack_int4(packed, n_out, n_in).reshape(*scale.shape, -1)
    return (groups * scale[..., None]).reshape(n_out, n_in).T


def _filled(q, multiple, value):
    n_out, n_in = q.shape
    return np.pad(q, ((0, -n_out % LANES), (0, -n_in % multiple)), constant_values=value)
