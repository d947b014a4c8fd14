"""A config.json means here what it means to transformers: defaults, nulls, other names, layers with a window."""

import json

import pytest

from tfguide import cost
from tfguide.cost.hub import ALIASES, DEFAULTS, config_from_keys, find_model

transformers = pytest.importorskip("transformers")
torch = pytest.importorskip("torch")

# Small sizes, so that a model on the meta device is made in a moment; the rest is what the class fills in.
SMALL = {
    "llama": dict(vocab_size=101, hidden_size=192, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4,
                  num_key_value_heads=2),
    "gpt2": dict(vocab_size=101, n_positions=32, n_embd=192, n_layer=3, n_head=4),
    "bert": dict(vocab_size=101, hidden_size=192, num_hidden_layers=3, num_attention_heads=4, intermediate_size=96),
    "distilbert": dict(vocab_size=101, dim=192, n_layers=3, n_heads=4, hidden_dim=96),
    "t5": dict(vocab_size=101, d_model=64, d_kv=16, d_ff=96, num_layers=3, num_heads=4),
}  # fmt: skip
SMALL |= dict.fromkeys(("mistral", "qwen2", "qwen3"), SMALL["llama"])
SMALL["gemma3_text"] = SMALL["llama"] | dict(head_dim=32)
SMALL["phi3"] = SMALL["llama"] | dict(pad_token_id=0)
SMALL["roberta"] = SMALL["bert"]
_EXPERTS = SMALL["llama"] | dict(num_experts_per_tok=2)
SMALL["mixtral"] = _EXPERTS | dict(num_local_experts=3)
SMALL["qwen3_moe"] = _EXPERTS | dict(num_experts=9, moe_intermediate_size=32)
SMALL["gpt_oss"] = _EXPERTS | dict(num_local_experts=5)
SMALL["deepseek_v3"] = _EXPERTS | dict(
    n_routed_experts=16, moe_intermediate_size=32, first_k_dense_replace=1, kv_lora_rank=16, q_lora_rank=24,
    qk_nope_head_dim=8, qk_rope_head_dim=4, v_head_dim=12,
)  # fmt: skip

PATTERNED = {"gemma3_text": 6, "gpt_oss": 2}  # every so-many-th layer has no window

# Keys that make another model, beside those of SMALL.
CHANGES = {
    "llama": [dict(attention_bias=True, mlp_bias=True), dict(head_dim=32), dict(tie_word_embeddings=True)],
    "qwen2": [dict(attention_bias=True), dict(mlp_bias=True)],  # which that class does not read
    "qwen3": [dict(attention_bias=True), dict(head_dim=24)],
    "gemma3_text": [dict(attention_bias=True), dict(sliding_window_pattern=2), dict(tie_word_embeddings=False)],
    "qwen3_moe": [dict(mlp_only_layers=[0]), dict(mlp_only_layers=[0, 1], head_dim=32)],
    "gpt_oss": [dict(attention_bias=False), dict(head_dim=32), dict(sliding_window=None)],
    "deepseek_v3": [dict(attention_bias=True), dict(q_lora_rank=None), dict(n_shared_experts=2)],
    "gpt2": [dict(n_inner=50), dict(tie_word_embeddings=False)],
    "t5": [dict(feed_forward_proj="gated-gelu"), dict(num_decoder_layers=2)],
}


# Keys whose null the class of transformers refuses, or cannot compute with.
REFUSED = dict.fromkeys(("qwen2", "qwen3", "qwen3_moe", "phi3"), ("head_dim",))
REFUSED["gemma3_text"] = ("head_dim", "num_key_value_heads", "sliding_window")
REFUSED["gpt_oss"] = ("head_dim", "num_key_value_heads")


def theirs(keys):
    """The configuration and the number of parameters that transformers makes of the keys."""
    keys = json.loads(json.dumps(keys))
    config = transformers.AutoConfig.for_model(**keys)
    auto = dict.fromkeys(("bert", "distilbert", "roberta"), transformers.AutoModel)
    auto["t5"] = transformers.AutoModelForSeq2SeqLM
    with torch.device("meta"):
        model = auto.get(keys["model_type"], transformers.AutoModelForCausalLM).from_config(config)
    count = sum(p.numel() for p in model.parameters())
    count += sum(b.numel() for name, b in model.named_buffers() if name.endswith("e_score_correction_bias"))
    if keys["model_type"] in ("bert", "roberta"):
        count -= sum(p.numel() for p in model.pooler.parameters())  # a matter of the weights, not of the file
    return config, count


def cases():
    for family, small in SMALL.items():
        keys = {"model_type": family} | small
        yield pytest.param(keys, id=f"{family}")
        yield pytest.param({"model_type": family}, id=f"{family}, all absent")
        for key in sorted(set(DEFAULTS[family]) & set(small)):
            # As many query heads as divide by any default of key/value heads.
            many = dict(num_attention_heads=128, hidden_size=256) if key == "num_key_value_heads" else {}
            yield pytest.param({k: v for k, v in (keys | many).items() if k != key}, id=f"{family}, no {key}")
        for key in (
            "num_key_value_heads",
            "head_dim",
            "sliding_window",
            "layer_types",
            "n_inner",
            "num_decoder_layers",
        ):
            if key in DEFAULTS[family] and key not in REFUSED.get(family, ()):
                yield pytest.param(keys | {key: None}, id=f"{family}, {key} null")
        for change in CHANGES.get(family, ()):
            yield pytest.param(keys | change, id=f"{family}, {change}")
        for other, key in ALIASES.get(family, {}).items():
            if (family, other) == ("t5", "num_hidden_layers"):  # there the decoder keeps the default, 6
                continue
            renamed = {k: v for k, v in keys.items() if k != key} | {other: keys.get(key, DEFAULTS[family][key])}
            yield pytest.param(renamed, id=f"{family}, {other} for {key}")


@pytest.mark.parametrize("keys", list(cases()))
def test_parameters_are_those_of_transformers(keys):
    said = keys
    checked = ("mistral", "mixtral", "qwen3_moe", *PATTERNED)
    if keys.get("num_key_value_heads", 0) is None and keys["model_type"] in checked:
        # Version 5 of transformers checks the type first; what the class does with null is the same in all families.
        said = keys | {"num_key_value_heads": keys["num_attention_heads"]}
    _, count = theirs(said)
    assert cost.parameters(config_from_keys(keys)) == count


@pytest.mark.parametrize("family", DEFAULTS)
def test_the_defaults_are_those_of_the_class(family):
    theirs = transformers.AutoConfig.for_model(family)
    for key, value in DEFAULTS[family].items():
        if key in ("num_key_value_heads", "head_dim") and value is None:  # which follow from others
            continue
        if key in (
            "layer_types",
            "mlp_only_layers",
            "sliding_window",
            "num_decoder_layers",
            "sliding_window_pattern",
        ):  # which they derive
            continue
        assert getattr(theirs, key) == value, key


WINDOWED = [
    dict(),
    dict(use_sliding_window=True),
    dict(use_sliding_window=True, max_window_layers=1),
    dict(use_sliding_window=True, max_window_layers=0),
    dict(use_sliding_window=True, max_window_layers=99),
    dict(use_sliding_window=True, sliding_window=None),
    dict(use_sliding_window=False, max_window_layers=0),
    dict(use_sliding_window=True, layer_types=["sliding_attention", "full_attention", "sliding_attention"]),
    dict(use_sliding_window=True, layer_types=["full_attention"] * 3),
    dict(layer_types=["full_attention"] * 3),
    dict(sliding_window=None),
    dict(sliding_window=7),
]


@pytest.mark.parametrize("window", WINDOWED, ids=str)
@pytest.mark.parametrize("family", ["llama", "mistral", "mixtral", "qwen2", "qwen3", "qwen3_moe", *PATTERNED])
def test_the_cache_is_that_of_transformers(family, window):
    """Positions kept by the layers of their dynamic cache, against the bytes that we count."""
    keys = {"model_type": family} | SMALL[family] | {"sliding_window": 16} | window
    reads_kinds = "qwen" in family or family in PATTERNED
    config, _ = theirs({key: value for key, value in keys.items() if key != "layer_types" or reads_kinds})
    reads = family != "llama"  # whose class has no window, whatever the file says
    window_of = getattr(config, "sliding_window", None) if reads else None
    kinds = getattr(config, "layer_types", None) or ["sliding_attention"] * 3
    if family in ("mistral", "mixtral", "qwen3_moe"):
        kinds = ["sliding_attention"] * 3  # one mask for all layers
    kept = [min(100, window_of) if window_of and kind == "sliding_attention" else 100 for kind in kinds]
    ours = config_from_keys(keys)
    assert cost.kv_bytes(ours, 1, 100, "int8") == 2 * ours.n_kv_heads * ours.d_head * sum(kept)


@pytest.mark.parametrize("layers", [5, 6, 13])
@pytest.mark.parametrize("family", PATTERNED)
def test_windows_in_turn_are_those_of_the_class(family, layers):
    keys = {"model_type": family} | SMALL[family] | dict(num_hidden_layers=layers)
    more = [dict(), dict(layer_types=None)] + [dict(sliding_window_pattern=3)] * (family == "gemma3_text")
    for change in more:
        config, _ = theirs(keys | change)
        want = [layer for layer, kind in enumerate(config.layer_types) if kind == "sliding_attention"]
        ours = config_from_keys(keys | change)
        assert list(ours.sliding_layers or range(layers)) == want and ours.sliding_window == config.sliding_window
    period = PATTERNED[family]
    assert config_from_keys(keys).n_sliding_layers == layers - layers // period


def test_the_cache_of_qwen_by_hand():
    """Four layers of 8 numbers each way: all, half or none of them keep 32 of 256 positions."""
    keys = dict(model_type="qwen2", hidden_size=16, intermediate_size=8, num_hidden_layers=4, num_attention_heads=2,
                num_key_value_heads=1, vocab_size=9, sliding_window=32, use_sliding_window=True)  # fmt: skip
    for first, positions in ((0, 4 * 32), (2, 2 * 32 + 2 * 256), (4, 4 * 256), (28, 4 * 256)):
        config = config_from_keys(keys | {"max_window_layers": first})
        assert cost.kv_bytes(config, 1, 256, "int8") == 2 * 8 * positions


def test_what_changes_no_cost_is_passed_over(tmp_path):
    more = dict(
        _model_name_or_path="x", unk_token_id=0, is_llama_config=True, rope_interleaved=False, model_max_length=9,
        rope_theta=None, rope_parameters={"rope_type": "yarn"}, rms_norm_eps="tiny", quantization_config={"bits": 4},
        sliding_window=4, use_sliding_window=True, layer_types=["sliding_attention"],
    )  # fmt: skip
    keys = {"model_type": "llama"} | SMALL["llama"]
    (tmp_path / "config.json").write_text(json.dumps(keys | more))
    assert find_model(tmp_path) == config_from_keys(keys)
    gpt2 = {"model_type": "gpt2"} | SMALL["gpt2"]
    assert config_from_keys(gpt2 | {"n_ctx": 7, "task_specific_params": {}, "unheard_of": 1}) == config_from_keys(gpt2)
