"""Generation: `prefill` reads the prompts, then `choose` and `decode` alternate until every row has ended."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from tfguide.generation.checks import check_generation, check_given, check_one_cache
from tfguide.generation.choose import Chooser, Sampling
from tfguide.generation.interfaces import Cache
from tfguide.generation.prompts import pad_prompts, stopping
from tfguide.generation.verbs import Generator


def generate(
    model: Generator,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int = 64,
    stop_tokens: Sequence[int] | int | None = None,
    sampling: Sampling | None = None,
    cache: Cache | None = None,
    chunk_size: int | None = None,
    cache_dtype: str | None = None,
) -> list[list[int]]:
    """Continue each prompt: the new tokens of each row, a list of lists.

    model: a decoder or an encoder-decoder of either framework, plain, quantised, compiled or fast.
    prompts: sequences of token ids, of any lengths; for an encoder-decoder they are the sources.
    A row ends after `max_new_tokens`, or with the first of `stop_tokens` (one or several), which is kept; default: the
    configuration's `eos_token_id`; an empty sequence means no stop token.
    sampling: how tokens are chosen; default: the most likely one. cache: an empty cache of any kind with room for all
    positions; default: `model.new_cache`, in the type `cache_dtype`: "float32", "bfloat16", "float16", "int8" or
    "int4"; its default is float16 for a model with quantised weights, else the type of the model. chunk_size: the
    number of prompt tokens read at a time; default: all.

    The tokens of a row do not depend on the other rows, except for rounding: a product of more rows may sum in another
    order, which can change the choice between two tokens of nearly equal probability. `FastDecoder` documents how large
    the difference is, and when there is none.

    Raises TypeError for tokens that are not integers; ValueError for an empty batch or prompt, a token outside the
    vocabulary, `max_new_tokens` below 1, more positions than the model or the cache has, an encoder, both `cache` and
    `cache_dtype`, or logits that are NaN.
    """
    rows: list[list[int]] = []
    for step in _steps(model, prompts, max_new_tokens, stop_tokens, sampling, cache, chunk_size, cache_dtype):
        rows = rows or [[] for _ in step]
        for row, token in zip(rows, step, strict=True):
            if token is not None:
                row.append(token)
    return rows


def stream(
    model: Generator,
    prompt: Sequence[int],
    max_new_tokens: int = 64,
    stop_tokens: Sequence[int] | int | None = None,
    sampling: Sampling | None = None,
    cache: Cache | None = None,
    chunk_size: int | None = None,
    cache_dtype: str | None = None,
) -> Iterator[int]:
    """The new tokens of one prompt, each as soon as it is chosen; arguments and errors of `generate`."""
    for step in _steps(model, [prompt], max_new_tokens, stop_tokens, sampling, cache, chunk_size, cache_dtype):
        yield step[0]


def start_generation(
    model: Generator, tokens: np.ndarray, lengths: np.ndarray, cache: Cache, chunk_size: int | None = None
) -> np.ndarray:
    """The logits (B, V) of the first new token after padded prompts (B, T), which the encoder reads if there is one."""
    if model.config.kind == "decoder":
        return model.prefill(tokens, cache, lengths, chunk_size=chunk_size)
    start = np.full((len(tokens), 1), model.config.decoder_start_token_id)
    return model.prefill(start, cache, source=tokens, source_valid=np.arange(tokens.shape[1]) < lengths[:, None])


def continue_texts(
    model: Generator, logits: np.ndarray, texts: list[list[int]], cache: Cache, choose: Chooser, max_new_tokens: int,
    stop_tokens: frozenset[int],
) -> Iterator[list[int | None]]:  # fmt: skip
    """The next token of every row at each step: None for a row that has ended with one of `stop_tokens`.

    logits: (B, V), after the last token of each row, which the cache holds. texts: the tokens of each row so far, which
    the repetition penalty needs; every new token is appended before it is yielded. The cache holds all but the last.
    """
    ended = [False] * len(texts)
    for step in range(max_new_tokens):
        chosen = choose(logits, texts)
        new = [None if end else token for token, end in zip(chosen.tolist(), ended, strict=True)]
        for row, token in enumerate(chosen.tolist()):
            texts[row].append(token)
            ended[row] |= token in stop_tokens
        yield new
        if all(ended) or step == max_new_tokens - 1:
            return
        logits = model.decode(chosen, cache)


def _steps(model, prompts, max_new_tokens, stop_tokens, sampling, cache, chunk_size, cache_dtype):
    """What `continue_texts` yields after the prompts."""
    config = model.config
    tokens, lengths = pad_prompts(prompts, config.vocab_size)
    max_new_tokens, stop_tokens = stopping(config, max_new_tokens, stop_tokens)
    check_generation(config, int(lengths.max()), max_new_tokens)
    choose = Chooser(sampling, len(tokens))
    read = int(lengths.max()) if config.kind == "decoder" else 1  # a decoder after an encoder reads its start token
    needed = read + max_new_tokens - 1
    check_one_cache(cache, cache_dtype)
    cache = model.new_cache(len(tokens), needed, cache_dtype) if cache is None else cache
    check_given(config, cache, len(tokens), needed)
    texts = [list(map(int, prompt)) for prompt in prompts] if config.kind == "decoder" else [[] for _ in prompts]
    logits = start_generation(model, tokens, lengths, cache, chunk_size)
    yield from continue_texts(model, logits, texts, cache, choose, max_new_tokens, stop_tokens)
