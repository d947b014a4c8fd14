"""The figures of the book: one look, light and dark, the same text in every build."""

import itertools
import re
import subprocess
import sys
import xml.etree.ElementTree as ET

import numpy as np
import pytest

plt = pytest.importorskip("matplotlib.pyplot")

from tfguide.figures import style  # noqa: E402  (after the check for matplotlib)

WHITE, DARK = "#ffffff", "#121212"

# Machado, Oliveira and Fernandes (2009), severity 1, on linear RGB.
DEFICIENCIES = {
    "none": np.eye(3),
    "protan": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deutan": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
}


def linear(colour: str) -> np.ndarray:
    c = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    """The contrast ratio of WCAG 2."""
    low, high = sorted(float(linear(c) @ [0.2126, 0.7152, 0.0722]) for c in (one, other))
    return (high + 0.05) / (low + 0.05)


def lab(rgb: np.ndarray) -> np.ndarray:
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    t = to_xyz @ np.clip(rgb, 0, 1) / to_xyz.sum(1)
    f = np.where(t > 0.008856, np.cbrt(t), 7.787 * t + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def figure():
    with style.style():
        fig, (left, right) = plt.subplots(1, 2, figsize=style.size(0.4))
        for k in range(3):
            left.plot(np.arange(5), np.arange(5) * k, label=f"line {k}")
        left.set(xlabel="x & y", ylabel="height", title="Lines <3")
        left.legend()
        left.annotate("here", (1, 1), (3, 5), arrowprops={"arrowstyle": "->", "color": style.ink()})
        style.heat_map(right, np.arange(600 * 500).reshape(600, 500))
    return fig


@pytest.fixture(scope="module")
def svg() -> str:
    fig = figure()
    text = style.to_svg(fig, alt='Three "lines" & a map')
    plt.close(fig)
    return text


def test_text_and_axes_take_the_colour_of_the_page(svg):
    assert svg.count("currentColor") > 20
    assert style.ink() not in svg
    drawn = set(re.findall(r"#[0-9a-fA-F]{6}\b", svg))
    assert drawn <= {c.lower() for c in style.PALETTE}, drawn - set(style.PALETTE)
    # An SVG text without a fill is black, so each one names its colour.
    assert all("fill: currentColor" in tag for tag in re.findall(r"<text[^>]*>", svg))


def test_the_svg_is_well_formed_and_says_what_it_shows(svg):
    root = ET.fromstring(svg)
    assert root.get("role") == "img"
    assert root.get("aria-label") == 'Three "lines" & a map'
    assert root.find("{http://www.w3.org/2000/svg}title").text == root.get("aria-label")


def test_the_svg_shrinks_with_its_column(svg):
    opening = svg[: svg.index(">")]
    assert "viewBox" in opening and "max-width:100%" in opening and "height:auto" in opening
    assert not re.search(r'\s(width|height)="', opening)


def test_two_builds_give_the_same_text(svg):
    fig = figure()
    again = style.to_svg(fig, alt='Three "lines" & a map')
    plt.close(fig)
    assert again == svg


def test_another_process_gives_the_same_text():
    code = """
import hashlib, matplotlib
matplotlib.use("agg")
import matplotlib.pyplot as plt
from tfguide.figures import style
with style.style():
    fig, ax = plt.subplots(); ax.plot([0, 1], [1, 0], marker="o"); ax.set_xlabel("x")
print(hashlib.sha256(style.to_svg(fig, alt="a line").encode()).hexdigest())
"""
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(2)]
    assert runs[0].stdout == runs[1].stdout


def test_a_heat_map_is_one_small_bitmap(svg):
    assert svg.count("<image") == 1
    assert len(svg) < 1_500_000


def test_identifiers_of_two_figures_do_not_collide():
    texts = []
    for slope in (1, 2):
        with style.style():
            fig, ax = plt.subplots()
            ax.plot([0, 1], [0, slope], marker="o")
        texts.append(style.to_svg(fig, alt="a line"))
        plt.close(fig)
    first, second = (set(re.findall(r'\bid="([^"]+)"', text)) for text in texts)
    assert first and not first & second
    for text in texts:
        names = set(re.findall(r'\bid="([^"]+)"', text))
        used = set(re.findall(r'href="#([^"]+)"', text)) | set(re.findall(r"url\(#([^)]+)\)", text))
        assert used and used <= names


@pytest.mark.parametrize("alt", ["", "  \n"])
def test_a_figure_without_alt_text_is_refused(alt):
    fig, _ = plt.subplots()
    with pytest.raises(ValueError, match="alt text"):
        style.to_svg(fig, alt=alt)
    plt.close(fig)


def test_show_displays_once_and_closes_the_figure(monkeypatch):
    import IPython.display

    shown = []
    monkeypatch.setattr(IPython.display, "display", shown.append)
    with style.style():
        fig, ax = plt.subplots()
        ax.plot([0, 1])
    style.show(fig, alt="a line")
    assert len(shown) == 1 and "<svg" in shown[0].data
    assert not plt.fignum_exists(fig.number)


def test_the_settings_end_with_the_block():
    before = plt.rcParams["text.color"]
    with style.style():
        assert plt.rcParams["text.color"] == style.ink()
    assert plt.rcParams["text.color"] == before


@pytest.mark.parametrize("colour", style.PALETTE)
@pytest.mark.parametrize("page", [WHITE, DARK])
def test_a_colour_reads_on_the_page(colour, page):
    assert contrast(colour, page) >= 3.0


@pytest.mark.parametrize("name", DEFICIENCIES)
def test_the_colours_are_told_apart(name):
    seen = [lab(DEFICIENCIES[name] @ linear(colour)) for colour in style.PALETTE]
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)) > 20


def test_importing_tfguide_does_not_import_matplotlib():
    code = "import sys, tfguide, tfguide.figures.style; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_figure_is_no_bitmap_of_text(svg):
    texts = "".join(ET.fromstring(svg).itertext())
    assert "Lines <3" in texts and "x & y" in texts
