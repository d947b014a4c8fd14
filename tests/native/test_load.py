"""A decoder without a framework: the logits of the reference, the tokens of both frameworks, from every file."""

import os
import subprocess
import sys
import threading
from dataclasses import dataclass

import numpy as np
import pytest

import tfguide
import tfguide.reference as ref
from tests.support import FRAMEWORKS, load, numpy, random_weights, small_config, tensor
from tests.test_fast import VARIANTS
from tfguide import generation, native
from tfguide.dtypes import WEIGHT_DTYPES
from tfguide.loading import load_model, try_accelerate
from tfguide.native.abi import CACHE_TYPES
from tfguide.native.assembly import from_weights

pytestmark = pytest.mark.skipif(not native.is_available(), reason="there is no C++ compiler")
TOKENS = np.random.default_rng(0).integers(0, 37, (2, 23))
LLAMA = dict(
    d_model=64, n_heads=4, n_kv_heads=2, d_head=16, d_ff=96, max_positions=256, norm="rms", positions="rotary",
    activation="swiglu", qkv_bias=False, output_bias=False, ffn_bias=False, decoder_start_token_id=None,
)  # fmt: skip
GPT2 = dict(
    d_model=64, n_heads=4, d_head=16, d_ff=96, max_positions=256, positions="learned", activation="gelu_tanh",
    decoder_start_token_id=None,
)  # fmt: skip
SHAPES = {"gpt2": GPT2, "llama": LLAMA, "qwen2": LLAMA | dict(tied_head=False, qkv_bias=True)}
PROMPTS = [np.random.default_rng(n).integers(0, 37, n).tolist() for n in (1, 10, 70, 200)]


@dataclass
class Given:
    """A weight that is in no file."""

    array: np.ndarray
    dtype: str = "float64"  # which is converted

    def to_float32(self, keeps_order=False):
        return self.array


def spread_weights(config):
    """Random weights with logits that are far apart, so that no rounding swaps two of them."""
    weights = random_weights(config)
    weights["embedding.token.weight"] = weights["embedding.token.weight"] * 50
    if not config.tied_head:
        weights["head.weight"] = np.roll(weights["embedding.token.weight"], 5, axis=0).T.copy()
    return weights


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Folders of Hugging Face by the name of the shape."""
    tg, folder = load("torch"), tmp_path_factory.mktemp("load")
    for name, changes in SHAPES.items():
        config = small_config(**changes)
        tg.save_checkpoint(tg.from_weights(config, spread_weights(config)), folder / name)
    return folder


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_it_gives_the_logits_of_the_reference(changes):
    config = small_config(**changes)
    weights = random_weights(config)
    want = ref.from_weights(config, weights)(TOKENS)
    for threads in (1, 3):
        model = from_weights(config, {name: Given(array) for name, array in weights.items()}, "float32", threads)
        np.testing.assert_allclose(model(TOKENS), want, atol=1e-5)
        cache = model.new_cache(2, 23)
        parts = [model(TOKENS[:, a:b], cache=cache) for a, b in ((0, 4), (4, 5), (5, 23))]
        np.testing.assert_allclose(np.concatenate(parts, axis=1), want, atol=1e-5)
    logits = model.prefill(TOKENS, model.new_cache(2, 23), lengths=[23, 7])
    np.testing.assert_allclose(logits, want[[0, 1], [22, 6]], atol=1e-5)


@pytest.mark.parametrize("dtype", [None, *WEIGHT_DTYPES])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_it_writes_what_a_framework_writes(name, shape, dtype, folders):
    tg = load(name)
    theirs = try_accelerate(tg, load_model(tg, folders / shape, dtype))
    ours = native.load(folders / shape, dtype)
    assert ours.config == theirs.config and ours.quantization == theirs.quantization
    for prompt in PROMPTS:
        assert generation.generate(ours, [prompt], 20) == tg.generate(theirs, [prompt], 20)
    assert generation.generate(ours, PROMPTS, 9) == tg.generate(theirs, PROMPTS, 9)
    for cache_dtype in CACHE_TYPES:
        wanted = tg.generate(theirs, PROMPTS[1:], 5, cache_dtype=cache_dtype)
        assert generation.generate(ours, PROMPTS[1:], 5, cache_dtype=cache_dtype) == wanted
    default = ours.new_cache(1, 1), theirs.new_cache(1, 1)
    assert default[0].nbytes == default[1].nbytes


@pytest.mark.parametrize("case", ["mistral-window", "qwen2-window-by-layer", "qwen3", "gemma3_text", "phi3"])
def test_it_reads_the_folders_of_transformers(case, tmp_path):
    """In the type of the file as well, where its matrices are mapped, fused ones in part."""
    hf = pytest.importorskip("tests.checkpoints.hf")
    tokens = np.random.default_rng(0).integers(0, 37, (2, 23))
    for dtype, bound in (("float32", 1e-5), ("bfloat16", 0.05)):  # activations and norms are rounded as well
        folder = hf.save(hf.make(case), tmp_path / dtype, dtype=getattr(hf.torch, dtype))
        peer = hf.transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=hf.torch.float32)
        want = hf.outputs(peer, [tokens], {})
        model = native.load(folder, dtype)
        np.testing.assert_allclose(model(tokens), want, atol=bound * np.abs(want).max())
        assert len(generation.generate(model, [[1, 2, 3]], 5)[0]) <= 5


@pytest.mark.parametrize("dtype", WEIGHT_DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_its_weights_are_those_of_a_framework(shape, dtype, folders):
    """To the last bit: the kernels compute the same from the same numbers."""
    tg = load("torch")
    fast = tg.accelerate(load_model(tg, folders / shape, dtype))
    ours = native.load(folders / shape, dtype, threads=fast.threads)
    caches = fast.new_cache(2, 30, "float32"), ours.new_cache(2, 30, "float32")
    tokens = np.random.default_rng(3).integers(0, 37, (2, 9))
    logits = [model.prefill(tokens, cache) for model, cache in zip((fast, ours), caches, strict=True)]
    steps = [model.decode(tokens[:, 0], cache) for model, cache in zip((fast, ours), caches, strict=True)]
    bound = 1e-5 * np.abs(logits[0]).max()  # gpt2's fused matrix lies in another order, and sums in another
    np.testing.assert_allclose(logits[1], logits[0], atol=0 if shape != "gpt2" else bound)
    np.testing.assert_allclose(steps[1], steps[0], atol=0 if shape != "gpt2" else bound)


@pytest.mark.parametrize("block_type", ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1"])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_blocks_of_a_gguf_file_are_multiplied_as_they_are(shape, block_type, folders, tmp_path):
    tg = load("torch")
    model = tg.load_checkpoint(folders / shape)
    tg.save_gguf(model, tmp_path / "m.gguf", block_type)
    dequantised = tg.load_checkpoint(tmp_path)
    want = numpy(dequantised(tensor("torch", TOKENS)))
    ours = native.load(tmp_path / "m.gguf")
    bound = {"F32": 1e-5, "F16": 1e-5, "BF16": 0.02}.get(block_type, 0.05)  # where activations are rounded
    assert np.abs(ours(TOKENS) - want).max() < bound * np.abs(want).max()
    assert generation.generate(native.load(tmp_path), PROMPTS[1:], 5) == generation.generate(ours, PROMPTS[1:], 5)
    small = block_type.startswith("Q")
    kept = {"F32": "float32", "BF16": "bfloat16"}.get(block_type, "float16")
    assert ours.new_cache(1, 1).storage.dtype == kept
    assert ours.head.is_packed == small and (shape == "qwen2" or ours.head.owner is not None)
    for dtype in WEIGHT_DTYPES:
        one, other = native.load(tmp_path, dtype), tg.accelerate(load_model(tg, tmp_path, dtype))
        assert generation.generate(one, PROMPTS[:2], 9) == tg.generate(other, PROMPTS[:2], 9)


@pytest.mark.parametrize("bits", [(8, 8), (8, None), (4, 8), (4, None)])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_quantised_folder_keeps_its_integers(shape, bits, folders, tmp_path):
    tg = load("torch")
    model = tg.quantize(tg.load_checkpoint(folders / shape), *bits)
    tg.save_checkpoint(model, tmp_path / "q")
    for dtype in (None, "bfloat16"):
        ours, theirs = native.load(tmp_path / "q", dtype), tg.accelerate(load_model(tg, tmp_path / "q", dtype))
        assert ours.quantization == model.quantization
        assert generation.generate(ours, PROMPTS[:2], 9) == tg.generate(theirs, PROMPTS[:2], 9)
    with pytest.raises(ValueError, match="is quantised already"):
        native.load(tmp_path / "q", "int8")


def test_what_a_file_holds_in_the_wanted_type_is_mapped(folders, tmp_path):
    tg = load("torch")
    model = tg.load_checkpoint(folders / "llama")
    tg.save_gguf(model, tmp_path / "m.gguf", "F16")
    for found, order in (
        (native.load(folders / "llama"), "float32 rows"),
        (native.load(folders / "gpt2"), None),
        (native.load(tmp_path / "m.gguf"), "float16 rows"),
        (native.load(tmp_path / "m.gguf", "float16"), "float16 rows"),
    ):
        assert isinstance(found.head.owner, np.memmap), found.head
        assert order is None or found.head.format == order
    assert not isinstance(native.load(folders / "llama", "float16").head.owner, np.memmap)


def test_the_verbs(folders):
    """Chunks, scores, rows of unequal lengths, beams, speculation and perplexity give what a framework gives."""
    tg, ours = load("torch"), native.load(folders / "llama")
    theirs = tg.accelerate(tg.load_checkpoint(folders / "llama"))
    long = PROMPTS[3]
    for chunk_size in (None, 7, 64):
        logits = ours.prefill([long], ours.new_cache(1, 200), chunk_size=chunk_size)
        np.testing.assert_allclose(logits, theirs.prefill([long], theirs.new_cache(1, 200)), rtol=1e-4)
    np.testing.assert_allclose(ours.score([long[:40]], last=7), theirs.score([long[:40]], last=7), rtol=1e-4)
    one, other = (generation.beam_search(model, PROMPTS[:2], 3, 6) for model in (ours, theirs))
    assert [[beam.tokens for beam in beams] for beams in one] == [[beam.tokens for beam in beams] for beams in other]
    draft = native.load(folders / "llama", "int4")
    assert generation.speculative_generate(ours, draft, PROMPTS, 9).tokens == generation.generate(ours, PROMPTS, 9)
    looked_up = generation.speculative_generate(ours, tfguide.PromptLookup(), PROMPTS, 9)
    assert looked_up.tokens == generation.generate(ours, PROMPTS, 9)
    assert generation.perplexity(ours, long, 64, 32) == pytest.approx(generation.perplexity(theirs, long, 64, 32))
    drawn = tfguide.Sampling(temperature=2.0, seed=3)
    assert generation.generate(ours, PROMPTS, 9, sampling=drawn) == tg.generate(theirs, PROMPTS, 9, sampling=drawn)
    mask = np.arange(23) < np.array([[23], [5]])
    np.testing.assert_allclose(ours(TOKENS, valid=mask)[mask], ours(TOKENS)[mask], rtol=1e-4, atol=1e-4)
    cache = ours.new_cache(2, 30)
    ours.prefill(TOKENS, cache)
    hidden = ours.read_rows([1, 2, 3], [1, 0, 1], cache)
    assert hidden.shape == (3, 64) and cache.lengths.tolist() == [24, 25]


def test_a_cache_is_rewound_and_reordered(folders):
    model = native.load(folders / "llama")
    for dtype in CACHE_TYPES:
        used, clean = (model.new_cache(2, 23, dtype) for _ in range(2))
        model.prefill(TOKENS[:, :20], used)
        used.rewind(5)
        used.reorder(np.array([1, 1]))
        model.prefill(TOKENS[[1, 1], :5], clean)
        for part in (slice(5, 6), slice(6, 9), slice(9, 22)):
            got, want = (model.score(TOKENS[:, part], cache) for cache in (used, clean))
            np.testing.assert_allclose(got, want, rtol=0.05, atol=0.05 * np.abs(want).max())
        assert used.nbytes == clean.nbytes


def test_what_it_does_not_compute_is_said(folders):
    model = native.load(folders / "llama")
    for call, message in (
        (lambda: model(TOKENS, record=[]), "keep no attention maps"),
        (lambda: model(TOKENS, valid=np.arange(23)[::-1] < [[23], [5]]), "padding stands at the end of a row"),
        (lambda: model(TOKENS, token_types=TOKENS), "no token types"),
        (lambda: model(TOKENS + 37), "tokens must lie between 0 and 36, got"),
        (lambda: model([]), "tokens must be"),
        (lambda: model(TOKENS, valid=np.ones((2, 3), bool)), "valid must have the shape"),
        (lambda: model(TOKENS, cache=model.new_cache(2, 22)), "the cache has room for 22 positions"),
        (lambda: model(TOKENS, cache=model.new_cache(3, 23)), "the cache holds 3 rows, got 2"),
        (lambda: model.decode([1], model.new_cache(1, 3)), "the cache is empty"),
        (lambda: model.new_cache(1, 3, "int2"), "cache_dtype must be one of"),
        (lambda: model.new_cache(1, 300), "max_positions"),
        (lambda: model(TOKENS, cache=load("torch").SlidingCache(model.config, 2, 9)), "a dense cache in main memory"),
        (lambda: native.ArrayStorage(model.config, 1, 3, "float64"), "dtype must be one of"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            call()
    with pytest.raises(TypeError, match="tokens must be integers"):
        model([[0.5]])
    typed = small_config(**LLAMA, n_token_types=2)
    model = from_weights(typed, {name: Given(w) for name, w in random_weights(typed).items()}, "float32", 1)
    np.testing.assert_array_equal(model(TOKENS, token_types=0 * TOKENS), model(TOKENS))
    with pytest.raises(ValueError, match="token type 0 alone: use the models of"):
        model(TOKENS, token_types=TOKENS % 2)


@pytest.mark.parametrize("kind", ["encoder", "encoder-decoder"])
def test_other_models_are_refused_by_name(kind, tmp_path):
    tg, config = (
        load("torch"),
        small_config(kind, d_model=24, d_ff=32, n_encoder_layers=None if kind == "encoder" else 1),
    )
    tg.save_checkpoint(tg.quantize(tg.from_weights(config, random_weights(config))), tmp_path / "m")
    with pytest.raises(native.UnsupportedModel, match=rf"got kind='{kind}': use the model itself.*--framework torch"):
        native.load(tmp_path / "m")
    with pytest.raises(native.UnsupportedModel, match="relative positions"):
        native.check(small_config(positions="relative"))


def test_bad_files_and_arguments(folders, tmp_path):
    for call, kind, message in (
        (lambda: native.load(tmp_path / "none"), FileNotFoundError, "no such folder"),
        (lambda: native.load(3), TypeError, "must be a str or a path"),
        (lambda: native.load(folders / "llama", "int2"), ValueError, "dtype must be one of"),
        (lambda: native.load(folders / "llama", threads=0), ValueError, "threads must be at least 1"),
    ):
        with pytest.raises(kind, match=message):
            call()
    content = (folders / "llama" / "model.safetensors").read_bytes()
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "config.json").write_text((folders / "llama" / "config.json").read_text())
    (tmp_path / "m" / "model.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"model.safetensors: not a whole safetensors file"):
        native.load(tmp_path / "m")
    (tmp_path / "m.gguf").write_bytes(b"GGUF" + bytes(40))
    with pytest.raises(ValueError, match=r"m.gguf: GGUF version 0 is not supported"):
        native.load(tmp_path / "m.gguf")


def test_threads_share_a_model_and_a_fork_uses_it(folders):
    model = native.load(folders / "llama", "int8")
    want = [generation.generate(model, [prompt], 15) for prompt in PROMPTS]
    got = [None] * 4

    def run(i):
        got[i] = generation.generate(model, [PROMPTS[i]], 15)

    threads = [threading.Thread(target=run, args=[i]) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == want
    child = os.fork()
    if child == 0:
        os._exit(0 if generation.generate(model, [PROMPTS[2]], 15) == want[2] else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_no_framework_is_imported(folders, tmp_path):
    tg = load("torch")
    tg.save_gguf(tg.load_checkpoint(folders / "llama"), tmp_path / "m.gguf", "Q4_1")
    code = """
import sys
from tfguide import generation, native
for path in sys.argv[1:]:
    for dtype in (None, "bfloat16", "int8"):
        model = native.load(path, dtype)
        (tokens,) = generation.generate(model, [[1, 2, 3]], 4, cache_dtype="bfloat16")
        assert len(tokens) == 4
print([name for name in ("torch", "tensorflow", "keras", "ml_dtypes", "transformers") if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", code, folders / "gpt2", folders / "llama", tmp_path], capture_output=True, text=True
    )
    assert done.stdout == "[]\n", done.stderr
