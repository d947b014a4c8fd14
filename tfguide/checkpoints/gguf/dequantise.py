"""The numbers that blocks of the most frequent types stand for, bit for bit as the package `gguf` computes them.

Each function takes blocks (N, bytes), uint8, and gives the numbers (N, size), float32. A block of 32 numbers has a
float16 scale d, in some types a float16 minimum, and integers q. A super-block of 256 numbers has float16 scales of the
scales of its sub-blocks, which are integers too. 4-bit integers share a byte with those half a block, or a sub-block,
further on. Source: ggml-common.h and ggml-quants.c of ggml.
"""

from __future__ import annotations

import numpy as np

_TWICE = np.array([0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12], np.float32)  # MXFP4's numbers
HALF, SUB, SUPER = 16, 32, 256  # numbers: of half a block, of a sub-block, of a super-block


def dequantise_q4_0(blocks: np.ndarray) -> np.ndarray:
    """d * (q - 8): 2 bytes of d, 16 bytes of q."""
    q = _nibbles(blocks[:, 2:]).astype(np.float32)
    q -= np.float32(8)
    q *= _halves(blocks[:, :2])
    return q


def dequantise_q4_1(blocks: np.ndarray) -> np.ndarray:
    """d * q + m: 2 bytes each of d and of the minimum m, 16 bytes of q."""
    q = _nibbles(blocks[:, 4:]).astype(np.float32)
    q *= _halves(blocks[:, :2])
    q += _halves(blocks[:, 2:4])
    return q


def dequantise_q5_0(blocks: np.ndarray) -> np.ndarray:
    """d * (q - 16): 2 bytes of d, 4 bytes of the fifth bits, 16 bytes of the lower four."""
    fifth = np.unpackbits(blocks[:, 2:6], axis=1, bitorder="little")
    q = (_nibbles(blocks[:, 6:]) | fifth << 4).astype(np.float32)
    q -= np.float32(16)
    q *= _halves(blocks[:, :2])
    return q


def dequantise_q8_0(blocks: np.ndarray) -> np.ndarray:
    """d * q: 2 bytes of d, 32 signed bytes of q."""
    q = blocks[:, 2:].view(np.int8).astype(np.float32)
    q *= _halves(blocks[:, :2])
    return q


def dequantise_q4_k(blocks: np.ndarray) -> np.ndarray:
    """d * s * q - d_min * m: 2 bytes each of d and d_min, 12 of s and m (see `q4_k.py`), 128 of q."""
    return _with_minima(blocks, _nibbles(blocks[:, 16:].reshape(-1, SUB)).reshape(len(blocks), SUPER))


def dequantise_q5_k(blocks: np.ndarray) -> np.ndarray:
    """As Q4_K, with 32 bytes of fifth bits before the lower four: bit j of byte i is for number i of sub-block j."""
    fifth = blocks[:, None, 16:48] >> np.arange(8, dtype=np.uint8)[:, None] & 1  # (N, 8, 32)
    lower = _nibbles(blocks[:, 48:].reshape(-1, SUB))
    return _with_minima(blocks, lower.reshape(len(blocks), SUPER) | fifth.reshape(len(blocks), SUPER) << 4)


def dequantise_q6_k(blocks: np.ndarray) -> np.ndarray:
    """d * s * (q - 32): 128 bytes of lower four bits, 64 of upper two, 16 of s, signed, for 16 numbers each, 2 of d."""
    lower = _nibbles(blocks[:, :128].reshape(-1, 2 * SUB)).reshape(-1, 4, SUB)  # of each half of the super-block
    upper = blocks[:, 128:192].reshape(-1, 1, SUB) >> np.arange(0, 8, 2, dtype=np.uint8)[:, None] & 3
    q = (lower | upper << 4).reshape(len(blocks), SUPER // 16, 16).astype(np.float32)
    q -= np.float32(32)
    q *= (_halves(blocks[:, 208:]) * blocks[:, 192:208].view(np.int8))[..., None]
    return q.reshape(len(blocks), SUPER)


def dequantise_mxfp4(blocks: np.ndarray) -> np.ndarray:
    """2^(e - 127) * v: 1 byte of e, 16 bytes of the numbers v of 4 bits, see `tfguide.checkpoints.mxfp4`."""
    numbers = _TWICE.take(_nibbles(blocks[:, 1:]))
    numbers *= np.ldexp(np.float32(1), blocks[:, :1].astype(np.int32) - 128)
    return numbers


DEQUANTISE = {
    "Q4_0": dequantise_q4_0,
    "Q4_1": dequantise_q4_1,
    "Q5_0": dequantise_q5_0,
    "Q8_0": dequantise_q8_0,
    "Q4_K": dequantise_q4_k,
    "Q5_K": dequantise_q5_k,
    "Q6_K": dequantise_q6_k,
    "MXFP4": dequantise_mxfp4,
}


def _halves(columns):
    """Two columns of bytes as one of float32."""
    return np.ascontiguousarray(columns).view("<f2").astype(np.float32)


def _nibbles(columns):
    """The lower halves of the bytes in a row, and behind them the upper halves: (N, n) to (N, 2 n)."""
    n = columns.shape[1]
    both = np.empty((len(columns), 2 * n), np.uint8)
    np.bitwise_and(columns, 15, out=both[:, :n])
    np.right_shift(columns, 4, out=both[:, n:])
    return both


def _with_minima(blocks, integers):
    """The numbers of super-blocks of Q4_K or Q5_K, from their integers (N, 256)."""
    first, last, rest = blocks[:, 4:8], blocks[:, 8:12], blocks[:, 12:16]
    scale = np.concatenate([first & 63, rest & 15 | first >> 6 << 4], axis=1)  # (N, 8)
    minimum = np.concatenate([last & 63, rest >> 4 | last >> 6 << 4], axis=1)
    q = integers.reshape(len(blocks), SUPER // SUB, SUB).astype(np.float32)
    q *= (_halves(blocks[:, :2]) * scale)[..., None]
    q -= (_halves(blocks[:, 2:4]) * minimum)[..., None]
    return q.reshape(len(blocks), SUPER)
