"""How a model moves out: as weights for a program that knows its family, or as a graph for one that need not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tfguide.figures import canvas, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: What is in the files, what the program must know, and the files with the programs that read them.
WAYS = (
    (
        "weights and configuration", "the program knows the family", style.BLUE,
        (("a folder", "transformers, vLLM, SGLang"), (".gguf", "llama.cpp")),
    ),
    (
        "a graph and its weights", "the program knows the operations", style.GOLD,
        ((".pt2", "PyTorch: torch.export"), (".onnx", "ONNX Runtime"), (".tflite", "LiteRT")),
    ),
)  # fmt: skip


def ways_out() -> Figure:
    """A model above, and below it the two kinds of files, each file a box with the programs that read it."""
    with style.style():
        ax = canvas.canvas(style.WIDTH, 3.25)
        width, gap = 2.45, 0.1
        canvas.box(ax, 1.6, 0.1, 2.0, 0.36, "a model", style.TEAL)
        for i, (kind, knows, colour, files) in enumerate(WAYS):
            left = gap + i * (width + gap)
            middle = left + width / 2
            canvas.arrow(ax, (2.6, 0.46), (middle, 0.82))
            canvas.text(ax, middle, 0.97, kind, 10.5, fontweight="bold")
            canvas.text(ax, middle, 1.19, knows, 9.5)
            for row, (name, programs) in enumerate(files):
                canvas.box(ax, left + 0.1, 1.4 + 0.6 * row, width - 0.2, 0.5, name, colour, programs, size=10.5)
        return ax.figure
