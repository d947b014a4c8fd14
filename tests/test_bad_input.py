"""A caller's mistake raises an error of the right type that says what was expected and what came."""

import math
import re

import numpy as np
import pytest

import tfguide
from tests.support import FRAMEWORKS, load, random_weights, small_config, tensor

IMPLEMENTATIONS = ("reference", *FRAMEWORKS)

ROTARY = dict(d_head=6, positions="rotary")
LINEAR = tfguide.LinearScaling(factor=2.0)
DYNAMIC = tfguide.DynamicScaling(factor=2.0, original_max_positions=7)
LATENT = tfguide.LatentAttention(kv_rank=7, d_nope=2, d_rope=5, d_value=3)


def config(**changes):
    fields = dict(kind="decoder", d_model=12, n_layers=1, n_heads=3, d_ff=5, vocab_size=7)
    return tfguide.ModelConfig(**{**fields, **changes})


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (dict(d_model=13), ValueError, "d_model must be divisible by n_heads .* d_model=13 and n_heads=3"),
        (dict(n_kv_heads=2), ValueError, "n_kv_heads must divide n_heads, got n_kv_heads=2 and n_heads=3"),
        (dict(n_kv_heads=0), ValueError, "n_kv_heads must be at least 1, got 0"),
        (dict(n_layers=0), ValueError, "n_layers must be at least 1, got 0"),
        (dict(d_model=-12), ValueError, "d_model must be at least 1, got -12"),
        (dict(d_model=12.0), TypeError, "d_model must be an integer, got 12.0"),
        (dict(n_heads=True), TypeError, "n_heads must be an integer, got True"),
        (dict(vocab_size="7"), TypeError, "vocab_size must be an integer, got '7'"),
        (dict(kind="deocder"), ValueError, "kind must be one of .* got 'deocder'; did you mean 'decoder'"),
        (dict(activation="swish"), ValueError, "activation must be one of .* got 'swish'"),
        (dict(activation=None), TypeError, "activation must be one of .* got None"),
        (dict(norm="rmsnorm"), ValueError, "norm must be one of .* did you mean 'rms'"),
        (dict(positions="rope"), ValueError, "positions must be one of"),
        (dict(positions="learned"), ValueError, "positions='learned' needs max_positions"),
        (dict(position_offset=2), ValueError, "position_offset needs positions='learned', got positions='none'"),
        (dict(position_offset=-1), ValueError, "position_offset must be at least 0, got -1"),
        (dict(positions="rotary", d_head=5), ValueError, "even d_head, got 5"),
        (dict(positions="sinusoidal", d_model=13, d_head=4), ValueError, "even d_model, got 13"),
        (dict(positions="relative", relative_buckets=2), ValueError, "relative_buckets must be at least 4"),
        (dict(positions="relative", relative_max_distance=16), ValueError, "relative_max_distance must be above"),
        (dict(norm_eps=0.0), ValueError, "norm_eps must be above 0.0, got 0.0"),
        (dict(norm_eps=math.nan), ValueError, "norm_eps must be finite, got nan"),
        (dict(rope_theta="1e4"), TypeError, "rope_theta must be a number, got '1e4'"),
        (dict(dropout=1.0), ValueError, "dropout must be at least 0 and below 1, got 1.0"),
        (dict(tied_head=1), TypeError, "tied_head must be a bool, got 1"),
        (dict(pooler=True), ValueError, "pooler belongs to kind='encoder'"),
        (dict(kind="encoder", sliding_window=3), ValueError, "sliding_window is supported for kind='decoder'"),
        (dict(n_encoder_layers=2), ValueError, "n_encoder_layers belongs to kind='encoder-decoder'"),
        (dict(eos_token_id=7), ValueError, "eos_token_id must be below vocab_size=7, got 7"),
        (dict(rope_scaling={"factor": 8}), TypeError, "rope_scaling must be a RopeScaling or None"),
        (dict(rope_scaling=LINEAR), ValueError, "rope_scaling needs positions='rotary', got positions='none'"),
        (dict(d_head=6, d_rotary=4), ValueError, "d_rotary needs positions='rotary', got positions='none'"),
        (dict(ROTARY, d_rotary=3), ValueError, "d_rotary must be even and at most d_head=6, got 3"),
        (dict(ROTARY, d_rotary=8), ValueError, "d_rotary must be even and at most d_head=6, got 8"),
        (dict(ROTARY, d_rotary=2.0), TypeError, "d_rotary must be an integer, got 2.0"),
        (dict(ROTARY, d_rotary=2, rope_scaling=DYNAMIC), ValueError, "at least 4 rotated features"),
        (dict(kind="encoder-decoder", norm_placement="parallel"), ValueError, "no place for cross-attention"),
        (dict(latent=LATENT, d_head=5), ValueError, "d_head must be 7 with latent=LatentAttention"),
        (dict(latent=LATENT, n_kv_heads=1), ValueError, "n_kv_heads must be 3 with latent=LatentAttention"),
        (dict(latent=LATENT, qk_norm=True), ValueError, "qk_norm, .* have no place with latent=LatentAttention"),
        (dict(latent=LATENT, positions="rotary"), ValueError, "needs an even d_rope, got 5"),
    ],
)  # fmt: skip
def test_configurations(changes, error, message):
    with pytest.raises(error, match=message):
        config(**changes)


def test_names_that_are_not_known():
    with pytest.raises(ValueError, match=r"unknown preset 'llama-3-8'; did you mean .*'llama-3-8b'"):
        tfguide.ModelConfig.from_preset("llama-3-8")
    with pytest.raises(ValueError, match=r"unknown field 'd_modle' .* did you mean 'd_model'"):
        tfguide.ModelConfig.from_dict({**config().to_dict(), "d_modle": 3})
    with pytest.raises(ValueError, match=r"low_freq_factor must be below high_freq_factor, got 4.0 and 1.0"):
        tfguide.RopeScaling(factor=8.0, low_freq_factor=4.0, high_freq_factor=1.0, original_max_positions=64)
    with pytest.raises(ValueError, match=r"the kind of rope_scaling must be one of .* did you mean 'yarn'"):
        tfguide.ModelConfig.from_dict({**config().to_dict(), "rope_scaling": {"kind": "yarm", "factor": 8.0}})


def test_weights_that_do_not_fit():
    good = tfguide.init_weights(config())
    name = "decoder.layers.0.feed_forward.up.weight"
    for weights, error, message in [
        ({k: v for k, v in good.items() if k != name}, ValueError, f"missing weight '{name}' (12, 5)"),
        ({**good, "decoder.extra": good[name]}, ValueError, "unexpected weight 'decoder.extra'"),
        ({**good, name: good[name].T}, ValueError, f"weight '{name}' must have shape (12, 5), got (5, 12)"),
        (
            {**good, name: good[name].astype(int)},
            TypeError,
            f"weight '{name}' must be a NumPy array of a floating type",
        ),
        ({**good, name: good[name].tolist()}, TypeError, f"weight '{name}' must be a NumPy array"),
        ([1], TypeError, "weights must be a dictionary of arrays, got list"),
    ]:
        for implementation in IMPLEMENTATIONS:
            with pytest.raises(error, match=re.escape(message)):
                load(implementation).from_weights(config(), weights)
    for seed, error in ((-1, ValueError), (1.0, TypeError), (None, TypeError), (True, TypeError)):
        with pytest.raises(error, match="seed must be"):
            tfguide.init_weights(config(), seed)
    with pytest.raises(TypeError, match="config must be a ModelConfig, got dict"):
        tfguide.init_weights(config().to_dict())


@pytest.fixture(scope="module")
def models():
    small = {kind: small_config(kind, positions="learned") for kind in ("encoder", "decoder", "encoder-decoder")}
    return {
        (name, kind): load(name).from_weights(configuration, random_weights(configuration))
        for name in IMPLEMENTATIONS
        for kind, configuration in small.items()
    }


@pytest.mark.parametrize(
    ("tokens", "error", "message"),
    [
        ([[1, 2, 37]], ValueError, "tokens must lie between 0 and 36, got 37"),
        ([[1, -1, 2]], ValueError, "tokens must lie between 0 and 36, got -1"),
        ([[1.0, 2.0]], TypeError, "tokens must be integers, got .*float"),
        ([[True, False]], TypeError, "tokens must be integers, got .*bool"),
        ([1, 2, 3], ValueError, r"tokens must be \(B, T\), 2 axes, got shape \(3,\)"),
        ([[[1, 2]]], ValueError, r"tokens must be \(B, T\), 2 axes, got shape \(1, 1, 2\)"),
        (np.zeros((2, 0), int), ValueError, r"no axis of size 0, got shape \(2, 0\)"),
        (np.zeros((0, 2), int), ValueError, r"no axis of size 0, got shape \(0, 2\)"),
        (np.zeros((1, 32), int), ValueError, "tokens may have at most max_positions=31 positions, got 32"),
    ],
)
@pytest.mark.parametrize("kind", ["encoder", "decoder"])
@pytest.mark.parametrize("name", IMPLEMENTATIONS)
def test_tokens(models, name, kind, tokens, error, message):
    with pytest.raises(error, match=message):
        models[name, kind](tensor(name, np.asarray(tokens)))
    with pytest.raises(error, match=message):
        models[name, kind](tokens)  # lists and arrays are checked alike


def test_token_ids_in_a_graph(models):
    """A traced graph has no value to raise a ValueError for, but it must not read past the table either."""
    import tensorflow as tf

    model = models["tensorflow", "decoder"]
    graph = tf.function(lambda tokens: model(tokens))
    assert graph(tf.constant([[1, 2]])).shape == (1, 2, 37)
    with pytest.raises(tf.errors.InvalidArgumentError, match="tokens must lie between 0 and 36"):
        graph(tf.constant([[1, 37]]))


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
def test_masks_and_token_types(models, name):
    model, tokens = models[name, "encoder"], tensor(name, np.ones((2, 3), int))
    for valid, error, message in [
        (np.ones((2, 3)), TypeError, "valid must be boolean, True at real tokens, got .*float"),
        (np.ones((2, 3), int), TypeError, "valid must be boolean"),
        (np.ones((2, 4), bool), ValueError, r"valid must have the shape of the tokens, \(2, 3\), got \(2, 4\)"),
        (np.ones(3, bool), ValueError, r"valid must have the shape of the tokens"),
    ]:
        with pytest.raises(error, match=message):
            model(tokens, valid=tensor(name, valid))
    with pytest.raises(ValueError, match="this model has no token types"):
        model(tokens, token_types=tokens)
    typed = small_config("encoder", n_token_types=2)
    model = load(name).from_weights(typed, random_weights(typed))
    with pytest.raises(ValueError, match="token_types must lie between 0 and 1, got 2"):
        model(tokens, token_types=tensor(name, np.full((2, 3), 2)))
    with pytest.raises(ValueError, match="token_types must have the shape of the tokens"):
        model(tokens, token_types=tensor(name, np.ones((2, 2), int)))
    with pytest.raises(ValueError, match="this model has no pooler"):
        models[name, "encoder"].pool(model(tokens))
    with pytest.raises(ValueError, match="one token of each row at least, got a row of padding only"):
        load(name).sentence_embeddings(model, tokens, tensor(name, np.array([[True] * 3, [False] * 3])))


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
def test_attention_shapes(name):
    def zeros(*shape):
        return tensor(name, np.zeros(shape))

    attend = load(name).scaled_dot_product_attention
    good = zeros(2, 3, 6, 4), zeros(2, 5, 3, 4), zeros(2, 5, 3, 7)
    for arguments, message in [
        ((zeros(2, 3, 24), *good[1:]), r"query must be \(B, T, H, d\), 4 axes, got shape \(2, 3, 24\)"),
        ((zeros(2, 3, 7, 4), *good[1:]), "number of key/value heads must divide .* got 3 and 7"),
        ((zeros(1, 3, 6, 4), *good[1:]), "same batch size"),
        ((zeros(2, 3, 6, 5), *good[1:]), "same d_head"),
        ((good[0], zeros(2, 4, 3, 4), good[2]), "key and value must agree"),
        ((good[0], zeros(2, 0, 3, 4), zeros(2, 0, 3, 7)), "no axis of size 0"),
        ((*good, tensor(name, np.ones((5, 3), bool))), r"visible of shape .* does not fit"),
        ((*good, tensor(name, np.ones(5, bool))), r"visible must be \(T, S\), \(B, T, S\) or \(B, H, T, S\)"),
        ((*good, None, zeros(3, 5)), r"bias must be \(H, T, S\) or \(B, H, T, S\)"),
        ((*good, None, zeros(3, 3, 5)), "bias of shape .* does not fit"),
    ]:
        with pytest.raises(ValueError, match=message):
            attend(*arguments)
    with pytest.raises(TypeError, match=r"visible must be boolean, True where a query may look, got .*float"):
        attend(*good, zeros(3, 5))
    with pytest.raises(ValueError, match="n_queries may be at most n_keys, got 4 and 3"):
        load(name).causal_mask(4, 3)
    with pytest.raises(ValueError, match="window must be at least 1, got 0"):
        load(name).causal_mask(4, window=0)


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
def test_layers(name):
    module = load(name)
    for arguments, error, message in [
        ((10, 3), ValueError, "d_model must be divisible by n_heads"),
        ((12, 4, 3), ValueError, "n_kv_heads must divide n_heads, got n_kv_heads=3 and n_heads=4"),
        ((12.0, 4), TypeError, "d_model must be an integer, got 12.0"),
        ((12, 0), ValueError, "n_heads must be at least 1, got 0"),
    ]:
        with pytest.raises(error, match=message):
            module.MultiHeadAttention(*arguments)
    with pytest.raises(ValueError, match="n_heads must be at least 1, got 0"):
        module.MultiHeadLatentAttention(12, 0, LATENT)
    latent = module.MultiHeadLatentAttention(12, 3, LATENT)
    with pytest.raises(ValueError, match=r"memory must end in d_model=12, got shape \(2, 5, 11\)"):
        latent(tensor(name, np.zeros((2, 5, 11))))
    layer = module.MultiHeadAttention(12, 3)
    with pytest.raises(ValueError, match=r"must end in d_model=12, got shape \(2, 5, 11\)"):
        layer(tensor(name, np.zeros((2, 5, 11))))
    with pytest.raises(ValueError, match=r"activation must be one of .* got 'tanh'"):
        module.FeedForward(12, 5, "tanh")
    with pytest.raises(ValueError, match=r"x must end in 12 features, got shape \(2, 5, 11\)"):
        module.FeedForward(12, 5)(tensor(name, np.zeros((2, 5, 11))))
    with pytest.raises(ValueError, match="activation 'swiglu' takes a gate, got none"):
        module.activate("swiglu", tensor(name, np.zeros((2, 5))))
    with pytest.raises(ValueError, match="activation 'relu' takes no gate, got one"):
        module.activate("relu", tensor(name, np.zeros((2, 5))), tensor(name, np.zeros((2, 5))))
    for norm in (module.LayerNorm, module.RMSNorm):
        with pytest.raises(ValueError, match=r"x must end in 12 features, got shape \(2, 11\)"):
            norm(12)(tensor(name, np.zeros((2, 11))))
    with pytest.raises(ValueError, match="needs a configuration of kind 'encoder', got 'decoder'"):
        module.Encoder(small_config("decoder"))
    block, x = module.DecoderBlock(small_config("decoder")), tensor(name, np.zeros((1, 3, 22)))
    with pytest.raises(ValueError, match="this block has no cross-attention"):
        block(x, memory=x)
    with pytest.raises(ValueError, match=r"this block has cross-attention: expected memory \(B, S, D\), got None"):
        module.DecoderBlock(small_config("encoder-decoder"))(x)


@pytest.mark.parametrize(
    ("prompts", "options", "error", "message"),
    [
        ([], {}, ValueError, "at least one prompt, got an empty batch"),
        ([[1], []], {}, ValueError, "prompt 1 is empty"),
        ([[1, 37]], {}, ValueError, "prompt 0 must lie between 0 and 36, got 37"),
        ([[1.5]], {}, TypeError, "prompt 0 must hold integer token ids, got float64"),
        (["hello"], {}, TypeError, "prompt 0 must hold integer token ids"),
        ("hello", {}, TypeError, "prompts must be a sequence of sequences of token ids, got str"),
        ([1, 2], {}, ValueError, r"one sequence of token ids each, got shape \(\) for prompt 0"),
        ([[1]], dict(max_new_tokens=0), ValueError, "max_new_tokens must be at least 1, got 0"),
        ([[1]], dict(max_new_tokens=2.0), TypeError, "max_new_tokens must be an integer, got 2.0"),
        ([[1]], dict(stop_tokens=[40]), ValueError, "a stop token must lie between 0 and 36, got 40"),
        ([[1] * 32], {}, ValueError, "max_positions=31"),
    ],
)
@pytest.mark.parametrize("name", IMPLEMENTATIONS)
def test_generation(models, name, prompts, options, error, message):
    with pytest.raises(error, match=message):
        load(name).generate(models[name, "decoder"], prompts, **{"max_new_tokens": 3, **options})


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
def test_models_that_do_not_generate(models, name):
    module = load(name)
    with pytest.raises(ValueError, match="an encoder has no head to generate from"):
        module.generate(models[name, "encoder"], [[1]], 3)
    without = small_config("encoder-decoder", decoder_start_token_id=None)
    with pytest.raises(ValueError, match="needs decoder_start_token_id"):
        module.generate(module.from_weights(without, random_weights(without)), [[1]], 3)
    weights = random_weights(small_config())
    weights["decoder.final_norm.weight"] = weights["decoder.final_norm.weight"] * np.float32("nan")
    with pytest.raises(ValueError, match="the logits hold NaN"):
        module.generate(module.from_weights(small_config(), weights), [[1]], 3)


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_caches(models, name):
    module, model = load(name), models[name, "decoder"]
    tokens = tensor(name, np.ones((2, 3), int))
    for sizes, message in [((0, 3), "batch_size must be at least 1"), ((2, 0), "max_length must be at least 1"),
                           ((2, 32), "the cache may have at most max_positions=31 positions, got 32")]:  # fmt: skip
        with pytest.raises(ValueError, match=message):
            module.KVCache(model.config, *sizes)
    with pytest.raises(ValueError, match="an encoder reads everything at once and has no KV cache"):
        module.KVCache(small_config("encoder"), 2, 3)
    cache = module.KVCache(model.config, 2, 4)
    with pytest.raises(ValueError, match="the cache is empty: prefill a prompt before decode"):
        model.decode(tokens[:, 0], cache)
    model.prefill(tokens, cache)
    model.decode(tokens[:, 0], cache)
    with pytest.raises(ValueError, match="the cache has room for 4 positions: 4 are filled, 1 more came"):
        model.decode(tokens[:, 0], cache)
    with pytest.raises(ValueError, match="the cache holds 2 rows, got 3"):
        model.decode(tensor(name, np.ones(3, int)), cache)
    with pytest.raises(ValueError, match=r"decode takes one token of each row, \(B,\), got shape \(2, 3\)"):
        model.decode(tokens, cache)
    with pytest.raises(ValueError, match="room for 2 positions: 0 are filled, 3 more came"):
        model.prefill(tokens, module.KVCache(model.config, 2, 2))
    with pytest.raises(ValueError, match="the cache holds 1 rows, got 2 rows of tokens"):
        model.prefill(tokens, module.KVCache(model.config, 1, 4))
    with pytest.raises(ValueError, match="made for another configuration"):
        model.prefill(tokens, module.KVCache(small_config(n_kv_heads=2), 2, 4))
    for lengths, error in [([0, 1], ValueError), ([1, 4], ValueError), ([1], ValueError), ([1.0, 2.0], TypeError)]:
        with pytest.raises(error, match="lengths must"):
            model.prefill(tokens, module.KVCache(model.config, 2, 4), lengths)
    with pytest.raises(ValueError, match="padding stands at the end of a row"):
        valid = np.array([[False, True, True], [True, True, True]])
        model(tokens, valid=tensor(name, valid), cache=module.KVCache(model.config, 2, 4))
    with pytest.raises(ValueError, match="takes no source, got one"):
        model.prefill(tokens, module.KVCache(model.config, 2, 4), source=tokens)
    both = models[name, "encoder-decoder"]
    with pytest.raises(ValueError, match="takes a source, got none"):
        both.prefill(tokens, module.KVCache(both.config, 2, 4))
