"""Three verbs: `prefill` reads a prompt into a cache, `decode` adds a token, `generate` repeats until done."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfguide import checks
from tfguide.inference import greedy, pad_prompts, stop_set
from tfguide.tensorflow.cache import KVCache
from tfguide.tensorflow.models import Decoder, EncoderDecoder, as_tokens


def prefill(
    model: Decoder | EncoderDecoder,
    tokens: tf.Tensor,
    cache: KVCache,
    lengths: Sequence[int] | None = None,
    source: tf.Tensor | None = None,
    source_valid: tf.Tensor | None = None,
) -> tf.Tensor:
    """Read prompts (B, T) into a cache; the logits (B, V) after the last token of each row.

    lengths: (B,), how many tokens of each row are real, where rows are padded at their end.
    source, source_valid: what an encoder-decoder reads first, (B, S); `tokens` is then the start of the target.

    Raises ValueError where the prompt does not fit into the cache, or a length is not between 1 and T.
    """
    checks.prefill(model.config, source is not None)
    tokens, _ = as_tokens(model, tokens)
    B, T = tokens.shape
    lengths = checks.lengths(lengths, B, T)
    valid = tf.constant(np.arange(T) < lengths[:, None])
    if source is None:
        hidden = model.hidden(tokens, valid, cache=cache)
    else:
        source, source_valid = as_tokens(model, source, source_valid, "source")
        cache.memory = (model.encode(source, source_valid), source_valid)
        hidden = model.hidden(tokens, cache.memory[0], valid, source_valid, cache=cache)
    return model.logits(tf.gather(hidden, lengths - 1, batch_dims=1))


def decode(model: Decoder | EncoderDecoder, tokens: tf.Tensor, cache: KVCache) -> tf.Tensor:
    """Read one more token of each row, (B,), into the cache; the logits (B, V) after it.

    Raises ValueError where the cache is full, or empty: `prefill` comes first.
    """
    tokens = tf.convert_to_tensor(tokens)
    checks.decode(tuple(tokens.shape), cache.batch_size, int(tf.reduce_min(cache.lengths)))
    if cache.memory is None:
        hidden = model.hidden(tokens[:, None], cache=cache)
    else:
        hidden = model.hidden(tokens[:, None], cache.memory[0], None, cache.memory[1], cache=cache)
    return model.logits(hidden[:, -1])


def generate(
    model: Decoder | EncoderDecoder,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int = 64,
    stop_tokens: Sequence[int] | None = None,
) -> list[list[int]]:
    """Continue each prompt greedily: the new tokens of each row, a list of lists.

    prompts: sequences of token ids, of any lengths; for an encoder-decoder they are the sources.
    A row ends after `max_new_tokens`, or with the first of `stop_tokens`, which is kept; None stands for the
    configuration's `eos_token_id`, an empty sequence for no such token.

    Raises TypeError for tokens that are not integers; ValueError for an empty batch or prompt, a token outside the
    vocabulary, `max_new_tokens` below 1, more positions than the model has, an encoder, or logits that are NaN.
    """
    config = model.config
    tokens, lengths = pad_prompts(prompts, config.vocab_size)
    stop_tokens = stop_set(config, max_new_tokens, stop_tokens)
    checks.generation(config, int(lengths.max()), max_new_tokens)
    B, T = tokens.shape
    if config.kind == "decoder":
        cache = KVCache(config, B, T + max_new_tokens - 1, model.compute_dtype)
        logits = prefill(model, tokens, cache, lengths)
    else:
        cache = KVCache(config, B, max_new_tokens, model.compute_dtype)
        start = np.full((B, 1), config.decoder_start_token_id)
        valid = np.arange(T) < lengths[:, None]
        logits = prefill(model, start, cache, source=tokens, source_valid=valid)

    rows: list[list[int]] = [[] for _ in range(B)]
    while True:
        chosen = greedy(tf.cast(logits, tf.float32).numpy())
        for row, token in zip(rows, chosen.tolist(), strict=True):
            if not (row and row[-1] in stop_tokens):
                row.append(token)
        if all(len(row) == max_new_tokens or row[-1] in stop_tokens for row in rows):
            return rows
        logits = decode(model, chosen, cache)
