"""`tfguide train`: a short run, then the rest of it in the other framework, and what stands in the folder."""

import json

import pytest

from tests.support import FRAMEWORKS
from tfguide import cli
from tfguide.loading import load_framework
from tfguide.text import read_tokenizer


def test_a_run_is_resumed_in_the_other_framework(tmp_path, capsys):
    for name in (*FRAMEWORKS, "tokenizers"):
        pytest.importorskip(name)
    text, out = tmp_path / "texts", str(tmp_path / "out")
    text.mkdir()
    for i in range(200):
        (text / f"{i}.txt").write_text(f"document {i} says: " + " ".join(str(i * j) for j in range(50)))
    command = ["train", "--out", out, "--text", str(text), "--rows", "2", "--length", "16", "--warmup", "1"]
    command += ["--measure-every", "2", "--learning-rate", "0.01"]
    whole = [*command, "--steps", "4"]
    with pytest.MonkeyPatch.context() as patch:  # as if the process had ended after the first measurement
        patch.setattr("tfguide.cli.train.summary", stop)
        assert cli.main([*whole, "--framework", "tensorflow"]) == 130
    assert cli.main([*whole]) == 2
    assert "has a run already: resume it, or name another folder" in capsys.readouterr().err
    assert cli.main([*whole, "--resume"]) == 0
    assert capsys.readouterr().out.startswith("step    4  loss ")
    curve = json.loads((tmp_path / "out" / "curve.json").read_text())
    assert len(curve["loss"]) == 4 and [step for step, _ in curve["perplexity"]] == [2, 4]
    assert curve["recipe"]["rows"] == 2 and curve["framework"] == "torch" and curve["versions"]["numpy"]
    names = {path.name: path.stat().st_mode for path in (tmp_path / "out").iterdir()}
    assert names.keys() == {
        "config.json", "curve.json", "generation_config.json", "held_out.txt", "model.safetensors", "tokenizer.json",
        "training.safetensors",
    }  # fmt: skip
    assert names["model.safetensors"] == names["config.json"]
    tokenizer = read_tokenizer(out)
    for name in FRAMEWORKS:
        package = load_framework(name)
        model = package.load_checkpoint(out)
        held_out = tokenizer.encode((tmp_path / "out" / "held_out.txt").read_text()).ids
        found = package.perplexity(model, held_out, 16, 15)
        assert found == pytest.approx(curve["perplexity"][-1][1], rel=0.05)  # weights in float16, no END at the end
    assert cli.main([*command, "--steps", "5", "--resume"]) == 2
    assert "another recipe: steps 4 and 5" in capsys.readouterr().err
    assert cli.main([*whole[:2], str(tmp_path / "new"), *whole[3:], "--resume"]) == 2
    assert "there is no run in" in capsys.readouterr().err


def stop(record):
    raise KeyboardInterrupt
