"""Sampling, streams, chunks, beams and speculation with real models, in both frameworks."""

import itertools

import numpy as np
import pytest

import tfguide
import tfguide.reference as ref
from tests.support import FRAMEWORKS, load, numpy, random_weights, small_config, tensor

PROMPTS = [[5, 3, 2, 11, 7, 3, 2], [13], [17, 19, 23, 17, 19]]


def make(name, scale=50, seed=0, **changes):
    config = small_config(**{"tied_head": False, "positions": "rotary", **changes})
    weights = random_weights(config, seed)
    weights["embedding.token.weight"] *= scale
    return load(name).from_weights(config, weights), ref.from_weights(config, weights)


@pytest.mark.parametrize("kind", ["decoder", "encoder-decoder"])
def test_both_frameworks_draw_the_same_tokens(kind):
    sampling = tfguide.Sampling(temperature=1.3, top_k=20, top_p=0.95, repetition_penalty=1.1, seed=5)
    rows = [load(name).generate(make(name, kind=kind)[0], PROMPTS, 12, [], sampling) for name in FRAMEWORKS]
    assert rows[0] == rows[1]
    other = tfguide.Sampling(temperature=1.3, seed=6)
    assert load("torch").generate(make("torch", kind=kind)[0], PROMPTS, 12, [], other) != rows[0]


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_stream_is_what_generate_returns(name):
    module = load(name)
    model, _ = make(name)
    for sampling in (None, tfguide.Sampling(seed=1)):
        row = module.generate(model, PROMPTS[:1], 8, [], sampling)[0]
        assert list(module.stream(model, PROMPTS[0], 8, [], sampling)) == row
        stop = row[3]
        stopped = list(module.stream(model, PROMPTS[0], 8, [stop], sampling))
        assert stopped == row[: row.index(stop) + 1]
    with pytest.raises(ValueError, match="prompt 0 is empty"):
        next(module.stream(model, [], 3))


@pytest.mark.parametrize("chunk_size", [1, 2, 3, 7, 50])
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_prompt_may_be_read_in_chunks_of_any_size(name, chunk_size):
    module = load(name)
    model, _ = make(name)
    tokens, lengths = np.zeros((3, 7), np.int64), [7, 1, 5]
    for row, prompt in zip(tokens, PROMPTS, strict=True):
        row[: len(prompt)] = prompt
    whole, chunked = module.KVCache(model.config, 3, 9), module.KVCache(model.config, 3, 9)
    want = numpy(model.prefill(tensor(name, tokens), whole, lengths))
    got = numpy(model.prefill(tensor(name, tokens), chunked, lengths, chunk_size=chunk_size))
    np.testing.assert_allclose(got, want, atol=1e-5)
    assert numpy(chunked.lengths).tolist() == lengths
    assert module.generate(model, PROMPTS, 6, chunk_size=chunk_size) == module.generate(model, PROMPTS, 6)


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_cache_of_the_callers_own(name):
    module = load(name)
    model, _ = make(name)
    want = module.generate(model, PROMPTS, 6)
    for cache in (module.KVCache(model.config, 3, 12), module.SlidingCache(model.config, 3, 20)):
        assert module.generate(model, PROMPTS, 6, cache=cache) == want
        with pytest.raises(ValueError, match="must be empty"):
            module.generate(model, PROMPTS, 6, cache=cache)
    for cache, message in [
        (module.KVCache(model.config, 3, 11), "room for 11 positions, the generation needs 12"),
        (module.KVCache(model.config, 2, 20), "has 2 rows, got 3 prompts"),
        (module.KVCache(model.config.replace(d_ff=7), 3, 20), "another configuration"),
    ]:
        with pytest.raises(ValueError, match=message):
            module.generate(model, PROMPTS, 6, cache=cache)
    with pytest.raises(TypeError, match=r"tfguide\.Sampling"):
        module.generate(model, PROMPTS, 6, sampling=0.7)


def all_scores(reference, prompt, n, stops, penalty, source=False):
    """Every continuation of up to n tokens that ends, with its score."""
    V = reference.config.vocab_size
    found = {}
    open_ends = [((), 0.0)]
    for step in range(n):
        grown = []
        for tokens, score in open_ends:
            text = np.array([list(prompt) + list(tokens)])
            logits = reference(text)[0, -1]
            log_p = logits - logits.max() - np.log(np.exp(logits - logits.max()).sum())
            for token in range(V):
                ended = token in stops or step == n - 1
                target = found if ended else None
                if ended:
                    target[*tokens, token] = (score + log_p[token]) / (step + 1) ** penalty
                else:
                    grown.append(((*tokens, token), score + log_p[token]))
        open_ends = grown
    return found


@pytest.mark.parametrize("penalty", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_enough_beams_find_the_best_of_all(name, penalty):
    module = load(name)
    model, reference = make(name, scale=5, vocab_size=5, decoder_start_token_id=0)
    scores = all_scores(reference, [1, 2], 3, {3}, penalty)
    best = sorted(scores.items(), key=lambda item: -item[1])[:4]
    beams = module.beam_search(model, [[1, 2]], 125, 3, [3], penalty, n_best=4)[0]
    assert [beam.tokens for beam in beams] == [tokens for tokens, _ in best]
    np.testing.assert_allclose([beam.score for beam in beams], [score for _, score in best], atol=1e-5)


@pytest.mark.parametrize("kind", ["decoder", "encoder-decoder"])
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_one_beam_is_greedy_and_more_are_no_worse(name, kind):
    module = load(name)
    model, _ = make(name, kind=kind)
    greedy = module.generate(model, PROMPTS, 6, [])
    one = module.beam_search(model, PROMPTS, 1, 6, [])
    assert [list(beams[0].tokens) for beams in one] == greedy
    for stop in {row[2] for row in greedy}:  # a sum falls behind its end, so that the search is over there
        ended = module.beam_search(model, PROMPTS, 1, 6, [stop], length_penalty=0.0)
        assert [list(beams[0].tokens) for beams in ended] == module.generate(model, PROMPTS, 6, [stop])
    for few, many in zip(one, module.beam_search(model, PROMPTS, 8, 6, []), strict=True):
        assert many[0].score >= few[0].score - 1e-6


def test_beams_are_those_of_transformers(tmp_path):
    import torch
    import transformers

    config = small_config(
        norm="rms", positions="rotary", activation="swiglu", qkv_bias=False, output_bias=False, ffn_bias=False,
        tied_head=False, n_kv_heads=2, d_model=20, d_head=10, n_heads=2, n_layers=2, decoder_start_token_id=None,
    )  # fmt: skip
    weights = random_weights(config)
    weights["embedding.token.weight"] *= 30
    module = load("torch")
    model = module.from_weights(config, weights)
    module.save_checkpoint(model, tmp_path / "m")
    peer = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "m").eval()
    likely = module.generate(model, PROMPTS[:1], 7, [])[0]  # as stop tokens they end texts early
    for penalty, stop in itertools.product((0.0, 1.0), (7, 20, *likely[1:5:3])):
        theirs = peer.generate(
            torch.tensor([PROMPTS[0]]), attention_mask=torch.ones(1, 7), num_beams=4, max_new_tokens=7, do_sample=False,
            length_penalty=penalty, early_stopping="never", eos_token_id=stop, pad_token_id=0,
        )[0, 7:].tolist()  # fmt: skip
        ours = module.beam_search(model, PROMPTS[:1], 4, 7, [stop], penalty)[0][0].tokens
        assert list(ours) == theirs


@pytest.mark.parametrize("draft_length", [1, 3, 8])
@pytest.mark.parametrize("drafting", ["model", "itself", "lookup"])
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_speculation_changes_no_greedy_token(name, drafting, draft_length):
    module = load(name)
    model, _ = make(name)
    draft = {
        "model": lambda: make(name, seed=1, n_layers=1)[0],
        "itself": lambda: model,
        "lookup": lambda: tfguide.PromptLookup(2),
    }
    result = module.speculative_generate(model, draft[drafting](), PROMPTS, 13, draft_length, [])
    assert result.tokens == module.generate(model, PROMPTS, 13, [])
    assert result.target_calls <= 39 and result.accepted <= result.drafted
    if drafting == "itself":
        assert result.acceptance == 1.0
        assert result.target_calls == 3 * -(-13 // (draft_length + 1))
    stop = result.tokens[0][4]
    stopped = module.speculative_generate(model, draft[drafting](), PROMPTS, 13, draft_length, [stop])
    assert stopped.tokens == module.generate(model, PROMPTS, 13, [stop])


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_speculation_draws_as_the_model_draws(name):
    """The frequencies of the second token, over many seeds, against the exact ones."""
    module = load(name)
    model, reference = make(name, scale=5, vocab_size=4, decoder_start_token_id=0, n_layers=1)
    draft, _ = make(name, scale=5, vocab_size=4, decoder_start_token_id=0, n_layers=1, seed=3)
    softmax = lambda x: np.exp(x - x.max()) / np.exp(x - x.max()).sum()  # noqa: E731
    first = softmax(reference(np.array([[1, 2]]))[0, -1])
    second = sum(first[t] * softmax(reference(np.array([[1, 2, t]]))[0, -1]) for t in range(4))
    n = 300 if name == "torch" else 80
    counts = np.zeros((2, 4))
    for seed in range(n):
        row = module.speculative_generate(model, draft, [[1, 2]], 2, 2, [], tfguide.Sampling(seed=seed)).tokens[0]
        counts[0, row[0]] += 1
        counts[1, row[1]] += 1
    for got, want in zip(counts, (first, second), strict=True):
        assert ((got - n * want) ** 2 / (n * want)).sum() < 16.3  # 3 degrees of freedom, one in a thousand


@pytest.mark.slow
@pytest.mark.parametrize("drafting", ["model", "lookup"])
@pytest.mark.parametrize("sampling", [None, tfguide.Sampling(temperature=0.0, repetition_penalty=1.3)], ids=str)
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_speculation_reaches_the_last_position_that_generate_reaches(name, drafting, sampling):
    """Text of max_positions + 1 tokens, of which the last is never read; a draft may have two positions less."""
    module = load(name)
    model, _ = make(name, max_positions=16, positions="learned")
    short = make(name, seed=1, n_layers=1, max_positions=15, positions="learned")[0]
    draft = short if drafting == "model" else tfguide.PromptLookup(2)
    for prompt_length in (1, 5, 15, 16):
        prompts, new = [list(range(1, 1 + prompt_length))], 17 - prompt_length
        result = module.speculative_generate(model, draft, prompts, new, 3, [], sampling)
        assert result.tokens == module.generate(model, prompts, new, [], sampling)
        assert len(result.tokens[0]) == new
        with pytest.raises(ValueError, match="at most max_positions=16 positions, got 17"):
            module.speculative_generate(model, draft, prompts, new + 1, 3, [])
    if drafting == "model":
        tiny = make(name, seed=1, n_layers=1, max_positions=9, positions="learned")[0]
        with pytest.raises(ValueError, match=r"the draft has max_positions=9 positions, .* need 14 of it"):
            module.speculative_generate(model, tiny, [[1, 2, 3], [4]], 13, 3, [])


@pytest.mark.parametrize("drafting", ["itself", "smaller", "lookup"])
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_an_encoder_decoder_speculates_on_its_target(name, drafting):
    module, kind = load(name), "encoder-decoder"
    model = make(name, kind=kind)[0]
    draft = {"itself": model, "lookup": tfguide.PromptLookup()}.get(drafting)
    draft = draft or make(name, kind=kind, seed=1, n_layers=1, n_encoder_layers=1)[0]
    for sampling in (None, tfguide.Sampling(temperature=0, repetition_penalty=1.3)):
        result = module.speculative_generate(model, draft, PROMPTS, 12, 3, [], sampling)
        assert result.tokens == module.generate(model, PROMPTS, 12, [], sampling)
        assert result.rounds[0] == (0, 0)  # the source is read before any guess
    if drafting == "itself":
        assert result.acceptance == 1 and result.target_calls == 3 * 4  # 1 + 4 + 4 + 3 tokens for each of the prompts
    drawn = module.speculative_generate(model, draft, PROMPTS, 6, 3, [], tfguide.Sampling(seed=3))
    assert [len(row) for row in drawn.tokens] == [6, 6, 6]


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_models_that_cannot_speculate_are_refused(name):
    module = load(name)
    model, _ = make(name)
    with pytest.raises(ValueError, match="one vocabulary, got 37 tokens and 41"):
        module.speculative_generate(model, make(name, vocab_size=41)[0], PROMPTS)
    with pytest.raises(
        ValueError, match="draft of kind 'encoder-decoder' as the model is, got a draft of kind 'decoder'"
    ):
        module.speculative_generate(make(name, kind="encoder-decoder")[0], model, PROMPTS)
    with pytest.raises(ValueError, match="a model that generates, got a model of kind 'encoder'"):
        module.speculative_generate(make(name, kind="encoder")[0], tfguide.PromptLookup(), PROMPTS)
    with pytest.raises(ValueError, match="draft_length must be at least 1, got 0"):
        module.speculative_generate(model, model, PROMPTS, draft_length=0)
    with pytest.raises(ValueError, match="n_best must be at most n_beams=2, got 3"):
        module.beam_search(model, PROMPTS, 2, n_best=3)
    with pytest.raises(ValueError, match="length_penalty"):
        module.beam_search(model, PROMPTS, 2, length_penalty=float("nan"))
