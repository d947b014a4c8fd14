"""The translator of chapter 7: how it is asked, what it is compared with, and that its folder is what the book says."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tfguide
from tests.support import FRAMEWORKS, load, refuses
from tfguide.tasks import translator
from tfguide.tasks.own import exact_match
from tfguide.tasks.translation import UNSEEN, Pair, Vocabulary, group_of, pairs

PAIRS = pairs(400)
WORDS = Vocabulary.of([*PAIRS, *translator.held_out(200)])
LETTERS = st.text("abc", max_size=6)


def distance(one, other):
    """The edit distance by its definition."""
    if not one or not other:
        return len(one) + len(other)
    same = distance(one[1:], other[1:])
    return same if one[0] == other[0] else 1 + min(same, distance(one[1:], other), distance(one, other[1:]))


@given(LETTERS, st.lists(LETTERS, min_size=1, max_size=4))
def test_edit_distances(text, others):
    assert translator.edit_distances(text, others).tolist() == [distance(text, other) for other in others]


def test_the_nearest_known_source_gives_its_translation():
    known = [Pair("三百", "three hundred"), Pair("三十", "thirty"), Pair("五月", "May")]
    assert translator.nearest_translations(["三百零五", "三十", "四月"], known) == ["three hundred", "thirty", "May"]


def test_half_of_what_is_held_out_are_numbers_and_close_to_half_has_an_unseen_length():
    wanted = translator.held_out(400)
    kinds = [pair.kind for pair in wanted]
    assert kinds.count("number") == 200 and kinds.count("time") == 50
    assert 150 <= [group_of(pair) for pair in wanted].count(UNSEEN) <= 200
    assert {pair.source for pair in wanted}.isdisjoint(pair.source for pair in PAIRS)


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_texts_are_translated_greedily_or_by_beams(name):
    package, config = load(name), translator.draft_config(len(WORDS))
    model = package.from_weights(config, tfguide.init_weights(config))
    texts = [pair.source for pair in PAIRS[:3]]
    found = translator.translate(model, WORDS, texts, longest=5)
    rows = package.generate(model, [WORDS.source(text) for text in texts], 5)
    assert found == [WORDS.text(row) for row in rows]
    best = package.beam_search(model, [WORDS.source(texts[0])], 3, 5)[0][0].tokens
    assert translator.translate(model, WORDS, texts[:1], n_beams=3, longest=5) == [WORDS.text(best)]
    assert translator.score(model, WORDS, PAIRS[:3], 5) == exact_match(found, [pair.target for pair in PAIRS[:3]])


def test_pairs_of_your_own_are_divided_by_their_sources():
    learned, held_out = translator.split_pairs(PAIRS + translator.held_out(50))
    assert len(learned) + len(held_out) == 450 and 0 < len(held_out) < 60
    with refuses(ValueError, "expected enough pairs that some are held out, got 1"):
        translator.split_pairs(PAIRS[:1])


def test_a_vocabulary_comes_back_from_its_file(tmp_path):
    (tmp_path / "vocabulary.json").write_text(WORDS.to_json(), encoding="utf-8")
    assert Vocabulary.read(tmp_path / "vocabulary.json").pieces == WORDS.pieces


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_the_models_of_the_book_translate_sources_of_a_length_that_they_have_never_seen(name):
    words, package = translator.vocabulary(), load(name)
    model, draft = (package.load_checkpoint(folder) for folder in (translator.folder(), translator.draft_folder()))
    assert model.config == translator.model_config(len(words)) and draft.config == translator.draft_config(len(words))
    wanted = translator.held_out(60)
    assert translator.score(model, words, wanted) >= 0.95
    assert translator.score(model, words, [pair for pair in wanted if group_of(pair) == UNSEEN]) >= 0.95
    assert sum(array.size for array in model.to_weights().values()) < 1_100_000
    assert all(np.isfinite(array).all() for array in model.to_weights().values())
