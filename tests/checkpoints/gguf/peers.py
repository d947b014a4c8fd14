"""Models of transformers as GGUF files, by the names and the quantisation of the package `gguf`, not by this one's."""

import gguf
import numpy as np
import torch

from tests.checkpoints.gguf.made import random_blocks
from tests.checkpoints.gguf.parts import fitting, tensors_of
from tfguide.checkpoints.gguf.quantise import quantise

ARCHITECTURES = {
    "gemma3_text": "gemma3", "mixtral": "llama", "qwen3_moe": "qwen3moe", "deepseek_v3": "deepseek2",
    "gpt_oss": "gpt-oss", "roberta": "bert", "distilbert": "bert",
}  # fmt: skip
# A type for each kind of tensor in turn, so that every file has several.
TYPES = ("Q8_0", "F16", "Q4_1", "F32", "Q5_0", "BF16", "Q4_0")


def write(model, file, types=TYPES, **more):
    """Write a model of transformers to a GGUF file; its parameters become what the file holds, dequantised.

    more: metadata, written after the usual keys of the same name; None leaves a key out.
    """
    arch = ARCHITECTURES.get(model.config.model_type, model.config.model_type)
    known = KEYS[arch](model.config) | (_mixture(model.config) if hasattr(model.config, "num_local_experts") else {})
    keys = {f"{arch}.{name}": value for name, value in known.items()}
    keys |= {name.replace("__", "."): value for name, value in more.items()}
    writer = gguf.GGUFWriter(file, arch)
    for key, value in keys.items():
        add = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}
        if value is not None:
            add.get(type(value), writer.add_array)(key, value)
    kinds = {name: kind for kind, name in gguf.MODEL_ARCH_NAMES.items()}
    names = gguf.get_tensor_name_map(kinds[arch], model.config.num_hidden_layers)
    for i, (name, parameter) in enumerate(model.named_parameters()):
        kind = gguf.GGMLQuantizationType[types[i % len(types)]]
        parts = tensors_of(model.config, name, parameter.detach().numpy())
        if parts is not None:
            found = [added(writer, own, rows, kind) for own, rows in parts[0].items()]
            parameter.data = torch.tensor(np.ascontiguousarray(parts[1](*found)))
            continue
        name = f"{name}.weight" if name.endswith("sinks") else name  # as the converter
        theirs = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if theirs is None:
            assert "pooler" in name  # as the converter leaves it out
            continue
        array = parameter.detach().numpy()
        conv = arch == "gpt2" and array.ndim == 2 and ".h." in name  # stored (in, out)
        rows = array.T if conv else array
        one = float(arch == "gemma3" and array.ndim == 1)  # which the converter adds to the weights of norms
        rows = rows + one if one else rows
        heads = heads_of(model.config, theirs) if arch == "llama" else 0
        if heads:  # the converter's permutation
            rows = rows.reshape(heads, 2, -1, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)
        rows = added(writer, theirs, rows, kind)
        if heads:
            rows = rows.reshape(heads, -1, 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)
        parameter.data = torch.tensor(rows.T if conv else rows - one)
    for name, array in extra_tensors(model).items():
        writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def added(writer, name, rows, kind):
    """Write a tensor in a type, or in float32 where that does not fit; returns its numbers, dequantised."""
    used = fitting(kind, name, rows)
    data = quantised(np.ascontiguousarray(rows), used)
    writer.add_tensor(name, data, raw_dtype=used)
    return gguf.quants.dequantize(data, used)


def quantised(rows, kind):
    """Rows as blocks: by the package `gguf`, by this one in Q4_K, and at random in types that neither writes."""
    if kind.name in ("Q5_K", "Q6_K"):
        return random_blocks(np.random.default_rng(rows.size), kind.name, rows.shape)
    return quantise(rows, kind.name) if kind.name == "Q4_K" else gguf.quants.quantize(rows, kind)


def fill(model, file):
    """Put the dequantised tensors of a file of the llama architecture into a model of transformers; returns it."""
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(file).tensors}
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, model.config.num_hidden_layers)
    for name, parameter in model.named_parameters():
        tensor = tensors.pop(names.get_name(name, try_suffixes=(".weight", ".bias")))
        rows = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        heads = heads_of(model.config, tensor.name)
        if heads:
            rows = rows.reshape(heads, -1, 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)
        parameter.data = torch.tensor(rows).reshape(parameter.shape)
    assert not tensors
    return model


def heads_of(config, name):
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    return next((n for part, n in heads.items() if f".{part}." in name), 0)


def extra_tensors(model):
    """The divisors of Llama 3's frequencies, from those that transformers computes; DeepSeek's biases of the choice."""
    biases = {name: buffer for name, buffer in model.named_buffers() if name.endswith("e_score_correction_bias")}
    if biases:
        return {f"blk.{name.split('.')[2]}.exp_probs_b.bias": buffer.numpy() for name, buffer in biases.items()}
    rope = getattr(model.config, "rope_parameters", None) or {}
    if rope.get("rope_type") != "llama3":
        return {}
    d_head = model.config.head_dim
    plain = rope["rope_theta"] ** (-torch.arange(0, d_head, 2).double() / d_head)
    return {"rope_freqs.weight": (plain / model.model.rotary_emb.inv_freq.double()).float().numpy()}


def _llama(config):
    d_head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return {
        "context_length": config.max_position_embeddings, "embedding_length": config.hidden_size,
        "block_count": config.num_hidden_layers, "feed_forward_length": config.intermediate_size,
        "vocab_size": config.vocab_size, "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads, "attention.key_length": d_head,
        "attention.value_length": d_head, "rope.dimension_count": d_head,
        "rope.freq_base": float(config.rope_parameters.get("rope_theta", 0.0)),
        "attention.layer_norm_rms_epsilon": config.rms_norm_eps,
    }  # fmt: skip


def _mixture(config):
    keys = {"expert_count": config.num_local_experts, "expert_used_count": config.num_experts_per_tok}
    if config.model_type == "qwen3_moe":
        keys["expert_feed_forward_length"] = config.moe_intermediate_size
    return keys


def _gpt2(config):
    return {
        "context_length": config.n_positions, "embedding_length": config.n_embd, "block_count": config.n_layer,
        "feed_forward_length": config.n_inner or 4 * config.n_embd, "attention.head_count": config.n_head,
        "attention.layer_norm_epsilon": config.layer_norm_epsilon,
    }  # fmt: skip


def _bert(config):
    first = config.pad_token_id + 1 if config.model_type == "roberta" else 0
    return {
        "context_length": config.max_position_embeddings - first, "embedding_length": config.hidden_size,
        "block_count": config.num_hidden_layers, "attention.causal": False, "pooling_type": 1,
        "feed_forward_length": getattr(config, "hidden_dim", 0) or config.intermediate_size,
        "attention.head_count": config.num_attention_heads,
        "attention.layer_norm_epsilon": getattr(config, "layer_norm_eps", 1e-12),
    }  # fmt: skip


def _deepseek2(config):
    rank, rotated = config.kv_lora_rank, config.qk_rope_head_dim
    keys = _llama(config) | {
        "attention.head_count_kv": 1, "attention.key_length": rank + rotated, "attention.value_length": rank,
        "attention.key_length_mla": config.qk_head_dim, "attention.value_length_mla": config.v_head_dim,
        "attention.kv_lora_rank": rank, "attention.q_lora_rank": config.q_lora_rank,
        "leading_dense_block_count": config.first_k_dense_replace, "rope.dimension_count": rotated,
        "expert_feed_forward_length": config.moe_intermediate_size, "expert_count": config.n_routed_experts,
        "expert_used_count": config.num_experts_per_tok, "expert_shared_count": config.n_shared_experts,
        "expert_group_count": config.n_group, "expert_group_used_count": config.topk_group,
        "expert_weights_scale": config.routed_scaling_factor, "expert_weights_norm": config.norm_topk_prob,
        "expert_gating_func": 2,
    }  # fmt: skip
    return keys | _yarn(config.rope_parameters) | {"rope.scaling.yarn_log_multiplier": 0.1}


def _gpt_oss(config):
    more = {"attention.sliding_window": config.sliding_window, "expert_feed_forward_length": config.intermediate_size}
    return _llama(config) | _yarn(config.rope_parameters) | more


def _yarn(rope):
    """The keys of YaRN; those of `yarn_attn_factor` and `yarn_ext_factor` are absent in published models."""
    names = {"rope_type": "type", "factor": "factor", "original_max_position_embeddings": "original_context_length"}
    return {f"rope.scaling.{name}": rope[key] for key, name in names.items()}


def _gemma3(config):
    kinds = config.rope_parameters
    return _llama(config) | {
        "attention.sliding_window": config.sliding_window, "attention.sliding_window_pattern": 2,
        "rope.freq_base": kinds["full_attention"]["rope_theta"],
        "rope.freq_base_swa": kinds["sliding_attention"]["rope_theta"],
        "final_logit_softcapping": config.final_logit_softcapping,
    }  # fmt: skip


KEYS = {
    "llama": _llama,
    "qwen2": _llama,
    "qwen3": _llama,
    "phi3": _llama,
    "qwen3moe": _llama,
    "gemma3": _gemma3,
    "deepseek2": _deepseek2,
    "gpt-oss": _gpt_oss,
    "gpt2": _gpt2,
    "bert": _bert,
}
