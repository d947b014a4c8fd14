"""How weights are cut: the pieces of all processes are the whole, and each is what its process needs."""

import numpy as np
import pytest

from tests.support import random_weights, refuses, small_config
from tfguide import Experts, LatentAttention
from tfguide.sharding.cuts import check_processes, divided_axis, elements_of, local_config, piece_of
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
    local = weight_table(local_config(config, 2))
    for key, weight in table.items():
        if divided_axis(weight) is None or weight.axes[divided_axis(weight)][0] not in ("V", "experts", "shared"):
            assert local[key].shape == piece_of(config, weight, 2, 1).shape_of(weight), key


def test_key_value_heads_are_repeated_where_there_are_fewer():
    config = small_config(n_heads=8, n_kv_heads=2, d_head=4, d_ff=32)
    weight = weight_table(config)["decoder.layers.0.self_attention.key.weight"]
    pieces = [piece_of(config, weight, 8, rank) for rank in range(8)]
    assert [piece.start for piece in pieces] == [0] * 4 + [4] * 4 and pieces[0].copies == 4
    assert local_config(config, 8).n_kv_heads == 1 and local_config(config, 8).n_heads == 1


def test_words_are_divided_unevenly():
    config = small_config(n_heads=4, d_ff=32, vocab_size=11)
    weight = weight_table(config)["embedding.token.weight"]
    pieces = [piece_of(config, weight, 4, rank) for rank in range(4)]
    assert [(piece.start, piece.stop) for piece in pieces] == [(0, 2), (2, 5), (5, 8), (8, 11)]


def test_sizes_that_cannot_be_divided_are_refused_with_those_that_can():
    config = small_config(n_heads=12, n_kv_heads=4, d_head=4, d_ff=48)
    with refuses(ValueError, "5 processes cannot divide 12 heads and 48 hidden features and 4 key/value heads: choose"):
        check_processes(config, 5)
    with refuses(ValueError, "choose 1, 2, 4, 12"):
        check_processes(config, 3)
    with refuses(ValueError, "rank must be below 2"):
        piece_of(config, weight_table(config)["embedding.token.weight"], 2, 2)
    experts = CONFIGS["experts"]
    with refuses(ValueError, "3 processes cannot divide 4 heads and 8 experts"):
        check_processes(experts, 3)
