"""Three verbs: `prefill` reads a prompt into a cache, `decode` adds a token, `generate` repeats until done."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from tfguide import checks
from tfguide.inference import greedy, pad_prompts, stop_set
from tfguide.torch.cache import KVCache
from tfguide.torch.models import Decoder, EncoderDecoder, as_tokens


@torch.inference_mode()
def prefill(
    model: Decoder | EncoderDecoder,
    tokens: Tensor,
    cache: KVCache,
    lengths: Sequence[int] | None = None,
    source: Tensor | None = None,
    source_valid: Tensor | None = None,
) -> Tensor:
    """Read prompts (B, T) into a cache; the logits (B, V) after the last token of each row.

    lengths: (B,), how many tokens of each row are real, where rows are padded at their end.
    source, source_valid: what an encoder-decoder reads first, (B, S); `tokens` is then the start of the target.

    Raises ValueError where the prompt does not fit into the cache, or a length is not between 1 and T.
    """
    checks.prefill(model.config, source is not None)
    tokens, _ = as_tokens(model, tokens)
    B, T = tokens.shape
    lengths = checks.lengths(lengths, B, T)
    valid = torch.arange(T, device=tokens.device) < torch.as_tensor(lengths, device=tokens.device)[:, None]
    if source is None:
        hidden = model.hidden(tokens, valid, cache=cache)
    else:
        source, source_valid = as_tokens(model, source, source_valid, "source")
        cache.memory = (model.encode(source, source_valid), source_valid)
        hidden = model.hidden(tokens, cache.memory[0], valid, source_valid, cache=cache)
    last = torch.as_tensor(lengths, device=tokens.device) - 1
    return model.logits(hidden[torch.arange(B, device=tokens.device), last])


@torch.inference_mode()
def decode(model: Decoder | EncoderDecoder, tokens: Tensor, cache: KVCache) -> Tensor:
    """Read one more token of each row, (B,), into the cache; the logits (B, V) after it.

    Raises ValueError where the cache is full, or empty: `prefill` comes first.
    """
    tokens = torch.as_tensor(tokens, device=cache.lengths.device)
    checks.decode(tuple(tokens.shape), cache.batch_size, int(cache.lengths.min()))
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
    weight = model.embedding.token.weight
    if config.kind == "decoder":
        cache = KVCache(config, B, T + max_new_tokens - 1, weight.dtype, weight.device)
        logits = prefill(model, tokens, cache, lengths)
    else:
        cache = KVCache(config, B, max_new_tokens, weight.dtype, weight.device)
        start = np.full((B, 1), config.decoder_start_token_id)
        valid = np.arange(T) < lengths[:, None]
        logits = prefill(model, start, cache, source=tokens, source_valid=valid)

    rows: list[list[int]] = [[] for _ in range(B)]
    while True:
        chosen = greedy(logits.float().cpu().numpy())
        for row, token in zip(rows, chosen.tolist(), strict=True):
            if not (row and row[-1] in stop_tokens):
                row.append(token)
        if all(len(row) == max_new_tokens or row[-1] in stop_tokens for row in rows):
            return rows
        logits = decode(model, chosen, cache)
