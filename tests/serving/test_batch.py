"""A batch: every line gets its answer, alone as among others, and an interrupted run goes on where it stopped."""

import dataclasses
import itertools
import json
import time

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from tests.serving import applications
from tests.serving.applications import CONFIG, ENDS
from tests.support import load, random_weights, refuses, small_config
from tfguide.generation import Sampling, generate
from tfguide.serving import Engine, protocol
from tfguide.serving.batch import Batch, Progress
from tfguide.serving.desk import Desk
from tfguide.serving.lines import CHAT, COMPLETIONS, LineError, Reader, Settings
from tfguide.serving.orders import Clerk
from tfguide.serving.protocol import Chat, Completion
from tfguide.text import ChatTemplate, pieces

TEXT = "The quick brown fox jumps over the lazy dog. Zwölf große Boxkämpfer jagen Viktor. 你好，世界"
TEMPLATE = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:"
LINES = [
    {"prompt": "The quick", "id": "a"},
    {"prompt": [5, 7, 11], "id": 3, "max_tokens": 4, "ignore_eos": True},
    {"messages": [{"role": "user", "content": "fox"}], "n": 2, "temperature": 1.5},
    {"prompt": "over", "temperature": 0.9, "seed": 5, "top_k": 9, "max_completion_tokens": 9},
    {"prompt": "lazy dog", "n": 3, "temperature": 2.0, "top_p": 0.9, "min_p": 0.01, "repetition_penalty": 1.2},
    {"custom_id": "c", "method": "POST", "url": COMPLETIONS, "body": {"model": "x", "prompt": "Zw", "max_tokens": 5}},
    {"custom_id": "d", "method": "POST", "url": CHAT, "body": {"messages": [
        {"role": "user", "content": [{"type": "text", "text": "jum"}, {"type": "text", "text": "ps"}]}]}},
]  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer():
    one = Tokenizer(models.BPE())
    one.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    one.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    one.train_from_iterator([TEXT] * 3, trainers.BpeTrainer(vocab_size=307, initial_alphabet=alphabet))
    return one


@pytest.fixture(scope="module")
def model(tokenizer):
    config = small_config(
        positions="rotary", max_positions=64, vocab_size=tokenizer.get_vocab_size(), eos_token_id=tuple(range(40))
    )
    return load("torch").from_weights(config, random_weights(config))


@pytest.fixture
def make(model, tokenizer, tmp_path):
    """A function that makes a batch of the lines of a file, with an engine of its own."""

    def batch(lines=None, rows=3, most=13, name="m", template=TEMPLATE, **sampling):
        if lines is not None:
            text = [line if isinstance(line, str) else json.dumps(line) for line in lines]
            (tmp_path / "in.jsonl").write_text("".join(f"{line}\n" for line in text))
        engine = Engine(model, rows=rows, n_blocks=17, tokens=8)
        settings = Settings(most, Sampling(**{"temperature": 0.0, **sampling}), None, name)
        template = template and ChatTemplate(template)
        reader = Reader(tokenizer, template, model.config.eos_token_ids, engine.scheduler.max_length, settings)
        return Batch(Desk(engine, reader), tmp_path / "in.jsonl", tmp_path / "out.jsonl")

    return batch


def finish(batch):
    """The lines that ended, after all have."""
    return [one for ended in batch.run() for one in ended]


def written(path):
    """The answers by the number of their line; those of OpenAI's form without the second in which they were made."""
    found = {}
    for text in (path / "out.jsonl").read_text().splitlines():
        fields = json.loads(text)
        assert fields["line"] not in found
        found[fields["line"]] = fields
        (fields.get("response") or {}).get("body", {}).pop("created", None)
    return found


def alone(model, tokenizer, prompt, n_new=13, n=1, stop_tokens=None, **sampling):
    """The texts of a prompt by `generate`, as `tfguide generate` prints them, and their numbers of tokens."""
    rows = generate(model, [prompt] * n, n_new, stop_tokens, Sampling(**{"temperature": 0.0, **sampling}))
    return ["".join(pieces(tokenizer, prompt, row)) for row in rows], [len(row) for row in rows]


def test_answers_are_those_of_each_line_alone(make, model, tokenizer, tmp_path):
    ended = finish(make(LINES, rows=3))
    assert sorted(one.number for one in ended) == [1, 2, 3, 4, 5, 6, 7] and not any(one.error for one in ended)
    found = written(tmp_path)

    def encode(text):
        return tokenizer.encode(text).ids

    expected = {
        1: alone(model, tokenizer, encode("The quick")),
        2: alone(model, tokenizer, [5, 7, 11], 4, stop_tokens=[]),
        3: alone(model, tokenizer, encode("user: fox\nassistant:"), n=2, temperature=1.5, seed=3),
        4: alone(model, tokenizer, encode("over"), 9, temperature=0.9, seed=5, top_k=9),
        5: alone(
            model, tokenizer, encode("lazy dog"), n=3, temperature=2.0, seed=5, top_p=0.9, min_p=0.01,
            repetition_penalty=1.2,
        ),
    }  # fmt: skip
    for number, (texts, counts) in expected.items():
        choices = found[number]["choices"]
        assert [choice["text"] for choice in choices] == texts
        assert [choice["completion_tokens"] for choice in choices] == counts
        assert [choice["index"] for choice in choices] == list(range(len(texts)))
        most = {2: 4, 4: 9}.get(number, 13)
        assert [choice["finish_reason"] == "length" for choice in choices] == [n == most for n in counts]
        assert found[number]["usage"]["completion_tokens"] == sum(counts)
    assert [found[i].get("id") for i in range(1, 6)] == ["a", 3, None, None, None]
    assert found[2]["usage"] == {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    reasons = {choice["finish_reason"] for i in expected for choice in found[i]["choices"]}
    assert reasons == {"stop", "length"}
    # OpenAI's form
    texts, (count,) = alone(model, tokenizer, encode("Zw"), 5)
    body = found[6]["response"]["body"]
    assert found[6]["custom_id"] == "c" and found[6]["error"] is None and found[6]["response"]["status_code"] == 200
    assert (body["object"], body["choices"][0]["text"], body["model"]) == ("text_completion", texts[0], "m")
    assert body["usage"]["completion_tokens"] == count
    texts, _ = alone(model, tokenizer, encode("user: jum\nps\nassistant:"))
    body = found[7]["response"]["body"]
    assert body["object"] == "chat.completion"
    assert body["choices"][0]["message"] == {"role": "assistant", "content": texts[0]}


def test_a_text_is_cut_at_a_stop_string(make, model, tokenizer, tmp_path):
    (text,), (n,) = alone(model, tokenizer, [5, 7, 11], 13, stop_tokens=[])
    stop = text[4:6]
    assert n == 13 and len(stop) == 2
    batch = make([{"prompt": [5, 7, 11], "stop": ["never", stop], "ignore_eos": True}] * 2)
    finish(batch)
    for fields in written(tmp_path).values():
        (choice,) = fields["choices"]
        assert choice["text"] == text[: text.index(stop)] and choice["finish_reason"] == "stop"
        assert 0 < choice["completion_tokens"] < 13
    assert batch.desk.engine.pool.n_used == 0


def test_equal_lines_draw_differently_and_in_every_run_the_same(make, tmp_path):
    lines = [{"prompt": "The quick"}] * 5
    finish(make(lines, temperature=3.0))
    first = written(tmp_path)
    assert len({fields["choices"][0]["text"] for fields in first.values()}) > 2
    (tmp_path / "out.jsonl").unlink()
    finish(make(lines, rows=1, temperature=3.0))
    assert written(tmp_path) == first


def test_it_goes_on_where_it_stopped(make, tmp_path):
    lines = [*LINES, "not json", *LINES]
    finish(make(lines))
    whole, out = written(tmp_path), tmp_path / "out.jsonl"
    out.unlink()
    for _ in range(9):  # runs that each end after some steps
        batch = make()
        before = batch.progress.n_answered
        run = batch.run()
        done = sum(len(ended) for ended in itertools.islice(run, 30))
        run.close()
        assert batch.progress.n_answered == before + done == len(written(tmp_path))
        if batch.progress.n_answered == batch.progress.n_lines:
            break
    else:
        raise AssertionError("it never ends")
    assert before > 0 and written(tmp_path) == whole
    batch = make()
    assert finish(batch) == [] and batch.desk.engine.n_steps == 0 and batch.progress.n_errors == 1


def test_half_of_a_last_line_is_dropped(make, tmp_path):
    finish(make(LINES[:3]))
    whole, out = written(tmp_path), tmp_path / "out.jsonl"
    text = out.read_bytes()
    last = text[:-1].rindex(b"\n") + 1
    for end in (last + 1, last + 7, last + 20, len(text) - 1):  # as a kill in the middle of a write leaves it
        out.write_bytes(text[:end])
        batch = make()
        assert batch.progress.n_answered == 2 and out.read_bytes() == text[:end]
        assert len(finish(batch)) == 1
        assert written(tmp_path) == whole


def test_more_lines_may_be_added_to_the_input(make, tmp_path):
    finish(make(LINES[:2]))
    first = written(tmp_path)
    assert [one.number for one in finish(make([*LINES[:3]]))] == [3]
    assert {i: fields for i, fields in written(tmp_path).items() if i < 3} == first


@pytest.mark.parametrize(
    ("lines", "settings", "message"),
    [
        ([LINES[1], LINES[0]], {}, "an answer to line 1 of another input, or of another model or other settings"),
        (None, {"name": "other"}, "an answer to line 1 of another input, or of another model or other settings"),
        (None, {"temperature": 0.5}, "of another model or other settings"),
        (LINES[:1], {}, "has answers to 2 lines, of which the input has 1"),
        ([LINES[0], ""], {}, "has answers to 2 lines, of which the input has 1"),
    ],
    ids=str,
)  # fmt: skip
def test_answers_to_another_input_are_refused(make, tmp_path, lines, settings, message):
    finish(make(LINES[:2]))
    before = (tmp_path / "out.jsonl").read_bytes()
    with refuses(ValueError, message):
        make(lines, **settings)
    assert (tmp_path / "out.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    "text",
    ["my notes", "my notes\n", '{"a": 1}\n', "[]\n", '{"line": 0, "input": "a"}\n', '{"line": 1.5, "input": "a"}\n',
     '{"line": 99999, "input": "a"}\n', '{"line": 1, "input": "x"}\n', '{"line": 1, "input": "' + "f" * 17 + '"}\n',
     '{"line": 1}\n', "\n"],
)  # fmt: skip
def test_a_file_of_something_else_is_left_alone(make, tmp_path, text):
    (tmp_path / "out.jsonl").write_text(text)
    with refuses(ValueError, "line 1: not an answer to this input: name another file for answers"):
        make(LINES)
    assert (tmp_path / "out.jsonl").read_text() == text


def test_paths_that_are_no_files(make, tmp_path):
    with refuses(ValueError, "the input must be a file"):
        make()
    make(LINES)
    (tmp_path / "out.jsonl").symlink_to(tmp_path / "in.jsonl")
    with refuses(ValueError, "must not be written over the input"):
        make()
    (tmp_path / "out.jsonl").unlink()
    (tmp_path / "out.jsonl").mkdir()
    with refuses(ValueError, "the output must be a file"):
        make()


BAD = [
    ("{", "not JSON"), ("[" * 100_000, "not JSON"), ("3", "expected an object of JSON, got int"),
    ({}, "expected either a prompt or messages"), ({"prompt": "a", "messages": []}, "expected either"),
    ({"prompt": ["a"]}, "a prompt must be a string or a list of token ids"), ({"prompt": ""}, "prompt is empty"),
    ({"prompt": [999]}, "token"), ({"prompt": [1 << 70]}, "integer"), ({"prompt": "a", "n": 0}, "n must be at least 1"),
    ({"prompt": "a", "n": 2000}, "n must be at most"), ({"prompt": "a", "max_tokens": 0}, "max_tokens must be at"),
    ({"prompt": "a", "max_tokens": 65}, "the prompt has 1 tokens and 65 more are wanted"),
    ({"prompt": "a " * 65}, "the prompt has "), ({"prompt": "a", "temprature": 1}, "did you mean 'temperature'"),
    ({"prompt": "a", "temperature": "1"}, "temperature must be a number"), ({"prompt": "a", "seed": -1}, "seed"),
    ({"prompt": "a", "stop": [""]}, "a stop string must have a character"), ({"prompt": "a", "stop": 3}, "stop must"),
    ({"prompt": "a", "stop_token_ids": [999]}, "stop token"), ({"prompt": "a", "logprobs": True}, "not supported"),
    ({"messages": []}, "messages must be a list"), ({"messages": [3]}, "a message must be an object"),
    ({"messages": [{"role": "user"}]}, "content of a message"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "must be a text"),
    ({"custom_id": "x", "url": "/v1/embeddings", "body": {}}, "url must be"),
    ({"custom_id": "x", "url": CHAT, "body": {"prompt": "a"}}, "needs messages"),
    ({"custom_id": "x", "url": COMPLETIONS, "body": {"prompt": "a", "tools": [1]}}, "tools=[1] is not supported"),
    ({"custom_id": "x", "url": COMPLETIONS, "body": 3}, "body must be an object"),
    ({"custom_id": 3, "url": COMPLETIONS, "body": {"prompt": "a"}}, "custom_id must be a string"),
]  # fmt: skip


def test_a_bad_line_is_named_and_loses_nothing(make, tmp_path):
    """Each bad line stands before a good one, all in one file."""
    lines = [line for bad, _ in BAD for line in (bad, LINES[1])]
    batch = make(lines, rows=5)
    ended = {one.number: one.error for one in finish(batch)}
    found = written(tmp_path)
    assert sorted(ended) == sorted(found) == list(range(1, 2 * len(BAD) + 1))
    assert batch.progress.n_errors == len(BAD) and batch.desk.engine.pool.n_used == 0
    good = found[2]["choices"]
    for i, (bad, message) in enumerate(BAD):
        error = found[2 * i + 1]["error"]
        if isinstance(bad, dict) and "custom_id" in bad:
            assert found[2 * i + 1]["custom_id"] == bad["custom_id"] and found[2 * i + 1]["response"] is None
            error = error["message"]
        assert message in error and message in ended[2 * i + 1], (bad, error)
        assert found[2 * i + 2]["choices"] == good and ended[2 * i + 2] is None


def test_what_changes_nothing_is_passed_over(make, tmp_path):
    neutral = {"stop": None, "seed": None, "n": None, "presence_penalty": 0, "logit_bias": {}, "logprobs": None}
    body = {"model": "gpt", "prompt": [5, 7, 11], "user": "u", "stream": False, "x": {"a": 1}, "top_k": -1, **neutral}
    finish(make([
        {"prompt": [5, 7, 11], **neutral}, {"prompt": [5, 7, 11], "id": None},
        {"custom_id": "x", "url": COMPLETIONS, "body": body},
    ]))  # fmt: skip
    found = written(tmp_path)
    assert found[1]["choices"] == found[2]["choices"] and "id" not in found[2]
    assert found[3]["response"]["body"]["choices"][0]["text"] == found[1]["choices"][0]["text"]


def test_messages_need_a_template(make):
    batch = make(template=None, lines=[LINES[2], LINES[0]])
    assert {one.number: one.error is None for one in finish(batch)} == {1: False, 2: True}


def test_few_lines_are_in_memory_at_once(make, tmp_path):
    """A file may be longer than the memory is large: it is read as the answers are written."""
    batch = make([{"prompt": [5, 7, 11], "max_tokens": 2}] * 300, rows=4)
    most = 0
    for _ in batch.run():
        read = next(batch._lines, (301, b""))[0] - 1  # one line is lost to the look
        scheduler = batch.desk.engine.scheduler
        most = max(most, len(scheduler.waiting) + len(scheduler.running), read - batch.progress.n_done)
        if read > 100:
            break
    assert 4 <= most <= 40
    assert len(batch.desk._owners) <= 12


def test_a_name_that_is_not_text_is_written(make, tmp_path):
    line = r'{"prompt": "a", "id": "\ud800 \u00e9", "max_tokens": 1}'
    finish(make([line, '{"prompt": "\\ud800"}', "\ufeff"[:0] + '{"prompt": "é\u2028", "max_tokens": 1}']))
    found = written(tmp_path)
    assert found[1]["id"] == "\ud800 é" and "error" in found[2] and "choices" in found[3]


def test_bytes_that_are_not_text_and_a_mark_at_the_beginning(make, tmp_path):
    make([])
    good = b'{"prompt": [5], "max_tokens": 1}'
    (tmp_path / "in.jsonl").write_bytes(b"\xef\xbb\xbf" + good + b"\r\n\r\n\xff\xfe\n" + good)  # no newline at the end
    ended = {one.number: one.error for one in finish(make())}
    assert ended[1] is None and "not JSON" in ended[3] and ended[4] is None and len(ended) == 3


def test_the_engine_ends_a_text_that_has_no_next_token(make, tmp_path, monkeypatch):
    batch = make([{"prompt": [5], "n": 2, "temperature": 1}, {"prompt": [7]}])
    read = batch.desk.engine._read

    def broken(chunks):
        logits = read(chunks)
        for i, chunk in enumerate(chunks):
            if chunk.sequence.request.prompt == (5,) and chunk.sequence.choice == 1:
                logits[i] = float("nan")
        return logits

    monkeypatch.setattr(batch.desk.engine, "_read", broken)
    ended = {one.number: one.error for one in finish(batch)}
    assert "NaN" in ended[1] and ended[2] is None and batch.desk.engine.pool.n_used == 0
    assert not batch.desk._owners


def test_progress_in_words():
    progress = Progress(n_lines=40, n_before=10, n_errors=0, start=time.monotonic())
    assert progress.summary() == "10 of 40 lines, 0.0 tokens/s"
    progress = Progress(40, 10, 2, n_done=10, n_tokens=500, start=time.monotonic() - 5000)
    assert progress.summary() == "20 of 40 lines, 2 with errors, 0.1 tokens/s, 2:46:40 left"
    assert progress.bar().startswith("[###############...............] 20 of 40")
    assert Progress(0, 0, 0).bar().startswith("[..............................] 0 of 0 lines")


def test_a_line_error_says_whose_it_is(tokenizer):
    reader = Reader(tokenizer, None, [0], 64, Settings(5, Sampling()))
    with pytest.raises(LineError) as caught:
        reader.read(7, b'{"id": "me", "prompt": 3}')
    assert caught.value.id == "me" and caught.value.url is None
    settings = reader.settings
    assert settings.digest(b"a") != settings.digest(b"b") and len(settings.digest(b"a")) == 16


@pytest.mark.parametrize(
    ("fields", "ends", "ends_of_messages"),
    [
        ({}, [0], ENDS), ({"ignore_eos": True}, [], []), ({"stop_token_ids": [7]}, [0, 7], [*ENDS, 7]),
        ({"stop_token_ids": [7], "ignore_eos": True}, [7], [7]), ({"stop_token_ids": None}, [0], ENDS),
    ],
)  # fmt: skip
def test_a_text_ends_where_it_does_in_the_server(fields, ends, ends_of_messages):
    """A prompt at the model's own end, messages also at that of a message, and both where the line says more."""
    lines = {"prompt": "a"} | fields, {"messages": [{"role": "user", "content": "a"}]} | fields
    lines = [json.dumps(line).encode() for line in lines]
    reader = Reader(applications.TOKENIZER, applications.TEMPLATE, [0], 64, Settings(5, Sampling()))
    assert [list(reader.read(1, line).request.stop_tokens) for line in lines] == [ends, ends_of_messages]
    clerk = Clerk(applications.TOKENIZER, applications.TEMPLATE, CONFIG, 64)
    orders = clerk.completion(protocol.read(Completion, lines[0])), clerk.chat(protocol.read(Chat, lines[1]))
    assert [list(order.requests[0].stop_tokens) for order in orders] == [ends, ends_of_messages]
    named = dataclasses.replace(reader, settings=Settings(5, Sampling(), (9,)))
    added = [] if fields.get("ignore_eos") else [9]
    expected = sorted({*added, *(fields.get("stop_token_ids") or [])})
    assert [list(named.read(1, line).request.stop_tokens) for line in lines] == [expected] * 2


@pytest.mark.parametrize("tokens", [7, "7", [True], [1.5], ["7"]])
def test_stop_tokens_that_are_none(tokens):
    reader = Reader(applications.TOKENIZER, None, [0], 64, Settings(5, Sampling()))
    with pytest.raises(LineError, match="stop_token_ids must be a list of token ids"):
        reader.read(1, json.dumps({"prompt": "a", "stop_token_ids": tokens}).encode())
