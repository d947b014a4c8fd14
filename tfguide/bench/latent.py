"""Both forms of latent attention, timed: keys and values made from the cached vectors, or the matrices absorbed."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from tfguide.checks.values import check_count
from tfguide.parts import LatentAttention


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
    float32 with random numbers and a batch of 1. "made_seconds" and "absorbed_seconds": the median of `n_runs`;
    "difference": the largest between the results; "absorbs": what the layers choose. Raises ValueError for more queries
    than keys and for numbers below 1.
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
            rows.append({
                "n_queries": T, "n_keys": S, "made_seconds": _median(made, n_runs),
                "absorbed_seconds": _median(absorbed, n_runs), "difference": difference,
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


def _median(run, n_runs):
    seconds = []
    for _ in range(n_runs):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)
