"""The text of an answer: its pieces are the text of all tokens, cut at a stop string; nothing is lost or leaks."""

import numpy as np
import pytest

from tests.text.test_stops import cut
from tests.text.test_streams import KINDS, TEXT
from tfguide.serving import Finish, Request, Sequence, Update
from tfguide.serving.answer import Answer
from tfguide.text import pieces

STOPS = [(), ("世界",), ("größe",), ("🎉e", "the"), ("nowhere", "국어 👩", "한"), ("\ufffd ▁ 世界!", "好", "quickly")]


def read(tokenizer, prompt, tokens, stop, finish=Finish.LENGTH):
    """An answer after all updates, the pieces that it gave, and how many updates it took until the end."""
    request = Request(prompt=prompt, max_new_tokens=len(tokens))
    sequence = Sequence(request, 0, len(tokens), frozenset())
    answer, found, n = Answer(tokenizer, sequence, stop), [], None
    for i, token in enumerate(tokens):
        sequence.tokens.append(token)
        sequence.finish = finish if i == len(tokens) - 1 else None
        piece = answer.take(Update(sequence, token, None, sequence.finish))
        if piece is None:
            continue
        found.append(piece)
        if piece.finish is not None:
            n = i + 1
            assert answer.is_cut is (sequence.finish is None)
    return answer, found, n


@pytest.mark.parametrize("stop", STOPS, ids=repr)
@pytest.mark.parametrize("kind", KINDS)
def test_pieces_joined_are_the_text_cut_at_the_stop(kind, stop):
    tokenizer = KINDS[kind]
    tokens = tokenizer.encode(TEXT).ids
    if len(tokens) < 20:  # such a tokenizer spells no other text than its words
        tokens = np.random.default_rng(3).integers(0, tokenizer.get_vocab_size(), 60).tolist()
    prompt, new = tokens[:2], tokens[2:]
    whole, found_stop = cut("".join(pieces(tokenizer, prompt, new)), stop)
    answer, found, n = read(tokenizer, prompt, new, stop)
    assert "".join(piece.text for piece in found) == answer.text == whole
    assert answer.found == found_stop
    assert answer.finish is (Finish.STOP if found_stop else Finish.LENGTH)
    assert answer.n_tokens == n == len(found)
    assert [piece.finish for piece in found[:-1]] == [None] * (n - 1)


def test_the_end_of_a_sequence_is_the_reason_that_is_given():
    tokenizer = KINDS["byte_level"]
    tokens = tokenizer.encode("the quick").ids
    for finish in (Finish.STOP, Finish.LENGTH, Finish.ABORT, Finish.ERROR):
        assert read(tokenizer, tokens[:1], tokens[1:], ("x",), finish)[0].finish is finish


def test_what_was_held_back_comes_at_the_end_and_an_end_may_come_without_a_token():
    tokenizer = KINDS["byte_level"]
    tokens = tokenizer.encode("the END").ids
    sequence = Sequence(Request(prompt=[tokens[0]]), 0, 9, frozenset())
    answer = Answer(tokenizer, sequence, ("ENDING",))
    shown = [answer.take(Update(sequence, token)).text for token in tokens[1:]]
    assert "E" not in "".join(shown)
    sequence.finish = Finish.ABORT
    last = answer.take(Update(sequence, None, None, Finish.ABORT))
    assert "".join(shown) + last.text == answer.text == tokenizer.decode(tokens)[len(tokenizer.decode(tokens[:1])) :]
    assert answer.n_tokens == len(tokens) - 1 and answer.take(Update(sequence, None, None, Finish.ABORT)) is None


def test_half_a_character_is_not_shown_before_its_end():
    tokenizer = KINDS["byte_level"]
    tokens = tokenizer.encode("🎊").ids
    assert len(tokens) > 1
    _, found, _ = read(tokenizer, tokenizer.encode("a").ids, tokens, ())
    assert [piece.text for piece in found] == [""] * (len(tokens) - 1) + ["🎊"]
