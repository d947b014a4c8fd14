"""Exported graphs compute what the model computes, in the programs that they were exported for."""

import itertools
import subprocess
import sys

import numpy as np
import pytest

from tests.support import batch, load, numpy, random_weights, refuses, small_config
from tfguide.compress import Quantization
from tfguide.export import LiteRtGraph, OnnxGraph, ProgramGraph, export_litert, export_onnx, export_program

for name in ("torch", "tensorflow", "onnx", "onnxscript", "onnxruntime", "ai_edge_litert"):
    pytest.importorskip(name, reason="both frameworks and the extra `export` are needed")

LLAMA = dict(positions="rotary", norm="rms", activation="swiglu", n_kv_heads=2, qkv_bias=False, output_bias=False)
ENCODER = small_config("encoder", positions="learned")
TRANSLATOR = small_config("encoder-decoder", positions="relative", n_encoder_layers=1, norm="rms", attention_scale=1.0)
LENGTH = 13


def exported(target, config, folder, bits=None):
    """The model of a configuration and its running graph."""
    model = load("tensorflow" if target == "litert" else "torch").from_weights(config, random_weights(config))
    if target == "program":
        export_program(model, folder / "model.pt2")
        return model, ProgramGraph(folder / "model.pt2")
    if target == "onnx":
        export_onnx(model, folder / "model.onnx", bits)
        return model, OnnxGraph(folder / "model.onnx", n_threads=1)
    export_litert(model, folder / "model.tflite", LENGTH, bits)
    return model, LiteRtGraph(folder / "model.tflite", n_threads=1)


def close(found, expected):
    """Float32 in another order of additions: 1e-5 of the largest number."""
    return np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


CASES = {
    "program": LLAMA | dict(sliding_window=4),
    "onnx": dict(positions="sinusoidal", tied_head=False),
    "litert": LLAMA | dict(sliding_window=4),
}


@pytest.mark.parametrize("target", CASES)
def test_a_decoder_and_its_cache(target, tmp_path):
    """Any split of the text: a prompt, one token, several tokens after others, a text that begins with one token."""
    config = small_config(**CASES[target])
    model, graph = exported(target, config, tmp_path)
    rows = 1 if target == "litert" else 3
    tokens = np.random.default_rng(0).integers(0, config.vocab_size, (rows, LENGTH))
    expected = numpy(model(tokens))
    for cuts in ((0, 6, 7, 8, LENGTH), (0, 1, 2)):
        past = graph.new_past(rows)
        for start, end in itertools.pairwise(cuts):
            logits, past = graph.read(tokens[:, start:end], past, start)
            assert close(logits, expected[:, start:end])
    prompt = tokens[0, :4].tolist()
    guide = load("tensorflow" if target == "litert" else "torch")
    assert graph.generate(prompt, 5) == guide.generate(model, [prompt], 5, stop_tokens=())[0]


@pytest.mark.parametrize("target", ["litert", "onnx"])
def test_an_encoder_with_padding(target, tmp_path):
    model, graph = exported(target, ENCODER, tmp_path)
    (tokens,), masks = batch(ENCODER)
    hidden = graph(tokens=tokens, valid=masks["valid"])["hidden"]
    real = masks["valid"]
    assert close(hidden[real], numpy(model(tokens, **masks))[real])


@pytest.mark.parametrize("target", ["onnx", "litert"])
def test_an_encoder_decoder(target, tmp_path):
    model, graph = exported(target, TRANSLATOR, tmp_path)
    (source, target_tokens), masks = batch(TRANSLATOR)
    valid = masks["source_valid"]
    logits = graph(source=source, source_valid=valid, target=target_tokens)["logits"]
    assert close(logits, numpy(model(source, target_tokens, valid)))
    with refuses(ValueError, "only the graph of a decoder"):
        graph.new_past()


@pytest.mark.parametrize("target", ["onnx", "litert"])
def test_8_bits_are_the_nearest(target, tmp_path):
    """Every matrix of the file is one of the model, each number within half a step of its scale."""
    config = small_config(**LLAMA)
    model, graph = exported(target, config, tmp_path, bits=8)
    matrices = {name: array for name, array in model.to_weights().items() if array.ndim == 2}
    found = (onnx_matrices if target == "onnx" else litert_matrices)(tmp_path)
    named = {name_of(stored, scale, matrices) for stored, scale in found}
    assert None not in named
    assert len(named) == len(found) >= 4
    tokens = np.random.default_rng(0).integers(0, config.vocab_size, (1, LENGTH))
    logits, expected = graph.read(tokens, graph.new_past(), 0)[0], numpy(model(tokens))
    # Activations are integers too. Products that saturate would be off by a fifth, on processors without VNNI.
    assert 1e-4 < np.linalg.norm(logits - expected) / np.linalg.norm(expected) < 0.08


def onnx_matrices(folder):
    """The 8-bit matrices (in, out) of an ONNX file, less their zero points, and their scales (1, out)."""
    import onnx

    graph = onnx.load(folder / "model.onnx").graph
    arrays = {one.name: onnx.numpy_helper.to_array(one) for one in graph.initializer}
    stems = [name.removesuffix("_quantized") for name, one in arrays.items() if name.endswith("_quantized")]
    parts = [[arrays[stem + end] for end in ("_quantized", "_zero_point", "_scale")] for stem in stems]
    return [(stored - zero.astype(int), scale[None]) for stored, zero, scale in parts if stored.ndim == 2]


def litert_matrices(folder):
    """The 8-bit matrices (in, out) of a LiteRT file and their scales (1, out)."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(folder / "model.tflite"))
    interpreter.allocate_tensors()
    details = [one for one in interpreter.get_tensor_details() if one["dtype"] == np.int8 and len(one["shape"]) == 2]
    stored = [one for one in details if len(one["quantization_parameters"]["scales"])]
    return [
        (interpreter.get_tensor(one["index"]).T, one["quantization_parameters"]["scales"][None]) for one in stored
    ]  # fmt: skip


def name_of(stored, scale, matrices):
    """The matrix of the model that is nowhere farther than half a step from the stored one; None if there is none."""
    for name, matrix in matrices.items():
        for array in (matrix, matrix.T):
            if array.shape == stored.shape and (np.abs(array - stored * scale) <= 0.501 * scale).all():
                return name
    return None


def test_a_file_is_whole_or_not_there(tmp_path):
    """What fails leaves nothing behind, and what is there stays."""
    model = load("torch").from_weights(ENCODER, random_weights(ENCODER))
    (tmp_path / "model.onnx").write_text("of somebody")
    with refuses(FileExistsError, "overwrite=True"):
        export_onnx(model, tmp_path / "model.onnx")
    with pytest.raises(TypeError):
        export_onnx(load("tensorflow"), tmp_path / "model.onnx", overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    assert (tmp_path / "model.onnx").read_text() == "of somebody"


def test_what_is_refused_at_the_door(tmp_path):
    config = small_config(**LLAMA)
    weights = random_weights(config)
    torch_model, tensorflow_model = (load(name).from_weights(config, weights) for name in ("torch", "tensorflow"))
    file = tmp_path / "model.onnx"
    with refuses(TypeError, "of tfguide.torch, got tfguide.tensorflow"):
        export_onnx(tensorflow_model, file)
    with refuses(TypeError, "of tfguide.tensorflow, got tfguide.torch"):
        export_litert(torch_model, tmp_path / "model.tflite", LENGTH)
    with refuses(ValueError, "bits=8"):
        export_onnx(load("torch").quantize(torch_model, Quantization(8)), file)
    with refuses(ValueError, "expected a float32 model, got bfloat16"):
        export_onnx(load("torch").from_weights(config, weights, "bfloat16"), file)
    with refuses(ValueError, "bits must be 8"):
        export_onnx(torch_model, file, bits=4)
    with refuses(ValueError, "must end in .onnx"):
        export_onnx(torch_model, tmp_path / "model.pt2")
    with refuses(ValueError, "max_length must be at most 31"):
        export_litert(tensorflow_model, tmp_path / "model.tflite", 32)
    turning = small_config(positions="sinusoidal")
    with refuses(ValueError, "no float64, which the angles of sinusoidal positions need"):
        export_litert(load("tensorflow").from_weights(turning, random_weights(turning)), tmp_path / "a.tflite", 5)
    assert not list(tmp_path.iterdir())


def test_a_missing_package_is_named_with_its_extra(tmp_path, monkeypatch):
    model = load("torch").from_weights(ENCODER, random_weights(ENCODER))
    monkeypatch.setitem(sys.modules, "onnxscript", None)  # as if it were not installed
    with refuses(ImportError, "onnxscript is missing: pip install 'tfguide[export]'"):
        export_onnx(model, tmp_path / "model.onnx")


def test_importing_the_exports_imports_no_framework():
    code = "import sys, tfguide.export; print(*{name.split('.')[0] for name in sys.modules})"
    loaded = set(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    )
    assert "tfguide" in loaded
    assert not loaded & {"torch", "tensorflow", "keras", "onnx", "onnxruntime"}
