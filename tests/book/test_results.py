"""Every committed result is listed with the commands that make it, and the commands are ones that exist."""

import argparse
import importlib
import importlib.util
import json
import re
import shlex
from pathlib import Path

import pytest

from tfguide import cli
from tfguide.figures import results

ROOT = Path(__file__).resolve().parents[2]
MADE = results.read_made(ROOT)
LISTED = [path for one in MADE for path in one.files]
#: Options that mean something else than what the result calls by their name.
OTHERS = {("precision.json", "prompt")}  # of the part `times`
COMMANDS = [(command, one) for one in MADE for command in one.commands]


def committed():
    """The results and the weights that come with the book."""
    found = [*ROOT.glob("book/**/*.json"), *ROOT.glob("tfguide/**/*.json"), *ROOT.glob("tfguide/**/*.safetensors")]
    return sorted(path.relative_to(ROOT).as_posix() for path in found)


def test_every_committed_result_is_listed_once():
    files = committed()
    assert len(files) > 60
    places = {file: [path for path in LISTED if file == path or file.startswith(f"{path}/")] for file in files}
    assert {file: some for file, some in places.items() if len(some) != 1} == {}


def test_what_is_listed_is_there():
    assert [path for path in LISTED if not (ROOT / path).exists()] == [] and len(set(LISTED)) == len(LISTED)


def test_every_result_is_read_by_a_page():
    pages = {path.stem: path.read_text() for path in sorted((ROOT / "book").rglob("*.md"))}
    files = [path for path, _ in results.sources(ROOT, MADE) if path.startswith(results.BOOK)]
    assert len(files) > 60 and [path for path in files if not results.readers(path, pages)] == []


class Parsed(Exception):
    """Ends a program when its arguments have been read."""


def read(words, monkeypatch):
    """The options that a command's own parser reads; SystemExit for arguments that it refuses."""
    real = argparse.ArgumentParser.parse_args

    def stop(parser, *arguments):
        raise Parsed(real(parser, *arguments))

    while re.fullmatch(r"[A-Z_]+=\S*", words[0]):
        words = words[1:]
    if words[0] == "tfguide":
        return cli.build_parser(words[1:2]).parse_args(words[1:])
    assert words[0] == "python", words
    if words[1:3] == ["-m", "pytest"]:
        assert [path for path in words[3:] if not (ROOT / path).exists()] == []
        return argparse.Namespace()
    if words[1] == "-m":
        module, arguments = importlib.import_module(words[2]), words[3:]
    else:
        spec = importlib.util.spec_from_file_location(Path(words[1]).stem, ROOT / words[1])
        module, arguments = importlib.util.module_from_spec(spec), words[2:]
        monkeypatch.syspath_prepend((ROOT / words[1]).parent)
        spec.loader.exec_module(module)
    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", stop)
    monkeypatch.setattr("sys.argv", [words[1], *arguments])
    with pytest.raises(Parsed) as parsed:
        module.main()
    return parsed.value.args[0]


@pytest.mark.parametrize(("command", "one"), COMMANDS, ids=[command for command, _ in COMMANDS])
def test_a_command_exists_and_says_what_the_result_says(command, one, monkeypatch):
    options = vars(read(shlex.split(command), monkeypatch))
    for path in one.files:
        result = json.loads((ROOT / path).read_text()) if path.endswith(".json") else {}
        said = result if isinstance(result, dict) else {}
        for name in ("tokens", "window", "prompt", "new_tokens", "repeats", "questions", "positions", "framework"):
            if (Path(path).name, name) in OTHERS:
                continue
            if isinstance(said.get(name), (int, str)) and isinstance(options.get(name), type(said[name])):
                assert options[name] == said[name], f"{path}: {name}"
        if "command" in said:
            assert said["command"] == command
        if options.get("json") and path.endswith(".json"):
            assert Path(options["json"]).name == Path(path).name
        rows = [row for row in said.get("rows", []) if isinstance(row, dict)]
        for name in ("dtype", "framework"):
            if len(one.commands) == 1 and isinstance(options.get(name), list) and all(name in row for row in rows):
                assert {row[name] for row in rows} - {"none", ""} <= set(options[name]), f"{path}: {name}"


@pytest.mark.parametrize("wrong", ["tfguide bench nothing", "python -m tfguide.bench.latent --no 1", "tfguide sing"])
def test_a_command_that_is_not_there_fails(wrong, monkeypatch):
    with pytest.raises((SystemExit, ImportError, AssertionError)):
        read(shlex.split(wrong), monkeypatch)
