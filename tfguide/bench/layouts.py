"""`python -m tfguide.bench.layouts`: every layout on real processes, against the undivided layer and the closed forms.

A row for each layout, mesh and version: the largest difference from the undivided layer, and the elements that a
process sends, counted around the real collectives, by the closed form, and on the simulated mesh.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import tfguide.reference
from tfguide.bench.layout_cases import cases, run_all, without_zeros
from tfguide.bench.run import write_json
from tfguide.bench.timing import machine
from tfguide.sharding import mesh as layouts
from tfguide.sharding.launch import launch

#: Where the layouts run: the framework, how it moves tensors, and whether each process is one of the system's.
VERSIONS = {
    "collectives": ("torch", "collectives", True),
    "torch": ("torch", "DTensor", True),
    "tensorflow": ("tensorflow", "DTensor", False),
}
ONE_THREAD = {"OMP_NUM_THREADS": "1", "TFGUIDE_THREADS": "1"}


def measure(version: str, n: int) -> list[dict[str, Any]]:
    """A row for each of `cases(n)` in one of VERSIONS, carried out by n processes with one thread each.

    "difference": the largest on any process; "counted": the elements that one process has sent, in all, and "sent" by
    step; "closed_form", "simulated": the same by the formulas and on the simulated mesh. Raises RuntimeError where a
    process fails or hangs, and where the processes have not all sent the same; none is left behind.
    """
    framework, how, is_divided = VERSIONS[version]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "tfguide.bench.layout_process", version, str(n), folder]
        status = launch(n if is_divided else 1, command, ONE_THREAD)
        if status:
            raise RuntimeError(f"the processes of {version!r} have failed with status {status}")
        each = [json.loads(path.read_text()) for path in sorted(Path(folder).glob("*.json"))]
    rows = []
    for case, simulated, *found in zip(cases(n), _simulated(n), *each, strict=True):
        sent = found[0]["sent"]
        if any(other["sent"] != sent for other in found):
            raise RuntimeError(f"the processes have sent different numbers of elements: {case}")
        expected = without_zeros(case.closed_form())
        rows.append({
            "framework": framework, "version": how, "processes": n, **asdict(case),
            "difference": max(one["difference"] for one in found), "counted": sum(sent.values()),
            "closed_form": sum(expected.values()), "simulated": sum(simulated["sent"].values()),
            "sent": sent, "expected": expected,
        })  # fmt: skip
    return rows


def _simulated(n):
    """The cases on the simulated mesh."""
    return run_all(n, layouts, layouts.Mesh, tfguide.reference, lambda array: array)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as a table of text."""
    head = f"{'processes':>9}  {'framework':11}{'version':13}{'layer':14}{'layout':8}{'mesh':11}{'':11}"
    lines = [f"{head}{'difference':>11}{'counted':>10}{'formula':>10}{'simulated':>10}"]
    for row in rows:
        kind = f"{row['kv_heads']} K/V" if row["layer"] == "attention" else "gated" if row["gated"] else ""
        mesh = " x ".join(map(str, row["mesh"]))
        lines.append(
            f"{row['processes']:9}  {row['framework']:11}{row['version']:13}{row['layer']:14}{row['layout']:8}{mesh:11}"
            f"{kind:11}{row['difference']:11.1e}{row['counted']:10.0f}{row['closed_form']:10.0f}{row['simulated']:10.0f}"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run every version with every number of processes, print the table, and write the JSON; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m tfguide.bench.layouts", description=__doc__.split("\n\n")[0])
    parser.add_argument("--processes", nargs="+", type=int, default=[2, 4, 8], metavar="N", help="default: 2 4 8")
    parser.add_argument("--version", nargs="+", choices=VERSIONS, default=list(VERSIONS), help="default: all")
    parser.add_argument("--json", metavar="FILE", help="write the result to FILE")
    options = parser.parse_args(arguments)
    result = {"task": "layouts", "machine": machine(), "rows": []}
    for n in options.processes:
        for version in options.version:
            result["rows"] += measure(version, n)
            if options.json:
                write_json(result, options.json)
            print(f"{version} on {n} processes: done", file=sys.stderr, flush=True)
    print(table(result["rows"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
