"""The command `tfguide` starts in three ways, and its help needs no framework."""

import subprocess
import sys
from importlib import metadata

import pytest

from tfguide import cli


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
for arguments in (["--help"], ["generate", "--help"], ["bench", "decode", "--help"], ["models"], ["chips"]):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        main(arguments)
large = ("torch", "tensorflow", "keras", "transformers", "tokenizers", "matplotlib")
print([name for name in large if name in sys.modules])
"""
    assert run("-c", code).stdout == "[]\n"


def test_a_reader_that_has_seen_enough_ends_it():
    code = "import sys; from tfguide.cli import main; sys.exit(main(['models', '--json']))"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        error = process.stderr.read()
        assert process.wait() == 0 and error == b""
