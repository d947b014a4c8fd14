"""Sentences with semantic roles: whole spans, verbs that are held out, the scores."""

import pytest

from tests.support import refuses
from tfguide.tasks import roles
from tfguide.tasks.roles import Sentence, by_position, read_sentences, sentences, span_f1

SOME = sentences(3000)
OTHERS = sentences(1000, held_out_verbs=True)
FORMS = {
    form: (kind, i) for kind, verbs in roles.VERBS.items() for i, verb in enumerate(verbs) for form in verb.split()
}


@pytest.mark.parametrize("one", [*SOME[:200], *OTHERS[:50]], ids=lambda one: " ".join(one.words))
def test_each_word_has_a_tag_and_each_role_is_whole(one):
    assert len(one.words) == len(one.tags) and set(one.tags) <= set(roles.TAGS)
    assert one.tags[one.predicate] == "B-V" and one.tags.count("B-V") == 1
    for before, tag in zip(["O", *one.tags], one.tags, strict=False):
        assert not tag.startswith("I-") or before[2:] == tag[2:]  # a span begins with B
    given = [role for role, _ in one.spans()]
    assert len(given) == len(set(given))  # no role twice
    assert one.words[0][0].isupper() and one.words[-1] == "."
    assert " ".join(text for _, text in one.spans()).split() == [
        word for word, tag in zip(one.words, one.tags, strict=True) if tag != "O"
    ]


def test_the_verbs_are_those_to_train_on_or_those_that_are_held_out():
    forms = [form for verbs in roles.VERBS.values() for verb in verbs for form in set(verb.split())]
    assert len(forms) == len(set(forms))
    for some, held_out in ((SOME, False), (OTHERS, True)):
        for one in some:
            for word in one.words:
                if word in FORMS:
                    kind, i = FORMS[word]
                    assert (i >= len(roles.VERBS[kind]) - roles.HELD_OUT_VERBS) == held_out, one
        assert {FORMS[one.words[one.predicate]][0] for one in some} == set(roles.VERBS)


def test_a_place_does_not_say_the_role():
    """What stands before the predicate, or behind it, has one of several roles, and every role occurs."""
    before, behind = set(), set()
    for one in SOME:
        for i, tag in enumerate(one.tags):
            if tag.startswith("B-") and i != one.predicate:
                (before if i < one.predicate else behind).add(tag[2:])
    assert before >= {"A0", "A1", "A2", "AM-TMP", "AM-NEG", "AM-MOD"}
    assert behind >= {"A0", "A1", "A2", "A4", "AM-TMP", "AM-LOC", "AM-MNR"}
    assert before | behind | {"V"} == set(roles.ROLES)
    assert any("that" in one.words[: one.predicate] for one in SOME)  # the predicate of an inner clause


def test_a_subject_and_its_verb_agree():
    for one in SOME:
        for role, text in one.spans():
            if role in ("A1", "A2") and text.split()[0].lower() in ("two", "three", "some"):
                after = one.words[list(one.words).index(text.split()[-1]) + 1]
                assert after != "was", one


def test_always_the_same_for_a_seed():
    assert sentences(20) == sentences(20) != sentences(20, seed=1)
    assert len({one.words for one in SOME}) > 0.9 * len(SOME)


def test_the_baseline_knows_places_only():
    one = Sentence(("Ben", "broke", "it", "."), 1, ("B-A0", "B-V", "B-A1", "O"))
    assert by_position(one) == ["B-A0", "B-V", "B-A1", "I-A1"]


def test_scores():
    pytest.importorskip("seqeval", reason="the tasks extra is not installed")
    wanted = [["B-A0", "B-V", "B-A1", "I-A1", "O"]]
    assert span_f1(wanted, wanted) == {"all": 1, "A0": 1, "A1": 1}
    short = [["B-A0", "B-V", "B-A1", "O", "O"]]  # half a span is wrong, and V does not count
    assert span_f1(short, wanted)["all"] == pytest.approx(0.5) and span_f1(short, wanted)["A1"] == 0
    baseline = span_f1([by_position(one) for one in SOME], [list(one.tags) for one in SOME])
    assert baseline["all"] < 0.4


def test_bad_input(tmp_path):
    with refuses(ValueError, "sentence 0 has 2 words, got 1 tags"):
        span_f1([["O"]], [["O", "O"]])
    with refuses(ValueError, "got 0 and 0"):
        span_f1([], [])
    file = tmp_path / "roles.txt"
    file.write_text("Ben\tB-A0\nran\tB-V\n\n\nAnna\tB-A0\nswam\tB-V\n.\tO\n", encoding="utf-8")
    assert [one.spans() for one in read_sentences(file)] == [
        [("A0", "Ben"), ("V", "ran")], [("A0", "Anna"), ("V", "swam")],
    ]  # fmt: skip
    for text, message in (
        ("Ben A0\n", "line 1: expected a word, a tab and a tag, got 'Ben A0'"),
        ("Ben\tA0\n", "line 1: expected a word, a tab and a tag"),
        ("Ben\tB-A0\n", "line 1: expected one B-V in a sentence, got 0"),
        ("", "holds no sentence"),
    ):
        file.write_text(text, encoding="utf-8")
        with refuses(ValueError, message):
            read_sentences(file)
