"""Perplexity on real text: what quantisation and pruning cost in quality, on a small model that was trained."""

import math

import numpy as np
import pytest

import tfguide
import tfguide.reference as ref
from tests.support import FRAMEWORKS, load, random_weights, small_config
from tfguide.generation.perplexity import windows_of
from tfguide.tasks import text

STREAM = np.random.default_rng(0)


@pytest.fixture(scope="session")
def trained():
    """A byte-level decoder after 200 steps on Python's documentation: its configuration and weights. PyTorch trains."""
    import torch

    torch.manual_seed(0)
    config = tfguide.ModelConfig(
        kind="decoder", d_model=64, n_layers=2, n_heads=4, n_kv_heads=2, d_ff=192, vocab_size=text.VOCABULARY,
        norm="rms", positions="rotary", activation="swiglu", qkv_bias=False, output_bias=False, ffn_bias=False,
    )  # fmt: skip
    model = load("torch").from_weights(config, tfguide.init_weights(config)).train()
    tokens = torch.from_numpy(text.split(text.byte_tokens(text.topics()))[0])
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(200):
        starts = torch.randint(0, len(tokens) - 97, (16,))
        batch = torch.stack([tokens[start : start + 97] for start in starts])
        loss = torch.nn.functional.cross_entropy(model(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return config, load("torch").to_weights(model.eval())


@pytest.fixture(scope="session")
def held_out():
    return text.split(text.byte_tokens(text.topics()))[1][:1500]


@pytest.mark.parametrize(("window", "stride"), [(37, None), (10, 5), (7, 1), (7, 6)])
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_it_is_the_formula(name, window, stride):
    config = small_config(positions="rotary")
    weights = random_weights(config)
    tokens = STREAM.integers(0, 37, 29)
    logits = ref.from_weights(config, weights)
    total = 0.0
    for start, stop, first in windows_of(29, window, stride):
        rows = logits(tokens[None, start:stop])[0]
        rows = rows - np.log(np.exp(rows).sum(axis=1, keepdims=True))
        total -= sum(rows[i - start - 1, tokens[i]] for i in range(first, stop))
    got = load(name).perplexity(load(name).from_weights(config, weights), tokens, window, stride)
    assert got == pytest.approx(math.exp(total / 28), rel=1e-5)


def test_every_token_counts_once():
    for n, window, stride in [(2, 5, 1), (30, 7, 3), (30, 7, 6), (31, 30, 1)]:
        counted = [i for start, stop, first in windows_of(n, window, stride) for i in range(first, stop)]
        assert counted == list(range(1, n))
        assert all(start < first for start, _, first in windows_of(n, window, stride))
    for arguments, message in [((1, 5), "at least 2 tokens"), ((9, 1), "window"), ((9, 5, 5), "stride must be below")]:
        with pytest.raises(ValueError, match=message):
            windows_of(*arguments)


@pytest.mark.slow
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_the_price_of_fewer_bits(trained, held_out, name):
    module = load(name)
    model = module.from_weights(*trained)
    exact = module.perplexity(model, held_out)
    counts = np.bincount(held_out, minlength=256) / len(held_out)
    unigram = math.exp(-(counts[counts > 0] * np.log(counts[counts > 0])).sum())
    assert exact < unigram / 1.5  # it has learnt something, so that there is something to lose
    price = {
        bits: module.perplexity(module.quantize(model, *bits), held_out) / exact - 1
        for bits in [(8, None), (8, 8), (4, None), (4, 8)]
    }
    print(name, f"perplexity {exact:.3f}", {bits: f"{share:+.2%}" for bits, share in price.items()})
    assert abs(price[8, None]) < 0.005 and abs(price[8, 8]) < 0.01
    assert 0.0005 < price[4, None] < 0.1 and 0.0005 < price[4, 8] < 0.1
    halves = module.perplexity(module.from_weights(*trained, "bfloat16"), held_out)
    assert halves == pytest.approx(exact, rel=0.01)
    fast = module.accelerate(module.quantize(model, 4, 8))
    assert module.perplexity(fast, held_out) == pytest.approx(exact * (1 + price[4, 8]), rel=0.002)


@pytest.mark.slow
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_the_price_of_a_smaller_cache(trained, held_out, name):
    """Read through a cache, plain and fast: the default of a quantised model, float16, costs less than 0.1%."""
    module = load(name)
    model = module.quantize(module.from_weights(*trained), 8)
    exact = module.perplexity(model, held_out)
    for one in (model, module.accelerate(model)):
        price = {
            dtype: module.perplexity(one, held_out, cache_dtype=dtype) / exact - 1
            for dtype in ("float32", "float16", "bfloat16", "int8", "int4")
        }
        print(name, f"perplexity {exact:.3f}", {dtype: f"{share:+.3%}" for dtype, share in price.items()})
        assert abs(price["float32"]) < 1e-5 < abs(price["int8"]) < 0.005
        assert price["int8"] < price["int4"] < 0.02
        assert 0 < abs(price["float16"]) < 0.001 and abs(price["bfloat16"]) < 0.003


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_the_price_of_pruning(trained, held_out, name):
    module = load(name)
    model = module.from_weights(*trained)
    exact = module.perplexity(model, held_out)
    prices = [module.perplexity(module.prune_magnitude(model, share), held_out) / exact for share in (0.1, 0.5, 0.9)]
    assert 0.99 < prices[0] < 1.05 and prices[0] < prices[1] < prices[2]
    two_four = module.perplexity(module.prune_two_four(model), held_out) / exact
    assert two_four > prices[0]
    assert module.perplexity(module.prune_neurons(model, 160), held_out) / exact < 1.5


def test_sparsity_is_timed():
    from tfguide.bench import sparsity

    rows = sparsity.measure(16, 24, (1, 3), repeats=2)
    assert len(rows) == 2 * 7 and all(row["speed"] > 0 for row in rows)
    assert {row["speed"] for row in rows if row["kind"] == "dense"} == {1.0}


@pytest.mark.parametrize(
    ("tokens", "error", "message"),
    [
        ([1, 2, -100, 3], ValueError, "tokens must lie between 0 and 36, got -100"),
        ([1, 2, 3, 37], ValueError, "tokens must lie between 0 and 36, got 37"),  # the last is never read, only scored
        ([-1, 2, 3], ValueError, "tokens must lie between 0 and 36, got -1"),
        (np.array([1, 2**64 - 1], np.uint64), ValueError, "tokens must lie between 0 and 36, got 18446744073709551615"),
        ([1.0, 2.0], TypeError, "tokens must be integers, got float64"),
        ([True, False], TypeError, "tokens must be integers, got bool"),
        ("abc", ValueError, r"tokens must be \(n,\), one axis, got shape \(\)"),
        ([[1, 2, 3]], ValueError, r"tokens must be \(n,\), one axis, got shape \(1, 3\)"),
        ([5], ValueError, "at least 2 tokens, got 1"),
        ([], ValueError, "at least 2 tokens, got 0"),
    ],
)
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_tokens_that_have_no_probability(name, tokens, error, message):
    config = small_config()
    model = load(name).from_weights(config, random_weights(config))
    with pytest.raises(error, match=message):
        load(name).perplexity(model, tokens)


@pytest.mark.parametrize("name", FRAMEWORKS)
@pytest.mark.parametrize("wrong", [-100, -1, 37, 10**9])
def test_no_function_takes_a_token_that_is_not_there(name, wrong):
    tg, config = load(name), small_config(positions="rotary")
    model = tg.from_weights(config, random_weights(config))
    good, bad = [[1, 2, 3]], [[1, wrong, 3]]
    for one in (model, tg.accelerate(model)):

        def step(one=one):
            cache = one.new_cache(1, 8)
            one.prefill(good, cache)
            one.decode([wrong], cache)

        for call in (
            lambda one=one: one(bad),
            lambda one=one: one.prefill(bad, tg.KVCache(config, 1, 8)),
            step,
            lambda one=one: tg.generate(one, bad, 3),
            lambda one=one: list(tg.stream(one, bad[0], 3)),
            lambda one=one: tg.generate(one, good, 3, wrong),
        ):
            with pytest.raises(ValueError, match=f"between 0 and 36, got {wrong}|a stop token must"):
                call()
    for call in (
        lambda: tg.beam_search(model, bad, 2, 3),
        lambda: tg.speculative_generate(model, model, bad, 3),
        lambda: tg.CompiledDecoder(model, 8).generate(bad, 3),
        lambda: tg.attention_maps(model, np.array(bad)),
    ):
        with pytest.raises(ValueError, match=f"between 0 and 36, got {wrong}"):
            call()


def test_windows_of_one_length_are_read_together(monkeypatch, capsys):
    """A call reads at most 1024 tokens and counts 256; the head computes these only; a terminal shows how far it is."""
    config = small_config(positions="rotary", max_positions=None)
    model = load("torch").from_weights(config, random_weights(config))
    tokens, calls, score = STREAM.integers(0, 37, 3000), [], model.score

    def counted(tokens, cache=None, last=None):
        calls.append((tokens.shape, last))
        return score(tokens, cache, last)

    monkeypatch.setattr(model, "score", counted)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    load("torch").perplexity(model, tokens, 200, 50)
    assert all(rows * columns <= 1024 and rows * last <= 256 for (rows, columns), last in calls)
    assert sum(rows * last for (rows, _), last in calls) == 2999
    assert len(calls) < 15 and max(rows for (rows, _), _ in calls) == 5
    assert capsys.readouterr().err.splitlines()[-1].endswith("[##############################] 3000 of 3000 tokens")


def test_a_sum_of_probabilities_is_exact_and_nan_is_refused():
    from tfguide.generation.perplexity import text_log_probability

    logits = STREAM.normal(size=(40, 1013)).astype(np.float32) * 9
    tokens = STREAM.integers(0, 1013, 40)
    wide = logits.astype(np.float64)
    exact = (wide - np.log(np.exp(wide).sum(axis=1, keepdims=True)))[np.arange(40), tokens].sum()
    assert text_log_probability(logits, tokens) == pytest.approx(exact, rel=1e-6)
    logits[23, 5] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        text_log_probability(logits, tokens)
