"""The text of tokens as they come.

A character may need several tokens, and the text of a token depends on the tokens before it. So the last few tokens
are decoded again with each new one, and only the new part of their text is passed on.

Two kinds of tokenizers have tokens for bytes. Byte-level tokenizers (GPT-2) have bytes in every token: a text may end
within a character, which decodes to one U+FFFD until its last byte is there. Tokenizers with byte fallback (Llama 2)
use single bytes where no other token fits and decode a run of bytes as a whole: one invalid byte turns every byte of
the run into U+FFFD, also the bytes of valid characters. So a run has no text until it has ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

UNFINISHED = "\ufffd"
KEPT, LONGEST = 6, 16  # groups of tokens that are decoded again with a new one: at least, and at most


def pieces(tokenizer, prompt: Sequence[int], tokens: Iterable[int]) -> Iterator[str]:
    """The text of tokens as they come: the pieces joined are the text that decoding all tokens at once adds.

    tokenizer: a `tokenizers.Tokenizer`; special tokens have no text, as in its `decode`. prompt: the tokens before.
    The added text is that of prompt and tokens without the beginning that it shares with the text of the prompt. Where
    a prompt ends within a character, the character belongs to the added text. A character is held back until all of its
    bytes are there, a run of fallback bytes until it ends. At most 64 tokens are decoded at a time.
    """
    text = TextStream(tokenizer, prompt)
    for token in tokens:
        piece = text.add(token)
        if piece:
            yield piece
    rest = text.end()
    if rest:
        yield rest


class TextStream:
    """The text of tokens that come one by one: what `pieces` yields, where the tokens are pushed and not pulled."""

    def __init__(self, tokenizer, prompt: Sequence[int] = ()):
        self._has_text, self._runs = _HasText(tokenizer), _Runs(tokenizer)
        known = [token for token in prompt if self._has_text(token)]
        self._run = self._runs.at_the_end(known)
        self._n_old = len(self._run)  # tokens of the run that belong to the prompt
        before = known[: len(known) - self._n_old][-LONGEST:]
        self._spelling = _Spelling(tokenizer, before, holds_back=not self._runs.byte_of)

    def add(self, token: int) -> str:
        """What a token adds to the text: nothing, as long as a character lacks bytes."""
        if token in self._runs.byte_of:
            self._run.append(token)
            return ""
        if not self._has_text(token):
            return ""
        return "".join([*self._end_of_run(), *self._spelling.add([token])])

    def end(self) -> str:
        """What was held back, once there are no more tokens."""
        return "".join([*self._end_of_run(), *self._spelling.rest()])

    def _end_of_run(self):
        run, n_old, self._run, self._n_old = self._run, self._n_old, [], 0
        return self._spelling.end_of_run(*self._runs.characters(run, n_old))


def special_tokens(tokenizer) -> frozenset[int]:
    """The tokens of a tokenizer that have no text in what it decodes."""
    return frozenset(token for token, added in tokenizer.get_added_tokens_decoder().items() if added.special)


class _HasText:
    """Whether a token has text: special tokens have none, nor have tokens outside the tokenizer's vocabulary."""

    def __init__(self, tokenizer):
        self._tokenizer = tokenizer
        self._special = special_tokens(tokenizer)

    def __call__(self, token):
        return token not in self._special and self._tokenizer.id_to_token(token) is not None


class _Runs:
    """Runs of fallback bytes. `byte_of`: the byte of each such token; empty for a tokenizer without them."""

    def __init__(self, tokenizer):
        ids = [tokenizer.token_to_id(f"<0x{byte:02X}>") for byte in range(256)]
        # A vocabulary may hold these tokens and decode them as they are written, not to bytes.
        decodes = any(token is not None and tokenizer.decode([token]) == UNFINISHED for token in ids[128:])
        self.byte_of = {token: byte for byte, token in enumerate(ids) if decodes and token is not None}

    def at_the_end(self, tokens):
        """The run at the end of some tokens."""
        first = len(tokens)
        while first and tokens[first - 1] in self.byte_of:
            first -= 1
        return tokens[first:]

    def characters(self, run, n_old):
        """A run that has ended, as groups of tokens with one character each: those of its first `n_old`, and the rest.

        In a run with an invalid byte, each group is one token of a byte that is invalid by itself, so that the groups
        can be decoded separately.
        """
        groups, text = self._groups(run)
        n = _n_common(self._groups(run[:n_old])[1], text)
        return groups[:n], groups[n:]

    def _groups(self, run):
        try:
            text = bytes(self.byte_of[token] for token in run).decode("utf-8")
        except UnicodeDecodeError:
            wrong = next(token for token in run if self.byte_of[token] > 127)
            return [[wrong]] * len(run), UNFINISHED * len(run)
        groups, at = [], 0
        for character in text:
            n = len(character.encode("utf-8"))
            groups.append(run[at : at + n])
            at += n
        return groups, text


class _Spelling:
    """The last tokens, their text, and how much of it has been passed on.

    Tokens are kept in groups that have a text of their own: the bytes of a fallback character, or one token.
    """

    def __init__(self, tokenizer, tokens, holds_back):
        self._tokenizer = tokenizer
        self._holds_back = holds_back  # the last U+FFFD may still become a character
        self._groups = [[token] for token in tokens]
        self._text = self._decode(self._groups)
        self._shown = self._settled()
        self._given = self._text if holds_back else ""  # the prompt's text, until there is more

    def add(self, group):
        """What a group of tokens adds to the text, if anything."""
        self._groups.append(group)
        self._text = self._decode(self._groups)
        yield from self._new(self._settled())
        self._forget()

    def end_of_run(self, old, new):
        """What the groups of a run add: those that the prompt has, nothing."""
        if old:
            self._groups += old[-KEPT:]
            self._shown = self._text = self._decode(self._groups)
            self._forget()
        for group in new:
            yield from self.add(group)

    def rest(self):
        """What was held back, at the end."""
        yield from self._new(self._text)

    def _decode(self, groups):
        return self._tokenizer.decode([token for group in groups for token in group])

    def _settled(self):
        return self._text[:-1] if self._holds_back and self._text.endswith(UNFINISHED) else self._text

    def _new(self, settled):
        shown = settled[: _n_common(self._given, settled)] if self._given else self._shown
        if len(settled) > len(shown) and settled.startswith(shown):
            yield settled[len(shown) :]
            self._given = ""
        self._shown = settled

    def _forget(self):
        """Drop the first groups, up to a group behind which the text stays the same.

        So no character is cut. The text of that group itself may change: to no space, or to the rest of a word.
        """
        if len(self._groups) <= LONGEST or self._given:
            return
        held = len(self._text) - len(self._shown)
        for first in range(len(self._groups) - KEPT, 0, -1):
            kept = self._groups[first:]
            text, alone = self._decode(kept), self._decode(kept[:1])
            rest = text[len(alone) :]
            if text.startswith(alone) and len(rest) > held and self._text.endswith(rest):
                self._groups, self._text, self._shown = kept, text, text[: len(text) - held]
                return


def _n_common(a, b):
    """The number of characters with which both texts begin."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
