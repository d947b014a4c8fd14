"""Draw the picture of the README: one formula in three dialects, and what all three compute from the same weights.

    python tools/draw_readme.py

writes book/_static/readme.svg. The lines of code are read from the package, the attention is that of all-MiniLM-L6-v2.
"""

import inspect
import os
import re
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import matplotlib.pyplot as plt
import numpy as np

import tfguide.reference
import tfguide.tensorflow
import tfguide.torch
from tfguide.checkpoints import read_checkpoint
from tfguide.figures import canvas, style
from tfguide.tasks import minilm

TARGET = Path(__file__).resolve().parent.parent / "book" / "_static" / "readme.svg"
DIALECTS = {
    "NumPy, float64": (tfguide.reference, style.TEAL),
    "PyTorch": (tfguide.torch, style.RED),
    "TensorFlow": (tfguide.tensorflow, style.GOLD),
}
LAYER, HEAD = "encoder.layers.0.self_attention", 2
INK, PAPER, GREY = "#22262b", "#ffffff", "#5c6570"


def line(module, name: str) -> str:
    """The line of the module's attention that makes `name` by a product, without its comment."""
    source = inspect.getsource(inspect.getmodule(module.attention_weights))
    return re.search(rf"^ +({name} = .*einsum\(.*?)(  #.*)?$", source, re.MULTILINE).group(1)


def attention() -> tuple[list[str], list[np.ndarray]]:
    """The tokens of the sentence, and one head's weights from each implementation."""
    config, weights = read_checkpoint(minilm.folder())
    encoding = minilm.tokenizer().encode("Hello, my dog is cute")
    tokens = np.array([encoding.ids])
    maps = []
    for module, _ in DIALECTS.values():
        found = module.attention_maps(module.from_weights(config, weights), tokens)[LAYER]
        maps.append(np.asarray(found.detach() if hasattr(found, "detach") else found)[0, HEAD])
    return encoding.tokens, maps


def draw():
    """The figure, 9 by 4.4 inches, on white, since the page around it may be dark."""
    tokens, maps = attention()
    assert max(np.abs(each - maps[0]).max() for each in maps) < 1e-5
    with style.style(), plt.rc_context({"text.color": INK, "xtick.color": INK, "ytick.color": INK}):
        page = canvas.canvas(9, 4.4)
        page.figure.set_facecolor(PAPER)
        _text(page, 0.3, 0.42, "One formula", 12, fontweight="bold")
        formula = r"$\mathbf{C} = \mathrm{softmax}(\mathbf{Q}\mathbf{K}^\top / \sqrt{d})\,\mathbf{V}$"
        _text(page, 1.75, 0.42, formula, 14)
        _text(page, 0.3, 0.83, "three dialects, one configuration, one weight dictionary", 11, color=GREY)
        for row, (name, (module, colour)) in enumerate(DIALECTS.items()):
            top = 1.1 + 1.1 * row
            canvas.box(page, 0.3, top, 5.3, 0.92, "", colour)
            _text(page, 0.45, top + 0.2, name, 11, fontweight="bold")
            for step, wanted in enumerate(("scores", "output")):
                _text(page, 0.45, top + 0.47 + 0.25 * step, line(module, wanted), 7.9, family="monospace")
            canvas.arrow(page, (5.67, top + 0.46), (6.03, 2.15 + 0.35 * row), colour=colour, width=1.5)
        ax = page.figure.add_axes((0.745, 0.235, 0.235, 0.49))
        ax.imshow(maps[0], cmap=style.SEQUENTIAL, vmin=0)
        ax.set_xticks(range(len(tokens)), tokens, rotation=60, ha="right", rotation_mode="anchor", fontsize=9)
        ax.set_yticks(range(len(tokens)), tokens, fontsize=9)
        style.bare(ax)
        _text(page, 6.1, 0.42, "The same numbers", 12, fontweight="bold")
        _text(page, 6.1, 0.83, "a head of MiniLM that looks one token back", 9, color=GREY)
    return page.figure


def _text(page, x, y, words, size, **look):
    canvas.text(page, x, y, words, size, ha="left", **look)


def main() -> None:
    fig = draw()
    with plt.rc_context({"svg.fonttype": "path", "svg.hashsalt": "tfguide"}):
        fig.savefig(TARGET, format="svg", facecolor=PAPER, metadata={"Date": None, "Creator": None})
    print(f"{TARGET.name}: {TARGET.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
