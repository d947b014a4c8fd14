"""Vocabularies and texts for tests, and the metadata of a GGUF file as llama.cpp's converter writes it."""

import random

import gguf

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
# What some way to cut takes for one word and another way for two: digits, case, marks, apostrophes, spaces, scripts.
WORDS = [
    "12", "345", "6789", " 34", "1 2", "²½", "٣٤", "6,7", "isn't", "we'll", "'LL", "WE'", "HTTPServer", "camelCase",
    "xY", "e\u0301", "\u0301a", "a\u0301b", "dog.", ". It", " (x", "x+1", " != ", "!=\n", "/\n", "//\n", "\n\n",
    "\r\n", "\n  ", "    ", "  x", "\tx", "\u00a0x", "\u3000世界", "你好，世", "ひらが", "漢字か", " 한국어", "Привет",
    "Straße", "$5", "^^", "`a", "~~", "<=", "+=", "😀", "👩\u200d👩\u200d👧", "don", " the", "The", "Deich", " quick",
]  # fmt: skip
PARTS = [
    *WORDS, *SPECIAL, " ", "  ", "\n", "\t", "\u200b", "\ufeff", "0", "1234567", "'s", "<|im", "|>", "\x00", "Zwölf",
    "def f(x):",
]  # fmt: skip


def awkward_texts(n, seed=0):
    """Texts of whitespace runs, digits, code, scripts, emoji and special tokens, in random order."""
    draw = random.Random(seed)
    mixed = ["".join(draw.choice(PARTS) for _ in range(draw.randint(1, 16))) for _ in range(n // 2)]
    ranges = [(32, 127), (160, 0x2000), (0x3040, 0x30FF), (0x1F300, 0x1F700)]
    return mixed + [
        "".join(chr(draw.randrange(*draw.choice(ranges))) for _ in range(draw.randint(1, 24)))
        for _ in range(n - n // 2)
    ]


def byte_level(pre, **more):
    """The metadata of a byte-level tokenizer that cuts as `pre` says, with merges that make each of WORDS one token."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = {byte: chr(byte) for byte in printable}
    letters |= {byte: chr(256 + i) for i, byte in enumerate(sorted(set(range(256)) - set(printable)))}
    tokens, merges = [*SPECIAL, *letters.values()], []
    for word in WORDS:
        spelled = [letters[byte] for byte in word.encode()]
        for n in range(1, len(spelled)):
            left, right = "".join(spelled[:n]), spelled[n]
            if left + right not in tokens:
                tokens.append(left + right)
                merges.append(f"{left} {right}")
    types = [3 if token in SPECIAL else 1 for token in tokens]
    found = {
        "model": "gpt2", "pre": pre, "tokens": tokens, "token_type": types, "merges": merges, "bos_token_id": 0,
        "eos_token_id": 2, "add_bos_token": False,
    }  # fmt: skip
    return {f"tokenizer.ggml.{key}": value for key, value in found.items()} | more


def write(path, metadata):
    """A GGUF file that has this metadata and no tensors."""
    writer = gguf.GGUFWriter(path, "llama")
    add_metadata(writer, metadata)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return path


def add_metadata(writer, metadata):
    """Add metadata of the types that a tokenizer has."""
    for key, value in metadata.items():
        if isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
        elif isinstance(value, list):
            writer.add_array(key, value)
        else:
            writer.add_uint32(key, value)
