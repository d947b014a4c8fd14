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
from tfguide.checks.values import check_choice
from tfguide.loading import FRAMEWORKS
from tfguide.sharding import mesh as layouts
from tfguide.sharding.launch import ONE_THREAD, launch


def measure(framework: str, n: int) -> list[dict[str, Any]]:
    """A row for each of `cases(n)` in each version of a framework, carried out by n processes with one thread each.

    TensorFlow has n devices in one process instead. "difference": the largest on any process; "counted": the elements
    that one process has sent, in all, and "sent" by step; "closed_form", "simulated": the same by the formulas, by step
    in "expected", and on the simulated mesh. Raises RuntimeError where a process fails or hangs, and where the
    processes have not all sent the same; none is left behind.
    """
    check_choice("framework", framework, FRAMEWORKS)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "tfguide.bench.layout_process", framework, str(n), folder]
        status = launch(n if framework == "torch" else 1, command, ONE_THREAD)
        if status:
            raise RuntimeError(f"the processes of {framework} have failed: status {status}")
        each = [json.loads(path.read_text()) for path in Path(folder).glob("*.json")]
    simulated = _simulated(n)
    return [
        {"framework": framework, "version": version, "processes": n, **row}
        for version in each[0]
        for row in _rows(n, simulated, [one[version] for one in each])
    ]


def _rows(n, simulated, each):
    """The rows of one version. each: what every process has found."""
    for case, on_mesh, *found in zip(cases(n), simulated, *each, strict=True):
        sent, expected = found[0]["sent"], without_zeros(case.closed_form())
        if any(other["sent"] != sent for other in found):
            raise RuntimeError(f"the processes have sent different numbers of elements: {case}")
        yield {
            **asdict(case), "difference": max(one["difference"] for one in found), "counted": sum(sent.values()),
            "closed_form": sum(expected.values()), "simulated": sum(on_mesh["sent"].values()), "sent": sent,
            "expected": expected,
        }  # fmt: skip


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
    """Run the layouts in each framework with each number of processes, print the table, write the JSON; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m tfguide.bench.layouts", description=__doc__.split("\n\n")[0])
    parser.add_argument("--processes", nargs="+", type=int, default=[2, 4, 8], metavar="N", help="default: 2 4 8")
    parser.add_argument("--framework", nargs="+", choices=FRAMEWORKS, default=list(FRAMEWORKS), help="default: both")
    parser.add_argument("--json", metavar="FILE", help="write the result to FILE")
    options = parser.parse_args(arguments)
    result = {"task": "layouts", "machine": machine(), "rows": []}
    for n in options.processes:
        for framework in options.framework:
            result["rows"] += measure(framework, n)
            if options.json:
                write_json(result, options.json)
            print(f"{framework} on {n} processes: done", file=sys.stderr, flush=True)
    print(table(result["rows"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
