"""`python -m tfguide.bench.summarisation`: what summarises the held-out docstrings, and what makes SmolLM2 faster.

--answers: the summaries of every method on some texts, in both frameworks. --json: the variants of SmolLM2.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Callable, Sequence
from typing import Any

from tfguide.bench.applications import Variant, measure_variants
from tfguide.bench.models import file_size, read_config, weights_size
from tfguide.bench.run import read_result, write_json
from tfguide.bench.timing import machine
from tfguide.compress import Quantization
from tfguide.generation import PromptLookup, generate, speculative_generate
from tfguide.loading import FRAMEWORKS, load_framework, load_model, sentence_encoder, try_accelerate
from tfguide.tasks import minilm, smollm, summarisation
from tfguide.tasks.docstrings import Summary, lead, rouge, sentences

Summarise = Callable[[Sequence[str]], list[str]]
N_NEW = 40  # tokens of a summary at most
SHARE = 0.5  # of each matrix that is pruned
_ROWS = 32  # texts that the small model reads together


def asking(model: Any, examples: Sequence[Summary] = (), draft: Any = None, n_new: int = N_NEW) -> Summarise:
    """SmolLM2 as a summariser: the first sentence of its answer to each text, one text at a time.

    draft: of speculative decoding; default: none.
    """
    tokenizer, template = smollm.tokenizer(), smollm.template()
    stop = [tokenizer.token_to_id("<|im_end|>")]

    def answer(text):
        asked = template.render(summarisation.messages(text, examples))
        prompt = [tokenizer.encode(asked, add_special_tokens=False).ids]
        if draft is None:
            tokens = generate(model, prompt, n_new, stop)
        else:
            tokens = speculative_generate(model, draft, prompt, n_new, stop_tokens=stop).tokens
        return summarisation.first_sentence(tokenizer.decode(tokens[0], skip_special_tokens=True))

    return lambda texts: [answer(text) for text in texts]


def extracting(framework: str) -> Summarise:
    """MiniLM as a summariser: the sentence of each text that is nearest to the whole text."""
    package = load_framework(framework)
    encode = sentence_encoder(package, package.load_checkpoint(minilm.folder()))

    def embed(parts):
        return encode(*minilm.batch(parts))

    return lambda texts: [summarisation.extract(text, embed) for text in texts]


def writing(model: Any, tokenizer: Any, n_new: int = N_NEW) -> Summarise:
    """The small encoder-decoder as a summariser: greedy, some texts together."""

    def answer(texts):
        sources = [tokenizer.encode(text).ids[: summarisation.SOURCE_TOKENS] for text in texts]
        rows = [generate(model, sources[i : i + _ROWS], n_new) for i in range(0, len(sources), _ROWS)]
        return [tokenizer.decode(row, skip_special_tokens=True).strip() for part in rows for row in part]

    return answer


def nearest_summaries(texts: Sequence[str], known: Sequence[Summary]) -> list[str]:
    """For each text the summary of the known text with the most words in common, weighted by how rare they are."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    words = TfidfVectorizer(sublinear_tf=True)
    vectors = words.fit_transform([one.text for one in known])
    nearest = (words.transform(texts) @ vectors.T).toarray().argmax(axis=1)
    return [known[i].summary for i in nearest]


def baselines(texts: Sequence[str], known: Sequence[Summary]) -> dict[str, list[str]]:
    """What needs no model: the first sentence, one drawn by chance, and the summary of the most similar known text."""
    draws = random.Random(0)
    return {
        "first sentence": [lead(text) for text in texts],
        "random sentence": [draws.choice(sentences(text)) for text in texts],
        "summary of the nearest text": nearest_summaries(texts, known),
    }


def measure_answers(summarise: Summarise, texts: Sequence[Summary]) -> dict[str, Any]:
    """The answers of a method to the texts, and its ROUGE."""
    answers = summarise([one.text for one in texts])
    return {"answers": answers, "scores": rouge(answers, [one.summary for one in texts])}


def variants_of(framework: str) -> list[Variant]:
    """SmolLM2 with two examples in the prompt: as float32, 8 and 4 bits, pruned, and with a draft, by the kernels."""
    package, path = load_framework(framework), smollm.file()
    config = read_config(path)
    size = weights_size(config, None)["n_bytes"]

    def fast(model):
        return try_accelerate(package, model)

    whole = load_model(package, path, "float32")
    pruned, whole = fast(package.prune_magnitude(whole, SHARE)), fast(whole)
    eight = fast(load_model(package, path, "int8"))
    packed = fast(load_model(package, path))
    examples = summarisation.EXAMPLES
    return [
        Variant("float32", asking(whole, examples), size, "the weights of the file, unpacked"),
        Variant("int8", asking(eight, examples), int(weights_size(config, Quantization(8, 8))["n_bytes"]),
                "a scale for each output"),
        Variant("int4", asking(packed, examples), file_size(path)["n_bytes"], "the file as it is, Q4_1"),
        Variant("pruned", asking(pruned, examples), size, "half of each matrix set to 0"),
        Variant("speculative", asking(whole, examples, PromptLookup()), size, "float32, copies from the prompt"),
    ]  # fmt: skip


METHODS = {
    "MiniLM, central sentence": extracting,
    "SmolLM2, asked": lambda framework: asking(_packed(framework)),
    "SmolLM2, two examples": lambda framework: asking(_packed(framework), summarisation.EXAMPLES),
    "small encoder-decoder": lambda framework: writing(
        load_framework(framework).load_checkpoint(summarisation.folder()), summarisation.tokenizer()
    ),
}


def _packed(framework):
    """SmolLM2 with the weights of its file, by the kernels."""
    package = load_framework(framework)
    return try_accelerate(package, load_model(package, smollm.file()))


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what the command line asks for; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m tfguide.bench.summarisation", description=__doc__)
    parser.add_argument("--answers", metavar="FILE", help="where the summaries of all methods are written")
    parser.add_argument("--json", metavar="FILE", help="where the rows of SmolLM2's variants are written")
    parser.add_argument("--framework", choices=FRAMEWORKS, action="append", help="default: both")
    parser.add_argument("--method", choices=METHODS, action="append", help="of --answers; default: all")
    parser.add_argument("--texts", type=int, default=60, metavar="N", help="held-out texts; default: 60")
    parser.add_argument("--timed", type=int, default=4, metavar="N", help="of them, whose time is taken; default: 4")
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="rounds of the times; default: 3")
    options = parser.parse_args(arguments)
    known, held_out = summarisation.parts()
    texts, about = summarisation.sample(held_out, options.texts), machine()
    frameworks = options.framework or FRAMEWORKS
    if options.answers:
        methods = {name: METHODS[name] for name in options.method or METHODS}
        print(write_answers(options.answers, about, frameworks, texts, known, methods))
    if options.json:
        for framework in frameworks:
            print(write_rows(options.json, about, framework, texts, options.timed, options.repeats))
    return 0


def write_answers(file, about, frameworks, texts, known, methods=METHODS) -> str:
    """Write the answers of methods to the texts to a file, beside those that it has; a line for each.

    methods: {name: what makes a summariser of the name of a framework}.
    """
    result = read_result(file, about) or {"machine": about, "texts": [vars(one) for one in texts], "methods": {}}
    if result["texts"] != [vars(one) for one in texts]:
        raise ValueError(f"{file} has the answers to other texts")
    for name, found in baselines([one.text for one in texts], known).items():
        result["methods"][name] = {"none": measure_answers(lambda _, found=found: found, texts)}
    for name, make in methods.items():
        for framework in frameworks:
            result["methods"].setdefault(name, {})[framework] = measure_answers(make(framework), texts)
            write_json(result, file)
    lines = [
        f"{name:28} {framework:11}" + " ".join(f"{value:.3f}" for value in found["scores"].values())
        for name, each in result["methods"].items()
        for framework, found in each.items()
    ]
    return "\n".join(lines)


def write_rows(file, about, framework, texts, timed, repeats, variants_of=variants_of) -> str:
    """Write the rows of one framework's variants to a file, beside those of the other; a line for each."""
    wanted = [one.summary for one in texts]
    rows = measure_variants(
        "summarisation", framework, variants_of(framework), [one.text for one in texts],
        lambda answers: {name.replace("rouge", "ROUGE-"): value for name, value in rouge(answers, wanted).items()},
        timed, repeats,
    )  # fmt: skip
    result = read_result(file, about) or {"machine": about, "model": smollm.FILE, "rows": []}
    result["rows"] = [row for row in result["rows"] if row["framework"] != framework] + rows
    write_json(result, file)
    return "\n".join(f"{row['framework']:11}{row['variant']:12}{row['seconds']:7.2f} s{row['ratio']:6.2f}  "
                     + " ".join(f"{value:.3f}" for value in row["scores"].values()) for row in rows)  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
