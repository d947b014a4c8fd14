"""Exercises of chapter 5, training: the rate of learning, the loss, perplexity, and gradients that are too large."""

from __future__ import annotations

import math

import numpy as np

from tfguide.exercises.entry import Exercise, Mistake, numbers
from tfguide.generation.choose import log_softmax
from tfguide.generation.perplexity import text_log_probability
from tfguide.training import Recipe

PAGE = "05c"


def learning_rate(step, steps, warmup, peak, floor):
    """The rate of learning at a step: a line up to the peak, then half a cosine down to a share of it."""
    return Recipe(steps=steps, warmup=warmup, learning_rate=peak, floor=floor).rate_of(step)


def next_token_loss(logits, tokens):
    """The mean of minus log p(next token), in nats."""
    return _losses(logits[:, :-1], tokens[:, 1:]).mean()


def perplexity(logits, tokens):
    """exp of the mean of minus log p(next token) in one text."""
    return np.exp(next_token_loss(logits[None], tokens[None]))


def clip_gradients(gradients, most):
    """Gradients times the one factor that brings the norm of all together to `most`, if it is larger."""
    norm = math.sqrt(sum(float((g**2).sum()) for g in gradients))
    return tuple(g * min(1.0, most / norm) for g in gradients)


def _losses(logits, tokens):
    return -np.take_along_axis(log_softmax(logits), tokens[..., None], axis=-1)[..., 0]


def _clip_each(gradients, most):
    return tuple(clip_gradients((g,), most)[0] for g in gradients)


def _cosine(done):
    return (1 + math.cos(math.pi * done)) / 2


def _solve_loss(package, logits, tokens):
    return package.cross_entropy(logits[:, :-1], tokens[:, 1:])


def _solve_perplexity(package, logits, tokens):
    """What `perplexity` does with the logits of a window: the package sums in NumPy, whatever computed them."""
    logits, tokens = np.asarray(logits), np.asarray(tokens)
    return np.exp(-text_log_probability(logits[:-1], tokens[1:]) / (len(tokens) - 1))


def _solve_clip(package, gradients, most):
    clipped, _ = package.clip_gradients(list(gradients), most)
    return tuple(clipped)


EXERCISES = (
    Exercise(
        id="cosine-schedule",
        page=PAGE,
        grade=1,
        title="Warm-up and cosine",
        signature="learning_rate(step, steps, warmup, peak, floor)",
        statement="Return the rate of learning at a step of `steps`, counted from 0. In the first `warmup` steps it "
        "rises in equal parts and is `peak` at the last of them. From step `warmup` on it follows half a cosine: it "
        "is `peak` at that step, and peak * floor at the last step, `steps` - 1.",
        hints=(
            "Two cases: step < warmup, and the rest.",
            "At step 0 the rate is peak / warmup, not 0. Then: which part of the way from warmup to steps - 1 is done?",
            "peak * (floor + (1 - floor) * (1 + cos(pi * done)) / 2), with done from 0 to 1.",
        ),
        inputs=lambda rng: [(step, 101, 7, 3e-3, 0.125) for step in (0, 3, 6, 7, 53, 100)],
        oracle=learning_rate,
        mistakes=(
            Mistake(
                "The rate is 0 at the first step: nothing is learnt there.",
                lambda step, n, w, peak, floor: peak * step / w if step < w else learning_rate(step, n, w, peak, floor),
            ),
            Mistake(
                "The cosine begins at step 0 and not where the warm-up ends.",
                lambda step, n, w, peak, floor: (
                    learning_rate(step, n, w, peak, floor)
                    if step < w
                    else peak * (floor + (1 - floor) * _cosine(step / (n - 1)))
                ),
            ),
            Mistake(
                "It falls in a straight line: the cosine is flat at both ends.",
                lambda step, n, w, peak, floor: (
                    learning_rate(step, n, w, peak, floor)
                    if step < w
                    else peak * (1 - (1 - floor) * (step - w) / (n - 1 - w))
                ),
            ),
            Mistake(
                "It would reach its end one step too late: the last step is `steps` - 1.",
                lambda step, n, w, peak, floor: learning_rate(step, n + (step >= w), w, peak, floor),
            ),
            Mistake(
                "It falls to 0: it ends at peak * floor.",
                lambda step, n, w, peak, floor: learning_rate(step, n, w, peak, 0.0 if step >= w else floor),
            ),
        ),
        solution="tfguide.training:Recipe.rate_of",
        solve=learning_rate,
        tensors=False,
    ),
    Exercise(
        id="next-token-loss",
        page=PAGE,
        grade=2,
        title="The loss of a language model",
        signature="next_token_loss(logits, tokens)",
        statement="Return the mean cross-entropy, in nats, of the next tokens of texts without padding: the logits "
        "(B, T, V) at place t predict the token at place t + 1 of tokens (B, T), integers. The result is one number.",
        hints=(
            "The last place predicts nothing that is known, and the first token is predicted by nobody.",
            "logits[:, :-1] belong to tokens[:, 1:].",
            "log softmax of the logits, the entry of each next token, the mean of all, and a minus.",
        ),
        inputs=lambda rng: [
            (numbers(rng, B, T, V) * 2, rng.integers(0, V, (B, T))) for B, T, V in ((1, 5, 3), (3, 7, 5))
        ],
        oracle=next_token_loss,
        mistakes=(
            Mistake(
                "Labels are not shifted: place t is compared with the token that stands there.",
                lambda logits, tokens: _losses(logits, tokens).mean(),
            ),
            Mistake(
                "Labels are shifted the wrong way: place t predicts t + 1, not t - 1.",
                lambda logits, tokens: _losses(logits[:, 1:], tokens[:, :-1]).mean(),
            ),
            Mistake(
                "This is a sum: divide by the number of predictions.",
                lambda logits, tokens: _losses(logits[:, :-1], tokens[:, 1:]).sum(),
            ),
            Mistake(
                "This divides by the number of tokens: there is one prediction fewer in each text.",
                lambda logits, tokens: _losses(logits[:, :-1], tokens[:, 1:]).sum() / tokens.size,
            ),
            Mistake(
                "The minus is missing: a loss is positive.", lambda logits, tokens: -next_token_loss(logits, tokens)
            ),
            Mistake(
                "This is in bits: the logarithm is the natural one.",
                lambda logits, tokens: next_token_loss(logits, tokens) / math.log(2),
            ),
        ),
        solution="next_token_loss",
        solve=_solve_loss,
        tools={
            "numpy": "np.take_along_axis",
            "torch": "torch.nn.functional.cross_entropy",
            "tensorflow": "tf.nn.sparse_softmax_cross_entropy_with_logits",
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
        solve=_solve_perplexity,
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
        solution="clip_gradients",
        solve=_solve_clip,
        tools={"numpy": "np.sqrt", "torch": "torch.sqrt", "tensorflow": "tf.sqrt, tf.reduce_sum"},
    ),
)
