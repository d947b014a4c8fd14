"""Blocks of GGUF files and asymmetric weights in the kernels of this machine: products, lookups, whole decoders."""

import numpy as np
import pytest

import tfguide.reference as ref
from tests.checkpoints.gguf.made import random_blocks
from tests.native.exact import blocks_of, check_asymmetric, check_blocks
from tests.support import random_weights, refuses, small_config
from tfguide import native
from tfguide.checkpoints.gguf.blocks import dequantise

pytestmark = pytest.mark.skipif(not native.is_available(), reason="there is no C++ compiler")
pytest.importorskip("gguf")
TYPES = native.BLOCK_TYPES


@pytest.mark.parametrize("block_type", TYPES)
def test_products_are_exact(block_type):
    check_blocks(block_type)


@pytest.mark.parametrize("rounds", [False, True])
def test_products_of_asymmetric_weights_are_exact(rounds):
    check_asymmetric(rounds)


@pytest.mark.parametrize("block_type", TYPES[3:])
def test_the_product_of_a_row_does_not_depend_on_the_other_rows(block_type):
    assert block_type.startswith("Q")
    rng = np.random.default_rng(1)
    matrix = native.Matrix.of_blocks(block_type, blocks_of(rng, block_type, 512, 70), 512, 70)
    x = rng.standard_normal((130, 512)).astype(np.float32)
    alone = np.concatenate([native.multiply(matrix, row[None], threads=1) for row in x])
    for rows in (2, 5, 8, 13, 64, 129):
        np.testing.assert_array_equal(native.multiply(matrix, x[:rows], threads=1 + rows % 3), alone[:rows])


# Blocks have 256 numbers, so these models are wide; the inputs of products are rounded to 8 bits.
SIZES = dict(
    d_model=256, d_head=64, n_heads=4, n_kv_heads=2, d_ff=512, vocab_size=50, positions="rotary", norm="rms",
    activation="swiglu",
)  # fmt: skip


def decoder_of(types, config, rng, embedding_type):
    """A decoder whose matrices have these types in turn, and its canonical weights."""
    weights = random_weights(config)
    matrices, n = {}, 0
    for name, array in weights.items():
        kind = types[n % len(types)]
        if name == "embedding.token.weight":
            kind = embedding_type
        elif array.ndim != 2:
            continue
        n += 1
        d_out, d_in = array.shape if name == "embedding.token.weight" else array.shape[::-1]
        data = random_blocks(rng, kind, (d_out, d_in))
        rows = dequantise(data, kind)
        weights[name] = rows if name == "embedding.token.weight" else rows.T
        path = name.removesuffix(".weight")
        matrices[path] = native.Matrix.of_blocks(kind, data, d_in, d_out, weights.get(f"{path}.bias"))
    embedding = matrices.pop("embedding.token")
    vectors = {name: array for name, array in weights.items() if array.ndim == 1}
    return native.NativeDecoder(config, embedding, matrices, vectors, threads=2), embedding, weights


def steps_of(decoder, config, tokens, parts):
    keys, values = ([np.zeros((1, 32, 2, 64), np.float32) for _ in range(config.n_layers)] for _ in "kv")
    cache = native.NativeCache.of(config, 1, keys, values, lambda x: x.ctypes.data, "float32")
    return np.concatenate([decoder.step(tokens[:, a:b], np.array([a]), cache) for a, b in parts], axis=1)


@pytest.mark.parametrize("embedding_type", TYPES)
def test_the_embedding_is_looked_up_in_blocks(embedding_type):
    """With matrices of float32 the logits are those of the reference on the dequantised weights."""
    config = small_config(**SIZES)
    decoder, embedding, weights = decoder_of(["F32"], config, np.random.default_rng(2), embedding_type)
    tokens = np.array([[3, 49, 0, 17, 16, 15]])
    got = steps_of(decoder, config, tokens, [(0, 4), (4, 5), (5, 6)])
    reference = ref.from_weights(config, weights)
    np.testing.assert_allclose(got @ weights["embedding.token.weight"].T, reference(tokens), rtol=1e-4, atol=1e-4)
    head = native.multiply(embedding, got[0], threads=2)  # the same matrix as the head
    np.testing.assert_allclose(head, reference(tokens)[0], atol=0.02 * np.abs(head).max())


@pytest.mark.parametrize(
    "types",
    [*([kind] for kind in TYPES), ["Q4_K", "Q6_K", "Q5_K"], ["Q8_0", "F32", "Q4_0", "BF16", "F16"]],
    ids=" ".join,
)
def test_a_decoder_of_blocks(types):
    """One type, or several in one layer; the inputs of quantised products are rounded to 8 bits."""
    config = small_config(**SIZES)
    decoder, _, weights = decoder_of(types, config, np.random.default_rng(3), "F32")
    tokens = np.arange(20)[None] * 7 % 50
    want = ref.from_weights(config, weights)(tokens)
    for parts in ([(0, 20)], [(0, 9), (9, 10), (10, 20)], [(i, i + 1) for i in range(20)]):
        got = steps_of(decoder, config, tokens, parts) @ weights["embedding.token.weight"].T
        error = np.abs(got - want).max() / np.abs(want).max()
        assert error < (1e-5 if types == ["F32"] or types == ["F16"] else 0.05), error


def test_memory_mapped_from_a_file_is_given_back(tmp_path):
    data = blocks_of(np.random.default_rng(4), "Q8_0", 4096, 4096)
    (tmp_path / "file").write_bytes(data.tobytes())
    mapped = np.memmap(tmp_path / "file", np.uint8, mode="r").reshape(data.shape)
    changed = np.memmap(tmp_path / "file", np.uint8, mode="c").reshape(data.shape)
    changed[7] = data[8]
    x = np.random.default_rng(5).standard_normal((2, 4096)).astype(np.float32)
    for rows, other in ((mapped, data), (changed, np.concatenate([data[:7], data[8:9], data[8:]]))):
        before = resident_file_bytes()
        got = native.multiply(native.Matrix.of_blocks("Q8_0", rows, 4096, 4096), x, threads=2)
        if rows is mapped:
            assert resident_file_bytes() - before < data.nbytes / 10
        want = native.multiply(native.Matrix.of_blocks("Q8_0", other, 4096, 4096), x, threads=2)
        np.testing.assert_array_equal(got, want)
        np.testing.assert_array_equal(rows, other)


def resident_file_bytes():
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssFile"))


@pytest.mark.parametrize(
    ("block_type", "shape", "d_in", "message"),
    [
        ("Q2_K", (4, 84), 256, "block_type must be one of"),
        ("Q4_K", (4, 144), 255, "multiple of the 256 inputs of a block of Q4_K, got 255"),
        ("Q4_0", (4, 17), 32, "the rows must have shape (4, 18), got (4, 17)"),
        ("Q4_0", (3, 18), 32, "the rows must have shape (4, 18), got (3, 18)"),
        ("F16", (4, 60), 32, "the rows must have shape (4, 64), got (4, 60)"),
    ],
)
def test_rows_of_another_size_are_refused(block_type, shape, d_in, message):
    with refuses(ValueError, message):
        native.Matrix.of_blocks(block_type, np.zeros(shape, np.uint8), d_in, 4)


def test_rows_of_another_type_are_refused():
    with refuses(TypeError, "the rows must be uint8, got int8"):
        native.Matrix.of_blocks("Q8_0", np.zeros((4, 34), np.int8), 32, 4)
