"""A model as one file for `torch.export`, ONNX Runtime and LiteRT. A framework is imported by what needs it."""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator
from typing import Any

from tfguide.checks.values import check_count
from tfguide.export.files import check_model, check_packages, checked_file, new_file
from tfguide.export.names import input_names, output_names


def export_program(model: Any, file: str | os.PathLike, overwrite: bool = False) -> None:
    """Write a PyTorch model as a program of `torch.export`, a .pt2 file: `torch.export.load(file).module()` runs it.

    It is called by name. A decoder takes `tokens` (B, T) and `past`, a dictionary of keys and values, each (B, P, ...),
    and returns logits (B, T, V) and the dictionary of all S = P + T positions; an encoder takes `tokens` and `valid`
    (B, T); an encoder-decoder `source`, `source_valid` and `target`, and keeps nothing. B, T and P may differ from call
    to call.

    A model in blocks of a GGUF file is dequantised. overwrite: replace a file that is there.
    Raises TypeError for anything but a model of `tfguide.torch`, ValueError for a quantised one, and another suffix;
    FileExistsError.
    """
    checked_file(file, ".pt2", overwrite)
    import torch

    from tfguide.export import torch_graphs

    check_model(model, torch_graphs.MODELS, "tfguide.torch", float32=False)
    with new_file(file, ".pt2", overwrite) as written, _quiet(), torch.no_grad():
        program = torch.export.export(
            torch_graphs.graph_of(model),
            args=(),
            kwargs=torch_graphs.example_of(model),
            dynamic_shapes=torch_graphs.dynamic_axes(model),
        )
        torch.export.save(program, written)


def export_onnx(model: Any, file: str | os.PathLike, bits: int | None = None, overwrite: bool = False) -> None:
    """Write a PyTorch model as an ONNX file, which ONNX Runtime executes: `OnnxGraph` does.

    The inputs and outputs are those of `export_program`, by name: "tokens", "past_key_0", "past_value_0", ... to
    "logits", "key_0", "value_0", ...; "tokens" and "valid" to "hidden"; "source", "source_valid" and "target" to
    "logits". bits: 8 stores the matrices of the layers as 8-bit integers with a scale and a zero point for each output,
    by ONNX Runtime's dynamic quantisation: activations are quantised while it runs. Default: float32.

    A file holds up to 2 GB; the weights of a larger model lie beside it, in `file` + ".data".
    A model in blocks of a GGUF file is dequantised. overwrite: replace a file that is there.
    Raises ImportError without the packages of the extra `export`; TypeError for anything but a model of
    `tfguide.torch`, ValueError for one that is quantised or not float32, other `bits`, and another suffix;
    FileExistsError.
    """
    checked_file(file, ".onnx", overwrite)
    _check_bits(bits)
    check_packages("onnx", "onnxscript", "onnxruntime")
    import torch

    from tfguide.export import torch_graphs

    check_model(model, torch_graphs.MODELS, "tfguide.torch")
    with new_file(file, ".onnx", overwrite) as written, _quiet(), torch.no_grad():
        program = torch.onnx.export(
            torch_graphs.graph_of(model),
            kwargs=torch_graphs.example_of(model),
            dynamic_shapes=torch_graphs.dynamic_axes(model, named=True),
            input_names=input_names(model.config),
            output_names=output_names(model.config),
            dynamo=True,
            verbose=False,
        )
        if bits is None:
            program.save(written)
        else:
            _quantise_onnx(program, written)


def export_litert(
    model: Any, file: str | os.PathLike, max_length: int, bits: int | None = None, overwrite: bool = False
) -> None:
    """Write a TensorFlow model as a .tflite file, which LiteRT executes on telephones and small devices.

    max_length: the most positions of a text. A decoder reads one text: tokens (1, T) that follow `start` positions,
    and a cache of `max_length` slots that comes in as "past_key_0", "past_value_0", ... and goes out as "key_0",
    "value_0", ... with "logits" (1, T, V). An encoder takes "tokens" and "valid" (B, T), an encoder-decoder "source",
    "source_valid" and "target". bits: 8 stores matrices as 8-bit integers with one scale for each output, an embedding
    with one scale, by the converter's dynamic-range quantisation: activations are quantised while it runs. Default:
    float32.

    A model in blocks of a GGUF file is dequantised. overwrite: replace a file that is there.
    Raises TypeError for anything but a model of `tfguide.tensorflow`, ValueError for one that is quantised or not
    float32, whose angles need float64, other `bits`, a `max_length` below 1 or beyond the model's, and another
    suffix; FileExistsError.
    """
    checked_file(file, ".tflite", overwrite)
    _check_bits(bits)
    max_length = check_count("max_length", max_length)
    import tensorflow as tf

    from tfguide.export import tensorflow_graphs

    check_model(model, tensorflow_graphs.MODELS, "tfguide.tensorflow")
    if model.config.max_positions is not None and max_length > model.config.max_positions:
        raise ValueError(f"max_length must be at most {model.config.max_positions} for this model, got {max_length}")
    graph = tensorflow_graphs.graph_of(model, max_length)
    traced = tf.function(graph.__call__, autograph=False).get_concrete_function(**graph.inputs(max_length))
    with new_file(file, ".tflite", overwrite) as written, tempfile.TemporaryDirectory() as folder, _quiet():
        tf.saved_model.save(graph, folder, signatures={tensorflow_graphs.SIGNATURE: traced})
        written.write_bytes(_converted(folder, tensorflow_graphs.SIGNATURE, bits))


def _quantise_onnx(program, file):
    """Write a program whose matrices are 8-bit integers."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as folder:
        plain = os.path.join(folder, "float32.onnx")
        program.save(plain)
        # Products of unsigned and signed integers saturate on processors without VNNI: logits were off by a fifth.
        quantize_dynamic(plain, file, op_types_to_quantize=["MatMul"], per_channel=True, weight_type=QuantType.QUInt8)


def _converted(folder, signature, bits):
    """The bytes of a .tflite file, from a SavedModel."""
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=[signature])
    if bits == 8:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    try:
        return converter.convert()
    except Exception as error:  # the converter has a class of its own, which is not public
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(f"LiteRT's converter does not translate this model: {reason}") from error


def _check_bits(bits):
    if bits is None:
        return
    if check_count("bits", bits) != 8:
        raise ValueError(f"bits must be 8, or None for float32, got {bits}")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what exporters report of themselves: packages that they would like, and how they will change."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "tensorflow", "absl", "root")]
    before = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, before, strict=True):
                logger.setLevel(level)
