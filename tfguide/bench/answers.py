"""`python -m tfguide.bench.answers`: how well questions about Python are answered, and what finding and reading take.

`--part` measures one thing at a time and goes on with the file of `--json`: "finding" is the table of the ways to find
a passage, with the errors of the threshold and of the sentence that is quoted; "kept" the time to the first token with
and without the keys and values of a page; "examples" some answers. The variants of
chapter 6 are in `tfguide.bench.answer_variants`.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tfguide.bench.run import read_result, write_json
from tfguide.bench.timing import machine, median_ratio, take_turns
from tfguide.loading import FRAMEWORKS, NONE, find_checkpoint, load_any, load_sentence_encoder
from tfguide.tasks import minilm
from tfguide.tasks.answering import LEAST, LIKELY, Reader, errors_of_threshold, split_sentences
from tfguide.tasks.asking import PAGES, Search, best_sentence, open_search
from tfguide.tasks.questions import (
    Passage,
    Question,
    answers,
    mean_reciprocal_rank,
    passages,
    questions,
    recall_at,
    unanswerable,
)
from tfguide.tasks.retrieval import Bm25, embed, kept_vectors, reciprocal_rank_fusion
from tfguide.text import read_template, read_tokenizer

THRESHOLDS = (0.3, 0.4, 0.45, 0.5, 0.55, 0.6, 0.7)
WORDS = (30, 60, 120)
EXAMPLES = 12  # one question of so many is shown with its answer
WEIGHTS = (0.25, 0.5, 1.0, 2.0, 4.0)  # of the likelihood
Encoder = Callable[[Sequence[str]], np.ndarray]


def score_order(
    name: str, scores: np.ndarray, among: Sequence[Passage], asked: Sequence[Question], pages: int = 1
) -> dict[str, Any]:
    """A row of the table: how often the first passage's source is right, recall, and MRR, by scores (n, m).

    pages: how many passages a language model read.
    """
    ranked = np.argsort(-scores, axis=1, kind="stable")
    right = [answers(one, among) for one in asked]
    sources = [{among[i].source for i in own} for own in right]
    first = [among[row[0]].source in own for row, own in zip(ranked, sources, strict=True)]
    return {
        "name": name, "passages": len(among), "source": int(np.sum(first)), "questions": len(asked), "pages": pages,
        "mrr": mean_reciprocal_rank(ranked, right), "recall": {str(k): recall_at(k, ranked, right) for k in (1, 3, 10)},
    }  # fmt: skip


def read_best(
    scores: np.ndarray, among: Sequence[Passage], asked: Sequence[Question], reader: Reader, pages: int = PAGES
) -> np.ndarray:
    """The likelihood of each question after each of its best passages, (n, m); NaN elsewhere; a page is read once."""
    best = np.argsort(-scores, axis=1, kind="stable")[:, :pages]
    result = np.full(scores.shape, np.nan)
    for place in np.unique(best):
        for i in np.flatnonzero((best == place).any(axis=1)):
            result[i, place] = reader.likelihood(among[place].text, asked[i].text)
        reader.forget()
    return result


def reranked(scores: np.ndarray, likelihoods: np.ndarray, pages: int, weight: float = LIKELY) -> np.ndarray:
    """Scores (n, m) of which the `pages` best of each question have their likelihood added, the others stay behind."""
    best = np.argsort(-scores, axis=1, kind="stable")[:, :pages]
    result = scores - 100.0  # below every likelihood
    more = scores + weight * np.where(np.isnan(likelihoods), 0, likelihoods)
    np.put_along_axis(result, best, np.take_along_axis(more, best, axis=1), axis=1)
    return result


def measure_finding(
    encode: Encoder, make: Callable[[int], list[Passage]], asked: Sequence[Question], reader: Reader,
    outside: dict[str, list[str]], words: Sequence[int] = WORDS, pages: Sequence[int] = (5, PAGES),
) -> dict[str, Any]:  # fmt: skip
    """The ways to find a passage, the errors of the threshold, and how often the sentence holds the quotation.

    encode: texts to vectors of length 1, (n, D). make: passages of about so many words. outside: questions without an
    answer, by kind. pages: how many are read, in ascending order.
    """
    texts = [one.text for one in asked]
    vectors, rows = encode(texts), []
    for n in words:
        among = make(n)
        near = vectors @ encode([one.text for one in among]).T
        rows.append(score_order(f"vectors, {n} words", near, among, asked))
    titled = vectors @ encode([f"{one.source.split('/')[-1]}: {one.text}" for one in among]).T
    rows.append(score_order("vectors, with the document's name", titled, among, asked))
    by_words = Bm25([one.text for one in among])
    found = np.array([by_words.scores(text) for text in texts])
    rows.append(score_order("BM25", found, among, asked))
    fused = np.array([reciprocal_rank_fusion(pair) for pair in zip(near, found, strict=True)])
    rows.append(score_order("both, by reciprocal ranks", fused, among, asked))
    both = near + np.array([by_words.shares(text) for text in texts])
    rows.append(score_order("both, summed", both, among, asked))
    likely = read_best(both, among, asked, reader, pages[-1])
    rows += [score_order("summed, then read", reranked(both, likely, n, LIKELY), among, asked, n) for n in pages]
    weights = [
        {"weight": weight, "source": score_order("", reranked(both, likely, pages[-1], weight), among, asked)["source"]}
        for weight in WEIGHTS
    ]
    refused = {}
    for kind, some in outside.items():
        far = encode(some) @ encode([one.text for one in among]).T + np.array([by_words.shares(text) for text in some])
        refused[kind] = far.max(axis=1)
    return {
        "rows": rows, "weights": weights, "thresholds": threshold_rows(both.max(axis=1), refused),
        "sentences": score_sentences(encode, vectors, among, asked), "least": LEAST,
    }  # fmt: skip


def threshold_rows(answered: np.ndarray, outside: dict[str, np.ndarray]) -> list[dict[str, float]]:
    """For each threshold, the share of questions that are refused wrongly, and that of each kind answered wrongly."""
    rows = []
    for least in THRESHOLDS:
        wrong = {kind: errors_of_threshold(least, answered, some) for kind, some in outside.items()}
        refused = next(iter(wrong.values()))[0]
        rows.append({"least": least, "refused": refused} | {kind: own[1] for kind, own in wrong.items()})
    return rows


def score_sentences(
    encode: Encoder, vectors: np.ndarray, among: Sequence[Passage], asked: Sequence[Question]
) -> dict[str, float]:
    """How often the quoted sentence of the passage that answers holds the quotation; and if it is the first one."""
    chosen, first = [], []
    for one, vector in zip(asked, vectors, strict=True):
        passage = among[answers(one, among)[0]]
        found = split_sentences(passage.text.removeprefix(passage.heading))
        places = [Passage("", sentence) for sentence in found]
        right = answers(one, places)
        chosen.append(best_sentence(one.text, vector, found, encode(found)) in right)
        first.append(0 in right)
    return {"chosen": float(np.mean(chosen)), "first": float(np.mean(first))}


def measure_kept(
    reader: Reader, pairs: Sequence[tuple[str, str]], repeats: int = 5, **about: Any
) -> list[dict[str, Any]]:
    """Seconds to the first token of an answer, the page read anew or kept: a row for each (page, question)."""
    rows = []
    for page, question in pairs:

        def first(anew, page=page, question=question):
            if anew:
                reader.forget()
            next(iter(reader.answer(page, question)), None)

        seconds = take_turns({"anew": lambda: first(True), "kept": lambda: first(False)}, repeats, warmup=1)
        before, asked, after = reader.prompt(page, question)
        rows.append(about | {
            "page_tokens": len(before), "question_tokens": len(asked) + len(after), "bytes": reader.nbytes,
            "seconds": {name: statistics.median(own) for name, own in seconds.items()},
            "ratio": median_ratio(seconds, "anew", "kept"),
        })  # fmt: skip
    return rows


def collect_examples(search: Search, reader: Reader, asked: Sequence[Question]) -> list[dict[str, Any]]:
    """What `tfguide ask` says to some questions, and whether the source is right."""
    found = []
    for one in asked:
        own = search.look_up(one.text, reader)
        right = {search.index.passages[i].source for i in answers(one, search.index.passages)}
        found.append({
            "question": one.text, "source": own.passage.source, "right": own.passage.source in right,
            "sentence": own.sentence, "answer": "".join(reader.answer(own.passage.text, one.text)),
        })  # fmt: skip
    return found


def keeping_encoder(framework: str) -> Encoder:
    """MiniLM in a framework, as a function of texts that keeps what it computed."""
    encode, model = load_sentence_encoder(framework), minilm.folder() / "model.safetensors"
    return lambda texts: kept_vectors(model, texts, lambda: embed(encode, texts))


def read_reader(framework: str, max_new_tokens: int = 48, **options: Any) -> Reader:
    """SmolLM2 as a reader, fast, in a framework or in none."""
    path = find_checkpoint()
    model = load_any(path, framework, **options)
    return Reader(model, read_tokenizer(path), read_template(path), max_new_tokens)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m tfguide.bench.answers", description=__doc__.split("\n\n")[0])
    parser.add_argument("--part", choices=("finding", "kept", "examples"), required=True)
    parser.add_argument("--framework", choices=FRAMEWORKS, default="torch", help="of MiniLM")
    parser.add_argument("--questions", type=int, metavar="N", help="default: all")
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="rounds of a measurement of time")
    parser.add_argument("--json", metavar="FILE", help="go on with this file")
    options = parser.parse_args(arguments)
    result = read_result(options.json, machine()) if options.json else {}
    result |= {"task": "answers", "machine": machine()}
    asked = questions()[: options.questions]
    if options.part == "finding":
        reader = read_reader(NONE)
        encode = keeping_encoder(options.framework)
        result["finding"] = measure_finding(encode, lambda n: passages(words=n), asked, reader, unanswerable())
    elif options.part == "examples":
        search = open_search(load_sentence_encoder(options.framework))
        result["examples"] = collect_examples(search, read_reader(NONE), asked[::EXAMPLES])
    else:
        among = passages()
        pairs = [(among[answers(one, among)[0]].text, one.text) for one in asked[:: max(1, len(asked) // 3)][:3]]
        result["kept"] = [
            row
            for name in (NONE, *FRAMEWORKS)
            for row in measure_kept(read_reader(name), pairs, options.repeats, framework=name)
        ]
    print(result.get(options.part))
    if options.json:
        write_json(result, options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
