"""What a process reads of a checkpoint: its pieces, bit for bit, and nothing else."""

import tracemalloc

import numpy as np
import pytest

import tfguide
from tests.support import random_weights, refuses
from tfguide.checkpoints import Blocks, read_checkpoint, read_gguf, write_checkpoint, write_gguf, write_quantized
from tfguide.checkpoints.fields import Fields
from tfguide.checkpoints.reading import FAMILIES
from tfguide.compress import Quantization, dequantize
from tfguide.compress.cutting import cut_packed
from tfguide.compress.quantized import pack_weights
from tfguide.sharding.pieces import Share, read_share
from tfguide.weights import weight_table

hf = pytest.importorskip("tests.checkpoints.hf")
made = pytest.importorskip("tests.checkpoints.gguf.made")

CASES = (
    "bert",
    "distilbert",
    "gpt2",
    "llama-grouped",
    "gemma3_text",
    "phi3",
    "qwen3_moe",
    "deepseek_v3",
    "gpt_oss",
    "t5-1.0",
)
QUANTIZATIONS = (
    Quantization(8), Quantization(4), Quantization(4, asymmetric=False),
    Quantization(4, activation_bits=8, group_size=8),
)  # fmt: skip


def pieces(config, weights, n):
    """What each process should have."""
    return [Share(config, n, rank).cut(weights) for rank in range(n)]


def number_for(config):
    """A number of processes, above 1, that can divide a model."""
    for n in (2, 3, 5, 7):
        try:
            Share(config, n, 0).cut(random_weights(config))
        except ValueError:
            continue
        return n
    raise AssertionError(f"no number of processes divides {config}")


@pytest.mark.parametrize("name", CASES)
def test_a_folder(name, tmp_path):
    known = [case for case in hf.CASES if case.startswith(name.split("-")[0])]
    case = name if name in hf.CASES else known[0]
    config = FAMILIES[name.split("-")[0]].config_from_hf(Fields(hf.config(case).to_dict()), ())
    write_checkpoint(tmp_path / "model", config, random_weights(config), family=name.split("-")[0])
    config, weights = read_checkpoint(tmp_path / "model")
    n = number_for(config)
    for rank, expected in enumerate(pieces(config, weights, n)):
        share, quantization, arrays = read_share(tmp_path / "model", n, rank)
        assert share == Share(config, n, rank) and quantization is None
        assert arrays.keys() == expected.keys()
        for key, array in expected.items():
            np.testing.assert_array_equal(arrays[key], array, err_msg=key)
            assert not isinstance(arrays[key], np.memmap)


@pytest.mark.parametrize("block_type", ["F32", "Q8_0"])
@pytest.mark.parametrize("name", made.CONFIGS)
def test_a_gguf_file(name, block_type, tmp_path):
    config = made.config_of(name)
    write_gguf(tmp_path / "model.gguf", config, random_weights(config), block_type)
    config, weights = read_gguf(tmp_path / "model.gguf")
    table, n = weight_table(config), number_for(config)
    for rank in range(n):
        share, _, arrays = read_share(tmp_path / "model.gguf", n, rank)
        assert share.config == config
        for key, array in weights.items():
            own = arrays[key].dequantised() if isinstance(arrays[key], Blocks) else arrays[key]
            own = own.swapaxes(-2, -1) if table[key].is_matrix else own
            np.testing.assert_array_equal(own, array[share.piece(key).index], err_msg=key)
        _, _, numbers = read_share(tmp_path / "model.gguf", n, rank, dtype="float32")
        for key, array in pieces(config, weights, n)[rank].items():
            np.testing.assert_array_equal(numbers[key], array, err_msg=key)


@pytest.mark.parametrize("quantization", QUANTIZATIONS, ids=str)
def test_a_part_of_a_packed_weight_has_its_integers_and_scales(quantization):
    weight = np.random.default_rng(0).normal(size=(96, 50)).astype(np.float32)
    arrays = quantization.pack("weight", weight)
    whole = dequantize(*arrays[:2], 50, 96, *arrays[2:])
    for axis, start, stop in ((0, 32, 96), (0, 0, 64), (1, 7, 31), (1, 16, 50)):
        packed, scale, *unit = cut_packed(quantization, arrays, weight.shape, axis, start, stop)
        index = (slice(None),) * axis + (slice(start, stop),)
        d_in, d_out = whole[index].shape
        np.testing.assert_array_equal(dequantize(packed, scale, d_out, d_in, *unit), whole[index])
        shapes = [(array.shape, array.dtype.name) for array in (packed, scale, *unit)]
        assert shapes == list(quantization.shapes(d_in, d_out))


def test_inputs_that_share_a_scale_are_not_cut():
    quantization = Quantization(4)
    arrays = quantization.pack("weight", np.ones((96, 16), np.float32))
    with refuses(ValueError, "inputs 0 to 48 of 96 cannot be cut out: 32 of them share a scale in this quantisation"):
        cut_packed(quantization, arrays, (96, 16), 0, 0, 48)


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A model of 11 million weights, in a folder."""
    config = tfguide.ModelConfig(
        kind="decoder", d_model=256, n_layers=8, n_heads=8, d_ff=1024, vocab_size=8192, max_positions=64,
        positions="rotary", activation="swiglu", norm="rms", qkv_bias=False, output_bias=False, ffn_bias=False,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("large")
    weights = tfguide.init_weights(config)
    write_checkpoint(folder / "plain", config, weights)
    write_gguf(folder / "model.gguf", config, weights, "Q8_0")
    packed = pack_weights(
        config,
        Quantization(8),
        lambda name: weights["embedding.token.weight"].T if name == "head.weight" else weights[name],
    )
    write_quantized(folder / "packed", config, Quantization(8), packed)
    return folder, config, 4 * sum(array.size for array in weights.values())


@pytest.mark.parametrize(
    ("place", "options", "least"),
    [
        ("plain", {}, 0.25), ("plain", {"quantization": Quantization(8)}, 0.12), ("model.gguf", {}, 0.0),
        ("model.gguf", {"dtype": "float32"}, 0.25), ("packed", {}, 0.12),
    ],
)  # fmt: skip
def test_no_process_ever_holds_the_whole(place, options, least, large):
    """The peak of what is allocated while a quarter is read: the quarter, and at most the largest weight beside it."""
    folder, config, whole = large
    tracemalloc.start()
    arrays = dict(read_share(folder / place, 4, 1, **options)[2])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert arrays
    largest = 4 * config.vocab_size * config.d_model
    assert least * whole <= peak < 0.3 * whole + largest / 2, (peak / whole, largest / whole)
