"""How byte-level tokenizers cut a text into words before they merge bytes: the rules that a GGUF file names.

Source: `llm_tokenizer_bpe` and `unicode_regex_split` of llama.cpp (src/llama-vocab.cpp, src/unicode.cpp). A rule is a
list of regular expressions. Each one cuts the pieces that the ones before it have left: into its matches, and what lies
between them. Where llama.cpp rewrites an expression for its own matcher, the original of the model's tokenizer.json,
which stands beside it there as a comment, is used.
"""

from __future__ import annotations

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_CONTRACTED = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_LLAMA3 = rf"{_CONTRACTED}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_SPACES}"
_QWEN2 = rf"{_CONTRACTED}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_SPACES}"
_QWEN35 = (
    rf"{_CONTRACTED}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{_SPACES}"
)
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_FIRST = r"[^\r\n\p{L}\p{N}]?"
_TEKKEN = rf"{_FIRST}{_UPPER}*{_LOWER}+|{_FIRST}{_UPPER}+{_LOWER}*|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_SPACES}"
_GPT4O = (
    rf"{_FIRST}{_UPPER}*{_LOWER}+{_CONTRACTED}?|{_FIRST}{_UPPER}+{_LOWER}*{_CONTRACTED}?"
    rf"|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_SPACES}"
)
_DEEPSEEK3 = (
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|"""
    + _SPACES
)

_LLAMA3_NAMES = "llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2"

# The values of `tokenizer.ggml.pre` that mean the same, and the regular expressions.
_RULES = (
    ("gpt-2 phi-2 mpt olmo jais trillion granite-docling exaone4 mellum a.x-4.0 gigachat", [GPT2]),
    ("smollm starcoder refact command-r codeshell exaone minerva-7b mellum2", [r"\p{N}", GPT2]),
    (f"{_LLAMA3_NAMES} dbrx smaug-bpe glm4 chatglm-bpe", [_LLAMA3]),
    ("qwen2 deepseek-r1-qwen kormo f2llmv2 megrez stablelm2 hunyuan", [_QWEN2]),
    ("qwen35", [_QWEN35]),
    ("tekken", [_TEKKEN]),
    ("gpt-4o llama4 kanana2", [_GPT4O]),
    ("deepseek-v3 hunyuan-dense", [r"\p{N}{1,3}", "[一-龥\u3040-ゟ゠-ヿ]+", _DEEPSEEK3]),
    ("falcon", [r"[\p{P}\$\+<=>\^~\|`]+", GPT2, "[0-9][0-9][0-9]"]),
    ("default", [r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"]),
)

#: The regular expressions by each value of `tokenizer.ggml.pre`.
SPLITS: dict[str, list[str]] = {name: rule for names, rule in _RULES for name in names.split()}

#: Where a word that is a token is taken whole, whether or not merges make it.
WHOLE_WORDS = frozenset(f"{_LLAMA3_NAMES} glm4 tekken".split())

#: Where a text begins with the token `bos`, if the file does not say otherwise.
BEGINS = frozenset(f"{_LLAMA3_NAMES} tekken".split())
