"""The calls of llama-cpp-python that the benchmark makes, computed by the NumPy reference: slow, and without a cache.

Tests put this folder into TFGUIDE_LLAMA_CPP. A sequence is the list of its tokens, and every logit is computed anew.
"""

import ctypes
from types import SimpleNamespace

import numpy as np

from tfguide import reference
from tfguide.checkpoints import read_gguf

__version__ = "0.0"
LLAMA_FLASH_ATTN_TYPE_DISABLED, LLAMA_FLASH_ATTN_TYPE_ENABLED = 0, 1


def llama_print_system_info():
    return b"CUDA : ARCHS = 500 | CPU : SSE3 = 1 | AVX2 = 1 | AVX512 = 0 | AVX_VNNI = 1 | REPACK = 1 | "


class Llama:
    """The weights of a GGUF file."""

    def __init__(self, file, **options):
        self.config, self.weights = read_gguf(file)
        self.model = self

    def n_vocab(self):
        return self.config.vocab_size

    def eval(self, tokens):
        assert all(0 <= token < self.n_vocab() for token in tokens)


def llama_context_default_params():
    return SimpleNamespace(n_seq_max=1, n_ctx=512, n_batch=2048)


def llama_init_from_model(model, params):
    if params.n_ctx > 1 << 20:
        return None
    return SimpleNamespace(model=model, params=params, sequences={}, logits=None)


def llama_get_memory(context):
    return context


def llama_memory_clear(memory, data):
    memory.sequences.clear()


def llama_memory_seq_rm(memory, sequence, first, last):
    assert last == -1
    del memory.sequences[sequence][first:]
    return True


def llama_batch_init(n_tokens, embd, n_seq_max):
    return SimpleNamespace(
        n_tokens=0, token=[0] * n_tokens, pos=[0] * n_tokens, n_seq_id=[0] * n_tokens, logits=[0] * n_tokens,
        seq_id=[[0] * n_seq_max for _ in range(n_tokens)],
    )  # fmt: skip


def llama_batch_free(batch):
    batch.token = None


def llama_free(context):
    context.sequences = None


def llama_decode(context, batch):
    """Append the tokens to their sequences; 1 where a position is not the next, or a sequence is full."""
    rows = []
    for place in range(batch.n_tokens):
        [sequence] = batch.seq_id[place]
        text = context.sequences.setdefault(sequence, [])
        room = context.params.n_ctx // context.params.n_seq_max
        if batch.n_seq_id[place] != 1 or batch.pos[place] != len(text) or len(text) == room:
            return 1
        text.append(batch.token[place])
        if batch.logits[place]:
            model = context.model
            rows.append(reference.forward(model.config, model.weights, np.array([text]))[0, -1])
    context.logits = np.ascontiguousarray(rows, np.float32)
    return 0


def llama_get_logits(context):
    return context.logits.ctypes.data_as(ctypes.POINTER(ctypes.c_float))


def llama_get_logits_ith(context, place):
    context.row = np.ascontiguousarray(context.logits[place])
    return context.row.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
