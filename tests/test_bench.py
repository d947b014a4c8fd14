"""The benchmark runs, compares logits before it times, keeps what it has, and says what it ran on."""

import json

import numpy as np
import pytest

from tests.support import FRAMEWORKS
from tfguide import cli
from tfguide.bench import agreement, contestants, memory, models, run, timing
from tfguide.cost import prefill_flops

pytestmark = pytest.mark.usefixtures("small_limits")
TINY = models.SMALL.replace(
    d_model=32, n_layers=2, n_heads=4, n_kv_heads=2, d_head=None, attention_scale=None, d_ff=64, vocab_size=97
)
PEERS = {"torch": "Hugging Face", "tensorflow": "KerasHub"}


@pytest.mark.slow
@pytest.mark.parametrize("task", ["decode", "prefill"])
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_it_is_timed_beside_the_peer(name, task):
    # Large enough for 48 tokens to take longer than the prompt varies by, on a busy machine too.
    config = TINY.replace(d_model=128, n_layers=4, d_head=None, attention_scale=None, d_ff=256)
    result = run.bench(task, config, [name], ["float32"], True, [17], 49, 2)
    rows = {row["name"]: row for row in result["rows"]}
    for who in ("tfguide", PEERS[name]):
        row = rows[who]
        assert "error" not in row
        assert row["difference"] < 1e-4
        assert len(row["tokens"]) == (49 if task == "decode" else 1)
        assert row["tokens_per_second"] > 0 and np.isfinite(row["ratio"])
        assert np.isfinite(row["share_of_bandwidth" if task == "decode" else "share_of_flops"])
    assert rows["tfguide"]["ratio"] == 1.0
    assert rows["tfguide"]["tokens"] == rows[PEERS[name]]["tokens"]
    text = run.table(result)
    assert result["machine"]["processor"] in text and PEERS[name] in text


def _runs(monkeypatch, differences):
    """Let the rounds of a run last as long as named: a second for the prompt, and each time another difference."""
    left = iter(differences)

    def take_turns(calls, repeats, warmup):
        return {name: [1.0 if name in ("memory", ("tfguide", 1)) else 1.0 + next(left)] * repeats for name in calls}

    monkeypatch.setattr(run, "take_turns", take_turns)
    [row] = run.bench("decode", TINY, ["torch"], ["float32"], False, [7], 3, 1)["rows"]
    return row, list(left)


def test_tokens_that_noise_hides_are_timed_in_more_rounds(monkeypatch):
    """A speed below 0 was printed: the prompt, which is subtracted, took longer in the shorter run."""
    row, unused = _runs(monkeypatch, [-0.01, 0.02, 0.02, 0.5])
    assert row["seconds"] == pytest.approx(0.02) and row["tokens_per_second"] == pytest.approx(100) and unused == [0.5]


def test_tokens_that_cannot_be_told_from_noise_have_no_speed(monkeypatch):
    row, _ = _runs(monkeypatch, [-0.01, 0.02, -0.03, 0.01] * 8)
    assert "name more of them" in row["error"] and "tokens_per_second" not in row
    assert row["error"] in run.table({"machine": timing.machine(), "limits": {}, "rows": [row]})


@pytest.mark.parametrize(
    ("seconds", "clear"),
    [([0.1], True), ([-0.1], False), ([0.0], False), ([0.1, 0.11, 0.09], True), ([0.1, -0.5, 0.4], False),
     ([0.1, -0.2, 0.4, 0.0] * 40, True)],
)  # fmt: skip
def test_a_difference_is_clear_above_its_error(seconds, clear):
    assert run.is_clear(seconds) is clear


def test_a_prompt_is_timed_whatever_number_of_new_tokens_is_named():
    """One is the number that a prompt is timed with; it was taken off itself, and the speed divided by zero seconds."""
    [row] = run.bench("prefill", TINY, ["torch"], ["float32"], False, [7], 1, 1)["rows"]
    assert row["seconds"] > 0 and np.isfinite(row["tokens_per_second"])


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "int8", "int4"])
def test_every_type_is_timed(dtype):
    [row] = run.bench("decode", TINY, ["torch"], [dtype], False, [7], 3, 1)["rows"]
    assert 0 < row["difference"] <= agreement.AGREEMENT[dtype]


def test_contestants_that_disagree_are_not_timed(monkeypatch):
    class Wrong(contestants.HuggingFace):
        def logits(self):
            return super().logits() + np.arange(97)

    monkeypatch.setattr(contestants, "HuggingFace", Wrong)
    kept = []
    result = run.bench(
        "decode", TINY, ["torch"], ["float32"], True, [7], 3, 1, keep=lambda r: kept.append(len(r["rows"]))
    )
    row = next(row for row in result["rows"] if row["name"] == "Hugging Face")
    assert "its logits differ by" in row["error"] and "seconds" not in row
    assert kept == [len(result["rows"])]
    monkeypatch.setitem(agreement.AGREEMENT, "float32", -1.0)
    with pytest.raises(RuntimeError, match="its logits differ"):
        run.bench("decode", TINY, ["torch"], ["float32"], False, [7], 3, 1)


def test_bytes_and_operations_are_counted():
    parameters = 2 * (32 * 32 * 2 + 32 * 16 * 2 + 3 * 32 * 64) + 32 * 97
    cache = 2 * 2 * 2 * 8 * 10
    assert models.bytes_read(TINY, "float32", 10) == 4 * (parameters + cache)
    assert models.bytes_read(TINY, "bfloat16", 10) == 2 * (parameters + cache)
    outputs = 2 * (32 + 16 * 2 + 32 + 64 * 2 + 32) + 97  # each has two units of 2 bytes
    assert models.bytes_read(TINY, "int4", 10) == parameters // 2 + parameters // 32 * 2 + 4 * outputs + 2 * cache
    assert prefill_flops(TINY, 1) == 2 * parameters + 4 * 32 * 2


def test_memory_is_that_of_a_process(tmp_path):
    models.write_model(tmp_path / "model", TINY)
    found = memory.measure("tfguide", "torch", str(tmp_path / "model"), "float32", 5, 3)
    assert 0 < found["peak_bytes"] < 5e8


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "int8", "int4"])
def test_a_gguf_file_holds_the_weights(dtype, tmp_path):
    import gguf

    from tfguide.bench.gguf_file import write_gguf

    models.write_model(tmp_path / "model", TINY)
    write_gguf(tmp_path / "model", tmp_path / "file", dtype)
    reader = gguf.GGUFReader(tmp_path / "file")
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    assert len(tensors) == 2 * 9 + 3
    weights = models.init_weights(TINY, 0)
    up = tensors["blk.1.ffn_up.weight"]
    found = gguf.quants.dequantize(up.data, up.tensor_type).reshape(64, 32).T
    want = weights["decoder.layers.1.feed_forward.up.weight"]
    tolerance = {"float32": 0, "bfloat16": 2**-8, "float16": 2**-11, "int8": 1 / 200, "int4": 1 / 8}[dtype]
    assert np.abs(found - want).max() <= tolerance * np.abs(want).max()
    with pytest.raises(ValueError, match="dtype must be one of"):
        write_gguf(tmp_path / "model", tmp_path / "file", "int3")


def test_the_command_writes_what_it_prints(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(models.MODELS, "S", TINY)
    arguments = ["bench", "decode", "--prompt", "5", "--new-tokens", "3", "--repeats", "1"]
    assert cli.main([*arguments, "--json", str(tmp_path / "result.json")]) == 0
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["task"] == "decode" and len(result["rows"]) == 1
    assert f"{result['rows'][0]['tokens_per_second']:.1f}" in capsys.readouterr().out
    assert [file.name for file in tmp_path.iterdir()] == ["result.json"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["--prompt", "0"], "must fit"), (["--prompt", "2040"], "must fit into 2048 positions, got 2104"),
        (["--repeats", "0"], "--repeats must be at least 1, got 0"), (["--new-tokens", "1"], "at least 2, got 1"),
        (["--json", "/nonexistent/file"], "a folder that is not there"),
        (["--model", "/nonexistent"], "no such folder"),
        (["--device", "cuda", "--dtype", "int8"], "--device cuda is for"),
    ],
    ids=str,
)  # fmt: skip
def test_mistakes_are_one_line(wrong, message, capsys):
    assert cli.main(["bench", "decode", *wrong]) == 2
    error = capsys.readouterr().err
    assert error.startswith("tfguide: ") and message in error and error.count("\n") == 1
    for unknown in (["--framework", "jax"], ["--dtype", "int2"]):
        with pytest.raises(SystemExit):
            cli.main(["bench", "decode", *unknown])


def test_contestants_take_turns():
    order = []
    seconds = timing.take_turns({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, repeats=3, warmup=1)
    assert order == ["a", "b"] * 4
    assert [len(times) for times in seconds.values()] == [3, 3]
    assert timing.median_ratio({"a": [1.0, 8.0, 3.0], "b": [2.0, 2.0, 2.0]}, "a", "b") == 1.5
    with pytest.raises(ValueError, match="repeats must be at least 1, got 0"):
        timing.take_turns({}, repeats=0)


@pytest.mark.parametrize("dtype", [np.int8, np.int64])
def test_numpys_integers_are_integers(dtype):
    result = run.bench("decode", TINY, ["torch"], ["float32"], False, [dtype(7)], dtype(3), dtype(1))
    [row] = json.loads(json.dumps(result))["rows"]
    assert (row["prompt"], row["new_tokens"], len(row["tokens"])) == (7, 3, 3)
    for wrong in ([[True], 3, 1], [[7], 2.0, 1], [[7], 3, True]):
        with pytest.raises(TypeError, match="must be an integer"):
            run.bench("decode", TINY, ["torch"], ["float32"], False, *wrong)
    for wrong in ([[0], 3, 1], [[7], 1, 1], [[7], 3, 0]):
        with pytest.raises(ValueError, match="must be at least"):
            run.bench("decode", TINY, ["torch"], ["float32"], False, *wrong)
    with pytest.raises(ValueError, match="task must be one of 'decode', 'prefill', got 'train'"):
        run.bench("train", TINY)
    assert timing.take_turns({"a": lambda: None}, dtype(3), dtype(0)).keys() == {"a"}


def test_a_model_is_found_by_its_letter_or_in_a_folder(tmp_path):
    assert models.find_model("S") == (models.SMALL, None)
    models.write_model(tmp_path / "m", TINY)
    config, folder = models.find_model(str(tmp_path / "m"))
    assert folder == str(tmp_path / "m") and (config.d_model, config.n_layers) == (32, 2)
    with pytest.raises(FileNotFoundError, match="no such folder"):
        models.find_model(str(tmp_path / "none"))
