"""Stop strings: the joined pieces are the text up to the first one, however the text is divided."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import refuses
from tfguide.text.stops import StopStrings

LETTERS = st.text("ab", min_size=1, max_size=4)


def cut(text, stops):
    """The text up to the stop string that is complete first, and that one; the longest of several."""
    for end in range(1, len(text) + 1):
        found = [stop for stop in stops if text[:end].endswith(stop)]
        if found:
            longest = max(found, key=len)
            return text[: end - len(longest)], longest
    return text, None


@given(st.lists(st.text("ab", max_size=5), max_size=8), st.lists(LETTERS, max_size=3))
def test_pieces_joined_are_the_text_cut_at_the_stop(pieces, stops):
    strings, shown = StopStrings(stops), ""
    for piece in pieces:
        shown += strings.add(piece)
        whole, _ = cut("".join(pieces), stops)
        assert whole.startswith(shown)
    shown += strings.end()
    assert (shown, strings.found) == cut("".join(pieces), stops)
    assert strings.end() == ""


def test_only_what_may_begin_a_stop_string_is_held_back():
    strings = StopStrings(["\n\nUser:", "</s>"])
    assert [strings.add(piece) for piece in ("a\n", "b\n\nUs", "e<", "/", "s", "> more")] == [
        "a", "\nb", "\n\nUse", "", "", ""
    ]  # fmt: skip
    assert strings.found == "</s>" and strings.add("x") == "" and strings.end() == ""
    unfinished = StopStrings(["END"])
    assert unfinished.add("the EN") + unfinished.end() == "the EN" and unfinished.found is None


def test_what_is_no_stop_string_is_refused():
    with refuses(ValueError, "a stop string must have a character, got an empty one"):
        StopStrings(["a", ""])
    with pytest.raises(TypeError, match="a stop string must be a string, got 3"):
        StopStrings([3])
