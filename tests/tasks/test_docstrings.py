"""The docstrings of the standard library: what is found, what is held out, and the scores."""

import collections
import inspect
import json
import re

import pytest

from tests.support import refuses
from tfguide.tasks import docstrings
from tfguide.tasks.docstrings import Docstring, Summary, is_held_out, label_names, rouge, summaries


@pytest.fixture(scope="module")
def found():
    return docstrings.docstrings()


def test_they_are_those_that_python_shows(found):
    texts = {(one.module, one.name): one for one in found}
    for function in (json.dumps, json.JSONDecoder.raw_decode, collections.Counter.most_common):
        one = texts.get((function.__module__, function.__qualname__))
        assert one is None or one.text == inspect.getdoc(function)
    one = texts["collections", "Counter.most_common"]
    assert one.text == inspect.getdoc(collections.Counter.most_common) and one.label == "data types"
    assert ("json", "dumps") not in texts  # json has no label
    assert all(len(re.findall(r"\w+", one.text)) >= docstrings.LEAST_WORDS for one in found)


def test_every_label_has_hundreds_and_every_module_exists(found):
    counts = collections.Counter(one.label for one in found)
    assert tuple(sorted(counts)) == label_names() and min(counts.values()) > 200 and len(found) > 3500
    modules = [module for listed in docstrings.LABELS.values() for module in listed.split()]
    assert len(modules) == len(set(modules))
    assert len(set(modules) - {one.module.partition(".")[0] for one in found}) < 0.15 * len(modules)


def test_no_text_is_on_both_sides(found):
    keys = collections.defaultdict(set)
    for one in found:
        keys[" ".join(one.text.split())].add(is_held_out(one.text))
    assert all(len(sides) == 1 for sides in keys.values())
    assert 0.15 < sum(is_held_out(one.text) for one in found) / len(found) < 0.25
    assert is_held_out("Return the  value.") == is_held_out("return the value")


def test_summaries_are_first_lines(found):
    some = summaries(found)
    assert len(some) > 800
    texts = {" ".join(one.text.split()): one for one in found}
    for one in some:
        assert "\n" not in one.text + one.summary and ">>>" not in one.text
        assert len(one.summary.split()) in docstrings.SUMMARY_WORDS and len(one.text.split()) in docstrings.BODY_WORDS
    assert any(f"{one.summary} {one.text}" in texts for one in some)
    written = Docstring("m", "f", "Do it in four words.\n\n" + "more of it and " * 6 + "\n>>> f(1)\n2", "files")
    assert summaries([written]) == [Summary(("more of it and " * 6).strip(), "Do it in four words.")]
    assert summaries([Docstring("m", "f", "Too short.\n\n" + "word " * 30, "files")]) == []


def test_labels_have_numbers():
    assert [docstrings.label_number(label) for label in label_names()] == list(range(len(label_names())))
    with refuses(ValueError, "label must be one of"):
        docstrings.label_number("file")


def test_texts_of_your_own(tmp_path):
    file = tmp_path / "texts.tsv"
    file.write_text("good\tI like it.\n\nbad\tI do not.\n", encoding="utf-8")
    assert docstrings.read_labelled(file) == [("good", "I like it."), ("bad", "I do not.")]
    assert docstrings.read_summaries(file)[1] == Summary("I do not.", "bad")
    file.write_text("good\tyes\nbad\n")
    with refuses(ValueError, "line 2: expected a label, a tab and a text, got 'bad'"):
        docstrings.read_labelled(file)


def test_scores_and_the_baseline():
    text = "Return e.g. the value. Raise an error if there is none! More?"
    assert docstrings.lead(text) == "Return e.g. the value." and docstrings.lead(text, 2).endswith("none!")
    assert docstrings.sentences("") == []
    with refuses(ValueError, "got 0 and 0"):
        rouge([], [])
    pytest.importorskip("rouge_score", reason="the tasks extra is not installed")
    assert rouge(["Returns the value"], ["Return the values"]) == pytest.approx({"rouge1": 1, "rouge2": 1, "rougeL": 1})
    found = rouge(["a b c d"], ["a c b d"])  # ROUGE-L: the longest common subsequence has three of four words
    assert (found["rouge1"], found["rouge2"], found["rougeL"]) == pytest.approx((1, 0, 0.75))
