"""A conversation: what a model reads of it, what it says, and what happens when it is full or interrupted."""

import pytest

import tfguide
from tests.support import FRAMEWORKS, load, random_weights
from tests.text.gguf_files import byte_level
from tfguide.text import ChatTemplate, Conversation, tokenizer_from_metadata

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TOKENIZER = tokenizer_from_metadata(byte_level("smollm"))
CONFIG = tfguide.ModelConfig(
    kind="decoder", d_model=12, n_layers=2, n_heads=2, d_ff=20, vocab_size=TOKENIZER.get_vocab_size(),
    max_positions=509, norm="rms", positions="rotary", activation="swiglu", qkv_bias=False, output_bias=False,
    ffn_bias=False, eos_token_id=0,
)  # fmt: skip


class Watched:
    """A model that counts the tokens that it is given, and may be interrupted at one of its calls."""

    def __init__(self, model, interrupted_at=None):
        self.model, self.config, self.n_read, self.n_calls, self.prompt = model, model.config, 0, 0, []
        self.interrupted_at = interrupted_at

    def new_cache(self, *sizes):
        return self.model.new_cache(*sizes)

    def _count(self, n):
        self.n_read, self.n_calls = self.n_read + n, self.n_calls + 1
        if self.n_calls == self.interrupted_at:
            raise KeyboardInterrupt

    def prefill(self, tokens, cache, chunk_size=None):
        (self.prompt,) = tokens
        self._count(len(self.prompt))
        return self.model.prefill(tokens, cache, chunk_size=chunk_size)

    def decode(self, tokens, cache):
        self._count(1)
        return self.model.decode(tokens, cache)


def conversation(name="torch", watched=None, **more):
    tg = load(name)
    model = tg.from_weights(CONFIG, random_weights(CONFIG))
    settings = dict(max_new_tokens=11, sampling=tfguide.Sampling(temperature=2.0, seed=5))
    return Conversation(
        Watched(model, watched), TOKENIZER, ChatTemplate(TEMPLATE), **{**settings, **more}
    )  # fmt: skip


def ask(talk, text):
    before = talk.model.n_read
    answer = "".join(talk.ask(text))
    return answer, talk.model.n_read - before


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_only_what_is_new_is_read(name):
    talk = conversation(name)
    first = TOKENIZER.encode("<|im_start|>user\nThe dog.<|im_end|>\n<|im_start|>assistant\n").ids
    _, n_read = ask(talk, "The dog.")
    assert (talk.last.n_kept, talk.last.n_read, talk.last.n_new) == (0, len(first), 11)
    assert n_read == len(first) + 10  # the last token of the answer is not read yet
    between = TOKENIZER.encode("<|im_end|>\n<|im_start|>user\n quick<|im_end|>\n<|im_start|>assistant\n").ids
    _, n_read = ask(talk, " quick")
    assert talk.last.n_read == 1 + len(between) and talk.last.n_kept == len(first) + 10
    assert n_read == talk.last.n_read + talk.last.n_new - 1
    assert [turn["role"] for turn in talk.turns] == ["user", "assistant"] * 2


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_the_answers_are_those_without_a_cache(name):
    """A model that reads all tokens of the conversation anew says the same, and so in both frameworks."""
    talk, tg = conversation(name, sampling=None), load(name)
    model, text = talk.model.model, []
    for question in ("The dog.", " quick 😀", "def f(x):"):
        answer, _ = ask(talk, question)
        opening = "<|im_end|>\n" if text and text[-1] not in talk.stop_tokens else "\n" if text else ""
        text += TOKENIZER.encode(f"{opening}<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n").ids
        new = tg.generate(model, [text], 11, list(talk.stop_tokens))[0]
        assert answer == TOKENIZER.decode(text + new)[len(TOKENIZER.decode(text)) :]
        text += new


def test_both_frameworks_say_the_same():
    said = [[ask(talk, text)[0] for text in ("The dog.", " quick")] for talk in map(conversation, FRAMEWORKS)]
    assert said[0] == said[1] and said[0][0] != said[0][1]


def test_the_end_of_a_message_ends_an_answer():
    """The template ends messages with <|im_end|> (2), the configuration names another token (0)."""
    talk = conversation()
    assert talk.stop_tokens == {0, 2}
    assert conversation(stop_tokens=[7]).stop_tokens == {7}
    for seed in range(40):
        talk = conversation(sampling=tfguide.Sampling(temperature=5.0, seed=seed), max_new_tokens=400)
        answer, _ = ask(talk, "The")
        assert talk.last.ended == ("stop" if talk.last.n_new < 400 else "length")
        if talk.last.ended == "stop":
            break
    assert talk.last.ended == "stop" and "<|" not in answer
    n_held = talk.last.n_kept + talk.last.n_read + talk.last.n_new - 1
    ask(talk, "The")
    assert talk.last.n_kept == n_held


def test_a_reset_forgets_the_turns_and_keeps_what_it_can_of_the_cache():
    talk = conversation(system="Be quick.")
    first, _ = ask(talk, "The dog.")
    ask(talk, "And?")
    talk.reset()
    assert talk.messages == [{"role": "system", "content": "Be quick."}] and talk.last is None
    assert ask(talk, "The dog.") == (first, 1 + talk.last.n_new - 1)  # all but the last token is there


def test_the_system_message_may_change():
    talk = conversation()
    ask(talk, "The dog.")
    assert talk.messages[0]["role"] == "user"
    talk.set_system("Be quick.")
    ask(talk, "And?")
    assert talk.messages[0] == {"role": "system", "content": "Be quick."} and len(talk.messages) == 5
    assert talk.last.n_kept == 1  # <|im_start|>


def test_a_full_context_drops_the_oldest_turns():
    talk = conversation(max_length=151, system="Be quick.")
    dropped = []
    for i in range(12):
        ask(talk, f"The dog {i}")
        assert talk.cache.lengths[0] <= 151
        assert talk.messages[0] == {"role": "system", "content": "Be quick."}
        assert talk.turns[-2]["content"] == f"The dog {i}"
        if talk.last.n_dropped:
            n_prompt = talk.last.n_kept + talk.last.n_read
            assert n_prompt <= 151 // 2 and talk.last.n_dropped % 2 == 0
        dropped.append(talk.last.n_dropped)
    assert dropped[0] == 0 and 1 < sum(map(bool, dropped)) < 6  # half of it is free then, for some turns
    assert len(talk.turns) == 24 - sum(dropped)


def test_an_answer_ends_where_the_context_does():
    talk = conversation(max_length=41, max_new_tokens=30, sampling=tfguide.Sampling(temperature=0.5))
    while ask(talk, "The dog. The dog.") and talk.last.ended == "stop":
        pass
    assert talk.last.ended == "context"
    assert talk.last.n_kept + talk.last.n_read + talk.last.n_new == 41


def test_a_message_that_does_not_fit_changes_nothing():
    talk = conversation(max_length=101)
    first, _ = ask(talk, "The dog.")
    before = talk.messages
    with pytest.raises(ValueError, match=r"does not fit into the context of 101 tokens.* has \d+"):
        ask(talk, "The dog. " * 60)
    assert talk.messages == before
    ask(talk, "And?")
    assert talk.turns[1]["content"] == first


def test_a_message_that_the_template_refuses_changes_nothing():
    talk = conversation()
    talk.template = ChatTemplate("{{ raise_exception('no') }}")
    with pytest.raises(ValueError, match="refuses these messages: no"):
        ask(talk, "a")
    assert talk.messages == []


@pytest.mark.parametrize("at", [2, 5])
def test_an_answer_that_is_interrupted_stays_as_far_as_it_came(at):
    whole, _ = ask(conversation(), "The dog.")
    talk, said = conversation(watched=at), []
    with pytest.raises(KeyboardInterrupt):
        for piece in talk.ask("The dog."):
            said.append(piece)
    answer = "".join(said)
    assert whole.startswith(answer) and len(answer) < len(whole)
    assert talk.turns == [{"role": "user", "content": "The dog."}, {"role": "assistant", "content": answer}]
    assert talk.last.ended == "interrupted" and talk.last.n_new == at - 1
    ask(talk, "And?")
    assert talk.last.n_kept > at and talk.last.ended != "interrupted"


def test_a_reader_may_stop_an_answer():
    talk = conversation()
    answer = talk.ask("The dog.")
    first = next(answer)
    answer.close()
    assert talk.turns[-1] == {"role": "assistant", "content": first} and talk.last.ended == "interrupted"


def test_an_interrupt_before_the_first_token_takes_the_message_back():
    talk = conversation(watched=1)
    with pytest.raises(KeyboardInterrupt):
        ask(talk, "The dog.")
    assert talk.messages == []
    assert ask(talk, "The dog.") == ask(conversation(), "The dog.")


def test_a_template_that_changes_an_answer_is_read_anew_from_there():
    talk = conversation()
    talk.template = ChatTemplate(TEMPLATE.replace("m.content", "m.content | upper"))
    answer, _ = ask(talk, "The dog.")
    assert answer != answer.upper()
    n_prompt = talk.last.n_read
    ask(talk, "And?")
    assert n_prompt <= talk.last.n_kept < n_prompt + talk.last.n_new
    expected = TOKENIZER.encode(talk.template.render(talk.messages[:-1])).ids
    assert talk.model.prompt == expected[talk.last.n_kept :]


def test_only_a_decoder_converses():
    encoder = CONFIG.replace(kind="encoder", eos_token_id=None)
    model = load("torch").from_weights(encoder, random_weights(encoder))
    with pytest.raises(ValueError, match="kind 'decoder', got 'encoder'"):
        Conversation(model, TOKENIZER, ChatTemplate(TEMPLATE))
    for wrong in (0, -1, 600):
        with pytest.raises(ValueError, match=r"max_length must be|the cache"):
            conversation(max_length=wrong)
