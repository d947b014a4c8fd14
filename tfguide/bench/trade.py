"""`python -m tfguide.bench.trade`: what one model loses and gains by each way to make it smaller.

Quality is the perplexity of the held-out documentation of Python, and the share of questions about it that a model
answers (`tfguide.tasks.continuations`). Speed is a step by the C++ kernels, all in turns, beside the time in which the
memory gives its bytes. Quality does not depend on the machine and takes minutes; `--part` measures one at a time, and
both go on with the file of `--json`.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfguide.bench import limits
from tfguide.bench.models import bytes_read, read_model
from tfguide.bench.ours import OurRows
from tfguide.bench.run import read_result, write_json
from tfguide.bench.timing import machine, median_ratio, take_turns
from tfguide.bench.variants import VARIANTS, Variant, repaired_name, weights_bytes
from tfguide.config import ModelConfig
from tfguide.generation import perplexity
from tfguide.loading import FRAMEWORKS, find_checkpoint, load_framework, try_accelerate
from tfguide.tasks import documentation
from tfguide.tasks.continuations import Question, accuracy, questions, standard_error
from tfguide.text import read_tokenizer
from tfguide.training import Recipe, batch_of

PROMPT = 16  # tokens before the steps that are timed
WINDOW = 256
CALIBRATION = Recipe(steps=2, warmup=0, rows=16, length=256, seed=1)  # 4096 tokens of the text that was learned


def measure_quality(
    models: Iterator[tuple[str, Any]], tokens: np.ndarray, tokenizer: Any, asked: Sequence[Question]
) -> Iterator[dict[str, Any]]:
    """A row for each (name, model): the perplexity of tokens (n,), the accuracy, its standard error, and the shape."""
    for name, model in models:
        share = accuracy(model, tokenizer, asked)
        yield {
            "name": name, "perplexity": model_perplexity(model, tokens), "accuracy": share,
            "accuracy_error": standard_error(share, len(asked)), "config": model.config.to_dict(),
        }  # fmt: skip


def model_perplexity(model: Any, tokens: np.ndarray) -> float:
    """The perplexity in windows that do not overlap but by one token, as training measures it."""
    return perplexity(model, tokens, WINDOW, WINDOW - 1)


def measure_steps(
    models: Mapping[str, Any], dtypes: Mapping[str, str], prompt: np.ndarray, n_new: int = 16, repeats: int = 9
) -> list[dict[str, Any]]:
    """A row for each model, all in turns: seconds of a step, how many times as fast as the first, and what is read.

    dtypes: the type of weights by the name of a model. "bytes": of a step, weights and cache; "predicted_seconds": the
    time in which the memory gives them, read at the speed of the same rounds.
    """
    reader = limits.memory_reader()
    running = {name: OurRows(model, prompt, n_new) for name, model in models.items()}
    for one in running.values():
        one.read()
    steps = {name: lambda one=one: one.steps(n_new) for name, one in running.items()}
    seconds = take_turns({"the memory": reader} | steps, repeats)
    bandwidth = reader.n_bytes / statistics.median(seconds["the memory"])
    first, rows = next(iter(models)), []
    for name, model in models.items():
        needed = bytes_read(model.config, dtypes[name], prompt.shape[1] + n_new // 2)
        rows.append({
            "name": name, "seconds": statistics.median(seconds[name]) / n_new, "bytes": needed,
            "speed": median_ratio(seconds, first, name), "predicted_seconds": needed / bandwidth,
            "config": model.config.to_dict(),
        })  # fmt: skip
    return rows


def make_models(
    tg: Any, config: ModelConfig, weights: Mapping[str, np.ndarray], calibration: np.ndarray,
    chosen: Sequence[Variant], repaired: str | None = None,
) -> Iterator[tuple[str, Any]]:  # fmt: skip
    """(name, fast model) of each variant, one after the other, and those of a folder that `tfguide.bench.repair` kept.

    A model that nobody keeps is freed before the next.
    """
    plain = tg.from_weights(config, weights)
    for variant in chosen:
        yield variant.name, try_accelerate(tg, variant.make(tg, plain, calibration))
        if repaired and (folder := Path(repaired) / variant.name).is_dir():
            model = tg.load_checkpoint(folder, dtype="float32")
            yield repaired_name(variant.name), try_accelerate(tg, model)


def merge(rows: Sequence[dict], found: Sequence[dict]) -> list[dict]:
    """Rows with what was found about them: new rows behind the others of their variant."""
    names = [name for variant in VARIANTS for name in (variant.name, repaired_name(variant.name))]
    by_name = {row["name"]: dict(row) for row in rows}
    for row in found:
        by_name[row["name"]] = by_name.get(row["name"], {}) | row
    return [by_name[name] for name in names if name in by_name]


def complete(rows: Sequence[dict]) -> list[dict]:
    """Rows with the family and the bytes of their weights, and with the times of the variant that they compute like.

    A calibrated model has the shapes and the kernels of one that is not, and a repaired one those of the broken one.
    """
    by_name, result = {row["name"]: row for row in rows}, []
    for variant in VARIANTS:
        for name in (variant.name, repaired_name(variant.name)):
            if name not in by_name:
                continue
            timed = by_name.get(variant.like or variant.name, {})
            times = {key: timed[key] for key in ("seconds", "bytes", "speed", "predicted_seconds") if key in timed}
            about = {"family": variant.family, "dtype": variant.dtype, "timed_as": variant.like or variant.name}
            config = ModelConfig.from_dict(by_name[name]["config"])
            result.append(by_name[name] | about | {"weights_bytes": weights_bytes(config, variant)} | times)
    return result


def table(rows: Sequence[dict]) -> str:
    """The rows as a table of text."""
    lines = [f"{'':36}{'perplexity':>11}{'right':>7}{'MB':>7}{'ms/step':>9}{'bytes say':>10}"]
    for row in rows:
        times = ("seconds", "predicted_seconds")
        shown = "".join(f"{1e3 * row[key]:>{9 + i}.2f}" for i, key in enumerate(times) if key in row)
        quality = f"{row['perplexity']:>11.2f}{row['accuracy']:>7.1%}" if "accuracy" in row else f"{'':18}"
        lines.append(f"{row['name']:36}{quality}{row['weights_bytes'] / 1e6:>7.1f}{shown}".rstrip())
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m tfguide.bench.trade", description=__doc__.split("\n\n")[0])
    parser.add_argument("--framework", choices=FRAMEWORKS, default="torch")
    parser.add_argument("--model", metavar="PATH", help="a decoder with a tokenizer, or `documentation`, the book's "
                        "own; default: SmolLM2-135M-Instruct")  # fmt: skip
    parser.add_argument("--part", choices=("quality", "time", "both"), default="both")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="some of the variants; default: all")
    parser.add_argument("--repaired", metavar="FOLDER", help="what python -m tfguide.bench.repair --keep wrote")
    parser.add_argument("--tokens", type=int, default=2048, help="of the held-out text; default: 2048")
    parser.add_argument("--questions", type=int, default=100, help="default: 100")
    parser.add_argument("--new-tokens", type=int, default=16, help="steps of a round; default: 16")
    parser.add_argument("--repeats", type=int, default=9, help="rounds that count; default: 9")
    parser.add_argument("--json", metavar="FILE", required=True, help="the result, which is gone on with")
    options = parser.parse_args(arguments)
    tg, path = load_framework(options.framework), find_model_path(options.model)
    config, weights = read_model(path)
    tokenizer, file = read_tokenizer(path), Path(options.json)
    result = go_on(file, "trade", None if options.part == "quality" else machine())
    chosen = [variant for variant in VARIANTS if not options.only or variant.name in options.only]
    _, calibration = read_learned(tokenizer)
    if options.part != "time":
        held_out = np.array(tokenizer.encode(documentation.held_out()).ids[: options.tokens])
        models = make_models(tg, config, weights, calibration, chosen, options.repaired)
        result |= {
            "model": path.name, "framework": options.framework, "window": WINDOW, "tokens": len(held_out),
            "calibration_tokens": calibration.size, "questions": options.questions,
        }  # fmt: skip
        for row in measure_quality(models, held_out, tokenizer, questions(options.questions)):
            result["rows"] = complete(merge(result["rows"], [row]))
            write_json(result, options.json)
    if options.part != "quality":
        timed = [variant for variant in chosen if variant.like is None]
        models = dict(make_models(tg, config, weights, calibration, timed))
        prompt = np.array([tokenizer.encode(documentation.held_out()).ids[:PROMPT]])
        dtypes = {variant.name: variant.dtype for variant in timed}
        found = measure_steps(models, dtypes, prompt, options.new_tokens, options.repeats)
        result |= {"machine": machine(), "prompt": PROMPT, "new_tokens": options.new_tokens}
        result["rows"] = complete(merge(result["rows"], found))
        write_json(result, options.json)
    print(table(result["rows"]))
    return 0


def go_on(file: Path, task: str, here: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The result that a file holds, or one of the task without rows where there is no file.

    here: the machine of the times that will be added. Raises ValueError as `read_result`.
    """
    return read_result(file, here) or {"task": task, "rows": []}


def read_learned(tokenizer: Any) -> tuple[np.ndarray, np.ndarray]:
    """The tokens (n,) of the documents that the book's model learned from, and those of CALIBRATION, (B, T)."""
    learned = documentation.encode(tokenizer, documentation.split_documents(documentation.documents())[0].values())
    return learned, batch_of(learned, 0, CALIBRATION)[:, :-1]


def find_model_path(name: str | None) -> Path:
    """The folder or the file of a model: `documentation` is the book's own. Raises as `find_checkpoint`."""
    return documentation.folder() if name == "documentation" else find_checkpoint(name)


if __name__ == "__main__":
    sys.exit(main())
