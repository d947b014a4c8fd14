"""Exported graphs as they run: by name, and token by token. Only the program of the target computes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np

from tfguide.checks.values import check_count
from tfguide.export.files import check_packages
from tfguide.export.names import PAST


class RunningGraph:
    """A graph that was exported, in the program that it was exported for: a call takes and returns arrays by name.

    A subclass defines the call and `cached`. `read` and `generate` are for the graphs of decoders, which keep what they
    have read: `generate` reads the prompt once, and then one token at a time.
    """

    #: What a decoder's graph keeps, by the names of its inputs, with the shape before the first token (B = 1).
    cached: Mapping[str, tuple[int, ...]]

    def __call__(self, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        """The outputs by name."""
        raise NotImplementedError

    def new_past(self, batch_size: int = 1) -> dict[str, np.ndarray]:
        """What a decoder's graph takes before the first token, by name. Raises ValueError for another kind of model."""
        if not self.cached:
            raise ValueError("only the graph of a decoder keeps what it has read, and this one has no such inputs")
        return {
            name: np.zeros((batch_size, *shape[1:]), np.float32)
            for name, shape in self.cached.items()
        }  # fmt: skip

    def read(
        self, tokens: np.ndarray, past: Mapping[str, np.ndarray], start: int
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """The logits (B, T, V) of tokens (B, T) that follow `start` positions, and what is kept now."""
        outputs = self(tokens=tokens, **past)
        logits = outputs.pop("logits")
        return logits, {PAST + name: array for name, array in outputs.items()}

    def generate(self, prompt: Sequence[int], max_new_tokens: int, stop_tokens: Sequence[int] = ()) -> list[int]:
        """The most likely continuation of one prompt, greedily, up to and with the first of the stop tokens."""
        max_new_tokens = check_count("max_new_tokens", max_new_tokens)
        read, past, start, tokens = np.array([prompt]), self.new_past(), 0, []
        while True:
            logits, past = self.read(read, past, start)
            start += read.shape[1]
            tokens.append(int(logits[0, -1].argmax()))
            if len(tokens) == max_new_tokens or tokens[-1] in stop_tokens:
                return tokens
            read = np.array([tokens[-1:]])


class ProgramGraph(RunningGraph):
    """A file of `export_program`, run by PyTorch: the program holds its weights and needs no code of the model."""

    def __init__(self, file: str | os.PathLike):
        import torch

        program = torch.export.load(file)
        past = program.example_inputs[1].get("past", {})
        self.cached = {name: (1, 0, *tensor.shape[2:]) for name, tensor in past.items()}
        self._run, self._torch = program.module(), torch

    def __call__(self, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        """The outputs by name."""
        tensors = {name: self._torch.from_numpy(np.asarray(array)) for name, array in inputs.items()}
        with self._torch.inference_mode():
            if self.cached:
                logits, kept = self._run(tokens=tensors.pop("tokens"), past=tensors)
                return {"logits": logits.numpy(), **{name: tensor.numpy() for name, tensor in kept.items()}}
            return {"hidden" if "valid" in tensors else "logits": self._run(**tensors).numpy()}


class OnnxGraph(RunningGraph):
    """A file of `export_onnx`, run by ONNX Runtime on the CPU.

    n_threads: default: as many as ONNX Runtime takes, one for each core.
    Raises ImportError where onnxruntime is missing.
    """

    def __init__(self, file: str | os.PathLike, n_threads: int | None = None):
        check_packages("onnxruntime")
        import onnxruntime

        options = onnxruntime.SessionOptions()
        if n_threads is not None:
            options.intra_op_num_threads = check_count("n_threads", n_threads)
        self._session = onnxruntime.InferenceSession(os.fspath(file), options, providers=["CPUExecutionProvider"])
        inputs = self._session.get_inputs()
        self.cached = {one.name: (1, 0, *one.shape[2:]) for one in inputs if one.name.startswith(PAST)}
        self._names = [output.name for output in self._session.get_outputs()]

    def __call__(self, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        """The outputs by name."""
        return dict(zip(self._names, self._session.run(None, inputs), strict=True))


class LiteRtGraph(RunningGraph):
    """A file of `export_litert`, run by LiteRT's interpreter.

    n_threads: default: as many as LiteRT takes, which is one.
    Raises ImportError where ai-edge-litert is missing.
    """

    def __init__(self, file: str | os.PathLike, n_threads: int | None = None):
        check_packages("ai_edge_litert.interpreter")
        from ai_edge_litert.interpreter import Interpreter

        n_threads = None if n_threads is None else check_count("n_threads", n_threads)
        self._run = Interpreter(os.fspath(file), num_threads=n_threads).get_signature_runner()
        details = self._run.get_input_details()
        self._types = {name: one["dtype"] for name, one in details.items()}
        self.cached = {name: tuple(one["shape"]) for name, one in details.items() if name.startswith(PAST)}

    def __call__(self, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        """The outputs by name."""
        return self._run(**{name: np.asarray(array, self._types[name]) for name, array in inputs.items()})

    def read(
        self, tokens: np.ndarray, past: Mapping[str, np.ndarray], start: int
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """The logits (1, T, V) of tokens (1, T) that follow `start` positions, and what is kept now.

        Raises ValueError where they do not fit into the slots of the graph.
        """
        slots = next(iter(self.cached.values()))[1]
        if start + tokens.shape[1] > slots:
            raise ValueError(f"exported for {slots} positions, {start + tokens.shape[1]} are needed")
        return super().read(tokens, {**past, "start": start}, start)
