"""A Llama's weights as a GGUF file, the format of llama.cpp."""

from __future__ import annotations

import os

import numpy as np

from tfguide.checkpoints import read_checkpoint
from tfguide.weights import weight_table

NAMES = {
    "self_attention_norm": "attn_norm", "self_attention.query": "attn_q", "self_attention.key": "attn_k",
    "self_attention.value": "attn_v", "self_attention.output": "attn_output", "feed_forward_norm": "ffn_norm",
    "feed_forward.gate": "ffn_gate", "feed_forward.up": "ffn_up", "feed_forward.down": "ffn_down",
}  # fmt: skip
TYPES = {"float32": "F32", "bfloat16": "BF16", "float16": "F16", "int8": "Q8_0", "int4": "Q4_0"}


def write_gguf(folder: str | os.PathLike, file: str | os.PathLike, dtype: str) -> None:
    """Write a checkpoint of the llama family to a GGUF file: float32, bfloat16, float16, int8 (Q8_0) or int4 (Q4_0).

    The file has no tokenizer. Norms stay in float32. Raises ValueError for another family or type.
    """
    import gguf

    if dtype not in TYPES:
        raise ValueError(f"dtype must be one of {', '.join(TYPES)}, got {dtype!r}")
    config, weights = read_checkpoint(folder)
    if (config.kind, config.norm, config.positions, config.activation) != ("decoder", "rms", "rotary", "swiglu"):
        raise ValueError("a GGUF file is written of Llama-shaped models: decoder, rms norm, rotary positions, swiglu")
    writer = gguf.GGUFWriter(os.fspath(file), "llama")
    writer.add_context_length(config.max_positions or 1 << 20)
    writer.add_embedding_length(config.d_model)
    writer.add_block_count(config.n_layers)
    writer.add_feed_forward_length(config.d_ff)
    writer.add_head_count(config.n_heads)
    writer.add_head_count_kv(config.n_kv_heads)
    writer.add_rope_dimension_count(config.d_head)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_layer_norm_rms_eps(config.norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("no_vocab")
    kind = gguf.GGMLQuantizationType[TYPES[dtype]]
    table = weight_table(config)
    if config.tied_head:
        weights["head.weight"] = weights["embedding.token.weight"].T
    for name in list(weights):
        array = weights.pop(name)
        if array.ndim == 1:
            writer.add_tensor(_name(name), array)
            continue
        rows = array if name in table and not table[name].is_matrix else array.T  # (out, in); a tied head has no row
        if name.endswith(("query.weight", "key.weight")):
            rows = _interleaved(rows, config.n_heads if "query" in name else config.n_kv_heads)
        writer.add_tensor(_name(name), gguf.quants.quantize(np.ascontiguousarray(rows), kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _name(name):
    if ".layers." not in name:
        return {
            "embedding.token.weight": "token_embd.weight", "decoder.final_norm.weight": "output_norm.weight",
            "head.weight": "output.weight",
        }[name]  # fmt: skip
    layer, part = name.split(".layers.")[1].split(".", 1)
    return f"blk.{layer}.{NAMES[part.removesuffix('.weight')]}.weight"


def _interleaved(rows, n_heads):
    """llama.cpp rotates the pairs (2i, 2i + 1) of a head, these weights have them at (i, i + d / 2)."""
    d = rows.shape[0] // n_heads
    return rows.reshape(n_heads, 2, d // 2, -1).swapaxes(1, 2).reshape(rows.shape)
