"""Moving a model out: one file that another program runs without this package.

`export_program` and `export_onnx` take a model of `tfguide.torch`, `export_litert` one of `tfguide.tensorflow`. The
weights travel with the graph. A decoder's graph takes the keys and values of the positions before its tokens and
returns them with the new ones, so that a program that runs it computes each position once.

What becomes a Hugging Face folder or a GGUF file is written by `save_checkpoint` and `save_gguf`: these hold weights
and a configuration, and no graph.
"""

from tfguide.export.running import LiteRtGraph, OnnxGraph, ProgramGraph, RunningGraph
from tfguide.export.targets import export_litert, export_onnx, export_program

__all__ = [
    "LiteRtGraph", "OnnxGraph", "ProgramGraph", "RunningGraph", "export_litert", "export_onnx", "export_program",
]  # fmt: skip
