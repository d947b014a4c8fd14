"""What each token of a vocabulary writes by itself: its text, and its bytes where they are no whole character."""

from __future__ import annotations

from typing import Any

from tfguide.text.streams import UNFINISHED, special_tokens


class Spelling:
    """The text and the bytes of single tokens; each is found once.

    tokenizer: a `tokenizers.Tokenizer`. A text need not be the texts of its tokens joined, but mostly is: a token that
    begins with a space keeps it, also where the tokenizer drops the space at the beginning of a text.
    """

    def __init__(self, tokenizer: Any):
        self._tokenizer = tokenizer
        self._special = special_tokens(tokenizer)
        self._known: dict[int, tuple[str, bytes]] = {}

    def is_special(self, token: int) -> bool:
        """Whether a token has no text in what is decoded."""
        return token in self._special

    def __call__(self, token: int) -> tuple[str, bytes]:
        """The text of a token, with U+FFFD for bytes that are no characters, and its bytes."""
        if token not in self._known:
            text = self._decode([token, token])[len(self._decode([token])) :]
            self._known[token] = text, self._bytes(token, text)
        return self._known[token]

    def _decode(self, tokens):
        return self._tokenizer.decode(tokens, skip_special_tokens=False)

    def _bytes(self, token, text):
        if UNFINISHED not in text:
            return text.encode()
        name = self._tokenizer.id_to_token(token)
        if name.startswith("<0x") and name.endswith(">"):
            return bytes([int(name[3:-1], 16)])
        if all(letter in _BYTES for letter in name):
            return bytes(_BYTES[letter] for letter in name)
        return text.encode()


def _byte_letters():
    """The letters with which a byte-level vocabulary writes bytes, as GPT-2 chose them."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = (byte for byte in range(256) if byte not in printable)
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


_BYTES = _byte_letters()
