"""llama.cpp as a contestant, through the plain C calls of llama-cpp-python, which add no time of their own.

The environment variable TFGUIDE_LLAMA_CPP names a folder with another installation of it, such as one that was built
for fewer instructions (`pip install --target FOLDER llama-cpp-python`).
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Collection
from importlib import import_module
from importlib.machinery import PathFinder
from types import ModuleType

import numpy as np

from tfguide.bench.gguf_file import write_gguf
from tfguide.native import cores

FOLDER = "TFGUIDE_LLAMA_CPP"
# The highest first: (llama.cpp's name, ours, what may come with it).
_LEVELS = (
    ("AVX512", "AVX-512", {"AVX512_VNNI": "VNNI", "AVX512_BF16": "BF16"}),
    ("AVX2", "AVX2", {"AVX_VNNI": "VNNI"}),
    ("NEON", "NEON", {"DOTPROD": "dot products", "MATMUL_INT8": "products of 8-bit matrices"}),
)


def has_llama_cpp() -> bool:
    """Whether llama-cpp-python can be imported: from the folder that TFGUIDE_LLAMA_CPP names, default: as installed."""
    folder = os.environ.get(FOLDER)
    return PathFinder.find_spec("llama_cpp", [folder] if folder else None) is not None


def load_llama_cpp() -> ModuleType:
    """llama-cpp-python. Raises ImportError where it is missing, or was imported before from another folder."""
    folder = os.environ.get(FOLDER)
    if not folder:
        return import_module("llama_cpp")
    folder = os.path.abspath(folder)
    sys.path.insert(0, folder)
    try:
        module = import_module("llama_cpp")
    finally:
        sys.path.remove(folder)
    if not os.path.abspath(module.__file__).startswith(folder + os.sep):
        raise ImportError(f"{FOLDER} names {folder}, but llama_cpp was imported from {module.__file__}")
    return module


def describe_llama_cpp() -> dict[str, str]:
    """The version of llama-cpp-python, the instructions that it was built for, and their level, such as "AVX2"."""
    lib = load_llama_cpp()
    flags = lib.llama_print_system_info().decode().split("CPU :")[-1].split("|")
    named = [name.strip() for name, _, value in (flag.partition("=") for flag in flags) if value.strip() == "1"]
    return {"version": lib.__version__, "built_for": " ".join(named), "level": level_of(named)}


def level_of(instructions: Collection[str]) -> str:
    """The level of llama.cpp's names of instructions, in the words of `tfguide.native`; empty for no known one.

    >>> level_of(["AVX2", "AVX512", "AVX512_VNNI"])
    'AVX-512 with VNNI'
    """
    for base, name, extras in _LEVELS:
        if base in instructions:
            found = [words for flag, words in extras.items() if flag in instructions]
            return name + (f" with {' and '.join(found)}" if found else "")
    return ""


def find_gguf(folder: str, dtype: str) -> str:
    """The GGUF file of a checkpoint folder in one type of weights; it is written beside the checkpoint once."""
    file = os.path.join(folder, f"{dtype}.gguf")
    if not os.path.exists(file):
        write_gguf(folder, file, dtype)
    check_survives(file)
    return file


class LlamaCpp:
    """One text: llama.cpp reads a prompt (1, T) with the weights of a GGUF file, and continues it greedily."""

    def __init__(self, file: str, prompt: np.ndarray, n_new: int):
        self.name, self.lib = "llama.cpp", load_llama_cpp()
        self.llm = self.lib.Llama(
            file, n_ctx=prompt.shape[1] + n_new + 1, n_batch=2048, n_ubatch=512, n_threads=cores(),
            n_threads_batch=cores(), verbose=False,
        )  # fmt: skip
        self.context, self.vocab = self.llm.ctx, self.llm.n_vocab()
        self.prompt = prompt[0].tolist()

    def run(self, n: int) -> list[int]:
        self.lib.llama_memory_clear(self.lib.llama_get_memory(self.context), True)
        tokens, last = [], self.prompt
        while True:
            tokens.append(int(np.argmax(self._read(last))))
            if len(tokens) == n:
                return tokens
            last = tokens[-1:]

    def logits(self) -> np.ndarray:
        self.lib.llama_memory_clear(self.lib.llama_get_memory(self.context), True)
        return self._read(self.prompt).copy()

    def _read(self, tokens):
        array = (self.lib.llama_token * len(tokens))(*tokens)
        if self.lib.llama_decode(self.context, self.lib.llama_batch_get_one(array, len(tokens))):
            raise RuntimeError("llama.cpp could not read the tokens")
        return np.ctypeslib.as_array(self.lib.llama_get_logits_ith(self.context, -1), (self.vocab,))


class LlamaModel:
    """The weights of a GGUF file, which several contexts share."""

    def __init__(self, file: str):
        self.lib = load_llama_cpp()
        self.llm = self.lib.Llama(file, n_ctx=64, n_batch=32, verbose=False)
        self.model, self.vocab = self.llm.model, self.llm.n_vocab()


class LlamaRows:
    """Rows of equal length in one context, a sequence for each: the verbs of `tfguide.bench.ours.OurRows`.

    The context is made as llama.cpp's own `batched-bench` makes it: a cache of its own for each sequence, and keys and
    values in float16. A step is one call with a token of each sequence. flash: whether attention is llama.cpp's "flash
    attention", which reads prompts faster and makes the steps of a long text slower on processors.
    """

    BATCH = 2048  # tokens in one call

    def __init__(self, model: LlamaModel, prompts: np.ndarray, n_new: int, flash: bool = False):
        self.model, self.lib, self.prompts = model, model.lib, prompts
        rows, length = prompts.shape
        params = self.lib.llama_context_default_params()
        params.n_seq_max, params.kv_unified = rows, False
        params.n_ctx = rows * (-(-(length + n_new) // 256) * 256)
        params.n_batch, params.n_ubatch = self.BATCH, 512
        types = self.lib.LLAMA_FLASH_ATTN_TYPE_DISABLED, self.lib.LLAMA_FLASH_ATTN_TYPE_ENABLED
        params.flash_attn_type = types[flash]
        params.n_threads = params.n_threads_batch = cores()
        self.context = self.lib.llama_init_from_model(model.model, params)
        if not self.context:
            raise RuntimeError(f"llama.cpp made no context for {rows} rows of {length + n_new} positions")
        self.memory = self.lib.llama_get_memory(self.context)
        self.batch = self.lib.llama_batch_init(self.BATCH, 0, 1)
        self.first: np.ndarray | None = None

    def read(self) -> np.ndarray:
        """Read the prompts into an empty cache: the logits (B, V) after them."""
        self.lib.llama_memory_clear(self.memory, True)
        logits = np.stack([self._read_row(row, 1)[-1] for row in range(len(self.prompts))])
        self.first = logits.argmax(axis=1)
        return logits

    def score(self, last: int) -> np.ndarray:
        """Read the prompts into an empty cache: the logits (B, n, V) after each of their `last` n tokens."""
        self.lib.llama_memory_clear(self.memory, True)
        return np.stack([self._read_row(row, last) for row in range(len(self.prompts))])

    def steps(self, n: int) -> np.ndarray:
        """Forget what follows the prompts, and decode n steps greedily: the chosen tokens (n, B)."""
        rows, length = self.prompts.shape
        for row in range(rows):
            self.lib.llama_memory_seq_rm(self.memory, row, length, -1)
        tokens, chosen = self.first, []
        for step in range(n):
            for row, token in enumerate(tokens.tolist()):
                self._put(row, token, row, length + step, True)
            self._decode(rows)
            logits = np.ctypeslib.as_array(self.lib.llama_get_logits(self.context), (rows, self.model.vocab))
            tokens = logits.argmax(axis=1)
            chosen.append(tokens)
        return np.array(chosen)

    def close(self) -> None:
        """Free the context; nothing more can be read."""
        self.lib.llama_batch_free(self.batch)
        self.lib.llama_free(self.context)

    def _read_row(self, row, last):
        """The logits (last, V) after the last tokens of a row."""
        tokens, found = self.prompts[row].tolist(), []
        for start in range(0, len(tokens), self.BATCH):
            some = tokens[start : start + self.BATCH]
            wanted = [start + place >= len(tokens) - last for place in range(len(some))]
            for place, (token, is_wanted) in enumerate(zip(some, wanted, strict=True)):
                self._put(place, token, row, start + place, is_wanted)
            self._decode(len(some))
            if any(wanted):
                shape = (sum(wanted), self.model.vocab)
                found.append(np.ctypeslib.as_array(self.lib.llama_get_logits(self.context), shape).copy())
        return np.concatenate(found)

    def _put(self, place, token, row, position, wanted):
        batch = self.batch
        batch.token[place], batch.pos[place], batch.n_seq_id[place] = token, position, 1
        batch.seq_id[place][0], batch.logits[place] = row, wanted

    def _decode(self, n_tokens):
        self.batch.n_tokens = n_tokens
        if self.lib.llama_decode(self.context, self.batch):
            raise RuntimeError("llama.cpp could not read the tokens")


def check_survives(file: str) -> None:
    """Load a GGUF file in another process first: a crash in this one would lose every other result.

    Raises RuntimeError where that process ends with an error.
    """
    code = (
        "import sys\n"
        "from tfguide.bench.llama import load_llama_cpp\n"
        "llm = load_llama_cpp().Llama(sys.argv[1], n_ctx=64, verbose=False)\n"
        "llm.eval(list(range(40))); llm.eval([1])"
    )
    done = subprocess.run([sys.executable, "-c", code, file], capture_output=True)
    if done.returncode:
        raise RuntimeError(f"llama.cpp crashes on this file, in a process of its own (exit {done.returncode})")
