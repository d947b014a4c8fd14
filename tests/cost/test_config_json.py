"""A config.json of Hugging Face is read for the cost model, and mistakes in it are explained."""

import json

import numpy as np
import pytest

from tfguide import ModelConfig, cost
from tfguide.checkpoints import deepseek_v3, gemma3
from tfguide.checkpoints.fields import Fields
from tfguide.checkpoints.reading import FAMILIES as READ
from tfguide.checkpoints.writing import choose_family, hf_config
from tfguide.cost.hub import config_from_keys, find_model

FAMILIES = {
    "llama-3-70b": dict(
        model_type="llama", hidden_size=8192, intermediate_size=28672, num_hidden_layers=80, num_attention_heads=64,
        num_key_value_heads=8, vocab_size=128256,
    ),
    "mixtral-8x7b": dict(
        model_type="mixtral", hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32,
        num_key_value_heads=8, vocab_size=32000, num_local_experts=8, num_experts_per_tok=2,
    ),
    "qwen2.5-7b": dict(
        model_type="qwen2", hidden_size=3584, intermediate_size=18944, num_hidden_layers=28, num_attention_heads=28,
        num_key_value_heads=4, vocab_size=152064, sliding_window=131072, use_sliding_window=False,
    ),
    "qwen3-30b-a3b": dict(
        model_type="qwen3_moe", hidden_size=2048, intermediate_size=6144, num_hidden_layers=48, num_attention_heads=32,
        num_key_value_heads=4, head_dim=128, vocab_size=151936, num_experts=128, num_experts_per_tok=8,
        moe_intermediate_size=768,
    ),
    "deepseek-v3": dict(
        model_type="deepseek_v3", hidden_size=7168, intermediate_size=18432, num_hidden_layers=61,
        num_attention_heads=128, num_key_value_heads=128, vocab_size=129280, n_routed_experts=256,
        num_experts_per_tok=8, moe_intermediate_size=2048, n_shared_experts=1, first_k_dense_replace=3,
        kv_lora_rank=512, q_lora_rank=1536, qk_nope_head_dim=128, qk_rope_head_dim=64, v_head_dim=128,
    ),
    "mistral-7b": dict(
        model_type="mistral", hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32,
        num_key_value_heads=8, vocab_size=32000, sliding_window=4096,
    ),
    "mixtral-8x22b": dict(
        model_type="mixtral", hidden_size=6144, intermediate_size=16384, num_hidden_layers=56, num_attention_heads=48,
        num_key_value_heads=8, vocab_size=32000, num_local_experts=8, num_experts_per_tok=2, sliding_window=None,
    ),
    "mistral-small-24b": dict(
        model_type="mistral", hidden_size=5120, intermediate_size=32768, num_hidden_layers=40, num_attention_heads=32,
        num_key_value_heads=8, head_dim=128, vocab_size=131072, sliding_window=None, rope_theta=1e8,
    ),
    "phi-4": dict(
        model_type="phi3", hidden_size=5120, intermediate_size=17920, num_hidden_layers=40, num_attention_heads=40,
        num_key_value_heads=10, vocab_size=100352, sliding_window=None, rope_scaling=None,
    ),
    "gemma-3-1b": dict(
        model_type="gemma3_text", hidden_size=1152, intermediate_size=6912, num_hidden_layers=26, num_attention_heads=4,
        num_key_value_heads=1, head_dim=256, vocab_size=262144, sliding_window=512, sliding_window_pattern=6,
        rope_local_base_freq=10000, query_pre_attn_scalar=256, attn_logit_softcapping=None,
    ),
    "gemma-3-4b": dict(
        model_type="gemma3", vision_config=dict(hidden_size=1152), mm_tokens_per_image=256,
        text_config=dict(
            model_type="gemma3_text", hidden_size=2560, intermediate_size=10240, num_hidden_layers=34,
            sliding_window=1024, rope_scaling=dict(factor=8.0, rope_type="linear"),
        ),
    ),
    "gpt-oss-20b": dict(
        model_type="gpt_oss", hidden_size=2880, intermediate_size=2880, num_hidden_layers=24, num_attention_heads=64,
        num_key_value_heads=8, head_dim=64, vocab_size=201088, num_local_experts=32, num_experts_per_tok=4,
        experts_per_token=4, sliding_window=128, layer_types=["sliding_attention", "full_attention"] * 12,
        swiglu_limit=7.0, quantization_config=dict(bits=4), rope_scaling=dict(rope_type="yarn", factor=32),
    ),
    "gpt2": dict(model_type="gpt2"),
    "bert-base": dict(model_type="bert"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAMILIES)
def test_a_config_json_is_read(name, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(FAMILIES[name]))
    for path in (tmp_path, tmp_path / "config.json"):
        config, want = find_model(path), ModelConfig.from_preset(name)
        if name != "bert-base":  # whose pooler is a matter of the weights, not of the file
            assert cost.parameters(config) == cost.parameters(want)
        assert cost.kv_bytes_per_token(config) == cost.kv_bytes_per_token(want)
        assert cost.kv_bytes(config, 1, 10_000) == cost.kv_bytes(want, 1, 10_000)
        assert cost.active_parameters(config) == cost.active_parameters(want) or name == "bert-base"
    if want.kind == "decoder":
        assert cost.plan(config, "h200", 1, 2048, weights="int8", chips=16).chips == 16


def test_the_text_model_inside_one_that_reads_images():
    text = dict(model_type="gemma3_text", hidden_size=1152, num_attention_heads=4)
    assert config_from_keys({"model_type": "gemma3", "text_config": text}) == config_from_keys(text)


def test_presets_of_gemma_are_what_its_reader_makes_of_the_files():
    four = FAMILIES["gemma-3-4b"]["text_config"]
    for name, keys in (
        ("gemma-3-1b", FAMILIES["gemma-3-1b"] | dict(max_position_embeddings=32768)),
        ("gemma-3-4b", four),
        ("gemma-3-12b", four | dict(
            hidden_size=3840, intermediate_size=15360, num_hidden_layers=48, num_attention_heads=16,
            num_key_value_heads=8,
        )),
        ("gemma-3-27b", four | dict(
            hidden_size=5376, intermediate_size=21504, num_hidden_layers=62, num_attention_heads=32,
            num_key_value_heads=16, head_dim=128, query_pre_attn_scalar=168,
        )),
    ):  # fmt: skip
        keys = {key: value for key, value in keys.items() if key != "model_type"}
        assert gemma3.config_from_hf(Fields(keys), ()) == ModelConfig.from_preset(name), name


def test_the_preset_of_deepseek_is_what_its_reader_makes_of_the_file():
    keys = {key: value for key, value in FAMILIES["deepseek-v3"].items() if key != "model_type"} | dict(
        max_position_embeddings=163840, bos_token_id=0, eos_token_id=1, n_group=8, topk_group=4, norm_topk_prob=True,
        routed_scaling_factor=2.5, rope_scaling=dict(
            type="yarn", factor=40, original_max_position_embeddings=4096, beta_fast=32, beta_slow=1, mscale=1.0,
            mscale_all_dim=1.0,
        ),
    )  # fmt: skip
    got, want = deepseek_v3.config_from_hf(Fields(keys), ()), ModelConfig.from_preset("deepseek-v3")
    assert got.attention_scale == pytest.approx(want.attention_scale, rel=1e-12)
    assert got.replace(attention_scale=want.attention_scale) == want


def test_a_config_json_that_is_wrong(tmp_path):
    file = tmp_path / "config.json"
    for text, message in (
        ("{", "not a whole JSON file"),
        ("[]", "expected a JSON object, got list"),
        ('{"model_type": "llamma"}', "did you mean 'llama'"),
        ('{"model_type": ["llama"]}', "is not known"),
        ('{"model_type": "llama", "num_attention_heads": null}', "num_attention_heads must not be null"),
        (json.dumps(FAMILIES["llama-3-70b"] | {"hidden_size": "8192"}), "hidden_size must be an integer"),
    ):
        file.write_text(text)
        with pytest.raises(ValueError, match=message):
            find_model(file)
    for mixed in ({"mlp_only_layers": [3]}, {"decoder_sparse_step": 2}):
        with pytest.raises(ValueError, match="mlp_only_layers"):
            config_from_keys(FAMILIES["qwen3-30b-a3b"] | mixed)
    some = FAMILIES["qwen2.5-7b"] | {"use_sliding_window": True}
    for kinds in (["full_attention"] * 27, ["full_attention"] * 27 + ["linear_attention"]):
        with pytest.raises(ValueError, match="layer_types must name"):
            config_from_keys(some | {"layer_types": kinds})


WRITTEN = [
    "deepseek-v3",
    "gpt2", "bert-base", "roberta-base", "distilbert-base", "llama-3-8b", "llama-3.2-1b", "mistral-7b", "qwen2.5-0.5b",
    "qwen3-8b", "gemma-3-1b", "mixtral-8x7b", "qwen3-30b-a3b", "t5-small", "gpt2-untied", "llama-biased",
]  # fmt: skip
CHANGED = {
    "gpt2-untied": ("gpt2", dict(tied_head=False, d_ff=77)),
    "llama-biased": ("llama-3-8b", dict(qkv_bias=True, output_bias=True, ffn_bias=True, n_kv_heads=32)),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_the_sizes_are_those_that_checkpoints_reads(name):
    """One reader: what `write_checkpoint` would write of a model costs what the model costs."""
    base, changes = CHANGED.get(name, (name, {}))
    config = ModelConfig.from_preset(base, **changes)
    keys = hf_config(config, choose_family(config))
    assert keys["model_type"] in READ
    got = config_from_keys(keys)
    pooler = config.d_model * (config.d_model + 1) if config.pooler else 0  # a matter of the weights, not of the file
    assert cost.parameters(got) == cost.parameters(config) - pooler
    assert cost.kv_bytes_per_token(got) == cost.kv_bytes_per_token(config)
    for field in ("kind", "d_model", "n_layers", "n_heads", "n_kv_heads", "d_head", "d_ff", "vocab_size", "positions"):
        assert getattr(got, field) == getattr(config, field), field


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_numpys_integers_are_integers(dtype):
    for keys in FAMILIES.values():
        narrow = {key: dtype(value) if type(value) is int else value for key, value in keys.items()}
        got, want = config_from_keys(narrow), config_from_keys(keys)
        assert got == want and json.dumps(got.to_dict()) == json.dumps(want.to_dict())
    with pytest.raises(ValueError, match="hidden_size must be an integer of at least 1, got True"):
        config_from_keys({"model_type": "llama", "hidden_size": True})


def test_what_old_files_have_as_null():
    llama = FAMILIES["llama-3-70b"]
    nulls = dict.fromkeys(("attention_bias", "mlp_bias", "tie_word_embeddings", "max_position_embeddings"))
    got = config_from_keys(llama | nulls)
    assert got == config_from_keys(llama).replace(max_positions=None)
    with pytest.raises(ValueError, match=r"config\.json: hidden_size must not be null; absent, it is 4096"):
        config_from_keys(llama | {"hidden_size": None})


def test_of_two_names_of_a_key_its_own_counts():
    assert config_from_keys({"model_type": "gpt2", "n_layer": 3, "num_hidden_layers": 5}).n_layers == 3
    assert config_from_keys({"model_type": "gpt2", "num_hidden_layers": 5}).n_layers == 5
