"""Products of integers, which are exact in any order of addition: kernels are compared with them to the last bit."""

import numpy as np

from tfguide import native
from tfguide.checkpoints.gguf.blocks import BLOCK_TYPES, dequantise
from tfguide.compress.packing import pack_bytes, pack_int4, pack_int8, pack_scales, pack_uint4, pack_units

ROWS = (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, native.MAX_ROWS, native.MAX_ROWS + 1, 130)
SIZES = ((256, 48), (96, 33), (288, 70), (32, 1))  # (in, out) for every format
ODD_SIZES = ((100, 33), (17, 1), (8, 70), (1, 5), (67, 16))  # for the formats without blocks of inputs
STORED = {"float32": np.float32, "bfloat16": np.uint16, "float16": np.float16}


def to_bits(x, dtype):
    """Numbers in a type of the kernels; those of bfloat16 are rounded to the nearest even, as bits."""
    if dtype != "bfloat16":
        return np.ascontiguousarray(x, STORED[dtype])
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def from_bits(x, dtype):
    """The inverse of `to_bits`, in float64."""
    if dtype == "bfloat16":
        return (x.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    return x.astype(np.float64)


def integers(rng, *shape, most=127):
    """From -most to most, with many of the extremes, where a sum of 16 bits would overflow."""
    x = rng.integers(-most, most + 1, shape)
    return np.where(rng.random(shape) < 0.3, np.sign(x + 0.5) * most, x)


def exact_matrix(rng, form, d_in, d_out):
    """A matrix of a format, and its weight (in, out), whose products with integers have no rounding error."""
    bias = integers(rng, d_out).astype(np.float32)
    if not form.startswith("int"):
        dtype, order = form.split()
        w = integers(rng, d_in, d_out)
        stored = to_bits(w if order == "columns" else w.T, dtype)
        return native.Matrix(stored.ctypes.data, form, d_in, d_out, bias=bias, owner=stored), w, bias
    rounds = form.endswith("a8")
    if form.startswith("int8"):
        q, scale = integers(rng, d_out, d_in), 2.0 ** rng.integers(-3, 4, d_out)
        packed, scales = pack_int8(q), pack_scales(scale.astype(np.float32))
        return native.Matrix.of_packed(packed, scales, d_in, d_out, rounds, bias), (q * scale[:, None]).T, bias
    q, scale = integers(rng, d_out, d_in, most=7), 2.0 ** rng.integers(-3, 1, (d_out, d_in // 32))
    q[rng.random(q.shape) < 0.1] = -8
    packed, scales = pack_int4(q), pack_scales(scale.astype(np.float16))
    w = (q * np.repeat(scale, 32, axis=1)).T
    return native.Matrix.of_packed(packed, scales, d_in, d_out, rounds, bias), w, bias


def asymmetric_matrix(rng, rounds, d_in, d_out, group):
    """The same with a minimum for each group, whose units are 255 times a power of 2."""
    levels, scale = rng.integers(0, 16, (d_out, d_in)), rng.integers(0, 16, (d_out, d_in // group, 2))
    size = 2.0 ** rng.integers(-3, 1, (d_out, 2))
    numbers = scale * size[:, None]
    w = levels.reshape(d_out, -1, group) * numbers[..., :1] - numbers[..., 1:]
    packed = pack_uint4(levels.astype(np.uint8)), pack_bytes(scale.astype(np.uint8))
    unit = pack_units((255 * size).astype(np.float16))
    return native.Matrix.of_packed(*packed, d_in, d_out, rounds, unit=unit), w.reshape(d_out, d_in).T


BLOCK_SIZES = ((256, 48), (512, 33), (256, 1))  # (in, out): whole blocks of each type


def blocks_of(rng, block_type, d_in, d_out):
    """Rows of random blocks, uint8 (out, bytes), whose scales are powers of 2 and small integers."""
    found = {block.name: block for block in BLOCK_TYPES.values()}[block_type]
    if found.size == 1:
        dtype = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}[block_type]
        return to_bits(integers(rng, d_out, d_in), dtype).view(np.uint8)
    blocks = rng.integers(0, 256, (d_out, d_in // found.size, found.n_bytes), np.uint8)
    at, n = {"Q6_K": (208, 1), "Q4_1": (0, 2), "Q4_K": (0, 2), "Q5_K": (0, 2)}.get(block_type, (0, 1))
    scale = (2.0 ** rng.integers(-3, 1, (*blocks.shape[:2], n))).astype(np.float16)
    blocks[..., at : at + 2 * n] = scale.view(np.uint8)
    if block_type == "Q6_K":
        blocks[..., 192:208] = rng.integers(-4, 5, (*blocks.shape[:2], 16)).astype(np.int8).view(np.uint8)
    if block_type in ("Q4_K", "Q5_K"):  # scales of 6 bits, of which the lowest 3 are used: sums stay below 2^24
        blocks[..., 4:12] &= 7
        blocks[..., 12:16] &= 0x77
    return blocks.reshape(d_out, -1)


def check_blocks(block_type, rows=ROWS):
    """Multiply matrices of blocks of a GGUF file with each number of rows."""
    rng = np.random.default_rng(8)
    for d_in, d_out in BLOCK_SIZES:
        data = blocks_of(rng, block_type, d_in, d_out)
        w = dequantise(data, block_type).astype(np.float64).T
        matrix = native.Matrix.of_blocks(block_type, data, d_in, d_out, threads=1 + d_out % 2)
        _compare_products(rng, matrix, w, rows)


def check_asymmetric(rounds, rows=ROWS):
    """The same with asymmetric weights of 4 bits."""
    rng = np.random.default_rng(9)
    for (d_in, d_out), group in zip(SIZES, (32, 8, 24, 16), strict=True):
        _compare_products(rng, *asymmetric_matrix(rng, rounds, d_in, d_out, group), rows)


def _compare_products(rng, matrix, w, rows):
    for n in rows:
        x = integers(rng, n, matrix.d_in)
        x[:, ::32] = 127 * np.sign(x[:, ::32] + 0.5)  # each block has the scale 1
        got = native.multiply(matrix, x.astype(np.float32), threads=1 + n % 2)
        np.testing.assert_array_equal(got, x @ w, err_msg=f"{n} rows of {matrix.d_in} to {matrix.d_out}")


def check_products(form, rows=ROWS):
    """Multiply matrices of a format with each number of rows, by the kernels that the package uses."""
    rng = np.random.default_rng(3)
    for d_in, d_out in SIZES + (ODD_SIZES if "a8" not in form and "int4" not in form else ()):
        matrix, w, bias = exact_matrix(rng, form, d_in, d_out)
        for n in rows:
            x = integers(rng, n, d_in)
            x[:, ::32] = 127 * np.sign(x[:, ::32] + 0.5)  # each block has the scale 1
            got = native.multiply(matrix, x.astype(np.float32), threads=1 + n % 2)
            np.testing.assert_array_equal(got, x @ w + bias, err_msg=f"{n} rows of {d_in} to {d_out}")
