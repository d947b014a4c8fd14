"""The plain KV cache and greedy generation: equal to computing everything again."""

import numpy as np
import pytest

import tfguide.reference as ref
from tests.support import FRAMEWORKS, load, numpy, random_weights, small_config, tensor
from tfguide.config import POSITIONS

PROMPTS = [[5, 3, 2, 11, 7], [13], [17, 19, 23]]


def pair(name, **changes):
    """The model of a framework and the reference, with the same weights."""
    config = small_config(tied_head=False, **changes)  # a tied head tends to repeat the last token
    weights = random_weights(config)
    weights["embedding.token.weight"] *= 50  # what was read then decides what comes next
    return load(name).from_weights(config, weights), ref.from_weights(config, weights)


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("kind", ["decoder", "encoder-decoder"])
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_generation_with_a_cache_is_generation_without(name, kind, positions):
    model, reference = pair(name, kind=kind, positions=positions, n_kv_heads=3)
    rows = load(name).generate(model, PROMPTS, max_new_tokens=9, stop_tokens=[])
    assert rows == ref.generate(reference, PROMPTS, max_new_tokens=9, stop_tokens=[])
    assert [len(row) for row in rows] == [9, 9, 9]
    assert len({token for row in rows for token in row}) > 2  # a model that repeats one token would prove little


@pytest.mark.parametrize("changes", [dict(sliding_window=3), dict(norm_placement="parallel"), dict(norm="rms")])
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_generation_with_windows_and_other_blocks(name, changes):
    model, reference = pair(name, positions="rotary", **changes)
    rows = load(name).generate(model, PROMPTS, max_new_tokens=8, stop_tokens=[])
    assert rows == ref.generate(reference, PROMPTS, max_new_tokens=8, stop_tokens=[])


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_batch_of_unequal_prompts_is_each_alone(name):
    model, _ = pair(name, positions="learned")
    module = load(name)
    together = module.generate(model, PROMPTS, max_new_tokens=6)
    assert together == [module.generate(model, [prompt], max_new_tokens=6)[0] for prompt in PROMPTS]


@pytest.mark.parametrize("split", [(1, 1, 1, 1, 1, 1, 1), (7,), (3, 4), (1, 5, 1), (2, 2, 3)])
@pytest.mark.parametrize("positions", ["rotary", "relative", "alibi"])
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_any_split_of_a_prompt_gives_the_same_logits(name, positions, split):
    model, reference = pair(name, positions=positions, n_kv_heads=1)
    tokens = np.random.default_rng(0).integers(0, 37, (2, 7))
    cache = load(name).KVCache(model.config, 2, 11)
    start, pieces = 0, []
    for size in split:
        pieces.append(numpy(model(tensor(name, tokens[:, start : start + size]), cache=cache)))
        start += size
    np.testing.assert_allclose(np.concatenate(pieces, axis=1), reference(tokens), atol=1e-5)
    assert numpy(cache.lengths).tolist() == [7, 7]


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_prefill_and_decode_read_the_last_real_token(name):
    module = load(name)
    model, reference = pair(name, positions="rotary")
    tokens = np.array([[5, 3, 2, 11], [7, 1, 0, 0]])
    cache = module.KVCache(model.config, 2, 9)
    logits = numpy(model.prefill(tensor(name, tokens), cache, lengths=[4, 2]))
    np.testing.assert_allclose(logits[0], reference(tokens[:1])[0, -1], atol=1e-5)
    np.testing.assert_allclose(logits[1], reference(tokens[1:, :2])[0, -1], atol=1e-5)
    logits = numpy(model.decode(tensor(name, np.array([13, 17])), cache))
    np.testing.assert_allclose(logits[0], reference(np.array([[5, 3, 2, 11, 13]]))[0, -1], atol=1e-5)
    np.testing.assert_allclose(logits[1], reference(np.array([[7, 1, 17]]))[0, -1], atol=1e-5)
    assert numpy(cache.lengths).tolist() == [5, 3]


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_the_cache_has_the_bytes_of_its_shape(name):
    config = small_config(n_kv_heads=3)
    cache = load(name).KVCache(config, 5, 11)
    assert cache.nbytes == 2 * config.n_layers * 5 * 11 * 3 * config.d_head * 4
    assert [tuple(keys.shape) for keys in cache.keys] == [(5, 11, 3, 10)] * config.n_layers


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_row_ends_with_its_stop_token(name):
    module = load(name)
    model, _ = pair(name, positions="rotary")
    rows = module.generate(model, PROMPTS, max_new_tokens=9, stop_tokens=[])
    stop = rows[0][2]
    stopped = module.generate(model, PROMPTS, max_new_tokens=9, stop_tokens=[stop])
    for full, row in zip(rows, stopped, strict=True):
        assert row == (full[: full.index(stop) + 1] if stop in full else full)
    by_config = load(name).from_weights(model.config.replace(eos_token_id=stop), module.to_weights(model))
    assert module.generate(by_config, PROMPTS, max_new_tokens=9) == stopped


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_generation_may_fill_the_positions_but_not_pass_them(name):
    module = load(name)
    model, _ = pair(name, positions="learned", max_positions=9)
    assert len(module.generate(model, [[1, 2, 3, 4]], max_new_tokens=6, stop_tokens=[])[0]) == 6
    with pytest.raises(ValueError, match="max_positions=9 positions, got 10"):
        module.generate(model, [[1, 2, 3, 4]], max_new_tokens=7)
