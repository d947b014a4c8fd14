"""`tfguide export`: the end of the file's name says what is written."""

import pytest

from tests.support import random_weights, small_config
from tfguide.checkpoints import write_checkpoint
from tfguide.cli import main

pytest.importorskip("torch")
pytest.importorskip("gguf")


@pytest.fixture
def checkpoint(tmp_path):
    """A folder with a tiny Llama."""
    llama = dict(positions="rotary", norm="rms", activation="swiglu", qkv_bias=False, output_bias=False)
    config = small_config(**llama, ffn_bias=False, d_model=24, d_head=4)
    write_checkpoint(tmp_path / "model", config, random_weights(config))
    return tmp_path / "model"


def test_files_and_folders(checkpoint, tmp_path, capsys):
    from tfguide.torch import load_checkpoint

    config = load_checkpoint(checkpoint).config
    for name in ("folder", "model.pt2"):
        assert main(["export", str(tmp_path / name), "--checkpoint", str(checkpoint)]) == 0
        written = [path for path in (tmp_path / name, *(tmp_path / name).rglob("*")) if path.is_file()]
        assert f"{name}: {sum(path.stat().st_size for path in written) / 1e6:.1f} MB" in capsys.readouterr().out
    assert load_checkpoint(tmp_path / "folder").config == config
    assert (tmp_path / "model.pt2").stat().st_size > 4000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["model.bin"], "must end in .onnx, .tflite, .pt2 or .gguf"),
        (["model.pt2", "--bits", "8"], "--bits is for .onnx, .tflite and .gguf files"),
        (["model.gguf", "--bits", "3"], "must be 8 or 4, got 3"),
    ],
)
def test_mistakes_are_named(arguments, message, checkpoint, tmp_path, capsys):
    file, *more = arguments
    assert main(["export", str(tmp_path / file), "--checkpoint", str(checkpoint), *more]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / file).exists()
