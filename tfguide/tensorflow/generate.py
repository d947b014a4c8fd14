"""Three verbs: `prefill` reads a prompt into a cache, `decode` adds a token, `generate` repeats until done."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from tfguide.checks.values import check_count
from tfguide.generation import Chooser, Sampling, pad_prompts, stopping
from tfguide.generation.caching import check_decode, check_generation, check_given, check_lengths, check_prefill
from tfguide.tensorflow.cache import KVCache
from tfguide.tensorflow.models import Decoder, EncoderDecoder, as_tokens


def prefill(
    model: Decoder | EncoderDecoder,
    tokens: tf.Tensor,
    cache: KVCache,
    lengths: Sequence[int] | None = None,
    source: tf.Tensor | None = None,
    source_valid: tf.Tensor | None = None,
    chunk_size: int | None = None,
) -> tf.Tensor:
    """Read prompts (B, T) into a cache; the logits (B, V) after the last token of each row.

    lengths: (B,), how many tokens of each row are real, where rows are padded at their end.
    source, source_valid: what an encoder-decoder reads first, (B, S); `tokens` is then the start of the target.
    chunk_size: read that many tokens at a time, so that activations take no more memory than those of a chunk.

    Raises ValueError where the prompt does not fit into the cache, or a length is not between 1 and T.
    """
    check_prefill(model.config, source is not None)
    tokens, _ = as_tokens(plain(model), tokens)
    B, T = tokens.shape
    lengths = check_lengths(lengths, B, T)
    if chunk_size is not None:
        chunk_size = check_count("chunk_size", chunk_size)
    if source is not None:
        source, source_valid = as_tokens(model, source, source_valid, "source")
        cache.memory = (model.encode(source, source_valid), source_valid)
    cache.positions(T)  # raises before anything is written
    last = np.zeros((B, 0))
    for start in range(0, T, chunk_size or T):
        chunk = tokens[:, start : start + (chunk_size or T)]
        valid = np.arange(start, start + chunk.shape[1]) < lengths[:, None]
        hidden = _hidden(model, chunk, cache, None if valid.all() else tf.constant(valid))
        ends = (lengths > start) & (lengths <= start + chunk.shape[1])  # the rows whose last token is in this chunk
        at = np.clip(lengths - 1 - start, 0, chunk.shape[1] - 1)
        here = tf.gather(hidden, at, batch_dims=1)
        last = here if start == 0 else tf.where(ends[:, None], here, last)
    return model.logits(last)


def decode(model: Decoder | EncoderDecoder, tokens: tf.Tensor, cache: KVCache) -> tf.Tensor:
    """Read one more token of each row, (B,), into the cache; the logits (B, V) after it.

    Raises ValueError where the cache is full, or empty: `prefill` comes first.
    """
    if hasattr(model, "step"):
        return tf.constant(model.step(np.asarray(tokens), cache))
    tokens = tf.convert_to_tensor(tokens)
    check_decode(tuple(tokens.shape), cache.batch_size, int(tf.reduce_min(cache.lengths)))
    return model.logits(_hidden(model, tokens[:, None], cache)[:, -1])


def generate(
    model: Decoder | EncoderDecoder,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int = 64,
    stop_tokens: Sequence[int] | int | None = None,
    sampling: Sampling | None = None,
    cache: KVCache | None = None,
    chunk_size: int | None = None,
) -> list[list[int]]:
    """Continue each prompt: the new tokens of each row, a list of lists.

    prompts: sequences of token ids, of any lengths; for an encoder-decoder they are the sources.
    A row ends after `max_new_tokens`, or with the first of `stop_tokens`, one or several, which is kept; None stands
    for the configuration's `eos_token_id`, an empty sequence for no such token.
    sampling: how tokens are chosen; None takes the most likely one. cache: an empty one of any kind with room for all
    positions; None makes a `KVCache`. chunk_size: as in `prefill`.

    The tokens of a row do not depend on the other rows, but for rounding: a product of more rows may add up in another
    order, and where two tokens are equally likely within that, the other one may be chosen. `FastDecoder` says how much
    that is, and where it is nothing.

    Raises TypeError for tokens that are not integers; ValueError for an empty batch or prompt, a token outside the
    vocabulary, `max_new_tokens` below 1, more positions than the model or the cache has, an encoder, or logits that
    are NaN.
    """
    rows: list[list[int]] = []
    for step in _steps(model, prompts, max_new_tokens, stop_tokens, sampling, cache, chunk_size):
        rows = rows or [[] for _ in step]
        for row, token in zip(rows, step, strict=True):
            if token is not None:
                row.append(token)
    return rows


def stream(
    model: Decoder | EncoderDecoder,
    prompt: Sequence[int],
    max_new_tokens: int = 64,
    stop_tokens: Sequence[int] | int | None = None,
    sampling: Sampling | None = None,
    cache: KVCache | None = None,
    chunk_size: int | None = None,
) -> Iterator[int]:
    """The new tokens of one prompt, each as soon as it is chosen; arguments and errors of `generate`."""
    for step in _steps(model, [prompt], max_new_tokens, stop_tokens, sampling, cache, chunk_size):
        yield step[0]


def _steps(model, prompts, max_new_tokens, stop_tokens, sampling, cache, chunk_size):
    """The next token of every row, again and again: None for a row that has ended."""
    config = model.config
    tokens, lengths = pad_prompts(prompts, config.vocab_size)
    max_new_tokens, stop_tokens = stopping(config, max_new_tokens, stop_tokens)
    check_generation(config, int(lengths.max()), max_new_tokens)
    choose = Chooser(sampling, len(tokens))
    read = lengths if config.kind == "decoder" else np.ones_like(lengths)  # a decoder after an encoder reads its start
    needed = int(read.max()) + max_new_tokens - 1
    cache = new_cache(model, len(tokens), needed) if cache is None else cache
    check_given(config, cache, len(tokens), needed)
    texts = [list(map(int, prompt)) for prompt in prompts] if config.kind == "decoder" else [[] for _ in prompts]
    logits = start_generation(model, tokens, lengths, cache, chunk_size)
    ended = [False] * len(tokens)
    for step in range(max_new_tokens):
        chosen = choose(_array(logits), texts)
        yield [None if end else token for token, end in zip(chosen.tolist(), ended, strict=True)]
        for row, token in enumerate(chosen.tolist()):
            texts[row].append(token)
            ended[row] |= token in stop_tokens
        if all(ended) or step == max_new_tokens - 1:
            return
        # A fast decoder's logits are an array already.
        logits = model.step(chosen, cache) if hasattr(model, "step") else decode(model, chosen, cache)


def start_generation(model, tokens, lengths, cache, chunk_size=None):
    """The logits (B, V) of the first new token of padded prompts (B, T), which an encoder reads where there is one."""
    if model.config.kind == "decoder":
        return prefill(model, tokens, cache, lengths, chunk_size=chunk_size)
    start = np.full((len(tokens), 1), model.config.decoder_start_token_id)
    return prefill(model, start, cache, source=tokens, source_valid=np.arange(tokens.shape[1]) < lengths[:, None])


def new_cache(model, batch_size, max_length):
    """An empty cache in the type of a model, and of the kind that a fast decoder wants."""
    if hasattr(model, "new_cache"):
        return model.new_cache(batch_size, max_length)
    return KVCache(model.config, batch_size, max_length, model.compute_dtype)


def plain(model):
    """The model behind a fast decoder; any other as it is."""
    return getattr(model, "model", model)


def _array(logits):
    return logits if isinstance(logits, np.ndarray) else tf.cast(logits, tf.float32).numpy()


def _hidden(model, tokens, cache, valid=None):
    if cache.memory is None:
        return model.hidden(tokens, valid, cache=cache)
    return model.hidden(tokens, cache.memory[0], valid, cache.memory[1], cache=cache)
