"""`python -m tfguide.bench.mixtures`: equal sizes where they are claimed, and a mixture that is read otherwise."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from tests.support import FRAMEWORKS, load
from tfguide import ModelConfig, cost
from tfguide.bench import mixtures

BENCHMARKS = Path(__file__).parents[1] / "book" / "appendices" / "benchmarks"
MEASURED = BENCHMARKS / "documentation" / "mixtures.json"
FEW = dataclasses.replace(mixtures.RECIPE, steps=2, warmup=1, rows=2, length=16)


def test_the_ordinary_networks_are_as_wide_as_they_say():
    models = mixtures.contestants(211)
    narrow, *mixed, wide = models.values()
    router = 2 * 128 * 8
    two = next(config for config in mixed if config.experts.per_token == 2)
    assert cost.active_parameters(two) == cost.parameters(narrow) + router
    assert cost.parameters(two) == cost.parameters(wide) + router
    assert [config.experts.per_token for config in mixed] == [1, 2]
    assert [config.experts.normalised for config in mixed] == [False, True]
    assert mixtures.reading(two, 5).experts == dataclasses.replace(two.experts, per_token=5)


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_row_has_the_perplexity_by_the_experts_read(name):
    tokens = np.random.default_rng(0).integers(0, 97, 600)
    found = {}
    for kind, config in mixtures.contestants(97).items():
        if kind[0] in "2a":
            row = mixtures.measure_mixture(load(name), kind, config, FEW, tokens, tokens[:64])
            found[kind] = row
            assert len(row["loss"]) == 2 and row["parameters"] == cost.parameters(config)
    row = found["2 of 8 experts"]
    assert list(row["read"]) == list(range(1, 9)) and row["read"][2] == pytest.approx(row["perplexity"], rel=1e-5)
    assert len(set(row["read"].values())) == 8 and "read" not in found["a network of all experts' width"]
    assert len(mixtures.table(list(found.values())).splitlines()) == 4


def test_what_was_measured_is_what_the_page_says():
    result = json.loads(MEASURED.read_text())
    rows = {row["name"]: row for row in result["rows"]}
    assert list(rows) == [name for name in mixtures.contestants(4096) if name in rows] and len(rows) >= 3
    for row in rows.values():
        config = ModelConfig.from_dict(row["config"])
        assert (row["parameters"], row["active_parameters"]) == (
            cost.parameters(config),
            cost.active_parameters(config),
        )
    read = {int(n): value for n, value in rows["2 of 8 experts"]["read"].items()}
    narrow = rows["a network of two experts' width"]["perplexity"]
    assert read[2] == pytest.approx(rows["2 of 8 experts"]["perplexity"])
    assert read[2] < 0.95 * narrow
    assert read[1] > 1.02 * read[2] and all(read[n] > 0.99 * read[2] for n in range(3, 9))
    assert rows["1 of 8 experts"]["perplexity"] > 0.98 * narrow
