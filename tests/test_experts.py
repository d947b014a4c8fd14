"""Mixtures of experts: the chosen ones alone are read, and the result is the sum over all of them."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import tfguide.reference as ref
from tests.support import FRAMEWORKS, batch, load, numpy, random_weights, refuses, small_config
from tests.support import tensor as tensor_of
from tfguide import Experts, ModelConfig, native
from tfguide.checkpoints import write_checkpoint, write_gguf

ALL = ("reference", *FRAMEWORKS)
CASES = {
    "mixtral": (dict(n_experts=5, per_token=2), dict()),
    "qwen3": (dict(n_experts=7, per_token=3, normalised=False, n_dense_layers=1), dict(ffn_bias=False)),
    "gpt-oss": (dict(n_experts=5, per_token=2, router_bias=True, clamp=0.3), dict()),
    "deepseek": (
        dict(n_experts=12, per_token=3, router="sigmoid", scale=2.5, n_shared=2, correction_bias=True, n_groups=4,
             groups_per_token=2),
        dict(ffn_bias=False),
    ),
    "plain": (dict(n_experts=3, per_token=1, n_shared=1), dict(activation="relu")),
}  # fmt: skip


def case(name, **changes):
    """A configuration and its weights, of which no bias is 0."""
    experts, fields = CASES[name]
    fields = dict(activation="swiglu", positions="rotary", norm="rms", **fields) if name != "plain" else fields
    config = small_config(experts=Experts(d_expert=13, **experts), **{**fields, **changes})
    return config, random_weights(config)


def layer(name, config, weights, block=1):
    """The mixture of one block."""
    return load(name).from_weights(config, weights).decoder.layers[block].feed_forward


def tensor(name, array):
    """An array as the framework's tensor; the reference takes it as it is, in float64."""
    return array if name == "reference" else tensor_of(name, array)


def states(shape=(3, 7, 22), seed=2):
    return np.random.default_rng(seed).normal(size=shape)


@pytest.mark.parametrize("which", CASES)
@pytest.mark.parametrize("name", ALL)
def test_it_is_the_sum_over_all_experts_with_the_weights_of_the_router(name, which):
    config, weights = case(which)
    mixture, x = layer(name, config, weights), tensor(name, states())
    want = ref.dense_mixture(layer("reference", config, weights), states())
    assert want.std() > 0.05
    limit = 1e-12 if name == "reference" else 1e-5
    np.testing.assert_allclose(numpy(mixture(x)), want, atol=limit)
    np.testing.assert_allclose(numpy(load(name).dense_mixture(mixture, x)), want, atol=limit)


@pytest.mark.parametrize("which", ["mixtral", "deepseek"])
@pytest.mark.parametrize("name", ALL)
def test_an_expert_that_no_token_chose_is_not_read(name, which):
    """Its matrices are NaN, which every product would carry on."""
    config, weights = case(which)
    x = states((1, 2, 22))
    chosen, _ = layer("reference", config, weights).router(x)
    unread = np.setdiff1d(np.arange(config.experts.n_experts), chosen)
    assert len(unread) >= 1
    want = numpy(layer(name, config, weights)(tensor(name, x)))
    for own in ("gate", "up", "down"):
        weights[f"decoder.layers.1.feed_forward.experts.{own}.weight"][unread] = np.nan
    mixture = layer(name, config, weights)
    np.testing.assert_array_equal(numpy(mixture(tensor(name, x))), want)
    if name == "tensorflow":
        import tensorflow as tf

        for compiled in (False, True):
            for shape in ((1, 2, 22), (None, None, 22)):  # matrices of few tokens are gathered, of many walked through
                graph = tf.function(
                    lambda x: mixture(x), input_signature=[tf.TensorSpec(shape, tf.float32)], jit_compile=compiled
                )
                np.testing.assert_allclose(graph(tensor(name, x)), want, atol=1e-5)
    if name == "torch":
        rows = tensor(name, x).reshape(-1, 22)
        np.testing.assert_allclose(
            numpy(mixture._gathered(rows, *mixture.router(rows)))[None],
            want - (0 if mixture.shared is None else numpy(mixture.shared(tensor(name, x)))),
            atol=1e-5,
        )


@pytest.mark.parametrize("name", ALL)
def test_a_batch_equals_its_rows_alone(name):
    config, weights = case("deepseek")
    mixture, x = layer(name, config, weights), states()
    whole = numpy(mixture(tensor(name, x)))
    for row in range(3):
        np.testing.assert_allclose(numpy(mixture(tensor(name, x[row : row + 1])))[0], whole[row], atol=1e-6)


@pytest.mark.parametrize("name", ALL)
def test_of_equal_scores_the_first_expert_is_chosen(name):
    logits = np.array([[1.0, 3.0, 3.0, 3.0, 2.0, 2.0], [0.0] * 6])
    plain = Experts(n_experts=6, per_token=4, d_expert=1)
    chosen, _ = load(name).route(tensor(name, logits), plain)
    np.testing.assert_array_equal(numpy(chosen), [[1, 2, 3, 4], [0, 1, 2, 3]])
    grouped = dataclasses.replace(plain, per_token=2, n_groups=3, groups_per_token=1)
    chosen, _ = load(name).route(tensor(name, logits), grouped)
    np.testing.assert_array_equal(numpy(chosen), [[2, 3], [0, 1]])


@pytest.mark.parametrize("name", ALL)
def test_groups_and_correction_by_hand(name):
    """The correction chooses, and the scores without it are the weights; a group counts by its two best."""
    scores = np.array([0.9, 0.1, 0.1, 0.6, 0.6, 0.1, 0.5, 0.5, 0.2])
    correction = np.array([0, 0, 0, 0, 0, 0, 0, 0, 0.6])  # the last group: 0.8 + 0.5, the middle one: 0.6 + 0.6
    experts = Experts(
        n_experts=9, per_token=2, d_expert=1, router="sigmoid", n_groups=3, groups_per_token=1, correction_bias=True,
        scale=3.0,
    )  # fmt: skip
    logits = tensor(name, np.log(scores / (1 - scores)))
    for added, wanted, values in ((0.0, [3, 4], [0.6, 0.6]), (1.0, [8, 6], [0.2, 0.5])):
        chosen, weights = load(name).route(logits, experts, tensor(name, added * correction))
        np.testing.assert_array_equal(numpy(chosen), wanted)
        np.testing.assert_allclose(numpy(weights), 3.0 * np.array(values) / sum(values), atol=1e-6)


@pytest.mark.parametrize("name", ALL)
def test_a_softmax_over_the_chosen_is_the_normalised_one_over_all(name):
    logits = states((4, 7), seed=5)
    chosen, weights = load(name).route(tensor(name, logits), Experts(n_experts=7, per_token=3, d_expert=1))
    best = np.take_along_axis(logits, numpy(chosen), axis=-1)
    assert (np.sort(logits)[:, ::-1][:, :3] == best).all()
    np.testing.assert_allclose(numpy(weights), np.exp(best) / np.exp(best).sum(-1, keepdims=True), atol=1e-6)


@pytest.mark.parametrize("name", ALL)
def test_the_clamped_gate_by_hand(name):
    gate, up = np.array([2.0, 9.0, -9.0, 0.5]), np.array([3.0, 9.0, -9.0, 0.0])
    low, high = (g / (1 + np.exp(-1.702 * g)) for g in (np.array([2.0, 7.0]), np.array([-9.0, 0.5])))
    want = np.concatenate([low, high]) * np.array([4.0, 8.0, -6.0, 1.0])
    got = load(name).clamped_swiglu(tensor(name, up), tensor(name, gate), 7.0)
    np.testing.assert_allclose(numpy(got), want, rtol=1e-6)


@pytest.mark.parametrize("which", ["qwen3", "deepseek"])
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_cache_gives_the_tokens_of_the_reference(name, which):
    config, weights = case(which)
    (tokens,), _ = batch(config)
    model = load(name).from_weights(config, weights)
    prompts = [row[:n].tolist() for row, n in zip(tokens, (3, 7, 5), strict=True)]
    want = ref.generate(ref.from_weights(config, weights), prompts, max_new_tokens=6)
    assert load(name).generate(model, prompts, max_new_tokens=6) == want
    if which == "deepseek":
        assert load(name).CompiledDecoder(model, 13, 3).generate(prompts, max_new_tokens=6) == want


TOKENS = np.random.default_rng(0).integers(0, 37, (2, 23))


def pieces(name, model, splits=((0, 4), (4, 5), (5, 23))):
    """The logits of TOKENS, read piece by piece into a cache."""
    cache = model.new_cache(*TOKENS.shape, cache_dtype="float32")
    return np.concatenate([numpy(model(tensor(name, TOKENS[:, a:b]), cache=cache)) for a, b in splits], axis=1)


@pytest.mark.parametrize("which", CASES)
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_the_kernels_give_the_logits_of_the_reference(name, which):
    config, weights = case(which)
    model, want = load(name).from_weights(config, weights), ref.forward(config, weights, TOKENS)
    for threads in (1, 3):
        fast = load(name).accelerate(model, threads=threads)
        np.testing.assert_allclose(pieces(name, fast), want, atol=1e-5)
    more = np.concatenate([TOKENS, TOKENS])  # at once, more than the kernels take
    got = numpy(fast(tensor(name, more), cache=fast.new_cache(*more.shape)))
    np.testing.assert_allclose(got, np.concatenate([want, want]), atol=1e-5)


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_the_kernels_do_not_read_an_expert_that_no_token_chose(name):
    """Its matrices are NaN, which every product would carry on."""
    config, weights = case("deepseek", n_layers=1)
    tokens = TOKENS[:1, :3]
    want, chosen = ref.forward(config, weights, tokens), []
    original = ref.from_weights(config, weights)
    router = original.decoder.layers[0].feed_forward.router
    original.decoder.layers[0].feed_forward.router = lambda x: chosen.append(router(x)) or chosen[-1]
    original(tokens)
    unread = np.setdiff1d(np.arange(config.experts.n_experts), chosen[0][0])
    assert 0 < len(unread) < config.experts.n_experts
    for own in ("gate", "up", "down"):
        weights[f"decoder.layers.0.feed_forward.experts.{own}.weight"][unread] = np.nan
    fast = load(name).accelerate(load(name).from_weights(config, weights))
    got = numpy(fast(tensor(name, tokens), cache=fast.new_cache(1, 3)))
    np.testing.assert_allclose(got, want, atol=1e-5)


def chosen_experts(config, weights, tokens):
    """The experts (B, T, k) that the router of the reference chose in each layer; None in one without experts."""
    model, chosen = ref.from_weights(config, weights), [None] * config.n_layers
    for index, block in enumerate(model.decoder.layers):
        if config.has_experts(index):

            def watched(x, router=block.feed_forward.router, index=index):
                chosen[index], weights = router(x)
                return chosen[index], weights

            block.feed_forward.router = watched
    model(tokens)
    return chosen


@pytest.mark.parametrize("which", ["qwen3", "deepseek"])
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_the_kernels_count_the_experts_that_they_read(name, which):
    """As many as the router of the reference chose, each once for all the rows that chose it."""
    config, weights = case(which)
    fast = load(name).accelerate(load(name).from_weights(config, weights), threads=2)
    for n in (1, 2, 13):  # rows: of more than 8 each thread prepares a part
        tokens = np.random.default_rng(n).integers(0, 37, (n, 4))
        chosen = chosen_experts(config, weights, tokens)
        cache, counter = fast.new_cache(n, 4), np.zeros(2, np.int64)
        fast.read_rows(tokens[:, :3].ravel(), np.repeat(np.arange(n), 3), cache, counter)
        wanted = [0 if one is None else len(np.unique(one[:, :3])) for one in chosen]
        assert counter.tolist() == wanted
        fast.decode(tokens[:, 3], cache, counter)  # it is added up
        more = [0 if one is None else len(np.unique(one[:, 3])) for one in chosen]
        assert counter.tolist() == np.add(wanted, more).tolist()
        assert (more[0] == 0) == (which == "qwen3") and more[1] >= config.experts.per_token
        assert n > 1 or more[1] == config.experts.per_token


def test_two_threads_count_by_themselves():
    config, weights = case("mixtral")
    fast = load("torch").accelerate(load("torch").from_weights(config, weights), threads=1)
    prompts = {n: np.random.default_rng(n).integers(0, 37, (n, 2)) for n in (1, 5)}

    def count(n):
        cache, counter = fast.new_cache(n, 12), np.zeros(2, np.int64)
        tokens = fast.prefill(prompts[n], cache).argmax(axis=1)
        for _ in range(10):
            tokens = fast.decode(tokens, cache, counter).argmax(axis=1)
        return counter.tolist()

    alone = [count(n) for n in (1, 5)]
    assert alone[0] == [20, 20] and alone[1] != alone[0]
    with ThreadPoolExecutor(2) as pool:
        for found in zip(*[[pool.submit(count, n) for _ in range(3)] for n in (1, 5)], strict=True):
            assert [one.result() for one in found] == alone


def test_what_counts_experts_is_checked():
    config, weights = case("mixtral")
    fast = load("torch").accelerate(load("torch").from_weights(config, weights))
    cache, tokens = fast.new_cache(1, 5), np.array([3])
    fast.prefill(tokens[None], cache)
    for error, message, counter in (
        (TypeError, "must be int64, got int32", np.zeros(2, np.int32)),
        (TypeError, "must be an array, got list", [0, 0]),
        (ValueError, "must be (L,) = (2,), got (3,)", np.zeros(3, np.int64)),
        (ValueError, "contiguous and writable", np.zeros((2, 2), np.int64)[:, 0]),
    ):
        with refuses(error, message):
            fast.decode(tokens, cache, counter)
        with refuses(error, message):
            fast.read_rows(tokens, np.array([0]), cache, counter)
    assert cache.lengths.tolist() == [1]
    other = fast.new_cache(1, 5, cache_dtype="int4")  # which the framework computes
    fast.prefill(tokens[None], other)
    with refuses(ValueError, "experts are counted by the kernels"):
        fast.decode(tokens, other, np.zeros(2, np.int64))


@pytest.mark.parametrize("quantization", [(8, 8), (4, None)], ids=str)
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_the_kernels_read_packed_experts(name, quantization):
    parts = dict(norm_placement="both", qk_norm=True, attention_sinks=True)  # which stay beside packed matrices
    config, _ = case("gpt-oss", d_model=24, d_ff=32, d_head=8, tied_head=False, **parts)
    config = config.replace(experts=dataclasses.replace(config.experts, d_expert=16))
    model = load(name).from_weights(config, random_weights(config))
    model = load(name).quantize(model, *quantization, group_size=8)
    fast, want = load(name).accelerate(model), numpy(model(tensor(name, TOKENS)))
    for got in (pieces(name, fast), numpy(fast(tensor(name, TOKENS)))):
        # Where activations are rounded to 8 bits, sums in another order may send a token to another expert.
        assert np.abs(got - want).mean() < (1e-5 if quantization[1] is None else 0.02) * want.std()


def test_the_kernels_alone_read_folders_and_files(tmp_path):
    config, _ = case("mixtral", d_model=32, qkv_bias=False, output_bias=False, ffn_bias=False, tied_head=False)
    config = config.replace(experts=dataclasses.replace(config.experts, d_expert=32), d_ff=32)
    weights = random_weights(config)
    want = ref.forward(config, weights, TOKENS)
    write_checkpoint(tmp_path / "m", config, weights)
    write_gguf(tmp_path / "m.gguf", config, weights, "F16")
    np.testing.assert_allclose(native.load(tmp_path / "m")(TOKENS), want, atol=1e-4)
    for decoder, limit in (
        (native.load(tmp_path / "m", dtype="bfloat16"), 0.06),
        (native.load(tmp_path / "m", dtype="int8"), 0.08),
        (native.load(tmp_path / "m.gguf"), 0.02),
    ):
        assert 0 < np.abs(decoder(TOKENS) - want).mean() < limit * want.std()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_half_precision_chooses_in_float32(name, dtype):
    config, weights = case("deepseek", tied_head=False)
    model = load(name).from_weights(config, weights, dtype)
    rounded = load(name).to_weights(model)
    correction = "decoder.layers.1.feed_forward.router.correction_bias"
    np.testing.assert_array_equal(rounded[correction], weights[correction])  # not rounded
    (tokens,), _ = batch(config)
    got = model(tensor(name, tokens))
    got = np.asarray(got.float().detach() if name == "torch" else got, np.float32)
    want = ref.forward(config, rounded, tokens)
    assert np.abs(got - want).mean() < (2**-5 if dtype == "bfloat16" else 2**-8) * want.std()


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_each_expert_is_quantised_by_itself_and_the_router_not(name, bits, tmp_path):
    config, weights = case("deepseek", d_model=24, d_ff=32, d_head=8, tied_head=False)
    config = config.replace(experts=dataclasses.replace(config.experts, d_expert=16))
    weights = random_weights(config)
    path = "decoder.layers.1.feed_forward.experts.up.weight"
    weights[path][2] *= 1000  # would cost the others their digits if they shared its scales
    model = load(name).from_weights(config, weights)
    (tokens,), _ = batch(config)
    small = load(name).quantize(model, bits, group_size=8, calibration=tokens)
    rounded = load(name).to_weights(small)
    router = "decoder.layers.1.feed_forward.router.weight"
    np.testing.assert_array_equal(rounded[router], weights[router])
    error = np.abs(rounded[path] - weights[path]).max(axis=(1, 2)) / np.abs(weights[path]).max(axis=(1, 2))
    assert error.min() > 0
    assert error.max() < (0.005 if bits == 8 else 0.09)
    want = ref.forward(config, rounded, tokens)
    np.testing.assert_allclose(numpy(small(tensor(name, tokens))), want, atol=1e-4)
    load(name).save_checkpoint(small, tmp_path / "small")
    again = load(name).load_checkpoint(tmp_path / "small")
    np.testing.assert_array_equal(numpy(again(tensor(name, tokens))), numpy(small(tensor(name, tokens))))


def test_pruning_takes_its_share_of_each_expert_and_leaves_the_router():
    config, weights = case("mixtral")
    weights["decoder.layers.1.feed_forward.experts.up.weight"][2] *= 1000
    model = load("torch").from_weights(config, weights)
    for pruned in (load("torch").prune_magnitude(model, 0.5), load("torch").prune_two_four(model)):
        after = load("torch").to_weights(pruned)
        up = after["decoder.layers.1.feed_forward.experts.up.weight"]
        assert ((up == 0).sum(axis=(1, 2)) == up[0].size // 2).all()
        router = "decoder.layers.0.feed_forward.router.weight"
        np.testing.assert_array_equal(after[router], weights[router])
    with refuses(ValueError, "every layer of the model has experts"):
        load("torch").prune_neurons(model, 5)


def test_pruning_layers_and_neurons_keeps_the_experts():
    config, weights = case("qwen3")
    model = load("torch").from_weights(config, weights)
    (tokens,), _ = batch(config)
    for smaller in (load("torch").prune_layers(model, [0]), load("torch").prune_neurons(model, 5)):
        want = ref.forward(smaller.config, load("torch").to_weights(smaller), tokens)
        np.testing.assert_allclose(numpy(smaller(tensor("torch", tokens))), want, atol=1e-5)
    assert load("torch").prune_layers(model, [0]).config.experts.n_dense_layers == 0
    assert load("torch").prune_layers(model, [1]).config.experts.n_dense_layers == 1


SIZES = dict(n_experts=8, per_token=2, d_expert=5)
BAD = [
    (dict(router="relu"), ValueError, "router must be one of 'softmax', 'sigmoid', got 'relu'"),
    (dict(normalised=1), TypeError, "normalised must be a bool, got 1"),
    (dict(scale=0.0), ValueError, "scale must be above 0.0, got 0.0"),
    (dict(clamp=-7.0), ValueError, "clamp must be above 0.0, got -7.0"),
    (dict(n_groups=3), ValueError, "n_groups must divide n_experts=8, got 3"),
    (dict(groups_per_token=2), ValueError, "groups_per_token must be at most n_groups=1, got 2"),
    (dict(n_groups=8, groups_per_token=3), ValueError, "n_groups=8 leaves groups of 1"),
    (dict(n_groups=4, per_token=3), ValueError, "per_token must be at most the 2 experts of groups_per_token=1"),
    (dict(correction_bias=0), TypeError, "correction_bias must be a bool, got 0"),
]


@pytest.mark.parametrize(("changes", "error", "message"), BAD, ids=[message for _, _, message in BAD])
def test_a_part_out_of_range_is_refused(changes, error, message):
    with refuses(error, message):
        Experts(**{**SIZES, **changes})


def test_a_model_of_parts_that_do_not_fit_is_refused():
    with refuses(ValueError, "experts with a clamp need activation='swiglu', got activation='gelu'"):
        small_config(experts=Experts(**SIZES, clamp=7.0))
    for name in ALL:
        with refuses(ValueError, "logits must end in n_experts=8 numbers, got shape (3, 7)"):
            load(name).route(tensor(name, np.zeros((3, 7))), Experts(**SIZES))
        with refuses(TypeError, "experts must be an Experts, got int"):
            load(name).MixtureOfExperts(22, 8)
    config = ModelConfig.from_preset("deepseek-v3")
    assert ModelConfig.from_dict(config.to_dict()) == config
