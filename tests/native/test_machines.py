"""The kernels of each instruction set, held to the float64 reference: x86 on this processor, ARM by qemu.

Products of small integers are exact in any order of addition, so they are compared to the last bit. The rest is what
`tests/test_fast.py` holds the kernels of this machine to, with PyTorch.
"""

import itertools

import numpy as np
import pytest

import tfguide.reference as ref
import tfguide.torch
from tests import test_experts, test_fast, test_latent
from tests.native.exact import (
    SIZES,
    STORED,
    check_asymmetric,
    check_blocks,
    check_products,
    exact_matrix,
    from_bits,
    to_bits,
)
from tests.native.machines import MACHINES
from tfguide import native
from tfguide.config import ACTIVATIONS, GATED_ACTIVATIONS
from tfguide.native import abi

pytestmark = [pytest.mark.skipif(not native.is_available(), reason="there is no C++ compiler"), pytest.mark.slow]
STEP = {"float32": 2**-21, "bfloat16": 2**-8, "float16": 2**-11}  # the rounding of a result


@pytest.fixture(scope="module", params=MACHINES)
def kernels(request):
    """The kernels of each machine in turn, which the package uses meanwhile."""
    with MACHINES[request.param].kernels() as kernels:
        yield kernels


@pytest.mark.parametrize("form", native.FORMATS)
def test_products_of_integers_are_exact(form, kernels):
    check_products(form)


@pytest.mark.parametrize("block_type", native.BLOCK_TYPES)
def test_products_of_the_blocks_of_a_file_are_exact(block_type, kernels):
    pytest.importorskip("gguf")
    check_blocks(block_type)


@pytest.mark.parametrize("rounds", [False, True])
def test_products_of_asymmetric_weights_are_exact(rounds, kernels):
    check_asymmetric(rounds)


@pytest.mark.parametrize("form", native.FORMATS[:6])
def test_products_of_any_numbers_are_those_of_numpy(form, kernels):
    test_fast.test_products_are_those_of_numpy_for_any_processor_and_shape(form, None)


@pytest.mark.parametrize("dtype", abi.TYPES)
@pytest.mark.parametrize("form", ["int8", "int4"])
def test_unpacked_weights_are_exact(form, dtype, kernels):
    rng = np.random.default_rng(4)
    for d_in, d_out in SIZES:
        matrix, w, _ = exact_matrix(rng, form, d_in, d_out)
        y = np.zeros((d_in, d_out), STORED[dtype])
        native.unpack(matrix, y.ctypes.data, dtype, threads=2)
        scale = matrix.owner[1][:d_out] if form == "int8" else 1  # the scale of an output is not part of them
        np.testing.assert_array_equal(from_bits(y, dtype), w / scale)


# ---- rows


def check_rows(dtype, width, run, want):
    """run: from the addresses of x and y and the number of rows; want: from x in float64."""
    for rows in (1, 3, 40):
        x = to_bits(np.random.default_rng(rows).standard_normal((rows, width)) * 3, dtype)
        y = np.zeros_like(x)
        run(x.ctypes.data, y.ctypes.data, rows)
        expected = want(from_bits(x, dtype))
        np.testing.assert_allclose(from_bits(y, dtype), expected, rtol=4 * STEP[dtype], atol=8 * STEP[dtype])


@pytest.mark.parametrize("dtype", abi.TYPES)
@pytest.mark.parametrize("norm", ["rms", "without bias", "with bias"])
def test_norms_are_those_of_the_reference(norm, dtype, kernels):
    rng = np.random.default_rng(5)
    for width in (1, 22, 70, 256):
        weight, bias = (rng.standard_normal(width).astype(np.float32) for _ in "ab")
        bias = bias if norm == "with bias" else None

        def run(x, y, rows, weight=weight, bias=bias):
            native.normalise(x, y, rows, dtype, weight, bias, 0.1, norm == "rms", threads=2)

        def want(x, weight=weight, bias=bias):
            return ref.rms_norm(x, weight, 0.1) if norm == "rms" else ref.layer_norm(x, weight, bias, 0.1)

        check_rows(dtype, width, run, want)


@pytest.mark.parametrize("dtype", abi.TYPES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_are_those_of_the_reference(activation, dtype, kernels):
    gated = activation in GATED_ACTIVATIONS
    for width in (1, 26, 67):
        up = to_bits(np.random.default_rng(6).standard_normal((40, width)) * 3, dtype)

        def run(x, y, rows, width=width, up=up):
            parts = (up.ctypes.data, x) if gated else (x, None)
            native.activate(activation, *parts, y, rows, width, dtype, threads=2)

        def want(x, up=up):
            parts = (from_bits(up, dtype)[: len(x)], x) if gated else (x,)
            return ref.activate(activation, *parts)

        check_rows(dtype, width, run, want)


@pytest.mark.parametrize("dtype", abi.TYPES)
@pytest.mark.parametrize(("heads", "d"), [(6, 10), (1, 2), (3, 64)])
def test_rotations_are_those_of_the_reference(heads, d, dtype, kernels):
    angles = np.random.default_rng(7).standard_normal((40, d // 2)).astype(np.float32)
    cos, sin = np.cos(angles), np.sin(angles)

    def run(x, y, rows):
        native.rotate(x, y, rows, heads * d, dtype, cos[:rows].copy(), sin[:rows].copy(), threads=2)

    def want(x):
        n = len(x)
        return ref.rotate(x.reshape(1, n, heads, d), cos[None, :n], sin[None, :n]).reshape(n, -1)

    check_rows(dtype, heads * d, run, want)


# ---- whole models


@pytest.mark.parametrize("changes", test_fast.VARIANTS, ids=str)
def test_models_give_the_logits_of_the_reference(changes, kernels):
    test_fast.test_it_gives_the_logits_of_the_reference("torch", changes)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_models_of_16_bits(dtype, kernels):
    test_fast.test_weights_of_16_bits_are_read_as_they_are("torch", dtype)


@pytest.mark.parametrize(
    ("bits", "tied_head"), [*itertools.product([(8, None), (8, 8), (4, None), (4, 8)], [True, False])]
)
def test_packed_models(bits, tied_head, kernels):
    test_fast.test_packed_weights_give_what_the_dequantised_ones_give("torch", tied_head, bits)


@pytest.mark.parametrize("kind", test_latent.KINDS, ids=str)
def test_latent_attention(kind, kernels):
    test_latent.test_the_kernels_multiply_weights_of_every_type("torch", kind)


@pytest.mark.parametrize("quantization", [(8, 8), (4, 8)])
def test_a_prompt_with_activations_of_8_bits_is_the_same_in_any_parts(quantization, kernels):
    sizes = dict(d_model=72, d_ff=40, d_head=8, positions="rotary", norm="rms")
    model, _ = test_fast.make("torch", quantization=quantization, **sizes)
    many = ((0, 23),), ((0, 8), (8, 23)), ((0, 13), (13, 23))
    few = tuple((i, i + 1) for i in range(23)), ((0, 5), (5, 6), (6, 13), (13, 20), (20, 23))
    for splits in (many, few):
        results = []
        for threads, split in itertools.product((1, 3), splits):
            results.append(test_fast.pieces("torch", tfguide.torch.accelerate(model, threads=threads), split))
        for result in results[1:]:
            np.testing.assert_array_equal(result, results[0])


@pytest.mark.parametrize("quantization", [None, (8, 8)])
def test_rows_of_a_batch(quantization, kernels, monkeypatch):
    test_fast.test_a_row_in_a_batch_is_the_row_alone_within_the_bound("torch", quantization, "float32", monkeypatch)


@pytest.mark.parametrize("dtype", abi.TYPES)
def test_prompts(dtype, kernels, monkeypatch):
    changes = dict(activation="swiglu", norm="rms", positions="rotary", n_kv_heads=3)
    test_fast.test_a_prompt_read_with_kernels_gives_the_logits_of_the_model(changes, dtype, "AuthenticAMD", monkeypatch)


@pytest.mark.parametrize("quantization", [(8, 8), (4, None)], ids=str)
def test_packed_experts(quantization, kernels):
    test_experts.test_the_kernels_read_packed_experts("torch", quantization)


def test_experts_are_counted(kernels):
    test_experts.test_the_kernels_count_the_experts_that_they_read("torch", "deepseek")


def test_nan(kernels):
    test_fast.test_nan_is_not_lost("torch")


def test_the_trial_runs(kernels):
    kernels.tfguide_try()


# What each machine must be compiled with, so that each header of isa/ has its turn.
ISAS = {
    "x86-64": "no vector instructions by name",
    "x86-64-v3": "AVX2",
    "x86-64-v3+avxvnni": "AVX2 with VNNI",
    "x86-64-v4": "AVX-512",
    "x86-64-v4+avx512vnni": "AVX-512 with VNNI",
    "x86-64-v4+avx512vnni+avx512bf16": "AVX-512 with VNNI and BF16",
    "ARM": "NEON",
    "ARM with dotprod": "NEON with dot products",
    "ARM with i8mm and bf16": "NEON with dot products",
    "armv8-a": "NEON",
    "armv8.2-a+dotprod": "NEON with dot products",
    "armv8.2-a+dotprod+i8mm+bf16": "NEON with dot products",
}


def test_each_instruction_set_has_its_turn(kernels, request):
    assert kernels.tfguide_isa().decode() == ISAS[request.node.callspec.params["kernels"]]


def test_the_structures_are_laid_out_as_python_has_them(kernels):
    assert kernels.tfguide_abi().decode().strip() == abi.text()
