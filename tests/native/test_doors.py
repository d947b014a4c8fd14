"""Sizes, types and layouts are checked before an address is taken: each mistake is an error that names it."""

import itertools

import numpy as np
import pytest

from tests.support import random_weights, refuses, small_config
from tfguide import native
from tfguide.compress import Quantization, dequantize

pytestmark = pytest.mark.skipif(not native.is_available(), reason="there is no C++ compiler")
RNG = np.random.default_rng(0)
W = RNG.standard_normal((40, 24)).astype(np.float32)  # (in, out)


def pack(bits, group=8):
    packed, scale = Quantization(bits, None, group, asymmetric=False).pack("a weight", W)
    return dict(packed=packed, scale=scale, d_in=40, d_out=24, rounds=False)


def numbers(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


# ---- matrices


@pytest.mark.parametrize("order", ["rows", "columns"])
def test_a_matrix_of_an_array_or_a_tensor_multiplies_as_numpy_does(order):
    torch = pytest.importorskip("torch")
    x, bias = numbers(3, 40), numbers(24)
    stored = np.ascontiguousarray(W.T) if order == "rows" else W
    for weight in (stored, torch.from_numpy(stored), torch.from_numpy(stored).half()):
        exact = np.asarray(weight).astype(np.float32)
        matrix = native.Matrix.of(weight, order, bias)
        assert (matrix.d_in, matrix.d_out, matrix.owner is weight) == (40, 24, True)
        want = x @ (exact.T if order == "rows" else exact) + bias
        np.testing.assert_allclose(native.multiply(matrix, x, 2), want, atol=1e-4)


@pytest.mark.parametrize("bits", [8, 4])
def test_a_packed_matrix_multiplies_and_unpacks(bits):
    arrays = pack(bits)
    matrix = native.Matrix.of_packed(**arrays)
    assert (matrix.format, matrix.group) == (f"int{bits}", 0 if bits == 8 else 8)
    assert native.Matrix.of_packed(**{**arrays, "rounds": True}).format == f"int{bits} a8"
    exact = dequantize(arrays["packed"], arrays["scale"], 24, 40)
    x, y = numbers(3, 40), np.empty((40, 24), np.float32)
    np.testing.assert_allclose(native.multiply(matrix, x, 2), x @ exact, atol=1e-4)
    native.unpack(matrix, native.address_of("y", y, (40, 24)), "float32", 2)
    np.testing.assert_allclose(y * (arrays["scale"][:24] if bits == 8 else 1), exact, atol=1e-6)


@pytest.mark.parametrize(
    ("weight", "order", "error", "message"),
    [
        (W, "diagonal", ValueError, "order must be one of 'rows', 'columns', got 'diagonal'"),
        (W.astype(np.float64), "rows", ValueError, "'bfloat16', 'float16', got 'float64'"),
        (W[0], "rows", ValueError, "must have 2 axes, got shape (24,)"),
        (W.T, "rows", ValueError, "must lie in one piece in main memory, row by row; got strides of (4, 96) bytes"),
        (W[:, ::2], "columns", ValueError, "got strides of (96, 8) bytes"),
    ],
)
def test_a_weight_that_cannot_be_read_where_it_lies_is_refused(weight, order, error, message):
    with refuses(error, message):
        native.Matrix.of(weight, order)


def test_a_tensor_that_cannot_be_read_where_it_lies_is_refused():
    torch = pytest.importorskip("torch")
    tensor = torch.zeros(5, 7)
    assert native.address_of("x", tensor, (5, 7)) == tensor.data_ptr()
    with refuses(ValueError, "got strides of (1, 7) numbers on cpu"):
        native.Matrix.of(tensor.T, "rows")
    with refuses(ValueError, "on meta"):
        native.Matrix.of(torch.zeros(5, 7, device="meta"), "rows")
    with refuses(TypeError, "x must be bfloat16, got float32"):
        native.address_of("x", tensor, (5, 7), "bfloat16")
    with refuses(ValueError, "x must have shape (7, 5), got (5, 7)"):
        native.address_of("x", tensor, (7, 5))


@pytest.mark.parametrize(
    ("bits", "changes", "error", "message"),
    [
        (8, dict(d_out=33), ValueError, "the packed weight must have shape (3, 10, 16, 4), got (2, 10, 16, 4)"),
        (8, dict(d_in=48), ValueError, "(2, 12, 16, 4), got (2, 10, 16, 4)"),
        (8, dict(scale=np.ones(24, np.float32)), ValueError, "the scales must have shape (32,), got (24,)"),
        (8, dict(scale=np.ones(32)), TypeError, "the scales must be float32, got float64"),
        (8, dict(packed=np.zeros((2, 10, 16, 4), np.int16)), ValueError, "'int8', 'uint8', got 'int16'"),
        (8, dict(bias=np.ones(23, np.float32)), ValueError, "bias must have shape (24,), got (23,)"),
        (8, dict(bias=np.ones(24)), TypeError, "bias must be float32, got float64"),
        (4, dict(scale=np.ones((2, 5, 16), np.float32)), TypeError, "the scales must be float16, got float32"),
        (4, dict(scale=np.ones((3, 5, 16), np.float16)), ValueError, "must have shape (2, 5, 16), got (3, 5, 16)"),
        (4, dict(scale=np.ones((2, 3, 16), np.float16)), ValueError, "a multiple of 8 that divides d_in=40"),
        (4, dict(scale=np.ones(32, np.float16)), ValueError, "the scales must have shape (2, 0, 16), got (32,)"),
    ],
)
def test_packed_arrays_of_other_sizes_are_refused(bits, changes, error, message):
    with refuses(error, message):
        native.Matrix.of_packed(**{**pack(bits), **changes})


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (dict(format="float32"), ValueError, "format must be one of 'float32 rows'"),
        (dict(address=0), ValueError, "address must be at least 1, got 0"),
        (dict(d_in=40.0), TypeError, "d_in must be an integer, got 40.0"),
        (dict(format="int8"), ValueError, "scale must be at least 1, got 0"),
        (dict(format="int4", scale=8, group=12), ValueError, "divides d_in=40 for scales of groups, got 12"),
        (dict(format="int4", scale=8, group=8, scaling="bytes"), ValueError, "unit must be at least 1, got 0"),
        (dict(format="int4", scale=8, group=8, scaling="floats"), ValueError, "scaling must be one of 'per output'"),
        (dict(format="int4", scale=8, scaling="per output"), ValueError, "4-bit weights have scales of groups"),
        (
            dict(format="int8", scale=8, group=8, scaling="halves"),
            ValueError,
            "take 8-bit activations: format 'int8 a8'",
        ),
        (dict(bias=[1.0] * 24), TypeError, "bias must be an array, got list"),
    ],
)
def test_a_matrix_of_parts_that_do_not_go_together_is_refused(changes, error, message):
    with refuses(error, message):
        native.Matrix(**{**dict(address=W.ctypes.data, format="float32 columns", d_in=40, d_out=24), **changes})


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (np.ones((2, 39), np.float32), ValueError, "x must have shape (2, 40), got (2, 39)"),
        (np.ones(40, np.float32), ValueError, "x must be (rows, 40), got shape (40,)"),
        (np.ones((2, 40)), TypeError, "x must be float32, got float64"),
    ],
)
def test_rows_of_another_size_or_type_are_not_multiplied(x, error, message):
    with refuses(error, message):
        native.multiply(native.Matrix.of(W, "columns"), x, 2)


def test_strided_rows_are_multiplied_as_they_read():
    x = numbers(6, 80)
    matrix = native.Matrix.of(W, "columns")
    np.testing.assert_array_equal(
        native.multiply(matrix, x[::2, ::2], 2), native.multiply(matrix, x[::2, ::2].copy(), 2)
    )


def test_only_a_packed_matrix_is_unpacked():
    y = np.empty((40, 24), np.float32)
    with refuses(ValueError, "only weights of 8 and 4 bits are packed, got 'float32 columns'"):
        native.unpack(native.Matrix.of(W, "columns"), y.ctypes.data, "float32", 2)
    for dtype, place, threads, message in (
        ("float64", y.ctypes.data, 2, "dtype must be one of"), ("float32", 0, 2, "y must be at least 1"),
        ("float32", y.ctypes.data, 0, "threads must be at least 1, got 0"),
    ):  # fmt: skip
        with refuses(ValueError, message):
            native.unpack(native.Matrix.of_packed(**pack(8)), place, dtype, threads)


# ---- rows


ROWS, WIDTH = 3, 22
X, Y = numbers(ROWS, WIDTH), numbers(ROWS, WIDTH)
PLACES = dict(x=X.ctypes.data, y=Y.ctypes.data, rows=ROWS, dtype="float32", threads=2)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (dict(weight=np.ones(WIDTH)), TypeError, "weight must be float32, got float64"),
        (dict(weight=np.ones((2, 11), np.float32)), ValueError, "weight must have shape (22,), got (2, 11)"),
        (dict(weight=np.ones(44, np.float32)[::2]), ValueError, "weight must lie in one piece"),
        (dict(bias=np.ones(21, np.float32)), ValueError, "bias must have shape (22,), got (21,)"),
        (dict(dtype="float64"), ValueError, "dtype must be one of 'float32', 'bfloat16', 'float16', got 'float64'"),
        (dict(rows=-1), ValueError, "rows must be at least 0, got -1"),
        (dict(x=0), ValueError, "x must be at least 1, got 0"),
        (dict(threads=0), ValueError, "threads must be at least 1, got 0"),
    ],
)
def test_a_norm_of_other_sizes_is_refused(changes, error, message):
    arguments = dict(**PLACES, weight=np.ones(WIDTH, np.float32), bias=None, eps=1e-5, is_rms=True)
    native.normalise(**arguments)
    with refuses(error, message):
        native.normalise(**{**arguments, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(activation="tanh"), "activation must be one of"),
        (dict(activation="swiglu", gate=None), "activation 'swiglu' takes a gate, got none"),
        (dict(activation="gelu"), "activation 'gelu' takes no gate, got one"),
        (dict(width=0), "width must be at least 1, got 0"),
        (dict(dtype="int8"), "dtype must be one of"),
    ],
)
def test_an_activation_of_other_parts_is_refused(changes, message):
    arguments = dict(PLACES, width=WIDTH, activation="swiglu", gate=X.ctypes.data)
    arguments["up"] = arguments.pop("x")
    native.activate(**arguments)
    with refuses(ValueError, message):
        native.activate(**{**arguments, **changes})


@pytest.mark.parametrize(
    ("cos", "sin", "error", "message"),
    [
        (numbers(ROWS, 5), numbers(ROWS, 5), ValueError, "rotate heads of 10 numbers, got rows of 22"),
        (numbers(2, 11), numbers(2, 11), ValueError, "cos must have shape (3, 11), got (2, 11)"),
        (numbers(ROWS, 11), numbers(ROWS, 1), ValueError, "sin must have shape (3, 11), got (3, 1)"),
        (numbers(ROWS, 11), np.ones((ROWS, 11)), TypeError, "sin must be float32, got float64"),
        (numbers(11, ROWS).T, numbers(ROWS, 11), ValueError, "cos must lie in one piece"),
        (numbers(ROWS, 0), numbers(ROWS, 0), ValueError, "got rows of 22"),
    ],
)
def test_a_rotation_by_other_angles_is_refused(cos, sin, error, message):
    with refuses(error, message):
        native.rotate(**PLACES, width=WIDTH, cos=cos, sin=sin)


# ---- caches and steps


CONFIG = small_config(n_kv_heads=3, positions="rotary", activation="swiglu", n_token_types=2)
KINDS = ("numpy", "torch")


def make_cache(kind="numpy", batch=2, length=9, dtype="float32"):
    shape = (batch, length, 3, 10)
    if kind == "torch":
        torch = pytest.importorskip("torch")
        return [[torch.zeros(shape, dtype=getattr(torch, dtype)) for _ in range(2)] for _ in "kv"]
    return [[np.zeros(shape, dtype) for _ in range(2)] for _ in "kv"]


def places(keys, values, dtype="float32", config=CONFIG, batch=2, scales=None):
    address = (lambda x: x.ctypes.data) if isinstance(keys[0], np.ndarray) else (lambda x: x.data_ptr())
    return native.NativeCache.of(config, batch, keys, values, address, dtype, scales)


def other(x, change):
    """A tensor that differs from x in one thing."""
    if change == "shorter":
        return x[:, :-1].copy() if isinstance(x, np.ndarray) else x[:, :-1].contiguous()
    if change == "of another type":
        return x.astype(np.float16) if isinstance(x, np.ndarray) else x.half()
    return x.swapaxes(1, 2).copy().swapaxes(1, 2) if isinstance(x, np.ndarray) else x.mT.contiguous().mT


@pytest.mark.parametrize("where", [(0, 0), (0, 1), (1, 0), (1, 1)], ids=str)
@pytest.mark.parametrize("change", ["shorter", "of another type", "strided"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_cache_is_looked_at_in_every_layer(kind, change, where):
    cache = make_cache(kind)
    assert places(*cache).shape == (2, 9, 3, 10)
    part, layer = where
    cache[part][layer] = other(cache[part][layer], change)
    with pytest.raises(ValueError, match=r"the cache must|keys and values of all layers must be float32 of shape"):
        places(*cache)


@pytest.mark.parametrize("kind", KINDS)
def test_a_cache_of_other_sizes_is_refused(kind):
    keys, values = make_cache(kind)
    for arguments, message in (
        ((keys[:1], values), "must hold keys and values of 2 layers, got 1 and 2"),
        ((keys, values, "float64"), "takes a cache of float32, bfloat16, float16, int8, got float64"),
        ((keys, values, "float16"), "of the type that is named, float16, got float32"),
        ((keys, values, "float32", CONFIG.replace(n_kv_heads=2)), "(2, S, 2, 10), got (2, 9, 3, 10)"),
        ((keys, values, "float32", CONFIG, 3), "(3, S, 3, 10), got (2, 9, 3, 10)"),
    ):
        with refuses(ValueError, message):
            places(*arguments)


@pytest.mark.parametrize("kind", KINDS)
def test_the_scales_of_an_8_bit_cache_are_looked_at_in_every_layer(kind):
    (keys, values), shape = make_cache(kind, dtype="int8"), (2, 9, 3)

    def scales(wrong=None):
        parts = [make_scales(kind, shape) for _ in "kv"]
        if wrong is not None:
            part, layer, change = wrong
            parts[part][layer] = other(parts[part][layer], change)
        return parts

    given = scales()
    found = places(keys, values, "int8", scales=given)
    locate = native.address_of
    assert found.key_scales == [locate("scales", x, shape) for x in given[0]]
    assert found.value_scales == [locate("scales", x, shape) for x in given[1]]
    assert places(*make_cache(kind)).key_scales == ()
    for wrong in itertools.product((0, 1), (0, 1), ("shorter", "of another type", "strided")):
        with refuses(ValueError, "scales of all layers must be float32 of shape (2, 9, 3)"):
            places(keys, values, "int8", scales=scales(wrong))
    with refuses(ValueError, "the cache must hold scales of 2 layers, got [1, 2]"):
        places(keys, values, "int8", scales=(given[0][:1], given[1]))
    with refuses(ValueError, "an int8 cache has scales and no other has: got int8 without them"):
        places(keys, values, "int8")
    with refuses(ValueError, "an int8 cache has scales and no other has: got float32 with them"):
        places(*make_cache(kind), scales=given)


def make_scales(kind, shape):
    if kind == "torch":
        return [pytest.importorskip("torch").zeros(shape) for _ in range(2)]
    return [np.zeros(shape, np.float32) for _ in range(2)]


def parts_of_a_model(**changes):
    config = CONFIG.replace(**changes)
    weights = random_weights(config)
    table = weights["embedding.token.weight"]
    matrices = {
        name.removesuffix(".weight"): native.Matrix.of(
            array, "columns", weights.get(name.removesuffix("weight") + "bias")
        )
        for name, array in weights.items()
        if array.ndim == 2 and not name.startswith("embedding")
    }
    small = ("norm", "embedding.position", "embedding.token_type")
    vectors = {name: array for name, array in weights.items() if any(word in name for word in small)}
    return dict(config=config, embedding=native.Matrix.of(table, "rows"), matrices=matrices, vectors=vectors)


def test_a_step_from_arrays_alone():
    """The kernels without a framework: the hidden states of the reference."""
    import tfguide.reference as ref

    parts = parts_of_a_model(tied_head=False)
    head = parts["matrices"].pop("head")
    tokens = np.array([[1, 2, 3], [4, 5, 6]])
    hidden = native.NativeDecoder(**parts, threads=2).step(tokens, np.zeros(2, int), places(*make_cache()))
    logits = native.multiply(head, hidden.reshape(6, -1), 2).reshape(2, 3, -1)
    config = parts["config"]
    np.testing.assert_allclose(logits, ref.from_weights(config, random_weights(config))(tokens), atol=1e-5)


def test_a_decoder_of_other_weights_is_refused():
    parts = parts_of_a_model()
    query = "decoder.layers.1.self_attention.query"
    table = parts["embedding"]
    wrong = native.Matrix.of(numbers(22, 59), "columns")
    for name, value, message in (
        (
            "embedding",
            native.Matrix.of(table.owner, "columns"),
            "(37, 22), or packed, got 'float32 columns'",
        ),
        ("matrices", {**parts["matrices"], query: wrong}, f"{query!r} must be (in, out) = (22, 60), got (22, 59)"),
        ("matrices", {n: m for n, m in parts["matrices"].items() if n != query}, f"must hold {query!r} of (22, 60)"),
        ("vectors", {**parts["vectors"], "decoder.final_norm.weight": np.ones(23)}, "must have shape (22,), got (23,)"),
        ("vectors", {"decoder.final_norm.weight": np.ones(22)}, "vectors must hold 'decoder.layers.0"),
        ("vectors", {**parts["vectors"], "a.bias": np.ones(22)}, "the model has no vector 'a.bias'"),
        ("threads", 0, "threads must be at least 1, got 0"),
    ):
        with refuses(ValueError, message):
            native.NativeDecoder(**{**parts, name: value})


def test_a_step_of_other_sizes_is_refused():
    decoder = native.NativeDecoder(**parts_of_a_model(), threads=2)
    cache, tokens, starts = places(*make_cache()), np.array([[1], [2]]), np.zeros(2, np.int32)
    assert decoder.step(tokens, starts, cache).shape == (2, 1, 22)
    for wrong, error, message in (
        ((tokens[:, 0], starts), ValueError, "tokens must be (B, T) and starts (B,), got (2,) and (2,)"),
        ((tokens, starts[:1]), ValueError, "got (2, 1) and (1,)"),
        ((tokens[:, :0], starts), ValueError, "got (2, 0) and (2,)"),
        ((tokens[:1], starts[:1]), ValueError, "the cache must hold (L, B, K, d) = (2, 1, 3, 10), got (2, 2, 3, 10)"),
        ((tokens * 1.0, starts), TypeError, "must be integers, got float64 and int32"),
        ((tokens, starts * 1.0), TypeError, "must be integers, got int64 and float64"),
    ):
        with refuses(error, message):
            decoder.step(*wrong, cache)
