"""`python -m tfguide.bench.speculative`: drafts of several kinds on several tasks, measured beside the formula.

The target is SmolLM2. A draft copies from the text, or is the target with fewer bits or fewer layers, or one with few
layers that was trained (`python -m tfguide.bench.drafts`).
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from statistics import median
from typing import Any

import numpy as np

from tfguide.bench.drafts import TASKS, make_drafts, prompts_of
from tfguide.bench.run import read_result, write_json
from tfguide.bench.timing import machine, median_ratio, take_turns
from tfguide.checks.values import check_count
from tfguide.cost.speculative import speculative_tokens
from tfguide.generation import PromptLookup, Sampling, speculative_generate
from tfguide.generation.choose import probabilities
from tfguide.generation.generate import generate
from tfguide.loading import DTYPES, FRAMEWORKS, find_checkpoint, load_framework, load_model, try_accelerate

LENGTHS = (2, 4, 8)


def measure_speculation(
    model: Any,
    drafts: Mapping[str, Any],
    prompts: Mapping[str, Sequence[int]],
    lengths: Sequence[int] = LENGTHS,
    n_new: int = 64,
    repeats: int = 3,
    sampling: Sampling | None = None,
    keep: Callable[[list[dict]], None] = lambda rows: None,
) -> list[dict]:
    """A row for each task, draft and draft length: what was accepted, and the speed-up over `generate`.

    model, drafts: fast models of one vocabulary, or a `PromptLookup`; prompts: {task: tokens}. n_new: tokens that are
    written after each prompt, none of which ends the text. All take turns, `repeats` times after one that does not
    count. Reading the prompt, by both models, is not in the times. `keep` is given the rows after every task.

    A row has "acceptance", the a of the formula; "tokens_per_call", and "expected_tokens", what the formula says for
    the lengths that were really drafted; "draft_cost", c, and "check_costs", r for 1 to k + 1 tokens, from `costs`;
    "speedup", measured; "predicted", from the acceptance, c and r; "predicted_free", with r = 1; "row_cost", the
    time of one whole distribution over that of a step, which no prediction counts; and "same", whether the tokens are
    those of `generate`. Raises ValueError for counts below 1.
    """
    lengths = [check_count("lengths", length) for length in lengths]
    n_new, repeats, rows = check_count("n_new", n_new, least=2), check_count("repeats", repeats), []
    for task, prompt in prompts.items():
        rows += [{"task": task} | row for row in _one_task(model, drafts, prompt, lengths, n_new, repeats, sampling)]
        keep(rows)
    return rows


def _one_task(model, drafts, prompt, lengths, n_new, repeats, sampling):
    """The rows of one prompt."""
    found: dict[Any, Any] = {}

    def plain():
        found["plain"] = generate(model, [prompt], n_new, [], sampling)

    def speculate(name, k):
        found[name, k] = speculative_generate(model, drafts[name], [prompt], n_new, k, [], sampling)

    keys = [(name, k) for name in drafts for k in lengths]
    readers = {"target": model} | {name: one for name, one in drafts.items() if not isinstance(one, PromptLookup)}
    calls: dict[Any, Callable[[], object]] = {"plain": plain} | {key: partial(speculate, *key) for key in keys}
    calls |= {("read", name): partial(generate, one, [prompt], 1, []) for name, one in readers.items()}
    seconds = take_turns(calls, repeats, warmup=1)
    read = seconds["read", "target"]
    net = {"plain": np.subtract(seconds["plain"], read).tolist()}
    for name, k in keys:
        net[name, k] = np.subtract(np.subtract(seconds[name, k], read), seconds.get(("read", name), 0.0)).tolist()
    pieces = costs(model, drafts, prompt, max(lengths), 3 * repeats)
    for name, k in keys:
        result, own = found[name, k], net[name, k]
        row = {"draft": name, "k": k, "new_tokens": n_new, "same": result.tokens == found["plain"]}
        row |= {
            "row_cost": pieces["row"],
            "speedup": median_ratio(net, "plain", (name, k)),
            "tokens_per_second": (n_new - 1) / median(own),
        }
        yield row | predict(result.rounds, result.token_acceptance, pieces[name], pieces["check"])


def costs(model: Any, drafts: Mapping[str, Any], text: Sequence[int], most: int, repeats: int) -> dict[str, Any]:
    """What the parts of a round take over the target's step: {"check": [1.0, ...], "row": share, name of a draft: c}.

    check: for 1 to `most` + 1 tokens after `text`. The c of a lookup is a search in it. row: the distribution of one
    token at temperature 1. Medians of calls in turns.
    """
    logits = model.score([text], last=1)[0]
    calls: dict[Any, Callable[[], object]] = {"row": lambda: probabilities(logits, Sampling())}
    for n in range(1, most + 2):
        calls[n] = _step(model, text, n)
    for name, draft in drafts.items():
        if isinstance(draft, PromptLookup):
            calls[name] = lambda draft=draft: draft.propose(text, most)
        else:
            calls[name] = _step(draft, text, 1)
    seconds = take_turns(calls, repeats)
    ratios = {key: median_ratio(seconds, key, 1) for key in calls}
    return {"check": [ratios[n] for n in range(1, most + 2)]} | {name: ratios[name] for name in ("row", *drafts)}


def predict(
    rounds: Sequence[tuple[int, int]], acceptance: float, draft_cost: float, check_costs: Sequence[float]
) -> dict[str, Any]:
    """What the formula says of rounds that drafted so many tokens, beside what came: the entries of a row.

    The last round may draft fewer tokens than others, and a lookup none: each round counts with its own length. A
    draft without a proposal has no acceptance, and 0 is put for it.
    """
    a = 0.0 if np.isnan(acceptance) else acceptance
    drafted = [length for length, _ in rounds]
    expected = [speculative_tokens(a, length) for length in drafted]
    free = len(rounds) + draft_cost * sum(drafted)
    checked = draft_cost * sum(drafted) + sum(check_costs[length] for length in drafted)
    return {
        "acceptance": a, "tokens_per_call": float(np.mean([n + 1 for _, n in rounds])),
        "expected_tokens": float(np.mean(expected)), "drafted_per_call": float(np.mean(drafted)),
        "draft_cost": draft_cost, "check_costs": list(check_costs[: max(drafted) + 1]),
        "predicted": sum(expected) / checked, "predicted_free": sum(expected) / free,
    }  # fmt: skip


def table(rows: Sequence[dict]) -> str:
    """The rows as a table of text."""
    head = f"{'task':15}{'draft':20}{'k':>3}{'a':>6}{'tokens':>8}{'formula':>9}{'c':>7}{'r':>6}{'faster':>8}"
    lines = [head + f"{'predicted':>11}"]
    for row in rows:
        lines.append(
            f"{row['task']:15}{row['draft']:20}{row['k']:>3}{row['acceptance']:6.2f}{row['tokens_per_call']:8.2f}"
            f"{row['expected_tokens']:9.2f}{row['draft_cost']:7.3f}{row['check_costs'][-1]:6.2f}"
            f"{row['speedup']:8.2f}{row['predicted']:11.2f}{'' if row['same'] else '  other tokens'}"
        )
    return "\n".join(lines)


def write_rows(file: str | os.PathLike, about: Mapping[str, Any], rows: Sequence[dict]) -> None:
    """Write rows to a file, beside those of other targets and temperatures that it has already.

    Raises ValueError as `read_result`.
    """
    before = read_result(file, about["machine"]).get("rows", [])
    own = {(row["dtype"], row["temperature"]) for row in rows}
    others = [row for row in before if (row["dtype"], row["temperature"]) not in own]
    write_json(dict(about) | {"rows": [*others, *rows]}, file)


def _step(model, text, n):
    """A call that reads n tokens after a text, and forgets them."""
    cache = model.new_cache(1, len(text) + n)
    model.prefill([text], cache)
    tokens = np.array([text[:n]])

    def run():
        model.score(tokens, cache, last=n)
        cache.rewind(len(text))

    return run


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m tfguide.bench.speculative", description=__doc__.split("\n\n")[0])
    parser.add_argument("--framework", choices=FRAMEWORKS, default="torch")
    parser.add_argument("--model", metavar="PATH", help="a checkpoint with a tokenizer; default: SmolLM2-135M-Instruct")
    parser.add_argument("--dtype", choices=DTYPES, default="int8", help="of the target; default: int8")
    parser.add_argument("--trained", metavar="FOLDER", help="a draft that `python -m tfguide.bench.drafts` wrote")
    parser.add_argument("--tasks", nargs="+", choices=tuple(TASKS), default=tuple(TASKS))
    parser.add_argument("--lengths", nargs="+", type=int, default=LENGTHS, help="tokens drafted for each call")
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3, help="rounds that count, after one that does not; default: 3")
    parser.add_argument("--temperature", type=float, default=0.0)
    parser.add_argument("--json", metavar="FILE", help="write the rows there, beside those of other targets")
    options = parser.parse_args(arguments)
    path, tg = find_checkpoint(options.model), load_framework(options.framework)
    model = try_accelerate(tg, load_model(tg, path, options.dtype))
    drafts = make_drafts(tg, path, options.dtype, options.trained)
    prompts = prompts_of(path, options.tasks)
    about = {"task": "speculation", "machine": machine(), "framework": options.framework, "model": path.name}
    about["drafts"] = "python -m tfguide.bench.drafts FOLDER, with its defaults" if options.trained else "not trained"
    kind = {"dtype": options.dtype, "temperature": options.temperature}

    def keep(rows):
        if options.json:
            write_rows(options.json, about, [kind | row for row in rows])

    sampling = Sampling(temperature=options.temperature)
    rows = measure_speculation(
        model, drafts, prompts, options.lengths, options.new_tokens, options.repeats, sampling, keep
    )
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
