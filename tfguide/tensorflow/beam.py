"""Beam search: several continuations at a time, and the best of those that end."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfguide.generation import Beam, BeamSearch, pad_prompts
from tfguide.generation.beam import check_beams, log_softmax
from tfguide.generation.caching import check_generation
from tfguide.generation.greedy import stopping
from tfguide.tensorflow.generate import decode, new_cache, start_generation
from tfguide.tensorflow.models import Decoder, EncoderDecoder


def beam_search(
    model: Decoder | EncoderDecoder,
    prompts: Sequence[Sequence[int]],
    n_beams: int = 4,
    max_new_tokens: int = 64,
    stop_tokens: Sequence[int] | int | None = None,
    length_penalty: float = 1.0,
    n_best: int = 1,
) -> list[list[Beam]]:
    """The `n_best` continuations of each prompt by score, best first, each a `Beam` with its tokens and its score.

    A score is the sum of the tokens' log probabilities over length ** `length_penalty`, the stop token counted: 0
    favours short continuations, 1 compares means. The search of a prompt ends when no running beam could come among the
    best any more. stop_tokens: as in `generate`. Source: Wu et al. 2016, section 7, with Hugging Face's length penalty.

    Raises ValueError for `n_beams` below 1 or `n_best` above it, and as `generate`.
    """
    config = model.config
    pad_prompts(prompts, config.vocab_size)
    max_new_tokens, stops = stopping(config, max_new_tokens, stop_tokens)
    n_beams, n_best = check_beams(n_beams, n_best, length_penalty)
    return [_search(model, prompt, n_beams, max_new_tokens, stops, length_penalty).best(n_best) for prompt in prompts]


def _search(model, prompt, n_beams, max_new_tokens, stops, length_penalty):
    tokens, lengths = pad_prompts([prompt], model.config.vocab_size)
    check_generation(model.config, int(lengths[0]), max_new_tokens)
    search = BeamSearch(n_beams, max_new_tokens, stops, length_penalty)
    read = int(lengths[0]) if model.config.kind == "decoder" else 1
    cache = new_cache(model, 1, read + max_new_tokens - 1)
    logits = start_generation(model, tokens, lengths, cache)
    while True:
        parents, last = search.step(log_softmax(tf.cast(logits, tf.float32).numpy()))
        if not last:
            return search
        cache.reorder(np.array(parents))
        logits = decode(model, np.array(last), cache)
