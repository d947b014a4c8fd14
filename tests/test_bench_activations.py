"""`python -m tfguide.bench.activations`: the inputs of layers, the residual stream, and roundings, on a small model."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import tfguide.torch as tg
from tests.support import random_weights, small_config
from tfguide import compress
from tfguide.bench import activations

MEASURED = Path(__file__).parents[1] / "book" / "appendices" / "benchmarks" / "smollm2" / "activations.json"


@pytest.fixture(scope="module")
def model():
    config = small_config(
        positions="rotary", n_kv_heads=2, d_model=40, norm="rms", activation="swiglu", qkv_bias=False,
        output_bias=False, ffn_bias=False,
    )  # fmt: skip
    return tg.from_weights(config, random_weights(config))


TOKENS = np.random.default_rng(0).integers(0, 37, 23)


def test_roundings_share_scales_as_they_say():
    x = torch.randn(5, 70, generator=torch.Generator().manual_seed(0)) * torch.tensor([1, 9, 1, 1, 1])[:, None]
    x[2, 40] = 500.0
    rows, blocks = activations.round_rows(x), activations.ROUNDINGS["32 of a row"](x)
    for row in range(5):
        alone = activations.round_tensor(x[row])
        np.testing.assert_array_equal(rows[row], alone)
    q, scale = compress.quantize_activations(x.numpy())
    np.testing.assert_allclose(blocks, q * np.repeat(scale, 32, axis=1)[:, :70], rtol=1e-6)
    whole = activations.round_tensor(x)
    errors = [float((one - x).norm()) for one in (blocks, rows, whole)]
    assert errors[0] < errors[1] < errors[2]
    assert activations.round_tensor(torch.zeros(3)).tolist() == [0, 0, 0]


def test_the_inputs_are_those_of_the_layers(model):
    rows = activations.measure_inputs(model, TOKENS)
    own = ("self_attention.query", "self_attention.output", "feed_forward.gate", "feed_forward.down")
    names = [row["layer"] for row in rows]
    assert names[:8] == [f"decoder.layers.{layer}.{name}" for layer in (0, 1) for name in own]
    for row in rows:
        assert row["channels"][0] == row["largest"] >= row["median"] > 0 and 0 <= row["position"] < 23
        assert 0 < row["errors"]["32 of a row"] < 0.02 and row["errors"]["row"] < row["errors"]["tensor"] * 1.2


def test_the_residual_stream_is_that_between_the_blocks(model):
    rows = activations.measure_residual(model, TOKENS)
    states = model.hidden_states(TOKENS[None])
    assert len(rows) == 3
    for row, state in zip(rows, states, strict=True):
        assert row["largest"] == np.abs(state).max() == abs(state[0, row["position"], row["channel"]])
        assert row["others"] == np.abs(state[0, 1:]).max() and row["median"] < row["others"]


def test_a_rounded_text_is_read_by_rounded_inputs(model):
    rows = activations.measure_roundings(model, TOKENS, window=12)
    assert [row["scale"] for row in rows] == [None, "tensor", "row", "32 of a row"]
    exact = tg.perplexity(model, TOKENS, 12)
    assert rows[0]["perplexity"] == pytest.approx(exact, rel=1e-6)
    assert len({row["perplexity"] for row in rows}) == 4
    for row in rows[1:]:
        assert row["perplexity"] == pytest.approx(exact, rel=0.02)
    assert tg.perplexity(model, TOKENS, 12) == pytest.approx(exact, rel=1e-6)  # nothing watches any more


def test_the_page_shows_what_was_measured():
    pytest.importorskip("IPython")
    from tfguide.figures import quantised

    found = json.loads(MEASURED.read_text())
    assert len(found["residual"]) == 31 and len(found["inputs"]) == 4 * 30
    shown = quantised.roundings_table(found).data
    for row in found["roundings"]:
        assert f"<td>{row['perplexity']:.2f}</td>" in shown
    errors = quantised.errors_table(found).data
    downs = [row["errors"]["row"] for row in found["inputs"] if row["layer"].endswith(".down")]
    assert f"<td>{np.median(downs):.2%}</td><td>{max(downs):.2%}</td><td>one for each row</td>" in errors
    assert len(activations.table(found).splitlines()) == 1 + 4 + 1 + 1 + 8 + 1 + 1 + 31
