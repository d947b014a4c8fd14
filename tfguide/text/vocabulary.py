"""A tokenizer from the metadata of a GGUF file (`tokenizer.ggml.*`), as llama.cpp reads it.

Source: `llama_vocab::impl::load` and the tokenizers of llama.cpp (src/llama-vocab.cpp).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tfguide.checks.values import nearest
from tfguide.text.packages import import_tokenizers
from tfguide.text.splits import BEGINS, GPT2, SPLITS, WHOLE_WORDS

SPACE = "\u2581"  # how SentencePiece writes a space
MODELS = {"gpt2": "byte-level BPE", "llama": "SentencePiece BPE", "bert": "WordPiece"}
UNKNOWN, CONTROL, USER_DEFINED = 2, 3, 4  # entries of `tokenizer.ggml.token_type`; 1 is an ordinary token

# The ids of special tokens where a file names none.
_DEFAULTS = {
    "gpt2": {},
    "llama": {"unknown": 0, "bos": 1, "eos": 2},
    "bert": {"padding": 0, "unknown": 100, "bos": 101, "seperator": 102, "mask": 103},
}


def tokenizer_from_metadata(metadata: Mapping[str, Any]):
    """The `tokenizers.Tokenizer` that the metadata of a GGUF file describes.

    `tokenizer.ggml.model` names one of three kinds: gpt2 (byte-level BPE; `tokenizer.ggml.pre` names how a text is cut
    into words, see `tfguide.text.splits`), llama (SentencePiece BPE with byte fallback) or bert (WordPiece). Tokens of
    the types control and unknown are special; those and tokens of the type user-defined are never cut. `encode` adds
    the first and the last token that llama.cpp adds.

    Raises ImportError where the package `tokenizers` is not installed; ValueError for another kind or another way to
    cut, and for a list that is missing or has another length.
    """
    kind = metadata.get("tokenizer.ggml.model")
    if kind not in MODELS:
        raise ValueError(f"tokenizer.ggml.model is {kind!r}, supported are {_listed(MODELS)}")
    tokens = _list(metadata, "tokens")
    types = _list(metadata, "token_type", len(tokens)) if "tokenizer.ggml.token_type" in metadata else []
    build = {"gpt2": _byte_level, "llama": _sentence_piece, "bert": _word_piece}[kind]
    tokenizer = build(metadata, tokens)
    _add_tokens(tokenizer, tokens, types)
    processor = _first_and_last(metadata, kind, tokens)
    if processor is not None:
        tokenizer.post_processor = processor
    return tokenizer


def special_token(metadata: Mapping[str, Any], name: str) -> str | None:
    """The text of a special token, None where the file has none.

    name: as the format has it: "bos", "eos", "unknown", "seperator", "padding" or "mask". Raises ValueError for an id
    outside the vocabulary.
    """
    tokens = _list(metadata, "tokens")
    key = f"tokenizer.ggml.{name}_token_id"
    at = metadata.get(key)
    if at is None:
        at = _DEFAULTS.get(metadata.get("tokenizer.ggml.model"), {}).get(name)
        return tokens[at] if at is not None and at < len(tokens) else None
    if not 0 <= at < len(tokens):
        raise ValueError(f"{key} must be below {len(tokens)}, the number of tokens, got {at}")
    return tokens[at]


def _byte_level(metadata, tokens):
    tokenizers = import_tokenizers()
    way = metadata.get("tokenizer.ggml.pre", "default")
    if way not in SPLITS:
        known = ", ".join(sorted(SPLITS))
        raise ValueError(f"tokenizer.ggml.pre is {way!r}, supported are {known}{nearest(str(way), SPLITS)}")
    merges = [tuple(merge.split(" ")) for merge in _list(metadata, "merges")]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    try:
        model = tokenizers.models.BPE(vocabulary, merges, ignore_merges=way in WHOLE_WORDS)
    except Exception as error:  # tokenizers raises Exception itself
        raise ValueError(f"tokenizer.ggml.merges does not fit tokenizer.ggml.tokens: {error}") from error
    tokenizer = tokenizers.Tokenizer(model)
    pre, cuts = tokenizers.pre_tokenizers, SPLITS[way]
    built_in = cuts[-1] == GPT2  # ByteLevel cuts by this expression itself, and faster
    separate = [pre.Split(tokenizers.Regex(cut), "isolated") for cut in (cuts[:-1] if built_in else cuts)]
    tokenizer.pre_tokenizer = pre.Sequence([*separate, pre.ByteLevel(add_prefix_space=False, use_regex=built_in)])
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    return tokenizer


def _sentence_piece(metadata, tokens):
    tokenizers = import_tokenizers()
    vocabulary = {token: i for i, token in enumerate(tokens)}
    merges = _pairs(vocabulary, _list(metadata, "scores", len(tokens)))
    unknown = special_token(metadata, "unknown")
    tokenizer = tokenizers.Tokenizer(
        tokenizers.models.BPE(vocabulary, merges, unk_token=unknown, fuse_unk=True, byte_fallback=True)
    )
    normalizers, decoders = tokenizers.normalizers, tokenizers.decoders
    spaces = normalizers.Replace(" ", SPACE)
    after = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    if metadata.get("tokenizer.ggml.add_space_prefix", True):
        # Every part of a text between special tokens gets a space before it, as in llama.cpp.
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), spaces])
        after.append(decoders.Strip(" ", 1, 0))
    else:
        tokenizer.normalizer = spaces
    tokenizer.decoder = decoders.Sequence(after)
    return tokenizer


def _pairs(vocabulary, scores):
    """The pairs of tokens that make a token, best score first: the order in which SentencePiece merges."""
    found = []
    for token, i in vocabulary.items():
        for cut in range(1, len(token)):
            left, right = token[:cut], token[cut:]
            if left in vocabulary and right in vocabulary:
                found.append((-scores[i], i, cut, left, right))
    return [(left, right) for *_, left, right in sorted(found)]


def _word_piece(metadata, tokens):
    tokenizers = import_tokenizers()
    unknown = special_token(metadata, "unknown")
    # The file marks the tokens that begin a word; WordPiece marks those that continue one, with "##".
    special = {special_token(metadata, name) for name in ("unknown", "bos", "seperator", "padding", "mask")}
    spelled = {_as_word_piece(token, special): i for i, token in enumerate(tokens)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordPiece(spelled, unk_token=unknown))
    lowercase = metadata.get("tokenizer.ggml.normalizer.lowercase", True)
    accents = metadata.get("tokenizer.ggml.normalizer.strip_accents", lowercase)
    tokenizer.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=lowercase, strip_accents=accents)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = tokenizers.decoders.WordPiece()
    return tokenizer


def _as_word_piece(token, special):
    if token in special or (token.startswith("[") and token.endswith("]")):
        return token
    return token.removeprefix(SPACE) if token.startswith(SPACE) else f"##{token}"


def _add_tokens(tokenizer, tokens, types):
    """Add the tokens that are never cut. What the vocabulary does not have is left out: it would get a new id."""
    AddedToken = import_tokenizers().AddedToken
    tokenizer.add_tokens([
        AddedToken(token, special=kind != USER_DEFINED, normalized=False)
        for token, kind in zip(tokens, types, strict=False)
        if kind in (UNKNOWN, CONTROL, USER_DEFINED) and tokenizer.token_to_id(token) is not None
    ])  # fmt: skip


def _first_and_last(metadata, kind, tokens):
    """What adds the first and the last token of a text; None where it gets neither."""
    begins = kind != "gpt2" or metadata.get("tokenizer.ggml.pre") in BEGINS
    first = special_token(metadata, "bos") if metadata.get("tokenizer.ggml.add_bos_token", begins) else None
    if kind == "bert":
        last = special_token(metadata, "seperator") if metadata.get("tokenizer.ggml.add_sep_token", True) else None
    else:
        last = special_token(metadata, "eos") if metadata.get("tokenizer.ggml.add_eos_token", False) else None
    added = {token: tokens.index(token) for token in (first, last) if token is not None}
    if not added:
        return None
    places = [part for part in (first, "$A", last) if part is not None]
    return import_tokenizers().processors.TemplateProcessing(single=places, special_tokens=list(added.items()))


def _list(metadata, name, length=None):
    key = f"tokenizer.ggml.{name}"
    found = metadata.get(key)
    if not isinstance(found, Sequence) or isinstance(found, str) or len(found) == 0:
        raise ValueError(f"{key} must be a list, got {'nothing' if found is None else repr(found)[:60]}")
    if length is not None and len(found) != length:
        raise ValueError(f"{key} must have an entry for each of the {length} tokens, got {len(found)}")
    return found


def _listed(names):
    return ", ".join(f"{name} ({about})" for name, about in names.items())
