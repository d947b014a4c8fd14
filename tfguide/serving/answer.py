"""The text of a sequence, as its tokens come."""

from __future__ import annotations

from collections.abc import Sequence as Strings
from dataclasses import dataclass, field
from typing import Any

from tfguide.serving.engine import Update
from tfguide.serving.request import Finish, Likely, Sequence
from tfguide.text.stops import StopStrings
from tfguide.text.streams import TextStream


@dataclass(frozen=True)
class Piece:
    """What an update adds to the text of an answer: `text` may be empty. token: None if the sequence ended without."""

    text: str
    token: int | None
    likely: Likely | None
    finish: Finish | None


@dataclass(eq=False)
class Answer:
    """The text of one sequence: `take` each of its updates, and `abort` the sequence in the engine where it says so.

    tokenizer: a `tokenizers.Tokenizer`. stop: strings at the first of which the text ends; it is not part of the text.
    `text`: so far. `finish`: None until the end. `n_tokens`: the tokens that were produced up to it. `found`: the stop
    string that ended the text.
    """

    tokenizer: Any
    sequence: Sequence
    stop: Strings[str] = ()
    text: str = field(init=False, default="")
    finish: Finish | None = field(init=False, default=None)
    n_tokens: int = field(init=False, default=0)

    def __post_init__(self):
        self._stream = TextStream(self.tokenizer, self.sequence.request.prompt)
        self._stops = StopStrings(self.stop)

    @property
    def found(self) -> str | None:
        """The stop string that ended the text, or None."""
        return self._stops.found

    @property
    def is_cut(self) -> bool:
        """Whether a stop string ended the text while its sequence goes on: the engine is to end it."""
        return self.found is not None and self.sequence.finish is None

    def take(self, update: Update) -> Piece | None:
        """What an update of the sequence adds; None after the end: more tokens of a sequence that was cut."""
        if self.finish is not None:
            return None
        text = ""
        if update.token is not None:
            self.n_tokens += 1
            text = self._stops.add(self._stream.add(update.token))
        if update.finish is not None:
            text += self._stops.add(self._stream.end())
            text += self._stops.end()
        self.finish = Finish.STOP if self.found is not None else update.finish
        self.text += text
        return Piece(text, update.token, update.likely, self.finish)
