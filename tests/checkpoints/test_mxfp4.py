"""Experts in MXFP4, as published files of gpt-oss hold them, are what transformers dequantises them to."""

import numpy as np
import pytest

import tfguide.reference as ref
from tfguide.checkpoints import read_checkpoint
from tfguide.checkpoints.mxfp4 import dequantise

hf = pytest.importorskip("tests.checkpoints.hf")
torch = hf.torch
SIZES = dict(hidden_size=96, intermediate_size=64, num_hidden_layers=1, num_local_experts=3)


def packed(experts, d_out, d_in, seed):
    """Random blocks and exponents of weights (experts, out, in)."""
    stream = np.random.default_rng(seed)
    blocks = stream.integers(0, 256, (experts, d_out, d_in // 32, 16), np.uint8)
    return blocks, stream.integers(120, 126, blocks.shape[:-1], np.uint8)


def theirs(blocks, scales):
    """The weight (experts, in, out) that transformers makes of them."""
    from transformers.integrations.mxfp4 import convert_moe_packed_tensors

    return convert_moe_packed_tensors(torch.from_numpy(blocks), torch.from_numpy(scales), dtype=torch.float32).numpy()


def test_every_number_and_exponent():
    blocks = np.arange(256, dtype=np.uint8).reshape(1, 4, 4, 16)
    for scale in (0, 1, 126, 127, 128, 254):
        scales = np.full((1, 4, 4), scale, np.uint8)
        np.testing.assert_array_equal(dequantise(blocks, scales).swapaxes(1, 2), theirs(blocks, scales))


def test_a_folder_with_blocks_gives_the_logits_of_transformers(saved, monkeypatch):
    kind, fields = hf.CASES["gpt_oss"]
    monkeypatch.setitem(hf.CASES, "gpt_oss", (kind, fields | SIZES))
    folder, model = saved("gpt_oss"), hf.make("gpt_oss")
    blocks = {"gate_up_proj": packed(3, 2 * 64, 96, 1), "down_proj": packed(3, 96, 64, 2)}
    prefix = "model.layers.0.mlp.experts."

    def pack(arrays):
        for name, parts in blocks.items():
            del arrays[prefix + name]
            arrays |= dict(zip((f"{prefix}{name}_blocks", f"{prefix}{name}_scales"), parts, strict=True))

    hf.edit_tensors(folder, pack)
    hf.edit_config(folder, quantization_config={"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]})
    config, weights = read_checkpoint(folder)
    state = {prefix + name: torch.from_numpy(theirs(*parts)) for name, parts in blocks.items()}
    model.load_state_dict(state, strict=False)
    tokens, masks, real = hf.inputs("decoder")
    expected = hf.outputs(model, tokens, masks)
    assert np.abs(ref.forward(config, weights, *tokens, **masks) - expected)[real].max() < 1e-4

    def spoil(arrays):
        arrays[f"{prefix}down_proj_scales"] = arrays[f"{prefix}down_proj_scales"][:, :, :1]

    hf.edit_tensors(folder, spoil)
    with pytest.raises(ValueError, match=r"down_proj_scales' must be U8 \(3, 96, 2\)"):
        read_checkpoint(folder)


def test_another_quantisation_is_refused(saved):
    folder = saved("gpt_oss")
    hf.edit_config(folder, quantization_config={"quant_method": "fp8"})
    with pytest.raises(
        ValueError, match=r"quantization_config\.quant_method='fp8' is not supported: expected.*'mxfp4'"
    ):
        read_checkpoint(folder)
