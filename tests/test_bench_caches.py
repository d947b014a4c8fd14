"""`tfguide bench caches`: the perplexity of a text that is read through each type of cache."""

import numpy as np
import pytest

from tests.support import FRAMEWORKS, load, random_weights, small_config
from tfguide.bench.caches import measure_caches, table
from tfguide.dtypes import CACHE_DTYPES


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_the_rows_are_those_of_the_caches(name):
    config = small_config(positions="rotary", max_positions=110)
    module = load(name)
    model = module.from_weights(config, random_weights(config))
    tokens = np.random.default_rng(0).integers(0, 37, 101)
    rows = measure_caches(model, tokens, CACHE_DTYPES, 3)
    want = module.perplexity(model, tokens, 101)
    found = {row["cache_dtype"]: row for row in rows}
    assert tuple(found) == CACHE_DTYPES
    assert found["float32"]["perplexity"] == pytest.approx(want, rel=1e-5) and found["float32"]["over"] == 0
    for kind, row in found.items():
        assert row["positions"] == 100 and row["bytes"] == model.new_cache(1, 103, kind).nbytes
        assert row["over"] == pytest.approx(row["perplexity"] / want - 1, abs=1e-5)
        assert abs(row["over"]) < 0.05 and row["step_seconds"] > 0 and row["read_seconds"] > 0
    assert abs(found["int4"]["over"]) > 1e-5
    assert [line.split()[0] for line in table(rows).splitlines()] == ["cache", *CACHE_DTYPES]
    with pytest.raises(ValueError, match="must be at least 2, got 1"):
        measure_caches(model, [5])
