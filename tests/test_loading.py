"""A model from a folder by names: the framework, the type of the weights, the fast version where there is one."""

import subprocess
import sys

import numpy as np
import pytest

import tfguide
from tests.support import FRAMEWORKS, load
from tfguide.compress import Quantization
from tfguide.loading import DTYPES, load_framework, load_model, try_accelerate
from tfguide.native import NativeUnavailable

CONFIG = tfguide.ModelConfig(
    kind="decoder", d_model=32, n_layers=2, n_heads=4, n_kv_heads=2, d_ff=64, vocab_size=37, max_positions=53,
    norm="rms", positions="rotary", activation="swiglu", qkv_bias=False, output_bias=False, ffn_bias=False,
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    tg = load(FRAMEWORKS[0])
    folder = tmp_path_factory.mktemp("loading") / "model"
    tg.save_checkpoint(tg.from_weights(CONFIG, tfguide.init_weights(CONFIG)), folder)
    return folder


def logits(tg, model):
    return np.asarray(tg.prefill(model, [[3, 1, 2]], tg.new_cache(model, 1, 3)), np.float32)


@pytest.mark.parametrize("dtype", [None, *DTYPES])
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_it_is_what_load_checkpoint_gives(folder, name, dtype):
    tg = load_framework(name)
    assert tg is load(name)
    bits = {"int8": 8, "int4": 4}.get(dtype)
    how = {"quantization": Quantization(bits, activation_bits=8)} if bits else {"dtype": dtype or "float32"}
    got, want = load_model(tg, folder, dtype), tg.load_checkpoint(folder, **how)
    assert got.quantization == want.quantization
    assert str(got.decoder.layers[0].self_attention_norm.weight.dtype) == str(
        want.decoder.layers[0].self_attention_norm.weight.dtype
    )


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_quantised_folder_stays_as_it_is(folder, name, tmp_path):
    tg = load(name)
    tg.save_checkpoint(load_model(tg, folder, "int8"), tmp_path / "q")
    assert load_model(tg, tmp_path / "q").quantization == Quantization(8, activation_bits=8)
    with pytest.raises(ValueError, match="is quantised already"):
        load_model(tg, tmp_path / "q", "int4")


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_decoder_is_accelerated_and_others_stay(folder, name, monkeypatch):
    tg = load(name)
    model = load_model(tg, folder)
    assert isinstance(try_accelerate(tg, model), tg.FastDecoder)
    encoder = CONFIG.replace(kind="encoder")
    other = tg.from_weights(encoder, tfguide.init_weights(encoder))
    assert try_accelerate(tg, other) is other

    def refuse(model):
        raise NativeUnavailable("no C++ compiler: looked for g++")

    monkeypatch.setattr(tg, "accelerate", refuse)
    with pytest.warns(UserWarning, match="going on without the C.. kernels: no C.. compiler"):
        assert try_accelerate(tg, model) is model


def test_unknown_names(folder):
    with pytest.raises(ValueError, match="framework must be one of 'torch', 'tensorflow', got 'jax'"):
        load_framework("jax")
    with pytest.raises(ValueError, match=r"dtype must be one of 'float32'.*got 'int2'"):
        load_model(load(FRAMEWORKS[0]), folder, "int2")


def test_the_module_imports_no_framework():
    code = "import sys, tfguide.loading; print([n for n in ('torch', 'tensorflow', 'keras') if n in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"
