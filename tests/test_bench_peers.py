"""CTranslate2 and OpenVINO GenAI: contestants where they are installed, and a line that says so where not."""

import sys
import time
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from tests.support import FRAMEWORKS
from tfguide import init_weights
from tfguide.bench import models, peers, run
from tfguide.checkpoints import write_checkpoint

pytestmark = pytest.mark.usefixtures("small_limits")
TINY = models.SMALL.replace(
    d_model=32, n_layers=2, n_heads=4, n_kv_heads=2, d_head=None, attention_scale=None, d_ff=64, vocab_size=97
)


def test_a_peer_that_is_missing_is_a_row_that_says_so(monkeypatch):
    monkeypatch.setattr(peers, "_has", lambda module: False)
    result = run.bench("decode", TINY, FRAMEWORKS[:1], ["int8"], True, [7], 3, 1)
    errors = {row["name"]: row["error"] for row in result["rows"] if row["name"] in ("CTranslate2", "OpenVINO GenAI")}
    if FRAMEWORKS[0] == "torch":
        assert errors == {"CTranslate2": "not installed", "OpenVINO GenAI": "not installed"}
        assert "not installed" in run.table(result)
    assert any(row["name"] == "tfguide" and row["seconds"] > 0 for row in result["rows"])


def test_only_types_that_a_peer_has_are_named():
    assert set(peers.more_peers("float32")) == {"CTranslate2"}
    assert set(peers.more_peers("int8")) == {"CTranslate2", "OpenVINO GenAI"}
    assert set(peers.more_peers("int4")) == set(peers.more_peers("float16")) == {"OpenVINO GenAI"}
    assert peers.more_peers("bfloat16") == {}


def _module(monkeypatch, name, **held):
    module = ModuleType(name)
    vars(module).update(held)
    monkeypatch.setitem(sys.modules, name, module)
    return module


def test_ctranslate2_converts_once_and_gets_names_for_tokens(tmp_path, monkeypatch):
    pytest.importorskip("transformers")
    write_checkpoint(tmp_path / "model", TINY, init_weights(TINY, 0))
    calls = []

    class Converter:
        def __init__(self, folder):
            self.folder = folder

        def convert(self, made, quantization):
            tokenizer = self.load_tokenizer(None, self.folder)
            calls.append((quantization, len(tokenizer.get_vocab()), tokenizer.get_vocab()["<96>"], tokenizer.bos_token))
            (tmp_path / "model" / made.rpartition("/")[2]).mkdir()
            (tmp_path / "model" / made.rpartition("/")[2] / "model.bin").write_bytes(b"")

    class Generator:
        def __init__(self, made, **options):
            self.threads = options["intra_threads"]
            calls.append((made.rpartition("/")[2], options["compute_type"], self.threads))

        def generate_batch(self, prompts, max_length, min_length, **options):
            time.sleep(0.03 if self.threads == 3 else 0)
            assert max_length == min_length and options["include_prompt_in_result"] is False
            return [SimpleNamespace(sequences_ids=[[int(word[1:-1]) for word in prompts[0][:max_length]]])]

        def forward_batch(self, prompts):
            return np.arange(len(prompts[0]) * 97.0).reshape(1, -1, 97)

    _module(monkeypatch, "ctranslate2", Generator=Generator)
    _module(monkeypatch, "ctranslate2.converters", TransformersConverter=Converter)
    monkeypatch.setattr(peers, "cores", lambda: 3)
    folder, prompt = str(tmp_path / "model"), np.array([[5, 3, 2]])
    for _ in range(2):
        one = peers.CTranslate2(folder, "int8", prompt)
        assert one.run(2) == [5, 3] and one.logits().shape == (97,) and one.logits()[0] == 2 * 97
        assert one.about["threads"] == 1 and set(one.about["tokens_per_second_of_threads"]) == {1, 3}
    loads = [("ctranslate2-int8", "int8", threads) for threads in (1, 3, 1)]  # both tried, the faster one kept
    assert calls == [("int8", 97, 96, "<0>")] + loads * 2


def test_openvino_asks_for_a_tokenizer(tmp_path, monkeypatch):
    _module(monkeypatch, "openvino")
    _module(monkeypatch, "openvino_genai")
    write_checkpoint(tmp_path / "model", TINY, init_weights(TINY, 0))
    with pytest.raises(ValueError, match="needs a tokenizer in its file, and there is none here of 97 tokens"):
        peers.OpenVino(str(tmp_path / "model"), "int8", np.array([[1]]))
    assert [file.name for file in (tmp_path / "model").iterdir() if file.is_dir()] == []
