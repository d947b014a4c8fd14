"""bfloat16 and float16: every family computes in them, in both frameworks, and large activations stay finite."""

from importlib import import_module

import numpy as np
import pytest

import tfguide.reference as ref
from tests.checkpoints import hf
from tests.support import FRAMEWORKS, load, random_weights, small_config

STEP = {"bfloat16": 2**-8, "float16": 2**-11}
CASES = ("bert", "gpt2", "gpt2-untied", "llama-grouped", "llama-3", "gemma3_text", "t5-1.0", "t5-1.1")


def half(name, array, dtype):
    if name == "torch":
        torch = import_module("torch")
        return torch.from_numpy(array).to(getattr(torch, dtype))
    return import_module("tensorflow").cast(array, dtype)


def to_array(x):
    return x.detach().float().numpy() if hasattr(x, "detach") else np.asarray(x).astype(np.float32)


def outputs(name, model, source, target):
    if name == "torch":
        with import_module("torch").inference_mode():
            return to_array(model(source, target) if model.config.kind == "encoder-decoder" else model(source))
    return to_array(model(source, target) if model.config.kind == "encoder-decoder" else model(source))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The folder of a case, made once."""
    made = {}

    def folder(case):
        if case not in made:
            made[case] = hf.save(hf.make(case), tmp_path_factory.mktemp("half") / case)
        return made[case]

    return folder


@pytest.mark.slow
@pytest.mark.parametrize("quantized", [False, True], ids=["", "8 bits"])
@pytest.mark.parametrize("dtype", STEP)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_every_family_computes_in_half_precision(name, case, dtype, quantized, folders):
    module = load(name)
    model = module.load_checkpoint(folders(case), dtype=dtype)
    exact = module.from_weights(model.config, module.to_weights(model))  # the same weights, all in float32
    if quantized:
        model, exact = module.quantize(model), module.quantize(exact)
    rng = np.random.default_rng(0)
    source, target = rng.integers(0, 37, (2, 13)), rng.integers(0, 37, (2, 5))
    want = outputs(name, exact, source, target)
    got = outputs(name, model, source, target)
    assert np.abs(got - want).max() < 32 * STEP[dtype] * np.abs(want).max()
    if model.config.kind == "encoder":
        return
    prompts = [[1, 2, 3], [4]]
    assert [len(row) for row in module.generate(model, prompts, 4, [])] == [4, 4]
    assert [len(beams[0].tokens) for beams in module.beam_search(model, prompts, 2, 4, [])] == [4, 4]


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_t5_in_float16_has_the_range_that_transformers_gives_it(name, folders, tmp_path):
    """Feed-forward networks whose outputs float16 cannot hold, as those of published T5 models."""
    import torch

    peer = hf.make("t5-1.1").eval()
    with torch.no_grad():
        for key, weight in peer.named_parameters():
            if key.endswith("wo.weight"):
                weight *= 3e4
            if key.endswith(("q.weight", "k.weight")):
                weight *= 0.02
    folder = hf.save(peer, tmp_path / "large")
    theirs = type(peer).from_pretrained(folder, dtype=torch.float16).eval()
    rng = np.random.default_rng(0)
    source, target = rng.integers(0, 37, (2, 13)), rng.integers(0, 37, (2, 5))
    with torch.no_grad():
        exact = peer(input_ids=torch.tensor(source), decoder_input_ids=torch.tensor(target)).logits.numpy()
        want = theirs(input_ids=torch.tensor(source), decoder_input_ids=torch.tensor(target)).logits.float().numpy()
    module = load(name)
    model = module.load_checkpoint(folder, dtype="float16")
    largest = np.abs(exact).max()
    for made in (model, module.quantize(model)):
        got = outputs(name, made, source, target)
        assert np.isfinite(got).all()
        assert np.abs(got - exact).max() < (0.02 if made is model else 0.2) * largest
    assert np.abs(want - exact).max() < 0.02 * largest  # transformers is right as well


@pytest.mark.parametrize("dtype", [*STEP, "float32"])
@pytest.mark.parametrize(
    "function", ["scaled_dot_product_attention", "fused_attention", "tiled_attention", "attention_weights"]
)
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_attention_at_large_numbers(name, function, dtype):
    """Scores beyond float16's range, and values whose sum over many keys is."""
    rng = np.random.default_rng(0)
    query, key = (rng.choice([-300.0, 300.0], (2, 5, 6, 64)).astype(np.float32) for _ in range(2))
    value = rng.uniform(3e4, 6e4, (2, 300, 6, 16)).astype(np.float32)
    key = np.concatenate([key, np.zeros((2, 295, 6, 64), np.float32)], axis=1)
    visible = np.tril(np.ones((300, 300), bool))[-5:]
    wide = dtype == "float32"
    given = [x if wide else to_array(half(name, x, dtype)) for x in (query, key, value)]
    for scale in (None, 1.0, 1e-9):  # the last one: all keys alike, so that the sum of the values is what is large
        tensors = [half(name, x, dtype) for x in given]
        mask = import_module("torch").from_numpy(visible) if name == "torch" else visible
        if function == "attention_weights":
            got = to_array(load(name).attention_weights(*tensors[:2], visible=mask, scale=scale))
            want = ref.attention_weights(*given[:2], visible=visible, scale=scale)
        else:
            got = to_array(getattr(load(name), function)(*tensors, visible=mask, scale=scale))
            want = ref.scaled_dot_product_attention(*given, visible=visible, scale=scale)
        assert np.isfinite(got).all()
        np.testing.assert_allclose(got, want, rtol=0, atol=4 * STEP.get(dtype, 2**-20) * np.abs(want).max())


@pytest.mark.parametrize("dtype", STEP)
@pytest.mark.parametrize("function", ["layer_norm", "rms_norm"])
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_norms_at_large_numbers(name, function, dtype):
    """Squares of 60,000 are beyond float16, and so is a sum of 768 of them."""
    rng = np.random.default_rng(0)
    x = to_array(half(name, rng.uniform(-6e4, 6e4, (3, 768)).astype(np.float32), dtype))
    weight = np.ones(768, np.float32)
    got = to_array(getattr(load(name), function)(half(name, x, dtype), half(name, weight, dtype)))
    np.testing.assert_allclose(got, getattr(ref, function)(x, weight), atol=4 * STEP[dtype])


@pytest.mark.parametrize("norm", ["layer", "rms"])
@pytest.mark.parametrize("dtype", STEP)
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_residual_stream_of_large_numbers(name, dtype, norm):
    """One feature of every position is in the tens of thousands, as in published models."""
    config = small_config(positions="rotary", norm=norm, tied_head=False)
    weights = random_weights(config)
    weights["embedding.token.weight"][:, 3] = 2e4
    model = load(name).from_weights(config, weights, dtype)
    exact = ref.from_weights(config, load(name).to_weights(model))
    tokens = np.random.default_rng(0).integers(0, 37, (2, 9))
    got, want = outputs(name, model, tokens, None), exact(tokens)
    assert np.abs(got - want).max() < 32 * STEP[dtype] * np.abs(want).max()
