"""Tokens are passed on as they come, and their number and speed are told."""

import io

import pytest

from tfguide.text import Counted, counted


def test_a_terminal_beside_the_text_shows_the_speed(monkeypatch):
    clock = iter([0.0, 1.0, 1.1, 1.3, 1.4])
    monkeypatch.setattr(counted.time, "perf_counter", lambda: next(clock))
    live = io.StringIO()
    tokens = Counted(iter([5, 6, 7, 8]), 3, live)
    assert list(tokens) == [5, 6, 7, 8]
    assert live.getvalue().split("\r")[1:] == [
        "3 tokens read in 1.00 s ", "3 tokens read in 1.00 s, 3 new at 6.7 tokens/s ", "",
    ]  # fmt: skip
    assert tokens.summary() == "3 tokens read in 1.00 s, 4 new at 7.5 tokens/s"


def test_without_a_terminal_nothing_is_written(capsys):
    tokens = Counted(iter([5, 6]), 3)
    assert list(tokens) == [5, 6]
    assert capsys.readouterr() == ("", "")
    assert tokens.summary().startswith("3 tokens read in ") and ", 2 new at " in tokens.summary()


def test_before_the_first_token_there_is_no_speed():
    tokens = Counted(iter([]), 3)
    assert tokens.summary() == "3 tokens in the prompt, none new"
    assert list(tokens) == [] and tokens.summary() == "3 tokens in the prompt, none new"


def test_what_fails_behind_it_comes_through():
    def failing():
        yield 5
        raise RuntimeError("no more")

    tokens = Counted(failing(), 3)
    with pytest.raises(RuntimeError, match="no more"):
        list(tokens)
    assert tokens.summary().startswith("3 tokens read in ")
