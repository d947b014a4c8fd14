"""Latent attention: both forms are equal, and a cache keeps one latent and one rotated part of each position."""

from dataclasses import replace

import numpy as np
import pytest

import tfguide
import tfguide.reference as ref
from tests.support import FRAMEWORKS, batch, load, numpy, random_weights, refuses, small_config, tensor
from tfguide import LatentAttention, cost
from tfguide.compress import heads, pruning

LATENT = LatentAttention(kv_rank=17, d_nope=3, d_rope=4, d_value=5, query_rank=13, norm_eps=1e-4)
PLAIN = replace(LATENT, query_rank=None)
TOKENS = np.random.default_rng(1).integers(0, 37, (3, 17))
SPLITS = [(17,), (1,) * 17, (3, 1, 9, 4), (11, 1, 1, 4)]
PROMPTS = [[3, 1, 4, 1, 5, 9, 2], [6], [5, 3, 5]]


def latent_config(kind="decoder", **changes):
    fields = dict(latent=LATENT, d_head=None, positions="rotary", norm="rms", activation="swiglu")
    return small_config(kind, **{**fields, **changes})


def make(name, dtype="float32", **changes):
    config = latent_config(**changes)
    weights = random_weights(config)
    return load(name).from_weights(config, weights, dtype), ref.from_weights(config, weights)


def read(name, model, cache, split, tokens=TOKENS):
    ends = np.cumsum(split)
    parts = (
        model(tensor(name, tokens[:, end - size : end]), cache=cache) for size, end in zip(split, ends, strict=True)
    )
    return np.concatenate([x.detach().float().numpy() if name == "torch" else x.numpy() for x in parts], axis=1)


def caches(module, config, rows=3):
    return {
        "plain": module.KVCache(config, rows, 19),
        "8 bits": module.QuantizedKVCache(config, rows, 19),
        "4 bits": module.Int4KVCache(config, rows, 19),
        "ring": module.SlidingCache(config, rows, 19),
    }


@pytest.mark.parametrize("name", ["reference", *FRAMEWORKS])
def test_the_two_forms_are_equal(name):
    """With a mask by row, a bias, and a query that sees nothing."""
    module, stream = load(name), np.random.default_rng(0)
    B, T, S, H, R, d_nope, d_rope, d_v = 2, 5, 11, 3, 17, 7, 4, 13
    query, rope, latent, up, bias = (
        tensor(name, stream.standard_normal(shape))
        for shape in ((B, T, H, d_nope + d_rope), (B, S, 1, d_rope), (B, S, 1, R), (R, H, d_nope + d_v), (H, T, S))
    )
    visible = stream.random((B, T, S)) < 0.6
    visible[1, 2] = False
    terms = tensor(name, visible), bias
    key, value = module.latent_keys_values(rope, latent, up, d_nope)
    assert tuple(key.shape) == (B, S, H, d_nope + d_rope) and tuple(value.shape) == (B, S, H, d_v)
    for scale in (None, 0.7):
        made = numpy(module.scaled_dot_product_attention(query, key, value, *terms, scale))
        absorbed = numpy(module.absorbed_attention(query, rope, latent, up, *terms, scale))
        assert made.std() > 0.1 and (absorbed[1, 2] == 0).all()
        np.testing.assert_allclose(absorbed, made, atol=1e-12 if name == "reference" else 3e-5)


@pytest.mark.parametrize("latent", [LATENT, PLAIN], ids=["query_rank", "plain"])
def test_a_layer_gives_the_same_in_both_forms(latent):
    """In float64: the last positions alone, which absorb, and all together, which do not."""
    config = latent_config(latent=latent, n_layers=1)
    layer = ref.from_weights(config, random_weights(config)).decoder.layers[0].self_attention
    x = np.random.default_rng(3).standard_normal((2, 11, config.d_model))
    angles = ref.rotary_angles(np.arange(11)[None], tfguide.frequencies.rotary_frequencies(latent.d_rope))
    visible, kept = ref.causal_mask(11), layer.keys_values(x, angles)
    whole = layer(x, None, visible, None, angles)
    assert not latent.absorbs(11, 11)
    for n in (1, 3):
        assert latent.absorbs(n, 11)
        last = layer.attend(x[:, -n:], *kept, visible[-n:], None, tuple(part[:, -n:] for part in angles))
        np.testing.assert_allclose(last, whole[:, -n:], atol=1e-12)


@pytest.mark.parametrize("latent", [LATENT, LatentAttention(kv_rank=512, d_nope=128, d_rope=64, d_value=128)])
def test_the_form_with_fewer_products_is_chosen(latent):
    R, n, r, v = latent.kv_rank, latent.d_nope, latent.d_rope, latent.d_value
    for T in (1, 2, 5, 14, 170, 171, 1000):
        absorbed, made = T * (2 * R + r), T * (n + r + v) + R * (n + v)
        assert latent.absorbs(T, 4096) == (absorbed < made)
        assert not latent.absorbs(T, T)
    assert not latent.absorbs(None, 4096)


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_step_absorbs_and_a_prompt_does_not(name, monkeypatch):
    module, seen = __import__(f"tfguide.{name}.latent", fromlist=["absorbed_attention"]), []
    absorb = module.absorbed_attention
    monkeypatch.setattr(module, "absorbed_attention", lambda q, *rest: seen.append(q.shape[1]) or absorb(q, *rest))
    model, _ = make(name, n_layers=1)
    read(name, model, model.new_cache(3, 17), (10, 1, 2, 4))
    assert seen == [1, 2, 4] and LATENT.absorbs(5, 17) and not LATENT.absorbs(6, 17)


@pytest.mark.parametrize("kind", ["encoder", "decoder", "encoder-decoder"])
@pytest.mark.parametrize("latent", [LATENT, PLAIN], ids=["query_rank", "plain"])
def test_frameworks_equal_the_reference(kind, latent):
    """With biases and without, and with every scheme of positions; conformance/test_models.py has more of one kind."""
    for turn, positions in enumerate(("rotary", "none", "alibi", "relative")):
        biases = dict(qkv_bias=turn % 2 == 0, output_bias=turn < 2)
        config = latent_config(kind, latent=latent, positions=positions, n_layers=1, **biases)
        weights = random_weights(config)
        inputs, masks = batch(config)
        expected = ref.forward(config, weights, *inputs, **masks)
        assert expected.std() > 0.05
        for name in FRAMEWORKS:
            output = numpy(load(name).from_weights(config, weights)(*inputs, **masks))
            np.testing.assert_allclose(output, expected, atol=1e-5)


@pytest.mark.parametrize("split", SPLITS, ids=str)
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_cached_is_recomputed(name, split):
    """Exact caches equal the whole; smaller ones are near, and as near for every split."""
    model, reference = make(name)
    whole = reference(TOKENS)
    limits = {"plain": 1e-5, "ring": 1e-5, "8 bits": 0.02, "4 bits": 0.2}
    for kind, cache in caches(load(name), model.config).items():
        logits = read(name, model, cache, split)
        np.testing.assert_allclose(logits, whole, atol=limits[kind])
        once = read(name, model, caches(load(name), model.config)[kind], (17,))
        np.testing.assert_allclose(logits, once, atol=1e-5)


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_layers_with_a_window_keep_latents_too(name):
    model, reference = make(name, sliding_window=4, sliding_layers=(1,))
    cache = model.new_cache(3, 19)
    np.testing.assert_allclose(read(name, model, cache, (3, 1, 9, 4)), reference(TOKENS), atol=1e-5)
    assert cache.nbytes == cost.cache_bytes(model.config, 3, 19)


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_cache_takes_what_the_cost_model_says(name):
    model, _ = make(name)
    config = model.config
    shapes = {"rope": (1, 4), "latent": (1, 17)}
    assert config.cached == model.decoder.layers[0].self_attention.cached == shapes
    assert cost.kv_bytes_per_token(config, "float32") == 2 * (17 + 4) * 4
    for dtype in ("float32", "bfloat16", "float16", "int8", "int4"):
        assert model.new_cache(3, 19, dtype).nbytes == cost.cache_bytes(config, 3, 19, dtype)
    for dtype in ("float32", "bfloat16"):
        assert model.new_cache(3, 19, dtype).nbytes == 3 * 19 * cost.kv_bytes_per_token(config, dtype)
    assert load(name).SlidingCache(config, 3, 5, 2).nbytes == 3 * 7 * cost.kv_bytes_per_token(config, "float32")
    with refuses(ValueError, "this cache keeps no 'key' of a position, but rope, latent"):
        _ = model.new_cache(3, 19).keys


@pytest.mark.parametrize("kind", ["plain", "8 bits", "4 bits", "ring"])
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_rows_that_are_rewound_and_reordered_leave_no_trace(name, kind):
    model, _ = make(name)
    clean, used = (caches(load(name), model.config)[kind] for _ in range(2))
    read(name, model, used, (5, 1))
    used.rewind(np.array([5, 5, 5]))
    used.reorder(np.array([2, 0, 0]))
    read(name, model, clean, (5,), TOKENS[[2, 0, 0]])
    rest = TOKENS[:, 5:]
    for split in ((1, 11), (12,)):
        used.rewind(5)
        clean.rewind(5)
        logits = read(name, model, used, split, rest)
        np.testing.assert_allclose(logits, read(name, model, clean, (12,), rest), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_every_way_to_generate_gives_the_same_tokens(name):
    changes = dict(tied_head=False, embedding_scale=50.0)  # so that the texts are not one token again and again
    module, (model, reference) = load(name), make(name, **changes)
    alone = [module.generate(model, [prompt], 9, [])[0] for prompt in PROMPTS]
    assert alone == ref.generate(reference, PROMPTS, 9, [])
    assert min(len(set(row)) for row in alone) > 3
    assert module.generate(model, PROMPTS, 9, []) == alone  # in one batch
    assert module.generate(model, PROMPTS, 9, [], cache=module.SlidingCache(model.config, 3, 19)) == alone
    draft, _ = make(name, n_layers=1, **changes)
    assert module.speculative_generate(model, draft, PROMPTS, 9, 3, []).tokens == alone
    assert [list(beams[0].tokens) for beams in module.beam_search(model, PROMPTS, 1, 9, [])] == alone
    for prompt, beams in zip(PROMPTS, module.beam_search(model, PROMPTS, 3, 4, [], 0.0), strict=True):
        tokens = beams[0].tokens
        logits = reference([[*prompt, *tokens]])[0, len(prompt) - 1 : -1]
        logits -= np.log(np.exp(logits).sum(-1, keepdims=True))
        assert beams[0].score == pytest.approx(logits[np.arange(4), tokens].sum(), abs=1e-4)


@pytest.mark.parametrize("dtype", [None, "int8", "int4"])
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_compiled_step_gives_the_same_tokens(name, dtype):
    module, (model, _) = load(name), make(name, n_layers=1)
    prompts = [[3, 1, 4, 1, 5], [6]]
    compiled = module.CompiledDecoder(model, 16, 2)
    assert compiled.generate(prompts, 6, [], cache_dtype=dtype) == module.generate(
        model, prompts, 6, [], cache_dtype=dtype
    )


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_half_precision_is_near(name, dtype):
    model, reference = make(name, dtype)
    for split in SPLITS[:3]:
        cache = model.new_cache(3, 17)
        np.testing.assert_allclose(
            read(name, model, cache, split), reference(TOKENS), atol=0.1 if dtype == "bfloat16" else 0.02
        )


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_quantised_model_gives_the_same_in_both_forms(name, bits):
    sizes = dict(latent=replace(LATENT, kv_rank=16, query_rank=32, d_value=8), d_model=24, d_ff=40)
    module, (model, reference) = load(name), make(name, **sizes)
    quantized = module.quantize(model, bits, group_size=8, calibration=TOKENS if bits == 4 else None)
    whole = numpy(quantized(tensor(name, TOKENS)))
    np.testing.assert_allclose(whole, reference(TOKENS), atol=0.3)
    for split in SPLITS[1:3]:
        cache = quantized.new_cache(3, 17, "float32")
        np.testing.assert_allclose(read(name, quantized, cache, split), whole, atol=1e-5)


@pytest.mark.parametrize("latent", [LATENT, PLAIN], ids=["query_rank", "plain"])
def test_calibration_reads_the_inputs_of_every_layer(latent):
    """X^T X gives the sum of squares of each layer's output: here of both vectors before their norms."""
    config = latent_config(latent=latent)
    weights = random_weights(config)
    found = [
        {path: gram for block in load(name).from_weights(config, weights).grams(TOKENS) for path, gram in block.items()}
        for name in FRAMEWORKS
    ]
    own = ("query_down", "query_up") if latent.query_rank else ("query",)
    names = {f"decoder.layers.0.self_attention.{part}" for part in (*own, "key_value_up", "output")}
    assert {path for path in found[0] if ".0.self_attention" in path} == names
    layer = ref.from_weights(config, weights)
    x = layer.decoder.layers[0].self_attention_norm(layer.embedding(TOKENS, np.arange(17)[None]))
    rope_latent = layer.decoder.layers[0].self_attention.keys_values(x)[1].reshape(-1, 17)
    gram = rope_latent.T @ rope_latent
    for grams in found:
        np.testing.assert_allclose(grams["decoder.layers.0.self_attention.key_value_up"], gram, atol=1e-3)
        np.testing.assert_allclose(
            grams[f"decoder.layers.0.self_attention.{own[0]}"],
            np.einsum("bti,btj->ij", x, x), atol=1e-3,
        )  # fmt: skip


def test_heads_are_pruned_by_their_importance_and_not_pooled():
    config = latent_config()
    weights = random_weights(config)
    for layer in range(2):
        name = f"decoder.layers.{layer}.self_attention"
        weights[f"{name}.output.weight"].reshape(6, 5, -1)[[1, 4]] = 0
    smaller, kept = pruning.prune_heads(config, weights, 4)
    assert smaller.n_heads == 4 and smaller.latent == config.latent
    assert kept["decoder.layers.0.self_attention.key_value_up.weight"].shape == (17, 4 * 8)
    np.testing.assert_allclose(ref.forward(smaller, kept, TOKENS), ref.forward(config, weights, TOKENS), atol=1e-12)
    with refuses(ValueError, "latent attention has no key/value heads to pool"):
        heads.pool_kv_heads(config, weights, 3)


@pytest.mark.parametrize(
    ("latent", "changes"),
    [(LATENT, dict(sliding_window=4, sliding_layers=(1,))), (PLAIN, dict(positions="alibi", qkv_bias=False))],
    ids=["query_rank", "plain"],
)
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_the_kernels_keep_latents_in_every_type_of_cache(name, latent, changes):
    """In any split of the text, and any number of threads; a cache of 4 bits goes by the model."""
    model, reference = make(name, latent=latent, **changes)
    whole = reference(TOKENS)
    limits = {"float32": 1e-5, "bfloat16": 0.01, "float16": 0.001, "int8": 0.02, "int4": 0.2}
    for (dtype, limit), split, threads in zip(limits.items(), (*SPLITS, SPLITS[2]), (1, 2, 3, 2, 1), strict=True):
        fast = load(name).accelerate(model, threads=threads)
        for each in (split, SPLITS[2]):
            cache = fast.new_cache(3, 19, dtype)
            np.testing.assert_allclose(read(name, fast, cache, each), whole, atol=limit)
            assert cache.nbytes == cost.cache_bytes(model.config, 3, 19, dtype)


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_the_kernels_generate_the_same_tokens(name):
    """Prompts of unequal lengths in one batch, beams, and several tokens that a draft proposes."""
    module, (model, _) = load(name), make(name, tied_head=False, embedding_scale=50.0)
    fast = module.accelerate(model)
    alone = module.generate(model, PROMPTS, 9, [])
    assert module.generate(fast, PROMPTS, 9, []) == alone
    assert module.speculative_generate(fast, fast, PROMPTS, 9, 3, []).tokens == alone
    assert [list(beams[0].tokens) for beams in module.beam_search(fast, PROMPTS, 1, 9, [])] == alone


KINDS = ["bfloat16", "float16", (8, None), (4, 8)]


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_the_kernels_multiply_weights_of_every_type(name, kind):
    """Heads begin within a register of packed outputs. Few rows, and more than the kernels take, which may absorb."""
    sizes = dict(latent=replace(LATENT, kv_rank=40, query_rank=32, d_value=8), d_model=24, d_ff=40)
    model, _ = make(name, kind if isinstance(kind, str) else "float32", **sizes)
    if not isinstance(kind, str):
        model = load(name).quantize(model, *kind, group_size=8)
    fast, many = load(name).accelerate(model, threads=2), np.concatenate([TOKENS] * 7)
    # The form that makes keys rounds latents to 8 bits where activations are rounded, the other does not.
    limit = {"bfloat16": 2**-5, "float16": 2**-8}.get(kind, 1e-5 if kind[1] is None else 0.04)
    for tokens, split in ((TOKENS, (1, 4, 1, 9, 2)), (many, (13, 4))):
        parts = [read(name, one, one.new_cache(len(tokens), 17, "float32"), split, tokens) for one in (fast, model)]
        np.testing.assert_allclose(*parts, atol=limit * np.abs(parts[1]).max())


@pytest.mark.parametrize("quantization", [None, (8, 8)], ids=str)
def test_the_kernels_read_texts_of_many_blocks(quantization):
    """More than two blocks of 512 positions, in a ring and not, by steps and by prompts."""
    latent, tokens = replace(LATENT, kv_rank=24, query_rank=None, d_value=8), np.random.default_rng(5)
    changes = dict(latent=latent, d_model=24, d_ff=40, sliding_window=9, sliding_layers=(1,), max_positions=1200)
    model, _ = make("torch", **changes)
    model = model if quantization is None else load("torch").quantize(model, *quantization, group_size=8)
    fast, tokens = load("torch").accelerate(model, threads=2), tokens.integers(0, 37, (1, 1130))
    split = (1000, 1, 40, 3, 9, 1, 64, 12)
    with load("torch").models.torch.inference_mode():
        got, want = (read("torch", one, one.new_cache(1, 1130, "float32"), split, tokens) for one in (fast, model))
    np.testing.assert_allclose(got, want, atol=(2e-5 if quantization is None else 0.04) * np.abs(want).max())
