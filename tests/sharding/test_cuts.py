"""How weights are cut: the pieces of all processes are the whole, and each is what its process needs."""

import dataclasses

import numpy as np
import pytest

from tests.support import random_weights, refuses, small_config
from tfguide import Experts, LatentAttention
from tfguide.sharding.cuts import check_processes, divided_axis, elements_of, local_config, part_of, piece_of
from tfguide.weights import weight_table

CONFIGS = {
    "plain": small_config(n_heads=4, d_ff=32),
    "grouped": small_config(n_heads=4, n_kv_heads=2, d_ff=32, positions="rotary", activation="swiglu"),
    "untied": small_config(n_heads=4, d_ff=32, tied_head=False, qk_norm=True, attention_sinks=True),
    "alibi": small_config(n_heads=4, d_ff=32, positions="alibi"),
    "relative": small_config(kind="encoder-decoder", n_heads=4, d_ff=32, positions="relative"),
    "encoder": small_config(kind="encoder", n_heads=4, d_ff=32),
    "experts": small_config(
        n_heads=4, d_ff=32, activation="swiglu", ffn_bias=True,
        experts=Experts(n_experts=8, per_token=2, d_expert=12, n_shared=1, router_bias=True),
    ),
    "latent": small_config(
        n_heads=4, d_head=12, d_ff=32, positions="rotary", qkv_bias=False, output_bias=False,
        latent=LatentAttention(kv_rank=16, d_nope=8, d_rope=4, d_value=8),
    ),
}  # fmt: skip


@pytest.mark.parametrize("n", [1, 2, 4])
@pytest.mark.parametrize("name", CONFIGS)
def test_the_pieces_are_the_whole(name, n):
    config = CONFIGS[name]
    for key, array in random_weights(config).items():
        weight = weight_table(config)[key]
        pieces = [piece_of(config, weight, n, rank) for rank in range(n)]
        assert all(array[piece.index].shape == piece.shape_of(weight) for piece in pieces)
        if pieces[0].axis is None:
            assert all(piece.copies == n and np.array_equal(array[piece.index], array) for piece in pieces)
            continue
        own = pieces[:: pieces[0].copies]
        assert np.array_equal(np.concatenate([array[piece.index] for piece in own], axis=own[0].axis), array)
        assert [piece for piece in own for _ in range(piece.copies)] == pieces


@pytest.mark.parametrize("name", CONFIGS)
def test_a_process_has_its_share_and_what_is_repeated(name):
    config, table = CONFIGS[name], weight_table(CONFIGS[name])
    whole = sum(weight.size for weight in table.values())
    repeated = sum(weight.size for weight in table.values() if divided_axis(weight) is None)
    shares = [elements_of(config, 2, rank) for rank in range(2)]
    assert sum(shares) == whole + repeated and repeated < 0.2 * whole
    # The configuration of one process has just these shapes, but for words and what belongs to a mixture.
    local = weight_table(local_config(config, 2, 1))
    for key, weight in table.items():
        if divided_axis(weight) is None or weight.axes[divided_axis(weight)][0] not in ("V", "experts", "shared"):
            assert local[key].shape == piece_of(config, weight, 2, 1).shape_of(weight), key


def test_key_value_heads_are_repeated_where_there_are_fewer():
    config = small_config(n_heads=8, n_kv_heads=2, d_head=4, d_ff=32)
    weight = weight_table(config)["decoder.layers.0.self_attention.key.weight"]
    pieces = [piece_of(config, weight, 8, rank) for rank in range(8)]
    assert [piece.start for piece in pieces] == [0] * 4 + [4] * 4 and pieces[0].copies == 4
    assert local_config(config, 8, 7).n_kv_heads == 1 and local_config(config, 8, 7).n_heads == 1


def test_words_are_divided_unevenly():
    config = small_config(n_heads=4, d_ff=32, vocab_size=11)
    weight = weight_table(config)["embedding.token.weight"]
    pieces = [piece_of(config, weight, 4, rank) for rank in range(4)]
    assert [(piece.start, piece.stop) for piece in pieces] == [(0, 2), (2, 5), (5, 8), (8, 11)]


def test_heads_are_divided_unevenly_with_their_key_value_head():
    """SmolLM2 has 9 heads in 3 groups: of 2 processes one has 3 heads and the other 6."""
    config = small_config(n_heads=9, n_kv_heads=3, d_head=4, d_ff=96)
    assert [part_of(config, "K", 2, rank) for rank in range(2)] == [(0, 1), (1, 3)]
    assert [part_of(config, "H", 2, rank) for rank in range(2)] == [(0, 3), (3, 9)]
    assert [local_config(config, 2, rank).n_heads for rank in range(2)] == [3, 6]


def test_features_that_share_a_scale_stay_together():
    config = small_config(n_heads=4, d_ff=100)
    assert [part_of(config, "F", 3, rank, 32) for rank in range(3)] == [(0, 32), (32, 64), (64, 100)]
    assert [local_config(config, 3, rank, 32).d_ff for rank in range(3)] == [32, 32, 36]
    with refuses(ValueError, "4 processes cannot divide 100 hidden features that share a scale in groups of 64"):
        part_of(config, "F", 4, 0, 64)


def test_sizes_that_cannot_be_divided_are_refused_with_those_that_can():
    config = small_config(n_heads=12, n_kv_heads=4, d_head=4, d_ff=48)
    with refuses(ValueError, "5 processes cannot divide 12 heads and 4 key/value heads: choose 1, 2, 3, 4, 12"):
        check_processes(config, 5)
    with refuses(ValueError, "13 processes cannot divide 12 heads: choose 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12"):
        check_processes(small_config(n_heads=12, d_head=4, d_ff=48), 13)
    with refuses(ValueError, "rank must be below 2"):
        piece_of(config, weight_table(config)["embedding.token.weight"], 2, 2)
    with refuses(ValueError, "3 processes cannot divide 8 experts and 10 features of the shared experts: choose 1, 2"):
        check_processes(
            dataclasses.replace(
                CONFIGS["experts"], experts=dataclasses.replace(CONFIGS["experts"].experts, d_expert=10)
            ),
            3,
        )
