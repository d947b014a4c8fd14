"""Exercises of chapter 5, training: the rate of learning, the loss, perplexity, and gradients that are too large."""

from __future__ import annotations

import math

import numpy as np

from tfguide.exercises.entry import Exercise, Mistake, numbers
from tfguide.generation.choose import log_softmax

PAGE = "05c"


def learning_rate(step, warm_up, total, peak, least):
    """A linear rise to the peak in `warm_up` steps, then half a cosine down to `least` at step `total`."""
    if step < warm_up:
        return peak * (step + 1) / warm_up
    done = min(1.0, (step - warm_up) / (total - warm_up))
    return least + (peak - least) * (1 + math.cos(math.pi * done)) / 2


def next_token_loss(logits, tokens, valid):
    """The mean of minus log p(next token) over the places whose next token is real."""
    chosen = np.take_along_axis(log_softmax(logits[:, :-1]), tokens[:, 1:, None], axis=-1)[..., 0]  # (B, T - 1)
    return -chosen[valid[:, 1:]].mean()


def perplexity(logits, tokens):
    """exp of the mean of minus log p(next token) in one text."""
    return np.exp(next_token_loss(logits[None], tokens[None], np.ones((1, len(tokens)), bool)))


def clip_gradients(gradients, most):
    """Gradients times the one factor that brings the norm of all together to `most`, if it is larger."""
    norm = math.sqrt(sum(float((g**2).sum()) for g in gradients))
    return tuple(g * min(1.0, most / norm) for g in gradients)


def _losses(logits, tokens):
    return -np.take_along_axis(log_softmax(logits), tokens[..., None], axis=-1)[..., 0]


def _clip_each(gradients, most):
    return tuple(clip_gradients((g,), most)[0] for g in gradients)


def _texts(rng):
    for T, V, lengths in ((5, 3, [3, 5]), (7, 5, [2, 7, 4])):
        B, valid = len(lengths), np.arange(T) < np.array(lengths)[:, None]
        yield numbers(rng, B, T, V) * 2, rng.integers(0, V, (B, T)), valid


EXERCISES = (
    Exercise(
        id="cosine-schedule",
        page=PAGE,
        grade=1,
        title="Warm-up and cosine",
        signature="learning_rate(step, warm_up, total, peak, least)",
        statement="Return the rate of learning at a step, counted from 0. In the first `warm_up` steps it rises in "
        "equal parts and is `peak` at the last of them. From step `warm_up` on it follows half a cosine, from `peak` "
        "at that step to `least` at step `total`, and stays there.",
        hints=(
            "Two cases: step < warm_up, and the rest.",
            "At step 0 the rate is peak / warm_up, not 0. Then: which part of the way from warm_up to total is done?",
            "least + (peak - least) * (1 + cos(pi * done)) / 2, with done at most 1.",
        ),
        inputs=lambda rng: [(step, 7, 101, 3e-3, 1e-4) for step in (0, 3, 6, 7, 53, 101, 211)],
        oracle=learning_rate,
        mistakes=(
            Mistake(
                "The rate is 0 at the first step: nothing is learnt there.",
                lambda step, w, t, peak, least: peak * step / w if step < w else learning_rate(step, w, t, peak, least),
            ),
            Mistake(
                "The cosine begins at step 0 and not where the warm-up ends.",
                lambda step, w, t, peak, least: (
                    learning_rate(step, w, t, peak, least)
                    if step < w
                    else learning_rate(step + 1, 1, t + 1, peak, least)
                ),
            ),
            Mistake(
                "It falls in a straight line: the cosine is flat at both ends.",
                lambda step, w, t, peak, least: (
                    learning_rate(step, w, t, peak, least)
                    if step < w
                    else peak + (least - peak) * min(1.0, (step - w) / (t - w))
                ),
            ),
            Mistake(
                "Behind `total` it rises again: the cosine must stop at its lowest point.",
                lambda step, w, t, peak, least: (
                    learning_rate(step, w, t, peak, least)
                    if step <= t
                    else least + (peak - least) * (1 + math.cos(math.pi * (step - w) / (t - w))) / 2
                ),
            ),
            Mistake(
                "It falls to 0: the lowest rate is `least`.",
                lambda step, w, t, peak, least: learning_rate(step, w, t, peak, 0.0),
            ),
        ),
        tensors=False,
    ),
    Exercise(
        id="next-token-loss",
        page=PAGE,
        grade=2,
        title="The loss of a language model",
        signature="next_token_loss(logits, tokens, valid)",
        statement="Return the mean cross-entropy, in nats, of the next tokens: logits (B, T, V) at place t predict "
        "the token at place t + 1. tokens: integers (B, T); valid: booleans (B, T), True at real tokens. A place "
        "counts if the token that it predicts is real. The result is one number.",
        hints=(
            "The last place predicts nothing that is known, and the first token is predicted by nobody.",
            "logits[:, :-1] belong to tokens[:, 1:], and so does valid[:, 1:].",
            "log softmax, take the entry of each next token, negate, and divide the sum by the number of places that "
            "count.",
        ),
        inputs=lambda rng: list(_texts(rng)),
        oracle=next_token_loss,
        mistakes=(
            Mistake(
                "Labels are not shifted: place t is compared with the token that stands there.",
                lambda logits, tokens, valid: _losses(logits, tokens)[valid].mean(),
            ),
            Mistake(
                "Labels are shifted the wrong way: place t predicts t + 1, not t - 1.",
                lambda logits, tokens, valid: _losses(logits[:, 1:], tokens[:, :-1])[valid[:, 1:]].mean(),
            ),
            Mistake(
                "Padding is counted: only places whose next token is real count.",
                lambda logits, tokens, valid: _losses(logits[:, :-1], tokens[:, 1:]).mean(),
            ),
            Mistake(
                "This divides by the number of all places: divide by the number of those that count.",
                lambda logits, tokens, valid: (_losses(logits[:, :-1], tokens[:, 1:]) * valid[:, 1:]).mean(),
            ),
            Mistake(
                "A place counts here if its own token is real: the token that it predicts must be.",
                lambda logits, tokens, valid: _losses(logits[:, :-1], tokens[:, 1:])[valid[:, :-1]].mean(),
            ),
        ),
        tools={
            "numpy": "np.take_along_axis",
            "torch": "torch.nn.functional.cross_entropy",
            "tensorflow": "tf.nn.sparse_softmax_cross_entropy_with_logits, tf.boolean_mask",
        },
    ),
    Exercise(
        id="perplexity",
        page=PAGE,
        grade=2,
        title="Perplexity",
        signature="perplexity(logits, tokens)",
        statement="Return the perplexity of a text of T tokens: exp of the mean of -log p(next token), where the "
        "logits (T, V) at place t predict the token at place t + 1. tokens: integers (T,). The result is one number.",
        hints=(
            "There are T - 1 predictions that can be judged.",
            "The mean is taken of the logarithms, and exp comes last.",
            "exp(-mean of log_softmax(logits[:-1])[range(T - 1), tokens[1:]]).",
        ),
        inputs=lambda rng: [(numbers(rng, T, V) * 2, rng.integers(0, V, T)) for T, V in ((5, 3), (11, 7))],
        oracle=perplexity,
        mistakes=(
            Mistake(
                "This is the mean loss: exp makes a perplexity of it.",
                lambda logits, tokens: np.log(perplexity(logits, tokens)),
            ),
            Mistake(
                "This is one over the mean probability: the mean is taken of the logarithms.",
                lambda logits, tokens: 1 / np.exp(-_losses(logits[:-1], tokens[1:])).mean(),
            ),
            Mistake(
                "Labels are not shifted: place t predicts the token at t + 1.",
                lambda logits, tokens: np.exp(_losses(logits, tokens).mean()),
            ),
            Mistake(
                "2 is raised to a loss in nats: with natural logarithms it is exp.",
                lambda logits, tokens: 2 ** np.log(perplexity(logits, tokens)),
            ),
        ),
        solution="perplexity",
        solve=lambda package, logits, tokens: perplexity(np.asarray(logits, np.float64), np.asarray(tokens)),
        tools={
            "numpy": "np.exp, np.log",
            "torch": "torch.log_softmax",
            "tensorflow": "tf.nn.log_softmax, tf.gather(..., batch_dims=1)",
        },
    ),
    Exercise(
        id="clip-gradients",
        page=PAGE,
        grade=3,
        title="Gradients that are too large",
        signature="clip_gradients(gradients, most)",
        statement="Return a tuple of gradients, of the shapes of the tuple that is given. Where the norm of all of "
        "them together, the root of the sum of all squares, is larger than `most`, all are multiplied by the factor "
        "that brings it to `most`; else they stay as they are.",
        hints=(
            "One norm and one factor for all gradients: their direction does not change.",
            "The factor is most / norm, and never larger than 1.",
            "norm = root of the sum over the gradients of their sums of squares.",
        ),
        inputs=lambda rng: [
            ((numbers(rng, 2, 3), numbers(rng, 5), numbers(rng, 3, 7)), most) for most in (1.0, 1000.0, 0.25)
        ],
        oracle=clip_gradients,
        mistakes=(
            Mistake("Each gradient is clipped by its own norm: that changes the direction.", _clip_each),
            Mistake(
                "Every number is cut at `most` by itself: that changes the direction.",
                lambda gradients, most: tuple(np.clip(g, -most, most) for g in gradients),
            ),
            Mistake(
                "Small gradients are made larger: the factor is 1 at most.",
                lambda gradients, most: tuple(
                    g * most / math.sqrt(sum(float((g**2).sum()) for g in gradients)) for g in gradients
                ),
            ),
        ),
        tools={"numpy": "np.sqrt", "torch": "torch.sqrt", "tensorflow": "tf.sqrt, tf.reduce_sum"},
    ),
)
