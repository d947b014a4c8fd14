"""A conversation with a model, whose cache is kept from turn to turn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tfguide.checks.values import check_count
from tfguide.generation import Chooser, Generator, Sampling, stopping
from tfguide.generation.generate import continue_texts
from tfguide.text.counted import Counted
from tfguide.text.streams import pieces, special_tokens
from tfguide.text.template import ChatTemplate

MOST_POSITIONS = 4096  # of the cache, by default: it is reserved as a whole
CHUNK = 512  # tokens that are read at a time: an interrupt waits for one chunk


@dataclass(frozen=True)
class Turn:
    """What one answer took.

    n_kept: tokens that the cache held already; n_read: those that were read; n_new: those of the answer. n_dropped:
    messages that were dropped because the context was full. ended: "stop", as the model ends an answer; "length", after
    the most tokens that were asked for; "context", where there was no room for more; "interrupted". max_length: the
    tokens of the context. speed: the times of reading and writing, in words.
    """

    n_kept: int
    n_read: int
    n_new: int
    n_dropped: int
    ended: str
    max_length: int
    speed: str

    def summary(self) -> str:
        """The speed in one line, and a line for each thing that a reader must know of."""
        kept = f", {self.n_kept} kept from before" if self.n_kept else ""
        why = {
            "length": f"stopped after {self.n_new} tokens, the most that were asked for",
            "context": f"stopped: the context of {self.max_length} tokens is full",
            "interrupted": "interrupted",
        }
        lines = [f"{self.speed}{kept}"]
        if self.n_dropped:
            full = f"the context of {self.max_length} tokens was full"
            lines.append(f"{full}: the {self.n_dropped} oldest messages were dropped")
        lines += [why[self.ended]] if self.ended in why else []
        return "\n".join(f"[{line}]" for line in lines)


class Conversation:
    """Messages of a user and of a model in turn. What the model has read or written is in its cache, and stays there.

    model: a decoder of either framework, plain, quantised, compiled or fast. tokenizer: a `tokenizers.Tokenizer`.
    template: see `read_template`. system: the message that stands before all others; None: what the template says.
    sampling: how tokens are chosen; default: the most likely one. The draws of a conversation are one sequence.
    max_length: tokens in the context; default: the positions of the model, at most 4096. max_new_tokens: of an answer.
    stop_tokens: what ends an answer; default: the configuration's `eos_token_ids` and the special token with which the
    template ends a message. cache_dtype: see `generate`.

    A full context: where a message and a quarter of `max_length` for its answer (or `max_new_tokens`, if fewer) do not
    fit, the oldest turns are dropped until half of the context is free. `system` stays.

    `turns`: the messages behind that of the system, as dictionaries. `last`: the last `Turn`, or None.
    Raises ValueError for a model that is no decoder, and as `generate`.
    """

    def __init__(
        self,
        model: Generator,
        tokenizer: Any,
        template: ChatTemplate,
        system: str | None = None,
        sampling: Sampling | None = None,
        max_length: int | None = None,
        max_new_tokens: int = 512,
        stop_tokens: Sequence[int] | int | None = None,
        cache_dtype: str | None = None,
    ):
        if model.config.kind != "decoder":
            raise ValueError(f"a conversation needs a model of kind 'decoder', got {model.config.kind!r}")
        self.model, self.tokenizer, self.template, self.system = model, tokenizer, template, system
        most = min(model.config.max_positions or MOST_POSITIONS, MOST_POSITIONS)
        self.max_length = check_count("max_length", most if max_length is None else max_length)
        self.max_new_tokens, self.stop_tokens = stopping(model.config, max_new_tokens, stop_tokens)
        if stop_tokens is None:
            self.stop_tokens |= ends_of_message(tokenizer, template)
        self.cache = model.new_cache(1, self.max_length, cache_dtype)
        self.turns: list[dict[str, str]] = []
        self.last: Turn | None = None
        self._sampling = sampling
        self._choose = Chooser(sampling, 1)
        self._text, self._tokens = "", []  # what was read and written; the cache holds the first of the tokens

    @property
    def messages(self) -> list[dict[str, str]]:
        """All messages, each `{"role": ..., "content": ...}`, that of the system first."""
        return self._with_system(self.turns)

    def ask(self, text: str) -> Iterator[str]:
        """The answer to a message, in pieces as they come; then `last` says what it took.

        An answer that is interrupted, by an exception or by closing the iterator, stays in the conversation as far as
        it came. Raises ValueError, and changes nothing, for a message that does not fit into the context or that the
        template refuses.
        """
        self.last = None
        turns, written, prompt = self._make_room([*self.turns, {"role": "user", "content": text}])
        n_dropped = len(self.turns) + 1 - len(turns)
        n_kept = self._keep(prompt)
        self.turns, self._text, self._tokens = turns, written, prompt
        n_prompt, limit = len(prompt), min(self.max_new_tokens, self.max_length - len(prompt))
        counted, said = Counted(self._answer(n_kept, limit), n_prompt - n_kept), []
        try:
            for piece in pieces(self.tokenizer, prompt[-CHUNK:], counted):
                said.append(piece)
                yield piece
        finally:
            new = self._tokens[n_prompt:]
            ended = self._how_it_ended(new, limit)
            self._remember("".join(said), new)
            self.last = Turn(n_kept, n_prompt - n_kept, len(new), n_dropped, ended, self.max_length, counted.summary())

    def set_system(self, text: str | None) -> None:
        """Replace the message that stands before all others; None: what the template says. The turns stay."""
        self.system = text

    def reset(self) -> None:
        """Forget all turns; `system` stays. Draws begin anew."""
        self.turns, self.last = [], None
        self._choose = Chooser(self._sampling, 1)

    def _with_system(self, turns):
        return turns if self.system is None else [{"role": "system", "content": self.system}, *turns]

    def _answer(self, n_kept, limit):
        logits = self.model.prefill([self._tokens[n_kept:]], self.cache, chunk_size=CHUNK)
        for (token,) in continue_texts(
            self.model, logits, [self._tokens], self.cache, self._choose, limit, self.stop_tokens
        ):
            yield token

    def _how_it_ended(self, new, limit):
        if new and new[-1] in self.stop_tokens:
            return "stop"
        if len(new) < limit:
            return "interrupted"
        return "length" if limit == self.max_new_tokens else "context"

    def _remember(self, answer, new):
        """Add the answer to the turns. Without any token of it, the message is taken back, too."""
        if not new:
            self.turns = self.turns[:-1]
            return
        self.turns = [*self.turns, {"role": "assistant", "content": answer}]
        end = self.tokenizer.id_to_token(new[-1]) if new[-1] in self.stop_tokens else ""
        self._text += answer + (end or "")

    def _encode(self, turns):
        """The text of a conversation up to where the model answers, and its tokens.

        A text may be written with other tokens than those that the tokenizer finds. Where it begins with what was read
        and written, these tokens stand, so that they need not be read again.
        """
        text = self.template.render(self._with_system(turns))
        found = self.tokenizer.encode(text, add_special_tokens=False)
        if self._text and text.startswith(self._text):
            at, end = len(self._text), 0
            for i, (start, stop) in enumerate(found.offsets):
                if start >= at:
                    if start == at and end <= at:  # no token lies across the place
                        return text, [*self._tokens, *found.ids[i:]]
                    break
                end = stop
        return text, list(found.ids)

    def _make_room(self, turns):
        """The turns with which there is room for an answer, without the oldest ones; their text and its tokens."""
        text, tokens = self._encode(turns)
        if len(tokens) + min(self.max_new_tokens, self.max_length // 4) <= self.max_length:
            return turns, text, tokens
        while len(tokens) > self.max_length // 2 and len(turns) > 1:
            questions = (i for i, turn in enumerate(turns) if i and turn["role"] == "user")
            turns = turns[next(questions) :]
            text, tokens = self._encode(turns)
        if len(tokens) >= self.max_length:
            raise ValueError(
                f"the message does not fit into the context of {self.max_length} tokens: with what the template adds, "
                f"it has {len(tokens)}"
            )
        return turns, text, tokens

    def _keep(self, prompt):
        """Forget what the cache holds from the first token on that differs from a prompt; the tokens that stay."""
        held = self._tokens[: int(self.cache.lengths[0])]
        n_kept = next(
            (i for i, (a, b) in enumerate(zip(held, prompt, strict=False)) if a != b), min(len(held), len(prompt))
        )
        n_kept = min(n_kept, len(prompt) - 1)  # the last token must be read: its logits are asked for
        self.cache.rewind(n_kept)
        return n_kept


def ends_of_message(tokenizer: Any, template: ChatTemplate | None) -> frozenset[int]:
    """The special token that a template writes behind an answer, as a set; an empty one where there is none."""
    if template is None:
        return frozenset()
    marker = "0123456789"
    try:
        text = template.render([{"role": "user", "content": "a"}, {"role": "assistant", "content": marker}], False)
    except ValueError:  # the template has its own idea of a conversation
        return frozenset()
    tokens = tokenizer.encode(text.rpartition(marker)[2], add_special_tokens=False).ids
    return special_tokens(tokenizer).intersection(tokens[:1])
