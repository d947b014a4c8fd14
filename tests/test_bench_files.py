"""What a model file's weights are worth and when it is ready is measured beside llama.cpp, on the same tokens."""

import json

import numpy as np
import pytest

import tfguide
from tests.support import FRAMEWORKS, load, numpy
from tfguide import ModelConfig, cli
from tfguide.bench import load as loading
from tfguide.bench import models, quality, vectors
from tfguide.bench.llama import LlamaModel
from tfguide.checkpoints import write_checkpoint, write_gguf
from tfguide.compress import Quantization
from tfguide.tasks import smollm

pytestmark = pytest.mark.usefixtures("small_limits")
TINY = models.SMALL.replace(
    d_model=32, n_layers=2, n_heads=4, n_kv_heads=2, d_head=None, attention_scale=None, d_ff=64, vocab_size=97,
    max_positions=64, tied_head=True,
)  # fmt: skip
TOKENS = np.random.default_rng(2).integers(0, 97, 41)
OTHERS = np.random.default_rng(3).integers(0, 97, (2, 16))


@pytest.fixture(scope="module")
def weights():
    return tfguide.init_weights(TINY, seed=5)


@pytest.fixture(scope="module")
def file(weights, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "tiny.gguf"
    write_gguf(path, TINY, weights, "Q4_1")
    return path


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_each_type_of_weights_has_its_perplexity(name, file, peer):
    kept = []
    result = quality.bench_quantization(
        file, TOKENS, OTHERS, 12, name, True, 2, 1, lambda r: kept.append(len(r["rows"]))
    )
    assert json.loads(json.dumps(result)) == result
    rows = {(row["name"], row["weights"]): row for row in result["rows"]}
    ours = [weights for who, weights in rows if who == "tfguide"]
    assert ours == [*(weights for weights, *_ in quality.WEIGHTS), "Q4_1, the file as it is"]
    theirs = [weights for who, weights in rows if who == "llama.cpp"]
    assert theirs == [*quality.FILES, "Q4_1, the file as it is"]
    assert kept == [*range(1, len(rows) + 1), len(rows)] and not any("error" in row for row in rows.values())
    # The peer computes in float64 what the file holds: the same numbers as ours in float32.
    exact = rows["tfguide", "float32"]["perplexity"]
    assert rows["llama.cpp", "Q4_1, the file as it is"]["perplexity"] == pytest.approx(exact, rel=1e-4)
    assert rows["llama.cpp", "F16"]["perplexity"] == pytest.approx(exact, rel=1e-3)
    module = load(name)
    plain = module.load_checkpoint(file)
    assert exact == pytest.approx(module.perplexity(plain, TOKENS, 12), rel=1e-5)
    for how in ({"activation_bits": None}, {"activation_bits": 8}):
        row = rows["tfguide", "8 bits, 8-bit activations" if how["activation_bits"] else "8 bits"]
        assert row["perplexity"] == pytest.approx(
            module.perplexity(module.quantize(plain, 8, **how), TOKENS, 12), rel=1e-3
        )
    calibrated = module.quantize(plain, 4, calibration=OTHERS)
    assert rows["tfguide", "4 bits, calibrated"]["perplexity"] == pytest.approx(
        module.perplexity(calibrated, TOKENS, 12), rel=1e-3
    )
    timed = [row for row in rows.values() if "tokens_per_second" in row]
    assert {"float32", "8 bits", "4 bits"} <= {row["weights"] for row in timed} and len(timed) == len(rows)
    assert all(row["tokens_per_second"] == pytest.approx(2 / row["seconds"]) for row in timed)
    assert all(row["share_of_bandwidth"] > 0 for row in timed)
    text = quality.table(result)
    for row in rows.values():
        assert f"{row['perplexity']:.3f}" in text and f"{row['bits']:.2f}" in text


def test_windows_are_those_of_our_perplexity(weights, file, peer):
    model = LlamaModel(str(file))
    ours = load("torch").perplexity(load("torch").load_checkpoint(file), TOKENS, 10)
    assert quality.llama_perplexity(model, TOKENS, 10) == pytest.approx(ours, rel=1e-5)


def test_a_peer_that_fails_is_a_row(file, monkeypatch):
    monkeypatch.setenv("TFGUIDE_LLAMA_CPP", "/nonexistent")
    result = quality.bench_quantization(file, TOKENS, OTHERS, 12, "torch", True, 1, 1)
    errors = [row["error"] for row in result["rows"] if row["name"] == "llama.cpp"]
    assert errors == ["ImportError: llama-cpp-python is not installed"] * 6
    assert quality.table(result).count(errors[0]) == 6


def test_bytes_are_counted(file):
    float32, bits4 = models.weights_size(TINY, None), models.weights_size(TINY, Quantization(4))
    count = sum(np.prod(shape) for name, shape in tfguide.weight_shapes(TINY).items() if len(shape) == 2)
    assert float32["bits"] == 32 and float32["multiplied_bytes"] == 4 * count
    # Half a byte each, two bytes for a group of 32, four for an output.
    outputs = sum(
        shape[0] if name.startswith("embedding") else shape[1]
        for name, shape in tfguide.weight_shapes(TINY).items() if len(shape) == 2
    )  # fmt: skip
    assert bits4["multiplied_bytes"] == count / 2 + 2 * count / 32 + 4 * outputs
    assert bits4["n_bytes"] > bits4["multiplied_bytes"] + 4 * 97 * 32  # the embedding beside the head
    size = models.file_size(file)
    embedding = 97 * 32
    assert size["block_type"] == "Q4_1"
    assert size["multiplied_bytes"] == embedding * 34 / 32 + (count - embedding) * 20 / 32
    norms = 4 * 32 * (2 * TINY.n_layers + 1)
    assert size["n_bytes"] == size["multiplied_bytes"] + norms
    assert size["bits"] == pytest.approx(8 * size["multiplied_bytes"] / count)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"n_new": 0}, "n_new must be at least 1"), ({"window": 1}, "window must be at least 2"),
     ({"tokens": TOKENS[:1]}, "at least 2 tokens")],
)  # fmt: skip
def test_wrong_sizes_are_refused_before_anything_is_loaded(changes, message):
    given = {"path": "/nonexistent.gguf", "tokens": TOKENS, "calibration": OTHERS} | changes
    with pytest.raises(ValueError, match=message):
        quality.bench_quantization(**given)


@pytest.mark.slow
def test_a_file_is_timed_in_processes_of_its_own():
    pytest.importorskip("torch")
    if not smollm.is_installed():
        pytest.skip(f"needs SmolLM2: {smollm.INSTALL}")
    kept = []
    result = loading.bench_load(smollm.file(), ["torch"], False, [16], 1, lambda r: kept.append(len(r["rows"])))
    assert json.loads(json.dumps(result)) == result and kept == [1] and result["file_bytes"] == smollm.N_BYTES
    [row] = result["rows"]
    assert 0 < row["imported"] < row["loaded"] < row["first"] and row["command"] > 0.1
    assert row["peak_bytes"] > smollm.N_BYTES and row["prompts"]["16"] > 0


def test_a_contestant_that_fails_says_why(file):
    """The file has no tokenizer, so that the command writes no text."""
    result = loading.bench_load(file, ["torch"], False, [5], 1)
    [row] = result["rows"]
    assert "tokenizer.ggml.model is 'no_vocab'" in row["error"] and row["framework"] == "torch"
    assert row["error"] in loading.table(result)


def test_the_marks_of_a_process_follow_each_other(file):
    found = loading.marks("tfguide", "torch", str(file), [5, 7])
    assert 0 < found["imported"] < found["loaded"] < found["first"]
    assert found["again"] > 0 and list(found["prompts"]) == ["5", "7"] and min(found["prompts"].values()) > 0
    assert found["peak_bytes"] > 1e7


def test_medians_of_runs_are_shown():
    runs = [{"imported": i, "loaded": 2 * i, "first": 3 * i, "again": 0.5, "command": 4.0 * i, "peak_bytes": 1e6 * i,
             "prompts": {"128": float(i)}} for i in (1, 9, 2)]  # fmt: skip
    row = loading.medians(runs, None)
    assert (row["imported"], row["first"], row["peak_bytes"], row["prompts"]) == (2, 6, 2e6, {"128": 2.0})
    rows = [{"name": "tfguide", "framework": "torch"} | row, {"name": "llama.cpp", "error": "it is not"}]
    result = {"machine": {"processor": "P", "cores": 2}, "limits": {}, "file_bytes": 7, "rows": rows}
    head, names, ours, theirs = loading.table(result).splitlines()
    assert head == "P, 2 cores; seconds" and "128 tokens" in names
    assert ours.split() == ["tfguide", "torch", "8.00", "2.00", "4.00", "6.00", "0.500", "2.000", "2", "MB"]
    assert theirs == "llama.cpp             it is not"
    assert loading.medians([], "it is not") == {"error": "it is not"}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["quantization", "--model", "/nonexistent"], "/nonexistent"),
        (["quantization", "--json", "/nonexistent/file"], "a folder that is not there"),
        (["load", "--llama-cpp", "/nonexistent"], "add --peers"),
        (["load", "--peers", "--llama-cpp", "/nonexistent"], "without llama_cpp"),
    ],
    ids=str,
)
def test_mistakes_are_one_line(wrong, message, capsys, monkeypatch):
    monkeypatch.delenv("TFGUIDE_LLAMA_CPP", raising=False)
    assert cli.main(["bench", *wrong]) == 2
    error = capsys.readouterr().err
    assert error.startswith("tfguide: ") and message in error and error.count("\n") == 1
    monkeypatch.delenv("TFGUIDE_LLAMA_CPP", raising=False)


def test_the_command_takes_the_book_s_model_and_text(tmp_path, capsys):
    pytest.importorskip("torch")
    if not smollm.is_installed():
        pytest.skip(f"needs SmolLM2: {smollm.INSTALL}")
    assert cli.main(["bench", "quantization", "--tokens", "1000000"]) == 2
    assert "--tokens and --calibration must be 2 to" in capsys.readouterr().err
    text = tmp_path / "text.txt"
    text.write_text("one two three", encoding="utf-8")
    assert cli.main(["bench", "quantization", "--text", str(text), "--tokens", "4"]) == 2
    assert "must be 2 to 3 together" in capsys.readouterr().err


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_of_an_encoder_the_vectors_of_texts_are_compared(name, tmp_path):
    config = ModelConfig.from_preset(
        "bert-base", d_model=32, n_layers=2, n_heads=4, d_head=None, attention_scale=None, d_ff=64, vocab_size=97,
        max_positions=64,
    )  # fmt: skip
    write_checkpoint(tmp_path, config, tfguide.init_weights(config, seed=5))
    kept, texts = [], TOKENS[:40].reshape(5, 8)
    result = vectors.bench_vectors(tmp_path, texts, OTHERS, name, lambda r: kept.append(len(r["rows"])))
    assert json.loads(json.dumps(result)) == result
    rows = {row["weights"]: row for row in result["rows"]}
    assert list(rows) == [weights for weights, *_ in quality.WEIGHTS] and kept == list(range(1, len(rows) + 1))
    assert rows["float32"]["cosine"] == pytest.approx(1) and result["texts"] == 5
    module = load(name)
    plain = module.load_checkpoint(tmp_path)
    exact, rounded = (means(model, texts) for model in (plain, module.quantize(plain, 4)))
    cosines = (exact * rounded).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(rounded, axis=1)
    assert rows["4 bits"]["cosine"] == pytest.approx(cosines.mean(), abs=1e-5)
    assert rows["4 bits"]["least_cosine"] == pytest.approx(cosines.min(), abs=1e-5)
    assert rows["8 bits"]["cosine"] > rows["4 bits, calibrated"]["cosine"] > 0.8
    assert all(f"{row['cosine']:.4f}" in vectors.table(result) for row in rows.values())


def means(model, texts):
    """The mean hidden state of each text, read alone."""
    return np.array([numpy(model(text[None]))[0].mean(0) for text in texts])


def test_only_an_encoder_has_vectors_of_texts(file):
    with pytest.raises(ValueError, match="those of an encoder, got a model of kind 'decoder'"):
        vectors.bench_vectors(file, OTHERS, OTHERS)
