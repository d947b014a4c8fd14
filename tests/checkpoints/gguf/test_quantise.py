"""Blocks that are written: read back by the package `gguf`, within the bound of each type."""

import numpy as np
import pytest

from tfguide.checkpoints.gguf.quantise import WRITTEN, fitting_type, quantise

gguf = pytest.importorskip("gguf")


def restored(blocks, block_type):
    """Numbers from blocks, by the package."""
    kind = gguf.GGMLQuantizationType[block_type]
    array = blocks.view(np.float32 if block_type == "F32" else np.float16) if block_type in ("F32", "F16") else blocks
    return gguf.quants.dequantize(array, kind)


def rows(name):
    """Rows of 512 numbers of several kinds."""
    stream = np.random.default_rng(0)
    normal = stream.normal(size=(7, 512)).astype(np.float32)
    return {
        "normal": normal,
        "small": normal * np.float32(1e-3),
        "heavy tails": stream.standard_t(3, size=(7, 512)).astype(np.float32),
        "positive": np.abs(normal) + 1,
        "negative": -np.abs(normal) - 1,
        "scales that differ": normal * np.repeat(np.float32(2.0) ** stream.integers(-9, 9, (7, 16)), 32, axis=1),
        "zeros": np.zeros((7, 512), np.float32),
        "constants": np.repeat(stream.normal(size=(7, 2)).astype(np.float32), 256, axis=1),
        "one number": np.eye(7, 512, dtype=np.float32),
        "sixteen levels": stream.integers(0, 16, (7, 512)).astype(np.float32) / 4 - 2,
    }[name]


KINDS = [
    "normal", "small", "heavy tails", "positive", "negative", "scales that differ", "zeros", "constants", "one number",
    "sixteen levels",
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("block_type", WRITTEN)
def test_error_is_within_a_step(kind, block_type):
    """Half a step of a block, or a rounding of the type, and what float16 rounds of the scale."""
    x = rows(kind)
    blocks = quantise(x, block_type)
    found = restored(blocks, block_type)
    assert blocks.dtype == np.uint8 and found.shape == x.shape
    groups = x.reshape(7, -1, 32)
    largest = np.abs(groups).max(axis=-1, keepdims=True)
    span = groups.max(axis=-1, keepdims=True) - groups.min(axis=-1, keepdims=True)
    bound = {
        "F32": 0.0, "F16": 2.0**-11 * largest + 2.0**-25, "BF16": 2.0**-8 * largest,
        "Q8_0": (0.5 / 127 + 2.0**-10) * largest + 127 * 2.0**-25,
        "Q4_0": (1 / 8 + 2.0**-10) * largest + 8 * 2.0**-25,  # one end has no level of its own
        "Q4_1": span / 30 + 2.0**-10 * (largest + span) + 16 * 2.0**-25,
        "Q4_K": np.inf,  # of the squared error: below
    }[block_type]  # fmt: skip
    assert (np.abs(found - x).reshape(groups.shape) <= bound).all()


@pytest.mark.parametrize("kind", KINDS)
def test_error_of_q4_k(kind):
    """The derived bound: a super-block's squared error is at most what its plain scales allow (see `quantise_q4_k`)."""
    x = rows(kind)
    groups = x.reshape(-1, 8, 32)
    error = (restored(quantise(x, "Q4_K"), "Q4_K") - x).reshape(groups.shape)
    minimum = np.maximum(-groups.min(axis=-1), 0.0)
    step = (np.maximum(groups.max(axis=-1), 0.0) + minimum) / 15
    largest_step, largest_minimum = step.max(axis=-1, keepdims=True), minimum.max(axis=-1, keepdims=True)
    each = step / 2 + 15.5 * largest_step / 126 + largest_minimum / 126
    # float16: d and d_min are rounded by 2^-11 of themselves, or by 2^-25 where they are tiny; 63 * 15 and 63 times.
    each += (15.5 * largest_step + largest_minimum) * 2.0**-11 + 63 * 16 * 2.0**-25
    assert ((error**2).sum(axis=(1, 2)) <= (32 * each**2).sum(axis=1)).all()


@pytest.mark.parametrize("kind", ["normal", "heavy tails"])
def test_search_is_better_than_plain_scales(kind):
    """With fewer bits for its scales than Q4_1, Q4_K has a smaller error, since its scales are searched for."""
    x = rows(kind)
    four_k, four_1 = (np.square(restored(quantise(x, t), t) - x).mean() for t in ("Q4_K", "Q4_1"))
    assert four_k < 0.87 * four_1


def test_levels_that_fit_are_kept():
    """Numbers on 16 levels of one step, which every sub-block spans, come back up to the rounding of float16."""
    x = rows("sixteen levels")
    x[:, 3::32], x[:, 7::32] = -2.0, 1.75
    np.testing.assert_allclose(restored(quantise(x, "Q4_K"), "Q4_K"), x, atol=(3.75 + 2) * 2.0**-11)


def test_q4_k_is_laid_out_as_in_ggml():
    """Each number of a super-block has a place of its own: changing one changes its own numbers only."""
    stream = np.random.default_rng(1)
    x = stream.normal(size=(3, 256)).astype(np.float32)
    whole = restored(quantise(x, "Q4_K"), "Q4_K")
    assert np.corrcoef(whole.ravel(), x.ravel())[0, 1] > 0.99
    for sub in range(8):
        for other in range(8):
            share = np.corrcoef(whole.reshape(3, 8, 32)[:, sub].ravel(), x.reshape(3, 8, 32)[:, other].ravel())[0, 1]
            assert (share > 0.98) == (sub == other)


def test_rows_that_blocks_do_not_divide():
    assert [fitting_type("Q4_K", n) for n in (512, 576, 24)] == ["Q4_K", "Q5_0", "F16"]
    assert [fitting_type(t, 40) for t in WRITTEN] == ["F32", "F16", "BF16", "F16", "F16", "F16", "F16"]


def test_numbers_that_do_not_fit():
    large = np.full((1, 256), 65520.0, np.float32)
    for block_type in set(WRITTEN) - {"F32", "BF16"}:
        with pytest.raises(ValueError, match=f"must be at most 65504 in type {block_type}, got 65520"):
            quantise(large, block_type)
    np.testing.assert_array_equal(restored(quantise(large, "F32"), "F32"), large)
    for value in (np.nan, np.inf):
        with pytest.raises(ValueError, match="must be finite"):
            quantise(np.full((1, 32), value, np.float32), "F32")
