"""Figures of chapter 9: patches in their order, where a patch looks, sounds with their digits, tables of scores."""

import numpy as np
import pytest

pytest.importorskip("IPython")
pytest.importorskip("matplotlib")

import matplotlib.pyplot as plt

from tests.test_figures_tables import texts
from tfguide.figures import domains, style
from tfguide.tasks import digits, tones


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def words(ax):
    return [text.get_text() for text in ax.texts]


def test_the_patches_of_an_image_are_numbered_where_they_stand():
    pixels = np.random.default_rng(0).random((1, 6, 4))
    cut = digits.patches(pixels, 2)[0]
    fig = domains.cut_image(pixels[0], cut)
    assert words(fig.axes[0]) == words(fig.axes[1]) == [str(t) for t in range(6)]
    assert fig.axes[0].texts[3].get_position() == (2.5, 2.5)  # the second of the second line
    strip = fig.axes[1].images[0].get_array()
    np.testing.assert_allclose(strip[3:5, 3:5], cut[4].reshape(2, 2))  # three of six patches in a line
    np.testing.assert_allclose(fig.axes[0].images[0].get_array(), pixels[0])
    assert "T = 6 patches" in fig.axes[1].get_title(loc="left")
    style.to_svg(fig, "An image.")


def test_the_maps_of_a_patch_have_one_scale():
    draws = np.random.default_rng(0)
    maps = [(f"head {i}", draws.random((4, 4)) / (i + 1)) for i in range(4)]
    fig = domains.looks(draws.random((8, 8)), maps, query=6)
    shown = [ax for ax in fig.axes if ax.get_title(loc="left").startswith("head")]
    assert len(shown) == 4
    assert len({tuple(ax.images[0].get_clim()) for ax in shown}) == 1
    assert shown[0].images[0].get_clim() == (0, max(weights.max() for _, weights in maps))
    for ax, (_, weights) in zip(shown, maps, strict=True):
        np.testing.assert_array_equal(ax.images[0].get_array(), weights)
        assert ax.patches[0].get_xy() == (1.5, 0.5)  # the third column of the second line
    assert fig.axes[0].patches[0].get_xy() == (3.5, 1.5)


def test_a_gallery_shows_each_image_with_its_title():
    pixels = np.random.default_rng(0).random((5, 3, 3))
    fig = domains.gallery(pixels, list("abcde"))
    shown = [ax for ax in fig.axes if ax.get_visible()]
    assert [ax.get_title(loc="left") for ax in shown] == list("abcde")
    np.testing.assert_array_equal(shown[4].images[0].get_array(), pixels[4])


def test_a_sound_stands_under_its_digits():
    one = tones.recordings(1, seed=2)[0]
    assert tuple(digit for digit, _ in domains.places(one)) == one.digits
    assert all(one.sounds[int(second * tones.RATE)] == digit for digit, second in domains.places(one))
    fig = domains.sound(one)
    assert words(fig.axes[0]) == [str(digit) for digit in one.digits]
    image = fig.axes[1].images[0]
    np.testing.assert_array_equal(image.get_array(), tones.spectrogram(one.samples).T)
    left, right, low, high = image.get_extent()
    assert (low, high) == (0, 2000) and left >= 0 and right <= len(one.samples) / tones.RATE
    edges = len(tones.patches(one)[0]) + 1
    assert len(fig.axes[1].lines) == edges


def test_beliefs_mark_the_truth():
    draws = np.random.default_rng(0)
    probabilities, truth = draws.dirichlet(np.ones(11), 7), draws.integers(11, size=7)
    fig = domains.beliefs({"one": probabilities, "other": probabilities[:, ::-1]}, truth)
    assert fig.axes[0].lines[0].get_ydata().tolist() == truth.tolist()
    np.testing.assert_array_equal(fig.axes[0].images[0].get_array(), probabilities.T)


def test_the_lines_are_the_rows():
    rows = [
        {"model": name, "noise": noise, "scores": {"error rate": noise * by}}
        for name, by in (("a", 1), ("b", 3))
        for noise in (0.1, 0.2)
    ]
    ax = domains.by_noise(rows, "error rate").axes[0]
    assert [line.get_label() for line in ax.lines] == ["a", "b"]
    np.testing.assert_allclose(ax.lines[1].get_ydata(), [0.3, 0.6])
    flops = {(p, side): 1e9 * side / p for p in (8, 16) for side in (64, 128)}
    ax = domains.tokens_by_patch((8, 16), (64, 128), flops).axes[0]
    np.testing.assert_allclose(ax.lines[0].get_ydata(), [8, 16])


def test_the_table_begins_with_the_scores():
    row = {"about": "a model", "framework": "torch", "tokens": 16, "parameters": 39514, "scores": {"accuracy": 0.9753}}
    other = row | {"about": "neighbours", "framework": "scikit-learn", "tokens": 0, "parameters": 0}
    head, *lines = texts(domains.trained_table([row, other], ["accuracy"]))
    assert head == ["accuracy", "model", "framework", "tokens", "parameters"]
    assert lines[0] == ["97.5%", "a model", "PyTorch", "16", "39,514"]
    assert lines[1] == ["97.5%", "neighbours", "scikit-learn", "-", "-"]
