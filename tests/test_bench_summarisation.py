"""The summarisers of the benchmark on toy models, and the files that it writes."""

import json

import pytest

import tfguide
from tests.support import FRAMEWORKS, load, random_weights, refuses, small_config
from tfguide.bench import summarisation
from tfguide.bench.applications import Variant
from tfguide.generation import PromptLookup
from tfguide.tasks import documentation, smollm
from tfguide.tasks.docstrings import Summary

pytest.importorskip("rouge_score", reason="the tasks extra is not installed")

KNOWN = [
    Summary("The file is read and closed.", "Read a file."),
    Summary("A socket is bound to a port.", "Bind a socket."),
]
TEXTS = [Summary("One file is read. It is large.", "Read it."), Summary("The port of the socket.", "Say the port.")]


def test_the_baselines():
    found = summarisation.baselines([one.text for one in TEXTS], KNOWN)
    assert found["first sentence"] == ["One file is read.", "The port of the socket."]
    assert found["summary of the nearest text"] == ["Read a file.", "Bind a socket."]
    assert all(answer in one.text for answer, one in zip(found["random sentence"], TEXTS, strict=True))


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_small_model_writes_each_text_as_it_would_alone(name):
    pytest.importorskip("tokenizers")
    package = load(name)
    tokenizer = documentation.train_tokenizer([one.text for one in TEXTS], 300)
    config = small_config("encoder-decoder", vocab_size=300, positions="relative", norm="rms", max_positions=None)
    model = package.from_weights(config, random_weights(config))
    answer = summarisation.writing(model, tokenizer, n_new=6)
    texts = [one.text for one in TEXTS]
    assert answer(texts) == [answer([text])[0] for text in texts]


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_draft_does_not_change_what_a_chat_model_says(name):
    if not smollm.is_installed():
        pytest.skip("SmolLM2 is not installed")
    package = load(name)
    config = tfguide.ModelConfig(kind="decoder", d_model=16, n_layers=1, n_heads=2, d_ff=24, vocab_size=49152)
    model = package.from_weights(config, tfguide.init_weights(config))
    answers = [summarisation.asking(model, (), draft, 5)([TEXTS[0].text]) for draft in (None, PromptLookup())]
    assert answers[0] == answers[1] and isinstance(answers[0][0], str)


def test_the_files(tmp_path):
    def first_word(texts):
        return [text.split()[0] for text in texts]

    methods = {"first word": lambda framework: first_word, "all": lambda framework: list}
    file = tmp_path / "answers.json"
    for framework in FRAMEWORKS:
        summarisation.write_answers(file, {"cores": 2}, [framework], TEXTS, KNOWN, methods)
    found = json.loads(file.read_text())
    assert found["methods"]["first word"]["torch"]["answers"] == ["One", "The"] and len(found["texts"]) == 2
    assert found["methods"]["all"]["tensorflow"]["scores"]["rouge1"] > 0.3
    assert set(found["methods"]["first sentence"]) == {"none"}
    with refuses(ValueError, "has the answers to other texts"):
        summarisation.write_answers(file, {"cores": 2}, FRAMEWORKS, TEXTS[:1], KNOWN, methods)

    rows = tmp_path / "rows.json"
    variants = [Variant("float32", list, 8), Variant("int8", first_word, 2)]
    for framework in (*FRAMEWORKS, "torch"):  # again: its rows are replaced
        summarisation.write_rows(rows, {"cores": 2}, framework, TEXTS, 1, 1, lambda _: variants)
    found = json.loads(rows.read_text())["rows"]
    assert [(row["framework"], row["variant"]) for row in found] == [
        ("tensorflow", "float32"), ("tensorflow", "int8"), ("torch", "float32"), ("torch", "int8"),
    ]  # fmt: skip
    assert list(found[0]["scores"]) == ["ROUGE-1", "ROUGE-2", "ROUGE-L"]
