"""Second-order rounding, the search for scales, and asymmetric groups: the arithmetic, and its bounds."""

import numpy as np
import pytest

from tests.support import FRAMEWORKS, load, numpy, random_weights, small_config, tensor
from tfguide import compress
from tfguide.compress import Metric, Quantization, packing
from tfguide.compress.calibration import source_of
from tfguide.compress.quantized import pack_weights, quantized_weights
from tfguide.compress.rounding import nearest, round_weights

KINDS = [Quantization(8), Quantization(4, None, 24, asymmetric=False), Quantization(4, None, 24)]
TOKENS = np.random.default_rng(0).integers(0, 37, (7, 11))


def correlated(n_rows, n_in):
    """Inputs of a layer whose features depend on each other and differ in size."""
    stream = np.random.default_rng(0)
    mixed = stream.normal(size=(n_in, n_in)) * np.geomspace(30, 1, n_in)
    return (stream.normal(size=(n_rows, n_in)) @ mixed).astype(np.float32)


def weight_of(n_in, n_out):
    return np.random.default_rng(1).normal(size=(n_in, n_out)).astype(np.float32)


def restored(quantization, weight, gram=None):
    packed, scale, *unit = quantization.pack("a weight", weight, gram)
    return packing.dequantize(packed, scale, *weight.shape[::-1], *unit)


def test_the_metric_is_the_mean_square_of_the_output():
    x, error = correlated(500, 13), weight_of(13, 5)
    metric = Metric.of(x.T @ x, damping=0.0)
    exact = np.square(x.astype(np.float64) @ error).sum(axis=0)
    exact /= np.square(x).sum(axis=0, dtype=np.float64).mean()
    np.testing.assert_allclose(np.square(metric.residuals(error)).sum(axis=0), exact, rtol=1e-4)
    uniform = Metric.uniform(13)
    np.testing.assert_allclose(np.square(uniform.residuals(error)).sum(axis=0), np.square(error).sum(axis=0), rtol=1e-6)


@pytest.mark.parametrize("block", [1, 5, 13])
def test_the_residuals_are_what_each_rounding_leaves(block):
    """Levels of a fixed step without ends: each residual is at most half a step, so the derived bound holds."""
    x, weight = correlated(300, 13), weight_of(13, 5)
    metric, step = Metric.of(x.T @ x), np.full(5, 0.2, np.float32)

    def fit(targets, importance, rows, columns):
        return step[columns], np.full(5, -20, np.float32)

    levels = round_weights(weight, metric, fit, block, 200)
    assert levels.min() > 0 and levels.max() < 200  # nothing is clipped
    error = weight - (step * levels - 20)
    residuals = metric.residuals(error) / metric.diagonal[:, None]
    assert np.abs(residuals).max() <= 0.1 * (1 + 1e-3) and np.abs(error).max() > 0.11
    bound = compress.mean_square_bound(metric, np.full((13, 5), 0.2))
    square = np.square(metric.residuals(error)).sum(axis=0)
    assert (square <= bound * (1 + 1e-3)).all() and square.max() > bound.max() / 6
    nearest_error = weight - (step * nearest(weight, step, np.full(5, -20, np.float32), 200) - 20)
    assert np.square(metric.residuals(nearest_error)).sum() > 1.3 * square.sum()


@pytest.mark.parametrize("quantization", KINDS, ids=str)
def test_calibration_lowers_the_error_of_the_output(quantization):
    both, weight = correlated(800, 72), weight_of(72, 37)
    x, new = both[:700], both[700:]
    errors = [np.square(new @ (restored(quantization, weight, gram) - weight)).mean() for gram in (None, x.T @ x)]
    assert errors[1] < errors[0] / 1.5
    scaled = restored(quantization, weight, 1e6 * (x.T @ x).astype(np.float64))
    np.testing.assert_allclose(scaled, restored(quantization, weight, x.T @ x), atol=0.3)


def test_inputs_that_calibration_never_saw_do_no_harm():
    weight = weight_of(24, 16)
    for quantization in KINDS:
        plain = restored(quantization, weight)
        np.testing.assert_array_equal(restored(quantization, weight, np.zeros((24, 24))), plain)
        half = np.diag(np.repeat([1.0, 0.0], 12))
        assert np.isfinite(restored(quantization, weight, half)).all()
        with pytest.raises(ValueError, match="calibration needs finite"):
            quantization.pack("w", weight, np.full((24, 24), np.nan))


@pytest.mark.parametrize("activation_bits", [None, 8])
@pytest.mark.parametrize("outlier", [1.0, 1000.0, 0.0])
def test_no_output_of_asymmetric_weights_is_further_off_than_the_bound(activation_bits, outlier):
    stream = np.random.default_rng(0)
    weight = stream.normal(size=(72, 37)).astype(np.float32)
    weight[:, 5], weight[:, 6], weight[:, 7] = 0, 0.3, np.abs(weight[:, 7]) + 1  # zeros, one value, no negative number
    x = stream.normal(size=(11, 72)).astype(np.float32)
    x[:, 3] *= outlier
    weight[7] *= outlier
    quantization = Quantization(4, activation_bits, 24, asymmetric=True)
    levels, scale, unit = compress.quantize_uint4(weight, 24)
    assert (levels.dtype, scale.dtype, unit.dtype) == (np.uint8, np.uint8, np.float16)
    bound = compress.error_bound(x, weight, quantization, levels, scale, unit)
    rounded = x
    if activation_bits:
        integers, x_scale = compress.quantize_activations(x)
        rounded = integers * np.repeat(x_scale, 32, axis=1)[:, :72]
    error = np.abs(x.astype(np.float64) @ weight - rounded.astype(np.float64) @ restored(quantization, weight))
    assert (error <= bound * (1 + 1e-5) + 1e-9).all()
    assert error.max() > bound.max() / 500
    assert error[:, 5].max() == 0


def test_a_group_of_sixteen_levels_is_found_again():
    """Weights that lie on 16 levels of a group, such as those of a file of 4-bit blocks, lose nothing but the bytes."""
    stream = np.random.default_rng(0)
    step, minimum = np.array([0.03, 0.02, 0.0123]), np.array([-0.2, -0.14, -0.1])
    levels = stream.integers(0, 16, (3, 32, 11))
    weight = (minimum[:, None, None] + step[:, None, None] * levels).reshape(96, 11).astype(np.float32)
    error = np.abs(restored(Quantization(4, None, 32, asymmetric=True), weight) - weight)
    assert (error < 0.3 * step.min()).mean() > 0.9  # not those groups that use neither of the last two levels
    symmetric = np.abs(restored(Quantization(4, None, 32, asymmetric=False), weight) - weight)
    assert (symmetric < 0.3 * step.min()).mean() < 0.8 and np.square(symmetric).mean() > np.square(error).mean()


def test_a_searched_scale_is_never_worse_than_that_of_the_largest_magnitude():
    weight = weight_of(96, 31) ** 3
    groups = weight.T.reshape(31, 3, 32)
    extreme = np.take_along_axis(groups, np.abs(groups).argmax(axis=2)[..., None], axis=2)
    scale = (extreme / -8).astype(np.float16).astype(np.float32)
    plain = scale * np.clip(np.rint(groups / scale), -8, 7)
    searched = restored(Quantization(4, asymmetric=False), weight).T.reshape(31, 3, 32)
    losses = [np.square(found - groups).sum(axis=2) for found in (searched, plain)]
    assert (losses[0] <= losses[1] * (1 + 1e-5)).all() and losses[0].sum() < 0.95 * losses[1].sum()


@pytest.mark.parametrize("n_out", [5, 16, 37])
def test_bytes_and_units_are_packed_and_unpacked(n_out):
    stream = np.random.default_rng(0)
    scale = stream.integers(0, 256, (n_out, 3, 2), np.uint8)
    packed = packing.pack_bytes(scale)
    assert packed.shape == (-(-n_out // 16), 3, 2, 16)
    np.testing.assert_array_equal(packing.unpack_bytes(packed, n_out), scale)
    levels = stream.integers(0, 16, (n_out, 24), np.uint8)
    np.testing.assert_array_equal(compress.unpack_uint4(compress.pack_uint4(levels), n_out, 24), levels)
    unit = stream.normal(size=(n_out, 2)).astype(np.float16)
    weight = packing.dequantize(packing.pack_uint4(levels), packed, n_out, 24, packing.pack_units(unit))
    step, minimum = np.moveaxis(scale * (unit.astype(np.float32)[:, None] / 255), -1, 0)
    want = levels * np.repeat(step, 8, axis=1) - np.repeat(minimum, 8, axis=1)
    np.testing.assert_allclose(weight, want.T, atol=1e-4)


def test_the_bytes_of_a_weight():
    symmetric = (Quantization(4, None, group, asymmetric=False) for group in (32, 64))
    for quantization, bits in zip([KINDS[0], *symmetric], [8 + 32 / 576, 4.5, 4.25], strict=True):
        assert quantization.weight_bytes(576, 192) * 8 / (576 * 192) == pytest.approx(bits)
    asymmetric = Quantization(4, None, 32, asymmetric=True)
    assert asymmetric.weight_bytes(576, 192) * 8 / (576 * 192) == pytest.approx(4.5 + 32 / 576)
    for quantization in (*KINDS, asymmetric):  # 192 outputs need no padding
        arrays = quantization.pack("w", weight_of(96, 192))
        assert quantization.weight_bytes(96, 192) == sum(array.nbytes for array in arrays)
        assert [(array.shape, str(array.dtype)) for array in arrays] == list(quantization.shapes(96, 192))


def test_the_cost_model_counts_the_bytes_of_a_quantised_model():
    from tfguide import cost

    config = small_config(d_model=48, n_heads=6, n_kv_heads=2, d_ff=80, d_head=8, vocab_size=32)
    for quantization in (Quantization(8), Quantization(4, None, 16, False), Quantization(4, None, 16, True)):
        weights = random_weights(config)
        weights["head.weight"] = weights["embedding.token.weight"].T
        arrays = pack_weights(config, quantization, weights.__getitem__)
        assert cost.quantized_bytes(config, quantization) == sum(array.nbytes for array in arrays.values())
        halves = cost.quantized_bytes(config, quantization, "float16")
        plain = sum(array.size for name, array in arrays.items() if not name.endswith(quantization.parts))
        assert cost.quantized_bytes(config, quantization) - halves == 2 * plain


@pytest.mark.parametrize("kind", ["decoder", "encoder"])
@pytest.mark.parametrize(
    "more", [{"activation": "gelu"}, {"attention_sinks": True, "qk_norm": True, "norm_placement": "both"}], ids=str
)
def test_what_calibration_reads_is_the_inputs_of_the_layers(kind, more):
    """Checked with weights that calibration did not compute: X^T X gives the mean square of each layer's output."""
    config = small_config(kind, **{"positions": "rotary", "activation": "swiglu", "pooler": kind == "encoder"} | more)
    weights = random_weights(config)
    found = [
        {path: gram for block in load(name).from_weights(config, weights).grams(TOKENS) for path, gram in block.items()}
        for name in FRAMEWORKS
    ]
    paths = {
        source_of(config, name.removesuffix(".weight")) for name, w in quantized_weights(config).items() if w.is_matrix
    }
    assert set(found[0]) == set(found[1]) == paths - {"pooler"}
    for path, gram in found[0].items():
        np.testing.assert_allclose(gram, found[1][path], atol=1e-4 * np.abs(gram).max())
    if kind == "decoder":
        hidden = numpy(load("torch").from_weights(config, weights).hidden(TOKENS)).reshape(TOKENS.size, -1)
        np.testing.assert_allclose(found[0]["head"], hidden.T @ hidden, atol=1e-3)


@pytest.mark.parametrize(
    "quantization", [Quantization(8, None), Quantization(4, 8, 8, False), Quantization(4, None, 8, True)], ids=str
)
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_calibrated_model_is_closer(name, quantization):
    config = small_config(d_model=24, d_ff=40, d_head=8, positions="rotary", norm="rms", activation="swiglu")
    module, weights = load(name), random_weights(config)
    model = module.from_weights(config, weights)
    exact = numpy(model(tensor(name, TOKENS)))
    how = (quantization.weight_bits, quantization.activation_bits, 8, quantization.asymmetric)
    plain, calibrated = module.quantize(model, *how), module.quantize(model, *how, calibration=TOKENS)
    assert plain.quantization == calibrated.quantization == quantization
    errors = [np.square(numpy(one(tensor(name, TOKENS))) - exact).mean() for one in (plain, calibrated)]
    assert errors[1] < errors[0]
    np.testing.assert_array_equal(numpy(model(tensor(name, TOKENS))), exact)  # the model itself is not changed
    for key, array in module.to_weights(model).items():
        np.testing.assert_array_equal(array, weights[key])


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_calibration_that_no_model_reads_is_refused(name):
    module, config = load(name), small_config("encoder-decoder")
    model = module.from_weights(config, random_weights(config))
    with pytest.raises(ValueError, match="encoder-decoder two"):
        module.quantize(model, calibration=TOKENS)
    config = small_config()
    model = module.from_weights(config, random_weights(config))
    with pytest.raises(ValueError, match="tokens must lie between 0 and 36, got 99"):
        module.quantize(model, calibration=[[1, 99]])
    with pytest.raises(TypeError, match="tokens must be integers"):
        module.quantize(model, calibration=[[0.5]])
    for wrong in (1, "yes", 0.0):
        with pytest.raises(ValueError, match="asymmetric must be True, False or None"):
            Quantization(4, asymmetric=wrong)
    with pytest.raises(ValueError, match="not True with 8-bit weights, got True with weight_bits=8"):
        Quantization(8, asymmetric=True)
    with pytest.raises(ValueError, match=r"'w' goes up to 1e\+05: 4-bit scales end at 6\.55e\+04"):
        Quantization(4, asymmetric=True).pack("w", np.full((32, 3), 1e5, np.float32))


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_groups_have_minima_by_default_where_weights_have_4_bits(name):
    config = small_config(d_model=24, d_ff=40, d_head=8)
    model = load(name).from_weights(config, random_weights(config))
    assert Quantization(4).asymmetric is True and Quantization(8).asymmetric is False
    assert load(name).quantize(model, 4, None, 8).quantization == Quantization(4, None, 8, True)
    assert load(name).quantize(model, 4, None, 8, asymmetric=False).quantization == Quantization(4, None, 8, False)
