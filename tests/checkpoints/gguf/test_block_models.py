"""Models that keep the blocks of a GGUF file: transformers' logits in every type, and all that a model can do."""

import copy
import pickle

import numpy as np
import pytest

import tfguide.reference as ref
from tests.support import load, numpy, tensor
from tfguide import cost
from tfguide.checkpoints import open_gguf, read_blocks, read_gguf
from tfguide.loading import load_model
from tfguide.weights import weight_table

pytest.importorskip("gguf")
hf = pytest.importorskip("tests.checkpoints.hf")
peers = pytest.importorskip("tests.checkpoints.gguf.peers")

TYPES = ("F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q8_0", "Q4_K", "Q5_K", "Q6_K")
LLAMA = hf.LLAMA | dict(
    hidden_size=256, intermediate_size=512, num_attention_heads=4, num_key_value_heads=2, head_dim=64, vocab_size=43,
)  # fmt: skip
GPT2 = hf.GPT2 | dict(n_embd=256, n_head=4, n_inner=512, vocab_size=43, n_positions=61)
MODELS = {
    "llama": ("LlamaForCausalLM", LLAMA | dict(tie_word_embeddings=False, attention_bias=True, mlp_bias=True)),
    "llama-tied": ("LlamaForCausalLM", LLAMA | dict(tie_word_embeddings=True)),
    "gpt2": ("GPT2LMHeadModel", GPT2 | dict(tie_word_embeddings=False)),
    "gpt2-tied": ("GPT2LMHeadModel", GPT2),
}
TOKENS = np.random.default_rng(0).integers(0, 43, (2, 11))


def make(name, types, file, size=1.0):
    """A model of transformers, with the weights of the file that is written; size: of its matrices."""
    import transformers

    kind, fields = MODELS[name]
    kind = getattr(transformers, kind)
    model = hf.randomise(kind(kind.config_class(**fields)).eval())
    for parameter in model.parameters():
        parameter.data *= size if parameter.ndim > 1 else 1.0
    peers.write(model, file, types)
    return model


@pytest.fixture(scope="module", params=TYPES)
def written(request, tmp_path_factory):
    """The four models in files of one type, each with its logits in transformers."""
    folder, found = tmp_path_factory.mktemp(request.param), {}
    for name in MODELS:
        peer = make(name, (request.param,), folder / f"{name}.gguf")
        found[name] = folder / f"{name}.gguf", hf.outputs(peer, (TOKENS,), {})
    return request.param, found


@pytest.mark.parametrize("name", MODELS)
def test_equal_transformers(written, name, tg, framework):
    block_type, files = written
    file, expected = files[name]
    model = tg.load_checkpoint(file)
    received = numpy(model(tensor(framework, TOKENS)))
    assert np.abs(received - expected).max() < 2e-5 * np.abs(expected).max()
    kept = {n for n, weight in weight_table(model.config).items() if weight.is_matrix or n == "embedding.token.weight"}
    assert model.block_types == dict.fromkeys(kept, block_type)
    assert model.quantization is None and model.has_small_weights == (block_type != "F32")


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """A file of each model with a type for each tensor in turn, among them one that the package `gguf` dequantises."""
    folder = tmp_path_factory.mktemp("mixed")
    types = ("Q8_0", "Q4_K", "F16", "Q5_1", "Q6_K", "Q4_1", "Q5_K")
    for name in MODELS:
        make(name, types, folder / f"{name}.gguf")
    return {name: folder / f"{name}.gguf" for name in MODELS}


def test_its_blocks_are_those_of_the_file(mixed, tg):
    """Mapped, not copied, except for rows in another order; `to_weights` and `weight_of` dequantise."""
    for name, file in mixed.items():
        model, opened = tg.load_checkpoint(file), open_gguf(file)
        config, weights = read_gguf(file)
        assert model.config == config
        for key, array in tg.to_weights(model).items():
            np.testing.assert_array_equal(array, weights[key])
            np.testing.assert_array_equal(model.weight_of(key), weights[key])
        if config.tied_head:
            np.testing.assert_array_equal(model.weight_of("head.weight"), weights["embedding.token.weight"].T)
        of_file = {key: array.block_type for key, array in read_blocks(opened)[1].items() if key in model.block_types}
        assert model.block_types == of_file and len(set(of_file.values())) >= 5, name
        assert not model.embedding.token.blocks.data.flags.owndata


def test_a_type_or_a_quantisation_asked_for_is_given(mixed, tg):
    for file in mixed.values():
        for dtype in ("float32", "bfloat16", "float16"):
            model = tg.load_checkpoint(file, dtype=dtype)
            assert model.block_types == {} and model.dtype_name == dtype and not model.has_small_weights
        model = load_model(tg, file, "int8")
        assert model.block_types == {} and model.quantization.weight_bits == 8
        assert load_model(tg, file).block_types


@pytest.mark.parametrize("name", MODELS)
def test_its_cache_gives_the_same(mixed, name, tg, framework):
    """Prompts, steps and padding in a float32 cache: full recomputation; the default is a float16 cache."""
    model = tg.load_checkpoint(mixed[name])
    want = ref.from_weights(*read_gguf(mixed[name]))(TOKENS)
    cache = model.new_cache(2, 11, "float32")
    parts = [model(tensor(framework, TOKENS[:, a:b]), cache=cache) for a, b in ((0, 5), (5, 6), (6, 11))]
    got = np.concatenate([numpy(part) for part in parts], axis=1)
    assert np.abs(got - want).max() < 2e-5 * np.abs(want).max()
    assert "float16" in str(model.new_cache(1, 3).storage.dtype)


def test_everything_that_reads_a_model(mixed, tg, framework):
    """Generation, maps, hidden states, perplexity and X^T X of a block model are those of the dequantised one."""
    file = mixed["llama-tied"]
    model, plain = tg.load_checkpoint(file), tg.load_checkpoint(file, dtype="float32")
    prompts = [[3, 1, 2], [7]]
    assert tg.generate(model, prompts, 5, cache_dtype="float32") == tg.generate(plain, prompts, 5)
    one, other = (tg.beam_search(m, prompts, 3, 5, cache_dtype="float32") for m in (model, plain))
    assert [beams[0].tokens for beams in one] == [beams[0].tokens for beams in other]
    one, other = (tg.perplexity(m, TOKENS.reshape(-1).tolist()) for m in (model, plain))
    assert one == pytest.approx(other, rel=1e-3)
    for a, b in zip(model.hidden_states(TOKENS), plain.hidden_states(TOKENS), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5 * np.abs(b).max())
    for a, b in zip(model.grams(TOKENS), plain.grams(TOKENS), strict=True):
        assert a.keys() == b.keys()
        for key in a:
            np.testing.assert_allclose(a[key], b[key], atol=1e-4 * np.abs(b[key]).max())
    one, other = (tg.attention_maps(m, tensor(framework, TOKENS)) for m in (model, plain))
    for name in one:
        np.testing.assert_allclose(numpy(one[name]), numpy(other[name]), atol=1e-5)


@pytest.mark.parametrize("name", ["llama", "gpt2-tied"])
def test_everything_that_makes_another_model(mixed, name, tg, framework, tmp_path):
    """Quantised, pruned, pooled and saved as the dequantised model is."""
    model, plain = tg.load_checkpoint(mixed[name]), tg.load_checkpoint(mixed[name], dtype="float32")
    for change in (
        lambda m: tg.quantize(m, 8, 8),
        lambda m: tg.prune_magnitude(m, 0.5),
        lambda m: tg.prune_two_four(m),
        lambda m: tg.prune_neurons(m, 300),
        lambda m: tg.prune_layers(m, [0]),
        lambda m: tg.prune_heads(m, 1) if name == "llama" else m,
        lambda m: tg.pool_kv_heads(m, 1),
    ):
        one, other = (numpy(change(m)(tensor(framework, TOKENS))) for m in (model, plain))
        np.testing.assert_allclose(one, other, atol=1e-3 * np.abs(other).max())
    # A sum in another order may move an integer to its neighbour, and then others after it.
    one, other = (tg.quantize(m, 4, asymmetric=False, calibration=TOKENS).to_quantized() for m in (model, plain))
    moved = [np.mean(one[key] != other[key]) for key in one if key.endswith(".packed")]
    assert len(moved) > 10 and max(moved) < 0.02
    tg.save_checkpoint(model, tmp_path / "folder")
    tg.save_gguf(model, tmp_path / "again.gguf", "F32")
    for saved in (tmp_path / "folder", tmp_path / "again.gguf"):
        again = tg.load_checkpoint(saved)
        for key, array in tg.to_weights(model).items():
            np.testing.assert_array_equal(again.weight_of(key), array)
    assert set(again.block_types.values()) == {"F32"} and not again.has_small_weights


def test_copies_and_pickles_in_pytorch(mixed):
    """A copy has its blocks in memory and does not need the file. Keras copies none of this package's models."""
    pytest.importorskip("torch")
    model = load("torch").load_checkpoint(mixed["llama"])
    want = numpy(model(TOKENS))
    for other in (copy.deepcopy(model), copy.copy(model), pickle.loads(pickle.dumps(model))):
        assert other is not model and other.block_types == model.block_types
        np.testing.assert_array_equal(numpy(other(TOKENS)), want)


def test_copies_of_blocks(mixed):
    """Blocks themselves are copied and pickled in every framework."""
    blocks = read_blocks(open_gguf(mixed["gpt2"]))[1]["embedding.token.weight"]
    for other in (copy.deepcopy(blocks), pickle.loads(pickle.dumps(blocks))):
        np.testing.assert_array_equal(other.dequantised(), blocks.dequantised())
        assert not np.shares_memory(other.data, blocks.data)


def test_bytes_are_those_of_the_file(mixed, tg):
    """What the cost model counts is what the blocks and the float32 weights take."""
    for file in mixed.values():
        model = tg.load_checkpoint(file)
        arrays = read_blocks(open_gguf(file))[1]
        n_bytes = sum(array.n_bytes if name in model.block_types else array.nbytes for name, array in arrays.items())
        assert cost.block_bytes(model.config, model.block_types) == n_bytes
    with pytest.raises(ValueError, match=r"name of a weight in blocks must be one of .* got 'head'"):
        cost.block_bytes(model.config, {"head": "Q4_0"})
    with pytest.raises(ValueError, match=r"'embedding.token.weight' must have rows of a multiple of 256 numbers .* 96"):
        cost.block_bytes(model.config.replace(d_model=96), {"embedding.token.weight": "Q4_K"})


def test_its_compiled_step_is_the_dequantised_models(mixed, tg):
    """A compiler reads tensors: the weights are dequantised first."""
    file = mixed["gpt2-tied"]
    compiled = tg.CompiledDecoder(tg.load_checkpoint(file), 16)
    assert compiled.model.block_types == {}
    plain = load_model(tg, file, "float32")
    assert compiled.generate([[3, 1, 2]], 5) == tg.generate(plain, [[3, 1, 2]], 5)


def test_a_graph_computes_it(mixed):
    """TensorFlow's graph dequantises in each run; it holds no numbers."""
    tf = pytest.importorskip("tensorflow")
    tk = load("tensorflow")
    for file in mixed.values():
        model = tk.load_checkpoint(file)
        graph = tf.function(lambda tokens, model=model: model(tokens)).get_concrete_function(
            tf.TensorSpec((None, None), tf.int32)
        )
        assert graph.graph.as_graph_def().ByteSize() < 1e6
        want = numpy(model(TOKENS))
        for rows in (slice(None), slice(1, 2)):
            got = graph(tf.constant(TOKENS[rows], tf.int32))
            np.testing.assert_allclose(got, want[rows], atol=1e-5 * np.abs(want).max())
