"""Three functions around a decoder, without tensors, with a bug in each; `fixed.py` has them as they should be."""

import numpy as np


def accept(p, q, drafted, u, v):
    """The token (B,) of each row: the drafted one, or another. p, q: (V,), of the target and of the draft.

    drafted: (B,), drawn from q. u, v: (B,), two uniform random numbers for each row.
    """
    kept = u * q[drafted] < p[drafted]
    rest = p
    others = np.searchsorted(np.cumsum(rest / rest.sum()), v, side="right")
    return np.where(kept, drafted, others)


def draw(distributions, requests):
    """The next token (B,) of each request, by distributions (B, V). A request is (seed, tokens it has so far)."""
    u = np.random.default_rng(requests[0]).random(len(requests))
    return (np.cumsum(distributions, axis=1) > u[:, None]).argmax(axis=1)


def answer(model, system, question, kept):
    """The logits (V,) after a question. What precedes all questions is read once; kept: {its tokens: their cache}."""
    if system not in kept:
        kept[system] = model.new_cache(batch_size=1, max_length=64)
        model.prefill([system], kept[system])
    cache = kept[system]
    return model.prefill([question], cache)[0]
