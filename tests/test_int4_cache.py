"""The cache of 4 bits beyond one block: its arithmetic, its splits, its memory, and what it forgets."""

import threading

import numpy as np
import pytest

import tfguide.reference as ref
from tests.support import FRAMEWORKS, load, numpy, random_weights, small_config, tensor
from tfguide import cost
from tfguide.generation.blockwise import BLOCK, RECENT, group_sizes

LENGTH = 149
TOKENS = np.random.default_rng(1).integers(0, 37, (3, LENGTH))
SPLITS = [(31, 1, 32, 33, 52), (64, 85), (7, 60, 1, 1, 3, 77)]


def make(name, **changes):
    config = small_config(**{"positions": "rotary", "n_kv_heads": 2, "max_positions": 211, **changes})
    return load(name).from_weights(config, random_weights(config))


def read(name, model, cache, split, tokens=TOKENS):
    ends = np.cumsum(split)
    parts = [model(tensor(name, tokens[:, end - n : end]), cache=cache) for n, end in zip(split, ends, strict=True)]
    return np.concatenate([numpy(part) for part in parts], axis=1)


def assert_same(got, want, message=""):
    """Equal but for the order of sums, which may carry a number to the next float16, and one of thousands to the next
    level. What 4 bits cost is a hundred times as much."""
    difference = np.abs(got - want)
    assert difference.max() < 1e-3 and difference.mean() < 3e-5, (difference.max(), difference.mean(), message)


def levels_of(name):
    return __import__(f"tfguide.{name}.cache.levels", fromlist=["levels"])


def parts_of(name, x, dim):
    """What `to_levels` returns, and the numbers that it stands for."""
    module = levels_of(name)
    parts = module.to_levels(tensor(name, x), dim)
    return [numpy(part) for part in parts], numpy(module.from_levels(*parts, dim))


NUMBERS = {
    "normal": np.random.default_rng(2).normal(size=(5, 32, 7)),
    "far from 0": 1000 + np.random.default_rng(3).normal(size=(5, 32, 7)),
    "large": 60000 * np.random.default_rng(4).uniform(-1, 1, (5, 32, 7)),
    "small": 1e-4 * np.random.default_rng(5).normal(size=(5, 32, 7)),
    "one number": np.full((5, 32, 7), -3.5),
    "zero": np.zeros((5, 32, 7)),
    "an outlier": np.where(np.arange(32)[:, None] == 3, 500, np.random.default_rng(6).normal(size=(5, 32, 7))),
}


@pytest.mark.parametrize("kind", NUMBERS)
@pytest.mark.parametrize("dim", [1, -1])
def test_a_number_is_wrong_by_half_a_step_at_most(kind, dim):
    """The step, a fifteenth of the range, is rounded to float16: by 2**-11 of it, or 2**-25 where it is tiny.

    The minimum is a float16 already. The level next to a number is at most half a step away; beyond the last level,
    which may fall short of the range by 15 roundings of the step, it is less than half a step too.
    """
    x = NUMBERS[kind].astype(np.float16)
    wide = x.astype(np.float64)
    span = (wide.max(axis=dim, keepdims=True) - wide.min(axis=dim, keepdims=True)) * np.ones_like(wide)
    bound = span / 30 * (1 + 2**-11) + 15 * 2.0**-25 + 2.0**-23 * np.abs(wide)
    both = [parts_of(name, x, dim) for name in FRAMEWORKS]
    for (levels, step, minimum), found in both:
        assert (levels.dtype, step.dtype, minimum.dtype) == (np.uint8, np.float16, np.float16)
        assert levels.max() <= 15 and (span == 0).all() == (levels.max() == 0)
        np.testing.assert_array_equal(minimum, x.min(axis=dim))
        assert (np.abs(found - wide) <= bound).all()
    for one, other in zip(both[0][0], both[1][0], strict=True):
        np.testing.assert_array_equal(one, other)  # both frameworks store the same
    np.testing.assert_allclose(both[0][1], both[1][1], rtol=1e-6)


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_what_is_no_number_stays_none(name):
    x = np.random.default_rng(0).normal(size=(2, 32, 3)).astype(np.float16)
    x[1, 5, 2] = np.nan
    _, found = parts_of(name, x, 1)
    assert np.isnan(found[1, :, 2]).all() and np.isnan(found).sum() == 32


@pytest.mark.parametrize("d", [1, 2, 7, 10, 33, 64, 80])
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_levels_are_packed_two_to_a_byte(name, d):
    module = levels_of(name)
    levels = np.random.default_rng(0).integers(0, 16, (3, 5, d)).astype(np.uint8)
    packed = numpy(module.pack(tensor(name, levels)))
    assert packed.dtype == np.uint8 and packed.shape == (3, 5, (d + 1) // 2)
    np.testing.assert_array_equal(packed[..., 0], levels[..., 0] + 16 * (levels[..., (d + 1) // 2] if d > 1 else 0))
    np.testing.assert_array_equal(numpy(module.unpack(tensor(name, packed), d)), levels)
    n, size = group_sizes(d)
    groups = numpy(module.to_groups(tensor(name, levels)))
    assert groups.shape == (3, 5, n, size) and size <= 32 and n * size - d < n
    np.testing.assert_array_equal(groups.reshape(3, 5, -1)[..., :d], levels)
    assert (groups.reshape(3, 5, -1)[..., d:] == levels[..., -1:]).all()


class Watched:
    """The keys and values that a model projects, by layer, as float32 arrays (B, T, K, d) of one call."""

    def __init__(self, name, model, tokens):
        self.layers = []
        cache = load(name).KVCache(model.config, len(tokens), tokens.shape[1])
        model(tensor(name, tokens), cache=cache)
        self.layers = list(zip(map(numpy, cache.keys), map(numpy, cache.values), strict=True))


def reread(name, model, keys, values, tokens):
    """The reference's own attention over one layer, each query with the keys and values that a 4-bit cache gives it."""
    config, T = model.config, tokens.shape[1]
    reference = ref.from_weights(config, load(name).to_weights(model))
    whole = T // BLOCK * BLOCK
    blocks = keys[:, :whole].astype(np.float16).reshape(len(keys), -1, BLOCK, *keys.shape[2:])
    _, older = parts_of(name, blocks, 2)
    older = older.reshape(len(keys), whole, *keys.shape[2:])
    _, kept = parts_of(name, values.astype(np.float16)[..., None, :], -1)
    kept = kept.reshape(values.shape)
    rows = []
    for query in range(T):
        own = query // BLOCK * BLOCK
        seen = np.concatenate([older[:, :own], keys[:, own : query + 1].astype(np.float16)], axis=1)
        rows.append((seen, kept[:, : query + 1]))
    layer = reference.decoder.layers[0]
    x = reference.embedding(tokens, np.arange(T)[None])
    h = layer.self_attention_norm(x)
    return layer, x, h, rows


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_query_reads_its_own_block_in_float16_and_older_ones_in_4_bits(name):
    """One layer against the reference: the attention of each query over what the definition says that it reads."""
    model = make(name, n_layers=1, positions="none")
    cache = load(name).Int4KVCache(model.config, 3, LENGTH)
    found = read(name, model, cache, (LENGTH,))
    ((keys, values),) = Watched(name, model, TOKENS).layers
    layer, x, h, rows = reread(name, model, keys, values, TOKENS)
    attention = layer.self_attention
    reference = ref.from_weights(model.config, load(name).to_weights(model))
    want = np.empty(found.shape)
    for query, (key, value) in enumerate(rows):
        y = attention.attend(h[:, query : query + 1], key.astype(np.float64), value.astype(np.float64))
        z = x[:, query : query + 1] + y
        z = z + layer.feed_forward(layer.feed_forward_norm(z))
        want[:, query : query + 1] = reference.logits(reference.decoder.final_norm(z))
    np.testing.assert_allclose(found, want, atol=1e-5)
    exact = numpy(model(tensor(name, TOKENS)))
    assert np.abs(found - exact)[:, :BLOCK].max() > 1e-4  # the values have 4 bits from the first
    assert np.abs(found - exact).max() < 0.3 * np.abs(exact).max()


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, {"sliding_window": 41}, {"positions": "alibi"}, {"d_head": 80}], ids=str)
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_no_split_changes_the_result(name, changes):
    model = make(name, **changes)
    module = load(name)
    whole = module.Int4KVCache(model.config, 3, LENGTH)
    want = read(name, model, whole, (LENGTH,))
    assert np.abs(want - numpy(model(tensor(name, TOKENS)))).mean() > 1e-3  # it is not the cache that makes them equal
    for split in SPLITS if changes else [(1,) * LENGTH, *SPLITS]:
        cache = module.Int4KVCache(model.config, 3, LENGTH)
        assert_same(read(name, model, cache, split), want, split)
        for part in ("key", "value"):
            for one, other in zip(cache.storage.tensors[part], whole.storage.tensors[part], strict=True):
                same = numpy(one) == numpy(other)
                assert same.mean() > 0.998


def test_both_frameworks_store_and_compute_the_same():
    results = []
    for name in FRAMEWORKS:
        model = make(name)
        cache = load(name).Int4KVCache(model.config, 3, LENGTH)
        logits = read(name, model, cache, (40, 109))
        results.append((logits, {key: [numpy(x) for x in layers] for key, layers in cache.storage.tensors.items()}))
    (one, tensors), (other, others) = results
    assert_same(one, other)
    assert tensors.keys() == others.keys()
    for part, layers in tensors.items():
        for x, y in zip(layers, others[part], strict=True):
            assert x.dtype == y.dtype and x.shape == y.shape
            assert (x == y).mean() > (0.998 if part in ("key", "value") else 0.95), part


@pytest.mark.parametrize(("length", "d_head"), [(1, 10), (31, 10), (32, 8), (33, 7), (149, 10), (160, 64), (211, 80)])
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_its_bytes_are_those_of_the_cost_model(name, length, d_head):
    model = make(name, d_head=d_head, positions="none")
    cache = model.new_cache(3, length, "int4")
    slots, (n_groups, _) = -(-length // BLOCK) * BLOCK, group_sizes(d_head)
    vector = -(-d_head // 2) + 4 * d_head / BLOCK, -(-d_head // 2) + 4 * n_groups  # of a key, of a value
    recent = min(slots, RECENT) * 2 * d_head
    assert (
        cache.nbytes == 2 * 3 * 2 * (slots * sum(vector) + recent) == cost.cache_bytes(model.config, 3, length, "int4")
    )
    for part, layers in cache.storage.tensors.items():
        kinds = {str(numpy(x).dtype) for x in layers}
        assert kinds == ({"uint8"} if part in ("key", "value") else {"float16"})


def test_a_long_cache_takes_5_bits_for_each_number():
    from tfguide import ModelConfig

    llama = ModelConfig.from_preset("llama-3-8b")
    halves = cost.cache_bytes(llama, 1, 8192, "float16")
    assert cost.cache_bytes(llama, 1, 8192, "int4") / halves * 16 == pytest.approx(5.06, abs=0.01)
    assert cost.kv_bytes_per_token(llama, "int4", cost.memory.cache_scale_bytes("int4", 128)) == 32 * 2 * 8 * 80


@pytest.mark.slow
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_rows_of_other_lengths_do_not_matter(name):
    """Prompts with padding, and rows whose blocks are full at different steps."""
    model, module = make(name), load(name)
    weights = module.to_weights(model)
    weights["embedding.token.weight"] *= 50  # no two tokens are nearly equal
    model = module.from_weights(model.config, weights)
    prompts = [TOKENS[0, :30].tolist(), [5], TOKENS[2, :61].tolist()]
    for one in (model, module.accelerate(model)):
        together = module.generate(one, prompts, 37, [], cache_dtype="int4")
        assert module.generate(one, prompts, 37, [], cache_dtype="int4", chunk_size=9) == together
        for prompt, row in zip(prompts, together, strict=True):
            assert module.generate(one, [prompt], 37, [], cache_dtype="int4") == [row]
    assert module.speculative_generate(model, model, prompts, 37, 5, [], cache_dtype="int4").tokens == together
    compiled = module.CompiledDecoder(model, 98, 3)
    assert compiled.generate(prompts, 37, [], cache_dtype="int4") == together
    assert module.generate(compiled, prompts, 37, [], cache_dtype="int4") == together


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_padding_stays_out_of_the_blocks(name):
    model, module = make(name), load(name)
    lengths = np.array([45, 3, 64])
    padded = model.new_cache(3, LENGTH, "int4")
    model.prefill(TOKENS[:, :70], padded, lengths)
    rest = numpy(model(tensor(name, TOKENS[:, 70:]), cache=padded))
    for row, length in enumerate(lengths):
        alone = module.Int4KVCache(model.config, 1, LENGTH)
        text = np.concatenate([TOKENS[row, :length], TOKENS[row, 70:]])[None]
        want = read(name, model, alone, (text.shape[1],), text)[0, length:]
        assert_same(rest[row], want)


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_32_positions_are_forgotten_without_a_trace(name):
    model, module = make(name), load(name)
    for length, back in ((LENGTH, 32), (96, 32), (64, 32), (65, 31), (33, 33)):
        used, clean = (module.Int4KVCache(model.config, 3, LENGTH) for _ in range(2))
        read(name, model, used, (length,))
        used.rewind(length - back)
        read(name, model, used, (min(back, 5),), TOKENS[::-1].copy())
        used.rewind(length - back)
        if length > back:
            read(name, model, clean, (length - back,))
        rest = TOKENS[:, 60:92]
        got, want = (read(name, model, cache, (1, 31), rest) for cache in (used, clean))
        assert_same(got, want, f"{length} - {back}")


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_further_back_a_block_is_read_from_its_4_bits_and_rounded_again(name):
    """What `rewind` documents: the kept positions of a whole block are its levels, within two half steps in the end."""
    model, module = make(name), load(name)
    cache = module.Int4KVCache(model.config, 3, LENGTH)
    read(name, model, cache, (140,))
    exact = Watched(name, model, TOKENS[:, :140]).layers[0][0].astype(np.float16).astype(np.float64)
    steps = numpy(cache.storage.tensors["key_step"][0]).astype(np.float64)
    module_of_levels = levels_of(name)

    def stored(block):
        parts = (cache.storage.tensors[part][0][:, block] for part in ("key", "key_step", "key_minimum"))
        packed, step, minimum = parts
        return numpy(module_of_levels.from_levels(module_of_levels.unpack(packed, 10), step, minimum, 1))

    before = stored(1)
    cache.rewind(np.array([50, 140, 60]))
    assert cache.lengths.tolist() == [50, 140, 60]
    recent = numpy(cache.storage.tensors["key_recent"][0])
    for row, kept in ((0, 18), (2, 28)):  # of block 1, which begins at 32
        assert np.abs(recent[row, 32 : 32 + kept] - before[row, :kept]).max() < 2.0**-11 * np.abs(before).max()
        assert np.abs(recent[row, 32 : 32 + kept] - exact[row, 32 : 32 + kept]).max() > 1e-3  # in 4 bits
    np.testing.assert_array_equal(recent[1, np.arange(128, 140) % 64], exact[1, 128:])  # was not lost
    fresh = np.random.default_rng(7).integers(0, 37, (3, 9))
    seen = read(name, model, cache, (9,), fresh)  # the middle row is full now
    cache.rewind(np.array([50, 140, 60]))
    assert_same(read(name, model, cache, (9,), fresh), seen)
    cache.rewind(np.array([50, 0, 60]))
    rest = TOKENS[:, 60:92]
    read(name, model, cache, (32,), rest)  # block 1 of rows 0 and 2 is whole again
    again, new = stored(1), numpy(cache.storage.tensors["key_step"][0])[:, 1].astype(np.float64)
    for row, kept in ((0, 18), (2, 28)):
        bound = (steps[row, 1] + new[row]) / 2 + 2.0**-9 * np.abs(exact).max()
        assert (np.abs(again[row, :kept] - exact[row, 32 : 32 + kept]) <= bound).all()


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_rows_change_places(name):
    model, module = make(name), load(name)
    cache = module.Int4KVCache(model.config, 3, LENGTH)
    read(name, model, cache, (75,))
    cache.rewind(np.array([75, 70, 33]))
    order = np.array([2, 0, 2, 1])
    cache.reorder(order)
    assert cache.lengths.tolist() == [33, 75, 33, 70] and cache.batch_size == 4
    got = read(name, model, cache, (40,), TOKENS[:, 100:140][[0, 1, 2, 0]])
    for row, (old, length) in enumerate(zip(order, (33, 75, 33, 70), strict=True)):
        alone = module.Int4KVCache(model.config, 1, LENGTH)
        text = np.concatenate([TOKENS[old, :length], TOKENS[[0, 1, 2, 0][row], 100:140]])[None]
        want = read(name, model, alone, (length, 40), text)[0, length:]
        if length == 33:  # 42 positions back: block 1 had begun anew, and block 0 was not touched
            assert np.abs(got[row] - want).max() < 0.1 * np.abs(want).max()
        else:
            assert_same(got[row], want)


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_beam_search_is_not_mixed_up(name):
    """The score of each beam, through blocks that are filled while rows change places, is that of reading its text."""
    model, module = make(name), load(name)
    prompt = TOKENS[0, :25].tolist()
    (beams,) = module.beam_search(model, [prompt], 3, 15, [], 0.0, 3, cache_dtype="int4")
    assert len({beam.tokens for beam in beams}) == 3
    for beam in beams:
        text = np.array([prompt + list(beam.tokens)])
        logits = model.score(text, model.new_cache(1, LENGTH, "int4"))[0, 24:-1].astype(np.float64)
        shares = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        assert beam.score == pytest.approx(shares[np.arange(15), beam.tokens].sum(), abs=2e-3)


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_it_refuses_what_does_not_fit(name):
    model, module = make(name), load(name)
    cache = module.Int4KVCache(model.config, 3, 40)
    read(name, model, cache, (39,))
    before = [numpy(x).copy() for layers in cache.storage.tensors.values() for x in layers]
    with pytest.raises(ValueError, match="room for 40 positions: 39 are filled, 2 more came"):
        read(name, model, cache, (2,))
    for x, y in zip(before, (x for layers in cache.storage.tensors.values() for x in layers), strict=True):
        np.testing.assert_array_equal(x, numpy(y))
    read(name, model, cache, (1,))
    with pytest.raises(ValueError, match="between 0 and what it holds"):
        cache.rewind(41)
    for sizes in ((0, 5), (3, 0), (3, 212)):
        with pytest.raises(ValueError):
            module.Int4KVCache(model.config, *sizes)


@pytest.mark.slow
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_two_threads_read_as_one(name):
    """One model, a cache for each thread: nothing is shared between calls."""
    model = make(name)
    fast = load(name).accelerate(model, threads=1)
    texts = [TOKENS[:1], TOKENS[1:2]]

    def work(text, logits):
        cache = fast.new_cache(1, LENGTH, "int4")
        logits += [fast.score(text[:, at : at + 7], cache) for at in range(0, LENGTH, 7)]

    alone, together = ([], []), ([], [])
    for text, logits in zip(texts, alone, strict=True):
        work(text, logits)
    threads = [threading.Thread(target=work, args=pair) for pair in zip(texts, together, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(np.concatenate(one, axis=1), np.concatenate(other, axis=1))


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_the_kernels_leave_it_to_the_framework(name):
    model = make(name)
    fast = load(name).accelerate(model)
    cache = fast.new_cache(3, LENGTH, "int4")
    assert not fast.shares(cache) and not fast.reads(cache, 1)
    with pytest.raises(ValueError, match="the kernels read a dense or paged cache in main memory, got Int4KVCache"):
        fast.read_rows(np.array([1]), np.array([0]), cache)
