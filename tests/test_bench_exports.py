"""`python -m tfguide.bench.exports` on a tiny model, and the file that the page shows."""

import json
from pathlib import Path

import pytest

from tests.support import random_weights, refuses, small_config
from tfguide.bench import exports
from tfguide.checkpoints import write_checkpoint

for name in ("torch", "transformers", "onnxruntime", "onnxscript", "gguf"):
    pytest.importorskip(name, reason="PyTorch, transformers and the extra `export` are needed")

MEASURED = Path(__file__).parents[1] / "book" / "appendices" / "benchmarks" / "exports.json"


def test_each_program_is_compared_and_timed(tmp_path, capsys):
    config = small_config(
        positions="rotary", norm="rms", activation="swiglu", n_kv_heads=2, qkv_bias=False, output_bias=False,
        ffn_bias=False, d_model=24, d_head=4, max_positions=64,
    )  # fmt: skip
    write_checkpoint(tmp_path / "model", config, random_weights(config))
    targets = ["PyTorch", "transformers", "ONNX Runtime", "GGUF F32"]
    arguments = ["--model", str(tmp_path / "model"), "--prompt", "5", "--new", "4", "--repeats", "2"]
    arguments += ["--keep", str(tmp_path / "files")]
    exports.main([*arguments, "--json", str(tmp_path / "found.json"), "--targets", *targets])
    assert "ONNX Runtime" in capsys.readouterr().out
    found = json.loads((tmp_path / "found.json").read_text())
    assert {"folder", "ONNX_Runtime.onnx", "GGUF_F32.gguf"} <= {path.name for path in (tmp_path / "files").iterdir()}
    assert [row["name"] for row in found["rows"]] == targets
    for row in found["rows"]:
        assert row["difference"] < 1e-5
        assert row["same"] == 4
        assert ("token_seconds" in row) == (row["name"] != "GGUF F32")
        assert ("bytes" in row) == (row["name"] != "PyTorch")


def test_a_name_that_is_no_target_is_refused(tmp_path):
    with refuses(ValueError, "target must be one of"):
        exports.measure(tmp_path, ["CoreML"])


def test_what_the_page_says_of_the_measurement():
    result = json.loads(MEASURED.read_text())
    found = {row["name"]: row for row in result["rows"]}
    assert set(found) == set(exports.TARGETS)
    for name, row in found.items():
        if row["weights"] in ("float32", "F32"):
            assert row["difference"] < 1e-5 and row["same"] == result["new_tokens"], name
    for name in ("LiteRT", "ONNX Runtime"):
        small = found[f"{name}, 8 bits"]
        assert found["GGUF Q8_0"]["difference"] < small["difference"] < 0.2
        assert 2 < found[name]["bytes"] / small["bytes"] < 4
        assert small["token_seconds"] < found[name]["token_seconds"] < 0.65 * found["PyTorch"]["token_seconds"]
    assert found["ONNX Runtime, 8 bits"]["bytes"] > found["LiteRT, 8 bits"]["bytes"]  # its embedding stays
    assert found["ONNX Runtime, 8 bits"]["same"] <= 2
    assert found["GGUF F32"]["write_seconds"] < found["transformers"]["write_seconds"] < 3
    assert all(60 < found[name]["write_seconds"] < 180 for name in ("ONNX Runtime", "LiteRT"))
