"""Fast decoders of models in blocks: the kernels' results are the models', up to the rounding of activations."""

import numpy as np
import pytest

from tests.checkpoints.gguf.test_block_models import MODELS, TYPES, make
from tests.support import load, numpy, tensor
from tests.test_fast import no_gradients
from tfguide import native
from tfguide.checkpoints import open_gguf
from tfguide.loading import load_model, try_accelerate

pytest.importorskip("gguf")

TOKENS = np.random.default_rng(5).integers(0, 43, (2, 29))
SPLITS = ((0, 9), (9, 10), (10, 29))
PLAIN = ("F32", "F16", "BF16")  # types whose activations keep 32 bits


@pytest.fixture(scope="module", params=(*TYPES, "mixed"))
def written(request, tmp_path_factory):
    """The four models in files of one type, or of a type for each tensor in turn, and the type."""
    folder, kind = tmp_path_factory.mktemp(request.param), request.param
    types = ("Q8_0", "Q4_K", "F16", "Q5_1", "Q6_K", "Q4_1", "Q5_K") if kind == "mixed" else (kind,)
    for name in MODELS:
        make(name, types, folder / f"{name}.gguf", size=0.4)  # larger ones amplify what is rounded
    return kind, {name: folder / f"{name}.gguf" for name in MODELS}


def pieces(framework, model, tokens=TOKENS, splits=SPLITS, cache=None):
    """The logits of tokens read piece by piece into a float32 cache."""
    cache = model.new_cache(*tokens.shape, "float32") if cache is None else cache
    return np.concatenate([numpy(model(tensor(framework, tokens[:, a:b]), cache=cache)) for a, b in splits], axis=1)


def differences(got, want):
    """The largest difference over the largest logit, and the mean one over the mean logit."""
    difference = np.abs(got - want)
    return difference.max() / np.abs(want).max(), difference.mean() / np.abs(want).mean()


@pytest.mark.parametrize("name", MODELS)
def test_the_model_s_logits(written, name, framework, tg):
    kind, files = written
    model = tg.load_checkpoint(files[name])
    fast, want = tg.accelerate(model), numpy(model(tensor(framework, TOKENS)))
    largest, mean = differences(pieces(framework, fast), want)
    # bfloat16: where the processor multiplies it, the kernels round the inputs of more than 4 tokens to it.
    bound = {"F32": 1e-5, "F16": 1e-5, "BF16": 0.02}.get(kind, 0.04)
    assert largest < bound and mean < bound, (largest, mean)
    assert kind in PLAIN or mean > 1e-4  # activations were rounded
    whole = numpy(fast(tensor(framework, TOKENS)))  # without a cache
    largest, mean = differences(whole, pieces(framework, fast))
    assert largest < bound and mean < bound, (largest, mean)


@pytest.mark.parametrize("block_type", [kind for kind in TYPES if kind not in PLAIN])
def test_rounded_activations_are_the_whole_difference(block_type, tmp_path):
    """A model whose linear layers round their inputs to 8 bits, as the kernels do, has the kernels' logits.

    An activation that lies between two integers may be rounded to either, and then others after it: not at a quarter of
    the positions.
    """
    pytest.importorskip("torch")
    from tfguide.torch.quantized import round_activations

    tg, largest = load("torch"), []
    for name in MODELS:
        make(name, (block_type,), tmp_path / f"{name}.gguf", size=0.4)
        model = tg.load_checkpoint(tmp_path / f"{name}.gguf")
        want = pieces("torch", tg.accelerate(model))
        for module in model.modules():
            if isinstance(module, tg.BlockLinear):
                module.register_forward_pre_hook(lambda _, inputs: round_activations(inputs[0]))
        with no_gradients("torch"):
            hidden = model.hidden(TOKENS)
            got = numpy(model.logits(round_activations(hidden) if model.config.tied_head else hidden))
        assert differences(got, want)[0] < 0.03
        largest += (np.abs(got - want).max(axis=-1) / np.abs(want).max()).reshape(-1).tolist()
    assert np.mean(np.array(largest) < 1e-4) > 0.25


@pytest.mark.parametrize("name", ["llama", "gpt2-tied"])
def test_any_number_of_rows_has_the_same_logits(written, name, framework, tg):
    """With 8-bit activations, to the last bit: the head of one row and of many, a prompt whole and in pieces."""
    kind, files = written
    fast = tg.accelerate(tg.load_checkpoint(files[name]))
    if not fast.head.format.endswith("a8") or kind == "mixed":
        assert kind in (*PLAIN, "mixed")
        return
    hidden = np.random.default_rng(1).normal(size=(2, 17, 256)).astype(np.float32)
    many = numpy(fast.logits(tensor(framework, hidden)))
    assert native.HEAD_ROWS < 2 * 17
    for row, column in ((0, 0), (1, 16)):
        one = numpy(fast.logits(tensor(framework, hidden[row : row + 1, column : column + 1])))
        np.testing.assert_array_equal(one[0, 0], many[row, column])
    long = np.tile(TOKENS, (1, 2))[:, :19]
    halves = pieces(framework, fast, long, ((0, 9), (9, 19)))
    np.testing.assert_array_equal(pieces(framework, fast, long, ((0, 19),)), halves)


def test_a_tied_head_shares_the_matrix(written, tg, monkeypatch):
    """The head is the matrix in which tokens are looked up: no block is packed twice."""
    _, files = written
    model, found, of_blocks = tg.load_checkpoint(files["llama-tied"]), [], native.Matrix.of_blocks

    def counted(block_type, rows, *more):
        found.append(len(rows))
        return of_blocks(block_type, rows, *more)

    monkeypatch.setattr(native.Matrix, "of_blocks", counted)
    fast = tg.accelerate(model)
    assert (fast.head.d_in, fast.head.d_out) == (256, 43) and fast.head.bias is None
    assert found.count(43) == 1 and len(found) <= len(model.block_types)


@pytest.mark.parametrize("name", ["llama-tied", "gpt2"])
def test_all_that_a_fast_decoder_does(written, name, framework, tg):
    """Prompts beyond the kernels' rows, caches of every kind, maps, generation and perplexity are the model's."""
    kind, files = written
    model = tg.load_checkpoint(files[name])
    fast = tg.accelerate(model)
    bound = 1e-4 if kind in ("F32", "F16") else 0.05
    many = np.random.default_rng(2).integers(0, 43, (5, 17))
    assert many.size > native.MAX_ROWS
    want = numpy(model(tensor(framework, many)))
    assert differences(pieces(framework, fast, many, ((0, 17),)), want)[0] < bound
    sliding, eight = tg.SlidingCache(fast.config, 2, 29, 0), tg.QuantizedKVCache(fast.config, 2, 29)
    for cache in (sliding, eight, fast.new_cache(2, 29)):
        got = pieces(framework, fast, cache=cache, splits=((0, 20), (20, 29)))
        assert differences(got, numpy(model(tensor(framework, TOKENS))))[0] < max(bound, 0.05)
    ours, theirs = (tg.attention_maps(m, tensor(framework, TOKENS)) for m in (fast, model))
    for key, weights in theirs.items():
        np.testing.assert_allclose(numpy(ours[key]), numpy(weights), atol=bound)
    text = TOKENS.reshape(-1).tolist()
    assert tg.perplexity(fast, text, 23) == pytest.approx(tg.perplexity(model, text, 23), rel=bound)
    assert len(tg.generate(fast, [[3, 1, 2], [7]], 5)[1]) == 5
    assert "float32" in str(fast.new_cache(1, 2).storage.dtype) if kind == "F32" else fast.has_small_weights


def test_without_kernels_the_model_goes_on(written, tg, monkeypatch):
    _, files = written

    def refuse(model):
        raise native.NativeUnavailable("no C++ compiler")

    monkeypatch.setattr(tg, "accelerate", refuse)
    model = load_model(tg, files["llama"])
    with pytest.warns(UserWarning, match="going on without"):
        assert try_accelerate(tg, model) is model
    of_file = {tensor.block_type for tensor in open_gguf(files["llama"]).tensors.values()}
    assert set(model.block_types.values()) <= of_file
