"""One fast model, many users: caches of every size and kind one after the other, threads at the same time, forks."""

import gc
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tests.support import FRAMEWORKS, load, random_weights, small_config, to_float
from tests.test_fast import no_gradients
from tfguide import native

QUANTIZATIONS = [None, (8, 8), (4, 8), (8, None)]


def make_model(name, quantization=None, dtype="float32", **changes):
    config = small_config(d_model=24, d_ff=40, d_head=8, max_positions=97, tied_head=False, **changes)
    weights = random_weights(config)
    weights["head.weight"] *= 50  # logits that lie apart, so that rounding changes no choice
    model = load(name).from_weights(config, weights, dtype)
    return load(name).quantize(model, *quantization, group_size=8) if quantization else model


def make_cache(module, model, kind, batch, room):
    """An empty cache of a kind; None lets `generate` make its own."""
    if kind == "own":
        return None
    if kind == "given":
        return model.new_cache(batch, room)
    if kind == "sliding":
        return module.SlidingCache(model.config, batch, 5, 1)
    if kind == "quantised":
        return module.QuantizedKVCache(model.config, batch, room)
    if kind == "4 bits":
        return module.Int4KVCache(model.config, batch, room)
    return module.KVCache(model.config, batch, room, dtype=kind)


@pytest.mark.parametrize(
    "positions",
    ["rotary", *(pytest.param(other, marks=pytest.mark.slow) for other in ("sinusoidal", "learned", "alibi"))],
)
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_caches_of_any_size_follow_each_other_on_one_decoder(name, positions):
    """A dropped cache leaves its addresses to the next one: what the kernels know of a cache must be its own.

    The plain model of PyTorch says what is right for both frameworks: it takes a tenth of TensorFlow's time.
    """
    module, oracle = load(name), load("torch")
    fast = module.accelerate(make_model(name, positions=positions))
    model = make_model("torch", positions=positions)
    rng = np.random.default_rng(0)
    compared = 0
    for round_ in range(60):
        batch, length = int(rng.integers(1, 5)), int(rng.integers(1, 14))
        new = int(rng.integers(1, 12 if round_ % 10 else 80))
        prompts = [rng.integers(0, 37, int(rng.integers(1, length + 1))).tolist() for _ in range(batch)]
        room = max(map(len, prompts)) + new - 1 + int(rng.integers(0, 5))
        kind = rng.choice(["own", "given", "bfloat16", "sliding", "quantised", "4 bits"])
        got, want = (
            m.generate(one, prompts, new, cache=make_cache(m, one, kind, batch, room))
            for m, one in ((module, fast), (oracle, model))
        )
        assert got == want, (round_, kind)
        compared += sum(map(len, got))
        if round_ % 7 == 0:
            gc.collect()
    assert compared > 600


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_cache_at_the_place_of_a_dropped_one_is_read_by_its_own_sizes(name):
    """Sizes of the same number of bytes, so that the allocator gives the same memory again: until it has done so."""
    module = load(name)
    model = make_model(name, positions="rotary")
    fast = module.accelerate(model)
    rng = np.random.default_rng(5)
    shapes = [(1, 48), (2, 24), (3, 16), (4, 12), (6, 8)]
    seen, again, rounds = {}, 0, 0
    while again < 6:
        rounds += 1
        assert rounds <= 3000, f"of 3000 caches, {again} lay where another one of other sizes had been; expected 6"
        batch, room = shapes[rng.integers(len(shapes))]
        tokens = rng.integers(0, 37, (batch, 8))
        cache = fast.new_cache(batch, room)
        at = tuple(np.asarray(keys).ctypes.data for keys in (*cache.keys, *cache.values))
        again += seen.get(at, room) != room
        seen[at] = room
        parts = [to_float(fast(tokens[:, a:b], cache=cache)) for a, b in ((0, 2), (2, 3), (3, 8))]
        np.testing.assert_allclose(np.concatenate(parts, axis=1), to_float(model(tokens)), atol=1e-3)
        del cache


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_two_caches_take_turns(name):
    """Interleaved steps of caches with other sizes, types and lengths: each goes on as if it were alone."""
    module = load(name)
    model = make_model(name, positions="rotary")
    fast = module.accelerate(model)
    rng = np.random.default_rng(1)
    texts = [rng.integers(0, 37, (batch, 20)) for batch in (1, 3, 2)]
    caches = [fast.new_cache(len(text), room) for text, room in zip(texts, (20, 53, 90), strict=True)]
    got = [[] for _ in texts]
    for at in range(20):
        for text, cache, rows in zip(texts, caches, got, strict=True):
            rows.append(to_float(fast(text[:, at : at + 1], cache=cache))[:, 0])
    for text, rows in zip(texts, got, strict=True):
        np.testing.assert_allclose(np.stack(rows, axis=1), to_float(model(text)), atol=2e-4)


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_cache_that_the_kernels_cannot_read_is_refused(name):
    module = load(name)
    fast = module.accelerate(make_model(name))
    other = make_model(name, n_kv_heads=2)
    with pytest.raises(ValueError, match="another configuration"):
        fast([[1, 2]], cache=module.KVCache(other.config, 1, 9))
    if name == "torch":
        with pytest.raises(ValueError, match="float32, bfloat16, float16, int8, got float64"):
            fast([[1, 2]], cache=module.KVCache(fast.config, 1, 9, dtype="float64"))


@pytest.mark.parametrize("quantization", QUANTIZATIONS, ids=str)
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_two_threads_are_one(name, quantization):
    """Prompts of all lengths and steps, in two threads and alone, on one fast model; the plain model beside it."""
    module = load(name)
    model = make_model(name, quantization, positions="rotary")
    fast, again = module.accelerate(model, threads=2), module.accelerate(model, threads=2)
    rng = np.random.default_rng(2)
    jobs = [rng.integers(0, 37, (1 + i % 3, 1 + int(rng.integers(0, 60)))) for i in range(40)]

    def read(job):
        tokens, decoder = job
        with no_gradients(name):
            cache = decoder.new_cache(len(tokens), tokens.shape[1] + 3) if decoder is not model else None
            logits = [to_float(decoder(tokens, cache=cache))]
            for token in (3, 5) if cache is not None else ():
                logits.append(to_float(decoder(np.full((len(tokens), 1), token), cache=cache)))
        return np.concatenate(logits, axis=1)

    jobs = [(tokens, (fast, fast, again, model)[i % 4]) for i, tokens in enumerate(jobs)]
    alone = [read(job) for job in jobs]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(read, jobs))
    for one, two in zip(alone, together, strict=True):
        np.testing.assert_allclose(two, one, atol=1e-5 * np.abs(one).max())


WEIGHTS = [
    *((None, dtype) for dtype in ("float32", "bfloat16", "float16")),
    *((q, "float32") for q in QUANTIZATIONS[1:]),
]
WEIGHTS.append(((4, None), "float32"))


@pytest.mark.parametrize(("quantization", "dtype"), WEIGHTS, ids=str)
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_two_threads_generate_what_one_generates(name, quantization, dtype):
    """40 prompts, three times over, on one fast model in every type of weights: the tokens of each are as alone."""
    module = load(name)
    fast = module.accelerate(make_model(name, quantization, dtype, positions="rotary"), threads=2)
    rng = np.random.default_rng(3)
    prompts = [rng.integers(0, 37, int(rng.integers(1, 80))).tolist() for _ in range(40)]

    def text(prompt):
        return module.generate(fast, [prompt], 9)

    alone = [text(prompt) for prompt in prompts]
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(text, prompts * 3)) == alone * 3


def test_reading_a_prompt_leaves_the_model_as_it_is():
    """The fast decoder has parts of its own: the plain model computes as before, with gradients too."""
    module = load("torch")
    model = make_model("torch", positions="rotary")
    before = [dict(vars(part)) for part in model.modules()]
    fast = module.accelerate(model)
    fast(np.arange(30)[None])
    assert [dict(vars(part)) for part in model.modules()] == before
    assert {id(p) for p in fast._prompt_tree.parameters()} == {id(p) for p in model.parameters()}
    fast(np.arange(30)[None]).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a system without fork")
def test_a_process_forked_in_the_middle_of_a_step_goes_on():
    """The child of a fork has one thread; a lock that another one held would never be given back."""
    code = """
import os, sys, threading, time
from tfguide import native
read = native.MemoryReader(1 << 24, threads=2)
stop = threading.Event()
busy = threading.Thread(target=lambda: [read() for _ in iter(stop.is_set, True)])
busy.start()
failed = 0
for _ in range(20):
    child = os.fork()
    if child == 0:
        os._exit(0 if read() > 0 else 1)
    failed += os.waitpid(child, 0)[1] != 0
stop.set(); busy.join()
sys.exit(failed)
"""
    process = subprocess.Popen([sys.executable, "-W", "ignore", "-c", code], start_new_session=True)
    try:
        assert process.wait(timeout=120) == 0
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.parametrize("asymmetric", [False, True])
@pytest.mark.parametrize("form", ["int8 a8", "int4 a8"])
def test_the_product_of_a_row_does_not_depend_on_the_other_rows(form, asymmetric):
    """To the last bit, whatever the number of rows and of threads."""
    from tfguide.compress import Quantization

    rng = np.random.default_rng(4)
    for d_in, d_out, group in ((96, 70, 32), (40, 33, 8), (1000, 17, 8)):
        how = Quantization(int(form[3]), 8, group, asymmetric and form == "int4 a8")
        packed, scale, *unit = how.pack("a weight", rng.standard_normal((d_in, d_out)).astype(np.float32))
        matrix = native.Matrix.of_packed(packed, scale, d_in, d_out, True, None, *unit)
        x = rng.standard_normal((300, d_in)).astype(np.float32)
        alone = np.concatenate([native.multiply(matrix, row[None], threads=1) for row in x])
        for rows in (2, 3, 5, 8, 9, 13, 31, 128, 129, 300):
            np.testing.assert_array_equal(native.multiply(matrix, x[:rows], threads=1 + rows % 3), alone[:rows])
