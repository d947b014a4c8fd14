"""What zeros in a matrix are worth on this processor: dense products, sparse ones, and smaller dense ones.

    python -m tfguide.bench.sparsity --json result.json

A product of one row is bound by reading the matrix, one of 128 rows by arithmetic. A sparse format stores an index with
every number that is left, and reads them in an order that no vector instruction likes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys

from tfguide.bench.timing import machine, median_ratio, take_turns
from tfguide.temporary import write_file

SPARSITIES = (0.5, 0.75, 0.9, 0.95)


def measure(d_in: int = 2048, d_out: int = 5632, rows: tuple[int, ...] = (1, 128), repeats: int = 9) -> list[dict]:
    """Seconds of x @ W for x (rows, d_in): dense, dense with zeros, CSR at several sparsities, and half the outputs.

    A row has the number of `rows`, the name of the kind, its seconds and its speed relative to the dense product.
    """
    import torch

    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(d_out, d_in, generator=generator)
    kinds = {"dense": weight, "half of the outputs": weight[: d_out // 2].contiguous()}
    for sparsity in SPARSITIES:
        threshold = weight.abs().flatten().kthvalue(round(sparsity * weight.numel())).values
        pruned = weight.masked_fill(weight.abs() <= threshold, 0)
        if sparsity == SPARSITIES[0]:
            kinds[f"dense, {sparsity:.0%} zeros"] = pruned
        kinds[f"sparse, {sparsity:.0%} zeros"] = pruned.to_sparse_csr()
    results = []
    for n in rows:
        x = torch.randn(d_in, n, generator=generator)
        calls = {name: lambda matrix=matrix, x=x: matrix @ x for name, matrix in kinds.items()}
        seconds = take_turns(calls, repeats)
        for name in kinds:
            results.append(
                {
                    "rows": n, "kind": name, "seconds": statistics.median(seconds[name]),
                    "speed": median_ratio(seconds, "dense", name),
                }
            )  # fmt: skip
    return results


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m tfguide.bench.sparsity", description=__doc__.split("\n\n")[0])
    parser.add_argument("--json", metavar="FILE", help="write the machine and the results there")
    options = parser.parse_args(arguments)
    results = measure()
    about = machine()
    print(f"{about['processor']}, {about['cores']} cores")
    for row in results:
        print(f"{row['rows']:4} rows  {row['kind']:22} {row['seconds'] * 1e3:8.2f} ms  {row['speed']:5.2f} x dense")
    if options.json:
        write_file(options.json, json.dumps({"machine": about, "sparsity": results}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
