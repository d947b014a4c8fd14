"""The text of the book's model: the documents of Python, how they are divided, and their tokens."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.support import FRAMEWORKS, load, refuses
from tfguide.tasks import documentation

pytest.importorskip("tokenizers")


@pytest.fixture(scope="module")
def texts():
    return documentation.documents()


def test_the_documents_are_topics_and_modules(texts):
    assert list(texts) == sorted(texts) and len(texts) > 300
    assert texts["topics/specialnames"].startswith("Special method names")
    assert "topics/attribute-access" not in texts  # a section of the one above
    assert texts["textwrap"].startswith("textwrap\n\nText wrapping and filling.")
    assert "\n\n\nTextWrapper.wrap(self, text)\n\nwrap(text : string) -> [string]\n\n" in texts["textwrap"]
    assert 1_500_000 < sum(map(len, texts.values())) < 4_000_000


def test_what_is_held_out_depends_on_the_name_alone(texts):
    train, held_out = documentation.split_documents(texts)
    assert train.keys() | held_out.keys() == texts.keys() and not train.keys() & held_out.keys()
    assert {"fractions", "topics/string-methods", "mimetypes"} <= held_out.keys()
    few = {name: texts[name] for name in ("fractions", "textwrap", "json")}
    assert list(documentation.split_documents(few)[1]) == ["fractions"]
    assert 0.02 < sum(map(len, held_out.values())) / sum(map(len, texts.values())) < 0.08
    learned = {part for text in train.values() for part in text.split("\n\n") if part.count(" ") > 20}
    known = [part for text in held_out.values() for part in text.split("\n\n") if part in learned]
    assert len(known) <= 3  # of several hundred
    with refuses(ValueError, "expected enough documents that some are held out, got 1: json"):
        documentation.split_documents({"json": texts["json"]})


@pytest.mark.parametrize("text", ["def f(x):\n    return x\n", "中文 naïve 🐍 \x00\t\r\n", "", "  "])
def test_every_text_comes_back(texts, text):
    tokenizer = documentation.train_tokenizer([texts["textwrap"], texts["json"]], 500)
    assert tokenizer.get_vocab_size() == 500
    ids = tokenizer.encode(text).ids
    assert tokenizer.decode(ids) == text and max(ids, default=0) < 500
    row = documentation.encode(tokenizer, [text, "a"])
    assert row.dtype == np.int64 and row[len(ids)] == row[-1] == tokenizer.token_to_id(documentation.END) == 0
    again = documentation.train_tokenizer([texts["textwrap"], texts["json"]], 500)
    assert again.to_str() == tokenizer.to_str()


def test_texts_of_your_own(tmp_path):
    file = tmp_path / "mine.txt"
    file.write_text("\n\n".join(f"paragraph {i} " + "x" * 900 for i in range(9)))
    pieces = documentation.documents(file)
    assert list(pieces) == [f"mine.txt/{i:05}" for i in range(3)]
    assert "\n\n".join(pieces.values()) == file.read_text()
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "b.md").write_text("b\n")
    (tmp_path / "c.py").write_text("no text")
    assert list(documentation.documents(tmp_path)) == ["mine.txt", "more/b.md"]
    (tmp_path / "empty").mkdir()
    with refuses(ValueError, "no text in"):
        documentation.documents(tmp_path / "empty")
    with pytest.raises(FileNotFoundError):
        documentation.documents(tmp_path / "nothing.txt")


def test_the_model_that_comes_with_the_package():
    """Both frameworks give the perplexity that its run ended with, whatever version of Python reads it."""
    run = json.loads((Path(__file__).parents[2] / "book" / "appendices" / "training_torch.json").read_text())
    tokenizer = documentation.tokenizer()
    ids = tokenizer.encode(documentation.held_out()).ids
    assert len(ids) == run["tokens"]["held_out"] and ids[-1] == tokenizer.token_to_id(documentation.END)
    assert sum(path.stat().st_size for path in documentation.folder().iterdir()) < 20_000_000
    found = {}
    for name in FRAMEWORKS:
        pytest.importorskip(name)
        model = load(name).load_checkpoint(documentation.folder())
        assert model.config == documentation.model_config()
        found[name] = load(name).perplexity(model, ids[:1000], 256, 255)
    assert found["torch"] == pytest.approx(found["tensorflow"], rel=1e-4)
    whole = load("torch").perplexity(load("torch").load_checkpoint(documentation.folder()), ids, 256, 255)
    assert whole == pytest.approx(run["perplexity"][-1][1], rel=1e-3)  # of weights that are rounded to float16
