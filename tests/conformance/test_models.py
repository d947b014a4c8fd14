"""One weight dictionary through NumPy in float64, PyTorch and TensorFlow in float32: the same outputs.

Every norm x positions x activation x K in {1, middle, H} x kind. The table of largest differences in the book is
written by `TFGUIDE_WRITE_CONFORMANCE=1 pytest tests/conformance/test_models.py`.
"""

import dataclasses
import itertools
import json

import numpy as np
import pytest

import tfguide.reference as ref
from tests.support import FRAMEWORKS, TABLES, batch, load, numpy, random_weights, small_config
from tfguide import (
    DynamicScaling,
    Experts,
    LatentAttention,
    LinearScaling,
    LongRopeScaling,
    RopeScaling,
    YarnScaling,
)
from tfguide.config import ACTIVATIONS, KINDS, NORMS, POSITIONS

TABLE = TABLES / "models.json"
LIMIT = 1e-5
KV_HEADS = (1, 3, 6)
PLACEMENTS = {
    "encoder": ("post", "pre", "parallel", "both"),
    "decoder": ("pre", "parallel", "both", "post"),
    "encoder-decoder": ("pre", "post"),
}
EXPERTS = (
    Experts(n_experts=5, per_token=2, d_expert=13, n_dense_layers=1, n_shared=1),
    Experts(n_experts=6, per_token=3, d_expert=17, n_shared=2, router="sigmoid", normalised=False, scale=0.7,
            router_bias=True, correction_bias=True, n_groups=3, groups_per_token=2),
)  # fmt: skip
LATENT = LatentAttention(kv_rank=13, d_nope=3, d_rope=4, d_value=5, query_rank=11, norm_eps=1e-3)
LONG = dict(short_factors=(1.0, 1.1, 1.3, 1.7, 2.3), long_factors=(1.0, 2.0, 3.0, 5.0, 7.0), factor=5.0)
SCALINGS = (  # texts of `batch` have 2 to 7 tokens: some are longer than those of training, in one batch with others
    None,
    LongRopeScaling(original_max_positions=4, **LONG),
    RopeScaling(factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_positions=24),
    DynamicScaling(factor=3.0, original_max_positions=3),
    YarnScaling(factor=4.0, original_max_positions=200),
    LinearScaling(factor=3.0),
)
CASES = list(itertools.product(KINDS, NORMS, POSITIONS))
PARTS = {  # what a row is said to have, see `conformance.parts_table`
    "windows in every layer": lambda config: config.sliding_window and config.sliding_layers is None,
    "windows by layer": lambda config: config.sliding_layers,
    "normalised queries and keys": lambda config: config.qk_norm,
    "sinks in the softmax": lambda config: config.attention_sinks,
    "capped scores": lambda config: config.attention_softcap,
    "another scale of the scores": lambda config: config.attention_scale == 0.4,
    "latent attention": lambda config: config.latent,
    "softmax router, a shared expert, a dense layer": lambda config: config.experts == EXPERTS[0],
    "sigmoid router, groups, a correction": lambda config: config.experts == EXPERTS[1],
    "rotated in part": lambda config: config.latent is None and config.d_rotary != config.d_head,
    "another base for layers with a window": lambda config: config.local_rope_theta,
    **{f"{kind} scaling": lambda config, kind=kind: config.rope_scaling and config.rope_scaling.kind == kind
       for kind in ("linear", "dynamic", "llama3", "yarn", "longrope")},
    "before each sublayer": lambda config: config.norm_placement == "pre",
    "after the sum": lambda config: config.norm_placement == "post",
    "before both sublayers, side by side": lambda config: config.norm_placement == "parallel",
    "on both sides of a sublayer": lambda config: config.norm_placement == "both",
    "after the embedding": lambda config: config.embedding_norm,
    "of the embedding": lambda config: config.embedding_scale != 1,
    "of what a sublayer adds": lambda config: config.residual_scale != 1,
    "of the states before the head": lambda config: config.logit_scale != 1,
    "capped logits": lambda config: config.logit_softcap,
}  # fmt: skip


def configurations(kind, norm, positions):
    """Every activation with every K; the other choices take turns, so that each meets each of these."""
    for turn, (activation, kv_heads) in enumerate(itertools.product(ACTIVATIONS, KV_HEADS)):
        placements = PLACEMENTS[kind]
        slides = kind == "decoder" and turn % 4 in (0, 1)
        by_layer = slides and turn % 6 == 0
        latent = LATENT if turn % 12 == 5 else None  # there K is H
        yield small_config(
            kind,
            latent=latent,
            d_head=10 if latent is None else None,
            norm=norm,
            positions=positions,
            activation=activation,
            n_kv_heads=kv_heads,
            norm_placement=placements[turn % len(placements)],
            n_layers=2 if turn % 6 == 0 else 1,
            tied_head=turn % 4 < 2,
            qkv_bias=turn % 3 != 0,
            output_bias=turn % 5 != 0,
            ffn_bias=turn % 3 != 1,
            norm_bias=turn % 4 != 3,
            embedding_norm=turn % 6 == 5,
            n_token_types=0 if kind == "encoder-decoder" else 3 * (turn % 2),
            norm_eps=(1e-5, 1e-3)[turn % 2],
            embedding_scale=(1.0, 3.0)[turn % 2],
            logit_scale=(1.0, 1.5)[turn // 2 % 2],
            attention_scale=(None, 0.4)[turn // 3 % 2],
            rope_theta=(10_000.0, 50.0)[turn % 2],
            rope_scaling=SCALINGS[turn % len(SCALINGS)] if positions == "rotary" else None,
            d_rotary=6 if positions == "rotary" and turn % 4 == 2 else None,
            position_offset=3 * (turn % 2) if positions == "learned" else 0,
            relative_buckets=12,
            relative_max_distance=17,
            sliding_window=4 if slides else None,
            sliding_layers=(1,) if by_layer else None,
            local_rope_theta=20.0 if by_layer and positions == "rotary" else None,
            qk_norm=turn % 4 == 2,
            attention_sinks=turn % 5 == 3,
            attention_softcap=(None, 1.5)[turn % 5 == 1],
            logit_softcap=(None, 2.0)[turn % 3 == 2],
            residual_scale=(1.0, 0.7)[turn % 7 == 2],
            experts=EXPERTS[turn % 2] if turn % 4 == 2 or turn % 8 == 5 else None,
        )


SIZES = {"d_model", "n_heads", "d_head", "d_ff", "vocab_size", "max_positions"}  # distinct, so that none is another
ONE_VALUE = {"relative_buckets", "relative_max_distance"}  # other values: tests/test_positions.py
NO_EFFECT = {"dropout", "pooler", "pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"}  # here
ANOTHER_KIND = {"d_input", "labels"}  # of input, and of output: tests/test_labels.py


def test_every_field_is_tried():
    """A new field takes its turn in `configurations`."""
    configs = [config for case in CASES for config in configurations(*case)]
    fields = {field.name for field in dataclasses.fields(configs[0])}
    varied = {field for field in fields if len({getattr(config, field) for config in configs}) > 1}
    assert fields == varied | SIZES | ONE_VALUE | NO_EFFECT | ANOTHER_KIND


def outputs(name, model, inputs, masks):
    """The output of a model; of PyTorch's also with the formula instead of the fused kernel, which is the default."""
    yield numpy(model(*inputs, **masks))
    if name == "torch":
        for layer in model.modules():
            if isinstance(layer, load(name).MultiHeadAttention):
                layer.attention = load(name).scaled_dot_product_attention
        yield numpy(model(*inputs, **masks))


@pytest.mark.parametrize(("kind", "norm", "positions"), CASES, ids=["-".join(case) for case in CASES])
def test_frameworks_equal_the_reference(kind, norm, positions, table):
    for config in configurations(kind, norm, positions):
        weights = random_weights(config)
        inputs, masks = batch(config)
        if config.n_token_types:
            masks["token_types"] = inputs[0] % config.n_token_types
        expected = ref.forward(config, weights, *inputs, **masks)
        assert np.isfinite(expected).all()
        assert expected.std() > 0.05  # a constant would agree with anything
        for name in FRAMEWORKS:
            difference = 0.0
            for output in outputs(name, load(name).from_weights(config, weights), inputs, masks):
                assert output.dtype == np.float32
                assert output.shape == expected.shape
                difference = max(difference, float(np.abs(output - expected).max()))
            table.append(
                dict(kind=kind, norm=norm, positions=positions, activation=config.activation,
                     kv_heads=config.n_kv_heads, framework=name, largest_difference=difference,
                     parts=[part for part, has in PARTS.items() if has(config)])
            )  # fmt: skip
            assert difference <= LIMIT, (config, name)


def test_the_table_in_the_book_is_of_these_cases():
    rows = json.loads(TABLE.read_text())
    expected = set(itertools.product(KINDS, NORMS, POSITIONS, ACTIVATIONS, KV_HEADS, FRAMEWORKS))
    keys = ("kind", "norm", "positions", "activation", "kv_heads", "framework")
    assert {tuple(row[key] for key in keys) for row in rows} == expected
    assert len(rows) == len(expected)
    assert max(row["largest_difference"] for row in rows) <= LIMIT
    parts = {
        (*case, config.activation, config.n_kv_heads): [part for part, has in PARTS.items() if has(config)]
        for case in CASES for config in configurations(*case)
    }  # fmt: skip
    assert all(row["parts"] == parts[tuple(row[key] for key in keys[:-1])] for row in rows)
    for part in PARTS:
        assert sum(part in some for some in parts.values()) >= 4, part
