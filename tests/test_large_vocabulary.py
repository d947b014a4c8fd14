"""Every public function that generates, caches, compresses, compiles or stores, on sizes at which waste shows.

131,072 tokens and 4096 positions, as current models have; all else is small. A function that makes a row of V x V
numbers, or a copy of all logits for each token, does not end here, or holds gigabytes.
"""

import gc
import time
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import tfguide
from tests.support import FRAMEWORKS, load
from tfguide.compress import Quantization

pytestmark = pytest.mark.slow

V, CONTEXT = 131_072, 4096
MB = 1 << 20
SECONDS = 60  # of one function; what is right takes a few, on two cores that other tests share


def resident(key):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))


@contextmanager
def limits(megabytes):
    """Fails where the block takes more than SECONDS, or holds more memory at once than it is allowed beyond before."""
    gc.collect()
    measured = Path("/proc/self/clear_refs").exists()
    if measured:
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before, start = resident("VmRSS") if measured else 0, time.perf_counter()
    yield
    took = time.perf_counter() - start
    held = (resident("VmHWM") - before) / MB if measured else 0
    assert took < SECONDS, f"{took:.0f} s"
    assert held < megabytes, f"{held:.0f} MB more than before, {megabytes} are allowed"


@cache
def model_of(name, **changes):
    sizes = dict(
        kind="decoder", d_model=64, n_layers=2, n_heads=4, n_kv_heads=2, d_ff=96, vocab_size=V, max_positions=CONTEXT,
        norm="rms", positions="rotary", activation="swiglu", qkv_bias=False, output_bias=False, ffn_bias=False,
    )  # fmt: skip
    config = tfguide.ModelConfig(**{**sizes, **changes})
    return load(name).from_weights(config, tfguide.init_weights(config, seed=changes.get("n_layers", 0)))


@cache
def fast_of(name):
    return load(name).accelerate(model_of(name))


def draft_of(name):
    return model_of(name, n_layers=1)


@pytest.fixture(scope="module")
def text():
    return np.random.default_rng(0).integers(0, V, CONTEXT)


SAMPLINGS = {
    "greedy": None,
    "greedy with a penalty": tfguide.Sampling(temperature=0.0, repetition_penalty=1.3),
    "drawn": tfguide.Sampling(temperature=0.8),
    "top k, top p, min p": tfguide.Sampling(temperature=0.8, top_k=50, top_p=0.9, min_p=0.01, repetition_penalty=1.1),
}


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_generation(name, sampling, text):
    """A long prompt, and the last token that the context has room for."""
    module, how = load(name), SAMPLINGS[sampling]
    for model in (model_of(name), fast_of(name)):
        with limits(500):
            rows = module.generate(model, [text[: CONTEXT - 15], text[:3]], 16, [], how, chunk_size=512)
        assert [len(row) for row in rows] == [16, 16]
    with limits(300):
        assert len(list(module.stream(model_of(name), text[:100], 8, [], how))) == 8


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("drafting", ["model", "lookup"])
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_speculation(name, drafting, sampling, text):
    module = load(name)
    draft = draft_of(name) if drafting == "model" else tfguide.PromptLookup()
    prompt = np.tile(text[:40], 4)
    with limits(400):
        result = module.speculative_generate(fast_of(name), draft, [prompt], 16, 4, [], SAMPLINGS[sampling])
    assert len(result.tokens[0]) == 16 and result.drafted > 0


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_beams_and_perplexity(name, text):
    module = load(name)
    with limits(400):
        (beams,) = module.beam_search(model_of(name), [text[:100]], 4, 8, [int(text[0])], n_best=2)
    assert len(beams) == 2
    with limits(400):
        assert module.perplexity(model_of(name), text) == pytest.approx(V, rel=0.2)


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_caches(name, text):
    """Each kind with room for the whole context: what it holds, and a step with it."""
    module, model = load(name), model_of(name)
    for make in (
        lambda: module.KVCache(model.config, 2, CONTEXT),
        lambda: module.KVCache(model.config, 2, CONTEXT, dtype="bfloat16"),
        lambda: module.QuantizedKVCache(model.config, 2, CONTEXT),
        lambda: module.Int4KVCache(model.config, 2, CONTEXT),
        lambda: module.SlidingCache(model.config, 2, 512, 4),
        lambda: fast_of(name).new_cache(2, CONTEXT),
    ):
        with limits(500):
            kept = make()
            model.prefill(np.stack([text[:1000]] * 2), kept, chunk_size=250)
            logits = model.decode([1, 2], kept)
            kept.rewind(900 if not isinstance(kept, module.SlidingCache) else 1001)
            kept.reorder([1, 0])
        assert tuple(logits.shape) == (2, V)


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_compilation(name, text):
    module = load(name)
    with limits(600):
        compiled = module.CompiledDecoder(model_of(name), CONTEXT)
        tokens = compiled.generate([text[:50]], 4, [])
    assert tokens == module.generate(model_of(name), [text[:50]], 4, [])


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_quantisation_and_its_checkpoint(name, bits, text, tmp_path):
    module = load(name)
    with limits(500):
        model = module.quantize(model_of(name), bits, 8)
    with limits(400):
        fast = module.accelerate(model)
        tokens = module.generate(fast, [text[:300]], 8, [])
    with limits(200):
        module.save_checkpoint(model, tmp_path / "m")
    with limits(400):
        again = module.load_checkpoint(tmp_path / "m")
    assert module.generate(module.accelerate(again), [text[:300]], 8, []) == tokens


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_checkpoints(name, text, tmp_path):
    module, model = load(name), model_of(name)
    with limits(300):
        module.save_checkpoint(model, tmp_path / "m")
    with limits(300):
        again = module.load_checkpoint(tmp_path / "m")
    with limits(300):
        quantized = module.load_checkpoint(tmp_path / "m", quantization=Quantization(8, 8))
    assert module.generate(again, [text[:30]], 4, []) == module.generate(model, [text[:30]], 4, [])
    assert len(module.generate(quantized, [text[:30]], 4, [])[0]) == 4
    with limits(200):
        weights = module.to_weights(model)
    with limits(200):
        module.from_weights(model.config, weights, "bfloat16")


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_pruning(name, text):
    module, model = load(name), model_of(name)
    for prune in (
        lambda: module.prune_magnitude(model, 0.5),
        lambda: module.prune_two_four(model),
        lambda: module.prune_heads(model, 1),
        lambda: module.prune_neurons(model, 64),
        lambda: module.prune_layers(model, [0]),
        lambda: module.pool_kv_heads(model, 1),
    ):
        with limits(500):
            smaller = prune()
        assert smaller.config.vocab_size == V
    with limits(300):
        changes = module.layer_changes(model, text[None, :500])
    assert len(changes) == 2
