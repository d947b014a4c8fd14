"""A model that several processes compute is the model that one computes."""

import pytest

from tests.parallel.shared import FORMATS, PROMPTS, TOKENS, WIDE
from tests.sharding.test_cuts import CONFIGS
from tests.support import refuses
from tfguide.sharding.counts import model_communication
from tfguide.sharding.cuts import elements_of

SIZES = (2, 4)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("name", CONFIGS)
def test_every_family_gives_the_logits_and_the_tokens_of_one_process(found, name, n):
    own = found("families", n)[name]
    assert own["difference"] < 1e-5
    assert CONFIGS[name].kind == "encoder" or (own["greedy"] and own["drawn"])


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("name", [name for name in CONFIGS if name != "relative"])
def test_what_is_sent_is_the_closed_form(found, name, n):
    config, sent = CONFIGS[name], found("families", n)[name]["sent"]
    expected = model_communication(config, TOKENS.size, TOKENS.size, n)
    assert expected and {step: sent[step] for step in expected} == pytest.approx(expected, rel=1e-12)
    by_router = {"tokens to experts", "which expert", "outputs to tokens"} if config.experts else set()
    assert sent.keys() == expected.keys() | by_router


def test_an_encoder_decoder_has_no_closed_form():
    with refuses(ValueError, "config.kind must be one of 'decoder', 'encoder', got 'encoder-decoder'"):
        model_communication(CONFIGS["relative"], 1, 1, 2)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("name", CONFIGS)
def test_a_process_holds_its_share_and_what_is_repeated(found, name, n):
    assert found("families", n)[name]["held"] == elements_of(CONFIGS[name], n, 0)


@pytest.mark.parametrize("name", FORMATS)
def test_every_kind_of_file_gives_the_model_of_one_process(found, name):
    """8-bit activations round what differs by a rounding; sums of bfloat16 numbers are rounded in each process."""
    own = found("files", 2)[name]
    assert own["difference"] < {"bfloat16": 0.05, "int4 with 8-bit activations": 0.05}.get(name, 1e-5)
    assert own["greedy"] and own["drawn"]


def test_messages_in_place_of_shared_memory_send_as_much_and_give_the_same(found):
    own, other = found("files", 2)["by messages"], found("files", 2)["folder"]
    assert own["difference"] < 1e-5 and own["greedy"] and own["drawn"] and own["sent"] == other["sent"]


@pytest.mark.parametrize("n_prompts", [1, 3])
def test_sequences_divided_among_processes_give_the_tokens_of_one(found, n_prompts):
    assert found("files", 2)[f"{n_prompts} by sequences"]


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "int4"])
def test_every_cache_gives_the_tokens_of_one_process(found, dtype):
    assert found("files", 2)[f"cache of {dtype}"]["greedy"]


@pytest.mark.parametrize("n", [2, 3])
def test_an_engine_of_several_processes_gives_the_tokens_of_one(found, n):
    own = found("served", n)
    assert own["tokens"] and own["preempted"] > 0


def test_the_models_of_the_checks_are_what_they_claim():
    assert WIDE.n_kv_heads % 2 and len({len(prompt) for prompt in PROMPTS}) == 3
