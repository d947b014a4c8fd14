"""Both forms of latent attention, timed: keys and values made from the cached vectors, or the matrices absorbed.

    python -m tfguide.bench.latent --json latent.json

times a layer with the sizes of DeepSeek-V2-Lite in both frameworks.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import statistics
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from tfguide.bench.run import write_json
from tfguide.bench.timing import machine, median_ratio, take_turns
from tfguide.checks.values import check_count
from tfguide.parts import LatentAttention

LITE, HEADS = LatentAttention(kv_rank=512, d_nope=128, d_rope=64, d_value=128), 16
KEYS, QUERIES = (1024, 4096), (1, 16, 64, 256, 1024)
TENSORS = {"torch": "from_numpy", "tensorflow": "convert_to_tensor"}


def measure_forms(
    module: ModuleType,
    as_tensor: Callable[[np.ndarray], Any],
    latent: LatentAttention,
    n_heads: int,
    n_keys: Sequence[int],
    n_queries: Sequence[int] = (1,),
    n_runs: int = 5,
) -> list[dict]:
    """A row for each number of queries and of keys: the seconds of one layer's attention in both forms.

    module: `tfguide.torch` or `tfguide.tensorflow`; as_tensor: makes its tensors of float32 arrays. What is timed lies
    between the projections: from queries, and what a cache keeps of the keys, to the output of the heads, in
    float32 with random numbers and a batch of 1. "made_seconds" and "absorbed_seconds": the median of `n_runs`, in
    which the forms take turns; "speed": how many times as fast absorbing is, the median of the turns; "difference": the
    largest between the results; "absorbs": what the layers choose. Raises ValueError for more queries than keys and for
    numbers below 1.
    """
    n_runs, rows, stream = check_count("n_runs", n_runs), [], np.random.default_rng(0)
    for T in n_queries:
        for S in n_keys:
            check_count("n_keys", S, least=check_count("n_queries", T))
            shapes = (
                (1, T, n_heads, latent.d_head), (1, S, 1, latent.d_rope), (1, S, 1, latent.kv_rank),
                (latent.kv_rank, n_heads, latent.d_nope + latent.d_value),
            )  # fmt: skip
            arrays = [stream.standard_normal(shape, np.float32) for shape in shapes]
            arrays[3] /= np.float32(np.sqrt(latent.kv_rank))
            query, *kept, up = map(as_tensor, arrays)

            def made(query=query, kept=kept, up=up):
                keys_values = module.latent_keys_values(*kept, up, latent.d_nope)
                return np.asarray(module.scaled_dot_product_attention(query, *keys_values))

            def absorbed(query=query, kept=kept, up=up):
                return np.asarray(module.absorbed_attention(query, *kept, up))

            difference = float(np.abs(made() - absorbed()).max())  # and both are ready to be timed
            seconds = take_turns({"made": made, "absorbed": absorbed}, n_runs, 0)
            rows.append({
                "n_queries": T, "n_keys": S, "made_seconds": statistics.median(seconds["made"]),
                "absorbed_seconds": statistics.median(seconds["absorbed"]),
                "speed": median_ratio(seconds, "made", "absorbed"), "difference": difference,
                "absorbs": latent.absorbs(T, S),
            })  # fmt: skip
    return rows


def table(rows: Sequence[dict]) -> str:
    """The rows as a table of text."""
    lines = [f"{'new':>5}{'keys':>7}{'made ms':>10}{'absorbed ms':>13}  chosen"]
    for row in rows:
        times = f"{row['made_seconds'] * 1e3:10.2f}{row['absorbed_seconds'] * 1e3:13.2f}"
        lines.append(f"{row['n_queries']:5}{row['n_keys']:7}{times}  {'absorbed' if row['absorbs'] else 'made'}")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m tfguide.bench.latent", description=__doc__.split("\n\n")[0])
    parser.add_argument("--framework", nargs="+", choices=TENSORS, default=list(TENSORS), help="default: both")
    parser.add_argument("--keys", nargs="+", type=int, default=KEYS, help="positions of the text")
    parser.add_argument("--queries", nargs="+", type=int, default=QUERIES, help="new positions; not more than keys")
    parser.add_argument("--repeats", type=int, default=7, help="turns of the two forms")
    parser.add_argument("--json", metavar="FILE", help="write the machine and the rows there")
    options = parser.parse_args(arguments)
    about, rows = machine(), []
    print(f"{about['processor']}, {about['cores']} cores")
    for name in options.framework:
        as_tensor = getattr(importlib.import_module(name), TENSORS[name])
        module = importlib.import_module(f"tfguide.{name}")
        own = measure_forms(module, as_tensor, LITE, HEADS, options.keys, options.queries, options.repeats)
        print(f"{name}\n{table(own)}")
        rows += [{"framework": name, **row} for row in own]
    if options.json:
        found = {"machine": about, "latent": dataclasses.asdict(LITE), "n_heads": HEADS, "rows": rows}
        write_json(found, options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
