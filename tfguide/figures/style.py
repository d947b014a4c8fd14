"""One look for every figure: inline SVG that reads on a light page and on a dark page:

    from tfguide.figures import style

    with style.style():
        fig, ax = plt.subplots(figsize=style.size(0.5))
        ax.plot(x, y)
    style.show(fig, alt="What the figure shows, in one sentence.")

Text, axes and ticks take the colour of the surrounding text (`currentColor`), which the reader's theme decides. Data
take the colours of `PALETTE` or of a colour map. matplotlib is imported when a function is called.
"""

import html
import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE, GOLD, RED, TEAL, MAUVE, BROWN = "#3c78c3", "#c38700", "#d22d5a", "#00a587", "#876996", "#b45a2d"

#: Six colours that people with the common colour vision deficiencies tell apart, with a contrast of at least 3 to 1
#: on a white page and on a dark one. The tests compute both (Machado, Oliveira and Fernandes, 2009; WCAG 2).
PALETTE = (BLUE, GOLD, RED, TEAL, MAUVE, BROWN)

#: One line after another differs in dash as well as in colour.
DASHES = ("-", (0, (5, 1.5)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)), (0, (3, 1)), (0, (3, 1, 1, 1, 1, 1)))

#: A colour map for shares and probabilities; every colour is opaque, so that it is the same on any page.
SEQUENTIAL = "viridis"

#: A colour map for signed values, centred on zero.
DIVERGING = "RdBu_r"

# Stands for "the colour of the text" while matplotlib draws, and is replaced by currentColor in the SVG. Nobody picks
# this colour for data.
_INK = "#0a0b0c"

#: Inches of a figure: 70% of that, the least that it shrinks to, is the width of a telephone.
WIDTH = 5.2


def size(aspect: float = 0.5, width: float = WIDTH) -> tuple[float, float]:
    """The size of a figure in inches for `figsize`: `width`, and a height of `aspect` times the width.

    >>> size(0.5)
    (5.2, 2.6)
    """
    return width, round(width * aspect, 3)


def settings() -> dict[str, object]:
    """The matplotlib settings of the book as a dictionary for `matplotlib.rc_context`."""
    from cycler import cycler

    return {
        "axes.edgecolor": _INK,
        "axes.facecolor": "none",
        "axes.grid": False,
        "axes.labelcolor": _INK,
        "axes.labelsize": 10,
        "axes.linewidth": 0.8,
        "axes.prop_cycle": cycler(color=PALETTE) + cycler(linestyle=DASHES),
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.titlecolor": _INK,
        "axes.titlelocation": "left",
        "axes.titlesize": 11,
        "axes.titleweight": "bold",
        "figure.constrained_layout.use": True,
        "figure.dpi": 100,
        "figure.facecolor": "none",
        "figure.figsize": size(),
        "font.family": "sans-serif",
        "font.size": 10,
        "grid.alpha": 0.25,
        "grid.color": _INK,
        "grid.linewidth": 0.6,
        "hatch.color": _INK,
        "image.cmap": SEQUENTIAL,
        "image.interpolation": "nearest",
        "legend.edgecolor": "none",
        "legend.facecolor": "none",
        "legend.fontsize": 9,
        "legend.frameon": False,
        "legend.labelcolor": _INK,
        "lines.color": _INK,
        "lines.linewidth": 1.8,
        "patch.edgecolor": _INK,
        "savefig.facecolor": "none",
        # A dash pattern, an identifier and a date must not differ from one build to the next.
        "svg.fonttype": "none",
        "svg.hashsalt": "tfguide",
        "text.color": _INK,
        "xtick.color": _INK,
        "xtick.labelsize": 9,
        "ytick.color": _INK,
        "ytick.labelsize": 9,
    }


def ink() -> str:
    """The colour to pass to matplotlib for whatever must follow the colour of the text: arrows, boxes, grid lines."""
    return _INK


@contextmanager
def style() -> Iterator[None]:
    """Draw with the settings of the book inside the `with` block."""
    import matplotlib

    with matplotlib.rc_context(settings()):
        yield


def heat_map(ax, values, *, cmap: str = SEQUENTIAL, vmin: float | None = None, vmax: float | None = None):
    """Draw a matrix as cells on `ax` and return the image, for a colour bar.

    The cells are one bitmap inside the SVG, one pixel for each value, so a map of 512 by 512 stays small. `values` is
    (rows, columns), `cmap` names a colour map (`SEQUENTIAL` for shares, `DIVERGING` for signed values), and `vmin` and
    `vmax` are the values of its first and its last colour, by default the smallest and the largest value.
    """
    image = ax.imshow(values, cmap=cmap, vmin=vmin, vmax=vmax, aspect="auto", interpolation="none")
    bare(ax)
    return image


def bare(ax) -> None:
    """Take the lines around the axes and the marks of the ticks away; the labels of the ticks stay."""
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)


def to_svg(fig: "Figure", alt: str) -> str:
    """The figure as an SVG element that stands in an HTML page.

    It has a `viewBox` and no fixed height, takes the colour of the text around it, and is the same text in every build.
    It shrinks with its column to 70% of its size, where its letters can still be read; a narrower column scrolls it.
    `alt` becomes its title for those who cannot see it. Raises ValueError where `alt` is empty.
    """
    import matplotlib

    if not alt.strip():
        raise ValueError("a figure needs alt text: say in one sentence what it shows")
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "tfguide"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # text stays text: the reader's browser has Chinese
        fig.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    # The page has a font and a colour; the figure takes both.
    svg = svg.replace(_INK, "currentColor")
    svg = re.sub(r"font-family: [^;\"]*", "font-family: var(--figure-font, sans-serif)", svg)
    svg = re.sub(r"(font: [^;\"]*?px )[^;\"]*", r"\1var(--figure-font, sans-serif)", svg)
    svg = _unique_identifiers(svg, alt)
    label = html.escape(" ".join(alt.split()), quote=True)
    width = fig.get_figwidth() * 72
    opening = re.match(r"<svg[^>]*>", svg).group(0)
    box = re.search(r'viewBox="[^"]*"', opening).group(0)
    shape = f"width:{width:.0f}pt;min-width:{0.7 * width:.0f}pt;max-width:100%;height:auto"
    head = (
        f'<svg class="tfguide-figure" role="img" aria-label="{label}" {box} style="{shape}" '
        f'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"><title>{label}</title>'
    )
    return head + svg[len(opening) :].strip()


def _unique_identifiers(svg: str, alt: str) -> str:
    """Prefix every identifier, since the clip paths and markers of two figures on one page share one name space."""
    import hashlib

    prefix = "f" + hashlib.sha256((alt + svg).encode()).hexdigest()[:10]
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', svg)
    svg = re.sub(r'href="#([^"]+)"', rf'href="#{prefix}-\1"', svg)
    return re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}-\1)", svg)


def show(fig: "Figure", alt: str) -> None:
    """Display the figure in a notebook or on a page of the book as inline SVG, and close it.

    `fig` was drawn inside `with style():`, and `alt` says in one sentence what it shows, for readers who cannot see it.
    Raises ValueError where `alt` is empty.
    """
    import matplotlib.pyplot as plt
    from IPython.display import HTML, display

    svg = to_svg(fig, alt)
    # Without this the inline backend of a notebook would show the figure a second time, as a bitmap.
    plt.close(fig)
    display(HTML(f'<div class="tfguide-figure" style="overflow-x:auto">{svg}</div>'))
