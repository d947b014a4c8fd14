"""NumPy's integers are integers in the cost model: narrow ones do not overflow, and what is made of them is JSON."""

import dataclasses
import json

import numpy as np
import pytest

from tfguide import ModelConfig, cost
from tfguide.cost.machine import Measured
from tfguide.sharding.layouts import check_mesh, meshes
from tfguide.sharding.mesh import Mesh

CONFIG = ModelConfig.from_preset("gpt2")
DTYPES = [np.int8, np.uint8, np.int16, np.int32, np.int64]


@pytest.mark.parametrize("dtype", DTYPES)
def test_narrow_integers_give_what_pythons_give(dtype):
    for call, arguments in (
        (cost.ffn_communication, ("2d-ws", 96, 120, 125, (4, 5, 6))),
        (cost.attention_communication, ("batch", 96, 120, 12, 100, 64)),
        (cost.best_mesh, ("1d-ws", 64, 96, 120, 125)),
        (meshes, (120,)),
        (cost.speculative_tokens, (0.75, 127)),
        (cost.speculative_speedup, (0.75, 127, 3.0)),
        (cost.best_draft_length, (0.75, 0.1, 0.0, 100)),
        (cost.plan, (CONFIG, "h100", 100, 125, None, "int8", "int8", 16)),
    ):
        narrow = [
            tuple(map(dtype, value)) if isinstance(value, tuple) else dtype(value) if type(value) is int else value
            for value in arguments
        ]
        assert call(*narrow) == call(*arguments), call.__name__
    assert all(type(size) is int for size in (*check_mesh((dtype(3), dtype(5), dtype(7))), *Mesh([dtype(2)] * 3).sizes))
    json.dumps(dataclasses.asdict(cost.plan(CONFIG, "h100", dtype(100), dtype(125), chips=dtype(16))))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_measured_machine(dtype):
    rates = {1: 1e9, 128: 1e11}
    overheads = dict(step_overhead_s=0, layer_overhead_s=1, prompt_overhead_s=2, prompt_layer_overhead_s=0)
    one, other = (
        Measured(
            framework="torch", dtype="float32", read_bytes_per_second=1e10, product_flops=rates, attention_flops=rates,
            feature_s={1: 0.0}, **{name: kind(value) for name, value in overheads.items()},
        )
        for kind in (int, dtype)
    )  # fmt: skip
    assert json.dumps(one.to_dict()) == json.dumps(other.to_dict())
    assert one.decode_seconds(CONFIG, 125, 100) == other.decode_seconds(CONFIG, dtype(125), dtype(100))
    assert one.prefill_seconds(CONFIG, 125) == other.prefill_seconds(CONFIG, dtype(125))


def test_a_chip_of_numpys_numbers_is_json():
    chip = cost.Chip(
        name="x", peak_flops=np.float32(1e14), hbm_bytes=np.int64(80), hbm_bandwidth=1e12, link_bandwidth=1
    )
    assert json.loads(json.dumps(dataclasses.asdict(chip)))["hbm_bytes"] == 80


@pytest.mark.parametrize("wrong", [True, np.bool_(True), 2.0, "2"])
def test_what_is_no_integer_is_refused(wrong):
    for call in (
        lambda: cost.plan(CONFIG, "h100", 1, 128, chips=wrong),
        lambda: cost.plan(CONFIG, "h100", wrong, 128),
        lambda: cost.ffn_communication("1d-ws", wrong, 8, 8, (1, 1, 1)),
        lambda: check_mesh((1, wrong, 1)),
        lambda: meshes(wrong),
        lambda: cost.speculative_tokens(0.5, wrong),
    ):
        with pytest.raises(TypeError, match="must be an integer"):
            call()
