"""A reader keeps the keys and values of a page: the answers are the same tokens, in both frameworks and in none."""

import numpy as np
import pytest

import tfguide
from tests.support import FRAMEWORKS, load, random_weights, refuses
from tfguide import native
from tfguide.checkpoints import write_checkpoint
from tfguide.generation import generate
from tfguide.tasks import answering
from tfguide.tasks.answering import Reader, errors_of_threshold, split_sentences
from tfguide.tasks.asking import Search, best_sentence, rerank
from tfguide.tasks.questions import Passage, passages
from tfguide.tasks.retrieval import Found

CONFIG = tfguide.ModelConfig(
    kind="decoder", d_model=32, n_layers=2, n_heads=4, n_kv_heads=2, d_ff=48, vocab_size=128, max_positions=512,
    norm="rms", positions="rotary", activation="swiglu", qkv_bias=False, output_bias=False, ffn_bias=False,
    eos_token_id=0,
)  # fmt: skip
PAGE, OTHER = "A loop ends by break.", "Lists are sorted in place."


class Letters:
    """A tokenizer whose tokens are the letters of ASCII."""

    class Encoding:
        def __init__(self, text):
            self.ids = [min(ord(letter), 127) for letter in text]

    def encode(self, text, add_special_tokens=True):
        return self.Encoding(text)

    def decode(self, tokens):
        return "".join(map(chr, tokens))

    def get_added_tokens_decoder(self):
        return {}

    def id_to_token(self, token):
        return chr(token)

    def token_to_id(self, token):
        return None


class Template:
    def render(self, messages):
        return f"<{messages[0]['content']}>"


@pytest.fixture(params=["none", *FRAMEWORKS])
def model(request, tmp_path):
    weights = random_weights(CONFIG)
    if request.param != "none":
        return load(request.param).from_weights(CONFIG, weights)
    if not native.is_available():
        pytest.skip("no compiler for the kernels")
    write_checkpoint(tmp_path, CONFIG, tfguide.init_weights(CONFIG))
    return native.load(tmp_path)


def text_of(reader, page, question):
    return "".join(reader.answer(page, question))


def test_what_is_kept_changes_no_token(model):
    reader = Reader(model, Letters(), Template(), max_new_tokens=11)
    before, asked, after = reader.prompt(PAGE, "How?")
    [wanted] = generate(model, [before + asked + after], 11)
    said = text_of(reader, PAGE, "How?")
    assert said == "".join(chr(token) for token in wanted if token) and reader.n_kept == 0
    assert reader.last.n_prompt == len(before + asked + after)
    text_of(reader, PAGE, "When does it end?")
    text_of(reader, OTHER, "How?")
    assert text_of(reader, PAGE, "How?") == said
    assert reader.n_kept == len(before) and reader.last.n_prompt == len(asked + after)


def test_a_likelihood_is_that_of_the_whole_text_and_leaves_the_page_as_it_was(model):
    reader = Reader(model, Letters(), Template(), max_new_tokens=5)
    before, asked, _ = reader.prompt(PAGE, "How long?")
    logits = np.asarray(model.score([before + asked]), np.float64)[0, len(before) - 1 : -1]
    logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
    wanted = logits[np.arange(len(asked)), asked].mean()
    assert reader.likelihood(PAGE, "How long?") == pytest.approx(wanted, abs=1e-4)
    fresh = Reader(model, Letters(), Template(), max_new_tokens=5)
    assert text_of(reader, PAGE, "How?") == text_of(fresh, PAGE, "How?")
    assert reader.likelihood(PAGE, "") == pytest.approx(reader.likelihood(PAGE, ""))  # one token: nothing is scored


def test_the_oldest_page_is_forgotten(model):
    reader = Reader(model, Letters(), Template(), most_pages=2)
    one = [reader.likelihood(page, "x") and reader.nbytes for page in ("a", "b")]
    assert one[1] == 2 * one[0]
    reader.likelihood("a", "x")  # now b is the oldest
    reader.likelihood("c", "x")
    assert reader.nbytes == one[1]
    text_of(reader, "a", "x")
    assert reader.n_kept
    text_of(reader, "b", "x")
    assert not reader.n_kept
    reader.forget()
    assert reader.nbytes == 0


def test_a_question_that_is_too_long_is_refused():
    model = load("torch").from_weights(CONFIG, random_weights(CONFIG))
    reader = Reader(model, Letters(), Template())
    room = answering.ROOM - len(reader.prompt(PAGE, "")[2])
    with refuses(ValueError, f"a question may have {room} tokens, this one has {room + 1}"):
        reader.answer(PAGE, "x" * room)
    with refuses(ValueError, "a reader needs a model of kind 'decoder', got 'encoder'"):
        Reader(load("torch").from_weights(*_encoder()), Letters(), Template())


def _encoder():
    config = CONFIG.replace(kind="encoder")
    return config, tfguide.init_weights(config)


def test_sentences_of_a_passage_are_lines():
    assert split_sentences("One is\nhere. Two is there.\n\n  >>> code\n  1") == [
        "One is here.", "Two is there.", ">>> code 1",
    ]  # fmt: skip


def test_errors_of_a_threshold():
    assert errors_of_threshold(0.5, [0.4, 0.5, 0.9, 0.8], [0.1, 0.5]) == (0.25, 0.5)


def test_reading_may_change_the_order():
    found = [Found(Passage("a", "a"), 0.9, 1.0), Found(Passage("b", "b"), 0.8, 0.9)]
    assert [one.passage.source for one in rerank(found, [-3.0, -2.0])] == ["b", "a"]
    assert [one.passage.source for one in rerank(found, [-3.0, -2.0], 0.01)] == ["a", "b"]


def test_the_best_sentence_shares_meaning_and_words():
    vectors = np.array([[1.0, 0], [0.8, 0.6]])
    assert best_sentence("x", np.array([1.0, 0]), ["no word", "no word"], vectors) == 0
    assert best_sentence("break a loop", np.array([1.0, 0]), ["no word", "a loop and break"], vectors) == 1


class Counting:
    """A reader that likes one page, and counts what it reads."""

    def __init__(self):
        self.read = []

    def likelihood(self, page, question):
        self.read.append(page)
        return -1.0 if "sorted" in page else -9.0


@pytest.fixture
def search(monkeypatch):
    """Two passages whose vectors are those of their first letters, by an encoder of texts."""

    def embed(encode, texts):
        return np.array([[text.startswith("A"), not text.startswith("A")] for text in texts], np.float32)

    monkeypatch.setattr("tfguide.tasks.asking.embed", embed)
    among = passages({"loops": "Loops\n*****\n\n" + PAGE, "lists": OTHER})
    return Search(None, among, embed(None, [PAGE, OTHER]))


def test_a_search_names_the_passage_and_quotes_a_sentence(search):
    found = search.look_up("A loop?")
    assert found.fits and found.passage.source == "loops" and found.passage.heading == "Loops"
    assert found.sentence == PAGE
    reader = Counting()
    found = search.look_up("A loop?", reader, n=2)
    assert found.passage.source == "lists" and sorted(reader.read) == sorted(one.text for one in search.index.passages)
    assert search.look_up("A loop?", reader, n=1).passage.source == "loops" and len(reader.read) == 2


def test_nothing_is_read_where_nothing_fits(search):
    search.least = 9.0
    reader = Counting()
    found = search.look_up("A loop?", reader)
    assert not found.fits and not found.sentence and not reader.read
