"""`python -m tfguide.bench.translation --json FILE`: how well the translator of chapter 7 translates, and how fast.

In each framework: the scores on held-out pairs by kind, with the most likely token at each step and with beam search,
beside those of the nearest known source; and the variants of chapter 6.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tfguide.bench.applications import Variant, measure_variants
from tfguide.bench.models import weights_size
from tfguide.bench.run import read_result, write_json
from tfguide.bench.timing import machine, median_ratio, take_turns
from tfguide.compress import Quantization
from tfguide.generation import speculative_generate
from tfguide.loading import FRAMEWORKS, load_framework
from tfguide.tasks import translator
from tfguide.tasks.own import exact_match
from tfguide.tasks.translation import Pair, Vocabulary, bleu, group_of, pairs
from tfguide.tasks.translator import translate

KNOWN = 20_000  # pairs to train on among which the nearest source is looked for
N_BEAMS = 4
SHARE = 0.5  # of each matrix that is pruned
DRAFTED = 4  # tokens in a round


def scores_of(translations: Sequence[str], wanted: Sequence[Pair]) -> dict[str, float]:
    """The exact match of translations over all pairs and in each group of them, and their BLEU."""
    found = {"exact match": exact_match(translations, [pair.target for pair in wanted])}
    for group in dict.fromkeys(map(group_of, wanted)):
        own = [(text, pair.target) for text, pair in zip(translations, wanted, strict=True) if group_of(pair) == group]
        found[group] = exact_match(*zip(*own, strict=True))
    return found | {"BLEU": bleu(translations, [pair.target for pair in wanted])}


def wrong(translations: Sequence[str], wanted: Sequence[Pair]) -> list[dict[str, str]]:
    """The pairs whose translation is another: {"source", "translation", "wanted"}."""
    return [
        {"source": pair.source, "translation": text, "wanted": pair.target}
        for text, pair in zip(translations, wanted, strict=True)
        if text != pair.target
    ]


def measure_searches(
    model: Any, words: Vocabulary, wanted: Sequence[Pair], searched: int, timed: int = 8, repeats: int = 3
) -> dict[str, Any]:
    """Greedy translations and those of beam search: their scores, what is wrong, and the time of one text.

    searched: of the pairs for beam search, which takes its texts one by one. "seconds": the median for one of the first
    `timed` texts, one by one; "ratio": how many times as long beam search takes, the median over the rounds.
    """
    searches = {"greedy": (1, wanted), f"{N_BEAMS} beams": (N_BEAMS, wanted[:searched])}
    found = {name: translate(model, words, [pair.source for pair in some], n) for name, (n, some) in searches.items()}
    texts = [pair.source for pair in wanted[:timed]]
    calls = {name: lambda n=n: one_by_one(model, words, texts, n) for name, (n, _) in searches.items()}
    seconds = take_turns(calls, repeats, warmup=1)
    return {
        name: {
            "pairs": len(answers), "scores": scores_of(answers, searches[name][1]),
            "wrong": wrong(answers, searches[name][1]), "seconds": statistics.median(seconds[name]) / len(texts),
            "ratio": median_ratio(seconds, name, "greedy"),
        }
        for name, answers in found.items()
    }  # fmt: skip


def one_by_one(model: Any, words: Vocabulary, texts: Sequence[str], n_beams: int = 1) -> list[str]:
    """The translation of each text, in a call of its own, as one who waits for it asks."""
    return [found for text in texts for found in translate(model, words, [text], n_beams)]


def speculating(model: Any, draft: Any, words: Vocabulary) -> Callable[[Sequence[str]], list[str]]:
    """What translates texts one by one with a draft."""

    def answer(texts):
        sources = [words.source(text) for text in texts]
        return [
            words.text(row) for row in speculative_generate(model, draft, sources, translator.LONGEST, DRAFTED).tokens
        ]

    return answer


def variants_of(package: Any, folder: Path, draft: Path | None, words: Vocabulary) -> list[Variant]:
    """The translator as each technique of chapter 6 leaves it."""
    model = package.load_checkpoint(folder)
    size = weights_size(model.config, None)["n_bytes"]

    def variant(name, changed, n_bytes, about):
        return Variant(name, lambda texts: one_by_one(changed, words, texts), int(n_bytes), about)

    found = [variant("float32", model, size, "the weights of the folder, unpacked")]
    found.append(
        variant("bfloat16", package.load_checkpoint(folder, dtype="bfloat16"), size / 2, "each number rounded")
    )
    for name, bits, about in (("int8", 8, "a scale for each output"), ("int4", 4, "a scale for 32 inputs")):
        n_bytes = weights_size(model.config, Quantization(bits))["n_bytes"]
        found.append(variant(name, package.quantize(model, bits), n_bytes, about))
    pruned = package.prune_magnitude(model, SHARE)
    found.append(variant("pruned", pruned, size, f"the least {SHARE:.0%} of each matrix set to 0"))
    if draft is not None:
        small = package.load_checkpoint(draft)
        n_bytes = size + weights_size(small.config, None)["n_bytes"]
        about = f"float32, {DRAFTED} tokens of a smaller model"
        found.append(Variant("speculative", speculating(model, small, words), int(n_bytes), about))
    return found


def measure(
    framework: str, folder: Path, draft: Path | None, n: int, searched: int, examples: int, timed: int, repeats: int
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The searches on `n` held-out pairs, by beams on the first `searched`, and the rows of the variants on the first
    `examples`."""
    package, words, wanted = (
        load_framework(framework),
        Vocabulary.read(folder / translator.VOCABULARY),
        translator.held_out(n),
    )
    searches = measure_searches(package.load_checkpoint(folder), words, wanted, searched, timed, repeats)
    some = wanted[:examples]

    def score(translations: Sequence[str]) -> Mapping[str, float]:
        targets = [pair.target for pair in some]
        return {"exact match": exact_match(translations, targets), "BLEU": bleu(translations, targets)}

    variants = variants_of(package, folder, draft, words)
    rows = measure_variants("translation", framework, variants, [pair.source for pair in some], score, timed, repeats)
    return searches, rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write the file and print a line for each search and variant; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m tfguide.bench.translation", description=__doc__)
    parser.add_argument("--json", metavar="FILE", required=True, help="the result, beside that of the other framework")
    parser.add_argument("--framework", choices=FRAMEWORKS, action="append", help="default: both")
    parser.add_argument("--folder", type=Path, default=translator.folder(), help="default: the book's model")
    parser.add_argument("--draft", type=Path, default=translator.draft_folder(), help="default: the book's draft")
    parser.add_argument("--pairs", type=int, default=1000, metavar="N", help="held-out pairs; default: 1000")
    parser.add_argument("--searched", type=int, default=100, metavar="N", help="of them, by beams; default: 100")
    parser.add_argument("--examples", type=int, default=100, metavar="N", help="of them for variants; default: 100")
    parser.add_argument("--timed", type=int, default=8, metavar="N", help="of them, whose time is taken; default: 8")
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="rounds of the times; default: 3")
    options = parser.parse_args(arguments)
    about, wanted = machine(), translator.held_out(options.pairs)
    result = read_result(options.json, about) or {"machine": about, "pairs": options.pairs, "searches": {}, "rows": []}
    nearest = translator.nearest_translations([pair.source for pair in wanted], pairs(KNOWN))
    result["nearest"] = {"known": KNOWN, "scores": scores_of(nearest, wanted)}
    draft = options.draft if options.draft.exists() else None
    for framework in options.framework or FRAMEWORKS:
        searches, rows = measure(
            framework, options.folder, draft, options.pairs, options.searched, options.examples, options.timed,
            options.repeats,
        )  # fmt: skip
        result["searches"][framework] = searches
        result["rows"] = [row for row in result["rows"] if row["framework"] != framework] + rows
        write_json(result, options.json)
        for name, found in searches.items():
            print(f"{framework:11}{name:12}{found['seconds']:7.3f} s  {found['scores']}")
        for row in rows:
            print(f"{framework:11}{row['variant']:12}{row['seconds']:7.3f} s{row['ratio']:6.2f}  {row['scores']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
