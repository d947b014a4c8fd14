"""Parameters of transformers that a GGUF file holds as several tensors, or in another order of axes."""

import gguf
import numpy as np


def tensors_of(config, name, array):
    """The tensors by name, and what makes the parameter of them again; None for a parameter that is one tensor."""
    layer, own = f"blk.{name.split('.')[2]}" if ".layers." in name else "", name.rpartition(".")[2]
    if name.endswith("kv_b_proj.weight"):
        by_head = array.reshape(config.num_attention_heads, -1, array.shape[-1])
        key, value = np.split(by_head, [config.qk_nope_head_dim], axis=1)
        tensors = {f"{layer}.attn_k_b.weight": key.swapaxes(1, 2), f"{layer}.attn_v_b.weight": value}
        return tensors, lambda k, v: np.concatenate([k.swapaxes(1, 2), v], axis=1).reshape(array.shape)
    if name.endswith("position_embeddings.weight") and config.model_type == "roberta":
        first = config.pad_token_id + 1
        return {"position_embd.weight": array[first:]}, lambda rows: np.concatenate([array[:first], rows])
    if ".mlp.experts." not in name:
        return None
    if config.model_type != "gpt_oss":
        parts = ("gate", "up") if own == "gate_up_proj" else ("down",)
        tensors = dict(zip(_names(layer, parts), np.split(array, len(parts), axis=-2), strict=True))
        return tensors, lambda *rows: np.concatenate(rows, axis=-2)
    suffix, turned = ("bias", array) if own.endswith("_bias") else ("weight", array.swapaxes(1, 2))
    if own.startswith("down_proj"):
        return {
            f"{layer}.ffn_down_exps.{suffix}": turned
        }, lambda rows: rows if suffix == "bias" else rows.swapaxes(1, 2)
    halves = dict(zip(_names(layer, ("gate", "up"), suffix), (turned[:, ::2], turned[:, 1::2]), strict=True))

    def woven(gate, up):
        rows = np.stack([gate, up], axis=2).reshape(turned.shape)
        return rows if suffix == "bias" else rows.swapaxes(1, 2)

    return halves, woven


def fitting(kind, name, rows):
    """The type of a tensor: float32 for vectors, biases, routers and rows that its blocks do not divide."""
    plain = rows.ndim == 1 or name.endswith((".bias", "ffn_gate_inp.weight"))
    plain = plain or rows.shape[-1] % gguf.GGML_QUANT_SIZES[kind][0]
    return gguf.GGMLQuantizationType.F32 if plain else kind


def _names(layer, parts, suffix="weight"):
    return [f"{layer}.ffn_{part}_exps.{suffix}" for part in parts]
