"""Blocks are dequantised as the package `gguf` does it, bit for bit, whatever bits they hold."""

import time

import numpy as np
import pytest

from tests.checkpoints.gguf.made import random_blocks
from tfguide.checkpoints.gguf.blocks import BLOCK_TYPES, NUMBERS, Blocks, dequantise
from tfguide.checkpoints.gguf.dequantise import DEQUANTISE

gguf = pytest.importorskip("gguf")
TYPES = ("F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q8_0", "Q4_K", "Q5_K", "Q6_K", "MXFP4")


def theirs(data, block_type):
    with np.errstate(all="ignore"):
        return gguf.quants.dequantize(data, gguf.GGMLQuantizationType[block_type])


def same_bits(one, other):
    """Equal to the last bit; a NaN equals a NaN of any bits."""
    one, other = (np.ascontiguousarray(x).view(np.uint32) for x in (one, other))
    both_nan = np.isnan(one.view(np.float32)) & np.isnan(other.view(np.float32))
    return one.shape == other.shape and bool(((one == other) | both_nan).all())


@pytest.mark.parametrize("kind", ["any bits", "finite scales"])
@pytest.mark.parametrize("block_type", TYPES)
def test_bit_for_bit(block_type, kind):
    """Random bits have scales that are infinite, NaN, 0 or subnormal too."""
    stream = np.random.default_rng(TYPES.index(block_type))
    if kind == "any bits":
        block = BLOCK_TYPES[NUMBERS[block_type]]
        data = stream.integers(0, 256, (31, 67 * max(1, 32 // block.size) * block.n_bytes), dtype=np.uint8)
    else:
        data = random_blocks(stream, block_type, (31, 67 * 256))
    numbers = dequantise(data, block_type)
    assert numbers.dtype == np.float32 and same_bits(numbers, theirs(data, block_type))
    assert numbers.flags.owndata or numbers.base.flags.writeable
    assert not np.shares_memory(numbers, data)
    if kind == "finite scales":
        assert np.isfinite(numbers).all() and len(np.unique(numbers)) > (20 if block_type == "MXFP4" else 1000)


@pytest.mark.parametrize("block_type", TYPES)
def test_rows_by_number(block_type):
    """Any rows in any order, in any shape, also none."""
    stream = np.random.default_rng(3)
    blocks = Blocks(block_type, (13, 512), random_blocks(stream, block_type, (13, 512)))
    whole = blocks.dequantised()
    assert whole.shape == blocks.shape
    for rows in (np.array([[3, 12, 0], [3, 3, 7]]), np.array(5), np.empty((2, 0), int)):
        taken = blocks.take(rows)
        assert taken.shape == (*rows.shape, 512) and taken.tobytes() == whole[rows].tobytes()


@pytest.mark.parametrize(
    ("block_type", "shape", "data", "message"),
    [
        ("Q4_2", (3, 64), np.zeros((3, 36), np.uint8), r"block_type must be one of .*'Q4_1'.* got 'Q4_2'"),
        ("Q4_K", (3, 64), np.zeros((3, 36), np.uint8), "multiple of 256 numbers in type Q4_K, got 64"),
        ("Q4_0", (3, 64), np.zeros((3, 40), np.uint8), r"uint8 \(3, 36\) for \(3, 64\).*Q4_0, got uint8 \(3, 40\)"),
        ("Q4_0", (5, 64), np.zeros((3, 36), np.uint8), r"uint8 \(5, 36\) .* got uint8 \(3, 36\)"),
        ("F16", (3, 64), np.zeros((3, 64), np.float16), r"uint8 \(3, 128\) .* got float16 \(3, 64\)"),
    ],
)
def test_what_is_not_blocks(block_type, shape, data, message):
    with pytest.raises(ValueError, match=message):
        Blocks(block_type, shape, data)


def test_they_need_no_package(monkeypatch):
    """The types that are dequantised here are read where the package `gguf` is missing; for others it is named."""
    monkeypatch.setitem(__import__("sys").modules, "gguf", None)
    stream = np.random.default_rng(0)
    for block_type in TYPES:
        assert dequantise(random_blocks(stream, block_type, (3, 256)), block_type).shape == (3, 256)
    with pytest.raises(ImportError, match=r"package gguf is needed to dequantise blocks of type Q5_1: pip install"):
        dequantise(np.zeros((3, 24), np.uint8), "Q5_1")


@pytest.mark.parametrize("block_type", DEQUANTISE)
def test_it_takes_a_moment(block_type):
    """Some nanoseconds for a number, so that a model of 135 million weights makes a step within a second."""
    data = random_blocks(np.random.default_rng(0), block_type, (1024, 1024))

    def seconds():
        start = time.perf_counter()
        dequantise(data, block_type)
        return time.perf_counter() - start

    assert min(seconds() for _ in range(5)) < 8e-9 * 1024 * 1024
