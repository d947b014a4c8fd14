"""The time of a token and its price in chip-seconds on 1 to 4096 chips, with published times beside the model's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tfguide.config import ModelConfig
from tfguide.cost.plan import plan
from tfguide.cost.published import (
    FIGURE_6,
    GPT_FAST,
    MLPERF_BATCH,
    MLPERF_CONTEXT,
    MLPERF_SECONDS,
    TABLE_3,
)
from tfguide.cost.step import Step

CHIP_COUNTS = tuple(2**i for i in range(13))


@dataclass(frozen=True, kw_only=True)
class Workload:
    """A step of decoding, and how long it takes where that was measured.

    model: a preset; chip: its name; types: of weights, cache and products, as `plan` takes them; measured: seconds by
    chips; source: who measured.
    """

    name: str
    model: str
    chip: str
    batch: int
    context: int
    types: Mapping[str, str]
    measured: Mapping[int, float]
    source: str

    @property
    def config(self) -> ModelConfig:
        """The model."""
        return ModelConfig.from_preset(self.model)

    def best(self, chips: int) -> Step | None:
        """The step of the fastest layout on so many chips; None where weights and cache do not fit."""
        try:
            return plan(self.config, self.chip, self.batch, self.context, chips=chips, **self.types).decode
        except ValueError:  # no plan
            return None

    def curve(self) -> list[Step]:
        """The fastest step at each of `CHIP_COUNTS` where the model fits."""
        return [one for one in map(self.best, CHIP_COUNTS) if one is not None]

    def price(self, chips: int, seconds: float) -> float:
        """The chip-seconds of one token in a step that takes so long."""
        return chips * seconds / self.batch


_TABLE_3_CHIPS, _, _TABLE_3_TOKENS, _, _TABLE_3_SECONDS, _ = TABLE_3["high-throughput decode"]
_FLOAT8 = {"weights": "float8", "kv": "float8", "products": "float8"}

#: Four models in five workloads: two of many sequences from one laboratory, two of a single one, and one of a server.
WORKLOADS = (
    Workload(
        name="PaLM 540B, batch 512", model="palm-540b", chip="tpu-v4", batch=512, context=2048, types={},
        measured={chips: two / 1e3 for chips, (two, _) in FIGURE_6.items()}, source="Pope et al., figure 6",
    ),
    Workload(
        name="PaLM 62B, batch 512", model="palm-62b", chip="tpu-v4", batch=512, context=2048, types={},
        measured={_TABLE_3_CHIPS: _TABLE_3_SECONDS / _TABLE_3_TOKENS}, source="Pope et al., table 3",
    ),
    Workload(
        name=f"Llama 2 70B, float8, batch {MLPERF_BATCH}", model="llama-2-70b", chip="h100", batch=MLPERF_BATCH,
        context=MLPERF_CONTEXT, types=_FLOAT8, measured={2: MLPERF_SECONDS}, source="MLPerf Inference v4.1",
    ),
    *(
        Workload(
            name=f"Llama 2 {model.rpartition('-')[2].upper()}, batch 1", model=model, chip="a100", batch=1, context=200,
            types={}, measured={chips: 1 / speed for chips, speed in GPT_FAST[model].items()}, source="gpt-fast",
        )
        for model in ("llama-2-70b", "llama-2-7b")
    ),
)  # fmt: skip
