"""Measure this machine for the cost model: the times of a product, of attention, of a layer and of a step.

The models that are measured are not those of the benchmark, so that predicting the benchmark is a test and not a fit.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np

from tfguide import native
from tfguide.bench.limits import memory_reader
from tfguide.bench.timing import machine, seconds_of, take_turns
from tfguide.config import ModelConfig
from tfguide.cost.chips import Chip
from tfguide.cost.flops import visible_pairs
from tfguide.cost.machine import Measured, features_between
from tfguide.dtypes import dtype_name
from tfguide.initialization import init_weights
from tfguide.loading import load_framework

# Rows of a product, positions of attention; and for each the layers of a product, 46 MB each in float32: where reading
# the weights takes most of the time, so many that no cache holds them.
LAYERS = {32: 16, 128: 16, 512: 4, 1024: 4}
SIZES = tuple(LAYERS)
# The products of one layer with grouped heads, (in, out).
SHAPES = ((1024, 1024), (1024, 320), (1024, 320), (1024, 1024), (1024, 2816), (1024, 2816), (2816, 1024))
FEATURE_SIZES = (128, 1024)  # tokens
SECONDS = 0.6  # that short calls are repeated for
READ_BYTES = 1 << 30  # more than a cache of the last level holds
# Its width, depth and vocabulary differ from those of the models that are predicted.
PROBE = ModelConfig(
    kind="decoder", d_model=640, n_layers=4, n_heads=10, n_kv_heads=5, d_ff=1792, vocab_size=4000, max_positions=2048,
    norm="rms", positions="rotary", activation="swiglu", qkv_bias=False, output_bias=False, ffn_bias=False,
    tied_head=False,
)  # fmt: skip
TINY = PROBE.replace(d_model=64, n_heads=1, n_kv_heads=1, d_ff=128, vocab_size=64)


def calibrate(frameworks: Sequence[str], dtypes: Sequence[str], keep: Callable[[dict], None] = lambda result: None):
    """The machine with a `Measured` for each framework and type, as plain values. Takes about 45 seconds for each."""
    reader = memory_reader()
    result = {
        "machine": machine(),
        "memory_bytes": _memory(),
        "read_bytes_per_second": max(reader() for _ in range(5)),
        "measured": [],
    }
    for framework in frameworks:
        for dtype in dtypes:
            result["measured"].append(measure(framework, dtype, reader).to_dict())
            keep(result)
    return result


def measure(framework: str, dtype: str, reader: native.MemoryReader) -> Measured:
    """Measure one framework with one type of weights. reader: a `memory_reader`."""
    tools = _Torch(dtype) if framework == "torch" else _TensorFlow(dtype)
    steps = {n: _step_seconds(framework, TINY.replace(n_layers=n), dtype) for n in (2, 18)}
    per_layer = max(0.0, (steps[18] - steps[2]) / 16)
    prompts = {n: _prompt_seconds(framework, TINY.replace(n_layers=n), dtype, 32) for n in (2, 18)}
    # A prompt of 32 tokens in 64 features needs almost no arithmetic: the time of a layer is its overhead.
    prompt_layer = max(0.0, (prompts[18] - prompts[2]) / 16)
    read, memory = tools.read_rate(reader)
    known = Measured(
        framework=framework,
        dtype=dtype,
        read_bytes_per_second=read,
        memory_bytes_per_second=memory,
        product_flops={size: tools.product_rate(size) for size in SIZES},
        attention_flops={size: tools.attention_rate(size) for size in SIZES},
        step_overhead_s=max(0.0, steps[2] - 2 * per_layer),
        layer_overhead_s=per_layer,
        prompt_overhead_s=max(0.0, prompts[2] - 2 * prompt_layer),
        prompt_layer_overhead_s=prompt_layer,
        feature_s={1: 0.0},
    )
    # A deeper model takes longer than a shallower one; what products and attention do not explain is between them.
    deep, shallow = PROBE, PROBE.replace(n_layers=1)
    features = {}
    for tokens in FEATURE_SIZES:
        extra = _prompt_seconds(framework, deep, dtype, tokens) - _prompt_seconds(framework, shallow, dtype, tokens)
        extra -= known.prefill_seconds(deep, tokens) - known.prefill_seconds(shallow, tokens)
        passed = tokens * features_between(deep) * (deep.n_layers - shallow.n_layers)
        features[tokens] = max(0.0, extra) / passed
    return Measured(**(known.to_dict() | {"feature_s": features}))


def table(result: dict) -> str:
    """The result as text."""
    about = result["machine"]
    lines = [
        f"{about['processor']}, {about['cores']} cores, reads {result['read_bytes_per_second'] / 1e9:.1f} GB/s",
        "",
    ]
    sizes = "".join(f"{size:>7}" for size in SIZES)
    lines.append(
        f"{'':22}{'reads':>8}   {'GFLOP/s of products, rows':^28}   {'of attention, positions':^28}{'layer':>10}"
    )
    lines.append(f"{'':22}{'GB/s':>8}   {sizes}   {sizes}{'us':>10}")
    for fields in result["measured"]:
        one = Measured(**fields)
        rates = ["".join(f"{r[s] / 1e9:>7.0f}" for s in SIZES) for r in (one.product_flops, one.attention_flops)]
        lines.append(
            f"{one.framework:11}{one.dtype:11}{one.read_bytes_per_second / 1e9:>8.1f}   {rates[0]}   {rates[1]}"
            f"{1e6 * one.layer_overhead_s:>10.1f}"
        )
    return "\n".join(lines)


def read_machine(file: str, weights: str) -> Chip:
    """The machine that `tfguide calibrate --json FILE` measured, as a chip.

    weights: float32 and bfloat16 take their own measurement; others that of float32 if there is no better one.
    Raises ValueError for another kind of file, and for an unknown type.
    """
    wanted = dtype_name(weights)
    try:
        with open(file, encoding="utf-8") as text:
            result = json.load(text)
        found = {fields["dtype"]: Measured(**fields) for fields in reversed(result["measured"])}
        one = found.get(wanted) or found.get("float32") or next(iter(found.values()))
        return Chip(
            name=f"{result['machine']['processor']}, {one.framework} {one.dtype}",
            peak_flops=max(one.product_flops.values()),
            hbm_bytes=result["memory_bytes"],
            hbm_bandwidth=one.read_bytes_per_second,
            link_bandwidth=None,  # there is one of it
            source="tfguide calibrate",
        )
    except (KeyError, TypeError, ValueError, StopIteration, AttributeError) as error:
        raise ValueError(f"{file} is not what `tfguide calibrate --json` writes: {error!r}") from error


class _Torch:
    def __init__(self, dtype):
        import torch

        self.torch, self.dtype = torch, getattr(torch, dtype)

    def product_rate(self, rows):
        torch = self.torch
        x = {d_in: torch.randn(rows, d_in).to(self.dtype) for d_in, _ in SHAPES}
        weights = [torch.randn(d_out, d_in).to(self.dtype) for d_in, d_out in SHAPES * LAYERS[rows]]
        with torch.inference_mode():
            seconds = _median(lambda: [torch.nn.functional.linear(x[w.shape[1]], w) for w in weights])
        return _products_flops(rows) / seconds

    def attention_rate(self, positions):
        from tfguide.torch import Mask, causal_mask, fused_attention

        torch, H, d = self.torch, 12, 64
        query, key, value = (torch.randn(1, positions, n, d).to(self.dtype) for n in (H, 4, 4))
        visible = Mask(causal_mask(positions), "causal")
        with torch.inference_mode():
            seconds = _median(lambda: fused_attention(query, key, value, visible))
        return 4 * H * d * visible_pairs(positions, positions) / seconds

    def read_rate(self, reader):
        weight = self.torch.ones(READ_BYTES // 2048 // self.dtype.itemsize, 2048, dtype=self.dtype)
        matrix = native.Matrix.of(weight, "rows")
        native.library()
        native.use_huge_pages(matrix.address, matrix.n_bytes)
        return _read_rate(matrix, self.torch.get_num_threads(), reader)


class _TensorFlow:
    def __init__(self, dtype):
        load_framework("tensorflow")
        import tensorflow as tf

        self.tf, self.dtype = tf, tf.as_dtype(dtype)

    def product_rate(self, rows):
        tf = self.tf
        x = {d_in: tf.cast(tf.random.normal((rows, d_in)), self.dtype) for d_in, _ in SHAPES}
        weights = [tf.Variable(tf.cast(tf.random.normal(shape), self.dtype)) for shape in SHAPES * LAYERS[rows]]
        products = tf.function(lambda x: [tf.reduce_sum((x[w.shape[0]] @ w)[:1, :1]) for w in weights])
        seconds = _median(lambda: [y.numpy() for y in products(x)])
        return _products_flops(rows) / seconds

    def attention_rate(self, positions):
        from tfguide.tensorflow import causal_mask, scaled_dot_product_attention

        tf, H, d = self.tf, 12, 64
        query, key, value = (tf.cast(tf.random.normal((1, positions, n, d)), self.dtype) for n in (H, 4, 4))
        visible = causal_mask(positions)
        attend = tf.function(lambda q, k, v: scaled_dot_product_attention(q, k, v, visible))
        seconds = _median(lambda: attend(query, key, value).numpy())
        return 4 * H * d * visible_pairs(positions, positions) / seconds

    def read_rate(self, reader):
        weight = np.ones((READ_BYTES // 2048 // self.dtype.size, 2048), self.dtype.as_numpy_dtype)
        matrix = native.Matrix.of(weight, "columns")
        native.use_huge_pages(matrix.address, matrix.n_bytes)
        return _read_rate(matrix, native.cores(), reader)


def _products_flops(rows):
    return 2 * rows * LAYERS[rows] * sum(d_in * d_out for d_in, d_out in SHAPES)


def _read_rate(matrix, threads, reader):
    """Bytes a second of a product with one row, and of the memory by itself in the same moments."""
    x = np.ones((1, matrix.d_in), np.float32)
    seconds = take_turns({"product": lambda: native.multiply(matrix, x, threads), "memory": reader}, repeats=15)
    n_bytes = {"product": matrix.n_bytes, "memory": reader.n_bytes}
    return [n_bytes[name] / statistics.median(seconds[name]) for name in ("product", "memory")]


def _model(framework, config, dtype):
    tg = load_framework(framework)
    return tg, tg.accelerate(tg.from_weights(config, init_weights(config, 0), dtype))


def _step_seconds(framework, config, dtype, n=64):
    """One step of decoding, from generations of `n` tokens and of one."""
    tg, model = _model(framework, config, dtype)
    prompt = [[1, 2, 3]]
    long = _median(lambda: tg.generate(model, prompt, n, stop_tokens=[]))
    short = _median(lambda: tg.generate(model, prompt, 1, stop_tokens=[]))
    return (long - short) / (n - 1)


def _prompt_seconds(framework, config, dtype, length):
    tg, model = _model(framework, config, dtype)
    prompt = np.random.default_rng(0).integers(0, config.vocab_size, (1, length))
    return _median(lambda: tg.generate(model, prompt, 1, stop_tokens=[]))


def _median(call):
    """The median of repeated calls, after one or two that do not count: seven of them, more while they are short.

    Calls of a second and more vary little, and three of them are enough.
    """
    first = seconds_of(call)
    if first < 1:
        call()
    times, start = [], time.perf_counter()
    at_least = 7 if first < 1 else 3
    while len(times) < at_least or (time.perf_counter() - start < SECONDS and len(times) < 200):
        times.append(seconds_of(call))
    return statistics.median(times)


def _memory():
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return 8e9
