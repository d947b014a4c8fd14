"""Chat templates: the text of transformers, from a folder or a GGUF file, and nothing that leaves the sandbox."""

import json

import pytest

from tests.text.gguf_files import byte_level, write
from tfguide.text import ChatTemplate, read_template, tokenizer_from_metadata

CHATML = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nBe "
    "helpful<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + "
    "'\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
MISTRAL = """{{ bos_token }}{% for message in messages %}
    {% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}
    {% endif %}
    {% if message['role'] == 'user' %}
        {{- '[INST] ' + message['content'] + ' [/INST]' }}
    {% else %}
        {{- message['content'] + eos_token}}
    {% endif %}
{% endfor %}"""
TOOLS = """{%- set ns = namespace(n=0, last=messages|length - 1) %}
{%- for message in messages %}
    {%- if message.role == 'system' %}{%- continue %}{%- endif %}
    {%- set ns.n = ns.n + 1 %}
    {%- generation %}<{{ message.role }} {{ ns.n }}>{{ message.content | trim }}{%- endgeneration %}
    {%- if loop.index0 == 3 %}{%- break %}{%- endif %}
{%- endfor %}
{{- messages | tojson(indent=1) }}{{ 'tools' if tools is not none else 'none' }}{{ strftime_now('%Y') | length }}
{%- if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}
"""
CONVERSATIONS = [
    [{"role": "user", "content": "Hi <b>&amp; 'you' ä 你"}],
    [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": " Ho \n"}, {"role": "user", "content": "Ha"}],
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
]


@pytest.fixture
def theirs():
    """A tokenizer of transformers with special tokens."""
    transformers = pytest.importorskip("transformers")
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer_from_metadata(byte_level("gpt-2")), bos_token="<|endoftext|>", eos_token="<|im_end|>"
    )


@pytest.mark.parametrize("add", [True, False])
@pytest.mark.parametrize("source", [CHATML, MISTRAL, TOOLS], ids=["chatml", "mistral", "tools"])
def test_the_text_is_that_of_transformers(theirs, source, add):
    ours = ChatTemplate(source, {"bos_token": "<|endoftext|>", "eos_token": "<|im_end|>"})
    for messages in CONVERSATIONS:
        for more in ({}, {"enable_thinking": False}):
            asked = dict(chat_template=source, tokenize=False, add_generation_prompt=add, **more)
            try:
                expected = theirs.apply_chat_template(messages, **asked)
            except Exception as refused:
                assert source is MISTRAL and messages[0]["role"] == "system"
                with pytest.raises(ValueError, match=f"refuses these messages: {refused}"):
                    ours.render(messages, add, **more)
            else:
                assert ours.render(messages, add, **more) == expected


def test_the_messages_stay_as_they_are():
    messages = [{"role": "user", "content": "a"}]
    with pytest.raises(ValueError, match="refuses"):
        ChatTemplate("{{ messages.append(1) }}").render(messages)
    assert messages == [{"role": "user", "content": "a"}]


@pytest.mark.parametrize(
    "source",
    ["{{ ''.__class__.__mro__ }}", "{{ messages.__class__.__base__() }}", "{{ raise_exception.__globals__.os }}"],
)  # fmt: skip
def test_a_template_stays_in_its_sandbox(source):
    with pytest.raises(ValueError, match="refuses these messages: access to attribute '__"):
        ChatTemplate(source).render([])


@pytest.mark.parametrize("source", ["{% for %}", "{{ a | no_such_filter }}", "{% generation %}"])
def test_what_is_no_template_is_refused(source):
    with pytest.raises(ValueError, match="the chat template is not valid"):
        ChatTemplate(source)


def test_from_a_gguf_file(tmp_path):
    file = write(tmp_path / "v.gguf", byte_level("gpt-2", **{"tokenizer.chat_template": MISTRAL}))
    for source in (file, tmp_path):
        template = read_template(source)
        assert template.source == MISTRAL
        assert template.tokens == {"bos_token": "<|endoftext|>", "eos_token": "<|im_end|>"}
        assert template.render(CONVERSATIONS[0]).startswith("<|endoftext|>[INST] Hi")


def test_from_a_folder(tmp_path):
    config = {
        "bos_token": "<s>", "eos_token": {"content": "</s>", "special": True}, "pad_token": None, "add_bos_token": True,
        "chat_template": "{{ bos_token }}a",
    }  # fmt: skip
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    assert read_template(tmp_path).tokens == {"bos_token": "<s>", "eos_token": "</s>"}
    assert read_template(tmp_path).render([]) == "<s>a"
    several = [{"name": "tool_use", "template": "b"}, {"name": "default", "template": "{{ eos_token }}c"}]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config | {"chat_template": several}))
    assert read_template(tmp_path).render([]) == "</s>c"
    (tmp_path / "chat_template.jinja").write_text("{{ eos_token }}d")
    assert read_template(tmp_path).render([]) == "</s>d"
    (tmp_path / "tokenizer_config.json").unlink()
    assert read_template(tmp_path).render([]) == "d"


@pytest.mark.parametrize(
    ("text", "message"),
    [("{}", "there is no chat template"), ("[]", "expected an object"), ("{", "not JSON"), (None, "no tokenizer_con")],
)  # fmt: skip
def test_no_template_is_said(tmp_path, text, message):
    if text is not None:
        (tmp_path / "tokenizer_config.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_template(tmp_path)


def test_a_gguf_file_without_one_is_named(tmp_path):
    write(tmp_path / "v.gguf", byte_level("gpt-2"))
    with pytest.raises(ValueError, match=r"v\.gguf: tokenizer\.chat_template: there is no chat template"):
        read_template(tmp_path)
