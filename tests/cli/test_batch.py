"""`tfguide batch`: a file in, a file out, interrupted in every way and gone on with."""

import json
import os
import pty
import signal
import subprocess
import sys
import time

import pytest

from tests.cli.test_chat import write_model
from tests.support import FRAMEWORKS, heed_interrupts
from tfguide import cli


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("batch"), 256)


@pytest.fixture
def command(checkpoint, tmp_path):
    """A function that makes the arguments of the command, after it has written the input."""

    def make(lines, *more):
        (tmp_path / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        files = ["--input", str(tmp_path / "in.jsonl"), "--output", str(tmp_path / "out.jsonl")]
        return ["batch", *files, "--checkpoint", str(checkpoint), "--max-new-tokens", "9", *more]

    return make


def answers(folder):
    found = [json.loads(text) for text in (folder / "out.jsonl").read_text().splitlines()]
    assert len({fields["line"] for fields in found}) == len(found)
    return sorted(found, key=lambda fields: fields["line"])


@pytest.mark.parametrize("name", ["none", *FRAMEWORKS])
def test_the_texts_are_those_of_generate(checkpoint, command, tmp_path, capsys, name):
    prompts = ["The dog.", " quick", "The dog. The dog."]
    assert cli.main(command([{"prompt": prompt} for prompt in prompts], "--framework", name, "--dtype", "int8")) == 0
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("3 of 3 lines, ") and err.count("\n") == 1
    for prompt, fields in zip(prompts, answers(tmp_path), strict=True):
        one = ["generate", "--checkpoint", str(checkpoint), "--framework", name, "--dtype", "int8"]
        assert cli.main([*one, "--prompt", prompt, "--max-new-tokens", "9"]) == 0
        assert capsys.readouterr().out == fields["choices"][0]["text"] + "\n"


def test_a_bad_line_is_reported_and_the_status_says_so(command, tmp_path, capsys):
    lines = [{"prompt": "a"}, {"prompt": "a", "n": 0}, {"messages": [{"role": "user", "content": "hi"}]}]
    assert cli.main(command(lines)) == 1
    err = capsys.readouterr().err
    assert f"tfguide: {tmp_path / 'in.jsonl'}, line 2: n must be at least 1, got 0\n" in err
    assert "3 of 3 lines, 1 with errors" in err
    assert ["error" in fields for fields in answers(tmp_path)] == [False, True, False]
    assert cli.main(command(lines)) == 1  # the error is still there
    assert "3 of 3 lines, 1 with errors, 0.0 tokens/s" in capsys.readouterr().err


def test_mistakes_are_one_line(command, tmp_path, capsys):
    lines = [{"prompt": "a"}]
    (tmp_path / "out.jsonl").write_text("something else\n")
    for more, message in (
        ([], "not an answer to this input"), (["--input", str(tmp_path / "no")], "the input must be a file"),
        (["--rows", "0"], "--rows must be at least 1"), (["--top-p", "0"], "top_p must lie in"),
    ):  # fmt: skip
        assert cli.main(command(lines, *more)) == 2
        error = capsys.readouterr().err
        assert error.startswith("tfguide: ") and message in error and error.count("\n") == 1


def start(arguments, **how):
    code = "import sys; from tfguide.cli import main; sys.exit(main(sys.argv[1:]))"
    return subprocess.Popen([sys.executable, "-c", code, *arguments], preexec_fn=heed_interrupts, **how)


def wait_for_lines(path, n):
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if path.exists() and path.read_bytes().count(b"\n") >= n:
            return
        time.sleep(0.002)
    raise AssertionError("no answers within a minute")


def test_killed_and_interrupted_it_goes_on(command, tmp_path):
    """kill -9, then Ctrl-C, then to the end: the answers of one run."""
    lines = [{"prompt": f"The dog {i}", "max_tokens": 120, "ignore_eos": True} for i in range(40)]
    arguments, out = command(lines, "--framework", "none", "--rows", "2", "--temperature", "2"), tmp_path / "out.jsonl"
    assert cli.main(arguments) == 0
    whole = answers(tmp_path)
    out.unlink()
    before = 0
    for sent, status in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)):
        with start(arguments, stderr=subprocess.PIPE, text=True) as process:
            wait_for_lines(out, before + 3)
            process.send_signal(sent)
            error = process.communicate(timeout=60)[1]
            assert process.returncode == status, error
        after = out.read_bytes().count(b"\n")
        assert before + 3 <= after < 40
        before = after
    assert "of 40 lines" in error and "tfguide: interrupted; the same command goes on" in error
    assert cli.main(arguments) == 0
    assert answers(tmp_path) == whole


def test_on_a_terminal_there_is_a_bar(command, tmp_path):
    lines = [{"prompt": "The dog", "max_tokens": 200, "ignore_eos": True}] * 30
    main, terminal = pty.openpty()
    with start([*command([*lines, {"prompt": 3}], "--framework", "none", "--rows", "1")], stderr=terminal) as process:
        os.close(terminal)
        shown = b""
        while True:
            try:
                piece = os.read(main, 4096)
            except OSError:  # the other end is closed
                break
            if not piece:
                break
            shown += piece
        assert process.wait(timeout=60) == 1
    os.close(main)
    text = shown.decode()
    assert "\r[" in text and "of 31 lines" in text and " left" in text
    assert f"\r\033[Ktfguide: {tmp_path / 'in.jsonl'}, line 31: a prompt must be" in text
    assert text.rstrip().rpartition("\033[K")[2].startswith("31 of 31 lines, 1 with errors")
