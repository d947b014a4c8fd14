"""How well a model predicts a text."""

from __future__ import annotations

import math
from collections.abc import Sequence

import tensorflow as tf

from tfguide.generation.caching import check_text_tokens
from tfguide.generation.perplexity import text_log_probability, windows_of
from tfguide.tensorflow.models import Decoder


def perplexity(model: Decoder, tokens: Sequence[int], window: int = 256, stride: int | None = None) -> float:
    """exp of the mean negative log probability of each token of a text, given those before it in its window.

    tokens: (n,); window: how many the model reads at once; stride: by how many the windows move on, half a window
    unless told. Every token but the first counts once, in the first window that holds it. Sums are in float64.

    Raises TypeError for tokens that are not integers, ValueError for one outside the vocabulary (there is no number for
    tokens to leave out), fewer than 2 tokens, a window below 2, or a stride outside 1 to window - 1.
    """
    tokens = check_text_tokens(tokens, model.config.vocab_size)
    total = 0.0
    for start, stop, first in windows_of(len(tokens), window, stride):
        logits = model(tf.constant(tokens[None, start : stop - 1]))[0]
        logits = tf.cast(logits, tf.float32).numpy()[first - start - 1 :]
        total -= text_log_probability(logits, tokens[first:stop])
    return math.exp(total / (len(tokens) - 1))
