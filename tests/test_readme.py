"""The README is right: its code runs and prints what it shows, and what it links to exists."""

import io
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tfguide import cli
from tfguide.checkpoints.gguf.reading import ARCHITECTURES
from tfguide.checkpoints.reading import FAMILIES
from tfguide.figures.terminal import Running
from tfguide.tasks import smollm

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```\n\n```\n(.*?)```", README, re.DOTALL)


def test_the_families_are_listed():
    """Every family of folders in the README and on the page of use; there every architecture of GGUF files as well."""
    page = (ROOT / "book" / "use_it.md").read_text()
    row = next(line for line in README.splitlines() if "`tfguide/checkpoints/`" in line)
    for text, names in ((row, FAMILIES), (page, FAMILIES), (page, ARCHITECTURES)):
        assert [name for name in names if not re.search(rf"\b{name}\b", text)] == []


def test_every_python_block_shows_its_output():
    assert len(BLOCKS) == README.count("```python") >= 2


@pytest.mark.parametrize("last", range(len(BLOCKS)))
def test_python_prints_what_the_readme_shows(last, capsys):
    """A block may use what the ones before it made."""
    for package in ("torch", "tensorflow"):
        pytest.importorskip(package)
    if not smollm.is_installed():
        pytest.skip(f"needs SmolLM2: {smollm.INSTALL}")
    names = {}
    for code, output in BLOCKS[: last + 1]:
        exec(compile(code, "README.md", "exec"), names)
        assert without_times(capsys.readouterr().out) == without_times(output)


def without_times(text):
    """A text without the numbers that depend on the machine: seconds, and tokens a second."""
    return re.sub(r"\d+\.\d+(?= s\b| tokens/s)", "...", text)


@pytest.mark.parametrize("command", re.findall(r"^\.venv/bin/tfguide (.*)", README, re.MULTILINE))
def test_commands_run(command, monkeypatch, capsys):
    pytest.importorskip("torch")
    if not smollm.is_installed():
        pytest.skip(f"needs SmolLM2: {smollm.INSTALL}")
    monkeypatch.setattr(sys, "stdin", io.StringIO("What is the capital of France?\n"))
    assert cli.main(shlex.split(command)) == 0
    out, err = capsys.readouterr()
    assert len(out) > 20 and re.search(r"\d+ tokens read in .* s, \d+ new at .* tokens/s", err)


def test_the_server_answers_as_the_readme_shows(capsys):
    """The command with another port, five lines of the client, and curl."""
    pytest.importorskip("openai")
    if not smollm.is_installed():
        pytest.skip(f"needs SmolLM2: {smollm.INSTALL}")
    section = README.split("## Serve\n")[1].split("\n## ")[0]
    command = re.search(r"^tfguide (serve .*)", section, re.MULTILINE)[1]
    code, output = re.search(r"```py\n(.*?)```\n\n```\n(.*?)```", section, re.DOTALL).groups()
    curl = re.search(r"^curl .*", section, re.MULTILINE)[0]
    assert len([line for line in code.splitlines() if line]) == 5
    server = Running(f"{command} --port 0")
    try:
        code, curl = (text.replace("http://127.0.0.1:8000", server.address) for text in (code, curl))
        exec(compile(code, "README.md", "exec"), {})
        assert capsys.readouterr().out == output
        done = subprocess.run([*shlex.split(curl), "--silent"], capture_output=True, text=True, check=True)
        assert json.loads(done.stdout)["usage"]["completion_tokens"] == 16
    finally:
        assert server.stop() == 0


@pytest.mark.parametrize("command", re.findall(r"^tfguide ((?:batch|export) .*)", README, re.MULTILINE))
def test_commands_are_such_that_the_parser_takes(command):
    assert cli.build_parser().parse_args(shlex.split(command)).run


def test_the_first_block_is_five_lines_that_show_a_speed():
    code, output = BLOCKS[0]
    assert len([line for line in code.splitlines() if line]) == 5
    assert re.search(r"\[\d+ tokens read in .* s, \d+ new at .* tokens/s\]\n$", output)


def test_links_and_paths_exist():
    links = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    paths = [path for row in re.findall(r"^\| (`.*?) \|", README, re.MULTILINE) for path in re.findall(r"`(.*?)`", row)]
    assert "book/_static/readme.svg" in links
    assert [name for name in links if not (ROOT / name).exists()] == []
    assert [path for path in paths if not any((ROOT / folder / path).exists() for folder in ("", "tfguide"))] == []


def test_make_targets_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"make ([a-z]+)", README)) | {"book"}
    assert named <= targets
