"""The page "Use it": every command of `tfguide` runs on it, and both frameworks are shown doing the same."""

import re
import shlex
from html import unescape
from pathlib import Path

import pytest

from tfguide import cli

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "book" / "use_it.md").read_text(encoding="utf-8")
COMMAND = r'^(?:_ = tfguide|server = Running)\("(.*?)"(?:, typed=\w+)?\)$'
RUN = [shlex.split(line) for line in re.findall(COMMAND, PAGE, flags=re.MULTILINE)]


def named(capsys, *command):
    """The commands that the help of `tfguide` or of one of its commands lists."""
    with pytest.raises(SystemExit):
        cli.main([*command, "--help"])
    return re.findall(r"^    (\w+)(?: |$)", capsys.readouterr().out, flags=re.MULTILINE)


def test_every_command_runs_on_the_page(capsys):
    commands = named(capsys)
    assert {"chat", "generate", "plan", "models", "chips", "bench", "calibrate"} <= set(commands)
    assert set(commands) - {words[0] for words in RUN} == set()
    for command in commands:
        tasks = named(capsys, command)
        assert set(tasks) - {words[1] for words in RUN if words[0] == command and len(words) > 1} == set(), command
        for words in [[command, task] for task in tasks] or [[command]]:
            assert f'"{" ".join(words)}"' in PAGE, f"the options of {words} are not listed"


def test_every_line_of_the_page_is_one_that_the_command_takes(capsys):
    """A page may run from the cache; the parser is always that of now."""
    for words in RUN:
        if "--help" not in words:
            cli.build_parser().parse_args(words)


def test_the_two_listings_differ_in_the_framework_alone():
    one, other = ((ROOT / "book/examples" / f"use_{name}.py").read_text() for name in ("torch", "tensorflow"))
    assert one.replace("PyTorch", "TensorFlow").replace("tfguide.torch", "tfguide.tensorflow") == other
    shown = re.findall(r"\{literalinclude\} examples/use_(\w+)\.py\n(.*)\n", PAGE)
    assert [part for name, part in shown if name == "torch"] == [part for name, part in shown if name == "tensorflow"]
    functions = re.findall(r"^def (\w+)", one, flags=re.MULTILINE)
    assert len(functions) >= 3
    for function in functions:
        assert f":pyobject: {function}\n" in PAGE and f".{function}(" in PAGE


def test_what_the_page_promises_was_printed(html_folder):
    page = (html_folder / "book" / "use_it.html").read_text(encoding="utf-8")
    html = unescape(re.sub(r"<[^>]+>", "", page))
    learnt = " better than ugly.\nExplicit is better than implicit."
    assert html.count(learnt) >= 3  # PyTorch, TensorFlow, the command
    assert "sliding_window=4096 is not supported" in html and "ignore=('sliding_window',)" in html
    assert "ignored as told: sliding_window=4096" in html
    assert "passed over, as transformers does: trained_by='me'" in html
    assert html.count("tokens read in") >= 3
    assert html.count("The capital of Italy is Rome.") >= 4  # PyTorch, TensorFlow, and the command in both
    assert " kept from before]" in html and "oldest messages were dropped]" in html
