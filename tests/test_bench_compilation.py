"""`python -m tfguide.bench.compilation`: the ways to run a step agree, and each is compiled once."""

import json
import math

import numpy as np
import pytest

from tests.support import FRAMEWORKS, load, random_weights, small_config
from tfguide import cost
from tfguide.bench import compilation, operations
from tfguide.bench.models import bytes_read

CONFIG = small_config(positions="rotary", n_kv_heads=2, n_layers=1, max_positions=90, norm="rms", activation="swiglu")


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_every_way_agrees_and_is_compiled_once(name, traced):
    weights = random_weights(CONFIG)
    rows = compilation.measure_compilation(name, CONFIG, weights, n_new=2, repeats=3, steps=5)
    by = {row["kind"]: row for row in rows}
    assert list(by) == ["eager", *(["graph"] if name == "tensorflow" else []), "compiled", "kernels"]
    for kind, row in by.items():
        wanted = [1, 1] if kind in ("graph", "compiled") else [0, 0]
        assert row["programs"] == wanted and row["difference"] < 1e-4
        assert row["seconds"] > 0 and row["bytes"] == bytes_read(CONFIG, "float32", compilation.PROMPT + 1)
        assert row["worth"] == cost.steps_to_pay(row["first_seconds"], by["eager"]["seconds"], row["seconds"])
        assert row["operations"] == by["eager"]["operations"]
    assert by["compiled"]["first_seconds"] > 10 * by["compiled"]["seconds"]
    lines = compilation.table([{"model": "tiny"} | row for row in rows]).splitlines()
    assert len(lines) == 1 + len(rows) and f"{name}, tiny, compiled" in lines[-2]
    with pytest.raises(ValueError, match="steps must be at least 2, got 1"):
        compilation.measure_compilation(name, CONFIG, weights, n_new=2, steps=1)


def test_a_file_keeps_what_is_not_measured_again(tmp_path):
    rows = [{"framework": name, "model": model} for name in FRAMEWORKS for model in ("S", "SmolLM2")]
    file, fresh = tmp_path / "kept.json", {"machine": {"cores": 2}, "frameworks": {}, "rows": []}
    file.write_text(json.dumps(fresh | {"frameworks": {"torch": 1}, "rows": rows}))
    kept = compilation.kept_rows(str(file), fresh, [("torch", "S"), ("tensorflow", "SmolLM2")])
    assert kept == fresh | {"frameworks": {"torch": 1}, "rows": rows[1:3]}
    with pytest.raises(ValueError, match=r"kept\.json was measured on .'cores': 2., this"):
        compilation.kept_rows(str(file), fresh | {"machine": {"cores": 3}}, [])


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_operations_are_counted_by_layers(name):
    tokens = np.array([[1, 2, 3]])
    counted = []
    for n in (1, 2, 3):
        config = CONFIG.replace(n_layers=n)
        model = load(name).from_weights(config, random_weights(config))
        counted.append(operations.count(name, model, tokens))
    layer = operations.layer_names(name, CONFIG)
    assert counted[2] - counted[1] == counted[1] - counted[0] == len(layer)
    assert sum(one in operations.PRODUCTS for one in layer) == 7  # q, k, v, output, gate, up, down
    assert 0 < operations.start_seconds(name, repeats=2, calls=50) < 1e-2


def test_seconds_follow_from_operations_and_bytes():
    assert cost.started_seconds(100, 2e-6, 3e9, 1e10) == pytest.approx(2e-4 + 0.3)
    for compiling, plain, compiled in ((30.0, 0.0703, 0.0204), (0.1 * 3, 0.3, 0.2), (2.5, 0.75, 0.25), (0.0, 2.0, 1.0)):
        steps = cost.steps_to_pay(compiling, plain, compiled)
        assert compiling + steps * compiled <= steps * plain * (1 + 1e-12)
        assert steps == 0 or compiling + (steps - 1) * compiled > (steps - 1) * plain
        assert math.isclose(steps, compiling / (plain - compiled), abs_tol=1)
    assert cost.steps_to_pay(1.0, 0.2, 0.2) is None
    with pytest.raises(ValueError, match="compile_seconds must be at least 0, got -1"):
        cost.steps_to_pay(-1, 0.2, 0.1)
    with pytest.raises(ValueError, match="operations must be at least 1, got 0"):
        cost.started_seconds(0, 1e-6, 1.0, 1.0)
