"""`python -m tfguide.bench.decoding`: what choosing a token takes beside a step, what each way writes, and beams.

Times are those of a model on real text: its logits are what is chosen from. A continuation is judged by the model that
wrote it and by what it repeats, beside the text itself.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from statistics import mean, median
from typing import Any

import numpy as np

from tfguide.bench.caches import read_documentation
from tfguide.bench.models import file_size, read_config
from tfguide.bench.run import write_json
from tfguide.bench.timing import machine, take_turns
from tfguide.bench.written import judge
from tfguide.checkpoints import is_gguf
from tfguide.checks.values import check_count
from tfguide.cost import kv_bytes, weight_bytes_read
from tfguide.generation import BeamSearch, Chooser, Sampling, beam_search, draw, generate, probabilities
from tfguide.generation.choose import log_softmax
from tfguide.loading import FRAMEWORKS, find_checkpoint, load_framework, load_model, try_accelerate

#: What is timed.
CHOSEN = {
    "greedy": Sampling(temperature=0.0),
    "temperature 1": Sampling(),
    "top-k 40": Sampling(top_k=40),
    "top-p 0.9": Sampling(top_p=0.9),
    "min-p 0.1": Sampling(min_p=0.1),
    "greedy, penalty 1.1": Sampling(temperature=0.0, repetition_penalty=1.1),
}
#: What writes.
TEMPERATURES = (0.5, 0.75, 1.0, 1.25, 1.5)
WRITERS = CHOSEN | {f"temperature {t:g}": Sampling(temperature=t) for t in TEMPERATURES}
WIDTHS, ROWS = (1, 2, 4, 8), (1, 16)
CACHE = "float16"


def time_choosing(
    model: Any, tokens: np.ndarray, n_rows: int, repeats: int = 9, chosen: Mapping[str, Sampling] = CHOSEN
) -> list[dict]:
    """A row for each way to choose the tokens of `n_rows` texts: its seconds, and those of a step of the model.

    tokens: (n_rows, T), the texts whose next tokens are chosen. "whole": the seconds of the same draw from the whole
    distribution, which top-p sorts. All take turns with the step. Raises ValueError for counts below 1.
    """
    check_count("n_rows", n_rows)
    texts = tokens[:n_rows].tolist()
    cache = model.new_cache(n_rows, tokens.shape[1] + 1, CACHE)
    logits = np.asarray(model.prefill(tokens[:n_rows], cache))
    calls: dict = {"step": _step(model, cache, tokens[:n_rows, -1])}
    for name, sampling in chosen.items():
        chooser, uniforms = Chooser(sampling, n_rows), np.random.default_rng(0).random(n_rows)
        calls[name] = lambda chooser=chooser: chooser(logits, texts)
        calls[name, "whole"] = lambda given=sampling, u=uniforms: draw(probabilities(logits, given, texts), u)
    times = {name: median(seconds) for name, seconds in take_turns(calls, repeats).items()}
    return [
        {
            "way": name, "rows": n_rows, "seconds": times[name], "whole_seconds": times[name, "whole"],
            "step_seconds": times["step"],
        }
        for name in chosen
    ]  # fmt: skip


def write_texts(model: Any, prompts: np.ndarray, n_new: int, writers: Mapping[str, Sampling] = WRITERS) -> list[dict]:
    """A row for each way to choose: what `judge` says of its continuations (N, n_new) of the prompts (N, T)."""
    rows = []
    for name, sampling in writers.items():
        written = generate(model, prompts.tolist(), n_new, [], sampling, cache_dtype=CACHE)
        rows.append({"way": name, "temperature": sampling.temperature} | judge(model, prompts, written))
    return rows


def time_beams(
    model: Any, prompts: np.ndarray, n_new: int, weight_bytes: float, widths: Sequence[int] = WIDTHS, repeats: int = 9
) -> list[dict]:
    """A row for each width: the texts that a beam search of the prompts (N, T) writes, and the seconds of a step.

    A step is "choose_seconds" of the search, "reorder_seconds" of the cache, and "decode_seconds" of the model, in
    turns and in this order, after a prompt and half of the new tokens. weight_bytes: what a step reads of the weights.
    "bytes": that and the cache of every beam. "log_probability": of the best text, a mean over the prompts.
    """
    half = n_new // 2
    calls: dict = {}
    for n in widths:
        cache = model.new_cache(n, prompts.shape[1] + n_new, CACHE)
        first = np.repeat(prompts[:1], n, axis=0)
        model.prefill(first, cache)
        for _ in range(half):
            logits = np.asarray(model.decode(first[:, -1], cache))
        search = BeamSearch(n, 1 << 30, frozenset(), 1.0)
        search.step(log_softmax(logits[:1]))
        calls[n, "choose"] = lambda search=search, logits=logits: search.step(log_softmax(logits))
        calls[n, "reorder"] = lambda cache=cache, n=n: cache.reorder(np.arange(n)[::-1] // 2)
        calls[n, "decode"] = _step(model, cache, first[:, -1])
    times = {name: median(seconds) for name, seconds in take_turns(calls, repeats).items()}
    rows = []
    for n in widths:
        found = [best[0] for best in beam_search(model, prompts.tolist(), n, n_new, [], cache_dtype=CACHE)]
        rows.append(
            {"n_beams": n, "log_probability": mean(best.log_probability for best in found)}
            | {f"{part}_seconds": times[n, part] for part in ("decode", "choose", "reorder")}
            | {"bytes": weight_bytes + kv_bytes(model.config, n, prompts.shape[1] + half, CACHE)}
            | judge(model, prompts, [list(best.tokens) for best in found])
        )
    return rows


def table(result: Mapping[str, Any]) -> str:
    """The result as tables of text."""
    lines = [f"{'':22}{'rows':>5}{'choose ms':>11}{'whole ms':>10}{'step ms':>9}"]
    for row in result["choosing"]:
        times = (1e3 * row[key] for key in ("seconds", "whole_seconds", "step_seconds"))
        lines.append("{:22}{:5}{:11.3f}{:10.2f}{:9.2f}".format(row["way"], row["rows"], *times))
    lines.append(f"{'':22}{'log p':>9}{'repeated':>10}{'distinct':>10}")
    for row in (result["text"], *result["texts"], *result["beams"]):
        name = row.get("way") or f"{row['n_beams']} beams"
        lines.append(f"{name:22}{row['mean_log_probability']:9.3f}{row['repeated']:10.1%}{row['distinct']:10.1%}")
    lines.append(f"{'beams':>5}{'decode ms':>11}{'choose ms':>11}{'reorder ms':>12}")
    for row in result["beams"]:
        times = (1e3 * row[f"{part}_seconds"] for part in ("decode", "choose", "reorder"))
        lines.append("{:5}{:11.2f}{:11.2f}{:12.3f}".format(row["n_beams"], *times))
    return "\n".join(lines)


def _step(model, cache, tokens):
    """A step of the model that is forgotten again."""

    def call():
        start = np.array(cache.lengths)
        model.decode(tokens, cache)
        cache.rewind(start)

    return call


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m tfguide.bench.decoding", description=__doc__.split("\n\n")[0])
    parser.add_argument("--framework", choices=FRAMEWORKS, default="torch")
    parser.add_argument("--model", metavar="PATH", help="a checkpoint with a tokenizer; default: SmolLM2-135M-Instruct")
    parser.add_argument("--prompts", type=int, default=8, help="how many texts are continued; default: 8")
    parser.add_argument("--length", type=int, default=32, help="tokens of a prompt; default: 32")
    parser.add_argument("--new-tokens", type=int, default=96, help="of a continuation; default: 96")
    parser.add_argument("--beam-tokens", type=int, default=32, help="of a continuation by beams; default: 32")
    parser.add_argument("--beam-prompts", type=int, default=4, help="how many prompts beams continue; default: 4")
    parser.add_argument("--json", metavar="FILE", help="write the machine and the rows there")
    options = parser.parse_args(arguments)
    path = find_checkpoint(options.model)
    tg = load_framework(options.framework)
    model = try_accelerate(tg, load_model(tg, path))
    size = file_size(path)["multiplied_bytes"] if is_gguf(path) else weight_bytes_read(read_config(path), 1, "float32")
    each = options.length + options.new_tokens
    tokens = np.array(read_documentation(path, options.prompts * each))[: options.prompts * each]
    prompts, text = np.split(tokens.reshape(options.prompts, each), [options.length], axis=1)
    result = {
        "task": "decoding", "machine": machine(), "framework": options.framework, "model": path.name,
        "prompt": options.length, "new_tokens": options.new_tokens, "beam_tokens": options.beam_tokens,
        "n_prompts": options.prompts, "n_beam_prompts": options.beam_prompts, "weight_bytes": size,
        "cache_dtype": CACHE, "vocabulary": model.config.vocab_size,
    }  # fmt: skip
    parts = {
        "choosing": lambda: [
            row for n in ROWS for row in time_choosing(model, np.resize(prompts, (n, options.length)), n)
        ],
        "beams": lambda: time_beams(model, prompts[: options.beam_prompts], options.beam_tokens, size),
        "text": lambda: {"way": "the text itself"} | judge(model, prompts, text.tolist()),
        "texts": lambda: write_texts(model, prompts, options.new_tokens),
    }
    for name, measure in parts.items():
        result[name] = measure()
        print(f"tfguide: measured {name}", file=sys.stderr)
    print(table(result))
    if options.json:
        write_json(result, options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
