"""What bodies mean: fields, defaults, prompts, limits, and the errors for what they must not be."""

import json

import pytest

from tests.serving.applications import CONFIG, ENDS, TEMPLATE, TOKENIZER
from tests.text.gguf_files import byte_level
from tfguide.generation.sampling import GREEDY, Sampling
from tfguide.serving import protocol
from tfguide.serving.errors import ApiError
from tfguide.serving.orders import Clerk
from tfguide.serving.replies import Completions, Offsets
from tfguide.serving.request import Likely
from tfguide.text import ChatTemplate, tokenizer_from_metadata
from tfguide.text.spelling import Spelling

CLERK = Clerk(TOKENIZER, TEMPLATE, CONFIG, 509)
MESSAGES = [{"role": "user", "content": "The dog."}]


def completion(clerk=CLERK, **fields):
    body = protocol.read(protocol.Completion, json.dumps({"prompt": "The dog.", **fields}).encode())
    return clerk.completion(body)


def chat(clerk=CLERK, **fields):
    return clerk.chat(protocol.read(protocol.Chat, json.dumps({"messages": MESSAGES, **fields}).encode()))


def error(make, *arguments, **fields):
    with pytest.raises(ApiError) as caught:
        make(*arguments, **fields)
    return caught.value


NULLS = (
    "model", "max_tokens", "max_completion_tokens", "temperature", "top_p", "top_k", "min_p", "repetition_penalty",
    "seed", "n", "stop", "stop_token_ids", "ignore_eos", "stream", "stream_options", "priority", "cache_salt",
    "frequency_penalty", "presence_penalty", "logit_bias", "logprobs",
)  # fmt: skip


@pytest.mark.parametrize(
    ("make", "more"), [(completion, ("echo", "best_of", "suffix")), (chat, ("tools", "top_logprobs"))]
)
def test_null_is_the_default(make, more):
    plain, nulls = make(seed=3), make(**dict.fromkeys((*NULLS, *more)), **{"unknown": {"a": 1}})
    (one,), (other,) = plain.requests, nulls.requests
    assert (plain.stop, plain.logprobs, plain.echoes) == (nulls.stop, nulls.logprobs, nulls.echoes)
    for name in ("prompt", "max_new_tokens", "stop_tokens", "n", "logprobs", "prompt_logprobs", "priority", "salt"):
        assert getattr(one, name) == getattr(other, name)
    assert one.sampling == Sampling(seed=3) and other.sampling.temperature == 1
    inner = protocol.read(
        protocol.Chat, json.dumps({"messages": MESSAGES, "stream_options": {"include_usage": None}}).encode()
    )
    assert inner.stream_options.include_usage is False


def test_the_defaults_of_openai():
    assert completion().requests[0].max_new_tokens == 16
    assert chat().requests[0].max_new_tokens is None  # what fits
    assert completion().requests[0].stop_tokens == (0,) or list(completion().requests[0].stop_tokens) == [0]
    assert list(chat().requests[0].stop_tokens) == ENDS
    seeds = {make().requests[0].sampling.seed for make in (completion, chat) for _ in range(8)}
    assert len(seeds) == 16  # each request draws its own
    assert completion(seed=-1).requests[0].sampling.seed == 2**64 - 1


def test_a_short_rest_shortens_a_budget_that_nobody_asked_for():
    clerk = Clerk(TOKENIZER, TEMPLATE, CONFIG, 20)
    assert completion(clerk, prompt=[5] * 15).requests[0].max_new_tokens == 6
    asked = completion(clerk, prompt=[5] * 15, max_tokens=9)  # is refused by the engine, with the prompt's length
    assert asked.requests[0].max_new_tokens == 9


@pytest.mark.parametrize("make", [completion, chat], ids=["completion", "chat"])
def test_both_names_of_the_budget(make):
    assert make(max_tokens=7).requests[0].max_new_tokens == 7
    assert make(max_completion_tokens=5).requests[0].max_new_tokens == 5
    assert make(max_tokens=7, max_completion_tokens=5).requests[0].max_new_tokens == 5


def test_sampling_says_nothing_that_changes_nothing():
    assert completion(temperature=0, top_p=0.3, seed=4).requests[0].sampling is GREEDY
    assert completion(seed=1, top_p=1, top_k=-1, min_p=0, repetition_penalty=1).requests[0].sampling == Sampling(seed=1)
    wanted = Sampling(temperature=0.5, top_p=0.9, top_k=7, min_p=0.1, repetition_penalty=1.2, seed=11)
    given = dict(temperature=0.5, top_p=0.9, top_k=7, min_p=0.1, repetition_penalty=1.2, seed=11)
    assert completion(**given).requests[0].sampling == chat(**given).requests[0].sampling == wanted


def test_stops():
    assert completion(stop="END").stop == ["END"] and chat(stop=["a", "😀"]).stop == ["a", "😀"]
    assert completion(stop=[]).stop == []
    assert list(chat(stop_token_ids=[7]).requests[0].stop_tokens) == [0, 2, 7]
    assert list(chat(stop_token_ids=[7], ignore_eos=True).requests[0].stop_tokens) == [7]
    assert not chat(ignore_eos=True).requests[0].stop_tokens


@pytest.mark.parametrize(
    ("prompt", "tokens"),
    [
        ("The dog.", [TOKENIZER.encode("The dog.").ids]),
        (["The", " quick"], [TOKENIZER.encode("The").ids, TOKENIZER.encode(" quick").ids]),
        ([5, 6, 7], [[5, 6, 7]]),
        ([[5], [6, 7]], [[5], [6, 7]]),
        (["The", [6, 7]], [TOKENIZER.encode("The").ids, [6, 7]]),
    ],
)
def test_the_four_forms_of_a_prompt(prompt, tokens):
    order = completion(prompt=prompt, n=2, echo=True)
    assert [list(request.prompt) for request in order.requests] == tokens
    assert order.echoes == [TOKENIZER.decode(some) for some in tokens]


def test_echo_and_log_probabilities():
    order = completion(echo=True, logprobs=0, max_tokens=0)
    (request,) = order.requests
    assert (request.max_new_tokens, request.logprobs, request.prompt_logprobs) == (1, 0, 0)
    assert order.only_echo and order.logprobs
    assert completion(logprobs=3).requests[0].prompt_logprobs is None
    assert chat(logprobs=True).requests[0].logprobs == 0
    assert chat(logprobs=True, top_logprobs=4).requests[0].logprobs == 4
    assert not chat(logprobs=False).logprobs and chat(logprobs=False).requests[0].logprobs is None


def test_parts_of_a_message_are_its_text():
    parts = [{"type": "text", "text": "The"}, {"type": "text", "text": "dog."}]
    one = chat(messages=[{"role": "user", "content": parts, "name": "x"}])
    assert one.requests[0].prompt == chat(messages=[{"role": "user", "content": "The\ndog."}]).requests[0].prompt
    named = chat(messages=[{"role": "developer", "content": "The"}])
    assert named.requests[0].prompt == chat(messages=[{"role": "system", "content": "The"}]).requests[0].prompt
    silent = chat(messages=[*MESSAGES, {"role": "assistant", "content": None, "tool_calls": []}, *MESSAGES])
    assert "assistant\n<|im_end|>" in TOKENIZER.decode(list(silent.requests[0].prompt), skip_special_tokens=False)


def test_template_and_tokenizer_do_not_both_add_the_first_token():
    begins = tokenizer_from_metadata(byte_level("smollm", **{"tokenizer.ggml.add_bos_token": True}))
    assert begins.encode("The").ids[0] == 0
    clerk = Clerk(
        begins, ChatTemplate("{{ bos_token }}{{ messages[0].content }}", {"bos_token": "<|endoftext|>"}), CONFIG, 99
    )
    assert chat(clerk).requests[0].prompt.count(0) == 1 and chat(clerk).requests[0].prompt[0] == 0
    assert clerk.encode("The")[0] == 0 and clerk.encode("The", add_special_tokens=False)[0] != 0


WRONG = [
    (completion, {"prompt": None}, "prompt"), (completion, {"prompt": 5}, "prompt"),
    (completion, {"prompt": []}, "prompt"),
    (completion, {"prompt": [True]}, "prompt"), (completion, {"prompt": ["a", 5]}, "prompt"),
    (completion, {"prompt": [[["a"]]]}, "prompt"), (completion, {"temperature": "warm"}, "temperature"),
    (completion, {"temperature": -1}, "temperature"), (completion, {"temperature": "0.5"}, "temperature"),
    (completion, {"top_p": 0}, "top_p"), (completion, {"top_k": 1.5}, "top_k"), (completion, {"min_p": 2}, "min_p"),
    (completion, {"repetition_penalty": 0}, "repetition_penalty"), (completion, {"max_tokens": -7584}, "max_tokens"),
    (completion, {"max_tokens": 0}, "max_tokens"), (completion, {"max_tokens": True}, "max_tokens"),
    (completion, {"max_tokens": 10**30}, "max_tokens"), (completion, {"n": 0}, "n"), (completion, {"n": 129}, "n"),
    (completion, {"logprobs": True}, "logprobs"), (completion, {"logprobs": 21}, "logprobs"),
    (completion, {"stop": ""}, "stop"), (completion, {"stop": [5]}, "stop"), (completion, {"stop": ["a"] * 17}, "stop"),
    (completion, {"stream": "yes"}, "stream"), (completion, {"seed": 1.5}, "seed"),
    (completion, {"seed": 2**64}, "seed"),
    (chat, {"messages": []}, "messages"), (chat, {"messages": "Hi"}, "messages"),
    (chat, {"messages": [{"content": "a"}]}, "messages"),
    (chat, {"messages": [{"role": "user", "content": 7}]}, "messages"),
    (chat, {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}, "messages"),
    (chat, {"logprobs": 3}, "logprobs"), (chat, {"top_logprobs": 3}, None), (chat, {"max_tokens": 0}, "max_tokens"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("make", "fields", "param"), WRONG, ids=lambda value: getattr(value, "__name__", str(value)[:40])
)
def test_another_form_is_422_and_names_the_field(make, fields, param):
    found = error(make, **fields)
    assert (found.status, found.param) == (422, param)
    assert found.body == {"error": {
        "message": found.message, "type": "invalid_request_error", "param": param, "code": found.code,
    }}  # fmt: skip


@pytest.mark.parametrize(
    ("make", "fields", "param"),
    [
        (completion, {"frequency_penalty": 0.5}, "frequency_penalty"),
        (chat, {"presence_penalty": 1}, "presence_penalty"),
        (chat, {"logit_bias": {"5": 100}}, "logit_bias"), (completion, {"best_of": 3}, "best_of"),
        (completion, {"suffix": "."}, "suffix"), (chat, {"tools": [{}]}, "tools"),
        (chat, {"response_format": {"type": "json_object"}}, "response_format"), (completion, {"prompt": ""}, "prompt"),
        (completion, {"prompt": [2**70]}, "prompt"),
        (chat, {"chat_template_kwargs": {"messages": 1}}, "chat_template_kwargs"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_400(make, fields, param):
    found = error(make, **fields)
    assert (found.status, found.param) == (400, param)
    assert chat(response_format={"type": "text"}, frequency_penalty=0, logit_bias={}, tools=[])
    assert completion(best_of=2, n=2).requests[0].n == 2


def test_a_template_may_refuse_and_read_more():
    refuses = Clerk(TOKENIZER, ChatTemplate("{{ raise_exception('no ' + messages[0].role) }}"), CONFIG, 99)
    found = error(chat, refuses)
    assert (found.status, found.param) == (400, "messages") and "no user" in found.message
    assert error(chat, Clerk(TOKENIZER, None, CONFIG, 99)).status == 400
    thinks = Clerk(TOKENIZER, ChatTemplate("{{ 'think ' if think else 'do ' }}{{ messages[0].content }}"), CONFIG, 99)
    texts = [
        TOKENIZER.decode(list(chat(thinks, chat_template_kwargs={"think": on}).requests[0].prompt))
        for on in (True, False)
    ]
    assert texts == ["think The dog.", "do The dog."]


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[1", b'{"prompt": "\xff"}', b'{"prompt": "\\ud800"}', b"{'prompt': 'a'}"]
)
def test_what_is_no_json_is_400(data):
    assert error(protocol.read, protocol.Completion, data).status == 400


@pytest.mark.parametrize("data", [b"[]", b"7", b'"text"', b"null", b"{}", b"[" * 5000])
def test_json_that_is_no_such_object_is_4xx(data):
    assert error(protocol.read, protocol.Completion, data).status in (400, 422)


def test_the_spelling_of_tokens():
    spelling = Spelling(TOKENIZER)
    text = "The 😀世界 dog."
    tokens = TOKENIZER.encode(text).ids
    assert b"".join(spelling(token)[1] for token in tokens) == text.encode()
    partial = TOKENIZER.encode("🙂").ids
    assert len(partial) > 1 and b"".join(spelling(token)[1] for token in partial) == "🙂".encode()
    assert spelling(2) == ("<|im_end|>", b"<|im_end|>") and spelling.is_special(2)
    likely = Likely(-1.0, 1, ((partial[0], float("-inf")),))
    shown = Completions.logprobs(
        spelling, [(0, None), *((token, likely) for token in [*partial, tokens[0]])], Offsets(spelling)
    )
    assert shown["tokens"][1].startswith("bytes:\\xf0") and shown["tokens"][0] == "<|endoftext|>"
    assert shown["text_offset"] == [
        0,
        *[0] * len(partial),
        1,
    ]  # a special token has no text, a part of a character neither
    assert shown["token_logprobs"][0] is None and min(shown["top_logprobs"][1].values()) == -9999.0
