"""Streamed text: its pieces join to the text that the tokenizer makes of all tokens at once."""

from itertools import chain, takewhile

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tfguide.text import pieces

tokenizers = pytest.importorskip("tokenizers")
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers  # noqa: E402

CORPUS = ["the quick brown fox, 你好世界 größe naïve 🎉 don't the the ▁ "] * 3
SPECIAL = ["<s>", "</s>"]


def byte_level():
    """GPT-2's kind: every token is bytes."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def byte_fallback():
    """Llama 2's kind: words, and single bytes where there is no word. 好, 🎉 and most characters are bytes."""
    words = ["<unk>", *SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256))]
    words += ["▁", "▁▁", "▁the", "the", "a", "▁a", "e", ".", "你", "\ufffd", "<0x4>", "<0xZZ>"]
    tokenizer = Tokenizer(models.BPE({word: i for i, word in enumerate(words)}, [], unk_token="<unk>"))
    tokenizer.add_special_tokens(["<unk>", *SPECIAL])
    strip = [decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), *strip])
    return tokenizer


def sentence_pieces():
    """T5's kind: words that bring their space, and tokens that look like bytes but are spelled as they are."""
    words = ["<unk>", *SPECIAL, "▁", "▁the", "the", "▁quick", "你", "好", ",", "<0x41>", "\ufffd"]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.add_special_tokens(["<unk>", *SPECIAL])
    tokenizer.decoder = decoders.Metaspace()
    return tokenizer


def word_piece():
    """BERT's kind: a space before every word that is not the rest of one."""
    words = ["[UNK]", *SPECIAL, "the", "quick", "##ly", "n't", ".", ",", "do", "not", "'", "##s", "你", "##好"]
    tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


KINDS = {f.__name__: f() for f in (byte_level, byte_fallback, sentence_pieces, word_piece)}
TEXT = "你好 🎉e\u0301 größe — 한국어 👩‍👩‍👧‍👦 a\u0308\u0323 \ufffd ▁ 世界"


class Watched:
    """A tokenizer that remembers how many tokens it decoded at once."""

    def __init__(self, tokenizer):
        self.tokenizer, self.longest = tokenizer, 0

    def decode(self, tokens):
        self.longest = max(self.longest, len(tokens))
        return self.tokenizer.decode(tokens)

    def __getattr__(self, name):
        return getattr(self.tokenizer, name)


def check(tokenizer, prompt, tokens):
    """Joined pieces are what decoding everything adds, and few tokens are decoded at a time."""
    prompt, tokens, watched = list(prompt), list(tokens), Watched(tokenizer)
    got = list(pieces(watched, prompt, iter(tokens)))
    whole = tokenizer.decode(prompt + tokens)
    before = tokenizer.decode(prompt)
    common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(before, whole, strict=False)))
    assert "".join(got) == whole[common:]
    assert "" not in got and watched.longest <= 64
    return got


def spelled(text):
    """A text as the bytes of the tokenizer with fallback, whatever words it has."""
    return [3 + byte for byte in text.encode()]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_tokens_after_any_prompt(kind, data):
    """Also special ones, ones that the tokenizer has not, and bytes that are no characters."""
    tokens = st.lists(st.integers(0, KINDS[kind].get_vocab_size() + 3), max_size=90)
    check(KINDS[kind], data.draw(tokens), data.draw(tokens))


@pytest.mark.parametrize("kind", ["byte_level", "byte_fallback"])
@settings(max_examples=150, deadline=None)
@given(text=st.text(max_size=60), cut=st.integers(0, 200))
@example(text=TEXT, cut=0)
@example(text="好" * 50, cut=0)
@example(text="好" * 50, cut=3 * 48)  # a prompt that ends in a long run
@example(text="好" * 50, cut=3 * 48 + 1)  # within a character
def test_any_text_divided_anywhere(kind, text, cut):
    tokenizer = KINDS[kind]
    ids = tokenizer.encode(text).ids if kind == "byte_level" else spelled(text)
    got = check(tokenizer, ids[:cut], ids[cut:])
    if cut == 0:
        assert "".join(got) == (text.removeprefix(" ") if kind == "byte_fallback" else text)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(st.text("好🎉éa", min_size=1).map(spelled), st.lists(st.integers(0, 270), max_size=4))))
def test_runs_of_right_and_wrong_bytes_between_words(parts):
    tokens = list(chain(*parts))
    for cut in {0, len(tokens) // 3, len(tokens) // 2}:
        check(KINDS["byte_fallback"], tokens[:cut], tokens[cut:])


@pytest.mark.parametrize("kind", ["byte_level", "byte_fallback"])
def test_every_split_of_one_text(kind):
    tokenizer = KINDS[kind]
    ids = tokenizer.encode(TEXT).ids if kind == "byte_level" else [*spelled(TEXT[:9]), 267, *spelled(TEXT[9:])]
    for cut in range(len(ids) + 1):
        check(tokenizer, ids[:cut], ids[cut:])
        check(tokenizer, [], ids[:cut])


def test_a_character_comes_when_its_last_byte_is_there():
    tokenizer = KINDS["byte_level"]
    ids = tokenizer.encode("x好🎉y").ids
    taken = []

    def watched():
        for token in ids:
            taken.append(token)
            yield token

    shown = ""
    for piece in pieces(tokenizer, [], watched()):
        shown += piece
        assert shown == tokenizer.decode(taken).rstrip("\ufffd")
    assert shown == "x好🎉y"


def test_a_run_comes_with_the_word_that_ends_it():
    tokenizer, taken = KINDS["byte_fallback"], []

    def watched():
        for token in [*spelled("好好"), tokenizer.token_to_id("a"), *spelled("好")]:
            taken.append(token)
            yield token

    seen = [(piece, len(taken)) for piece in pieces(tokenizer, [], watched())]
    assert seen == [("好好a", 7), ("好", 10)]


def test_a_wrong_byte_spoils_its_run_as_in_the_tokenizer():
    ids = [*spelled("好"), 3 + 0xFF, *spelled("好"), KINDS["byte_fallback"].token_to_id("a"), *spelled("好")]
    assert "".join(check(KINDS["byte_fallback"], [], ids)) == "\ufffd" * 7 + "a好"


@pytest.mark.parametrize("kind", KINDS)
def test_a_long_text_is_not_spelled_again_for_every_token(kind):
    size = KINDS[kind].get_vocab_size()
    check(KINDS[kind], [], [(7 * i * i + i) % size for i in range(1000)])
    for token in range(0, size, max(1, size // 40)):  # and one token again and again
        check(KINDS[kind], [], [token] * 100)


def test_nothing_comes_of_nothing():
    for tokenizer in KINDS.values():
        assert list(pieces(tokenizer, [], iter([]))) == list(pieces(tokenizer, [5, 6], iter([]))) == []


@pytest.mark.parametrize("kind", KINDS)
def test_numpys_integers_are_tokens(kind):
    tokens = [i % KINDS[kind].get_vocab_size() for i in range(300)]
    want = list(pieces(KINDS[kind], tokens[:3], tokens[3:]))
    assert list(pieces(KINDS[kind], np.array(tokens[:3]), np.array(tokens[3:], np.int32))) == want
