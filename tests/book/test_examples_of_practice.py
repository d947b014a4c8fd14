"""The listings of chapter 5: what they compute is what the reference computes, in both frameworks."""

import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import torch

import tfguide.reference as ref
from tfguide import ModelConfig, init_weights
from tfguide.tasks import minilm

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "book/examples"))

import decoder_tensorflow
import decoder_torch
import preprocess_tensorflow
import preprocess_torch
import transformer_tensorflow
import transformer_torch


@pytest.mark.parametrize("example", [preprocess_torch, preprocess_tensorflow], ids=["torch", "tensorflow"])
def test_texts_become_vectors(example):
    tokenizer = minilm.tokenizer()
    texts = ["So is mine", "Hello, my dog is cute", "a"]
    tokens, valid = example.batch(tokenizer, texts, pad_id=0)
    ids, mask = minilm.batch(texts)
    assert np.array_equal(tokens, ids) and np.array_equal(valid, mask)
    table = np.random.default_rng(0).normal(size=(30_522, 5)).astype(np.float32)
    as_tensor = torch.from_numpy(table) if example is preprocess_torch else table
    vectors = example.embed(tokens, as_tensor)  # (B, T, D)
    assert np.array_equal(vectors, table[ids])
    last = example.at_the_last_token(vectors, valid)
    assert np.array_equal(last, [table[row[n - 1]] for row, n in zip(ids, mask.sum(1), strict=True)])


def numbers(framework, *arrays):
    """Arrays as the integers or booleans that a model of the framework takes."""
    return [torch.from_numpy(a) if framework == "torch" else tf.constant(a) for a in arrays]


@pytest.mark.parametrize(("framework", "example"), [("torch", decoder_torch), ("tensorflow", decoder_tensorflow)])
def test_the_decoder_of_a_hundred_lines_is_that_of_the_reference(framework, example):
    """Three query heads for each of two key/value heads, and widths of heads that do not add up to D."""
    config = ModelConfig(
        kind="decoder", d_model=20, n_layers=2, n_heads=6, n_kv_heads=2, d_head=14, d_ff=11, vocab_size=37, norm="rms",
        positions="rotary", rope_theta=53.0, activation="swiglu", qkv_bias=False, output_bias=False, ffn_bias=False,
    )  # fmt: skip
    weights = init_weights(config, seed=0)
    model = example.Decoder(V=37, D=20, L=2, H=6, K=2, d=14, F=11, theta=53.0, eps=config.norm_eps)
    example.load(model, weights)
    tokens = np.random.default_rng(0).integers(0, 37, (3, 7))
    expected = ref.forward(config, weights, tokens)
    with torch.no_grad():
        [tokens_there] = numbers(framework, tokens)
        assert np.abs(np.asarray(model(tokens_there)) - expected).max() < 1e-4
        row = tokens[0].tolist()
        written = example.write(model, row, 3)
    assert written[:7] == row
    for n in range(7, 10):
        assert written[n] == ref.forward(config, weights, np.array([written[:n]]))[0, -1].argmax()


@pytest.mark.parametrize(
    ("framework", "example"), [("torch", transformer_torch), ("tensorflow", transformer_tensorflow)]
)
def test_the_encoder_decoder_is_that_of_the_reference(framework, example):
    config = ModelConfig(
        kind="encoder-decoder", d_model=20, n_layers=2, n_heads=5, d_ff=11, vocab_size=37, norm="layer",
        norm_placement="post", positions="sinusoidal", activation="relu", embedding_scale=20**0.5,
    )  # fmt: skip
    weights = init_weights(config, seed=0)
    model = example.EncoderDecoder(V=37, D=20, L=2, H=5, F=11, eps=config.norm_eps)
    draw = np.random.default_rng(0)
    source, target = draw.integers(0, 37, (3, 7)), draw.integers(0, 37, (3, 5))
    there = numbers(framework, source, target)
    with torch.no_grad():
        model(*there)
        names = [("embedding.token.", "token."), ("encoder.layers.", "encoder."), ("decoder.layers.", "decoder.")]
        example.load(model, weights, names)
        assert np.abs(np.asarray(model(*there)) - ref.forward(config, weights, source, target)).max() < 1e-4


@pytest.mark.parametrize("example", [transformer_torch, transformer_tensorflow], ids=["torch", "tensorflow"])
def test_heads_must_divide_the_width(example):
    with pytest.raises(ValueError, match="num_heads must divide d_model = 20, got 3"):
        example.MultiHeadAttention(20, 3)
