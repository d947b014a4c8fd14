"""DeepSeek-V3 from a folder: step by step, with pairs of rotated features in their order, and what is refused."""

import numpy as np
import pytest

from tests.support import load, numpy, refuses, tensor
from tfguide import cost, native
from tfguide.checkpoints import read_checkpoint, write_checkpoint

hf = pytest.importorskip("tests.checkpoints.hf")
torch, transformers = hf.torch, hf.transformers

CASE = "deepseek_v3"


@pytest.mark.parametrize("case", [CASE, "deepseek_v3-dense-biases", "deepseek_v3-yarn"])
@pytest.mark.parametrize("name", ["torch", "tensorflow"])
def test_a_cache_gives_what_transformers_computes_at_once(name, case, tmp_path):
    """Calls of one new position, of a few, and of more than absorb the matrices; by the layers, and by the kernels."""
    theirs = hf.make(case)
    model = load(name).load_checkpoint(hf.save(theirs, tmp_path / case))
    tokens = np.random.default_rng(2).integers(0, 37, (2, 23))
    with torch.no_grad():
        expected = theirs(torch.tensor(tokens)).logits.numpy()
    for one in (model, load(name).accelerate(model)):
        cache, parts = one.new_cache(2, 23), []
        for first, end in [(0, 4), (4, 5), (5, 7), (7, 21), (21, 22), (22, 23)]:
            parts.append(numpy(one(tensor(name, tokens[:, first:end]), cache=cache)))
        assert np.abs(np.concatenate(parts, axis=1) - expected).max() < 1e-4
        assert cache.nbytes == 2 * 23 * cost.kv_bytes_per_token(model.config, "float32") == 2 * 23 * 2 * (11 + 4) * 4


def test_written_again_every_tensor_is_the_same(tmp_path, saved):
    folder = saved(CASE)
    write_checkpoint(tmp_path / "again", *read_checkpoint(folder))
    before, after = (hf.load_file(path / "model.safetensors") for path in (folder, tmp_path / "again"))
    assert before.keys() == after.keys()
    assert all((before[name] == after[name]).all() for name in before)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(rope_interleave=False), "rope_interleave=False is not supported"),
        (dict(rope_interleave=None), "rope_interleave=None is not supported"),
        (dict(num_key_value_heads=3), "num_key_value_heads=3 is not supported: expected that of num_attention_heads"),
        (dict(head_dim=6), "head_dim=6 is not supported: expected that of qk_rope_head_dim, 4"),
        (dict(rope_parameters=dict(rope_type="llama3", rope_theta=9.0, factor=2.0, low_freq_factor=1.0,
                                   high_freq_factor=2.0, original_max_position_embeddings=8)), "rope_type"),
        (dict(q_lora_rank=0), "q_lora_rank must be an integer of at least 1"),
        (dict(n_group=3), "n_groups must divide n_experts=8, got 3"),
        (dict(topk_group=5), "groups_per_token must be at most n_groups=4, got 5"),
        (dict(first_k_dense_replace=None), "first_k_dense_replace"),
        (dict(scoring_func=3, sliding_window=5), "sliding_window=5 is not supported"),
    ],
    ids=lambda value: "" if isinstance(value, str) else next(iter(value)),
)  # fmt: skip
def test_what_is_not_supported_is_refused_by_name(changes, message, saved):
    folder = saved(CASE)
    hf.edit_config(folder, **changes)
    with refuses(ValueError, message):
        read_checkpoint(folder)


def test_the_module_that_drafts_tokens_is_passed_over(saved):
    folder = saved(CASE)
    config, _ = read_checkpoint(folder)

    def add(arrays):
        arrays["model.layers.61.eh_proj.weight"] = np.zeros((28, 56), np.float32)

    hf.edit_tensors(folder, add)
    assert read_checkpoint(folder)[0] == config
    hf.edit_tensors(folder, lambda arrays: arrays.update({"model.layers.62.eh_proj.weight": np.zeros(3, np.float32)}))
    with refuses(ValueError, "unexpected tensor 'model.layers.62.eh_proj.weight'"):
        read_checkpoint(folder)


@pytest.mark.parametrize("case", [CASE, "deepseek_v3-dense-biases", "deepseek_v3-yarn"])
def test_the_kernels_read_a_folder_alone(case, tmp_path):
    """Latent attention with groups of experts, shared ones and a dense first layer, or with yarn.

    The shared network is wider than an expert, so that the threads have other parts of it.
    """
    theirs = hf.make(case)
    folder = hf.save(theirs, tmp_path / case)
    tokens = np.random.default_rng(2).integers(0, 37, (2, 23))
    with torch.no_grad():
        expected = theirs(torch.tensor(tokens)).logits.numpy()
    for threads in (2, 3):
        model = native.load(folder, threads=threads)
        cache = model.new_cache(2, 23)
        parts = [model(tokens[:, first:end], cache=cache) for first, end in [(0, 1), (1, 20), (20, 23)]]
        assert np.abs(np.concatenate(parts, axis=1) - expected).max() < 1e-4
