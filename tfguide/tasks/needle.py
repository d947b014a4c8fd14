"""A fact in a long text: sentences that nobody can guess, planted in the documentation of Python, and asked for.

A question is the beginning of a sentence of the text, and the answer is how that went on. Source: Kamradt 2023, who
plants one sentence at a time; here several stand in one text, so that one reading of it answers for all depths.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tfguide.checks.values import check_count
from tfguide.tasks.text import topics

# How a sentence begins, which is the question, and the word that ends it.
FACTS = (
    ("The password of the laboratory is", "maple"),
    ("The name of the captain's dog is", "Oscar"),
    ("The secret city of the two spies is", "Lisbon"),
    ("The lucky number of the librarian is", "73"),
    ("The favourite fruit of the engineer is", "papaya"),
)  # fmt: skip
_LETTERS = 16  # of the documentation for each token: more than enough, a token has four on average


@dataclass(frozen=True)
class Planted:
    """A text with facts in it, and what is asked about them, from the first fact in the text to the last.

    tokens: the text; depths: where each fact begins, as a share of the way to the last one, 0 to 1; distances: tokens
    between the beginning of each fact and the end of the text; questions: tokens that are read after the text; answers.
    """

    tokens: list[int]
    depths: tuple[float, ...]
    distances: tuple[int, ...]
    questions: tuple[list[int], ...]
    answers: tuple[str, ...]


def plant(tokenizer: Any, length: int, order: int = 0, text: str | None = None) -> Planted:
    """A text of `length` tokens that begins with a fact, ends with one, and has the others at equal distances between.

    order: which fact comes first; over all orders each fact has stood at each depth. text: what they are planted in;
    default: the topics of Python's `help()`. Raises ValueError where the facts or the text are too short or too long.
    """
    length, order = check_count("length", length), check_count("order", order, least=0) % len(FACTS)
    facts = FACTS[order:] + FACTS[:order]
    sentences = [tokenizer.encode(f"\n\n{begin} {end}.\n\n").ids for begin, end in facts]
    hay = tokenizer.encode((topics() if text is None else text)[: _LETTERS * length]).ids
    room = length - sum(map(len, sentences))
    if not len(facts) <= room <= len(hay):
        raise ValueError(f"expected room for {len(facts)} to {len(hay)} tokens beside the facts, got {room}")
    hay, gaps = hay[:room], len(facts) - 1
    tokens, starts = [], []
    for k, sentence in enumerate(sentences):
        starts.append(len(tokens))
        tokens += sentence + hay[room * k // gaps : room * (k + 1) // gaps]  # nothing follows the last one
    return Planted(
        tokens,
        tuple(k / gaps for k in range(len(facts))),
        tuple(length - start for start in starts),
        tuple(tokenizer.encode(f"\n\n{begin}").ids for begin, _ in facts),
        tuple(end for _, end in facts),
    )


def is_found(written: str, answer: str) -> bool:
    """Whether what a model wrote begins with the answer.

    >>> is_found(" maple.", "maple"), is_found(" a maple", "maple")
    (True, False)
    """
    return written.strip().startswith(answer)
