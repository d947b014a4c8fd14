"""Boxes, cells and arrows: where they are drawn, and that nothing else in the figures draws them."""

import ast
from pathlib import Path

import pytest

plt = pytest.importorskip("matplotlib.pyplot")

from matplotlib.colors import to_rgba  # noqa: E402  (after the check for matplotlib)
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle  # noqa: E402

from tfguide.figures import canvas, diagrams, masks, steps, style, tokens  # noqa: E402

FIGURES = Path(canvas.__file__).parent


@pytest.fixture
def ax():
    with style.style():
        yield canvas.canvas(3, 2)
    plt.close("all")


def test_a_canvas_is_measured_in_inches_from_the_top_left_corner(ax):
    assert tuple(ax.figure.get_size_inches()) == (3, 2)
    left_top, right_bottom = ax.transData.transform([(0, 0), (3, 2)])
    width, height = ax.figure.bbox.size
    assert left_top == pytest.approx((0, height)) and right_bottom == pytest.approx((width, 0))


def test_a_box_holds_its_words(ax):
    canvas.box(ax, 0.5, 0.4, 2, 0.6, "title", style.BLUE, "below")
    [patch] = ax.patches
    assert isinstance(patch, FancyBboxPatch)
    ax.figure.canvas.draw()
    outer = patch.get_window_extent()
    assert [text.get_text() for text in ax.texts] == ["title", "below"]
    for text in ax.texts:
        inner = text.get_window_extent()
        assert outer.x0 < inner.x0 and inner.x1 < outer.x1 and outer.y0 < inner.y0 and inner.y1 < outer.y1
    assert ax.texts[0].get_position()[1] < ax.texts[1].get_position()[1]  # y grows downwards


def test_a_cell_without_a_colour_is_empty(ax):
    canvas.cell(ax, 0, 0, 1, 1)
    canvas.cell(ax, 1, 0, 1, 1, style.RED, opacity=0.5, label="W")
    empty, full = ax.patches
    assert empty.get_facecolor()[3] == 0 and full.get_facecolor() == to_rgba(style.RED, 0.5)
    assert empty.get_edgecolor() == full.get_edgecolor() == to_rgba(style.ink())
    assert ax.texts[0].get_position() == (1.5, 0.5)


def test_an_arrow_round_corners_has_its_head_at_the_last_point(ax):
    points = [(0.2, 0.2), (1.0, 0.2), (1.0, 1.0), (2.0, 1.0)]
    canvas.arrow(ax, *points, colour=style.RED, width=2.0)
    [way], [head] = ax.lines, ax.patches
    assert [tuple(point) for point in way.get_xydata()] == points[:-1]
    assert isinstance(head, FancyArrowPatch)
    assert way.get_color() == style.RED and head.get_edgecolor() == to_rgba(style.RED)
    assert way.get_linewidth() == head.get_linewidth() == 2.0
    canvas.arrow(ax, (0, 0), (1, 1))
    assert len(ax.lines) == 1 and len(ax.patches) == 2


def test_boxes_and_arrows_are_drawn_in_one_place():
    for path in (*FIGURES.glob("*.py"), *(FIGURES.parents[1] / "tools").glob("*.py")):
        if path.name == "canvas.py":
            continue
        tree = ast.parse(path.read_text())
        names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
        assert not names & {Rectangle.__name__, FancyBboxPatch.__name__, FancyArrowPatch.__name__}, path.name
        assert "arrowprops" not in path.read_text(), path.name


def test_tables_are_written_in_one_place():
    pages = [*FIGURES.glob("*.py"), *(FIGURES.parents[1] / "book").rglob("*.md")]
    notebooks = (FIGURES.parents[1] / "notebooks").glob("*.ipynb")
    sources = {path: path.read_text() for path in pages} | {
        path: "\n".join(line for line in path.read_text().splitlines() if not line.startswith("       "))
        for path in notebooks
    }
    writers = {path.name for path, text in sources.items() if "<table" in text or "<tr>" in text or "<td>" in text}
    assert writers == {"tables.py"}


def test_the_masks_of_the_families_show_who_sees_whom():
    encoder, decoder, both = masks.who_sees_whom(["a", "b", "c"], ["x", "y"]).axes
    seen = [sum(patch.get_facecolor()[3] > 0 for patch in ax.patches) for ax in (encoder, decoder, both)]
    assert seen == [9, 6, 2 * 3 + 3]
    assert [len(ax.patches) for ax in (encoder, decoder, both)] == [9, 9, 6 + 4]
    plt.close("all")


def steps_of_a_tokenizer():
    split = tokens.Stage("Split", ["hello", ",", "dog"])
    return tokens.stages("Hello, dog", [split, tokens.Stage("Ids", ["hello", ",", "[PAD]"], [[7592, 1010, 0]], [2])])


def test_a_row_of_tokens_fits_or_is_refused():
    fig = steps_of_a_tokenizer()
    colours = [patch.get_edgecolor() for patch in fig.axes[0].patches if isinstance(patch, Rectangle)]
    assert [colour == to_rgba(style.GOLD) for colour in colours] == [False] * 5 + [True]
    assert {"7592", "1010", "0"} <= {text.get_text() for text in fig.axes[0].texts}
    plt.close(fig)
    with pytest.raises(ValueError, match=r"at most 5\.04 inches was expected, 'Split' needs 5\.\d"):
        tokens.stages("a", [tokens.Stage("Split", ["token"] * 11)])
    plt.close("all")


@pytest.mark.parametrize(
    "draw",
    [diagrams.encoder_family, diagrams.decoder_family, diagrams.encoder_decoder_family, diagrams.block_variants,
     steps.five_steps, steps_of_a_tokenizer],
)  # fmt: skip
def test_a_diagram_fits_its_figure_and_a_telephone(draw):
    fig = draw()
    fig.canvas.draw()
    for ax in fig.axes:
        for artist in (*ax.texts, *ax.patches):
            box = artist.get_window_extent()
            assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= fig.bbox.x1 and box.y1 <= fig.bbox.y1, artist
    assert fig.get_figwidth() * 0.7 * 96 <= 390 - 2 * 16
    plt.close(fig)
