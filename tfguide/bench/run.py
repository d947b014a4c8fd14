"""The benchmark: contestants load one folder, must agree, and then take turns."""

from __future__ import annotations

import gc
import json
import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tfguide.bench import limits, memory
from tfguide.bench.agreement import check_agreement
from tfguide.bench.contestants import Ours, enter, entrants
from tfguide.bench.models import bytes_read, kept_model
from tfguide.bench.peers import CTranslate2
from tfguide.bench.timing import machine, median_ratio, show_machine, show_name, take_turns
from tfguide.checks.values import check_choice, check_count
from tfguide.config import ModelConfig
from tfguide.cost.flops import prefill_flops
from tfguide.temporary import write_file

MOST_TURNS = 16  # of `repeats` rounds, where the new tokens are too few to be told from noise


def bench(
    task: str,
    config: ModelConfig,
    frameworks: Sequence[str] = ("torch",),
    dtypes: Sequence[str] = ("float32",),
    peers: bool = False,
    prompt_lengths: Sequence[int] = (128,),
    n_new: int = 64,
    repeats: int = 5,
    device: str = "cpu",
    with_memory: bool = False,
    keep: Callable[[dict], None] = lambda result: None,
    folder: str | None = None,
) -> dict:
    """Time `task`, "decode" or "prefill": the machine, its limits, and a row for each contestant.

    decode: the seconds of `n_new` tokens less those of one, so that reading the prompt is not counted; where this
    difference is smaller than its error, more rounds are measured, and a row says so if they do not help. prefill: the
    seconds from the prompt to the first token. `keep` is given the result after every row, so that what was measured
    is not lost where a later contestant fails. A contestant that fails, or whose logits do not agree, is a row with an
    "error" and no times. Raises ValueError for counts below 1, of new tokens to decode below 2.
    """
    check_choice("task", task, ("decode", "prefill"))
    n_new = check_count("n_new", n_new, least=2 if task == "decode" else 1)
    repeats = check_count("repeats", repeats)
    prompt_lengths = [check_count("prompt_lengths", length) for length in prompt_lengths]
    reader = limits.memory_reader() if device == "cpu" else None
    found = limits.measure(reader) if reader else {}
    result = {"task": task, "machine": machine(peers), "config": config.to_dict(), "limits": found, "rows": []}
    with kept_model(config, folder) as folder:
        for length in prompt_lengths:
            prompt = np.random.default_rng(0).integers(0, config.vocab_size, (1, length))
            truth = _truth(frameworks[0], folder, prompt)
            for dtype in dtypes:
                for framework in frameworks:
                    who = (framework, dtype, folder, prompt, truth, peers, n_new, repeats, device)
                    rows = _round(task, config, reader, found, *who)
                    for row in rows:
                        if with_memory and "error" not in row and device == "cpu":
                            row["memory"] = memory.measure(row["name"], framework, folder, dtype, length, n_new)
                    result["rows"] += rows
                    keep(result)
    return result


def _round(task, config, reader, found, framework, dtype, folder, prompt, truth, peers, n_new, repeats, device):
    """The rows of one type of weights: ours and each peer's, timed in turns, and the memory with them."""
    base = {"framework": framework, "dtype": dtype, "prompt": prompt.shape[1], "new_tokens": n_new}
    rows, running = [], {}
    for name, kind in entrants(framework, dtype, peers, device).items():
        row = {"name": name, **base}
        rows.append(row)
        if kind is None:
            row["error"] = "not installed"
            continue
        try:
            contestant = enter(kind, framework, folder, dtype, prompt, n_new, device)
            row["difference"] = check_agreement(contestant.logits(), truth, dtype)
            row["tokens"] = contestant.run(n_new if task == "decode" else 1)
            if isinstance(contestant, CTranslate2):
                row |= contestant.about
            running[name] = contestant
        except Exception as error:  # the others are still worth timing, and the row says what happened
            if kind is Ours:
                raise
            row["error"] = f"{type(error).__name__}: {error}"
    calls = {"memory": reader} if reader else {}
    for name, contestant in running.items():
        calls[name, 1] = lambda contestant=contestant: contestant.run(1)
        if task == "decode":
            calls[name, n_new] = lambda contestant=contestant: contestant.run(n_new)
    seconds, net = _net_seconds(task, calls, running, n_new, repeats)
    for row in rows:
        own = net.get(row["name"])
        if own and not is_clear(own):
            row["error"] = f"{n_new} new tokens take less time than the prompt varies by: name more of them"
        elif own:
            row["seconds"] = statistics.median(own)
            tokens = n_new - 1 if task == "decode" else prompt.shape[1]
            row["tokens_per_second"] = tokens / row["seconds"]
            if is_clear(net["tfguide"]):
                row["ratio"] = median_ratio(net, row["name"], "tfguide")  # how many times faster ours is
            if reader:
                row["read_bytes_per_second"] = reader.n_bytes / statistics.median(seconds["memory"])
                row |= _share(task, config, row, own, seconds["memory"], reader.n_bytes, found)
    running.clear()
    gc.collect()
    return rows


def _net_seconds(task, calls, names, n_new, repeats):
    """The seconds of each call, and those of each contestant: of its new tokens without the prompt, or of the prompt.

    The prompt is in both runs that are subtracted. Where its time varies by more than the tokens take, as with a tiny
    model, more rounds are measured, up to MOST_TURNS times as many.
    """
    seconds, net = {name: [] for name in calls}, {}
    for turn in range(MOST_TURNS):
        for name, more in take_turns(calls, repeats, warmup=0 if turn else 2).items():
            seconds[name] += more
        for name in names:
            first, whole = seconds[name, 1], seconds.get((name, n_new))
            net[name] = [b - a for a, b in zip(first, whole, strict=True)] if task == "decode" else first
        if all(map(is_clear, net.values())):
            break
    return seconds, net


def is_clear(seconds: Sequence[float]) -> bool:
    """Whether the median of differences of times lies above 0 by more than its standard error."""
    middle = statistics.median(seconds)
    deviation = 1.48 * statistics.median(abs(value - middle) for value in seconds)
    return middle > 0 and middle >= 1.25 * deviation / len(seconds) ** 0.5


def _truth(framework, folder, prompt):
    plain = Ours(framework, folder, "float32", prompt, fast=False)
    return plain.logits()


def _share(task, config, row, seconds, reading, n_bytes, found):
    """The result as a share of what the machine can do: operations for reading a prompt, bytes for decoding.

    The memory's speed is that of the same round: where machines share a memory it changes from minute to minute.
    """
    if task == "prefill":
        peak = max(found["float32_flops"], 0 if row["dtype"] == "float32" else found["bfloat16_flops"])
        return {"share_of_flops": prefill_flops(config, row["prompt"]) / row["seconds"] / peak}
    n_steps = row["new_tokens"] - 1
    needed = n_steps * bytes_read(config, row["dtype"], row["prompt"] + row["new_tokens"] // 2)
    shares = [needed / own * read / n_bytes for own, read in zip(seconds, reading, strict=True)]
    return {"share_of_bandwidth": statistics.median(shares)}


def table(result: dict) -> str:
    """The rows as lines of text, one for each framework, type and prompt, the contestants side by side."""
    lines = [show_machine(result)]
    lines.append(
        f"{'':12}{'type':9}{'prompt':>7}{'':2}{'tokens/s':>10}{'ours is':>9}{'of limit':>10}{'peak memory':>13}"
    )
    for row in result["rows"]:
        name = show_name(row)
        start = f"{name:20} {row['dtype']:9}{row['prompt']:>6}"
        if "error" in row:
            lines.append(f"{start}  {row['error']}")
            continue
        share = row.get("share_of_bandwidth", row.get("share_of_flops"))
        ratio = "" if row["name"] == "tfguide" or "ratio" not in row else f"{row['ratio']:.2f} x"
        peak = row.get("memory", {}).get("peak_bytes")
        lines.append(
            f"{start}{row['tokens_per_second']:>10.1f}{ratio:>10}{'' if share is None else f'{share:.0%}':>8}"
            + (f"{peak / 1e6:>10.0f} MB" if peak else "")
        )
    return "\n".join(lines)


def read_result(file: str | os.PathLike, machine: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The result that a file holds, which another one goes on with; {} where there is no file.

    machine: of what will stand beside it. Raises ValueError where the file names another one: times of two machines
    do not stand in one table.
    """
    if not os.path.exists(file):
        return {}
    with open(file, encoding="utf-8") as opened:
        found = json.load(opened)
    if machine is not None and found.get("machine", machine) != machine:
        raise ValueError(f"{file} was measured on {found['machine']}, this is {machine}")
    return found


def write_json(result: dict, file: str) -> None:
    """Write a result under a temporary name and rename it: a reader never sees half of it."""
    write_file(file, json.dumps(result, indent=1))
