"""`tfguide export`: write a model for another program."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

EXAMPLES = (("write a model for another program", "tfguide export model.onnx --bits 8"),)

_GGUF = {None: "F16", 8: "Q8_0", 4: "Q4_0"}


def add_commands(commands: Any) -> None:
    """Add the command to the subparsers of the command line."""
    export = commands.add_parser(
        "export",
        help="write a model for another program",
        description="Write a model for another program, which the end of FILE names: .onnx (ONNX Runtime), .tflite "
        "(LiteRT), .pt2 (torch.export), .gguf (llama.cpp); a folder for Hugging Face and vLLM.",
    )
    export.set_defaults(run=run)
    export.add_argument("file", metavar="FILE", help="model.onnx, model.tflite, model.pt2, model.gguf, or a folder")
    export.add_argument("--checkpoint", metavar="PATH", help="as in `tfguide generate`; default: SmolLM2-135M-Instruct")
    export.add_argument("--bits", type=int, help="8, and 4 in a .gguf file; default: float32, float16 in a .gguf file")
    export.add_argument("--max-length", type=int, default=512, help="positions of a .tflite file; default: 512")
    export.add_argument("--overwrite", action="store_true", help="replace what is there")


def run(options: argparse.Namespace) -> int:
    """Write the file and print its size; returns 0."""
    from tfguide.export import export_litert, export_onnx, export_program
    from tfguide.loading import find_checkpoint, load_framework, load_model

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    file, bits, overwrite = Path(options.file), options.bits, options.overwrite
    if file.suffix in ("", ".pt2") and bits is not None:
        raise ValueError(f"--bits is for .onnx, .tflite and .gguf files, got {file.name}")
    if file.suffix == ".gguf" and bits not in _GGUF:
        raise ValueError(f"--bits of a .gguf file must be 8 or 4, got {bits}")
    if file.suffix not in ("", ".onnx", ".tflite", ".pt2", ".gguf"):
        raise ValueError(f"FILE must end in .onnx, .tflite, .pt2 or .gguf, or be a folder, got {file.name}")
    path = find_checkpoint(options.checkpoint)
    framework = load_framework("tensorflow" if file.suffix == ".tflite" else "torch")
    model = load_model(framework, path, "float32")
    if file.suffix == ".onnx":
        export_onnx(model, file, bits, overwrite)
    elif file.suffix == ".tflite":
        export_litert(model, file, options.max_length, bits, overwrite)
    elif file.suffix == ".pt2":
        export_program(model, file, overwrite)
    elif file.suffix == ".gguf":
        framework.save_gguf(model, file, _GGUF[bits], tokenizer=path, overwrite=overwrite)
    else:
        framework.save_checkpoint(model, file, overwrite)
    n_bytes = sum(part.stat().st_size for part in (file.iterdir() if file.is_dir() else [file]))
    print(f"{file}: {n_bytes / 1e6:,.1f} MB")
    return 0
