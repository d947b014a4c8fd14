"""`python -m tfguide.bench.processes`: a step of a model on several processes, against what one process predicts.

In every round, one process computes the step alone while the others wait; all compute it alone at once; all compute it
together; and they exchange what a step exchanges, without computing. The last two are done through shared memory, and
by gloo's messages. Each process has one thread.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfguide.bench.memory import resident
from tfguide.bench.run import write_json
from tfguide.bench.timing import machine, seconds_of
from tfguide.checks.values import check_count
from tfguide.loading import find_checkpoint
from tfguide.sharding.counts import model_communication
from tfguide.sharding.cuts import elements_of
from tfguide.sharding.launch import ONE_THREAD, launch

CASES = (("decode", 1), ("decode", 8), ("prefill", 128))  # what is read, and its rows or its tokens
WAYS = ("alone", "at once", "together", "exchange", "together by messages", "exchange by messages")
CONTEXT = 128
DTYPE = "float32"


def measure(checkpoint: Path, n: int, repeats: int = 9) -> dict[str, Any]:
    """What `rows` of the cases are on n processes, and the memory of each of them.

    A row: "seconds", the median of each of WAYS on the slowest process in each round; "ratio", of "together" to "alone"
    in the same round; "messages" and "sent", the exchanges of a step and the elements that one process sends. Raises
    ValueError for counts below 1 and as `check_processes`; RuntimeError as `launch`.
    """
    check_count("processes", n), check_count("repeats", repeats)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "tfguide.bench.processes", "--work", folder, str(checkpoint), str(repeats)]
        if launch(n, command, ONE_THREAD):
            raise RuntimeError(f"the {n} processes have failed")
        each = [json.loads((Path(folder) / f"{rank}.json").read_text()) for rank in range(n)]
    memory = [{name: one[name] for name in ("share_bytes", "anonymous_bytes")} for one in each]
    rows = [_row(n, each, case) for case in range(len(CASES))]
    return {"processes": n, "memory": memory, "whole_bytes": each[0]["whole_bytes"], "rows": rows}


def _row(n, each, case):
    kind, size = CASES[case]
    rounds = {way: np.max([one["seconds"][case][way] for one in each], axis=0) for way in WAYS}
    rounds["alone"] = np.array(each[0]["seconds"][case]["alone"])

    def over_alone(seconds):
        return float(np.median(seconds / rounds["alone"]))

    largest = max(one["share_bytes"] for one in each) / each[0]["whole_bytes"]
    seconds = {way: float(np.median(rounds[way])) for way in WAYS}
    return {
        "kind": kind, "size": size, "seconds": seconds, "largest_share": largest,
        **{
            f"{name}{how}": over_alone(seconds)
            for how in ("", " by messages")
            for name, seconds in {
                "ratio": rounds[f"together{how}"],
                "predicted": rounds["alone"] * largest + rounds[f"exchange{how}"],
                "predicted at once": rounds["at once"] * largest + rounds[f"exchange{how}"],
            }.items()
        },
        "messages": each[0]["messages"][case], "sent": each[0]["sent"][case],
    }  # fmt: skip


def work(folder: str, checkpoint: str, repeats: str) -> None:
    """What each of the processes does; its times are written to a file in the folder."""
    from tfguide.torch import load_checkpoint
    from tfguide.torch.parallel import joined, load_parallel

    with joined(timeout=120) as group:
        before = resident("RssAnon")
        model = load_parallel(checkpoint, group, dtype=DTYPE)
        found = {
            "anonymous_bytes": resident("RssAnon") - before,
            "share_bytes": 4 * elements_of(model.share.config, group.n, group.rank),
        }  # fmt: skip
        messages = load_parallel(checkpoint, group.by_messages(), dtype=DTYPE)
        whole = group.all_do(lambda: load_checkpoint(checkpoint, dtype=DTYPE))
        found["whole_bytes"] = 4 * elements_of(whole.config, 1, 0)
        found |= {"seconds": [], "messages": [], "sent": []}
        for kind, size in CASES:
            calls = {"alone": _step(whole, kind, size), "together": _step(model, kind, size)}
            calls |= {"at once": calls["alone"], "exchange": _exchange(group, model, kind, size)}
            calls["together by messages"] = _step(messages, kind, size)
            calls["exchange by messages"] = _exchange(messages.group, model, kind, size)
            group.sent.clear()
            calls["together"]()
            found["sent"].append(sum(group.sent.values()))
            expected = model_communication(model.share.config, *_sizes(kind, size), group.n)
            if group.sent != expected:
                raise RuntimeError(f"sent {group.sent}, expected {expected}")
            found["messages"].append(2 * model.config.n_layers + 2)
            found["seconds"].append(_rounds(group, calls, int(repeats)))
        (Path(folder) / f"{group.rank}.json").write_text(json.dumps(found))


def _rounds(group, calls: Mapping[str, Callable[[], object]], repeats):
    """The seconds of each call in each round, after one that is not counted."""
    seconds = {way: [] for way in WAYS}
    for turn in range(repeats + 1):
        for way in WAYS:
            group.wait()
            took = 0.0 if way == "alone" and group.rank else seconds_of(calls[way])
            if turn:
                seconds[way].append(took)
    return seconds


def _sizes(kind, size):
    """The tokens that a step reads, and the rows of logits that it computes."""
    return (size, size) if kind == "decode" else (size, 1)


def _step(model, kind, size):
    """A call that computes one step from the same state each time."""
    tokens = np.random.default_rng(0).integers(0, model.config.vocab_size, (size if kind == "decode" else 1, CONTEXT))
    if kind == "prefill":
        return lambda: model.prefill(tokens[:, :size], model.new_cache(1, size))
    cache = model.new_cache(size, CONTEXT + 1)
    model.prefill(tokens, cache)

    def step():
        cache.rewind(CONTEXT)
        model.decode(tokens[:, 0], cache)

    return step


def _exchange(group, model, kind, size):
    """A call that sends what a step sends, and computes nothing."""
    import torch

    tokens, rows = _sizes(kind, size)
    x, logits = torch.zeros(tokens, model.config.d_model), torch.zeros(rows, model.share.words[group.rank])

    def exchange():
        for _ in range(2 * model.config.n_layers + 1):
            group.all_reduce(x, "measured")
        group.all_gather(logits, 1, "measured", model.share.words)

    return exchange


def table(result: Mapping[str, Any]) -> str:
    """The result as a table of text."""
    lines = [f"{'n':>2}  {'reads':12}{'by':9}{'alone':>8}{'together':>9}{'exchange':>9}{'ratio':>7}{'predicted':>16}"]
    for run in result["runs"]:
        for row in run["rows"]:
            for how in ("", " by messages"):
                seconds = (1e3 * row["seconds"][way] for way in ("alone", f"together{how}", f"exchange{how}"))
                lines.append(
                    f"{run['processes']:2}  {row['kind']:8}{row['size']:<4}{how[4:] or 'memory':9}"
                    + "{:8.1f}{:9.1f}{:9.1f}".format(*seconds)
                    + f"{row[f'ratio{how}']:7.2f}{row[f'predicted{how}']:8.2f} or {row[f'predicted at once{how}']:.2f}"
                )
        held = ", ".join(
            f"{one['anonymous_bytes'] / 1e6:.0f} ({one['share_bytes'] / 1e6:.0f})" for one in run["memory"]
        )
        lines.append(f"memory of each, and of its weights: {held} MB; of all weights {run['whole_bytes'] / 1e6:.0f}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure on each number of processes, print the table in milliseconds, and write the JSON; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m tfguide.bench.processes", description=__doc__.split("\n\n")[0])
    parser.add_argument("--processes", nargs="+", type=int, default=[2], metavar="N", help="default: 2")
    parser.add_argument("--checkpoint", metavar="PATH", help="default: SmolLM2-135M-Instruct")
    parser.add_argument("--repeats", type=int, default=9, metavar="N", help="rounds; default: 9")
    parser.add_argument("--json", metavar="FILE", help="write the result to FILE")
    parser.add_argument("--work", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.work:
        work(*options.work)
        return 0
    checkpoint = find_checkpoint(options.checkpoint)
    result = {"task": "processes", "machine": machine(), "dtype": DTYPE, "context": CONTEXT, "runs": []}
    for n in options.processes:
        result["runs"].append(measure(checkpoint, n, options.repeats))
        if options.json:
            write_json(result, options.json)
    print(table(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
