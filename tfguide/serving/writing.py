"""From the pieces of a job to the objects that a client gets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from tfguide.serving.answer import Piece
from tfguide.serving.jobs import Choice, Job
from tfguide.serving.replies import Entry, Offsets, Reply, ended
from tfguide.serving.request import Finish
from tfguide.text.spelling import Spelling


class Writer:
    """Writes the answer to a job, as a whole or in chunks."""

    def __init__(self, job: Job, reply: Reply, spelling: Spelling):
        self._job, self._order, self._reply, self._spelling = job, job.order, reply, spelling
        self._offsets: dict[Choice, Offsets] = {}  # of the choices that have begun

    async def whole(self) -> dict[str, Any]:
        """The whole answer, when it is there. Raises ApiError as `Job.pieces`."""
        pieces: dict[Choice, list[Piece]] = {choice: [] for choice in self._job.choices}
        while not self._job.is_done:
            for choice, piece in await self._job.pieces():
                pieces[choice].append(piece)
        choices = []
        for choice, own in pieces.items():
            text, logprobs = self._show(choice, own, is_first=True)
            choices.append(ended(self._reply.shape.choice(text, logprobs), choice.index, self._finish(own[-1])))
        return self._reply.whole(choices, self._job.usage)

    def chunks(self, pieces: Iterable[tuple[Choice, Piece]]) -> Iterable[dict[str, Any]]:
        """The chunks for some pieces: none for one without text, unless it ends the choice or has log probabilities."""
        for choice, piece in pieces:
            if piece.text or piece.finish is not None or (self._order.logprobs and piece.token is not None):
                is_first = choice not in self._offsets
                text, logprobs = self._show(choice, [piece], is_first)
                part = self._reply.shape.piece(text, logprobs, is_first)
                yield self._reply.chunk([ended(part, choice.index, self._finish(piece))])

    def last(self) -> dict[str, Any]:
        """The chunk at the end of a stream that has no choice, but the usage."""
        return self._reply.chunk([], self._job.usage)

    def _show(self, choice: Choice, pieces: Sequence[Piece], is_first: bool) -> tuple[str, dict[str, Any] | None]:
        """The text of pieces and their log probabilities, behind the prompt where that is wanted."""
        order, entries = self._order, []
        text = "" if order.only_echo else "".join(piece.text for piece in pieces)
        if is_first and order.echoes is not None:
            text = order.echoes[choice.index // order.requests[0].n] + text
            entries += choice.prompt_likely if order.logprobs else []
        if not order.only_echo:
            entries += [(piece.token, piece.likely) for piece in pieces if piece.token is not None]
        offsets = self._offsets.setdefault(choice, Offsets(self._spelling))
        return text, self._logprobs(entries, offsets) if order.logprobs else None

    def _logprobs(self, entries: Sequence[Entry], offsets: Offsets) -> dict[str, Any]:
        return self._reply.shape.logprobs(self._spelling, entries, offsets)

    def _finish(self, piece: Piece) -> Finish | None:
        return Finish.LENGTH if self._order.only_echo and piece.finish is not None else piece.finish
