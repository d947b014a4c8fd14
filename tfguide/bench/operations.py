"""The operations that one step of decoding starts, and what it takes to start one."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from tfguide.config import ModelConfig
from tfguide.initialization import init_weights
from tfguide.loading import load_framework

#: Products with a matrix of weights, by the names of both frameworks.
PRODUCTS = ("aten.linear", "aten.matmul", "aten.mm", "aten.addmm", "MatMul")

#: Nodes of a graph of TensorFlow that compute nothing.
PASSIVE = ("Const", "Placeholder", "NoOp", "Identity")


def count(framework: str, model: Any, tokens: np.ndarray) -> int:
    """How many operations a step after `tokens` (1, T) starts from Python: the length of `names`."""
    return len(names(framework, model, tokens))


def names(framework: str, model: Any, tokens: np.ndarray) -> list[str]:
    """The operations of one step after `tokens` (1, T), in their order.

    Those that PyTorch dispatches, as "aten.mm"; of TensorFlow the nodes of the step's graph, as "MatMul", without
    constants and inputs.
    """
    return (_dispatched if framework == "torch" else _traced)(model, tokens)


def layer_names(framework: str, config: ModelConfig) -> list[str]:
    """The operations of one layer, in order: what a model of three layers starts beyond one of two."""
    tg, tokens, found = load_framework(framework), np.zeros((1, 3), int), []
    for n in (2, 3):
        few = config.replace(n_layers=n)
        found.append(names(framework, tg.from_weights(few, init_weights(few, 0)), tokens))
    two, three = found
    alike = next(i for i, pair in enumerate(zip(two, three, strict=False)) if pair[0] != pair[1])
    return three[alike - (len(three) - len(two)) : alike]


def _dispatched(model, tokens):
    from torch.utils._python_dispatch import TorchDispatchMode  # the only way to see each operation

    class Watching(TorchDispatchMode):
        def __init__(self):
            super().__init__()
            self.names = []

        def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
            self.names.append(str(operation).rsplit(".", 1)[0])
            return operation(*args, **(kwargs or {}))

    cache = model.new_cache(1, tokens.shape[1] + 1)
    model.prefill(tokens, cache)
    with Watching() as watching:
        model.decode(tokens[:, -1], cache)
    return watching.names


def _traced(model, tokens):
    import tensorflow as tf

    from tfguide.tensorflow import CompiledDecoder

    decoder = CompiledDecoder(model, tokens.shape[1] + 1)
    one = tf.TensorSpec((1, 1), tf.int32)
    tensors = decoder.new_cache(1, decoder.max_length).storage.tensors
    graph = tf.function(decoder.plain_step).get_concrete_function(one, one, tensors).graph
    return [node.type for node in graph.get_operations() if node.type not in PASSIVE]


def start_seconds(framework: str, repeats: int = 9, calls: int = 2000) -> float:
    """The seconds of an operation that has next to nothing to compute: the sum of two numbers. The least of rounds."""
    return min(_seconds(_tiny(framework), calls) for _ in range(repeats))


def _tiny(framework) -> Callable[[], object]:
    if framework == "torch":
        import torch

        one = torch.ones(1)
        return lambda: torch.add(one, one)
    import tensorflow as tf

    one = tf.ones(1)
    return lambda: tf.add(one, one)


def _seconds(call, calls):
    start = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - start) / calls
