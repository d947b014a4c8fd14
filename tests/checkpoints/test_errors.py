"""A folder that cannot be read exactly is refused; the message names the file and the key or the tensor."""

import json
import re
import struct

import numpy as np
import pytest
from safetensors.numpy import save_file

from tfguide.checkpoints import read_checkpoint
from tfguide.checkpoints.reading import FAMILIES

hf = pytest.importorskip("tests.checkpoints.hf")


def refused(folder, *parts, error=ValueError, **options):
    """Check that reading fails, and that the message has every part in this order."""
    with pytest.raises(error, match="(?s)" + ".*".join(map(re.escape, parts))):
        read_checkpoint(folder, **options)


UNSUPPORTED = [  # a model, a key of its config.json, a value of it that would change the result, what is supported
    ("bert", "hidden_act", "silu", "'gelu'"),
    ("bert", "is_decoder", True, "expected false"),
    ("bert", "add_cross_attention", True, "expected false"),
    ("bert", "position_embedding_type", "relative_key", '"absolute"'),
    ("bert", "pruned_heads", {"0": [1]}, "expected {}"),
    ("gpt2", "activation_function", "swish", "'gelu_new'"),
    ("gpt2", "activation_function", None, "'gelu_new'"),
    ("gpt2", "scale_attn_by_inverse_layer_idx", True, "expected false"),
    ("gpt2", "add_cross_attention", True, "expected false"),
    ("gpt2", "is_encoder_decoder", True, "expected false"),
    ("gpt2", "hidden_size", 14, "n_embd, which is 15"),
    ("llama-3", "hidden_act", "relu", "'silu'"),
    ("llama-3", "quantization_config", {"quant_method": "gptq"}, "not quantised"),
    ("llama-3", "quantization_config", {}, "not quantised"),
    ("llama-3", "sliding_window", 5, "expected null, attention to all positions"),
    ("gpt2", "sliding_window", 5, "expected null, attention to all positions"),
    ("llama-3", "attention_chunk_size", 5, "expected null, attention to all positions"),
    ("llama-3", "layer_types", ["full_attention", "sliding_attention"], "expected 'full_attention'"),
    ("llama-3", "layer_types", [], "expected 'full_attention'"),
    ("llama-3", "layer_types", "full_attention", "expected 'full_attention'"),
    ("llama-3", "kv_sharing_modes", ["reuse", "reuse"], "expected null"),
    ("llama-3", "is_causal", False, "expected true"),
    ("llama-3", "is_causal", None, "expected true"),
    ("gpt2", "is_causal", None, "expected true"),
    ("bert", "is_causal", True, "expected false"),
    ("t5-1.0", "is_causal", True, "expected null"),
    ("t5-1.0", "is_causal", False, "expected null"),
    ("llama-3", "per_layer_config", {"1": {}}, "expected {}"),
    ("llama-3", "text_config", {}, "expected null"),
    ("t5-1.0", "decoder", {"d_model": 3}, "expected null"),
    ("gpt2", "transformers_weights", "other.safetensors", "expected null"),
    ("bert", "configuration_files", ["config.4.0.0.json"], "expected null"),
    ("bert", "fusion_config", {"norm": True}, "expected null"),
    ("llama-3", "default_rope_type", "axial", "expected null"),
    ("llama-3", "partial_rotary_factor", 0.5, "expected 1.0"),
    ("distilbert", "activation", "silu", "'gelu'"),
    ("distilbert", "is_encoder_decoder", True, "expected false"),
    ("distilbert", "per_layer_config", {"1": {"n_heads": 1}}, "expected {}"),
    ("roberta", "is_decoder", True, "expected false"),
    ("roberta", "position_embedding_type", "relative_key", '"absolute"'),
    ("roberta", "max_position_embeddings", 2, "expected more than pad_token_id + 1 = 2"),
    ("mistral-window", "is_causal", False, "expected true"),
    ("mistral-window", "layer_types", ["sliding_attention"] * 2, "'full_attention'"),
    ("mistral-window", "hidden_act", "relu", "'silu'"),
    ("qwen2", "partial_rotary_factor", 0.5, "expected 1.0"),
    ("qwen2", "hidden_act", "relu", "'silu'"),
    ("qwen2", "layer_types", ["full_attention", "sliding_attention"], "needs a sliding_window that is used"),
    ("qwen2", "kv_sharing_modes", ["reuse", "reuse"], "expected null"),
    ("qwen3", "hidden_act", "relu", "'silu'"),
    ("qwen3", "is_causal", False, "expected true"),
    ("qwen3", "kv_sharing_modes", ["reuse", "reuse"], "expected null"),
    ("gemma3_text", "use_bidirectional_attention", True, "expected false"),
    ("gemma3_text", "hidden_activation", "relu", "'silu'"),
    ("gemma3_text", "is_causal", False, "expected true"),
    ("gemma3_text", "per_layer_config", {"1": {"head_dim": 2}}, "expected {}"),
    ("mixtral", "hidden_act", "relu", "'silu'"),
    ("mixtral", "num_experts", 3, "another name of num_local_experts"),
    ("mixtral", "partial_rotary_factor", 0.5, "expected 1.0"),
    ("qwen3_moe", "mlp_only_layers", [1], "layers without experts are known at the beginning only"),
    ("qwen3_moe", "decoder_sparse_step", 2, "layers without experts are known at the beginning only"),
    ("gpt_oss", "swiglu_alpha", 1.5, "expected 1.702"),
    ("gpt_oss", "sliding_window_pattern", 3, "expected 2"),
    ("gpt_oss", "num_experts", 3, "another name of num_local_experts"),
    ("deepseek_v3", "rope_interleave", False, "expected true"),
    ("deepseek_v3", "head_dim", 6, "expected that of qk_rope_head_dim, 4"),
    ("deepseek_v3", "hidden_act", "relu", "'silu'"),
    ("phi3", "is_causal", False, "expected true"),
    ("phi3", "hidden_act", "relu", "'silu'"),
    ("phi3", "attention_chunk_size", 3, "expected null"),
    ("t5-1.0", "feed_forward_proj", "gated-relu", "'gated-gelu'"),
    ("t5-1.0", "feed_forward_proj", "silu", "'relu'"),
    ("t5-1.0", "dense_act_fn", "gelu_new", "'relu'"),
    ("t5-1.0", "is_gated_act", True, "expected false"),
    ("t5-1.0", "is_encoder_decoder", False, "expected true"),
    ("t5-1.0", "tie_encoder_decoder", True, "expected false"),
]


def test_every_family_refuses_keys_by_name():
    keys = {
        family: {key for case, key, *_ in UNSUPPORTED if hf.config(case).model_type == family} for family in FAMILIES
    }
    assert min(map(len, keys.values())) >= 2, keys
    assert len(set().union(*keys.values())) >= 20


class TestKeys:
    """Values in config.json that would change the result."""

    @pytest.mark.parametrize(("case", "key", "value", "supported"), UNSUPPORTED)
    def test_a_value_that_is_not_supported(self, case, key, value, supported, saved):
        folder = saved(case)
        hf.edit_config(folder, **{key: value})
        refused(folder, "config.json", f"{key}={value!r}", "not supported", supported, f"ignore=({key!r},)")

    @pytest.mark.parametrize(
        ("case", "key", "value"),
        [
            ("bert", "position_embedding_type", "relative_key"),
            ("llama-3", "sliding_window", 5),
            ("t5-1.0", "dense_act_fn", "gelu_new"),
        ],
    )
    def test_ignore_reads_the_folder_as_if_the_key_were_absent(self, case, key, value, saved):
        folder = saved(case)
        expected = read_checkpoint(folder)
        hf.edit_config(folder, **{key: value})
        with pytest.warns(UserWarning, match=f"config.json: ignored as told: {key}={value!r}$"):
            received = read_checkpoint(folder, ignore=["something_else", key])
        assert received[0] == expected[0]
        assert all((received[1][name] == array).all() for name, array in expected[1].items())

    @pytest.mark.parametrize("ignore", ["sliding_window", [3], b"x", 3, None])
    def test_ignore_is_a_sequence_of_keys(self, ignore, saved):
        with pytest.raises(TypeError, match="ignore must be a sequence of keys"):
            read_checkpoint(saved("gpt2"), ignore=ignore)

    @pytest.mark.parametrize("model_type", ["falcon", "mamba", None, 3, ["bert"]])
    def test_model_type(self, model_type, saved):
        folder = saved("gpt2")
        hf.edit_config(folder, model_type=model_type)
        refused(folder, "config.json", f"model_type={model_type!r}", f"expected one of {', '.join(FAMILIES)}")

    @pytest.mark.parametrize(
        ("case", "key", "value", "expected"),
        [
            ("bert", "hidden_size", "21", "an integer of at least 1, got '21'"),
            ("bert", "hidden_size", 21.0, "an integer of at least 1, got 21.0"),
            ("bert", "type_vocab_size", 0, "an integer of at least 1, got 0"),
            ("bert", "layer_norm_eps", None, "a finite number, got None"),
            ("bert", "layer_norm_eps", float("nan"), "a finite number, got nan"),
            ("bert", "layer_norm_eps", 10**400, "a finite number, got 1000"),
            ("bert", "hidden_dropout_prob", 1.0, "a number of at least 0 and below 1, got 1.0"),
            ("bert", "pad_token_id", "0", "an integer or null, got '0'"),
            ("gpt2", "n_layer", True, "an integer of at least 1, got True"),
            ("gpt2", "tie_word_embeddings", 1, "true or false, got 1"),
            ("llama-3", "rope_parameters", "llama3", "an object, got 'llama3'"),
            ("llama-3", "num_key_value_heads", -2, "an integer of at least 1, got -2"),
            ("llama-3", "rms_norm_eps", [1e-6], "a finite number, got [1e-06]"),
        ],
    )
    def test_a_value_of_the_wrong_type(self, case, key, value, expected, saved):
        folder = saved(case)
        hf.edit_config(folder, **{key: value})
        refused(folder, f"config.json: {key} must be {expected}")

    @pytest.mark.parametrize(
        ("case", "key", "default"),
        [("gpt2", "n_layer", "12"), ("llama-3", "hidden_size", "4096"), ("gpt2", "tie_word_embeddings", "True")],
    )
    def test_null_where_a_value_must_be(self, case, key, default, saved):
        folder = saved(case)
        hf.edit_config(folder, **{key: None})
        refused(folder, f"config.json: {key} must not be null; absent, it is {default}")

    def test_null_for_a_tied_head_is_as_if_absent_in_t5(self, saved):
        folder = saved("t5-1.0")
        expected = read_checkpoint(folder)[0]
        hf.edit_config(folder, tie_word_embeddings=None)
        assert expected.tied_head and read_checkpoint(folder)[0] == expected

    @pytest.mark.parametrize(
        ("case", "changes", "message"),
        [
            ("bert", dict(num_attention_heads=4), "d_model must be divisible by n_heads"),
            ("llama-3", dict(num_key_value_heads=4), "n_kv_heads must divide n_heads"),
            ("llama-3", dict(head_dim=9), "even d_head"),
            ("llama-3", dict(head_dim=10**400), "int too large"),
            ("t5-1.0", dict(relative_attention_num_buckets=2), "relative_buckets must be at least 4"),
        ],
    )
    def test_sizes_that_do_not_fit_together(self, case, changes, message, saved):
        folder = saved(case)
        hf.edit_config(folder, **changes)
        refused(folder, "config.json: ", message)


class TestRope:
    """Scalings of the rotary positions that no class of ours has, in both spellings, and keys that are missing."""

    @pytest.mark.parametrize("outer", ["rope_parameters", "rope_scaling"])
    @pytest.mark.parametrize("inner", ["rope_type", "type"])
    @pytest.mark.parametrize("kind", ["su", "mrope", "proportional", None])
    def test_another_type(self, outer, inner, kind, saved):
        folder = saved("llama-3")
        hf.edit_config(folder, "rope_parameters", **{outer: {inner: kind, "factor": 2.0}})
        refused(folder, f"{outer}.rope_type={kind!r}", "expected one of 'default', 'llama3'")

    def change(self, saved, *remove, **changes):
        folder = saved("llama-3")
        rope = {key: value for key, value in hf.LLAMA3.items() if key not in remove}
        hf.edit_config(folder, rope_parameters=rope | changes)
        return folder

    def test_a_key_that_is_missing(self, saved):
        refused(self.change(saved, "low_freq_factor"), "rope_parameters.low_freq_factor must be a finite number")
        for kind in ("linear", "dynamic", "yarn"):
            refused(self.change(saved, "factor", rope_type=kind), "rope_parameters.factor must be a finite number")
        refused(self.change(saved, rope_type="longrope"), "short_factor must be a list of a number for each pair")

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            (dict(rope_type="linear", factor=0.0), "factor must be above 0.0, got 0.0"),
            (dict(rope_type="dynamic", factor=0.5), "factor must be at least 1, got 0.5"),
            (dict(rope_type="yarn", beta_fast=1.0, beta_slow=2.0), "beta_slow must be at most beta_fast=1.0, got 2.0"),
            (dict(rope_type="yarn", attention_factor="1"), "attention_factor must be a finite number, got '1'"),
            (dict(rope_type="yarn", mscale=-1.0), "mscale must be above 0.0, got -1.0"),
            (dict(rope_type="yarn", rope_theta=1.0), "YarnScaling needs rope_theta above 1, got 1.0"),
            (dict(rope_type="longrope", short_factor=[1.0], long_factor=[1.0]), "a factor for each of 5 pairs"),
            (
                dict(rope_type="longrope", short_factor=[1.0], long_factor=[1.0, 2.0]),
                "must have one length, got 1 and 2",
            ),
            (dict(rope_type="longrope", short_factor=3.0, long_factor=[1.0]), "short_factor must be a list or null"),
            (dict(partial_rotary_factor=0.6), "partial_rotary_factor=0.6 is not supported: expected 1.0"),
        ],
    )
    def test_a_number_that_cannot_be(self, changes, message, saved):
        refused(self.change(saved, **changes), message)

    def test_a_key_that_transformers_does_not_read_either(self, saved):
        expected = read_checkpoint(self.change(saved))[0]
        folder = self.change(saved, attention_factor=1.5)
        with pytest.warns(UserWarning, match="passed over, as transformers does: rope_parameters.attention_factor=1.5"):
            assert read_checkpoint(folder)[0] == expected

    def test_a_set_of_numbers_for_each_kind_of_layer(self, saved):
        folder = saved("llama-3")
        hf.edit_config(folder, rope_parameters={"full_attention": hf.LLAMA3})
        refused(folder, "rope_parameters.full_attention=", "expected one set of numbers for all layers")

    def test_a_base_that_is_nowhere(self, saved):
        folder = saved("llama-3")
        hf.edit_config(folder, "rope_parameters", rope_theta=None)
        refused(folder, "rope_theta must be a number where nothing else gives one, got None")
        hf.edit_config(folder, rope_parameters={"rope_type": "default"}, rope_theta=None)
        refused(folder, "rope_parameters.rope_theta must be a finite number, got None")

    def test_a_part_of_the_head(self, saved):
        refused(self.change(saved, partial_rotary_factor=0.5), "rope_parameters.partial_rotary_factor=0.5")

    def test_two_kinds_of_layers(self, saved):
        folder = saved("gemma3_text")
        kinds = json.loads((folder / "config.json").read_text())["rope_parameters"]
        for changes, message in (
            (dict(rope_scaling={"rope_type": "default"}), "rope_scaling and rope_parameters.full_attention are two"),
            (dict(rope_parameters=None, rope_scaling={"type": "linear"}), "rope_scaling must have a rope_type"),
            (dict(rope_parameters={"sliding_attention": hf.LLAMA3}), "rope_parameters.sliding_attention must have no"),
            (dict(rope_parameters=kinds | {"chunked_attention": {}}), "rope_parameters.chunked_attention={}"),
            (dict(sliding_window=None), "sliding_window must not be null"),
        ):
            hf.edit_config(folder, **dict(rope_parameters=kinds, rope_scaling=None, sliding_window=5) | changes)
            refused(folder, message)

    def test_types_that_differ(self, saved):
        refused(self.change(saved, type="default"), "rope_parameters.type='default'", "which is 'llama3'")

    def test_factors_that_do_not_fit_together(self, saved):
        refused(self.change(saved, low_freq_factor=4.0), "config.json", "low_freq_factor must be below")


class TestTensors:
    @pytest.mark.parametrize(
        ("case", "name", "plain"),
        [
            ("bert", "encoder.layer.1.output.dense.weight", "encoder.layer.1.output.dense.weight"),
            ("bert", "pooler.dense.bias", "pooler.dense.bias"),
            ("gpt2", "transformer.h.0.attn.c_attn.bias", "h.0.attn.c_attn.bias"),
            ("gpt2", "transformer.wte.weight", "wte.weight"),
            ("gpt2-untied", "lm_head.weight", "lm_head.weight"),
            ("llama-grouped", "lm_head.weight", "lm_head.weight"),
            ("llama-grouped", "model.norm.weight", "norm.weight"),
            ("t5-1.0", "shared.weight", "shared.weight"),
        ],
    )
    def test_missing(self, case, name, plain, saved):
        folder = saved(case)
        hf.edit_tensors(folder, lambda tensors: tensors.pop(name))
        refused(folder, str(folder), f"missing tensor {plain!r}", "shape")

    def test_missing_head_of_an_untied_trunk(self, tmp_path):
        for name, changes in (("gpt2-gelu-trunk", {}), ("llama-tanh-trunk", {}), ("t5-trunk", {})):
            folder = hf.save(hf.make(name), tmp_path / name)
            hf.edit_config(folder, "scale_decoder_outputs", tie_word_embeddings=False, **changes)
            refused(folder, "missing tensor 'lm_head.weight'")

    def test_all_of_them(self, saved):
        folder = saved("gpt2")
        save_file({}, folder / "model.safetensors")
        refused(folder, "n_layers=2, but there are only 0 tensors")

    @pytest.mark.parametrize("key", ["n_layer", "num_decoder_layers", "num_layers"])
    def test_more_layers_than_tensors_are_refused_before_they_are_listed(self, key, saved):
        folder = saved("gpt2" if key == "n_layer" else "t5-1.0")
        hf.edit_config(folder, **{key: 10**12})
        refused(folder, "1000000000000, but there are only")

    @pytest.mark.parametrize(
        ("case", "name", "why"),
        [
            ("bert", "classifier.weight", "a head for a task of its own"),
            ("bert", "qa_outputs.bias", "a head for a task of its own"),
            ("gpt2", "score.weight", "a head for a task of its own"),
            ("llama-3", "score.weight", "a head for a task of its own"),
            ("t5-1.0", "classification_head.dense.weight", "a head for a task of its own"),
            ("gpt2", "transformer.h.2.ln_1.weight", "no such weight"),
            ("gpt2", "transformer.h.0.crossattention.c_attn.weight", "no such weight"),
            ("gpt2", "transformer.h.0.attn.bias2", "no such weight"),
            ("llama-3", "model.layers.0.self_attn.q_proj.bias", "no such weight"),
            ("llama-3", "model.layers.0.self_attn.q_norm.weight", "no such weight"),
            ("t5-1.0", "decoder.block.1.layer.1.EncDecAttention.relative_attention_bias.weight", "no such weight"),
        ],
    )
    def test_unexpected(self, case, name, why, saved):
        folder = saved(case)
        hf.edit_tensors(folder, lambda tensors: tensors.update({name: np.ones(3, np.float32)}))
        refused(folder, "model.safetensors", f"unexpected tensor {name!r}", why)

    @pytest.mark.parametrize(
        ("case", "name"),
        [
            ("bert", "embeddings.position_embeddings.weight"),
            ("gpt2", "transformer.h.1.attn.c_attn.weight"),
            ("gpt2", "transformer.h.1.mlp.c_proj.weight"),
            ("llama-grouped", "model.layers.1.self_attn.k_proj.weight"),
            ("llama-grouped", "lm_head.weight"),
            ("t5-1.1", "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"),
        ],
    )
    @pytest.mark.parametrize(
        "change", [lambda a: a[1:], lambda a: a.T, lambda a: a[None], lambda a: a.reshape(-1), lambda a: a[:0]]
    )
    def test_wrong_shape(self, case, name, change, saved):
        folder, shapes = saved(case), []

        def edit(tensors):
            shapes.append(tensors[name].shape)
            tensors[name] = change(tensors[name])
            shapes.append(tensors[name].shape)

        hf.edit_tensors(folder, edit)
        refused(folder, "model.safetensors", f"tensor {name!r} must have shape {shapes[0]}, got {shapes[1]}")

    @pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.int64, np.bool_])
    def test_wrong_type(self, dtype, saved):
        folder, name = saved("gpt2"), "transformer.h.1.mlp.c_fc.weight"
        hf.edit_tensors(folder, lambda tensors: tensors.update({name: tensors[name].astype(dtype)}))
        refused(folder, "model.safetensors", f"tensor {name!r} has dtype", "F64, F32, F16, BF16", "quantised")

    def test_eight_bit_floats(self, saved):
        folder, name = saved("gpt2"), "transformer.h.1.ln_1.weight"
        header, data = split(folder / "model.safetensors")
        low, high = header[name]["data_offsets"]
        add_tensor(header, name, {"dtype": "F8_E4M3", "shape": [15], "data_offsets": [low, low + 15]}, shrink=high)
        join(folder / "model.safetensors", header, data[: low + 15] + data[high:])
        refused(folder, "model.safetensors", f"tensor {name!r} has dtype F8_E4M3")

    def test_numbers_too_large_for_float32(self, saved):
        folder, name = saved("gpt2"), "transformer.h.1.ln_1.weight"
        hf.edit_tensors(folder, lambda tensors: tensors.update({name: np.full(15, 1e39)}))
        refused(folder, "model.safetensors", f"tensor {name!r}", "beyond the largest float32")

    @pytest.mark.parametrize(
        ("case", "name", "stored"),
        [
            ("gpt2", "lm_head.weight", "transformer.wte.weight"),
            ("llama-multi-query-biases", "lm_head.weight", "model.embed_tokens.weight"),
            ("t5-1.0", "encoder.embed_tokens.weight", "shared.weight"),
            ("t5-1.0", "decoder.embed_tokens.weight", "shared.weight"),
        ],
    )
    def test_tied_tensors_that_differ(self, case, name, stored, saved):
        folder = saved(case)

        def edit(tensors):
            tensors[name] = tensors[stored].copy()
            tensors[name][36, 2] = np.nextafter(tensors[name][36, 2], np.float32(9))  # the last bit of the last row

        hf.edit_tensors(folder, edit)
        refused(folder, "model.safetensors", repr(stored), repr(name), "must be equal")

    def test_a_tied_head_of_version_4_that_differs(self, saved):
        folder = saved("t5-1.1")
        hf.edit_config(folder, "scale_decoder_outputs", tie_word_embeddings=True)
        refused(folder, "'shared.weight' and 'lm_head.weight' must be equal")

    def test_two_spellings_of_one_name(self, saved):
        folder = saved("gpt2")
        hf.edit_tensors(folder, lambda tensors: tensors.update({"wte.weight": tensors["transformer.wte.weight"]}))
        refused(folder, "model.safetensors", "'transformer.wte.weight'", "'wte.weight'", "two spellings")


def split(file):
    """The header of a safetensors file as a dictionary, and its data."""
    raw = file.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    return json.loads(raw[8 : 8 + length]), raw[8 + length :]


def join(file, header, data):
    """Write a safetensors file from a header, a dictionary or text, and data."""
    text = header if isinstance(header, str) else json.dumps(header)
    file.write_bytes(struct.pack("<Q", len(text)) + text.encode() + data)


def add_tensor(header, name, entry, shrink):
    """Replace a tensor of a header by a shorter one, and move those behind it."""
    moved = shrink - entry["data_offsets"][1]
    for other in header.values():
        if other.get("data_offsets", [0])[0] >= shrink:
            other["data_offsets"] = [offset - moved for offset in other["data_offsets"]]
    header[name] = entry


class TestFiles:
    """Files that are not what they should be."""

    @pytest.mark.parametrize("cut", [0, 1, 7, 8, 9, 100, 0.3, 0.6, 0.999, -4, -1])
    def test_truncated(self, cut, saved):
        folder = saved("gpt2")
        file = folder / "model.safetensors"
        raw = file.read_bytes()
        file.write_bytes(raw[: cut if isinstance(cut, int) else int(cut * len(raw))])
        refused(folder, "model.safetensors: not a whole safetensors file")

    def test_something_behind_the_end(self, saved):
        folder = saved("gpt2")
        with open(folder / "model.safetensors", "ab") as file:
            file.write(b"\0")
        refused(folder, "model.safetensors: not a whole safetensors file")

    def test_any_byte_of_the_header_flipped_is_an_error_or_the_same_weights(self, saved):
        """A flip that is not noticed must be without effect: in padding, in metadata, or in the case of a digit."""
        folder = saved("gpt2")
        file = folder / "model.safetensors"
        raw = file.read_bytes()
        (length,) = struct.unpack("<Q", raw[:8])
        expected = read_checkpoint(folder)
        accepted = 0
        for at in range(0, 8 + length, 7):
            file.write_bytes(raw[:at] + bytes([raw[at] ^ 0x01]) + raw[at + 1 :])
            try:
                received = read_checkpoint(folder)
            except ValueError:
                continue
            accepted += 1
            assert received[0] == expected[0]
            assert all((received[1][name] == array).all() for name, array in expected[1].items()), at
        assert accepted < 5

    @pytest.mark.parametrize(
        "change",
        [
            dict(data_offsets=[0, 10**12]),
            dict(data_offsets=[-4, 56]),
            dict(data_offsets=[4, 64]),
            dict(shape=[2**62, 2**62]),
            dict(shape=[16]),
            dict(dtype="F31"),
            dict(dtype=None),
            dict(shape=None),
        ],
    )
    def test_header_that_lies(self, change, saved):
        folder = saved("gpt2")
        header, data = split(folder / "model.safetensors")
        name = next(name for name in header if header[name].get("data_offsets", [1])[0] == 0)
        header[name] |= change
        join(folder / "model.safetensors", header, data)
        refused(folder, "model.safetensors: not a whole safetensors file")

    def test_header_with_a_tensor_twice(self, saved):
        folder = saved("gpt2")
        header, data = split(folder / "model.safetensors")
        name = "transformer.ln_f.bias"
        text = json.dumps(header)[:-1] + f", {json.dumps(name)}: {json.dumps(header[name])}}}"
        join(folder / "model.safetensors", text, data)
        refused(folder, "model.safetensors: not a whole safetensors file", f"{name!r} is there twice")

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (b"", "not a whole JSON file"),
            (b'{"model_type": "gpt2"', "not a whole JSON file"),
            (b"\xff\xfe{}", "not a whole JSON file"),
            (b"[1, 2]", "expected a JSON object, got list"),
            (b'{"model_type": "gpt2", "n_layer": 2, "n_layer": 3}', "'n_layer' is there twice"),
            (b"[" * 100_000, "not a whole JSON file"),
            (b'{"n_layer": ' + b"9" * 10_000 + b"}", "not a whole JSON file"),
        ],
    )
    def test_config(self, text, message, saved):
        folder = saved("gpt2")
        (folder / "config.json").write_bytes(text)
        refused(folder, "config.json", message)

    @pytest.mark.parametrize("file", ["pytorch_model.bin", "model.pt", "model.pth", "pytorch_model.bin.index.json"])
    def test_pickles(self, file, saved):
        folder = saved("gpt2")
        (folder / "model.safetensors").rename(folder / file)
        refused(folder, file, "runs whatever code", "save_pretrained(folder, safe_serialization=True)")

    @pytest.mark.parametrize("file", ["tf_model.h5", "flax_model.msgpack", "model.gguf"])
    def test_other_formats(self, file, saved):
        folder = saved("gpt2")
        (folder / "model.safetensors").rename(folder / file)
        refused(folder, file, "only safetensors", "safe_serialization=True")

    def test_no_weights(self, saved):
        folder = saved("gpt2")
        (folder / "model.safetensors").rename(folder / "consolidated.safetensors")
        parts = (str(folder), "model.safetensors", "model.safetensors.index.json", "consolidated.safetensors")
        refused(folder, *parts, error=FileNotFoundError)

    def test_no_config(self, saved):
        folder = saved("gpt2")
        (folder / "config.json").unlink()
        refused(folder, "config.json", str(folder), error=FileNotFoundError)

    def test_no_folder(self, tmp_path):
        refused(tmp_path / "nowhere", "nowhere", error=FileNotFoundError)

    def test_a_file(self, saved):
        refused(saved("gpt2") / "config.json", "config.json", error=NotADirectoryError)

    @pytest.mark.parametrize("folder", [None, 3, b"bytes", ["folder"]])
    def test_not_a_path(self, folder):
        refused(folder, "folder must be a str or a path", error=TypeError)

    def test_an_empty_path(self):
        refused("", "an empty string")

    def test_an_adapter_that_would_not_be_applied(self, saved):
        folder = saved("gpt2")
        (folder / "adapter_config.json").write_text("{}")
        refused(folder, "adapter_config.json", "merge them")


class TestIndex:
    """Shards and the index that names them."""

    @pytest.fixture
    def shards(self, saved):
        folder = saved("gpt2", max_shard_size="6KB")
        read_checkpoint(folder)
        return folder

    def edit(self, folder, edit):
        file = folder / "model.safetensors.index.json"
        index = json.loads(file.read_text())
        index = edit(index) or index
        file.write_text(json.dumps(index))

    @pytest.mark.parametrize(
        "path",
        [
            "../model.safetensors",
            "shards/../../model.safetensors",
            "/tmp/model.safetensors",
            "..\\model.safetensors",
            "C:\\model.safetensors",
            "C:model.safetensors",
            "\\\\host\\share\\model.safetensors",
            "a\0.safetensors",
        ],
    )
    def test_a_path_that_leaves_the_folder(self, path, shards):
        # The file is there, and whole: only the path is wrong.
        (shards.parent / "model.safetensors").write_bytes(sorted(shards.glob("*.safetensors"))[0].read_bytes())
        self.edit(shards, lambda index: index["weight_map"].update({"transformer.wte.weight": path}))
        refused(shards, "index.json", "'transformer.wte.weight'", "outside the folder")

    def test_a_path_inside_the_folder(self, shards):
        expected = read_checkpoint(shards)[0]
        (shards / "sub").mkdir()
        for file in shards.glob("*.safetensors"):
            file.rename(shards / "sub" / file.name)
        self.edit(shards, lambda i: {"weight_map": {name: f"sub/{f}" for name, f in i["weight_map"].items()}})
        assert read_checkpoint(shards)[0] == expected

    @pytest.mark.parametrize("shard", ["pytorch_model.bin", 3, None, ""])
    def test_something_else_than_a_safetensors_file(self, shard, shards):
        self.edit(shards, lambda index: index["weight_map"].update({"transformer.wte.weight": shard}))
        refused(shards, "index.json", "expected a .safetensors file for tensor 'transformer.wte.weight'", repr(shard))

    def test_a_shard_that_is_missing(self, shards):
        shard = sorted(shards.glob("*.safetensors"))[1]
        shard.unlink()
        refused(shards, "index.json", shard.name, "for tensor", "no such file")

    def test_a_tensor_that_is_not_in_its_shard(self, shards):
        def edit(index):
            shard = index["weight_map"]["transformer.wte.weight"]
            index["weight_map"]["lm_head.weight"] = shard

        self.edit(shards, edit)
        refused(shards, "index.json", "'lm_head.weight'", "not there")

    def test_a_tensor_that_the_index_does_not_name(self, shards):
        self.edit(shards, lambda index: {"weight_map": dict(list(index["weight_map"].items())[:-1])})
        refused(shards, ".safetensors: holds tensor", "names no file")

    def test_a_tensor_in_two_shards(self, shards):
        first, second = sorted(shards.glob("*.safetensors"))[:2]
        header, _ = split(second)
        name = next(name for name in header if name != "__metadata__")
        hf_arrays = hf.load_file(first) | {name: np.ones(3, np.float32)}
        save_file(hf_arrays, first)
        refused(shards, first.name, f"holds tensor {name!r}", "index", second.name)

    def test_a_tensor_named_twice(self, shards):
        file = shards / "model.safetensors.index.json"
        text = file.read_text().replace('"weight_map": {', '"weight_map": {"transformer.wte.weight": "x.safetensors",')
        file.write_text(text)
        refused(shards, "index.json", "'transformer.wte.weight' is there twice")

    @pytest.mark.parametrize("index", [{}, {"weight_map": {}}, {"weight_map": ["x"]}, [], "x"])
    def test_not_an_index(self, index, shards):
        (shards / "model.safetensors.index.json").write_text(json.dumps(index))
        refused(shards, "index.json", "expected a")

    def test_not_json(self, shards):
        (shards / "model.safetensors.index.json").write_text('{"weight_map": ')
        refused(shards, "index.json: not a whole JSON file")

    def test_one_file_and_an_index(self, shards):
        first = sorted(shards.glob("*.safetensors"))[0]
        (shards / "model.safetensors").write_bytes(first.read_bytes())
        refused(shards, "both model.safetensors and model.safetensors.index.json")

    def test_a_truncated_shard(self, shards):
        shard = sorted(shards.glob("*.safetensors"))[-1]
        shard.write_bytes(shard.read_bytes()[:-1])
        refused(shards, shard.name, "not a whole safetensors file")
