"""Tokens drawn without the whole distribution are those that are drawn from it."""

import time

import numpy as np
import pytest

import tfguide
from tfguide.generation import Chooser, draw, probabilities
from tfguide.generation.quick import draw_quickly

SETTINGS = [
    dict(), dict(temperature=0.3), dict(temperature=7.0), dict(top_k=1), dict(top_k=5), dict(top_k=700),
    dict(temperature=0.7, top_k=40), dict(top_p=0.02), dict(top_p=0.9), dict(top_p=1 - 1e-12),
    dict(temperature=0.8, top_p=0.95), dict(top_k=50, top_p=0.95), dict(min_p=0.05), dict(min_p=1.0),
    dict(min_p=5e-324), dict(top_k=50, top_p=0.9, min_p=0.02), dict(temperature=1.5, top_p=0.9, min_p=0.1),
    dict(temperature=1e-4, top_k=3), dict(temperature=1e9, top_k=3), dict(temperature=1e300),
    dict(repetition_penalty=1.3, top_k=20), dict(repetition_penalty=0.5, top_p=0.7), dict(repetition_penalty=1.1),
    dict(repetition_penalty=1.2, temperature=0.0), dict(repetition_penalty=0.8, temperature=0.0),
    dict(repetition_penalty=1.7, temperature=0.6, min_p=0.1), dict(repetition_penalty=1.3, top_p=0.9, temperature=0.01),
]  # fmt: skip
_RNG = np.random.default_rng(5)


def _logits():
    """Logits (11, V) by name: what a model gives, and what is hard to rank."""
    n = 11
    cases = {
        "normal": _RNG.normal(0, 3, (n, 2503)),
        "small": _RNG.normal(0, 2, (n, 7)),
        "long": _RNG.normal(0, 3, (n, 20011)),
        "flat": _RNG.normal(0, 0.01, (n, 3001)),
        "a power law": -1.3 * np.log(_RNG.permuted(np.tile(np.arange(1.0, 4002.0), (n, 1)), axis=1)),
        "all equal": np.full((n, 2503), -3.25),
        "ties": _RNG.integers(-6, 3, (n, 2503)) / 2.0,
        "ties of 16 bits": np.float16(_RNG.normal(0, 3, (n, 2503))).astype(np.float64),
        "one dominates": np.where(np.arange(2503) == 1999, 90.0, _RNG.normal(0, 3, (n, 2503))),
        "two dominate": np.where(np.arange(2503) % 1999 == 4, 60.0, _RNG.normal(0, 3, (n, 2503))),
        "minus infinity": np.where(_RNG.random((n, 2503)) < 0.99, -np.inf, _RNG.normal(0, 3, (n, 2503))),
        "one is left": np.where(np.arange(2503) == 17, -2.0, -np.inf) + np.zeros((n, 1)),
        "huge": _RNG.normal(0, 1e38, (n, 2503)).clip(-3e38, 3e38),
        "tiny beside large": np.where(np.arange(2503) == 3, 1e4, _RNG.normal(0, 1e-30, (n, 2503))),
    }
    return {name: logits.astype(np.float32) for name, logits in cases.items()}


LOGITS = _logits()


@pytest.mark.parametrize("options", SETTINGS, ids=str)
@pytest.mark.parametrize("name", LOGITS)
@pytest.mark.filterwarnings("error")
def test_the_tokens_are_those_of_the_whole_distribution(name, options):
    sampling = tfguide.Sampling(seed=3, **options)
    for logits in (LOGITS[name], LOGITS[name].astype(np.float64) * (1 - 1e-9)):
        likely = logits.argmax(axis=1).tolist()
        texts = [[row % 5, 1, 3, token, 1] for row, token in enumerate(likely)]
        chooser, uniforms = Chooser(sampling, len(logits)), Chooser(sampling, len(logits)).uniforms
        for _ in range(4):
            want = draw(probabilities(logits, sampling, texts), uniforms())
            got = chooser(logits, texts)
            assert got.dtype == np.int64 and got.tolist() == want.tolist()
            for text, token in zip(texts, want.tolist(), strict=True):
                text.append(token)


def test_a_text_that_was_changed_is_read_again():
    """A longer list of the same object is read from where it ended; another list, or a shorter one, from its start."""
    sampling, logits = tfguide.Sampling(temperature=0.0, repetition_penalty=1e6), np.array([[4.0, 3.0, 2.0, 1.0]])
    chooser, text = Chooser(sampling, 1), [0]
    assert chooser(logits, [text]) == 1
    text.append(1)
    assert chooser(logits, [text]) == 2
    assert chooser(logits, [[2]]) == 0
    assert chooser(logits, [text]) == 2
    del text[:]
    assert chooser(logits, [text]) == 0


@pytest.mark.parametrize("options", [options for options in SETTINGS if "repetition_penalty" not in options], ids=str)
def test_a_row_is_decided_at_every_number_or_left(options):
    """Also at the numbers where one token ends and the next begins: there, none may be wrong."""
    sampling = tfguide.Sampling(**options)
    for name in ("small", "normal", "a power law"):
        logits = LOGITS[name][:1]
        running = np.cumsum(probabilities(logits, sampling)[0])
        edges = np.unique(running / running[-1])[:40]
        near = [np.nextafter(edges, 0), edges, edges * (1 - 1e-12), edges * (1 + 1e-12), edges * (1 - 1e-7), [0.0]]
        uniforms = np.concatenate(near)
        uniforms = uniforms[uniforms < 1]
        rows = np.repeat(logits, len(uniforms), axis=0)
        want = draw(probabilities(rows, sampling), uniforms).tolist()
        got = draw_quickly(rows, sampling, uniforms)
        assert all(a is None or a == b for a, b in zip(got, want, strict=True))


@pytest.mark.parametrize("min_p", [0.05, 0.1, 0.3, 0.7])
def test_a_token_as_likely_as_min_p_asks_is_kept_or_not_as_rounding_has_it(min_p):
    rng = np.random.default_rng(2)
    logits = rng.normal(-3, 1, (200, 13)).clip(max=-0.5)
    logits[:, 3], logits[:, 7] = 0.0, np.log(min_p)
    logits += rng.normal(0, 1, (200, 1))  # the difference is rounded anew in every row
    sampling, uniforms = tfguide.Sampling(min_p=min_p), rng.random(200)
    whole = probabilities(logits, sampling)
    assert 0 < np.count_nonzero(whole[:, 7]) < 200  # rounding decides
    got = draw_quickly(logits, sampling, uniforms)
    assert all(a is None or a == b for a, b in zip(got, draw(whole, uniforms).tolist(), strict=True))
    assert got.count(None) == 200


@pytest.mark.parametrize(
    ("options", "least"),
    [
        (dict(), 0.99), (dict(temperature=0.7, top_k=40), 0.99), (dict(top_k=50, top_p=0.95), 0.99),
        (dict(top_p=0.9), 0.95), (dict(min_p=0.05), 0.99),
    ],
    ids=str,
)  # fmt: skip
def test_nearly_every_row_is_decided(options, least):
    rng = np.random.default_rng(1)
    logits = np.repeat(LOGITS["a power law"], 20, axis=0)
    drawn = draw_quickly(logits, tfguide.Sampling(**options), rng.random(len(logits)))
    assert np.mean([token is not None for token in drawn]) >= least


@pytest.mark.parametrize("broken", [np.nan, np.inf])
@pytest.mark.parametrize("options", [dict(temperature=0.0), dict(), dict(top_k=3), dict(top_p=0.9)], ids=str)
def test_broken_logits_are_refused_wherever_they_stand(broken, options):
    for place in (0, 511, 512, 2502):
        logits = LOGITS["normal"].copy()
        logits[7, place] = broken
        if options == dict(temperature=0.0) and broken == np.inf:  # the largest logit, and no sum is made
            assert Chooser(tfguide.Sampling(**options), 11)(logits, [[0]] * 11)[7] == place
            continue
        with pytest.raises(ValueError, match="hold NaN" if np.isnan(broken) else "hold infinity"):
            Chooser(tfguide.Sampling(**options), 11)(logits, [[0]] * 11)
    with pytest.raises(ValueError, match="minus infinity"):
        Chooser(tfguide.Sampling(), 2)(np.array([[0.0, 1.0], [-np.inf, -np.inf]]), [[0]] * 2)


def _least_seconds(call, repeats=7):
    """The least time of this thread: other programs on the machine do not count."""
    seconds = []
    for _ in range(repeats):
        start = time.thread_time()
        call()
        seconds.append(time.thread_time() - start)
    return min(seconds)


@pytest.mark.parametrize(
    ("options", "most"),
    [
        (dict(temperature=0.0), 10), (dict(temperature=0.7, top_k=40), 60), (dict(top_k=50, top_p=0.95), 60),
        (dict(temperature=0.8, top_p=0.95), 150), (dict(), 120), (dict(temperature=0.0, repetition_penalty=1.1), 50),
        (dict(temperature=0.7, top_k=40, repetition_penalty=1.1), 70),
    ],
    ids=str,
)  # fmt: skip
def test_choosing_takes_a_few_passes_over_the_logits(options, most):
    """At most so many times the largest logit of each row; the whole distribution takes 1000 to 10000 times that."""
    rng = np.random.default_rng(0)
    ranks = rng.permuted(np.tile(np.arange(1.0, 49153.0), (64, 1)), axis=1)
    logits = (-1.5 * np.log(ranks)).astype(np.float32)
    chooser, texts = Chooser(tfguide.Sampling(**options), 64), rng.integers(0, 49152, (64, 500)).tolist()
    assert _least_seconds(lambda: chooser(logits, texts)) < most * _least_seconds(lambda: logits.max(axis=1))
