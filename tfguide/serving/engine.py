"""The engine: a model, a paged cache and a scheduler, advanced step by step by one thread."""

from __future__ import annotations

from collections import abc
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tfguide.checks.values import check_count
from tfguide.frequencies import rotary_frequencies, scaled_by_length
from tfguide.generation.choose import choose_rows, greedy_rows, log_softmax
from tfguide.generation.sampling import Sampling
from tfguide.generation.verbs import Generator
from tfguide.native.abi import MANY_TOKENS
from tfguide.serving.blocks import BLOCK_SIZE, BlockPool
from tfguide.serving.request import Finish, Likely, Request, Sequence, fit
from tfguide.serving.scheduler import TOKENS, LastChunk, Limits, Scheduler


@dataclass(eq=False, slots=True)
class Update:
    """What a step did to a sequence: its new token, None if it ended without one, and `finish` if it has ended."""

    sequence: Sequence
    token: int | None
    likely: Likely | None = None
    finish: Finish | None = None


class Engine:
    """Continues many requests at once, each as if it were alone.

    model: a decoder of either framework, plain, quantised or fast, or of the kernels alone. memory: the bytes of the
    cache, or n_blocks: its blocks; default: what `rows` texts of 1024 positions need, at most 2 GiB. max_length: the
    most positions of a text; default: the model's. rows, tokens, waiting: see `Limits`; tokens by default 128, or as
    many as rows if these are more. cache_dtype: as in `new_paged_cache`.

    The tokens of a sequence are those of `generate` for its prompt alone. With 8-bit activations the kernels compute
    the same logits to the last bit, whatever runs beside it, however its prompt is divided, with blocks taken from
    others or not, and if it is computed again. Otherwise logits differ by rounding, as `FastDecoder` says, and of two
    tokens with nearly equal logits the other one may be chosen. Draws depend on the request alone: its seed, its
    choice, its step.

    One thread uses an engine; `Service` lets many threads send requests. Beam search and speculative decoding run
    beside an engine, not in it. Raises TypeError or ValueError for sizes that do not fit.
    """

    def __init__(
        self, model: Generator, *, n_blocks: int | None = None, memory: int | None = None,
        block_size: int = BLOCK_SIZE, max_length: int | None = None, rows: int = 64, tokens: int | None = None,
        waiting: int = 1024, cache_dtype: str | None = None, share_prefixes: bool = True,
    ):  # fmt: skip
        most = max(TOKENS, check_count("rows", rows)) if tokens is None else tokens
        limits = {"rows": rows, "tokens": most, "waiting": waiting}
        self.model, self.config = model, model.config
        length = max_length or self.config.max_positions
        n_blocks = _count_blocks(model, n_blocks, memory, block_size, length, rows, cache_dtype)
        self.cache = model.new_paged_cache(rows, n_blocks, block_size, max_length, cache_dtype)
        self.scheduler = Scheduler(
            BlockPool(n_blocks, block_size), Limits(length=self.cache.max_length, **limits), share_prefixes
        )
        # Of each row of the cache, whose blocks it has, and how often that sequence had given way when it began.
        self._owners: list[tuple[Sequence | None, int]] = [(None, 0)] * rows
        self._by_length = scaled_by_length(self.config.rope_scaling)
        self.n_steps = 0

    @property
    def pool(self) -> BlockPool:
        """The blocks of the cache."""
        return self.scheduler.pool

    @property
    def is_idle(self) -> bool:
        """Whether no sequence waits or runs."""
        return self.scheduler.is_idle

    def sequences(self, request: Request, client: Any = None) -> list[Sequence]:
        """The sequences of a request, one for each choice, which nothing continues yet; client: what each keeps.

        Raises TypeError or ValueError for a request that the model or the cache cannot serve; the message names the
        prompt's length.
        """
        if not isinstance(request, Request):
            raise TypeError(f"expected a Request, got {type(request).__name__}")
        max_new_tokens, stop_tokens = fit(request, self.config, self.scheduler.max_length)
        if self._by_length:
            request = replace(request, salt=(request.salt, self._frequencies(len(request.prompt))))
        limits = max_new_tokens, stop_tokens
        first = Sequence(request, 0, *limits, client=client)
        return [first, *(Sequence(request, i, *limits, first, client=client) for i in range(1, request.n))]

    def add(self, request: Request) -> list[Sequence]:
        """Let a request wait: its sequences. Raises as `sequences`, and QueueFull."""
        sequences = self.sequences(request)
        self.scheduler.add(sequences)
        return sequences

    def abort(self, sequence: Sequence) -> None:
        """End a sequence, in whatever state it is, and give its blocks back; one that has ended stays as it is.

        No update follows: `finish` is set.
        """
        self.scheduler.finish(sequence)

    def step(self) -> list[Update]:
        """Compute what is next, and tell what each sequence that got a token or has ended got; [] if nothing waits."""
        chunks = self.scheduler.schedule()
        if not chunks:
            return []
        self.n_steps += 1
        logits = self._read(chunks)
        last = [chunk.sequence for chunk in chunks if isinstance(chunk, LastChunk)]
        if len(logits) > len(last):
            logits = self._keep_prompts(chunks, logits)
        found = choose_tokens(logits, last)
        tokens = [None if isinstance(token, str) else token for token in found]
        likely = [None if s.request.logprobs is None else _likely(row, token, s.request.logprobs)
                  for s, token, row in zip(last, tokens, logits, strict=True)]  # fmt: skip
        chosen = iter(tokens)
        self.scheduler.advance(chunks, lambda chunk: next(chosen))
        for sequence, token in zip(last, found, strict=True):
            if isinstance(token, str):
                self.scheduler.finish(sequence, Finish.ERROR, token)
        return [Update(s, token, some, s.finish) for s, token, some in zip(last, tokens, likely, strict=True)]

    def run(self, requests: abc.Sequence[Request]) -> list[list[Sequence]]:
        """Continue requests until all have ended: the sequences of each. Requests beyond the queue wait outside it."""
        results: list[list[Sequence]] = []
        waiting = iter([(request, self.sequences(request)) for request in requests])
        coming = next(waiting, None)
        while coming is not None or not self.is_idle:
            while coming is not None and self._has_room(coming[1]):
                self.scheduler.add(coming[1])
                results.append(coming[1])
                coming = next(waiting, None)
            self.step()
        return results

    def _has_room(self, sequences):
        return len(self.scheduler.waiting) + len(sequences) <= max(self.scheduler.limits.waiting, len(sequences))

    def _read(self, chunks):
        """Let the model read the chunks; the logits of their last tokens, and of prompts that are asked for."""
        cache = self.cache
        for chunk in chunks:
            sequence, row = chunk.sequence, chunk.sequence.row
            owner, n_preempted = self._owners[row]
            if owner is not sequence or n_preempted != sequence.n_preempted:
                cache.assign(row, sequence.table.blocks, chunk.start, sequence.n_prompt)
                self._owners[row] = sequence, sequence.n_preempted
            elif cache.n_held[row] != len(sequence.table.blocks):
                cache.add_blocks(row, sequence.table.blocks[cache.n_held[row] :])
        if len(chunks) == sum(chunk.end - chunk.start for chunk in chunks):  # one token each
            tokens = np.array([chunk.sequence.tokens[chunk.start] for chunk in chunks])
            rows = np.array([chunk.sequence.row for chunk in chunks])
            wanted = np.ones(len(chunks), bool)
            prompts = np.array([chunk.start < _many(chunk) for chunk in chunks])
        else:
            tokens = np.concatenate([chunk.sequence.tokens[chunk.start : chunk.end] for chunk in chunks])
            counts = [chunk.end - chunk.start for chunk in chunks]
            rows = np.repeat([chunk.sequence.row for chunk in chunks], counts)
            wanted = np.concatenate([self._wanted(chunk) for chunk in chunks])
            prompts = np.concatenate([np.arange(chunk.start, chunk.end) < _many(chunk) for chunk in chunks])
        return self.model.decode_rows(tokens, rows, cache, wanted, prompts)

    def _wanted(self, chunk):
        """Of which tokens of a chunk logits are wanted."""
        wanted = np.zeros(chunk.end - chunk.start, bool)
        wanted[-1] = isinstance(chunk, LastChunk)
        if _wants_prompt(chunk.sequence):
            wanted[: max(0, chunk.sequence.n_prompt - 1 - chunk.start)] = True
        return wanted

    def _keep_prompts(self, chunks, logits):
        """Keep the log probabilities of prompts; the logits that are left, of the last tokens."""
        at, left = 0, []
        for chunk in chunks:
            sequence, wanted = chunk.sequence, self._wanted(chunk)
            places = chunk.start + wanted.nonzero()[0]
            for place, row in zip(places.tolist(), logits[at : at + len(places)], strict=True):
                if place < sequence.n_prompt - 1 and place == len(sequence.prompt_likely):
                    token = sequence.tokens[place + 1]
                    sequence.prompt_likely.append(_likely(row, token, sequence.request.prompt_logprobs))
            if isinstance(chunk, LastChunk):
                left.append(at + len(places) - 1)
            at += len(places)
        return logits[left]

    def _frequencies(self, length):
        """What tells apart the rotations of prompts of other lengths."""
        parts = [
            rotary_frequencies(self.config.d_rotary, *self.config.rope(slides), np.array([length])).tobytes()
            for slides in ([False, True] if self.config.n_sliding_layers else [False])
        ]
        return b"".join(parts)


def choose_tokens(logits: np.ndarray, sequences: abc.Sequence[Sequence]) -> list[int | str]:
    """The next token of each sequence by its logits (n, V); instead of one, what is wrong with the logits of a row.

    Rows are chosen together if they sample alike; each has its own random numbers.
    """
    groups: dict[Sampling, list[int]] = {}
    for row, sequence in enumerate(sequences):
        groups.setdefault(sequence.seedless, []).append(row)
    tokens: list[int | str] = [""] * len(sequences)
    for sampling, rows in groups.items():
        own = logits if len(rows) == len(sequences) else logits[rows]
        some = [sequences[row] for row in rows]
        if sampling.temperature == 0 and sampling.repetition_penalty is None:
            found = greedy_rows(own)
        else:
            found = _draw(own, sampling, some)
        for row, token in zip(rows, found, strict=True):
            tokens[row] = token
    return tokens


def _draw(logits, sampling, sequences):
    """The token of each row, or what is wrong with its logits."""
    uniforms = np.array([s.draws.random() if sampling.temperature else 0.0 for s in sequences])
    if sampling.repetition_penalty is None:
        return choose_rows(logits, sampling, uniforms)
    return [
        sequence.draw_penalised(logits[i : i + 1], uniforms[i : i + 1]) for i, sequence in enumerate(sequences)
    ]  # fmt: skip


def _likely(logits, token, n):
    if token is None:
        return None
    logprobs = log_softmax(logits[None])[0]
    top = np.argsort(-logprobs, kind="stable")[:n]
    rank = int((logprobs > logprobs[token]).sum()) + 1
    return Likely(float(logprobs[token]), rank, tuple((int(t), float(logprobs[t])) for t in top))


def _many(chunk):
    """The place before which the tokens of a chunk's text attend as those of a prompt: its prompt, if that is long."""
    n_prompt = chunk.sequence.n_prompt
    return n_prompt if n_prompt >= MANY_TOKENS else 0


def _wants_prompt(sequence):
    return sequence.request.prompt_logprobs is not None and len(sequence.prompt_likely) < sequence.n_prompt - 1


def _count_blocks(model, n_blocks, memory, block_size, length, rows, cache_dtype):
    """The blocks of an engine's cache, from its arguments."""
    if n_blocks is not None:
        if memory is not None:
            raise ValueError(f"expected n_blocks or memory, got both: {n_blocks} and {memory}")
        return check_count("n_blocks", n_blocks)
    each = model.new_storage(1, block_size, cache_dtype).nbytes
    if memory is None:
        wanted = rows * min(length or 1024, 1024) // block_size
        return max(1, min(wanted, (2 << 30) // each))
    n_blocks = int(memory) // each
    if n_blocks < 1:
        raise ValueError(f"a block of {block_size} positions takes {each} bytes, got memory={memory}")
    return n_blocks
