"""Stop strings: text is passed on as it comes, up to the first of some strings, of which nothing is shown."""

from __future__ import annotations

from collections.abc import Sequence


class StopStrings:
    """Cuts a text that comes in pieces before the first stop string that is complete in it.

    What may be the beginning of a stop string is held back until it is known. Where the text is cut does not depend on
    how it is divided: of several stop strings that one counts which is complete first, and the longest of these.
    Raises TypeError for one that is no string, ValueError for an empty one.

    >>> text = StopStrings(["END"])
    >>> [text.add(piece) for piece in ("one E", "mu, two EN", "D three")], text.found
    (['one ', 'Emu, two ', ''], 'END')
    """

    def __init__(self, stops: Sequence[str] = ()):
        for stop in stops:
            if not isinstance(stop, str):
                raise TypeError(f"a stop string must be a string, got {stop!r}")
            if not stop:
                raise ValueError("a stop string must have a character, got an empty one")
        self.stops, self.found = tuple(stops), None
        self._held = ""

    def add(self, piece: str) -> str:
        """What can be passed on after one more piece: nothing, once a stop string was found."""
        if self.found is not None:
            return ""
        if not self.stops:
            return piece
        text = self._held + piece
        complete = [(start + len(stop), start, stop) for stop in self.stops if (start := text.find(stop)) >= 0]
        if complete:
            _, start, self.found = min(complete)
            self._held = ""
            return text[:start]
        kept = max(self._beginning(text, stop) for stop in self.stops)
        self._held = text[len(text) - kept :]
        return text[: len(text) - kept]

    def end(self) -> str:
        """What was held back, once there is no more text: nothing, if a stop string was found."""
        held, self._held = self._held, ""
        return held

    @staticmethod
    def _beginning(text, stop):
        """The length of the longest beginning of a stop string with which the text ends."""
        return next((n for n in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:n])), 0)
