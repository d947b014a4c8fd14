"""The position schemes: their tables against published ones, and the property each was made for."""

import math

import numpy as np
import pytest

from tests.support import FRAMEWORKS, load, numpy, tensor
from tfguide import RopeScaling
from tfguide.frequencies import alibi_slopes, relative_bucket_table, rotary_frequencies

IMPLEMENTATIONS = ("reference", *FRAMEWORKS)


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
def test_sinusoids_are_the_formula(name):
    encoding = numpy(load(name).sinusoidal_positions(tensor(name, np.arange(50)[None]), 6))
    for position, i in np.ndindex(50, 3):
        angle = position / 10000 ** (2 * i / 6)
        assert encoding[0, position, 2 * i] == pytest.approx(math.sin(angle), abs=1e-6)
        assert encoding[0, position, 2 * i + 1] == pytest.approx(math.cos(angle), abs=1e-6)


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
def test_rotated_products_depend_on_the_distance_only(name):
    module, stream = load(name), np.random.default_rng(0)
    query, key = stream.normal(size=(1, 1, 3, 10)), stream.normal(size=(1, 1, 3, 10))
    frequencies = rotary_frequencies(10)

    def product(m, n):
        turned = [
            numpy(module.rotate(tensor(name, x), *module.rotary_angles(tensor(name, np.array([[p]])), frequencies)))
            for x, p in ((query, m), (key, n))
        ]
        return np.einsum("bthd,bthd->h", *turned)

    np.testing.assert_allclose(product(9, 4), product(1009, 1004), atol=2e-5)
    np.testing.assert_allclose(product(3, 3), np.einsum("bthd,bthd->h", query, key), atol=2e-6)
    assert np.abs(product(9, 4) - product(4, 9)).max() > 0.1


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_angles_keep_their_digits_far_out(name):
    positions, frequencies = np.array([[100_003]]), rotary_frequencies(64)
    exact = np.cos(positions[..., None] * frequencies)
    cos, _ = load(name).rotary_angles(tensor(name, positions), frequencies)
    assert np.abs(numpy(cos) - exact).max() < 1e-6


def test_llama3_frequencies_are_those_of_transformers():
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    scaling = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
               "original_max_position_embeddings": 8192}  # fmt: skip
    config = LlamaConfig(hidden_size=128, num_attention_heads=1, rope_parameters={**scaling, "rope_theta": 500_000.0})
    expected, _ = ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")
    ours = rotary_frequencies(
        128, 500_000.0, RopeScaling(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_positions=8192)
    )
    np.testing.assert_allclose(ours, expected.numpy(), rtol=1e-5)
    plain = rotary_frequencies(128, 500_000.0)
    assert (ours[:20] == plain[:20]).all()
    np.testing.assert_allclose(ours[-1], plain[-1] / 8)


def test_alibi_slopes_are_those_of_the_paper():
    np.testing.assert_allclose(alibi_slopes(8), [2.0**-i for i in range(1, 9)])
    np.testing.assert_allclose(alibi_slopes(16)[:2], [2**-0.5, 2**-1.0])
    # its code for 6 heads: those of 4, then every second one of 8
    np.testing.assert_allclose(alibi_slopes(6), [2**-2.0, 2**-4.0, 2**-6.0, 2**-8.0, 2**-1.0, 2**-3.0])
    assert all(len(alibi_slopes(n)) == n for n in range(1, 40))


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize(("n_buckets", "max_distance"), [(32, 128), (10, 20), (8, 16), (12, 37), (4, 5)])
def test_relative_buckets_are_those_of_transformers(bidirectional, n_buckets, max_distance):
    import torch
    from transformers.models.t5.modeling_t5 import T5Attention

    relative = torch.arange(-2 * max_distance, 2 * max_distance + 1)
    expected = T5Attention._relative_position_bucket(relative, bidirectional, n_buckets, max_distance).numpy()
    table = relative_bucket_table(bidirectional, n_buckets, max_distance)
    clipped = np.clip(relative.numpy(), -max_distance, max_distance) + max_distance
    np.testing.assert_array_equal(table[clipped], expected)


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
def test_biases_fall_with_the_distance(name):
    module = load(name)
    query, key = tensor(name, np.array([[3, 4]])), tensor(name, np.array([[0, 1, 2, 3, 4]]))
    bias = numpy(module.alibi_bias(query, key, 2))
    assert bias.shape == (1, 2, 2, 5)
    np.testing.assert_allclose(bias[0, 0, 0], [-3 / 16, -2 / 16, -1 / 16, 0, -1 / 16])
    table = np.arange(8.0).reshape(4, 2)
    bias = numpy(module.relative_bias(query, key, tensor(name, table), False, 8))
    buckets = relative_bucket_table(False, 4, 8)
    for t, s, h in np.ndindex(2, 5, 2):
        assert bias[0, h, t, s] == table[buckets[np.clip(s - 3 - t, -8, 8) + 8], h]


def test_odd_sizes_cannot_be_paired():
    for name in IMPLEMENTATIONS:
        with pytest.raises(ValueError, match="even size, got 7"):
            load(name).sinusoidal_positions(tensor(name, np.array([[1]])), 7)
