"""Scalings of rotary positions, and heads that are rotated in part: the numbers, and what a cache keeps of them.

The frequencies and the whole of `generate` are compared with transformers; the invariants of caches are those that
`tfguide.frequencies.scaled_by_length` states.
"""

import itertools
import json

import numpy as np
import pytest

import tfguide
import tfguide.reference as ref
from tests.support import FRAMEWORKS, load, numpy, random_weights, small_config, tensor
from tfguide import DynamicScaling, LinearScaling, LongRopeScaling, ModelConfig, YarnScaling
from tfguide.frequencies import attention_factor, rotary_frequencies, scaled_by_length

TRAINED = 7
SHORT, LONG = (1.0, 1.1, 1.3, 1.7, 2.3), (1.0, 2.0, 3.0, 5.0, 11.0)
BY_LENGTH = {
    "dynamic": DynamicScaling(factor=3.0, original_max_positions=TRAINED),
    "longrope": LongRopeScaling(short_factors=SHORT, long_factors=LONG, original_max_positions=TRAINED, factor=5.0),
}
KEYS = {
    "linear": dict(factor=3.0),
    "dynamic": dict(factor=3.0),
    "yarn": dict(factor=3.0, original_max_position_embeddings=32),
    "yarn-every-key": dict(
        factor=40.0, original_max_position_embeddings=4096, beta_fast=16.0, beta_slow=2.0, mscale=1.3,
        mscale_all_dim=0.7, truncate=False,
    ),
    "yarn-given-factor": dict(factor=0.5, original_max_position_embeddings=32, attention_factor=0.9),
    "yarn-below-1": dict(factor=0.5, original_max_position_embeddings=32, mscale=2.0, mscale_all_dim=3.0),
    "longrope": dict(factor=4.0, original_max_position_embeddings=32),
    "longrope-given-factor": dict(factor=4.0, original_max_position_embeddings=32, attention_factor=1.7),
}  # fmt: skip


def scaling_of(name, keys, d_head):
    """Our scaling of the keys of transformers."""
    keys = dict(keys)
    if "original_max_position_embeddings" in keys:
        keys["original_max_positions"] = keys.pop("original_max_position_embeddings")
    if name.startswith("dynamic"):
        return DynamicScaling(original_max_positions=67, **keys)
    if name.startswith("longrope"):
        factors = longrope_factors(d_head)
        return LongRopeScaling(short_factors=factors["short_factor"], long_factors=factors["long_factor"], **keys)
    return (LinearScaling if name == "linear" else YarnScaling)(**keys)


def longrope_factors(d_head):
    stream = np.random.default_rng(0)
    return {name: stream.uniform(1.0, 9.0, d_head // 2).tolist() for name in ("short_factor", "long_factor")}


@pytest.mark.parametrize("d_head", [6, 64, 128])
@pytest.mark.parametrize("name", KEYS)
def test_numbers_are_those_of_transformers(name, d_head):
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    kind, theta = name.partition("-")[0], 500.0 if d_head == 6 else 500_000.0
    keys = dict(rope_type=kind, rope_theta=theta, **KEYS[name]) | (
        longrope_factors(d_head) if kind == "longrope" else {}
    )
    config = LlamaConfig(
        hidden_size=d_head, num_attention_heads=1, head_dim=d_head, max_position_embeddings=67, rope_parameters=keys
    )
    scaling, lengths = scaling_of(name, KEYS[name], d_head), np.array([[1, 32, 33, 67, 68, 500]])
    ours = rotary_frequencies(d_head, theta, scaling, lengths)
    ours = np.broadcast_to(ours, (1, lengths.size, d_head // 2))
    frequencies = [ours]
    if scaled_by_length(scaling):
        for framework in FRAMEWORKS:
            positions = load(framework).positions
            frequencies.append(numpy(positions.frequencies_of(tensor(framework, lengths), d_head, theta, scaling)))
    assert attention_factor(scaling) == pytest.approx(ROPE_INIT_FUNCTIONS[kind](config, "cpu")[1], rel=1e-12)
    for found in frequencies:
        for length, row in zip(lengths[0].tolist(), found[0], strict=True):
            expected, _ = ROPE_INIT_FUNCTIONS[kind](config, "cpu", seq_len=length)
            np.testing.assert_allclose(row, expected.numpy(), rtol=3e-6, atol=1e-9)  # theirs are float32


@pytest.mark.parametrize("name", KEYS)
def test_a_scaling_survives_json(name):
    config = small_config(positions="rotary", rope_scaling=scaling_of(name, KEYS[name], 6), d_rotary=6)
    again = ModelConfig.from_dict(json.loads(json.dumps(config.to_dict())))
    assert again == config and hash(again) == hash(config)


def test_older_files_name_no_kind():
    numbers = dict(factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_positions=24)
    config = small_config(positions="rotary", rope_scaling=tfguide.RopeScaling(**numbers))
    assert ModelConfig.from_dict(config.to_dict() | dict(rope_scaling=numbers)) == config


@pytest.mark.parametrize("name", ("reference", *FRAMEWORKS))
def test_the_features_behind_the_rotated_ones_stay(name):
    x = np.random.default_rng(0).normal(size=(1, 3, 2, 10)).astype(np.float32)
    module, frequencies = load(name), rotary_frequencies(6)
    angles = module.rotary_angles(tensor(name, np.array([[2, 3, 5]])), frequencies)
    turned = numpy(module.rotate(tensor(name, x), *angles))
    np.testing.assert_array_equal(turned[..., 6:], x[..., 6:])
    np.testing.assert_allclose(turned[..., :6], ref.rotate(x[..., :6], *map(numpy, angles)), atol=1e-6)
    assert np.abs(turned - x)[..., :6].min(axis=(0, 1, 2)).max() > 0.1


# ---- caches: what holds where the frequencies depend on the length

NEW = 5
PROMPTS = [
    [3, 1, 4, 1, 5, 9],
    [9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3],
    [2, 7, 1, 8, 2],
]  # shorter and longer than those of training


def models(name, scaling):
    """A model of a framework, and the fast decoders of its weights."""
    more = {}
    if isinstance(scaling, DynamicScaling):  # and a layer that it does not change
        more = dict(sliding_window=5, sliding_layers=(1,), local_rope_theta=20.0)
    config = small_config(positions="rotary", rope_scaling=scaling, n_kv_heads=2, norm="rms", **more)
    weights = random_weights(config)
    model = load(name).from_weights(config, weights)
    return weights, model, load(name).accelerate(model)


def logits_of(model, prompt, after, chunk_size=None, at_once=False, cache_dtype="float32"):
    """The logits after a prompt and after each token that follows, one at a time or all in one call."""
    cache = model.new_cache(1, len(prompt) + len(after), cache_dtype)
    found = [model.prefill([prompt], cache, chunk_size=chunk_size)]
    if at_once:
        return np.concatenate([found[0], model.score([after], cache)[0]])
    return np.concatenate([*found, *(model.decode([token], cache) for token in after)])


@pytest.mark.parametrize("scaling", BY_LENGTH.values(), ids=BY_LENGTH)
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_split_moves_nothing_but_where_the_prompt_ends(name, scaling):
    weights, model, fast = models(name, scaling)
    whole = ref.from_weights(model.config, weights)
    for prompt in PROMPTS:
        after = [8, 0, 4, 11]
        expected = logits_of(model, prompt, after)
        np.testing.assert_allclose(expected[0], whole(np.array([prompt]))[0, -1], atol=1e-5)
        for one in (model, fast):
            np.testing.assert_allclose(logits_of(one, prompt, after), expected, atol=1e-5)
            np.testing.assert_allclose(logits_of(one, prompt, after, chunk_size=3), expected, atol=1e-5)
            np.testing.assert_allclose(logits_of(one, prompt, after, at_once=True), expected, atol=1e-5)
        recomputed = whole(np.array([prompt + after]))[0, len(prompt) - 1 :]
        lengths = np.arange(len(prompt), len(prompt) + len(after) + 1)
        same = (lengths <= TRAINED) == (len(prompt) + len(after) <= TRAINED)
        if isinstance(scaling, LongRopeScaling) and len(prompt) > TRAINED:
            assert same.all()
            np.testing.assert_allclose(expected, recomputed, atol=1e-5)
        else:  # the last texts are beyond the trained length, and their first keys were rotated before they were
            assert np.abs(expected - recomputed).max() > 1e-3
            inside = whole(np.array([(prompt + after)[:TRAINED]]))[0, len(prompt) - 1 :]
            np.testing.assert_allclose(expected[: len(inside)], inside, atol=1e-5)


@pytest.mark.parametrize("scaling", BY_LENGTH.values(), ids=BY_LENGTH)
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_batch_is_its_rows_and_speculation_is_generation(name, scaling):
    _, model, fast = models(name, scaling)
    alone = [load(name).generate(model, [prompt], NEW)[0] for prompt in PROMPTS]
    for one in (model, fast):
        assert load(name).generate(one, PROMPTS, NEW) == alone
        if name == "torch":  # the blocks of a cache are found by the same code in both
            in_blocks = [load(name).generate(one, [prompt], NEW, cache_dtype="int4")[0] for prompt in PROMPTS]
            assert load(name).generate(one, PROMPTS, NEW, cache_dtype="int4") == in_blocks
        # The model as its own draft: every guess is read in one call with the prompt, or with the token before.
        guessed = load(name).speculative_generate(one, model, PROMPTS, NEW)
        assert guessed.tokens == alone
        assert guessed.accepted > 0


@pytest.mark.parametrize("scaling", BY_LENGTH.values(), ids=BY_LENGTH)
def test_rows_of_one_call_have_their_own_lengths(scaling):
    """The verb of a server: any number of tokens for each row. Its kernels are those of every framework."""
    name = FRAMEWORKS[0]
    _, model, fast = models(name, scaling)
    cache = fast.new_cache(3, 20, "float32")
    rows = np.repeat([0, 1, 2], [len(prompt) for prompt in PROMPTS])
    hidden = fast.read_rows(np.concatenate(PROMPTS), rows, cache)
    for row, prompt in enumerate(PROMPTS):
        expected = numpy(model.hidden(tensor(name, np.array([prompt]))))[0]
        np.testing.assert_allclose(hidden[rows == row], expected, atol=1e-5)
    cache.reorder(np.array([1, 0]))
    cache.rewind([11, 0])
    again = fast.read_rows(np.array([8, *PROMPTS[0]]), np.array([0, 1, 1, 1, 1, 1, 1]), cache)
    np.testing.assert_allclose(again[1:], hidden[rows == 0], atol=1e-5)  # an emptied row begins again


ROPE = {
    "linear": dict(rope_type="linear", factor=3.0),
    "dynamic": dict(rope_type="dynamic", factor=3.0),
    "longrope": dict(
        rope_type="longrope", factor=5.0, short_factor=list(SHORT), long_factor=list(LONG),
        original_max_position_embeddings=TRAINED,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("name", "length"), [("linear", 4), *itertools.product(BY_LENGTH, (4, 11))])
def test_generation_is_that_of_transformers(name, length, tmp_path):
    """From inside the trained length across its end, and from beyond it: the logits of every step."""
    torch, transformers, hf = (
        pytest.importorskip(module) for module in ("torch", "transformers", "tests.checkpoints.hf")
    )
    keys = hf.LLAMA | dict(rope_parameters=ROPE[name] | dict(rope_theta=500.0), eos_token_id=None)
    keys |= dict(max_position_embeddings=TRAINED) if name == "dynamic" else {}
    peer = hf.randomise(transformers.LlamaForCausalLM(transformers.LlamaConfig(**keys)).eval())
    prompt = np.random.default_rng(1).integers(0, 37, (1, length))
    expected = peer.generate(
        torch.tensor(prompt), max_new_tokens=9, do_sample=False, output_logits=True, return_dict_in_generate=True
    )
    hf.save(peer, tmp_path)
    new = expected.sequences[0, length:].tolist()
    for framework in FRAMEWORKS:
        model = load(framework).load_checkpoint(tmp_path)
        for one in (model, load(framework).accelerate(model)):
            got = logits_of(one, prompt[0], new[:-1])
            np.testing.assert_allclose(got, torch.cat(expected.logits).numpy(), atol=1e-4)
            assert load(framework).generate(one, prompt, 9) == [new]
    load(framework).save_checkpoint(model, tmp_path / "again")
    assert load(framework).load_checkpoint(tmp_path / "again").config == model.config
    written = transformers.AutoConfig.from_pretrained(tmp_path / "again")
    assert written.rope_parameters == peer.config.rope_parameters
    assert written.max_position_embeddings == peer.config.max_position_embeddings
