"""Which keys of a config.json the classes of transformers read: watched here, so that a new one is noticed."""

import dataclasses
import inspect
import re
import warnings

import numpy as np
import pytest

from tfguide import reference
from tfguide.checkpoints import read_checkpoint
from tfguide.checkpoints.fields import Fields
from tfguide.checkpoints.keys import FIXED, INERT
from tfguide.checkpoints.reading import FAMILIES

hf = pytest.importorskip("tests.checkpoints.hf")
torch, transformers = hf.torch, hf.transformers

CASES = {
    "bert": "bert", "distilbert": "distilbert", "roberta": "roberta", "gpt2": "gpt2", "llama": "llama-3",
    "mistral": "mistral-window", "qwen2": "qwen2", "phi3": "phi3", "qwen3": "qwen3",
    "gemma3_text": "gemma3_text", "mixtral": "mixtral-window-tied", "qwen3_moe": "qwen3_moe", "gpt_oss": "gpt_oss",
    "deepseek_v3": "deepseek_v3", "t5": "t5-gelu",
}  # fmt: skip

# What the classes ask of a configuration and no config.json says with an effect on a result.
MACHINERY = {
    # how a model is placed on devices, and which code computes the same
    "base_model_ep_plan", "base_model_fsdp_plan", "base_model_pp_plan", "base_model_tp_plan", "distributed_config",
    "_attn_implementation_internal", "_experts_implementation_internal", "_output_attentions",
    # what a class is, rather than one of its configurations
    "attribute_map", "sub_configs", "sub_configs_defaults", "_heterogeneity_spec", "default_theta",
    # initialisation, which loaded weights replace
    "init_std",
    # asked of models of images only, whatever the model is
    "vision_aspect_ratio", "vision_feature_layer", "vision_feature_select_strategy",
}  # fmt: skip
# Asked of every configuration, but used by models with rotary positions only.
WINDOWED = (
    "mistral",
    "mixtral",
    "qwen2",
    "qwen3",
    "qwen3_moe",
    "gpt_oss",
    "gemma3_text",
)  # whose caches have no chunks
ROTATED = (
    "llama",
    "mistral",
    "mixtral",
    "qwen2",
    "qwen3",
    "qwen3_moe",
    "gpt_oss",
    "gemma3_text",
    "phi3",
    "deepseek_v3",
)
ROTARY = {"rope_parameters", "rope_scaling", "rope_theta", "partial_rotary_factor"}


def asked(case, folder):
    """The names that transformers asks of a configuration: to make it, to load a model, to compute and to generate."""
    cls = getattr(transformers, hf.CASES[case][0])
    names = set()

    class Watched(cls.config_class):
        def __getattribute__(self, name):
            names.add(name)
            return super().__getattribute__(name)

    hf.save(hf.make(case), folder)
    model = cls.from_pretrained(folder, config=Watched.from_pretrained(folder))
    tokens = torch.tensor([[5, 3, 2, 7, 11]])
    target = {"decoder_input_ids": tokens} if model.config.is_encoder_decoder else {}
    with torch.no_grad():
        model(input_ids=tokens, attention_mask=torch.ones_like(tokens), **target)
        if case not in hf.ENCODERS:
            model.generate(tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=3)
    for function in (cls.config_class.__post_init__, transformers.PreTrainedConfig.__post_init__, rope_of(cls)):
        names |= set(re.findall(r"kwargs\.(?:pop|get)\(\s*\"(\w+)\"", inspect.getsource(function)))
    known = vars(object) | {name: None for name in dir(cls.config_class) if _is_code(cls.config_class, name)}
    names |= {field.name for field in dataclasses.fields(cls.config_class)}
    return {name for name in names if name not in known and not name.startswith("__")}


def rope_of(cls):
    return cls.config_class.convert_rope_params_to_dict


def _is_code(cls, name):
    value = inspect.getattr_static(cls, name)
    return callable(value) or isinstance(value, (property, classmethod, staticmethod))


def taken(family, tensors=("pooler.dense.weight",)):
    """The keys that our family reads of a config.json."""
    names = set()

    class Spy(Fields):
        def _take(self, key, default):
            names.add(key)
            return super()._take(key, default)

        def alias(self, other, key):
            names.update((other, key))
            super().alias(other, key)

        def has(self, key):
            names.add(key)
            return super().has(key)

    keys = hf.make(CASES[family]).config.to_dict()
    FAMILIES[family].config_from_hf(Spy(keys), tensors)
    return names


@pytest.mark.parametrize("family", FAMILIES)
def test_every_key_that_transformers_reads_is_read_or_refused_or_known_to_change_nothing(family, tmp_path):
    """Where this fails after an update of transformers, read what the class does with the key, and say it."""
    wanted = asked(CASES[family], tmp_path / family)
    assert {"vocab_size", "is_encoder_decoder", "layer_types", "text_config", "quantization_config"} <= wanted
    if family not in hf.ENCODERS:
        assert {"sliding_window", "kv_sharing_modes", "is_causal"} <= wanted
        assert "attention_chunk_size" in wanted or family in WINDOWED
    known = taken(family) | INERT | set(FAMILIES[family].INERT) | set(FIXED) | {"layer_types"} | MACHINERY
    assert wanted - known - (set() if family in ROTATED else ROTARY) == set()


# Keys of real files that no class reads, or those of other families only, and values
# of those that are read which change nothing.
UNREAD = {
    "_model_name_or_path": "/home/someone/model", "unk_token_id": 0, "is_llama_config": True, "rope_interleaved": False,
    "model_max_length": 2048, "use_sliding_window": False, "max_window_layers": 1, "auto_map": {"AutoModel": "a.B"},
    "embedding_size": 11, "attention_multiplier": 0.5, "hidden_activation": None, "logits_to_keep": 3,
    "nested": {"anything": [1, {"else": 2}]},
}  # fmt: skip
HARMLESS = {
    "sliding_window": None, "layer_types": ["full_attention"] * 2, "attention_chunk_size": None, "per_layer_config": {},
    "quantization_config": None, "text_config": None, "pruned_heads": None,
}  # fmt: skip


def harmless(family):
    """Values that change nothing in this family, which may have a window, and kinds of layers with caches of theirs."""
    without = ("sliding_window", "layer_types") if family in ("mistral", "mixtral", "gpt_oss", "gemma3_text") else ()
    return {key: value for key, value in HARMLESS.items() if key not in without}


def logits(cls, folder):
    """What transformers computes, at once and with a cache, and the text that it generates."""
    model = cls.from_pretrained(folder).eval()
    tokens = torch.tensor(np.random.default_rng(0).integers(0, 37, (1, 11)))
    with torch.no_grad():
        if model.base_model_prefix in hf.ENCODERS:
            return [model(tokens).last_hidden_state]
        target = {"decoder_input_ids": tokens} if model.config.is_encoder_decoder else {}
        results = [model(tokens, **target).logits, model.generate(tokens, min_new_tokens=7, max_new_tokens=7)]
        if not target:
            cache = model(tokens[:, :5]).past_key_values
            results.append(model(tokens[:, 5:], past_key_values=cache).logits)
        return results


@pytest.mark.parametrize("family", FAMILIES)
def test_keys_that_nobody_reads_are_named_once_and_passed_over(family, tmp_path):
    case = CASES[family]
    folder = hf.save(hf.make(case), tmp_path / family)
    cls = getattr(transformers, hf.CASES[case][0])
    expected, computed = read_checkpoint(folder), logits(cls, folder)
    unread = {key: value for key, value in UNREAD.items() if key not in taken(family)}
    hf.edit_config(folder, **unread, **harmless(family))
    with pytest.warns(UserWarning) as caught:
        received = read_checkpoint(folder)
    (message,) = (str(warning.message) for warning in caught)
    assert message.startswith(f"{folder / 'config.json'}: passed over, as transformers does: ")
    assert all(f" {key}=" in message for key in unread) and not any(f" {key}=" in message for key in HARMLESS)
    assert received[0] == expected[0]
    assert all((received[1][name] == array).all() for name, array in expected[1].items())
    for ours, theirs in zip(logits(cls, folder), computed, strict=True):  # and there they change nothing either
        assert (ours == theirs).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_harmless_values_are_passed_over_in_silence(family, tmp_path):
    folder = hf.save(hf.make(CASES[family]), tmp_path / family)
    hf.edit_config(folder, **harmless(family))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_checkpoint(folder)


REFUSED = {
    "sliding_window": 3, "attention_chunk_size": 3, "is_causal": False, "layer_types": ["full_attention", "conv"],
    "kv_sharing_modes": ["reuse", "reuse"], "text_config": {"vocab_size": 3}, "transformers_weights": "other.bin",
    "per_layer_config": {"1": {"num_key_value_heads": 1}}, "configuration_files": ["config.4.0.0.json"],
}  # fmt: skip


@pytest.mark.parametrize("key", REFUSED)
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_what_is_refused_does_change_what_transformers_computes(family, key, tmp_path):
    case = CASES[family]
    folder = hf.save(hf.make(case), tmp_path / family)
    cls = getattr(transformers, hf.CASES[case][0])
    expected = logits(cls, folder)
    hf.edit_config(folder, **{key: REFUSED[key]})
    with pytest.raises(ValueError, match=f"{key}=.* is not supported"):
        read_checkpoint(folder)
    try:
        received = logits(cls, folder)
    except Exception:  # transformers refuses it as well, or breaks
        return
    pairs = zip(received, expected, strict=True)
    assert not all(a.shape == b.shape and np.allclose(a, b, atol=1e-4) for a, b in pairs)


@pytest.mark.parametrize(
    "changes",
    [
        dict(rope_parameters=None, rope_theta=31.0, rope_local_base_freq=3.0),  # as version 4 wrote them
        dict(rope_parameters=None, rope_theta=31.0, rope_scaling=hf.LLAMA3),
        dict(rope_parameters=None),
        dict(rope_parameters={"sliding_attention": {"rope_theta": 3.0}}, rope_theta=31.0),
        dict(rope_parameters={"full_attention": hf.LLAMA3}, rope_theta=31.0),
        dict(rope_parameters={"rope_theta": 31.0}),
        dict(layer_types=None, sliding_window_pattern=2),
        dict(layer_types=None),
        dict(attn_logit_softcapping=0.5),  # which the class reads and does not apply
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:.*passed over")
def test_the_keys_of_gemma3_mean_what_they_mean_in_transformers(changes, tmp_path):
    folder = hf.save(hf.make("gemma3_text"), tmp_path / "m")
    hf.edit_config(folder, **changes)
    config, weights = read_checkpoint(folder)
    tokens, masks, real = hf.inputs("decoder")
    expected = hf.outputs(transformers.Gemma3ForCausalLM.from_pretrained(folder), tokens, masks)
    assert np.abs(reference.forward(config, weights, *tokens, **masks) - expected)[real].max() < 1e-4


@pytest.mark.parametrize(
    "changes",
    [
        dict(rope_theta=None),
        dict(rope_theta=5.0),  # the base in rope_parameters comes first
        dict(rope_scaling=None),
        dict(rope_scaling={}),
        dict(original_max_position_embeddings=19),  # comes before the one in rope_parameters
        dict(rope_scaling=hf.LLAMA3 | dict(factor=2.0, rope_theta=31.0)),  # comes before rope_parameters, all of it
        dict(rope_scaling={"type": "default"}, rope_theta=41.0),
        dict(rope_parameters={"rope_type": "default"}, rope_theta=41.0, original_max_position_embeddings=3),
        dict(rope_parameters={"rope_theta": 43.0, "factor": 2.0}),
        dict(rope_parameters=None, rope_theta=47.0),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:.*passed over")
def test_which_of_several_rotary_keys_counts_is_as_in_transformers(changes, tmp_path):
    folder = hf.save(hf.make("llama-3"), tmp_path / "m")
    hf.edit_config(folder, **changes)
    config, weights = read_checkpoint(folder)
    tokens, masks, real = hf.inputs("decoder")
    expected = hf.outputs(transformers.LlamaForCausalLM.from_pretrained(folder), tokens, masks)
    assert np.abs(reference.forward(config, weights, *tokens, **masks) - expected)[real].max() < 2e-5
