"""The figure of the ways out names every kind of file that the package writes."""

import pytest

plt = pytest.importorskip("matplotlib.pyplot")

from matplotlib.patches import FancyBboxPatch  # noqa: E402  (after the check for matplotlib)

from tfguide.figures import exports, style  # noqa: E402


def test_every_file_has_a_box():
    with style.style():
        figure = exports.ways_out()
    texts = [one.get_text() for one in figure.axes[0].texts]
    boxes = [patch for patch in figure.axes[0].patches if isinstance(patch, FancyBboxPatch)]
    assert len(boxes) == 1 + sum(len(files) for *_, files in exports.WAYS)
    assert {"a folder", ".gguf", ".pt2", ".onnx", ".tflite"} <= set(texts)
    assert figure.get_size_inches()[0] == style.WIDTH
    plt.close("all")
