"""What several tests need: both frameworks by name, weights that hide no bug, and small batches."""

import importlib
import json
import re
import signal
from pathlib import Path

import numpy as np
import pytest

import tfguide

FRAMEWORKS = ("torch", "tensorflow")
TABLES = Path(__file__).parents[1] / "book" / "appendices" / "conformance"  # what tests measured, see `table`


def load(name):
    """The package's implementation in a framework, or the reference."""
    return importlib.import_module(f"tfguide.{name}")


def tensor(name, array):
    """An array as the framework's tensor, a float as float32."""
    array = np.asarray(array)
    array = array.astype(np.float32) if array.dtype.kind == "f" else array
    if name == "torch":
        return importlib.import_module("torch").from_numpy(array.copy())
    if name == "tensorflow":
        return importlib.import_module("tensorflow").convert_to_tensor(array)
    return array


def numpy(tensor):
    """A framework's tensor as an array."""
    return tensor.detach().numpy() if hasattr(tensor, "detach") else np.asarray(tensor)


def to_float(tensor):
    """A framework's tensor as an array of float32: NumPy has no bfloat16."""
    return tensor.detach().float().numpy() if hasattr(tensor, "detach") else np.asarray(tensor, np.float32)


def random_weights(config, seed=0):
    """Initial weights in which no bias is 0 and no norm weight is 1, so that forgetting one of them shows."""
    stream = np.random.default_rng(seed)
    weights = tfguide.init_weights(config, seed)
    for name, array in weights.items():
        if array.ndim == 1 or name.endswith(".bias"):
            weights[name] = array + stream.normal(0, 0.3, array.shape).astype(np.float32)
    return weights


def small_config(kind="decoder", **changes):
    """Sizes that are distinct, so that a swapped axis does not fit; H has a divisor between 1 and itself."""
    fields = dict(
        kind=kind, d_model=22, n_layers=2, n_heads=6, d_head=10, d_ff=26, vocab_size=37, max_positions=31,
        decoder_start_token_id=0,
    )  # fmt: skip
    return tfguide.ModelConfig(**{**fields, **changes})


def batch(config, seed=0, size=3, length=7, target=5):
    """The inputs of a model and its masks, with padding: a tuple and a dictionary."""
    stream = np.random.default_rng(seed)

    def tokens(n):
        return stream.integers(0, config.vocab_size, (size, n))

    def valid(n):
        return np.arange(n) < np.minimum(n, np.arange(2, 2 + 2 * size, 2))[:, None]

    if config.kind == "encoder-decoder":
        return (tokens(length), tokens(target)), dict(source_valid=valid(length), target_valid=valid(target))
    return (tokens(length),), dict(valid=valid(length))


def heed_interrupts():
    """For `preexec_fn` of a process that is to heed Ctrl-C.

    A shell starts what runs in the background with interrupts ignored, and every child of the tests inherits that.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def refuses(error, message):
    """A block that must raise this error, whose message contains these words."""
    return pytest.raises(error, match=re.escape(message))


def check_table(file, expected, limit):
    """Raises AssertionError unless the rows of a committed table are those that the tests measure, within the limit.

    expected: what names each row, dictionaries in any order; a row has its "difference" beside it, and may have more.
    """
    rows = json.loads(file.read_text())
    committed = [{key: row.get(key) for key in expected[0]} for row in rows]
    same = sorted(committed, key=str) == sorted(expected, key=str)
    assert same, f"{file.name} has other rows than the tests: run them with TFGUIDE_WRITE_CONFORMANCE=1"
    assert all(0 <= row["difference"] <= limit for row in rows)
