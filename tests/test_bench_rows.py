"""Many rows and long texts are timed beside llama.cpp, with the bounds that they are measured by."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

import tfguide.torch as tg
from tests.support import FRAMEWORKS
from tfguide import cli, native
from tfguide.bench import agreement, lengths, llama, models, ours, rows, timing

pytestmark = pytest.mark.usefixtures("small_limits")
TINY = models.SMALL.replace(
    d_model=32, n_layers=2, n_heads=4, n_kv_heads=2, d_head=None, attention_scale=None, d_ff=64, vocab_size=97
)
LLAMA = Path(__file__).parent / "llama_of_python"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "tiny"
    models.write_model(folder, TINY)
    return str(folder)


@pytest.mark.parametrize("name", FRAMEWORKS)
@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_rows_are_timed_beside_llama_cpp(name, dtype, peer):
    kept = []
    result = rows.bench_rows(TINY, [name], [dtype], True, [3, 5], 7, 2, 1, 11, lambda r: kept.append(len(r["rows"])))
    assert json.loads(json.dumps(result)) == result and kept == [6]
    assert [(row["name"], row["batch"]) for row in result["rows"]] == [
        (who, batch) for who in ("tfguide", "llama.cpp") for batch in (1, 3, 5)
    ]
    for row in result["rows"]:
        assert (row["framework"], row["dtype"], row["prompt"], row["new_tokens"]) == (name, dtype, 7, 2)
        assert row["tokens_per_second"] == pytest.approx(2 * row["batch"] / row["seconds"])
        assert ("share" in row) == (row["name"] == "tfguide")
        assert row["name"] == "llama.cpp" or (row["ratio"] == 1.0 and row["share"] > 0)
    assert result["machine"]["llama.cpp"] == {"version": "0.0", "built_for": "SSE3 AVX2 AVX_VNNI REPACK",
                                              "level": "AVX2 with VNNI"}  # fmt: skip
    text = rows.table(result)
    assert result["machine"]["processor"] in text and "llama.cpp of llama-cpp-python 0.0" in text
    for row in result["rows"]:
        assert f"{row['tokens_per_second']:.1f}" in text


def test_the_share_is_that_of_the_smaller_bound():
    """One row: 10 tokens a second. A prompt: 25. Of 2 rows the first is the bound, of 4 rows the second."""
    seconds = {
        "prompt": [4.0, 8.0, 4.0], ("tfguide", 1): [0.2, 0.4, 0.2], ("tfguide", 2): [0.25, 0.5, 0.25],
        ("tfguide", 4): [0.4, 0.4, 0.4], ("llama.cpp", 1): [0.4, 0.4, 0.6], ("llama.cpp", 2): [0.5, 0.5, 0.5],
        ("llama.cpp", 4): [0.2, 0.3, 0.4],
    }  # fmt: skip
    found = {(row["name"], row["batch"]): row for row in rows.speeds(seconds, 2, 100)}
    assert [found["tfguide", batch]["tokens_per_second"] for batch in (1, 2, 4)] == pytest.approx([10, 16, 20])
    # In the rounds: 16 of 20, 8 of 10, 16 of 20; and 20 of 25, 20 of 12.5, 20 of 25.
    assert [found["tfguide", batch]["share"] for batch in (1, 2, 4)] == pytest.approx([1, 0.8, 0.8])
    assert [found["llama.cpp", batch]["ratio"] for batch in (1, 2, 4)] == pytest.approx([2, 2, 0.75])
    assert found["tfguide", 4]["prompt_tokens_per_second"] == pytest.approx(25)
    assert "share" not in found["llama.cpp", 4] and len(found) == 6


@pytest.mark.parametrize("n_rows", [1, 3])
def test_llama_cpp_gets_every_row_in_a_sequence_of_its_own(n_rows, folder, peer, monkeypatch):
    monkeypatch.setattr(llama.LlamaRows, "BATCH", 5)  # a prompt takes two calls
    prompts = np.random.default_rng(1).integers(0, 97, (n_rows, 7))
    theirs = llama.LlamaRows(llama.LlamaModel(llama.find_gguf(folder, "float32")), prompts, 3)
    mine = ours.OurRows(ours.load_ours("torch", folder, "float32"), prompts, 3)
    np.testing.assert_allclose(theirs.read(), mine.read(), atol=1e-4)
    whole = tg.generate(mine.model, prompts, 4, stop_tokens=[])
    for _ in range(2):  # a second time from the prompts
        assert theirs.steps(3).T.tolist() == mine.steps(3).T.tolist() == [row[1:] for row in whole]
    assert mine.read().shape == (n_rows, 97) and theirs.read().shape == (n_rows, 97)
    theirs.close()
    with pytest.raises(RuntimeError, match="no context for 1 rows of 2000007 positions"):
        llama.LlamaRows(theirs.model, prompts[:1], 2000000)


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_lengths_are_timed_beside_llama_cpp(name, peer):
    kept = []
    result = lengths.bench_lengths(
        TINY, [name], ["bfloat16"], True, [None], [11, 5], 3, 2, 1, lambda r: kept.append(len(r["rows"]))
    )
    assert json.loads(json.dumps(result)) == result and kept == [3, 6]
    peers = ["tfguide", "llama.cpp", "llama.cpp, flash"]
    assert [(row["name"], row["prompt"]) for row in result["rows"]] == [(who, n) for n in (5, 11) for who in peers]
    for row in result["rows"]:
        assert (
            row["framework"] == name and row["new_tokens"] == 3 and row["difference"] < agreement.AGREEMENT["bfloat16"]
        )
        assert row["tokens_per_second"] == pytest.approx(1 / row["seconds"])
        assert row["prompt_tokens_per_second"] == pytest.approx(row["prompt"] / row["prompt_seconds"])
        if row["name"] == "tfguide":
            assert row["ratio"] == row["prompt_ratio"] == 1.0 and row["cache_dtype"] == "bfloat16"
            assert row["bytes"] == models.bytes_read(TINY, "bfloat16", row["prompt"] + 1, "bfloat16")
            assert row["over_bytes"] > 0
    for who in peers:
        assert min(row["over_operations"] for row in result["rows"] if row["name"] == who) == pytest.approx(1.0)
    text = lengths.table(result)
    for row in result["rows"]:
        assert f"{row['name']}{f' {name}' if row['name'] == 'tfguide' else ''}, bfloat16, cache in " in text
        assert f"{1e3 * row['seconds']:.2f}" in text and f"{row['prompt_tokens_per_second']:.1f}" in text


def test_the_lengths_fit_on_a_telephone():
    """The longest numbers that a row may have: `narrow.js` sets 75 letters small enough for 390 pixels."""
    row = {
        "name": "llama.cpp, flash", "framework": "tensorflow", "dtype": "bfloat16", "cache_dtype": "bfloat16",
        "prompt": 131072, "seconds": 12.34567, "ratio": 123.45, "prompt_tokens_per_second": 123456.7,
        "prompt_ratio": 123.45, "over_operations": 12.34, "over_bytes": 123.45,
    }  # fmt: skip
    machine = {"processor": "short", "cores": 2}
    lines = lengths.table({"machine": machine, "limits": {}, "rows": [row, row | {"name": "tfguide"}]}).splitlines()
    assert max(map(len, lines)) <= 75
    assert lines[3].split() == [
        "131072",
        "12345.67",
        "123.45",
        "x",
        "123.45",
        "x",
        "123456.7",
        "12.34",
        "x",
        "123.45",
        "x",
    ]


@pytest.mark.parametrize(("repeats", "readings"), [(1, {5: 2, 11: 1}), (3, {5: 4, 11: 3})])
def test_the_first_reading_of_a_long_prompt_counts(repeats, readings, monkeypatch):
    read, found = ours.OurRows.read, []

    def count(self, chunk_size=None):
        found.append(self.prompts.shape[1])
        return read(self, chunk_size)

    monkeypatch.setattr(lengths, "plain_logits", lambda *arguments: np.ones((1, 97)))
    monkeypatch.setitem(agreement.AGREEMENT, "float32", np.inf)
    monkeypatch.setattr(ours.OurRows, "read", count)
    monkeypatch.setattr(lengths, "LONG", 10)
    result = lengths.bench_lengths(TINY, ["torch"], ["float32"], False, [None], [5, 11], 2, 1, repeats)
    assert {length: found.count(length) for length in (5, 11)} == readings
    assert all(row["prompt_seconds"] > 0 for row in result["rows"])


def test_over_bytes_and_over_operations():
    # A round reads 100 bytes in 2 s; 30 bytes then need 0.6 s. The second round is slower for both.
    assert lengths.over_bytes([0.9, 1.8, 0.9], [2.0, 4.0, 2.0], 30, 100) == pytest.approx(1.5)
    one = {"name": "a", "cache_dtype": "float32"}
    found = [
        one | {"prompt_seconds": 1.0, "prompt_flops": 10}, one | {"prompt_seconds": 2.0, "prompt_flops": 40},
        one | {"prompt_seconds": 9.0, "prompt_flops": 90}, one | {"error": "failed"},
        {"name": "b", "cache_dtype": "float32", "prompt_seconds": 5.0, "prompt_flops": 10},
    ]  # fmt: skip
    lengths.compare_with_best(found)
    assert [row.get("over_operations") for row in found] == [2.0, 1.0, 2.0, None, 1.0]


def test_the_bytes_of_a_cache_are_those_of_its_type():
    weights = models.bytes_read(TINY, "int8", 0)
    assert models.bytes_read(TINY, "int8", 10, "float16") - weights == 2 * 2 * 2 * 2 * 8 * 10
    assert models.bytes_read(TINY, "int8", 10) == models.bytes_read(TINY, "int8", 10, "float16")  # the default
    assert models.bytes_read(TINY, "int8", 10, "int8") - weights == 2 * 2 * 2 * (8 + 4) * 10  # with a scale of 4 bytes


@pytest.mark.slow
@pytest.mark.parametrize("task", ["rows", "lengths"])
def test_a_peer_that_is_missing_or_wrong_is_a_row_with_an_error(task, tmp_path, peer, monkeypatch):
    def measure():
        if task == "rows":
            return rows.bench_rows(TINY, ["torch"], ["float32"], True, [1], 5, 2, 1, 5)
        return lengths.bench_lengths(TINY, ["torch"], ["float32"], True, [None], [5], 2, 1)

    right = llama.LlamaRows.read
    with monkeypatch.context() as limited:
        module = llama.load_llama_cpp()
        limited.setattr(module, "llama_init_from_model", lambda model, params: None)
        failed = [row for row in measure()["rows"] if row["name"] != "tfguide"]
        assert failed and all("made no context" in row["error"] for row in failed)
    monkeypatch.setattr(llama.LlamaRows, "read", lambda self: right(self) + np.arange(97))
    result = measure()
    wrong = [row for row in result["rows"] if row["name"] != "tfguide"]
    assert wrong and all("its logits differ by" in row["error"] and "seconds" not in row for row in wrong)
    assert [row["name"] for row in result["rows"] if "seconds" in row] == ["tfguide"]
    module = rows if task == "rows" else lengths
    assert "its logits differ by" in module.table(result)
    monkeypatch.setenv("TFGUIDE_LLAMA_CPP", str(tmp_path))
    result = measure()
    [missing] = [row for row in result["rows"] if row["name"] != "tfguide"]
    assert "not installed" in missing["error"] and "llama.cpp" not in result["machine"]
    assert "not installed" in module.table(result)


def test_another_llama_cpp_is_loaded_from_its_folder(peer, tmp_path, monkeypatch):
    before = list(sys.path)
    assert llama.load_llama_cpp().__version__ == "0.0" and sys.path == before
    other = tmp_path / "llama_cpp.py"
    other.write_text("__version__ = '1.0'")
    monkeypatch.setenv("TFGUIDE_LLAMA_CPP", str(tmp_path))
    with pytest.raises(ImportError, match="but llama_cpp was imported from"):
        llama.load_llama_cpp()
    del sys.modules["llama_cpp"]
    assert llama.load_llama_cpp().__version__ == "1.0"
    assert "llama.cpp" not in timing.machine()


def test_a_result_names_the_instructions_of_the_kernels(monkeypatch):
    about = timing.machine()
    assert about["level"] == native.level() != ""
    assert f"2 cores, {native.level()}" in timing.show_machine({"machine": about | {"cores": 2}, "limits": {}})
    monkeypatch.setattr(native, "is_available", lambda: False)
    without = timing.machine()
    assert "level" not in without and "cores" in timing.show_machine({"machine": without, "limits": {}})


@pytest.mark.parametrize(
    ("names", "level"),
    [
        ("AVX AVX2 F16C FMA", "AVX2"), ("AVX2 AVX512 AVX512_VNNI AVX512_BF16", "AVX-512 with VNNI and BF16"),
        ("NEON ARM_FMA DOTPROD", "NEON with dot products"), ("SSE3 AVX", ""),
    ],
)  # fmt: skip
def test_the_level_of_llama_cpp(names, level):
    assert llama.level_of(names.split()) == level


@pytest.mark.parametrize(
    ("task", "arguments"),
    [("rows", ["--rows", "2", "--prompt", "5", "--read", "7"]), ("lengths", ["--lengths", "5", "9"])],
)
def test_the_commands_write_what_they_print(task, arguments, peer, monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(models.MODELS, "S", TINY.replace(max_positions=8))
    arguments = ["bench", task, *arguments, "--new-tokens", "2", "--repeats", "1", "--peers", "--llama-cpp", str(LLAMA)]
    assert cli.main([*arguments, "--json", str(tmp_path / "result.json")]) == 0
    result = json.loads((tmp_path / "result.json").read_text())
    printed = capsys.readouterr().out
    assert result["task"] == task and result["model"] == "S"
    for row in result["rows"]:
        assert f"{row['tokens_per_second']:.1f}" in printed or f"{1e3 * row['seconds']:.2f}" in printed
    if task == "lengths":  # random weights have as many positions as are asked for
        assert result["config"]["max_positions"] == 11


def test_a_checkpoint_is_measured_by_the_name_of_its_folder(folder, tmp_path, capsys):
    file = str(tmp_path / "result.json")
    arguments = ["--model", folder, "--rows", "1", "--read", "5", "--new-tokens", "1", "--repeats", "1", "--json", file]
    assert cli.main(["bench", "rows", *arguments]) == 0
    assert json.loads(Path(file).read_text())["model"] == "tiny"
    assert cli.main(["bench", "lengths", "--model", folder, "--lengths", "2045"]) == 2
    assert "--lengths and --new-tokens must fit into 2048 positions, got 2053" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["rows", "--rows", "0"], "--rows must be at least 1, got 0"), (["rows", "--prompt", "0"], "must fit"),
        (["rows", "--read", "0"], "--read must be at least 1, got 0"),
        (["rows", "--read", "4000"], "must fit into 2048"),
        (["rows", "--new-tokens", "0"], "--new-tokens must be at least 1, got 0"),
        (["lengths", "--lengths", "0"], "--lengths and --new-tokens must fit"),
        (["lengths", "--prompt-repeats", "0"], "--prompt-repeats must be at least 1, got 0"),
        (["lengths", "--llama-cpp", "/nonexistent"], "--llama-cpp names a peer: add --peers"),
        (["rows", "--peers", "--llama-cpp", "/nonexistent"], "a folder without llama_cpp: /nonexistent"),
        (["rows", "--json", "/nonexistent/file"], "a folder that is not there"),
    ],
    ids=str,
)  # fmt: skip
def test_mistakes_are_one_line(wrong, message, capsys, monkeypatch):
    monkeypatch.setenv("TFGUIDE_LLAMA_CPP", "")
    assert cli.main(["bench", *wrong]) == 2
    error = capsys.readouterr().err
    assert error.startswith("tfguide: ") and message in error and error.count("\n") == 1


def test_counts_are_checked():
    for wrong in ({"batches": [0]}, {"prompt_length": 0}, {"n_new": 0}, {"repeats": 0}, {"read_length": 0}):
        with pytest.raises(ValueError, match="must be at least"):
            rows.bench_rows(TINY, **wrong)
    for wrong in ({"lengths": [0]}, {"n_new": 0}, {"repeats": 0}, {"prompt_repeats": 0}):
        with pytest.raises(ValueError, match="must be at least"):
            lengths.bench_lengths(TINY, **wrong)
    with pytest.raises(TypeError, match="must be an integer"):
        rows.bench_rows(TINY, batches=[2.0])
