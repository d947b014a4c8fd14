"""Quantised weights: the packing, the derived bound, whole models, and folders of them."""

import json

import numpy as np
import pytest

from tests.support import FRAMEWORKS, load, numpy, random_weights, small_config, tensor
from tfguide import compress
from tfguide.checkpoints import read_checkpoint
from tfguide.compress import Quantization, packing

KINDS = [(8, None), (8, 8), (4, None), (4, 8)]
WITH_ASYMMETRIC = [(*kind, False) for kind in KINDS] + [(4, None, True), (4, 8, True)]
TOKENS = np.random.default_rng(0).integers(0, 37, (2, 9))


@pytest.mark.parametrize("shape", [(5, 3), (16, 8), (37, 24), (48, 64)])
def test_what_is_packed_is_unpacked(shape):
    stream = np.random.default_rng(0)
    q = stream.integers(-127, 128, shape, np.int8)
    packed = compress.pack_int8(q)
    assert packed.shape == (-(-shape[0] // 16), -(-shape[1] // 4), 16, 4)
    np.testing.assert_array_equal(compress.unpack_int8(packed, *shape), q)
    if shape[1] % 8:
        with pytest.raises(ValueError, match="packed by 8 inputs, got 3"):
            compress.pack_int4(q)
        return
    q = stream.integers(-8, 8, shape, np.int8)
    packed = compress.pack_int4(q)
    assert packed.nbytes == -(-shape[0] // 16) * 16 * shape[1] // 2  # two to a byte
    np.testing.assert_array_equal(compress.unpack_int4(packed, *shape), q)
    scale = stream.normal(size=(shape[0], 3)).astype(np.float16)
    np.testing.assert_array_equal(packing.unpack_scales(packing.pack_scales(scale), shape[0]), scale)


@pytest.mark.parametrize("offset", [0, 1, 16, 63])
@pytest.mark.parametrize("dtype", [np.int8, np.float16, np.float32])
def test_an_aligned_array_begins_at_a_cache_line(dtype, offset):
    memory = np.arange(64 + 60 * 4 + 64, dtype=np.uint8)
    start = -memory.ctypes.data % packing.CACHE_LINE + offset // np.dtype(dtype).itemsize * np.dtype(dtype).itemsize
    array = memory[start : start + 60 * np.dtype(dtype).itemsize].view(dtype).reshape(3, 4, 5)
    for given in (array, array.T):
        found = packing.aligned(given)
        assert found.ctypes.data % packing.CACHE_LINE == 0 and found.flags.c_contiguous and found.dtype == dtype
        np.testing.assert_array_equal(found.view(np.uint8), np.ascontiguousarray(given).view(np.uint8))
        begins = given.ctypes.data % packing.CACHE_LINE == 0
        assert np.shares_memory(found, given) == (begins and given.flags.c_contiguous)


@pytest.mark.parametrize(("weight_bits", "activation_bits"), KINDS)
@pytest.mark.parametrize("outlier", [1.0, 1000.0, 0.0])
def test_no_output_is_further_off_than_the_bound(weight_bits, activation_bits, outlier):
    stream = np.random.default_rng(0)
    weight = stream.normal(size=(72, 37)).astype(np.float32)
    weight[:, 5] = 0
    x = stream.normal(size=(11, 72)).astype(np.float32)
    x[:, 3] *= outlier
    weight[7] *= outlier
    quantization = Quantization(weight_bits, activation_bits, 24, asymmetric=False)
    q, scale = compress.quantize_int8(weight) if weight_bits == 8 else compress.quantize_int4(weight, 24)
    bound = compress.error_bound(x, weight, quantization, q, scale)
    rounded = x
    if activation_bits:
        integers, x_scale = compress.quantize_activations(x)
        rounded = integers * np.repeat(x_scale, 32, axis=1)[:, :72]
    approximate = rounded.astype(np.float64) @ compress.dequantize(*quantization.pack("w", weight), 37, 72)
    error = np.abs(x.astype(np.float64) @ weight - approximate)
    assert (error <= bound * (1 + 1e-6) + 1e-9).all()
    assert error.max() > bound.max() / 500  # a bound that nothing comes near says nothing
    assert error[:, 5].max() == 0


def test_an_outlier_spoils_its_own_block_only():
    x = np.full(96, 0.01, np.float32)
    x[40] = 100.0
    q, scale = compress.quantize_activations(x)
    restored = q * np.repeat(scale, 32)
    assert np.abs(restored - x)[:32].max() < 1e-7 and np.abs(restored - x)[64:].max() < 1e-7
    assert np.abs(restored - x)[32:64].max() > 0.005


@pytest.mark.parametrize(("weight_bits", "activation_bits", "asymmetric"), WITH_ASYMMETRIC)
@pytest.mark.parametrize("kind", ["encoder", "decoder", "encoder-decoder"])
def test_the_frameworks_compute_the_same_quantised_model(kind, weight_bits, activation_bits, asymmetric):
    config = small_config(kind, d_model=24, d_ff=40, d_head=8, pooler=kind == "encoder")
    weights = random_weights(config)
    inputs = (TOKENS, TOKENS[:, :5]) if kind == "encoder-decoder" else (TOKENS,)
    outputs = []
    for name in FRAMEWORKS:
        full = load(name).from_weights(config, weights)
        model = load(name).quantize(full, weight_bits, activation_bits, 8, asymmetric)
        assert model.quantization == Quantization(weight_bits, activation_bits, 8, asymmetric)
        assert full.quantization is None
        outputs.append(numpy(model(*(tensor(name, x) for x in inputs))))
        exact = numpy(full(*(tensor(name, x) for x in inputs)))
        error = np.abs(outputs[-1] - exact).max() / np.abs(exact).max()
        assert 0 < error < (0.05 if weight_bits == 8 else 0.4)
    np.testing.assert_allclose(*outputs, atol=0.02 * np.abs(outputs[0]).max() if activation_bits else 1e-5)


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_its_weights_are_those_that_the_integers_stand_for(name):
    config = small_config(d_model=24, d_ff=40, d_head=8)
    weights = random_weights(config)
    model = load(name).quantize(load(name).from_weights(config, weights), 8)
    stood_for = load(name).to_weights(model)
    for key, array in weights.items():
        largest = np.abs(array).max(axis=0)
        assert (np.abs(stood_for[key] - array) <= largest / 254 * 1.001).all(), key
    again = load(name).from_weights(config, stood_for)
    tied = numpy(again(tensor(name, TOKENS)))  # the head of the quantised model is quantised, this one's is not
    np.testing.assert_allclose(numpy(model(tensor(name, TOKENS))), tied, atol=0.02 * np.abs(tied).max())


@pytest.mark.parametrize(("weight_bits", "activation_bits", "asymmetric"), WITH_ASYMMETRIC)
@pytest.mark.parametrize("kind", ["encoder", "decoder", "encoder-decoder"])
def test_a_folder_gives_the_model_back(kind, weight_bits, activation_bits, asymmetric, tmp_path):
    config = small_config(kind, d_model=24, d_ff=40, d_head=8, eos_token_id=(3, 5))
    inputs = (TOKENS, TOKENS[:, :5]) if kind == "encoder-decoder" else (TOKENS,)
    for name, other in (FRAMEWORKS, FRAMEWORKS[::-1]):
        model = load(name).quantize(
            load(name).from_weights(config, random_weights(config)), weight_bits, activation_bits, 8, asymmetric
        )
        load(name).save_checkpoint(model, tmp_path / name)
        for reader in (name, other):
            back = load(reader).load_checkpoint(tmp_path / name)
            assert (back.config, back.quantization) == (config, model.quantization)
            got = numpy(back(*(tensor(reader, x) for x in inputs)))
            want = numpy(model(*(tensor(name, x) for x in inputs)))
            np.testing.assert_allclose(got, want, atol=0 if reader == name else 0.02 * np.abs(want).max())
    with pytest.raises(FileExistsError):
        load(name).save_checkpoint(model, tmp_path / name)
    load(name).save_checkpoint(model, tmp_path / name, overwrite=True)
    with pytest.raises(ValueError, match="tfguide-quantized"):
        read_checkpoint(tmp_path / name)


@pytest.mark.parametrize("tied_head", [True, False])
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_quantising_while_reading_gives_the_same_model(name, tied_head, tmp_path):
    module = load(name)
    config = small_config(
        d_model=24, d_ff=40, d_head=8, norm="rms", positions="rotary", activation="swiglu", tied_head=tied_head,
        output_bias=False, ffn_bias=False, qkv_bias=False,
    )  # fmt: skip
    full = module.from_weights(config, random_weights(config))
    module.save_checkpoint(full, tmp_path / "full")
    how = Quantization(4, 8, 8)
    exact = module.quantize(full, 4, 8, 8)
    same = module.load_checkpoint(tmp_path / "full", quantization=how)
    np.testing.assert_array_equal(numpy(same(tensor(name, TOKENS))), numpy(exact(tensor(name, TOKENS))))
    assert same.quantization == how
    module.save_checkpoint(same, tmp_path / "packed")
    with pytest.raises(ValueError, match="packed is quantised already"):
        module.load_checkpoint(tmp_path / "packed", quantization=how)
    with pytest.raises(ValueError, match="divide"):
        module.load_checkpoint(tmp_path / "full", quantization=Quantization(4, 8, 16))
    with pytest.raises(TypeError, match="quantization must be a Quantization or None, got int"):
        module.load_checkpoint(tmp_path / "full", quantization=8)


def test_a_folder_without_the_key_of_asymmetric_weights_is_symmetric(tmp_path):
    module, config = load("torch"), small_config(d_model=24, d_ff=40, d_head=8)
    module.save_checkpoint(
        module.quantize(module.from_weights(config, random_weights(config)), 4, 8, 8, False), tmp_path / "m"
    )
    keys = json.loads((tmp_path / "m" / "config.json").read_text())
    assert keys["quantization"].pop("asymmetric") is False
    (tmp_path / "m" / "config.json").write_text(json.dumps(keys))
    assert module.load_checkpoint(tmp_path / "m").quantization == Quantization(4, 8, 8, False)


def test_a_broken_folder_is_refused(tmp_path):
    from safetensors.numpy import load_file, save_file

    module = load("torch")
    config = small_config(d_model=24, d_ff=40, d_head=8)
    module.save_checkpoint(module.quantize(module.from_weights(config, random_weights(config))), tmp_path / "m")
    file = tmp_path / "m" / "model.safetensors"
    arrays = load_file(file)
    name = "decoder.layers.1.feed_forward.up.packed"
    for change, message in [
        ({name: None}, f"no tensor '{name}'"),
        ({"other": arrays[name]}, "unexpected tensor 'other'"),
        ({name: arrays[name][:1]}, rf"'{name}' must be int8 \(3, 6, 16, 4\), got int8 \(1, 6, 16, 4\)"),
        ({name: arrays[name].view(np.uint8)}, "must be int8"),
    ]:
        save_file({k: v for k, v in {**arrays, **change}.items() if v is not None}, file)
        with pytest.raises(ValueError, match=message):
            module.load_checkpoint(tmp_path / "m")
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        module.load_checkpoint(tmp_path / "m")
    keys = json.loads((tmp_path / "m" / "config.json").read_text())
    keys["quantization"]["weight_bits"] = 3
    (tmp_path / "m" / "config.json").write_text(json.dumps(keys))
    with pytest.raises(ValueError, match="weight_bits must be 8 or 4, got 3"):
        module.load_checkpoint(tmp_path / "m")


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_what_cannot_be_quantised_is_refused(name):
    module = load(name)
    config = small_config(d_model=24, d_ff=40, d_head=8)
    weights = random_weights(config)
    model = module.from_weights(config, weights)
    for arguments, message in [
        (dict(weight_bits=3), "weight_bits must be 8 or 4, got 3"),
        (dict(weight_bits=True), "weight_bits must be 8 or 4"),
        (dict(weight_bits=8.0), r"weight_bits must be 8 or 4, got 8\.0"),
        (dict(activation_bits=4), "activation_bits must be 8 or None, got 4"),
        (dict(activation_bits=True), "activation_bits must be 8 or None, got True"),
        (dict(activation_bits=np.float64(8)), r"activation_bits must be 8 or None, got 8\.0"),
        (dict(weight_bits=4, group_size=12), "group_size must be a positive multiple of 8, got 12"),
        (dict(weight_bits=4, group_size=True), "group_size must be a positive multiple of 8, got True"),
        (dict(weight_bits=4, group_size=8.0), r"group_size must be a positive multiple of 8, got 8\.0"),
        (dict(weight_bits=4, group_size=16), "group_size=16 does not divide"),
    ]:
        with pytest.raises(ValueError, match=message):
            module.quantize(model, **arguments)
    with pytest.raises(ValueError, match="quantised already"):
        module.quantize(module.quantize(model))
    for value, message in [(np.nan, "NaN or infinity"), (np.inf, "NaN or infinity"), (1e7, "4-bit scales end")]:
        weights["decoder.layers.1.feed_forward.up.weight"][3, 2] = value
        with pytest.raises(ValueError, match=f"'decoder.layers.1.feed_forward.up.weight'.*{message}"):
            module.quantize(module.from_weights(config, weights), 4, group_size=8)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_types_of_weights(name, dtype):
    config = small_config(d_model=24, d_ff=40, d_head=8, positions="rotary")
    weights = random_weights(config)
    model = load(name).from_weights(config, weights, dtype)
    assert dtype in str(
        model.embedding.token.weight.dtype if name == "torch" else model.embedding.token.embeddings.dtype
    )
    assert len(load(name).generate(model, [[1, 2], [3]], 4, [])[1]) == 4
    quantized = load(name).quantize(model)
    assert len(load(name).generate(quantized, [[1, 2], [3]], 4, [])[1]) == 4
    with pytest.raises(ValueError, match="dtype must be one of 'float32', 'bfloat16', 'float16', got 'int8'"):
        load(name).from_weights(config, weights, "int8")


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.int64])
def test_numpys_integers_are_integers(dtype):
    assert Quantization(dtype(4), dtype(8), dtype(24)) == Quantization(4, 8, 24)
    weight = np.random.default_rng(0).normal(size=(264, 3))  # more rows than an int8 can count
    for ours, theirs in zip(compress.quantize_int4(weight, dtype(24)), compress.quantize_int4(weight, 24), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(TypeError, match="group_size must be an integer, got True"):
        compress.quantize_int4(weight, True)
