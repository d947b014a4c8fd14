"""The recorded run that chapter 1 begins with is whole and agrees with itself."""

import json
import math
from pathlib import Path

import pytest

import tfguide

RECORD = Path(__file__).resolve().parents[2] / "book/appendices/first_answer.json"


@pytest.fixture(scope="module")
def record() -> dict:
    return json.loads(RECORD.read_text())


def test_the_answer_is_what_its_tokens_say(record):
    answer, config = record["answer"], record["config"]
    assert "".join(answer["pieces"][:-1]) == answer["text"]  # the last token is the end, and no text
    assert len(answer["tokens"]) == len(answer["pieces"]) == len(answer["milliseconds"]) == len(answer["candidates"])
    assert all(0 <= token < config["vocab_size"] for token in answer["tokens"] + record["prompt"]["tokens"])


def test_each_token_is_the_most_likely_one(record):
    for piece, candidates in zip(record["answer"]["pieces"], record["answer"]["candidates"], strict=True):
        shares = [share for _, share in candidates]
        assert candidates[0][0] == piece
        assert shares == sorted(shares, reverse=True) and 0 < sum(shares) <= 1


def test_the_prompt_holds_the_question(record):
    prompt = record["prompt"]
    assert "".join(prompt["pieces"]) == prompt["text"]
    assert record["question"] in prompt["text"]
    assert len(prompt["pieces"]) == len(prompt["tokens"])


def test_the_parameters_are_those_of_the_shape(record):
    names = {
        "n_kv_heads",
        "d_model",
        "n_layers",
        "n_heads",
        "d_ff",
        "vocab_size",
        "kind",
        "norm",
        "positions",
        "activation",
    }
    assert names == set(record["config"])
    config = tfguide.ModelConfig(**record["config"], qkv_bias=False, output_bias=False, ffn_bias=False)
    assert config.tied_head
    assert record["parameters"] == sum(math.prod(shape) for shape in tfguide.weight_shapes(config).values())


def test_what_the_chapter_says_of_the_times_holds(record):
    """A written token costs several times a read one, and the written ones cost about the same."""
    first, *others = record["answer"]["milliseconds"]
    others.sort()
    assert others[0] > 0
    assert others[len(others) // 2] > 3 * first / len(record["prompt"]["tokens"])
    assert others[-1] < 1.5 * others[0]
    assert record["machine"]["threads"] == 1 and record["rounds"] >= 5


def test_the_record_names_no_path_and_its_source(record):
    assert "/tmp" not in RECORD.read_text() and "/home" not in RECORD.read_text()
    assert len(record["weights"]["sha256"]) == 64
