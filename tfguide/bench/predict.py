"""What the cost model predicts for a benchmark on a calibrated machine, beside what was measured."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfguide.bench.models import MODELS
from tfguide.config import ModelConfig
from tfguide.cost.machine import Measured


@dataclass(frozen=True)
class Prediction:
    """Seconds of a step of decoding, or of a prompt: measured and predicted."""

    task: str
    model: str
    framework: str
    dtype: str
    prompt: int
    measured_s: float
    predicted_s: float

    @property
    def error(self) -> float:
        """The predicted time less the measured one, as a part of the measured one."""
        return self.predicted_s / self.measured_s - 1


def read_calibration(file) -> list[Measured]:
    """What `tfguide calibrate --json FILE` wrote. Raises ValueError for another kind of file."""
    try:
        with open(file, encoding="utf-8") as text:
            return [Measured(**fields) for fields in json.load(text)["measured"]]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{file} is not what `tfguide calibrate --json` writes: {error!r}") from error


def predictions(result: Mapping[str, Any], calibration: Iterable[Measured], model: str = "") -> list[Prediction]:
    """A prediction for each row that is ours and of a calibrated framework and type; none for many rows, long texts."""
    known = {(one.framework, one.dtype): one for one in calibration}
    config = ModelConfig.from_dict(result["config"])
    found = []
    for row in result["rows"]:
        machine = known.get((row["framework"], row["dtype"]))
        if result["task"] not in ("decode", "prefill"):
            continue
        if row["name"] != "tfguide" or "seconds" not in row or machine is None:
            continue
        if "read_bytes_per_second" in row:
            machine = machine.when_memory_reads(row["read_bytes_per_second"])
        if result["task"] == "decode":
            steps = row["new_tokens"] - 1
            contexts = range(row["prompt"] + 1, row["prompt"] + steps + 1)
            predicted = sum(machine.decode_seconds(config, context) for context in contexts) / steps
            measured = row["seconds"] / steps
        else:
            predicted, measured = machine.prefill_seconds(config, row["prompt"]), row["seconds"]
        about = (result["task"], model, row["framework"], row["dtype"], row["prompt"])
        found.append(Prediction(*about, measured, predicted))
    return found


def read_results(folder) -> list[dict[str, Any]]:
    """What `tfguide bench --json` wrote into files of a folder, small models first, each with its model's `size`.

    The size is one of `MODELS`, or the name of the checkpoint folder that was measured.
    """
    sizes = {config.d_model: name for name, config in MODELS.items() if config.experts is None}
    contents = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(Path(folder).glob("*.json"))]
    results = [
        content | {"size": content["model"] if "model" in content else sizes[content["config"]["d_model"]]}
        for content in contents
        if "task" in content
    ]
    return sorted(results, key=lambda result: result["config"]["d_model"])


def predictions_in(folder) -> list[Prediction]:
    """The predictions for all benchmarks in a folder, with the calibration that lies there as machine.json."""
    calibration = read_calibration(Path(folder) / "machine.json")
    return [one for result in read_results(folder) for one in predictions(result, calibration, result["size"])]


def table(found: Iterable[Prediction]) -> str:
    """The predictions as text."""
    lines = [f"{'predicted':20} {'type':9}{'prompt':>6}{'measured':>13}{'predicted':>13}{'error':>8}"]
    for one in found:
        lines.append(
            f"{one.framework:20} {one.dtype:9}{one.prompt:>6}{1e3 * one.measured_s:>10.2f} ms"
            f"{1e3 * one.predicted_s:>10.2f} ms{one.error:>8.0%}"
        )
    return "\n".join(lines)
