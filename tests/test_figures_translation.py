"""What section 7.1 draws: weights between two languages, and the tables of its result."""

import numpy as np
import pytest

plt = pytest.importorskip("matplotlib.pyplot")
pytest.importorskip("IPython")

from tfguide.figures import style, translation  # noqa: E402


def test_a_map_has_the_target_in_rows_and_the_source_in_columns(recwarn):
    weights = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]])
    fig = translation.cross_attention({"one": weights, "two": weights}, ["三", "百", "end"], ["three", "hundred"])
    assert [ax.get_title(loc="left") for ax in fig.axes] == ["one", "two"]
    assert [label.get_text() for label in fig.axes[0].get_xticklabels()] == ["三", "百", "end"]
    assert [label.get_text() for label in fig.axes[0].get_yticklabels()] == ["three", "hundred"]
    np.testing.assert_array_equal(fig.axes[0].images[0].get_array(), weights)
    assert ">三</text>" in style.to_svg(fig, alt="two maps")  # the reader's browser has the character
    assert not recwarn.list
    plt.close(fig)
    assert translation.strongest(weights, ["三", "百", "end"], ["three", "hundred"]) == [
        ("three", "三"),
        ("hundred", "end"),
    ]
