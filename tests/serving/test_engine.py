"""The engine over real models: the tokens of each request are those of `generate` for it alone."""

import numpy as np
import pytest

import tfguide
from tests.serving.hashing import HashModel, alone, check_end, check_idle, drain, engine, request
from tests.support import FRAMEWORKS, load, random_weights, refuses, small_config
from tests.test_paged import MODELS
from tfguide import Sampling, native
from tfguide.generation import generate
from tfguide.generation.choose import log_softmax
from tfguide.serving import Engine, Finish, Request

RNG = np.random.default_rng(5)
PROMPTS = [RNG.integers(0, 37, n).tolist() for n in (3, 40, 17, 1, 33, 16, 9, 25)]
PROMPTS += [[*PROMPTS[1][:32], 5, 6], PROMPTS[1]]  # which share blocks
SAMPLINGS = [
    Sampling(temperature=0.0), Sampling(temperature=1.5, seed=7), Sampling(temperature=0.8, top_p=0.9, seed=1),
    Sampling(temperature=1.2, top_k=5, seed=1), Sampling(temperature=0.0, repetition_penalty=1.3),
    Sampling(temperature=0.9, min_p=0.05, repetition_penalty=1.1, seed=3),
]  # fmt: skip
SIZES = [dict(n_blocks=100), dict(n_blocks=6, rows=3, tokens=11), dict(n_blocks=40, rows=4, tokens=40, block_size=32)]


def make(framework, name, **changes):
    config = small_config(max_positions=90, **MODELS[name] | changes)
    return load(framework).from_weights(config, random_weights(config, 3))


def requests(n_new=24):
    return [
        Request(prompt=prompt, max_new_tokens=n_new, sampling=SAMPLINGS[i % len(SAMPLINGS)], stop_tokens=[2])
        for i, prompt in enumerate(PROMPTS)
    ]


def each_alone(model, cache_dtype="float32", n_new=24):
    return [
        generate(
            model, [one.prompt], n_new, stop_tokens=[2], sampling=one.sampling, cache_dtype=cache_dtype
        )[0]
        for one in requests(n_new)
    ]  # fmt: skip


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("name", ["learned", "window", "latent", "experts", "dynamic"])
@pytest.mark.parametrize("kind", ["plain", "fast", "8 bits"])
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_tokens_are_those_of_each_request_alone(framework, kind, name, sizes):
    model = make(framework, name)
    if kind == "8 bits":
        model = load(framework).quantize(model, 8, 8)
    if kind != "plain":
        model = load(framework).accelerate(model)
    e = Engine(model, cache_dtype="float32", **sizes)
    n_new = 8 if kind == "plain" else 24  # a step of a plain model takes long in TensorFlow
    results = e.run(requests(n_new))
    assert [sequences[0].new_tokens for sequences in results] == each_alone(model, n_new=n_new)
    check_idle(e)
    assert sizes["n_blocks"] > 6 or kind == "plain" or e.scheduler.n_preempted


@pytest.mark.parametrize("cache_dtype", ["bfloat16", "float16", "int8"])
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_every_type_of_cache(framework, cache_dtype):
    fast = load(framework).accelerate(load(framework).quantize(make(framework, "rotary"), 8, 8))
    e = Engine(fast, cache_dtype=cache_dtype, **SIZES[1])
    assert [s[0].new_tokens for s in e.run(requests())] == each_alone(fast, cache_dtype)


def test_a_choice_draws_as_a_row_of_a_batch_and_not_as_its_neighbours():
    """Row 12: draws depend on the request: its seed, its choice, its step."""
    model = make("torch", "rotary")
    sampling = Sampling(temperature=1.3, seed=11)
    e = Engine(model, n_blocks=60)
    four = e.add(Request(prompt=PROMPTS[1], max_new_tokens=20, sampling=sampling, n=4, stop_tokens=()))
    for seed in range(6):  # neighbours, with seeds and without
        e.add(Request(prompt=PROMPTS[2], max_new_tokens=5, sampling=Sampling(seed=seed)))
        e.add(Request(prompt=PROMPTS[0], max_new_tokens=25))
    drain(e)
    expected = generate(model, [PROMPTS[1]] * 4, 20, stop_tokens=(), sampling=sampling)
    assert [choice.new_tokens for choice in four] == expected
    assert len({tuple(choice.new_tokens) for choice in four}) == 4


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_with_8_bits_the_logits_are_the_same_to_the_last_bit(framework, monkeypatch):
    """Rows 2, 10 and 11: alone, in a batch, in parts, from others' blocks, and after preemptions."""
    model = load(framework).accelerate(load(framework).quantize(make(framework, "rotary"), 8, 8))
    seen = []

    def watched(tokens, rows, cache, wanted, prompts):
        logits = type(model).decode_rows(model, tokens, rows, cache, wanted, prompts)
        for row, own in zip(rows[wanted], logits, strict=True):
            seen.append((own, int(cache.lengths[row])))
        return logits

    runs = []
    for sizes in (*SIZES, dict(n_blocks=100, rows=1), dict(n_blocks=100, share_prefixes=False)):
        monkeypatch.setattr(model, "decode_rows", watched, raising=False)
        e, by_request = Engine(model, **sizes), {}
        added = [e.add(Request(prompt=p, max_new_tokens=20, stop_tokens=()))[0] for p in PROMPTS]
        while not e.is_idle:
            seen.clear()
            updates = e.step()
            assert len(seen) == len(updates)
            for update, (own, _) in zip(updates, seen, strict=True):
                by_request.setdefault(added.index(update.sequence), []).append(own)
        runs.append(np.stack([np.stack(by_request[i]) for i in range(len(PROMPTS))]))
    for run in runs[1:]:
        np.testing.assert_array_equal(run, runs[0])


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_log_probabilities_are_those_of_the_model_with_the_cache_or_without(framework):
    """Row 9: those of the prompt, too, where blocks are known already, are computed and not taken from a cache."""
    model = load(framework).accelerate(make(framework, "rotary"))
    e = Engine(model, n_blocks=8, rows=2, tokens=10)
    prompt = PROMPTS[1]
    for _ in range(2):
        (sequence,) = e.add(
            Request(prompt=prompt, max_new_tokens=6, logprobs=3, prompt_logprobs=2, stop_tokens=())
        )  # fmt: skip
        (other,) = e.add(Request(prompt=PROMPTS[4], max_new_tokens=40, stop_tokens=()))
        likely = []
        while not e.is_idle:
            likely += [update.likely for update in e.step() if update.sequence is sequence]
        logprobs = log_softmax(model.score([sequence.tokens])[0])
        places = np.arange(len(sequence.tokens) - 1)
        found = [*sequence.prompt_likely, *likely]
        assert len(sequence.prompt_likely) == len(prompt) - 1 and len(found) == len(places)
        for place, one in zip(places, found, strict=True):
            token, row = sequence.tokens[place + 1], logprobs[place]
            assert one.logprob == pytest.approx(row[token], abs=1e-4)
            assert one.rank == (row > row[token] + 1e-5).sum() + 1
            assert len(one.top) == (2 if place < len(prompt) - 1 else 3)
            assert [t for t, _ in one.top] == np.argsort(-row)[: len(one.top)].tolist()
            np.testing.assert_allclose([p for _, p in one.top], np.sort(row)[::-1][: len(one.top)], atol=1e-4)
        assert sequence.n_shared == 0 and other.n_new == 40


def test_broken_logits_end_their_own_request_and_no_other():
    model = HashModel()
    model.broken = {9}
    for sampling in (Sampling(temperature=0.0), Sampling(temperature=0.5), Sampling(repetition_penalty=1.2)):
        e = engine(model=model)
        (bad,) = e.add(request([1, 9], 5, sampling=sampling))
        (good,) = e.add(request([1, 1], 5, stop_tokens=()))
        first = e.step()[0]
        assert (first.sequence, first.token, first.finish) == (bad, None, Finish.ERROR)
        assert "the logits hold NaN" in bad.error and good.error is None
        drain(e)
        if 9 not in alone([1, 1], 5)[:-1]:
            check_end(good)
        check_idle(e)


def test_a_run_takes_more_requests_than_the_queue_has_places():
    e = engine(n_blocks=20, waiting=3)
    results = e.run([request([i % 11, 3], 4, n=1 + i % 2) for i in range(40)])
    for sequences in results:
        for sequence in sequences:
            check_end(sequence)
    check_idle(e)


def test_what_a_request_may_not_be():
    for fields, error, message in (
        (dict(prompt=[]), ValueError, "prompt is empty"),
        (dict(prompt="text"), (TypeError, ValueError), "prompt must"),
        (dict(prompt=[1.5]), TypeError, "prompt must hold integer token ids, got float64"),
        (dict(prompt=[[1]]), ValueError, "prompt must be one sequence"),
        (dict(prompt=[1], max_new_tokens=0), ValueError, "max_new_tokens must be at least 1, got 0"),
        (dict(prompt=[1], n=0), ValueError, "n must be at least 1, got 0"),
        (dict(prompt=[1], n=129), ValueError, "n must be at most 128, got 129"),
        (dict(prompt=[1], logprobs=21), ValueError, "logprobs must be at most 20, got 21"),
        (dict(prompt=[1], prompt_logprobs=-1), ValueError, "prompt_logprobs must be at least 0, got -1"),
        (dict(prompt=[1], priority="high"), TypeError, "priority must be an integer, got 'high'"),
        (dict(prompt=[1], sampling=0.5), TypeError, "sampling must be a tfguide.Sampling, got float"),
    ):
        with pytest.raises(error, match=message):
            Request(**fields)
    e = engine()
    for one, error, message in (
        (request([11], 1), ValueError, "tokens must lie between 0 and 10, got 11"),
        (request([1], 1, stop_tokens=[99]), ValueError, "a stop token must lie between 0 and 10, got 99"),
        (request([1] * 193, 1), ValueError, "the prompt has 193 tokens, the most that a text may have is 192"),
        ([1, 2], TypeError, "expected a Request, got list"),
    ):
        with refuses(error, message):
            e.add(one)
    check_idle(e)
    (after,) = e.add(request([1], 3))
    drain(e)
    check_end(after)


def test_the_size_of_the_cache():
    model = make("torch", "rotary")
    each = 16 * 2 * 2 * 2 * 10 * 4  # positions, keys and values, layers, heads, numbers, bytes
    assert Engine(model, memory=10 * each + 1).pool.n_blocks == 10
    assert Engine(model).pool.n_blocks == 64 * 90 // 16
    assert Engine(model, memory=10 * each, cache_dtype="float16").pool.n_blocks == 20
    with refuses(ValueError, f"a block of 16 positions takes {each} bytes, got memory=100"):
        Engine(model, memory=100)
    with refuses(ValueError, "expected n_blocks or memory, got both: 3 and 100"):
        Engine(model, memory=100, n_blocks=3)


def test_it_runs_without_a_framework(tmp_path):
    weights = make("torch", "rotary", d_model=24, d_head=None, qkv_bias=False, output_bias=False, ffn_bias=False)
    load("torch").save_checkpoint(weights, tmp_path)
    for dtype in ("float32", "int8"):
        kernels = native.load(tmp_path, dtype)
        e = Engine(kernels, cache_dtype="float32", **SIZES[1])
        assert [s[0].new_tokens for s in e.run(requests())] == each_alone(kernels)
    assert tfguide.serving.Engine is Engine
