"""The timing of both forms of latent attention: a row for each number of positions, and the forms agree."""

import importlib

import pytest

from tests.support import FRAMEWORKS, load
from tfguide import LatentAttention
from tfguide.bench.latent import measure_forms, table

LATENT = LatentAttention(kv_rank=64, d_nope=16, d_rope=8, d_value=24)


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_rows_of_both_forms(name):
    framework = importlib.import_module(name)
    as_tensor = framework.from_numpy if name == "torch" else framework.convert_to_tensor
    rows = measure_forms(load(name), as_tensor, LATENT, 8, (5, 1009), (1, 5), 3)
    assert [(row["n_queries"], row["n_keys"]) for row in rows] == [(1, 5), (1, 1009), (5, 5), (5, 1009)]
    assert all(row["difference"] < 1e-4 for row in rows)
    assert [row["absorbs"] for row in rows] == [True, True, False, True]
    assert all(row["made_seconds"] > 0 and row["absorbed_seconds"] > 0 for row in rows)
    assert [line.split()[-1] for line in table(rows).splitlines()[1:]] == ["absorbed", "absorbed", "made", "absorbed"]
    with pytest.raises(ValueError, match="n_keys must be at least 5, got 3"):
        measure_forms(load(name), as_tensor, LATENT, 8, (3,), (5,))
