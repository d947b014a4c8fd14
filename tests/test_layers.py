"""Norms, activations and blocks against those of the frameworks; presets and the weight dictionary."""

import math
from importlib import import_module

import numpy as np
import pytest

import tfguide
from tests.support import FRAMEWORKS, load, numpy, random_weights, small_config, tensor

IMPLEMENTATIONS = ("reference", *FRAMEWORKS)
# Published parameter counts: Radford et al. 2019, Devlin et al. 2018 (with pooler), and the models' own files.
PARAMETERS = {
    "gpt2": 124_439_808,
    "gpt2-xl": 1_557_611_200,
    "bert-base": 109_482_240,
    "roberta-base": 124_645_632,
    "roberta-large": 355_359_744,
    "distilbert-base": 66_362_880,
    "minilm-l6": 22_713_216,
    "t5-small": 60_506_624,
    "t5-11b": 11_307_321_344,
    "llama-2-7b": 6_738_415_616,
    "llama-2-13b": 13_015_864_320,
    "llama-2-70b": 68_976_648_192,
    "llama-3-8b": 8_030_261_248,
    "llama-3-70b": 70_553_706_496,
    "mistral-7b": 7_241_732_096,
    "phi-3-mini-4k": 3_821_079_552,
    "qwen2.5-0.5b": 494_032_768,
    "qwen2.5-7b": 7_615_616_512,
    "qwen3-0.6b": 596_049_920,
    "qwen3-8b": 8_190_735_360,
    "gemma-3-270m": 268_098_176,
    "gemma-3-1b": 999_885_952,
    "gemma-3-4b": 4_300_079_472 - 416_866_032 - 1152 * 2561,  # without what reads images, and its norm and matrix
    "gemma-3-12b": 12_187_325_040 - 416_866_032 - 1152 * 3841,
    "gemma-3-27b": 27_432_406_640 - 416_866_032 - 1152 * 5377,
}


@pytest.mark.parametrize(("name", "count"), PARAMETERS.items())
def test_presets_have_the_published_number_of_parameters(name, count):
    shapes = tfguide.weight_shapes(tfguide.ModelConfig.from_preset(name))
    assert sum(math.prod(shape) for shape in shapes.values()) == count


@pytest.mark.parametrize("name", tfguide.PRESETS)
def test_every_preset_is_a_configuration_and_survives_a_round_trip(name):
    config = tfguide.ModelConfig.from_preset(name)
    assert tfguide.ModelConfig.from_dict(config.to_dict()) == config
    smaller = config.replace(n_layers=3, vocab_size=210_000)
    assert smaller.n_layers == 3
    assert smaller.n_kv_heads == config.n_kv_heads


def test_a_configuration_with_other_fields_keeps_the_rest():
    config = small_config(d_model=22, n_heads=3, d_head=7)  # 22 // 3, which is no derived size
    assert config.replace(n_layers=5).d_head == 7
    assert small_config(d_model=21, n_heads=3, d_head=7).replace(n_heads=7).d_head == 3
    config = small_config(n_layers=7, sliding_window=4, sliding_layers=(0, 1, 3, 5))
    assert config.replace(n_layers=4).sliding_layers == (0, 1, 3)
    assert config.replace(n_layers=2).sliding_layers is None and config.replace(n_layers=2).n_sliding_layers == 2
    assert config.replace(n_layers=9).sliding_layers == (0, 1, 3, 5)
    with pytest.raises(TypeError, match=r"sliding_layers must be a tuple of layers, got \(\)"):
        config.replace(sliding_layers=(4,)).replace(n_layers=3)


def test_palm_has_the_published_sizes():
    for name, billions in (("palm-8b", 8.63), ("palm-62b", 62.50), ("palm-540b", 540.35)):
        config = tfguide.ModelConfig.from_preset(name)
        D, F, L, V = config.d_model, config.d_ff, config.n_layers, config.vocab_size
        heads = config.n_heads * config.d_head
        matrices = L * (3 * D * F + 2 * D * heads + 2 * D * config.d_head) + V * D  # Pope et al. 2022, without norms
        shapes = tfguide.weight_shapes(config)
        assert sum(math.prod(shape) for shape in shapes.values() if len(shape) == 2) == matrices
        assert round(matrices / 1e9, 2) == billions


def test_initial_weights_are_those_of_the_seed():
    config = small_config("encoder-decoder", positions="relative", norm="rms")
    weights = tfguide.init_weights(config, 3)
    tfguide.check_weights(config, weights)
    again = tfguide.init_weights(config, 3)
    other = tfguide.init_weights(config, 4)
    assert all((weights[name] == again[name]).all() for name in weights)
    assert all(array.dtype == np.float32 for array in weights.values())
    matrices = [name for name, array in weights.items() if array.ndim == 2]
    assert all((weights[name] != other[name]).any() for name in matrices)
    assert len({weights[name].flat[0] for name in matrices}) == len(matrices)  # each tensor has a stream of its own
    deeper = tfguide.init_weights(config.replace(n_layers=3), 3)
    name = "decoder.layers.0.feed_forward.up.weight"
    assert (deeper[name] == weights[name]).all()


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
def test_norms_are_those_of_pytorch_and_keras(name):
    import keras
    import torch

    stream = np.random.default_rng(0)
    x, weight, bias = stream.normal(2, 3, (3, 5, 7)), stream.normal(size=7), stream.normal(size=7)
    ours = numpy(load(name).layer_norm(*(tensor(name, a) for a in (x, weight, bias)), 1e-3))
    t = [tensor("torch", a) for a in (x, weight, bias)]
    np.testing.assert_allclose(ours, numpy(torch.nn.functional.layer_norm(t[0], (7,), t[1], t[2], 1e-3)), atol=2e-6)
    theirs = keras.layers.LayerNormalization(epsilon=1e-3)
    theirs.build(x.shape)
    theirs.set_weights([weight, bias])
    np.testing.assert_allclose(ours, numpy(theirs(tensor("tensorflow", x))), atol=2e-6)

    ours = numpy(load(name).rms_norm(tensor(name, x), tensor(name, weight), 1e-3))
    np.testing.assert_allclose(ours, numpy(torch.nn.functional.rms_norm(t[0], (7,), t[1], 1e-3)), atol=2e-6)
    theirs = keras.layers.RMSNormalization(epsilon=1e-3)
    theirs.build(x.shape)
    theirs.set_weights([weight])
    np.testing.assert_allclose(ours, numpy(theirs(tensor("tensorflow", x))), atol=2e-6)


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
def test_activations_are_those_of_pytorch(name):
    from torch.nn import functional as F

    up, gate = np.linspace(-6, 6, 101), np.linspace(5, -7, 101)
    t_up, t_gate = tensor("torch", up), tensor("torch", gate)
    expected = {
        "relu": F.relu(t_up),
        "gelu": F.gelu(t_up),
        "gelu_tanh": F.gelu(t_up, approximate="tanh"),
        "swiglu": F.silu(t_gate) * t_up,
        "geglu": F.gelu(t_gate) * t_up,
        "geglu_tanh": F.gelu(t_gate, approximate="tanh") * t_up,
    }
    assert set(expected) == set(tfguide.config.ACTIVATIONS)
    for activation, value in expected.items():
        gates = [tensor(name, gate)] if activation in tfguide.config.GATED_ACTIVATIONS else []
        output = numpy(load(name).activate(activation, tensor(name, up), *gates))
        np.testing.assert_allclose(output, numpy(value), atol=3e-6, err_msg=activation)
    assert np.abs(numpy(expected["gelu"] - expected["gelu_tanh"])).max() > 1e-4  # the two are not one


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_weights_go_in_and_come_out(name):
    for kind in ("encoder", "decoder", "encoder-decoder"):
        config = small_config(kind, positions="relative", activation="geglu", tied_head=False, n_kv_heads=2,
                              pooler=kind == "encoder", embedding_norm=True)  # fmt: skip
        weights = random_weights(config)
        model = load(name).from_weights(config, weights)
        assert model.config == config
        back = load(name).to_weights(model)
        assert back.keys() == weights.keys()
        for key, array in weights.items():
            np.testing.assert_array_equal(back[key], array)
            back[key] += 1  # a copy: changing it changes neither the model nor what it was made from
        again = load(name).to_weights(model)
        assert all((again[key] == weights[key]).all() for key in weights)
        count = sum(p.numel() for p in model.parameters()) if name == "torch" else model.count_params()
        assert count == sum(array.size for array in weights.values())


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_attention_maps_have_names_and_rows_that_sum_to_one(name):
    config = small_config("encoder-decoder", positions="relative", n_encoder_layers=3)
    model = load(name).from_weights(config, random_weights(config))
    maps = load(name).attention_maps(model, [[1, 2, 3, 4]], [[0, 5, 6]])
    assert list(maps) == [
        *(f"encoder.layers.{i}.self_attention" for i in range(3)),
        *(f"decoder.layers.{i}.{part}_attention" for i in range(2) for part in ("self", "cross")),
    ]
    assert maps["decoder.layers.1.cross_attention"].shape == (1, 6, 3, 4)
    for weights in maps.values():
        np.testing.assert_allclose(numpy(weights).sum(-1), 1, atol=1e-6)
    causal = numpy(maps["decoder.layers.0.self_attention"])
    assert (np.triu(causal[0, 0], 1) == 0).all()


@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize("shape", [(5,), (3, 5), (2, 3, 5), (2, 1, 3, 5), (0, 3, 5)], ids=str)
def test_tensorflow_multiplies_rows_of_any_shape_at_once(shape, transpose):
    """As one product of two matrices, eager and in a graph that is traced for any sizes."""
    tf = load("tensorflow").models.tf
    multiply_rows = import_module("tfguide.tensorflow.tensors").multiply_rows
    rng = np.random.default_rng(0)
    x, matrix = rng.standard_normal(shape).astype(np.float32), rng.standard_normal((5, 7)).astype(np.float32)
    given = tf.constant(matrix.T if transpose else matrix)
    graph = tf.function(
        lambda rows: multiply_rows(rows, given, transpose),
        input_signature=[tf.TensorSpec((*[None] * (len(shape) - 1), 5), tf.float32)],
    )
    for found in (multiply_rows(tf.constant(x), given, transpose), graph(x)):
        np.testing.assert_allclose(found, x @ matrix, atol=1e-5)
    products = [op.type for op in graph.get_concrete_function().graph.get_operations() if "MatMul" in op.type]
    assert products == ["MatMul"]
