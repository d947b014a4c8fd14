"""Summaries of docstrings: what is held out, the central sentence, what a chat model is asked, and the small model."""

import numpy as np
import pytest

from tests.support import FRAMEWORKS, load, refuses
from tfguide.tasks import documentation, summarisation
from tfguide.tasks.docstrings import Docstring, Summary, is_held_out, sentences, summaries


@pytest.fixture(scope="module")
def found():
    bodies = [
        f"The part number {i} of it is read. Then it is closed, and more words follow here to the end of it."
        for i in range(40)
    ]
    return summaries(
        [Docstring("m", f"f{i}", f"Read the part {i}.\n\n{body}", "files") for i, body in enumerate(bodies)]
    )


def test_the_two_parts_share_no_text(found):
    learned, held_out = summarisation.parts(found)
    assert len(learned) + len(held_out) == len(found) == 40 and min(len(learned), len(held_out)) > 1
    assert all(is_held_out(one.text) for one in held_out) and not any(is_held_out(one.text) for one in learned)


def test_a_smaller_sample_begins_a_larger_one(found):
    few, more = (summarisation.sample(found, n) for n in (3, 11))
    assert few == more[:3] and len(set(more)) == 11 and more != found[:11]
    assert summarisation.sample(found, 100)[:11] == more
    with refuses(ValueError, "n must be at least 1"):
        summarisation.sample(found, 0)


def test_the_central_sentence_is_the_nearest_to_the_whole():
    draws = np.random.default_rng(0)
    vectors = draws.normal(size=(7, 5))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    for i in range(7):
        assert summarisation.central_sentence(vectors, vectors[i]) == i
    distances = np.linalg.norm(vectors - (whole := vectors.mean(axis=0)), axis=1)
    assert summarisation.central_sentence(vectors, whole) == int(np.argmin(distances))
    with refuses(ValueError, "at least one row, got the shape (0, 5)"):
        summarisation.central_sentence(np.zeros((0, 5)), whole)


def test_a_sentence_is_taken_as_it_stands():
    def embed(texts):  # the direction is the share of full stops
        angles = np.array([text.count(".") / len(text) for text in texts]) * 10
        return np.stack([np.cos(angles), np.sin(angles)], axis=1)

    text = "Go. Return the value of it. Raise an error if there is none, and say what was expected."
    assert summarisation.extract(text, embed) == sentences(text)[1]
    assert summarisation.extract("One sentence only.", embed) == "One sentence only."


def test_what_a_chat_model_is_asked():
    asked = summarisation.messages("A text.")
    assert [one["role"] for one in asked] == ["user", "assistant"] * 2 + ["user"]
    assert asked[1]["content"] == summarisation.EXAMPLES[0].summary
    assert summarisation.messages("A text.", ()) == [{"role": "user", "content": summarisation.REQUEST + "A text."}]
    assert summarisation.first_sentence(" It reads\na file. It also writes.") == "It reads a file."
    assert summarisation.first_sentence(" ") == ""


def test_what_is_learned_leaves_out_what_is_held_out(monkeypatch):
    text = next(f"Text {i} is read here." for i in range(99) if is_held_out(f"Text {i} is read here."))
    other = next(f"Text {i} is read." for i in range(99) if not is_held_out(f"Text {i} is read."))
    docs = [
        f"Held out.\n\n{text}",
        f"Learn it.\n\n{other}\n\n>>> 1",
        f"Learn it. {other}",
        "No rest.",
        f"Known one.\n\n{other}",
        "",
    ]
    monkeypatch.setattr(summarisation, "everywhere", lambda: (("m", "f", one) for one in docs))
    monkeypatch.setattr(summarisation, "summaries", lambda: [Summary(text, "Known one.")])
    assert summarisation.training_pairs() == [Summary(other, "Learn it.")]


def test_pairs_as_tokens():
    pytest.importorskip("tokenizers")
    tokenizer = documentation.train_tokenizer(["Read the file and close it."], 300)
    long = Summary("word " * 300, "Read it.")
    ((source, target),) = summarisation.token_pairs(tokenizer, [long])
    assert len(source) == summarisation.SOURCE_TOKENS and target[0] == target[-1] == 0
    assert tokenizer.decode(target) == "Read it."


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_the_trained_model_writes_the_same_in_both_frameworks(name):
    package = load(name)
    pytest.importorskip("tokenizers")
    model, tokenizer = package.load_checkpoint(summarisation.folder()), summarisation.tokenizer()
    assert model.config == summarisation.model_config(tokenizer.get_vocab_size())
    text = "The file is opened for reading. An OSError is raised if it does not exist."
    tokens = package.generate(model, [tokenizer.encode(text).ids], max_new_tokens=20)[0]
    assert tokens[-1] == model.config.eos_token_id
    assert tokenizer.decode(tokens) == "Return a file from the file."
