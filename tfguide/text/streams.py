"""The text of tokens as they come.

A character may be spelled by several tokens, and how a token is spelled depends on what stands before it: so a few
tokens are spelled again and again, those that came last, and what is new of their text is passed on.

Two kinds of tokenizers spell bytes. With bytes in every token (GPT-2's kind), the end of a text may be the beginning of
a character, which is spelled as one U+FFFD until the rest is there. With single bytes where no other token fits (Llama
2's kind, "byte fallback"), a run of bytes is decoded as a whole: where one byte of it is wrong, every byte becomes
U+FFFD, also those of characters that were right. So a run has no text until it has ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

UNFINISHED = "\ufffd"
KEPT, LONGEST = 6, 16  # characters or tokens that are spelled again when one more comes: at least, and at most


def pieces(tokenizer, prompt: Sequence[int], tokens: Iterable[int]) -> Iterator[str]:
    """The text of tokens as they come: joined, the pieces are what decoding all of the tokens at once adds.

    tokenizer: a `tokenizers.Tokenizer`; special tokens have no text, as in its `decode`. prompt: what stands before.
    The text that is added is that of prompt and tokens, without what it has in common with that of the prompt: where a
    prompt ends within a character, the character is part of it. A character is held back until all of its bytes are
    there; a run of fallback bytes until it ends. At most 64 tokens are decoded at a time, however long the text is.
    """
    has_text, runs = _HasText(tokenizer), _Runs(tokenizer)
    known = [token for token in prompt if has_text(token)]
    run = runs.at_the_end(known)
    n_old = len(run)  # tokens of the run that are the prompt's
    spelling = _Spelling(tokenizer, known[: len(known) - n_old][-LONGEST:], holds_back=not runs.byte_of)
    for token in tokens:
        if token in runs.byte_of:
            run.append(token)
        elif has_text(token):
            yield from spelling.end_of_run(*runs.characters(run, n_old))
            run, n_old = [], 0
            yield from spelling.add([token])
    yield from spelling.end_of_run(*runs.characters(run, n_old))
    yield from spelling.rest()


class _HasText:
    """Whether `decode` looks at a token: not at special ones, nor at those that only the model's vocabulary has."""

    def __init__(self, tokenizer):
        self._tokenizer = tokenizer
        self._special = {token for token, added in tokenizer.get_added_tokens_decoder().items() if added.special}

    def __call__(self, token):
        return token not in self._special and self._tokenizer.id_to_token(token) is not None


class _Runs:
    """Runs of fallback bytes. `byte_of`: the byte of each such token, nothing where a tokenizer has none."""

    def __init__(self, tokenizer):
        ids = [tokenizer.token_to_id(f"<0x{byte:02X}>") for byte in range(256)]
        # A vocabulary may have the tokens and spell them as they are written: it decodes no bytes.
        decodes = any(token is not None and tokenizer.decode([token]) == UNFINISHED for token in ids[128:])
        self.byte_of = {token: byte for byte, token in enumerate(ids) if decodes and token is not None}

    def at_the_end(self, tokens):
        """The run that tokens end in."""
        first = len(tokens)
        while first and tokens[first - 1] in self.byte_of:
            first -= 1
        return tokens[first:]

    def characters(self, run, n_old):
        """A run that has ended, as groups of tokens with one character each: those that its first tokens have, the new.

        Where a byte is wrong, the groups are tokens of one byte that is wrong by itself, so that they may be decoded
        apart from each other.
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
        """Keep fewer groups, from a place where what follows the first of them is spelled as it was.

        So no character is cut. The first may be spelled otherwise: without its space, or as the rest of a word.
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
    """With how many equal characters two texts begin."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
