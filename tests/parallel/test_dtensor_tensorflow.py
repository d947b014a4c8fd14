"""The layouts and whole decoders by DTensor: results of one device, and what is sent as the closed forms say."""

import json
import os
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from tests.support import refuses, small_config

ROOT = Path(__file__).parents[2]
LAYOUTS = ("1d-ws", "2d-ws", "wg-x", "wg-xy", "wg-xyz")
STEPS = {"CollectiveGatherV2", "CollectiveAllToAllV2"}


def process(*arguments, **environment):
    command = [sys.executable, "-m", "tests.parallel.dtensor_tensorflow", *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"} | environment
    return subprocess.Popen(command, cwd=ROOT, env=environment, text=True, stdout=-1, stderr=-1)


def results(*processes, timeout=100):
    """What each process printed. None is left behind, whatever happens."""
    try:
        outputs = [one.communicate(timeout=timeout) for one in processes]
    finally:
        for one in processes:
            one.kill()
            one.wait()
    for one, (_, errors) in zip(processes, outputs, strict=True):
        assert one.returncode == 0, errors[-3000:]
    return [json.loads(output.splitlines()[-1]) for output, _ in outputs]


@pytest.fixture(scope="module")
def rows():
    return results(process("layers", 8))[0]


@pytest.mark.parametrize("layout", [*LAYOUTS, "attention by head", "attention by batch"])
def test_a_layer_is_right_and_sends_what_the_closed_form_says(rows, layout):
    own = [row for row in rows if row["layout"] == layout]
    assert len(own) == (30 if "attention" in layout else 20)
    for row in own:
        assert row["largest difference"] < 1e-5, row
        assert row["counted"] == row["sent"] == row["closed form"], row
        assert set(row["kinds"]) <= STEPS, row
        if "simulated" in row:
            assert row["sent"] == row["simulated"], row
    assert sum(sum(row["counted"].values()) for row in own) > 0


@pytest.mark.slow
@pytest.mark.parametrize("n", [2, 4])
def test_decoders(n):
    check_decoders(results(process("models", n), timeout=240)[0], 8)


def test_two_decoders():
    check_decoders(results(process("models", 2, 1, 3))[0], 2)  # with two key/value heads, and with one


def check_decoders(found, n_models):
    """Logits and tokens are those of one device, and each device has the pieces that it should have."""
    assert len(found) == n_models
    assert {name: one for name, one in found.items() if one["difference"] > 1e-5} == {}
    assert {name for name, one in found.items() if not (one["same"] and one["own"])} == set()


@pytest.mark.slow
def test_smollm_on_three_devices():
    found = results(process("smollm", 3))[0]
    assert found["difference"] < 1e-4
    assert found["same"]


@pytest.mark.parametrize("n", [pytest.param(2, marks=pytest.mark.slow), 4])
def test_two_processes(n):
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(2)]
        for one in sockets:
            one.bind(("localhost", 0))
        jobs = ",".join(f"localhost:{one.getsockname()[1]}" for one in sockets)
    cluster = {"DTENSOR_NUM_CLIENTS": "2", "DTENSOR_JOB_NAME": "worker", "DTENSOR_JOBS": jobs}
    found = results(*(process("client", n, DTENSOR_CLIENT_ID=str(i), **cluster) for i in range(2)), timeout=60)
    assert found[0] == found[1]
    assert [row["layout"] for row in found[0]] == list(LAYOUTS)
    for row in found[0]:
        assert row["processes"] == 2
        assert row["largest difference"] < 1e-5
        assert row["counted"] == row["closed form"]


def test_what_it_refuses():
    import tensorflow as tf

    from tfguide.tensorflow.parallel.devices import start
    from tfguide.tensorflow.parallel.dtensor import DeviceMesh, attention, feed_forward, parallel_from_weights

    mesh, ones = DeviceMesh((1, 1, 1)), np.ones((8, 8), np.float32)
    with refuses(ValueError, "three counts"):
        DeviceMesh((2, 2))
    with refuses(RuntimeError, "a mesh (64, 1, 1) has 64 devices, got 1: call start(64) first"):
        DeviceMesh((64, 1, 1))
    tf.zeros(1)
    with refuses(RuntimeError, "start(64) must come before TensorFlow computes anything"):
        start(64)
    with refuses(ValueError, "did you mean '2d-ws'"):
        feed_forward(mesh, "2d", ones, ones, ones)
    with refuses(ValueError, "how must be one of"):
        attention(mesh, "heads", ones[None], ones, ones, ones, ones, 2, 2, None)
    with refuses(ValueError, "missing weight"):
        parallel_from_weights(small_config(), {}, mesh)
    with refuses(ValueError, "relative"):
        parallel_from_weights(small_config(positions="relative"), {}, mesh)
