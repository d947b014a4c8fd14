"""`python -m tfguide.bench.roles`: the roles that MiniLM finds in unseen sentences, and what makes it smaller."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tfguide.bench.applications import measure_variants
from tfguide.bench.encoders import variants_of
from tfguide.bench.run import read_result, write_json
from tfguide.bench.timing import machine
from tfguide.loading import FRAMEWORKS, load_framework
from tfguide.tasks import roles, tagging, tuned
from tfguide.tasks.examples import logits
from tfguide.tasks.own import exact_match
from tfguide.tasks.roles import Sentence

SEED = 1  # of the sentences that are asked; the model has learned from those of seed 0
WRONG = 12  # sentences that are kept
PARTS = ("models", "variants")
Tag = Callable[[Sequence[Sentence]], list[list[str]]]


def tagging_with(model: Any) -> Tag:
    """The tags that a model with a head gives to the words of sentences."""

    def tag(sentences):
        examples = tagging.examples(sentences)
        return tagging.tags(examples, logits(model, examples))

    return tag


def by_words(learned: Sequence[Sentence]) -> Tag:
    """A baseline that counts: the commonest tag of a word behind the word before it, on its side of this predicate.

    What has not been seen with this predicate is looked up without it, then without the word before, and is in no span
    where the word is unknown too.
    """
    known: dict[tuple, Counter] = {}
    for one in learned:
        for i, tag in enumerate(one.tags):
            for key in _keys(one, i):
                known.setdefault(key, Counter())[tag] += 1

    def best(one, i):
        counts = next((known[key] for key in _keys(one, i) if key in known), Counter(O=1))
        return "B-V" if i == one.predicate else counts.most_common(1)[0][0]

    return lambda some: [tagging.whole_spans([best(one, i) for i in range(len(one.words))]) for one in some]


def _keys(sentence, i):
    """What is counted of a word, the most first."""
    words, own = sentence.words, (sentence.words[i], i > sentence.predicate)
    before = words[i - 1] if i else ""
    return (*own, before, words[sentence.predicate]), (*own, before), own


def measure_models(models: dict[str, Tag], n: int, n_learned: int) -> dict[str, Any]:
    """F1 by role on sentences that no model has seen, with known verbs and with held-out ones, for each model.

    models: the trained one by its framework. n: sentences of each kind that are asked; n_learned: that the baseline by
    words learns from. The mistakes kept are those of the first model.
    """
    kinds = {"known verbs": False, "held-out verbs": True}
    seen = {one.words for one in roles.sentences(n_learned)}
    taggers: dict[str, tuple[str, Tag]] = {
        "by position": ("none", lambda some: [roles.by_position(one) for one in some]),
        "by words and verb": ("none", by_words(roles.sentences(n_learned))),
    }
    taggers |= {f"MiniLM, {name}": (name, tag) for name, tag in models.items()}
    result: dict[str, Any] = {"sentences": {}, "models": [], "wrong": [], "missed": {}}
    first = next(iter(models))
    for kind, held_out in kinds.items():
        asked = [one for one in roles.sentences(n, SEED, held_out) if one.words not in seen]
        wanted = [list(one.tags) for one in asked]
        result["sentences"][kind] = len(asked)
        answers = {name: tag(asked) for name, (_, tag) in taggers.items()}
        for name, (framework, _) in taggers.items():
            result["models"].append(
                {"model": name, "framework": framework, "verbs": kind, "scores": roles.span_f1(answers[name], wanted),
                 "whole_sentences": exact_match(answers[name], wanted)}
            )  # fmt: skip
        own = answers[f"MiniLM, {first}"]
        result["wrong"] += mistakes(asked, own, kind)
        result["missed"][kind] = missed_spans(wanted, own)
        if len(models) > 1:
            others = [answers[f"MiniLM, {name}"] for name in models]
            same = [all(one == rest[0] for one in rest) for rest in zip(*others, strict=True)]
            result.setdefault("same_tags", {})[kind] = sum(same) / len(same)
    return result


def missed_spans(wanted: Sequence[Sequence[str]], given: Sequence[Sequence[str]]) -> dict[str, int]:
    """How many spans are in the right tags and not in the given ones, by what is wrong: "role" alone, or "words"."""
    found = {"role": 0, "words": 0}
    for right, own in zip(wanted, given, strict=True):
        spans = roles.spans_of(own)
        places = {span[1:] for span in spans}
        for span in set(roles.spans_of(right)) - set(spans):
            found["role" if span[1:] in places else "words"] += 1
    return found


def mistakes(asked: Sequence[Sentence], given: Sequence[list[str]], kind: str) -> list[dict[str, Any]]:
    """Sentences with a wrong tag, one of each verb, at most half of WRONG: words, predicate, right and given tags."""
    found: dict[str, dict] = {}
    for one, tags in zip(asked, given, strict=True):
        verb = one.words[one.predicate]
        if tags != list(one.tags) and verb not in found:
            found[verb] = {
                "verbs": kind, "words": list(one.words), "predicate": one.predicate, "tags": list(one.tags),
                "given": tags,
            }  # fmt: skip
    return list(found.values())[: WRONG // 2]


def measure_rows(framework: str, model: Any, asked: Sequence[Sentence], timed: int, repeats: int) -> list[dict]:
    """The rows of the variants: F1 over all spans."""
    examples, wanted = tagging.examples(asked), [list(one.tags) for one in asked]

    def score(answers: Sequence[np.ndarray]) -> dict[str, float]:
        given = tagging.tags(examples, answers)
        return {"span F1": roles.span_f1(given, wanted)["all"], "whole sentences": exact_match(given, wanted)}

    variants = variants_of(framework, model, examples)
    return measure_variants("semantic roles", framework, variants, range(len(asked)), score, timed, repeats)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what the command line asks for; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m tfguide.bench.roles", description=__doc__)
    parser.add_argument("--json", metavar="FILE", required=True, help="where the result is written, beside other parts")
    parser.add_argument("--part", choices=PARTS, action="append", help="what is measured; default: all")
    parser.add_argument("--sentences", type=int, default=1000, metavar="N", help="that are asked; default: 1000")
    parser.add_argument("--learned", type=int, default=8000, metavar="N", help="of the baseline; default: 8000")
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="rounds of the times; default: 5")
    options = parser.parse_args(arguments)
    about = machine()
    result = read_result(options.json) or {"machine": about, "model": "all-MiniLM-L6-v2"}
    parts = options.part or PARTS
    models = {one: load_framework(one).from_weights(*tuned.read("roles")) for one in FRAMEWORKS}
    if "models" in parts:
        taggers = {one: tagging_with(models[one]) for one in FRAMEWORKS}
        result |= measure_models(taggers, options.sentences, options.learned)
        write_json(result, options.json)
    if "variants" in parts:
        result |= {"machine": about, "rows": []}
        asked = roles.sentences(options.sentences // 2, SEED, held_out_verbs=True)
        for framework in FRAMEWORKS:
            result["rows"] += measure_rows(framework, models[framework], asked, 16, options.repeats)
            write_json(result, options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
