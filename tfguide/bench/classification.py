"""`python -m tfguide.bench.classification`: what classifies the held-out docstrings, and what makes MiniLM smaller."""

from __future__ import annotations

import argparse
import sys
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from tfguide.bench.applications import measure_variants
from tfguide.bench.encoders import variants_of
from tfguide.bench.run import read_result, write_json
from tfguide.bench.timing import machine
from tfguide.checkpoints import read_checkpoint
from tfguide.loading import FRAMEWORKS, load_framework, load_model, sentence_encoder, try_accelerate
from tfguide.tasks import classification as task
from tfguide.tasks import minilm, smollm, tuned, zero_shot
from tfguide.tasks.docstrings import Docstring, label_names, label_number
from tfguide.tasks.examples import Examples, logits

WRONG = 12  # answers that are kept, those that were the surest
PARTS = ("models", "smollm", "variants")
Embed = Callable[[Examples], np.ndarray]  # vectors (n, D)
Classify = Callable[[Examples], list[np.ndarray]]  # the logits (N,) of each row


def embedding(framework: str, source: tuple | None = None) -> Embed:
    """MiniLM's vectors of examples, of length 1: (n, D). source: another encoder, as in `tfguide.tasks.tuned`."""
    config, weights = read_checkpoint(minilm.folder()) if source is None else source
    guide = load_framework(framework)
    encode = sentence_encoder(guide, guide.from_weights(config, weights))

    def embed(examples, size=32):
        order = np.argsort([len(row) for row in examples.rows], kind="stable")
        found = np.zeros((len(order), config.d_model), np.float32)
        for start in range(0, len(order), size):
            chosen = order[start : start + size]
            found[chosen] = encode(**examples.batch(chosen.tolist()).inputs)
        return found

    return embed


def baselines(
    learned: Sequence[Docstring], asked: Sequence[Docstring], vectors: Mapping[Docstring, np.ndarray]
) -> dict[str, np.ndarray]:
    """The probabilities (n, N) of what trains no Transformer: the commonest label, words, and the vectors of texts."""
    numbers = [label_number(one.label) for one in learned]
    shares = np.bincount(numbers, minlength=len(label_names())) / len(numbers)
    known, given = ([vectors[one] for one in some] for some in (learned, asked))
    words = task.fit_words([one.text for one in learned], numbers)
    return {
        "commonest label": np.tile(shares, (len(asked), 1)),
        "words, linear": words.predict_proba([one.text for one in asked]),
        "MiniLM's vectors, linear": task.fit_vectors(known, numbers).predict_proba(given),
    }


def split_by_module(texts: Sequence[Docstring]) -> tuple[list[Docstring], list[Docstring]]:
    """Texts to learn from, and those of modules of which none is learned: one module in five, by a checksum."""
    sides: tuple[list[Docstring], list[Docstring]] = ([], [])
    for one in texts:
        sides[zlib.crc32(one.module.partition(".")[0].encode()) % 5 == 0].append(one)
    return sides


def measure_models(texts: Sequence[Docstring], embed: Embed, models: dict[str, Classify]) -> dict[str, Any]:
    """The scores of the baselines and of the trained model in each framework, and what the first one gets wrong."""
    learned, asked = task.split(texts)
    labels = [label_number(one.label) for one in asked]
    vectors = dict(zip(texts, embed(task.examples(texts)), strict=True))
    found = baselines(learned, asked, vectors)
    examples = task.examples(asked)
    given = {framework: np.array(classify(examples)) for framework, classify in models.items()}
    rows = [{"model": name, "framework": "none", "scores": task.scores(one, labels)} for name, one in found.items()]
    rows += [
        {
            "model": "MiniLM, last layer trained",
            "framework": framework,
            "scores": task.scores(task.softmax(one), labels),
        }
        for framework, one in given.items()
    ]
    known, unknown = split_by_module(texts)
    by_module = baselines(known, unknown, vectors)
    right = np.array([label_number(one.label) for one in unknown])
    first = next(iter(given.values()))
    return {
        "labels": list(label_names()), "learned": len(learned), "held_out": len(asked), "models": rows,
        "other_modules": {
            "texts": len(unknown),
            "accuracy": {name: float((one.argmax(axis=1) == right).mean()) for name, one in by_module.items()},
        },
        "largest_difference": max(float(np.abs(one - first).max()) for one in given.values()),
        "confusion": task.confusion(first, labels).tolist(),
        "calibration": calibrate(first, labels),
        "wrong": surest_mistakes(asked, task.softmax(first), labels),
    }  # fmt: skip


def calibrate(logits: np.ndarray, labels: Sequence[int]) -> dict[str, Any]:
    """The temperature that every second text asks for, and the calibration of the others before and after it."""
    labels = np.asarray(labels)
    temperature = task.best_temperature(logits[::2], labels[::2].tolist())
    result: dict[str, Any] = {"temperature": temperature}
    for name, used in (("before", 1.0), ("after", temperature)):
        shares, right = task.softmax(logits[1::2], used), labels[1::2].tolist()
        result[name] = {
            "error": task.calibration_error(shares, right),
            "log_loss": task.log_loss(logits[1::2], right, used),
            "bins": [vars(one) for one in task.reliability(shares, right)],
        }
    return result


def surest_mistakes(asked: Sequence[Docstring], shares: np.ndarray, labels: Sequence[int]) -> list[dict[str, Any]]:
    """The texts that the model is surest of and gets wrong, each of another module."""
    names, found = label_names(), {}
    for i in np.argsort(-shares.max(axis=1), kind="stable"):
        module = asked[i].module.partition(".")[0]
        if shares[i].argmax() != labels[i] and module not in found:
            text = " ".join(asked[i].text.split())
            found[module] = {
                "place": f"{asked[i].module}.{asked[i].name}", "text": text[:160], "label": names[labels[i]],
                "given": names[int(shares[i].argmax())], "confidence": float(shares[i].max()),
            }  # fmt: skip
    return list(found.values())[:WRONG]


def measure_language_model(model: Any, tokenizer: Any, texts: Sequence[Docstring], n: int) -> list[dict[str, Any]]:
    """The scores of a language model on `n` held-out texts, spread evenly, for each way of `zero_shot.WAYS`."""
    asked = sample(task.split(texts)[1], n)
    found = zero_shot.likelihoods(model, tokenizer, [one.text for one in asked])
    labels = [label_number(one.label) for one in asked]
    return [
        {"model": f"SmolLM2, {way}", "way": way, "texts": len(asked),
         "scores": task.scores(task.softmax(found.scores(way)), labels),
         "counts": np.bincount(found.scores(way).argmax(axis=1), minlength=len(label_names())).tolist()}
        for way in zero_shot.WAYS
    ]  # fmt: skip


def sample(texts: Sequence[Docstring], n: int) -> list[Docstring]:
    """`n` of the texts, spread evenly, or all."""
    return [texts[i] for i in np.linspace(0, len(texts) - 1, min(n, len(texts))).round().astype(int)]


def measure_rows(framework: str, model: Any, texts: Sequence[Docstring], timed: int, repeats: int) -> list[dict]:
    """The rows of the variants, on texts of which each label occurs."""
    examples = task.examples(texts)
    return measure_variants(
        "classification", framework, variants_of(framework, model, examples), range(len(texts)),
        lambda answers: task.scores(task.softmax(np.array(answers)), examples.labels), timed, repeats,
    )  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what the command line asks for; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m tfguide.bench.classification", description=__doc__)
    parser.add_argument("--json", metavar="FILE", required=True, help="where the result is written, beside other parts")
    parser.add_argument("--part", choices=PARTS, action="append", help="what is measured; default: all")
    parser.add_argument("--texts", type=int, default=320, metavar="N", help="of the variants; default: 320")
    parser.add_argument("--asked", type=int, default=160, metavar="N", help="of SmolLM2; default: 160")
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="rounds of the times; default: 5")
    options = parser.parse_args(arguments)
    about = machine()
    result = read_result(options.json) or {"machine": about, "model": "all-MiniLM-L6-v2"}
    texts = [one for side in task.split() for one in side]
    parts = options.part or PARTS
    if "models" in parts:
        models = {one: load_framework(one).from_weights(*tuned.read("classification")) for one in FRAMEWORKS}
        result |= measure_models(texts, embedding("torch"), {one: partial(logits, models[one]) for one in models})
        write_json(result, options.json)
    if "smollm" in parts:
        guide = load_framework("torch")
        model = try_accelerate(guide, load_model(guide, smollm.file()))
        result["language_model"] = measure_language_model(model, smollm.tokenizer(), texts, options.asked)
        write_json(result, options.json)
    if "variants" in parts:
        result |= {"machine": about, "rows": []}
        some = sample(task.split(texts)[1], options.texts)
        for framework in FRAMEWORKS:
            model = load_framework(framework).from_weights(*tuned.read("classification"))
            result["rows"] += measure_rows(framework, model, some, 16, options.repeats)
            write_json(result, options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
