"""Compiled generation gives the tokens of `generate`, and is compiled once."""

import io
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from tests.support import FRAMEWORKS, TABLES, load, random_weights, small_config

TABLE = TABLES / "compiled.json"
ROW = dict(group="Other programs", name="compiled generation", invariant="= layer by layer", proof="test_compile.py",
           unit="tokens", limit=0.0)  # fmt: skip
PROMPTS = [[5, 3, 2, 11, 7], [13], [17, 19, 23]]
VARIANTS = [
    dict(positions="rotary", n_kv_heads=2, norm="rms", activation="swiglu", tied_head=False),
    dict(positions="learned"),
    dict(positions="alibi", sliding_window=4),
]


def make(name, **changes):
    config = small_config(**changes)
    weights = random_weights(config)
    weights["embedding.token.weight"] *= 50
    return load(name).from_weights(config, weights)


def graphs():
    """How many programs PyTorch has compiled in this process."""
    import torch._dynamo

    return torch._dynamo.utils.counters["stats"]["unique_graphs"]


CASES = [*(("tensorflow", v) for v in VARIANTS), ("torch", VARIANTS[0])]


@pytest.mark.parametrize(("name", "changes"), CASES, ids=str)
def test_it_generates_the_same(name, changes, table):
    module = load(name)
    if name == "torch":  # it compiles one function 8 times in a process: other tests may have
        import torch

        torch.compiler.reset()
    model = make(name, **changes)
    compiled = module.CompiledDecoder(model, 16, 3)
    before = graphs() if name == "torch" else 0
    full = module.generate(model, PROMPTS, 9, [])
    got = compiled.generate(PROMPTS, 9, [])
    table.append(ROW | dict(implementation=name, measured=float((np.array(got) != np.array(full)).sum())))
    assert got == full
    stop = full[0][3]
    assert compiled.generate(PROMPTS, 9, [stop]) == module.generate(model, PROMPTS, 9, [stop])
    others = [[1, 2], [3] * 7, [4]]
    for n in (1, 2, 7):
        assert compiled.generate(others, n, []) == module.generate(model, others, n, [])
    if name == "tensorflow":
        assert compiled._loop.experimental_get_tracing_count() == 1
    else:
        assert graphs() - before == 1


def test_every_decoder_of_a_process_is_compiled(traced):
    """PyTorch keeps programs by code object, 8 of each, and runs the rest as it is: here 2, so that the third tells."""
    import torch._dynamo

    model = make("torch", n_layers=1, **VARIANTS[0])
    with torch._dynamo.config.patch(recompile_limit=2):
        for k in range(4):
            compiled = load("torch").CompiledDecoder(model, 9 + k)  # another size: no program of another decoder fits
            assert compiled.n_programs == 0
            assert compiled.generate([[1, 2]], 5, []) == load("torch").generate(model, [[1, 2]], 5, [])
            assert len(traced) == k + 1 and compiled.n_programs == 1


def test_beyond_the_limit_it_is_an_error(traced):
    """One decoder with more types of caches than PyTorch compiles programs says so, and is not slow in silence."""
    import torch._dynamo

    compiled = load("torch").CompiledDecoder(make("torch", n_layers=1, **VARIANTS[0]), 9)
    with torch._dynamo.config.patch(recompile_limit=1):
        compiled.generate([[1, 2]], 3, [])
        with pytest.raises(torch._dynamo.exc.FailOnRecompileLimitHit):
            compiled.generate([[1, 2]], 3, [], cache_dtype="bfloat16")
    assert compiled.n_programs == len(traced) == 1


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_program_serves_every_step(name, traced):
    """One for each type of cache, whatever the length; each graph holds the whole step."""
    compiled = load(name).CompiledDecoder(make(name, n_layers=1, **VARIANTS[0]), 20)
    for k, kind in enumerate(("float32", "bfloat16")):
        cache = compiled.new_cache(1, 20, kind)
        compiled.prefill([[1, 2, 3]], cache)
        found = []
        for token in range(17):  # as a list, and as arrays with other strides
            compiled.decode(([token], np.array([token, 0])[::2], np.int64(token)[None])[token % 3], cache)
            found.append(compiled.n_programs)
        assert found == [k + 1] * 17
    assert len(traced) == (2 if name == "torch" else 0)


def test_its_rows_in_the_table_of_the_book():
    expected = [ROW | dict(implementation=name, measured=0.0) for name, _ in CASES]
    assert json.loads(TABLE.read_text()) == expected


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_what_does_not_fit_is_refused(name):
    module = load(name)
    model = make(name)
    compiled = module.CompiledDecoder(model, 9)
    with pytest.raises(ValueError, match="compiled for 9 positions, the generation needs 10"):
        compiled.generate([[1, 2, 3]], 8)
    with pytest.raises(ValueError, match="compiled for 1 prompts at a time, got 3"):
        compiled.generate(PROMPTS, 2)
    with pytest.raises(ValueError, match="max_positions"):
        module.CompiledDecoder(model, 40)
    with pytest.raises(ValueError, match="kind='encoder-decoder'"):
        module.CompiledDecoder(make(name, kind="encoder-decoder"), 9)


def test_nan_is_an_error():
    model = make("tensorflow")
    weights = load("tensorflow").to_weights(model)
    weights["decoder.final_norm.weight"][3] = np.nan
    broken = load("tensorflow").from_weights(model.config, weights)
    with pytest.raises(ValueError, match="NaN"):
        load("tensorflow").CompiledDecoder(broken, 9).generate([[1, 2]], 4)


@pytest.mark.slow
def test_without_a_compiler_it_warns_and_goes_on(tmp_path):
    code = """
import warnings
import tfguide.torch as tg
from tests.support import random_weights, small_config
config = small_config(positions="rotary")
model = tg.from_weights(config, random_weights(config))
compiled = tg.CompiledDecoder(model, 9)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    same = compiled.generate([[1, 2]], 5, []) == tg.generate(model, [[1, 2]], 5, [])
    compiled.generate([[1, 2]], 5, [])
print(same, [str(w.message)[:45] for w in caught if "C++ compiler" in str(w.message)])
"""
    environment = {**os.environ, "CXX": "/nonexistent/g++", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == "True ['torch.compile found no working C++ compiler (']", done.stderr[-2000:]


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_terminal_is_told_what_takes_long_and_nothing_else_is(name, monkeypatch):
    """Only in the first call, which compiles; a stored output stays clean."""
    for is_terminal in (False, True):
        written = io.StringIO()
        written.isatty = lambda answer=is_terminal: answer
        compiled = load(name).CompiledDecoder(make(name, n_layers=1), 8)
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stderr", written)
            compiled.generate([[1, 2]], 3, [])
            first = written.getvalue()
            compiled.generate([[1, 2]], 3, [])
        assert written.getvalue() == first
        lines = [line for line in re.split("[\r\n]+", first) if line.startswith("compiling")]
        assert len(lines) >= 2 if is_terminal else lines == []
        assert all(re.fullmatch(r"compiling a (step|loop) of 1 layers: \d+(\.\d)? s", line) for line in lines)
