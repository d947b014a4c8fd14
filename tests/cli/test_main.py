"""The command `tfguide` starts in three ways, shows what it can do, and needs no framework for that."""

import platform
import re
import shlex
import subprocess
import sys
from importlib import metadata

import pytest

from tfguide import cli, native
from tfguide.versions import versions


def run(*arguments):
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True)


@pytest.mark.parametrize("module", ["tfguide", "tfguide.cli"])
def test_it_runs_as_a_module(module, capsys):
    done = run("-m", module, "chips")
    assert cli.main(["chips"]) == 0
    assert (done.returncode, done.stdout, done.stderr) == (0, capsys.readouterr().out, "")
    done = run("-m", module, "plan", "--model", "gpt2")
    assert done.returncode == 2 and "--chip is missing" in done.stderr


def test_the_script_is_the_same_function():
    (entry,) = (entry for entry in metadata.entry_points(group="console_scripts") if entry.name == "tfguide")
    assert entry.value == "tfguide.cli:main"


def test_help_and_plans_import_no_framework():
    code = """
import contextlib, io, sys
from tfguide.cli import main
shown = [["--help"], ["generate", "--help"], ["chat", "--help"], ["bench", "decode", "--help"], ["models"], ["chips"]]
for arguments in [[], ["--version"], *shown]:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        main(arguments)
large = ("torch", "tensorflow", "keras", "transformers", "tokenizers", "jinja2", "gguf", "matplotlib")
print([name for name in large if name in sys.modules])
"""
    assert run("-c", code).stdout == "[]\n"


def test_a_reader_that_has_seen_enough_ends_it():
    code = "import sys; from tfguide.cli import main; sys.exit(main(['models', '--json']))"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        error = process.stderr.read()
        assert process.wait() == 0 and error == b""


def test_alone_it_shows_every_command_with_an_example_that_works(capsys):
    assert cli.main([]) == 0
    shown = capsys.readouterr().out
    lines = [line.strip() for line in shown.splitlines() if line.startswith("    ")]
    examples = [shlex.split(line) for line in lines]
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    commands = re.findall(r"^    (\w+)(?: |$)", capsys.readouterr().out, flags=re.MULTILINE)
    assert {words[1] for words in examples} == set(commands) >= {"generate", "chat", "plan", "bench"}
    for words in examples:
        assert words[0] == "tfguide"
        cli.build_parser().parse_args(words[1:])


def test_the_versions_of_what_matters(capsys, monkeypatch):
    assert cli.main(["--version"]) == 0
    found = dict(re.split(r"  +", line, maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert found["Python"] == platform.python_version() and found["numpy"] == metadata.version("numpy")
    for name in ("tfguide", "torch", "tensorflow", "keras", "tokenizers", "gguf"):
        assert found[name] == metadata.version(name)
    assert ("llama-cpp-python" in found) == (
        "llama_cpp_python" in {d.name.replace("-", "_") for d in metadata.distributions()}
    )
    assert found["compiler"] and found["kernels"] and "cores" in found["machine"]
    native.library()
    assert versions()["kernels"] == native.level()
    monkeypatch.setenv("TFGUIDE_CACHE", "/nowhere")
    assert versions()["kernels"].startswith("not compiled yet")
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert versions()["compiler"].startswith("none: no C++ compiler")
    monkeypatch.setenv("TFGUIDE_NATIVE", "0")
    assert "switched off" in versions()["kernels"]
