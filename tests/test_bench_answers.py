"""`python -m tfguide.bench.answers` and `.answer_variants` on toy texts: the rows, and that they say what was found."""

import numpy as np
import pytest

from tests.support import FRAMEWORKS, load, random_weights, small_config
from tests.tasks.test_answering import CONFIG, Letters, Template
from tfguide.bench import answer_variants, answers
from tfguide.tasks.answering import Reader
from tfguide.tasks.asking import Search
from tfguide.tasks.questions import Passage, Question

AMONG = [
    Passage("loops", "Loops\n\nThe break statement leaves a loop. It is short.", "Loops"),
    Passage("lists", "Lists\n\nA list is sorted in place. It is stable.", "Lists"),
    Passage("names", "Names\n\nA name is bound by assignment.", "Names"),
]
ASKED = [Question("How do I leave a loop?", ("leaves a loop",)), Question("Is a list stable?", ("It is stable",))]


def encode(texts):
    """Vectors of letters, of length 1."""
    bags = np.array([[text.lower().count(chr(97 + k)) + 0.01 for k in range(26)] for text in texts])
    return bags / np.linalg.norm(bags, axis=1, keepdims=True)


class Likes:
    """A reader that finds a question likely where the page has its last word."""

    def __init__(self):
        self.read = 0

    def likelihood(self, page, question):
        self.read += 1
        return -1.0 if question.split()[-1].rstrip("?") in page else -3.0

    def forget(self):
        pass


def test_every_way_to_find_has_a_row():
    reader = Likes()
    found = answers.measure_finding(
        encode, lambda n: AMONG, ASKED, reader, {"far": ["xyzzy"], "near": ["a loop in Rust"]}, (5, 9), (2, 3)
    )
    rows = found["rows"]
    assert [row["name"] for row in rows][:2] == ["vectors, 5 words", "vectors, 9 words"]
    assert [row["pages"] for row in rows] == [1] * (len(rows) - 2) + [2, 3]
    assert rows[-1]["source"] == 2 and rows[-1]["mrr"] == 1 and rows[-1]["recall"]["1"] == 1
    assert reader.read == 6  # three pages for each question, each once
    assert [row["least"] for row in found["thresholds"]] == list(answers.THRESHOLDS)
    refused = [row["refused"] for row in found["thresholds"]]
    assert refused == sorted(refused) and {"far", "near"} <= set(found["thresholds"][0])
    assert found["sentences"]["chosen"] >= 0.5 and found["sentences"]["first"] == 0.5


def test_what_is_not_read_stays_behind():
    scores = np.array([[3.0, 2.0, 1.0]])
    likely = np.array([[-5.0, -1.0, np.nan]])
    assert np.argsort(-answers.reranked(scores, likely, 2)).tolist() == [[1, 0, 2]]
    assert np.argsort(-answers.reranked(scores, likely, 1)).tolist() == [[0, 1, 2]]


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_what_is_kept_is_timed(name):
    reader = Reader(load(name).from_weights(CONFIG, random_weights(CONFIG)), Letters(), Template(), 3)
    [row] = answers.measure_kept(reader, [("a page " * 20, "Why?")], 2, framework=name)
    assert row["framework"] == name and row["page_tokens"] > row["question_tokens"] > 0
    assert set(row["seconds"]) == {"anew", "kept"} and row["bytes"] == reader.nbytes > 0 and row["ratio"] > 0


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_variants_of_the_encoder(name, monkeypatch):
    config = small_config("encoder", d_model=32, n_heads=4, d_head=8, d_ff=64, vocab_size=64, max_positions=128)
    tokens = {one.text: np.array([ord(letter) % 64 for letter in one.text]) for one in (*ASKED, *AMONG)}

    def batch(texts):
        rows = [tokens[text] for text in texts]
        longest = max(map(len, rows))
        padded = np.array([[*row, *[0] * (longest - len(row))] for row in rows])
        return padded, np.arange(longest) < np.array([[len(row)] for row in rows])

    monkeypatch.setattr("tfguide.tasks.retrieval.minilm.batch", batch)
    vectors = np.random.default_rng(0).standard_normal((3, 32)).astype(np.float32)
    rows = answer_variants.measure_retrieval(
        name, config, random_weights(config), vectors, AMONG, ASKED, timed=1, repeats=1
    )
    assert [row["variant"] for row in rows] == ["float32", "int8", "int4", "pruned"]
    assert all(0 < row["scores"]["MRR"] <= 1 and row["framework"] == name for row in rows)
    assert rows[0]["n_bytes"] == rows[3]["n_bytes"] > rows[1]["n_bytes"] > rows[2]["n_bytes"]


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_variants_of_the_decoder(name):
    config = CONFIG.replace(d_ff=64)  # groups of 32 inputs have 4 bits
    weights = random_weights(config)
    reader = Reader(load(name).from_weights(config, weights), Letters(), Template())
    rows = answer_variants.measure_answers(
        name, config, weights, reader, AMONG, ASKED, max_new_tokens=7, timed=1, repeats=1
    )
    by = {row["variant"]: row for row in rows}
    assert list(by) == ["float32", "int8", "int4", "pruned", "speculative"]
    assert by["speculative"]["scores"] == by["float32"]["scores"] and set(rows[0]["scores"]) == {"quotation", "F1"}


def test_scores_of_words():
    scores = answer_variants.word_scores("It leaves loops.", ASKED[0], AMONG[0])
    assert scores["quotation"] == 1.0
    assert scores["F1"] == pytest.approx(2 * 1 * (2 / 4) / (1 + 2 / 4))  # break statement leav loop
    assert answer_variants.word_scores("", ASKED[0], AMONG[0]) == {"quotation": 0, "F1": 0}


def test_examples_say_whether_the_source_is_right(monkeypatch):
    monkeypatch.setattr("tfguide.tasks.asking.embed", lambda encode, texts: encode(texts))
    search = Search(encode, AMONG, encode([one.text for one in AMONG]), least=0.0)
    reader = Reader(load("torch").from_weights(CONFIG, random_weights(CONFIG)), Letters(), Template(), 3)
    [one] = answers.collect_examples(search, reader, ASKED[:1])
    assert one["question"] == ASKED[0].text and one["right"] == (one["source"] == "loops") and one["sentence"]
