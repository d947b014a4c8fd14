"""The table of weights: axes, roles and names, against shapes written down here, counts and the models themselves."""

import math
from dataclasses import replace

import pytest

from tests.support import load, small_config
from tfguide import (
    PRESETS,
    Experts,
    LabelHead,
    LatentAttention,
    ModelConfig,
    cost,
    init_weights,
    weight_shapes,
    weights,
)
from tfguide.compress import Quantization
from tfguide.compress.quantized import quantized_shapes
from tfguide.weights import axis_sizes, weight_table

LATENT = LatentAttention(kv_rank=17, d_nope=3, d_rope=2, d_value=19, query_rank=23)
EXPERTS = Experts(n_experts=5, per_token=2, d_expert=29, n_shared=2, n_dense_layers=1, router_bias=True)
CORRECTED = replace(EXPERTS, router_bias=False, router="sigmoid", correction_bias=True)
BUILT = [
    dict(kind="encoder", positions="learned", n_token_types=2, embedding_norm=True, norm_placement="post", pooler=True),
    dict(kind="decoder", positions="rotary", norm="rms", activation="swiglu", n_kv_heads=3, tied_head=False),
    dict(kind="decoder", norm_placement="parallel", n_kv_heads=1, qkv_bias=False, output_bias=False),
    dict(kind="decoder", norm_bias=False, ffn_bias=False, positions="alibi"),
    dict(kind="encoder-decoder", positions="relative", n_encoder_layers=3, activation="geglu", norm="rms"),
    dict(kind="encoder-decoder", positions="sinusoidal", tied_head=False),
    dict(kind="decoder", qk_norm=True, n_kv_heads=3, attention_sinks=True, norm_placement="both"),
    dict(kind="decoder", experts=CORRECTED, activation="swiglu", ffn_bias=False),
    dict(kind="encoder-decoder", experts=EXPERTS, n_encoder_layers=3),
    dict(kind="decoder", latent=LATENT, d_head=None, positions="rotary"),
    dict(kind="decoder", latent=replace(LATENT, query_rank=None), d_head=None, qkv_bias=False),
    dict(kind="encoder", d_input=47, vocab_size=None, decoder_start_token_id=None, labels=LabelHead(n_labels=53)),
]
COUNTED = [
    dict(kind="decoder", latent=LATENT, d_head=None, experts=EXPERTS, activation="swiglu"),
]


def small(fields):
    return small_config(**fields)


@pytest.mark.parametrize("config", [*map(small, BUILT + COUNTED), *map(ModelConfig.from_preset, PRESETS)])
def test_every_row_has_a_role_a_part_and_axes_that_make_its_shape(config):
    sizes = axis_sizes(config)
    roles = weights.TABLE_ROLES + weights.VECTOR_ROLES + weights.MATRIX_ROLES
    for name, weight in weight_table(config).items():
        assert weight.name == name
        assert weight.role in roles and weight.part in weights.PARTS
        assert weight.shape == tuple(math.prod(sizes[size] for size in axis) for axis in weight.axes)
        assert weight.size == math.prod(weight.shape) > 0
        assert weight.is_matrix == (weight.role in weights.MATRIX_ROLES)
        stacked = weight.axes[0] == ("experts",) and len(weight.axes) > 1
        expected = 1 if weight.role in weights.VECTOR_ROLES else 2
        assert len(weight.shape) == expected + stacked


def test_every_role_occurs():
    configs = map(small, BUILT + COUNTED)
    rows = [weight for config in configs for weight in weight_table(config).values()]
    assert {weight.role for weight in rows} == {
        *weights.TABLE_ROLES, *weights.VECTOR_ROLES, *weights.MATRIX_ROLES,
    }  # fmt: skip
    assert {weight.part for weight in rows} == set(weights.PARTS)


@pytest.mark.parametrize("fields", BUILT)
@pytest.mark.parametrize("framework", ["torch", "tensorflow", "reference"])
def test_the_table_has_the_names_and_shapes_of_a_built_model(framework, fields):
    config = small(fields)
    made = init_weights(config)
    shapes = {name: weight.shape for name, weight in weight_table(config).items()}
    assert list(made) == list(shapes) == list(weight_shapes(config))
    assert {name: array.shape for name, array in made.items()} == shapes
    model = load(framework).from_weights(config, made)
    if framework == "torch":
        built = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
        assert cost.parameters(config) == sum(parameter.numel() for parameter in model.parameters())
        linear = [name for name, weight in weight_table(config).items() if weight.is_matrix]
        turned = {name: (*shapes[name][:-2], *shapes[name][:-3:-1]) for name in linear}
        assert built == shapes | turned
    elif framework == "tensorflow":
        assert sorted(tuple(variable.shape) for variable in model.weights) == sorted(shapes.values())
        found = {name: array.shape for name, array in load(framework).to_weights(model).items()}
        assert found == shapes
    else:
        assert sum(math.prod(shape) for shape in shapes.values()) == cost.parameters(config)


# For each axis the field that gives its size, and another size: it is seen in the rows with that axis and in no other.
SIZES = [
    ("D", "d_model", 34), ("F", "d_ff", 41), ("H", "n_heads", 9), ("K", "n_kv_heads", 2), ("d", "d_head", 12),
    ("V", "vocab_size", 43), ("positions", "max_positions", 37), ("token_types", "n_token_types", 5),
    ("buckets", "relative_buckets", 8), ("experts", "experts.n_experts", 7), ("shared", "experts.n_shared", 3),
    ("d_expert", "experts.d_expert", 31), ("query_rank", "latent.query_rank", 29), ("kv_rank", "latent.kv_rank", 13),
    ("d_nope", "latent.d_nope", 5), ("d_rope", "latent.d_rope", 4), ("d_value", "latent.d_value", 7),
    ("d_input", "d_input", 59), ("n_labels", "labels.n_labels", 61),
]  # fmt: skip


OPTIONAL = ("n_token_types", "d_input")


@pytest.mark.parametrize(("size", "field", "value"), SIZES)
@pytest.mark.parametrize("fields", BUILT + COUNTED)
def test_a_size_changes_the_rows_with_its_axis_and_no_other(fields, size, field, value):
    base = ({} if "latent" in fields else dict(d_head=10, n_kv_heads=3)) | fields
    part, _, own = field.rpartition(".")
    there = getattr(base.get(part), own, None) if part else field not in OPTIONAL or base.get(field)
    if field == "vocab_size" and "d_input" in fields:
        there = None
    if "latent" in fields and field in ("n_kv_heads", "d_head"):  # which follow from others
        there = None
    change = {} if not there else {part: replace(base[part], **{own: value})} if part else {field: value}
    before, after = weight_table(small(base)), weight_table(small(base | change))
    assert before.keys() == after.keys()
    names = {name for name, weight in before.items() if any(size in axis for axis in _summands(weight.axes))}
    assert bool(names) <= bool(there)
    assert {name for name in before if before[name].shape != after[name].shape} == names


def _summands(axes):
    """Each named size of the axes, a sum as its two terms."""
    return [[term for size in axis for term in size.split("+")] for axis in axes]


def test_init_weights_takes_roles_from_the_table():
    config = small(dict(kind="decoder", positions="learned", tied_head=False, d_model=210, d_ff=330))
    made = init_weights(config)
    for name, weight in weight_table(config).items():
        if weight.role == "bias":
            assert not made[name].any()
        elif weight.role == "norm":
            assert (made[name] == 1).all()
        elif weight.role in weights.TABLE_ROLES:
            assert made[name].std() == pytest.approx(0.02, rel=0.1)
        else:
            into_stream = weight.axes[-1] == ("D",)
            expected = weight.shape[0] ** -0.5 / (math.sqrt(2 * config.n_layers) if into_stream else 1)
            assert made[name].std() == pytest.approx(expected, rel=0.1), name


@pytest.mark.parametrize("fields", BUILT)
def test_what_is_quantised_are_the_matrices(fields):
    config = small(fields)
    arrays = quantized_shapes(config, Quantization(8))
    packed = {name.removesuffix(".packed") + ".weight" for name in arrays if name.endswith(".packed")}
    tied = {"head.weight"} if config.kind != "encoder" and config.tied_head else set()
    whole = {name for name, weight in weight_table(config).items() if weight.role in ("router", "input")}
    assert packed == set(weights.matrix_names(config)) - whole | tied
    vectors = weights.vector_names(config)
    assert not packed & set(vectors)
    biases = {name for name, weight in weight_table(config).items() if weight.role == "bias"}
    left = set(weight_table(config)) - packed - set(vectors) - biases - whole
    assert {weight_table(config)[name].role for name in left} <= {"embedding", "relative_bias"}


@pytest.mark.parametrize("fields", COUNTED)
def test_the_rows_add_up_to_the_parameters(fields):
    config = small(fields)
    assert sum(weight.size for weight in weight_table(config).values()) == cost.parameters(config)
    assert weight_shapes(config) == {name: weight.shape for name, weight in weight_table(config).items()}


def test_the_rows_of_experts_by_hand():
    table = weight_table(small(COUNTED[0]))
    rows = {name: weight.shape for name, weight in table.items() if name.startswith("decoder.layers.1.")}
    own = "decoder.layers.1."
    assert rows == {
        f"{own}self_attention_norm.weight": (22,),
        f"{own}self_attention_norm.bias": (22,),
        f"{own}self_attention.query_down.weight": (22, 23),
        f"{own}self_attention.query_down.bias": (23,),
        f"{own}self_attention.query_norm.weight": (23,),
        f"{own}self_attention.query_up.weight": (23, 6 * 5),
        f"{own}self_attention.key_value_down.weight": (22, 19),
        f"{own}self_attention.key_value_down.bias": (19,),
        f"{own}self_attention.key_value_norm.weight": (17,),
        f"{own}self_attention.key_value_up.weight": (17, 6 * 22),
        f"{own}self_attention.output.weight": (6 * 19, 22),
        f"{own}self_attention.output.bias": (22,),
        f"{own}feed_forward_norm.weight": (22,),
        f"{own}feed_forward_norm.bias": (22,),
        f"{own}feed_forward.router.weight": (22, 5),
        f"{own}feed_forward.router.bias": (5,),
        f"{own}feed_forward.experts.gate.weight": (5, 22, 29),
        f"{own}feed_forward.experts.gate.bias": (5, 29),
        f"{own}feed_forward.experts.up.weight": (5, 22, 29),
        f"{own}feed_forward.experts.up.bias": (5, 29),
        f"{own}feed_forward.experts.down.weight": (5, 29, 22),
        f"{own}feed_forward.experts.down.bias": (5, 22),
        f"{own}feed_forward.shared.gate.weight": (22, 2 * 29),
        f"{own}feed_forward.shared.gate.bias": (2 * 29,),
        f"{own}feed_forward.shared.up.weight": (22, 2 * 29),
        f"{own}feed_forward.shared.up.bias": (2 * 29,),
        f"{own}feed_forward.shared.down.weight": (2 * 29, 22),
        f"{own}feed_forward.shared.down.bias": (22,),
    }
    routed = {name for name, weight in table.items() if weight.is_routed}
    assert routed == {name for name in table if ".experts." in name}
    assert table["decoder.layers.0.feed_forward.up.weight"].axes == (("D",), ("F",))


def test_a_table_cannot_be_written():
    table = weight_table(small(BUILT[0]))
    with pytest.raises(TypeError):
        table["head.weight"] = None
