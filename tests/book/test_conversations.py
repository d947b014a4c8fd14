"""The recorded conversations of the page "Use it" are whole, name their command, and say what they took."""

import json
import re
import shlex
from pathlib import Path

from tfguide import cli
from tfguide.tasks import smollm

RECORD = Path(__file__).resolve().parents[2] / "book/appendices/conversations.json"
FOUND = json.loads(RECORD.read_text(encoding="utf-8"))
SPEED = re.compile(r"\[\d+ tokens read in \d+\.\d+ s, \d+ new at \d+\.\d+ tokens/s(, \d+ kept from before)?\]")


def test_each_is_a_command_that_exists():
    assert set(FOUND["conversations"]) == {"none", "torch", "tensorflow"}
    for framework, one in FOUND["conversations"].items():
        assert one["command"] == f"tfguide chat --framework {framework}"
        cli.build_parser().parse_args(shlex.split(one["command"])[1:])


def test_each_answers_every_line_and_says_how_fast():
    for one in FOUND["conversations"].values():
        assert [line[2:] for line in one["printed"] if line.startswith("> ")] == FOUND["typed"]
        speeds = [line for line in one["printed"] if SPEED.fullmatch(line)]
        assert len(speeds) == len(FOUND["typed"])
        assert not SPEED.fullmatch(speeds[0])[1] and all("kept from before" in line for line in speeds[1:])
        text = "\n".join(one["printed"])
        assert "Paris" in text and "Rome" in text and "tfguide:" not in text  # no warnings


def test_the_file_is_the_book_s_and_no_path_is_named():
    assert FOUND["sha256"] == smollm.SHA256 and FOUND["model"] == smollm.FILE
    assert not re.search(r"/(tmp|home|root|work|Users)/", RECORD.read_text(encoding="utf-8"))
    assert FOUND["machine"]["cores"] >= 1 and FOUND["machine"]["versions"]["numpy"]
