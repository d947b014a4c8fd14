"""`python -m tfguide.bench.answer_variants`: what 8 bits, 4 bits, pruning and speculation do to answers.

Two tasks, with the rows of `tfguide.bench.applications`. "retrieval": MiniLM reads the question, the vectors of the
passages are those of float32, computed once. "answers": SmolLM2 reads the passage that answers and writes; drafts are
copied from the prompt.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfguide.bench.answers import keeping_encoder, read_reader, score_order
from tfguide.bench.applications import Variant, measure_variants
from tfguide.bench.models import read_model, weights_size
from tfguide.bench.run import read_result, write_json
from tfguide.bench.timing import machine
from tfguide.compress import Quantization
from tfguide.config import ModelConfig
from tfguide.generation import PromptLookup, generate, speculative_generate
from tfguide.loading import FRAMEWORKS, NONE, find_checkpoint, load_framework, sentence_encoder, try_accelerate
from tfguide.tasks import minilm
from tfguide.tasks.answering import Reader, split_sentences
from tfguide.tasks.questions import Passage, Question, answers, passages, questions
from tfguide.tasks.retrieval import embed, terms

PARTS = ("retrieval", "answers")
DRAFT = 4  # tokens that are copied at a time
_SHARE = 0.5


def word_scores(answer: str, question: Question, passage: Passage) -> dict[str, float]:
    """What an answer has of the quotation's words, and the F1 of its words with those of the sentence that answers.

    The quotation is the one of which the answer has most; the sentences are those of the passage where one stands.
    Source of F1 over words: Rajpurkar et al. 2016.
    """
    own = Counter(terms(answer))
    quoted = [_shared(own, Counter(terms(quote))) for quote in question.quotes]
    found = [Passage("", sentence) for sentence in split_sentences(passage.text)]
    right = [found[i].text for i in answers(question, found)] or list(question.quotes)
    return {"quotation": max(recall for _, recall, _ in quoted),
            "F1": max(_shared(own, Counter(terms(one)))[2] for one in right)}  # fmt: skip


def _shared(own, wanted):
    """Precision, recall and F1 of words."""
    common = (own & wanted).total()
    precision, recall = common / max(own.total(), 1), common / max(wanted.total(), 1)
    return precision, recall, 2 * precision * recall / max(precision + recall, 1e-9)


def encoder_variants(tg: Any, config: ModelConfig, weights: Mapping[str, np.ndarray]) -> list[Variant]:
    """MiniLM by each technique; a variant answers texts with their vectors."""
    plain = tg.from_weights(config, weights)
    models = {
        "float32": plain, "int8": tg.quantize(plain, 8), "int4": tg.quantize(plain, 4),
        "pruned": tg.prune_magnitude(plain, _SHARE),
    }  # fmt: skip
    return [
        Variant(name, lambda texts, model=model: embed(sentence_encoder(tg, model), texts), *_about(config, name))
        for name, model in models.items()
    ]


def decoder_variants(
    tg: Any, config: ModelConfig, weights: Mapping[str, np.ndarray], reader: Reader, max_new_tokens: int
) -> list[Variant]:
    """SmolLM2 by each technique, run by the kernels; a variant answers (page, question) with texts."""
    plain = tg.from_weights(config, weights)
    made = {
        "float32": plain, "int8": tg.quantize(plain, 8, 8), "int4": tg.quantize(plain, 4, 8),
        "pruned": tg.prune_magnitude(plain, _SHARE), "speculative": plain,
    }  # fmt: skip
    models = {name: try_accelerate(tg, model) for name, model in made.items()}

    def write(pairs, name):
        texts, stops = [], reader.stop_tokens
        for page, question in pairs:
            before, asked, after = reader.prompt(page, question)
            prompt = [*before, *asked, *after]
            if name == "speculative":
                new = speculative_generate(
                    models[name], PromptLookup(), [prompt], max_new_tokens, DRAFT, list(stops)
                ).tokens[0]
            else:
                [new] = generate(models[name], [prompt], max_new_tokens, list(stops))
            texts.append(reader.tokenizer.decode([token for token in new if token not in stops]))
        return texts

    return [Variant(name, lambda pairs, name=name: write(pairs, name), *_about(config, name)) for name in models]


def _about(config, name):
    """The bytes of the weights, and what was done."""
    bits = {"int8": 8, "int4": 4}.get(name)
    n_bytes = weights_size(config, Quantization(bits) if bits else None)["n_bytes"]
    about = {
        "int8": "8 bits for each weight", "int4": "4 bits, groups of 32", "pruned": "half of each matrix, by magnitude",
        "speculative": f"{DRAFT} tokens copied from the prompt",
    }  # fmt: skip
    return n_bytes, about.get(name, "")


def measure_retrieval(
    framework: str, config: ModelConfig, weights: Mapping[str, np.ndarray], vectors: np.ndarray,
    among: Sequence[Passage], asked: Sequence[Question], **timing: int,
) -> list[dict[str, Any]]:  # fmt: skip
    """The rows of "retrieval": MRR, and how often the first passage's source is right. vectors: of the passages."""

    def score(found):
        row = score_order("", np.asarray(found) @ vectors.T, among, asked)
        return {"MRR": row["mrr"], "right source": row["source"] / len(asked)}

    variants = encoder_variants(load_framework(framework), config, weights)
    return measure_variants("retrieval", framework, variants, [one.text for one in asked], score, **timing)


def measure_answers(
    framework: str, config: ModelConfig, weights: Mapping[str, np.ndarray], reader: Reader,
    among: Sequence[Passage], asked: Sequence[Question], max_new_tokens: int = 32, **timing: int,
) -> list[dict[str, Any]]:  # fmt: skip
    """The rows of "answers": the words of the quotation in the answer, and F1 with the sentence that answers."""
    pages = [among[answers(one, among)[0]] for one in asked]

    def score(texts):
        scores = [word_scores(*each) for each in zip(texts, asked, pages, strict=True)]
        return {name: float(np.mean([one[name] for one in scores])) for name in scores[0]}

    variants = decoder_variants(load_framework(framework), config, weights, reader, max_new_tokens)
    pairs = [(page.text, one.text) for page, one in zip(pages, asked, strict=True)]
    return measure_variants("answers", framework, variants, pairs, score, **timing)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m tfguide.bench.answer_variants", description=__doc__.split("\n")[0])
    parser.add_argument("--part", choices=PARTS, required=True)
    parser.add_argument("--framework", choices=FRAMEWORKS, default="torch")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="take one question of N")
    parser.add_argument("--timed", type=int, default=16, metavar="N", help="questions whose time is measured")
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="rounds of the measurement")
    parser.add_argument("--json", metavar="FILE", help="go on with this file")
    options = parser.parse_args(arguments)
    result = read_result(options.json, machine()) if options.json else {}
    among, asked = passages(), questions()[:: options.every]
    timing = {"timed": options.timed, "repeats": options.repeats}
    if options.part == "retrieval":
        vectors = keeping_encoder("torch")([one.text for one in among])
        config, weights = read_model(minilm.folder())
        rows = measure_retrieval(options.framework, config, weights, vectors, among, asked, **timing)
    else:
        config, weights = read_model(find_checkpoint())
        rows = measure_answers(options.framework, config, weights, read_reader(NONE), among, asked, **timing)
    for row in rows:
        print(row)
    if options.json:
        mine = (options.part, options.framework)
        others = [row for row in result.get("rows", []) if (row["task"], row["framework"]) != mine]
        write_json({"task": "applications", "machine": machine(), "rows": others + rows}, options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
