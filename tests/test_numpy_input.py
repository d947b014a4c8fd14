"""NumPy's integers are accepted as numbers, and its arrays in any memory layout."""

import json
import warnings

import numpy as np
import pytest

import tfguide
from tests.support import FRAMEWORKS, batch, load, numpy, random_weights, small_config, tensor
from tfguide.compress import Quantization
from tfguide.generation import PromptLookup

NARROW = (np.int64, np.int32, np.uint64, np.uint8, np.int8)
TOKENS = np.random.default_rng(0).integers(0, 37, (3, 7))
LENGTHS = np.array([7, 3, 5])


def layouts(array):
    """An array in other layouts, by name, and lists of its rows."""
    yield "columns backwards", np.ascontiguousarray(array[..., ::-1])[..., ::-1]
    yield "rows backwards", np.ascontiguousarray(array[::-1])[::-1]
    yield "Fortran", np.asfortranarray(array)
    yield "every other", np.repeat(array, 2, axis=-1)[..., ::2]
    yield "broadcast", np.broadcast_to(array, (1, *array.shape))[0]
    yield "masked", np.ma.array(array)
    yield "a list", array.tolist()
    if array.ndim > 1:
        yield "a list of arrays", list(array)
    locked = array.copy()
    locked.flags.writeable = False
    yield "read-only", locked
    if array.dtype.kind == "i":
        yield "big-endian", array.astype(">i4")
        for dtype in ("int8", "int16", "int32", "uint8", "uint16", "uint32", "uint64"):
            yield dtype, array.astype(dtype)


class Quiet:
    """No warning is given, not even one that is given once in a process."""

    @pytest.fixture(autouse=True)
    def quiet(self):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            yield


@pytest.mark.parametrize("name", FRAMEWORKS)
class TestArrays(Quiet):
    def check(self, call, *arrays):
        """The same result whatever the layout of each array."""
        expected = numpy(call(*arrays))
        for i, array in enumerate(arrays):
            for how, other in layouts(array):
                received = numpy(call(*arrays[:i], other, *arrays[i + 1 :]))
                np.testing.assert_allclose(received, expected, rtol=1e-6, atol=1e-6, err_msg=f"argument {i}, {how}")

    def model(self, name, kind, **changes):
        config = small_config(kind, positions="learned", **changes)
        return load(name).from_weights(config, random_weights(config))

    def test_a_decoder(self, name):
        model = self.model(name, "decoder", n_token_types=2)
        _, masks = batch(model.config)
        self.check(lambda *a: model(*a), TOKENS, masks["valid"], TOKENS % 2)

    def test_an_encoder(self, name):
        model = self.model(name, "encoder", n_token_types=2)
        _, masks = batch(model.config)
        self.check(lambda *a: model(*a), TOKENS, masks["valid"], TOKENS % 2)
        self.check(lambda *a: load(name).sentence_embeddings(model, *a), TOKENS, masks["valid"], TOKENS % 2)
        self.check(lambda valid: load(name).padding_mask(valid), masks["valid"])

    def test_an_encoder_decoder(self, name):
        model = self.model(name, "encoder-decoder")
        _, masks = batch(model.config, target=7)
        self.check(lambda *a: model(*a), TOKENS, TOKENS, masks["source_valid"], masks["target_valid"])

    @pytest.mark.slow
    @pytest.mark.parametrize("fast", [False, True])
    def test_prompts_and_steps(self, name, fast):
        tg, model = load(name), self.model(name, "decoder")
        model = tg.accelerate(model) if fast else model

        def prefill(tokens, lengths, step, rows, kept):
            cache = model.new_cache(3, 9) if fast else tg.KVCache(model.config, 3, 9)
            first = model.prefill(tokens, cache, lengths)
            cache.reorder(rows)
            second = model.decode(step, cache)
            cache.rewind(kept)
            return np.concatenate([numpy(first), numpy(second), numpy(model.decode(step, cache))])

        self.check(prefill, TOKENS, LENGTHS, TOKENS[:, 0], np.array([2, 0, 1]), np.array([4, 2, 1]))

    @pytest.mark.slow
    def test_generation(self, name):
        tg, model, prompts = load(name), self.model(name, "decoder"), TOKENS[:2, :4]
        self.check(lambda prompts: np.array(tg.generate(model, prompts, 2)), prompts)
        self.check(lambda prompt: np.array(list(tg.stream(model, prompt, 2))), prompts[0])
        self.check(lambda stops: np.array(tg.generate(model, prompts, 2, stops)), np.array([33, 35]))
        self.check(lambda prompts: np.array([b[0].tokens for b in tg.beam_search(model, prompts, 2, 2)]), prompts)
        for draft in (PromptLookup(), self.model(name, "decoder", n_layers=1)):
            self.check(lambda p, d=draft: np.array(tg.speculative_generate(model, d, p, 2).tokens), prompts)
        self.check(lambda text: np.array(tg.perplexity(model, text, 5)), TOKENS[0])

    @pytest.mark.slow
    def test_weights(self, name):
        tg, config = load(name), small_config(positions="rotary", d_model=24, d_head=8, d_ff=32, tied_head=False)
        weights = random_weights(config)
        for how in ("backwards", "big-endian", "Fortran", "read-only", "masked", "float64"):

            def other(array, how=how):
                if how == "big-endian":
                    return array.astype(">f4")
                return array.astype(np.float64) if how == "float64" else dict(layouts(array)).get(how, array)

            def backwards(array):
                return np.ascontiguousarray(array[::-1])[::-1]

            changed = {n: backwards(a) if how == "backwards" else other(a) for n, a in weights.items()}
            for quantization in (None, (8, None), (4, 8)):
                one, two = (tg.from_weights(config, w) for w in (weights, changed))
                if quantization:
                    one, two = (tg.quantize(model, *quantization, group_size=8) for model in (one, two))
                np.testing.assert_array_equal(numpy(one(TOKENS)), numpy(two(TOKENS)), err_msg=how)

    def test_a_number_beyond_all_integers_is_no_token(self, name):
        model = self.model(name, "decoder")
        with pytest.raises(ValueError, match="tokens must lie between 0 and 36"):
            model(np.array([[1, 2**64 - 1]], np.uint64))


@pytest.mark.parametrize("dtype", NARROW)
class TestIntegers(Quiet):
    """Narrow ones too: a sum of uint8 ends at 255."""

    def test_a_configuration(self, dtype):
        fields = dict(
            d_model=dtype(24), n_layers=dtype(2), n_heads=dtype(6), n_kv_heads=dtype(3), d_head=dtype(10),
            d_ff=dtype(13), vocab_size=dtype(100), max_positions=dtype(120), sliding_window=dtype(100),
            eos_token_id=dtype(7),
        )  # fmt: skip
        config = tfguide.ModelConfig(
            kind="decoder", **fields, norm_eps=np.float32(1e-5), tied_head=np.bool_(True), positions=np.str_("rotary")
        )
        same = tfguide.ModelConfig.from_dict(json.loads(json.dumps(config.to_dict())))
        assert same == config and config.tied_head is True
        assert tfguide.weight_shapes(config)["decoder.layers.0.self_attention.query.weight"] == (24, 60)
        assert config.replace(eos_token_id=[dtype(7), dtype(11)]).eos_token_ids == (7, 11)
        scaling = tfguide.RopeScaling(
            factor=np.float32(8), low_freq_factor=dtype(1), high_freq_factor=dtype(4), original_max_positions=dtype(64)
        )
        assert json.dumps(config.replace(rope_scaling=scaling).to_dict())
        assert list(tfguide.init_weights(config, dtype(3))) == list(tfguide.init_weights(config, 3))

    def test_sampling_and_quantisation(self, dtype):
        sampling = tfguide.Sampling(temperature=np.float32(0.5), top_k=dtype(5), seed=dtype(3), top_p=np.float64(0.5))
        assert sampling == tfguide.Sampling(temperature=0.5, top_k=5, seed=3, top_p=0.5)
        assert type(sampling.top_k) is int and type(sampling.temperature) is float
        assert Quantization(dtype(4), activation_bits=dtype(8), group_size=dtype(16)) == Quantization(4, 8, 16)
        assert PromptLookup(dtype(2)) == PromptLookup(2)

    @pytest.mark.parametrize("name", FRAMEWORKS)
    def test_parts(self, name, dtype):
        tg = load(name)
        np.testing.assert_array_equal(
            numpy(tg.causal_mask(dtype(3), dtype(100), dtype(90))), numpy(tg.causal_mask(3, 100, 90))
        )
        q, k, v = (tensor(name, np.random.default_rng(i).normal(size=(2, 100, 2, 5))) for i in range(3))
        np.testing.assert_array_equal(
            numpy(tg.tiled_attention(q, k, v, tile=dtype(60))), numpy(tg.tiled_attention(q, k, v, tile=60))
        )


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.int64, np.int8])
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_every_function_that_generates(name, dtype):
    tg, config = load(name), small_config(positions="rotary", max_positions=250)
    weights = random_weights(config)
    model = tg.from_weights(config, weights)
    draft = tg.from_weights(config, random_weights(config, seed=1))
    prompt = [TOKENS.ravel().tolist() * 6]  # 126 tokens: with those to come more than 127

    def both(call):
        assert call(int) == call(dtype)

    both(lambda i: tg.generate(model, prompt, i(6), [i(5), i(7)], chunk_size=i(50)))
    both(lambda i: tg.generate(model, prompt, i(6), i(5), tfguide.Sampling(top_k=i(3), seed=i(5))))
    both(lambda i: list(tg.stream(model, prompt[0], i(6), i(5), chunk_size=i(50))))
    both(lambda i: tg.beam_search(model, prompt, i(3), i(5), i(5), np.float32(1) if i is dtype else 1.0, i(2)))
    both(lambda i: tg.speculative_generate(model, draft, prompt, i(6), i(3), i(5)).tokens)
    both(lambda i: tg.speculative_generate(model, PromptLookup(i(2)), prompt, i(6), i(3)).tokens)
    both(lambda i: tg.perplexity(model, prompt[0], i(100), i(90)))
    both(lambda i: tg.generate(tg.accelerate(model, threads=i(2)), prompt, i(6)))
    for cache in (tg.KVCache, tg.QuantizedKVCache, tg.Int4KVCache):
        both(lambda i, cache=cache: tg.generate(model, prompt, i(2), cache=cache(config, i(1), i(127))))
    both(lambda i: tg.generate(model, prompt, i(6), cache=tg.SlidingCache(config, i(1), i(120), i(120))))


@pytest.mark.slow
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_compiled_generation(name):
    tg, config = load(name), small_config(positions="rotary", max_positions=250)
    model, prompt = tg.from_weights(config, random_weights(config)), [TOKENS.ravel().tolist() * 6]
    compiled = tg.CompiledDecoder(model, np.uint8(250), np.uint8(1))
    assert compiled.generate(prompt, np.uint8(100), np.uint8(5)) == tg.generate(model, prompt, 100, [5])


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_one_stop_token_and_what_is_none(name):
    tg, config = load(name), small_config(positions="rotary")
    model = tg.from_weights(config, random_weights(config))
    text = tg.generate(model, TOKENS[:1], 9)[0]
    end = text[3]
    for one in (end, np.int64(end), [end], (np.uint8(end),), {end}, np.array([end]), np.array(end)):
        assert tg.generate(model, TOKENS[:1], 9, one)[0] == text[: text.index(end) + 1]
    assert tg.generate(model, TOKENS[:1], 9, ())[0] == text
    for wrong in (True, 5.0, [5.0], "5", np.array(5.0), [True], [None]):
        with pytest.raises(TypeError, match="a stop token must be an integer, got"):
            tg.generate(model, TOKENS[:1], 9, wrong)
    for wrong in (37, -1, [5, 37]):
        with pytest.raises(ValueError, match="a stop token must"):
            tg.generate(model, TOKENS[:1], 9, wrong)
