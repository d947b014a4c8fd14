"""What the second conformance table measures: each function compares an optimisation with the plain computation.

It takes "reference", "torch" or "tensorflow" and returns the largest absolute difference, or the largest error as a
share of the bound that was derived for it, or how many tokens or bits differ. Models are small, sizes primes.
"""

import itertools
import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np

import tfguide
import tfguide.reference as ref
from tests.support import FRAMEWORKS, load, numpy, random_weights, small_config, tensor
from tests.test_decoding import all_scores
from tfguide import compress
from tfguide.generation import accept
from tfguide.generation.blockwise import BLOCK
from tfguide.sharding import LAYOUTS, mesh

TOKENS = np.random.default_rng(0).integers(0, 37, (3, 11))
PROMPTS = [[5, 3, 2, 11, 7, 3, 2], [13], [17, 19, 23, 17, 19]]


def make(name, loud=1, **changes):
    """A decoder; loud: multiplies its embedding, so that what was read decides which token comes next."""
    config = small_config(**{"positions": "rotary", "n_kv_heads": 3, "tied_head": False, **changes})
    weights = random_weights(config)
    weights["embedding.token.weight"] *= loud
    return load(name).from_weights(config, weights)


def read(name, model, tokens, split, cache=None):
    """The logits of tokens that are read in parts of these lengths."""
    cache = cache if cache is not None else load(name).KVCache(model.config, *tokens.shape)
    ends = np.cumsum(split)
    parts = [model(tensor(name, tokens[:, end - n : end]), cache=cache) for n, end in zip(split, ends, strict=True)]
    return np.concatenate([numpy(part) for part in parts], axis=1)


def whole(name, model, tokens):
    return numpy(model(tensor(name, tokens)))


def apart(*pairs):
    """The largest difference of the pairs; infinity where one holds NaN."""
    largest = max(float(np.abs(np.asarray(one) - np.asarray(other)).max()) for one, other in pairs)
    return math.inf if math.isnan(largest) else largest


def given(name, *arrays):
    """Arrays as the framework takes them; the reference computes in float64."""
    return [x if name == "reference" or x is None else tensor(name, x) for x in arrays]


def unlike(rows, others):
    """How many tokens of some rows differ."""
    return float(sum(one != other for row in zip(rows, others, strict=True) for one, other in zip(*row, strict=True)))


# ---- caches and batches


def every_split(name):
    model, tokens = make(name), TOKENS[:2, :5]
    ends = [[*some, 5] for n in range(5) for some in itertools.combinations(range(1, 5), n)]
    splits = [np.diff([0, *one]) for one in ends]
    assert len(splits) == 2**4
    want = whole(name, model, tokens)
    return apart(*((read(name, model, tokens, split), want) for split in splits))


def unequal_lengths(name):
    model, pairs = make(name), []
    tokens, lengths = np.zeros((3, 7), np.int64), [len(prompt) for prompt in PROMPTS]
    for row, prompt in zip(tokens, PROMPTS, strict=True):
        row[: len(prompt)] = prompt
    cache = model.new_cache(3, 9)
    together = [model.prefill(tensor(name, tokens), cache, lengths), model.decode(tensor(name, TOKENS[:, 0]), cache)]
    for row, prompt in enumerate(PROMPTS):
        cache = model.new_cache(1, 9)
        alone = model.prefill(tensor(name, np.array([prompt])), cache), model.decode(TOKENS[row : row + 1, 0], cache)
        pairs += [(numpy(one)[row], numpy(other)[0]) for one, other in zip(together, alone, strict=True)]
    return apart(*pairs)


def chunks(name):
    model = make(name)

    def last(**how):
        return numpy(model.prefill(tensor(name, TOKENS), model.new_cache(3, 11), **how))

    return apart(*((last(chunk_size=size), last()) for size in (1, 3, 7)))


def own_window(name):
    model = make(name, sliding_window=5)
    cache = load(name).SlidingCache(model.config, 3, 5)
    return apart((read(name, model, TOKENS, (3, 1, 7), cache), whole(name, model, TOKENS)))


def rings(name):
    model = make(name, sliding_window=37, sliding_layers=(0,), local_rope_theta=50.0, max_positions=None)
    tokens = np.random.default_rng(1).integers(0, 37, (1, 541))
    ring = model.new_cache(1, 541)
    assert ring.ring == 512
    return apart((read(name, model, tokens, (523, 1, 17), ring), read(name, model, tokens, (541,))))


def rewound_and_reordered(name):
    model = make(name)
    used, clean = (load(name).KVCache(model.config, 3, 11) for _ in range(2))
    read(name, model, TOKENS[:, :8], (5, 3), used)
    used.rewind(5)
    used.reorder(np.array([2, 0, 2]))
    read(name, model, TOKENS[[2, 0, 2], :5], (5,), clean)
    rest = TOKENS[:, 5:]
    return apart((read(name, model, rest, (1, 5), used), read(name, model, rest, (1, 5), clean)))


def cache_of_8_bits(name):
    """Half a step is the largest number of a vector / 254; the step itself is rounded to float32."""
    model = make(name)
    plain, small = load(name).KVCache(model.config, 3, 11), load(name).QuantizedKVCache(model.config, 3, 11)
    for cache in (plain, small):
        read(name, model, TOKENS, (11,), cache)
    shares = []
    for exact, kept, scales in (
        (plain.keys, small.keys, small.key_scales),
        (plain.values, small.values, small.value_scales),
    ):
        exact, kept = numpy(exact[0]), numpy(kept[0]) * numpy(scales[0])[..., None]
        bound = np.abs(exact).max(axis=-1, keepdims=True) / 254 * (1 + 1e-5)
        shares.append((np.abs(exact - kept) / bound).max())
    return float(max(shares))


def cache_of_4_bits(name):
    """Half a step is the range of a block / 30; the step is rounded to float16, as every number is before it."""
    model = make(name, max_positions=None)
    tokens = np.random.default_rng(1).integers(0, 37, (2, 3 * BLOCK))
    plain, small = load(name).KVCache(model.config, *tokens.shape), load(name).Int4KVCache(model.config, *tokens.shape)
    for cache in (plain, small):
        read(name, model, tokens, (3 * BLOCK,), cache)
    levels = __import__(f"tfguide.{name}.cache.levels", fromlist=["levels"])
    packed, step, minimum = (small.storage.tensors[part][0][:, 0] for part in ("key", "key_step", "key_minimum"))
    kept = numpy(levels.from_levels(levels.unpack(packed, 10), step, minimum, 1))
    exact = numpy(plain.keys[0])[:, :BLOCK].astype(np.float16).astype(np.float64)
    span = exact.max(axis=1, keepdims=True) - exact.min(axis=1, keepdims=True)
    bound = span / 30 * (1 + 2.0**-11) + 15 * 2.0**-25 + 2.0**-23 * np.abs(exact)
    return float((np.abs(exact - kept) / bound).max())


# ---- attention


def heads(H=6, K=3, T=7, S=13, d=5):
    stream = np.random.default_rng(2)
    return [stream.normal(size=(2, n, k, d)) for n, k in ((T, H), (S, K), (S, K))]


def grouped_heads(name):
    query, key, value = heads()
    attend = load(name).scaled_dot_product_attention
    many = [np.repeat(x, 2, axis=2) for x in (key, value)]  # K = H
    return apart([numpy(attend(*given(name, query, *pair))) for pair in ((key, value), many)])


def tiles(name):
    stream, (query, key, value) = np.random.default_rng(3), heads()
    visible, bias = stream.random((2, 7, 13)) < 0.6, stream.normal(size=(2, 6, 7, 13))
    visible[1, 3] = False  # a query that sees nothing
    arrays = given(name, query, key, value, visible, bias)
    want = numpy(load(name).scaled_dot_product_attention(*arrays))
    return apart(*((numpy(load(name).tiled_attention(*arrays, tile=tile)), want) for tile in (1, 4, 13)))


def fused(name):
    arrays = given(name, *heads(), ref.causal_mask(7, 13))
    module = load(name)
    return apart((numpy(module.fused_attention(*arrays)), numpy(module.scaled_dot_product_attention(*arrays))))


def absorbed(name):
    module, stream = load(name), np.random.default_rng(4)
    shapes = (2, 5, 3, 11), (2, 13, 1, 4), (2, 13, 1, 17), (17, 3, 7 + 5)
    query, rope, latent, up = (stream.normal(size=shape) for shape in shapes)
    query, rope, latent, up = given(name, query, rope, latent, up / 17**0.5)
    made = module.scaled_dot_product_attention(query, *module.latent_keys_values(rope, latent, up, 7))
    return apart((numpy(module.absorbed_attention(query, rope, latent, up)), numpy(made)))


def latent_cache(name):
    latent = tfguide.LatentAttention(kv_rank=17, d_nope=3, d_rope=4, d_value=5, query_rank=13)
    model = make(name, latent=latent, d_head=None, n_kv_heads=None)
    assert latent.absorbs(1, 11) and not latent.absorbs(11, 11)
    return apart((read(name, model, TOKENS, (5, 1, 2, 3)), whole(name, model, TOKENS)))


SCALINGS = (
    tfguide.LinearScaling(factor=3.0),
    tfguide.RopeScaling(factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_positions=7),
    tfguide.YarnScaling(factor=4.0, original_max_positions=7),
    tfguide.DynamicScaling(factor=3.0, original_max_positions=7),
    tfguide.LongRopeScaling(short_factors=(1.0, 1.1, 1.3, 1.7, 2.3), long_factors=(1.0, 2.0, 3.0, 5.0, 7.0),
                            original_max_positions=7, factor=5.0),
)  # fmt: skip


def scalings(name):
    """Inside the trained length of 7 and beyond it, against the formula in float64."""
    pairs = []
    for scaling in SCALINGS:
        changes = dict(rope_scaling=scaling, n_layers=1)
        model, exact = make(name, **changes), make("reference", **changes)
        pairs += [(whole(name, model, TOKENS[:, :n]), exact(TOKENS[:, :n])) for n in (5, 11)]
    return apart(*pairs)


# ---- smaller weights


def bound_share(name, bits):
    """The largest error of a product as a share of what `error_bound` derives, with and without rounded inputs."""
    stream, shares = np.random.default_rng(5), []
    weight, x = stream.normal(size=(72, 37)).astype(np.float32), stream.normal(size=(11, 72)).astype(np.float32)
    exact = x.astype(np.float64) @ weight
    for rounds, asymmetric in itertools.product((None, 8), (False, True) if bits == 4 else (False,)):
        how = compress.Quantization(bits, rounds, 24, asymmetric)
        if bits == 8:
            levels = compress.quantize_int8(weight)
        else:
            levels = (compress.quantize_uint4 if asymmetric else compress.quantize_int4)(weight, 24)
        packed, scale, *unit = how.pack("weight", weight)
        layer = load(name).QuantizedLinear(72, 37, how, packed, scale, None, *unit)
        bound = compress.error_bound(x, weight, how, *levels)
        shares.append((np.abs(numpy(layer(tensor(name, x))) - exact) / bound).max())
    return float(max(shares))


def weights_of_8_bits(name):
    return bound_share(name, 8)


def weights_of_4_bits(name):
    return bound_share(name, 4)


def dequantised(name):
    module, model, pairs = load(name), make(name, d_model=24, d_ff=40, d_head=8), []
    for bits in (8, 4):
        small = module.quantize(model, bits, group_size=8)
        again = module.from_weights(model.config, module.to_weights(small))
        pairs.append((whole(name, small, TOKENS), whole(name, again, TOKENS)))
    return apart(*pairs)


def pruned(name):
    """Heads, neurons and a layer left out: the dense model with zeros in their places."""
    module, config = load(name), small_config(positions="learned", n_kv_heads=3, tied_head=False, n_layers=3)
    weights, pairs = random_weights(config), []
    model = module.from_weights(config, weights)
    for smaller, end, size in (
        (module.prune_heads(model, 2), "attention.output.weight", 20),
        (module.prune_neurons(model, 11), "down.weight", 1),
    ):
        masked, kept = dict(weights), module.to_weights(smaller)
        for key in [key for key in weights if key.endswith(end)]:
            left = {group.tobytes() for group in kept[key].reshape(-1, size, 22)}
            groups = [group if group.tobytes() in left else group * 0 for group in weights[key].reshape(-1, size, 22)]
            masked[key] = np.concatenate(groups)
        pairs.append((smaller, masked))
    ends = (".output.weight", ".output.bias", ".down.weight", ".down.bias")
    masked = {key: x * (not (".layers.1." in key and key.endswith(ends))) for key, x in weights.items()}
    pairs.append((module.prune_layers(model, [1]), masked))
    assert all(apart((whole(name, small, TOKENS), whole(name, model, TOKENS))) > 0.01 for small, _ in pairs)
    return apart(
        *(
            (whole(name, small, TOKENS), whole(name, module.from_weights(config, dense), TOKENS))
            for small, dense in pairs
        )
    )


# ---- experts


def mixtures(name):
    """The mixture of the last layer, its inputs and its configuration, by router."""
    shapes = (
        dict(n_experts=5, per_token=2, n_shared=1, router_bias=True),
        dict(n_experts=12, per_token=3, router="sigmoid", scale=2.5, correction_bias=True, n_groups=4,
             groups_per_token=2),
    )  # fmt: skip
    x = np.random.default_rng(6).normal(size=(3, 7, 22))
    for shape in shapes:
        config = small_config(
            experts=tfguide.Experts(d_expert=13, **shape), activation="swiglu", norm="rms", n_layers=1
        )
        yield config, random_weights(config), x


def mixture(name, config, weights):
    return load(name).from_weights(config, weights).decoder.layers[0].feed_forward


def dense_sum(name):
    pairs = []
    for config, weights, x in mixtures(name):
        layer, (x,) = mixture(name, config, weights), given(name, x)
        pairs.append((numpy(layer(x)), numpy(load(name).dense_mixture(layer, x))))
    return apart(*pairs)


def unread_experts(name):
    """The matrices of experts that no token chose are NaN, which every product would carry on."""
    pairs = []
    for config, weights, x in mixtures(name):
        x = x[:1, :2]
        chosen, _ = mixture("reference", config, weights).router(x)
        unread = np.setdiff1d(np.arange(config.experts.n_experts), chosen)
        assert len(unread) >= 1
        broken = {key: array.copy() for key, array in weights.items()}
        for own in ("gate", "up", "down"):
            broken[f"decoder.layers.0.feed_forward.experts.{own}.weight"][unread] = np.nan
        (x,) = given(name, x)
        pairs.append([numpy(mixture(name, config, some)(x)) for some in (weights, broken)])
    return apart(*pairs)


def rows_alone(name):
    pairs = []
    for config, weights, x in mixtures(name):
        layer = mixture(name, config, weights)
        together = numpy(layer(*given(name, x)))
        pairs += [(numpy(layer(*given(name, x[row : row + 1])))[0], together[row]) for row in range(3)]
    return apart(*pairs)


# ---- generation


def generated(name):
    want = ref.generate(make("reference", 50), PROMPTS, 5, [])
    assert len({token for row in want for token in row}) > 2  # a model that repeats one token would prove little
    return unlike(load(name).generate(make(name, 50), PROMPTS, 5, []), want)


def drawn(name):
    """With one seed, the tokens of the other framework."""
    sampling = tfguide.Sampling(temperature=1.3, top_k=20, top_p=0.95, seed=5)
    rows = {one: load(one).generate(make(one, 50), PROMPTS, 5, [], sampling) for one in FRAMEWORKS}
    return unlike(rows.pop(name), *rows.values())


def speculated(name):
    module, model, draft = load(name), make(name, 50), make(name, 50, n_layers=1)
    prompts = PROMPTS[1:]
    want = module.generate(model, prompts, 5, [])
    drafts = (draft, tfguide.PromptLookup(2))
    return sum(unlike(module.speculative_generate(model, one, prompts, 5, 2, []).tokens, want) for one in drafts)


def speculated_distribution(_):
    """The chance of each pair of tokens: every draft, every decision and every replacement, each with its chance.

    Chances are whole numbers of sixths, so that a grid of random numbers as fine as the replacement's own chances
    stands for all of them.
    """
    V, N, stream = 3, 6, np.random.default_rng(7)
    (p0, q0), (p1, q1) = (stream.multinomial(N, [1 / V] * V, size=(2, *more)) / N for more in ((), (V,)))
    p2, total, fine = np.full(V, 1 / V), np.zeros((V, V)), math.lcm(*range(1, N + 1))
    for a, b in itertools.product(range(V), repeat=2):
        if q0[a] * q1[a, b] == 0:
            continue
        stands = [min(1.0, p0[a] / q0[a]), min(1.0, p1[a, b] / q1[a, b])]
        decisions = [[(u, w) for u, w in ((s / 2, s), ((1 + s) / 2, 1 - s)) if w] for s in stands]
        for ((u, w), (v, x)), k in itertools.product(itertools.product(*decisions), range(fine)):
            n, token = accept(np.stack([p0, p1[a], p2]), np.stack([q0, q1[a]]), [a, b], [u, v, (k + 0.5) / fine])
            chance = q0[a] * q1[a, b] * w * x / fine
            if n == 0:
                total[token] += chance * p1[token]  # the second token is the target's own
            else:
                total[a, b if n == 2 else token] += chance
    return apart((total, p0[:, None] * p1))


def beams(name):
    """As many beams as texts: the scores of the best of all texts, by enumeration."""
    module, changes = load(name), dict(vocab_size=3, loud=5)
    model, reference = make(name, **changes), make("reference", **changes)
    best = sorted(all_scores(reference, [1, 2], 3, set(), 1.0).items(), key=lambda item: -item[1])[:5]
    found = module.beam_search(model, [[1, 2]], 27, 3, [], 1.0, n_best=5)[0]
    assert [beam.tokens for beam in found] == [tokens for tokens, _ in best]
    return apart(([beam.score for beam in found], [score for _, score in best]))


# ---- other programs


def one_beam(name):
    module, model = load(name), make(name, 50)
    found = [list(some[0].tokens) for some in module.beam_search(model, PROMPTS[1:], 1, 5, [])]
    return unlike(found, module.generate(model, PROMPTS[1:], 5, []))


def kernels(name):
    pairs = []
    for changes in (
        dict(norm="rms", activation="swiglu", qk_norm=True, attention_sinks=True),
        dict(experts=tfguide.Experts(n_experts=5, per_token=2, d_expert=13), norm_placement="both"),
    ):
        model = make(name, **changes)
        want = whole(name, model, TOKENS)
        for threads in (1, 3):
            fast = load(name).accelerate(model, threads=threads)
            pairs.append((read(name, fast, TOKENS, (4, 1, 6), fast.new_cache(3, 11)), want))
    return apart(*pairs)


def kernels_packed(name):
    pairs = []
    for bits in (8, 4):
        model = load(name).quantize(make(name, d_model=24, d_ff=40, d_head=8), bits, group_size=8)
        fast = load(name).accelerate(model)
        got = read(name, fast, TOKENS, (4, 1, 6), fast.new_cache(3, 11, "float32"))
        pairs.append((got, whole(name, model, TOKENS)))
    return apart(*pairs)


def two_threads(name):
    """How many logits differ, to the last bit: four texts at once on one model and on one of the kernels."""
    model = make(name)
    fast = load(name).accelerate(model, threads=1)

    def work(job):
        one, row = job
        return read(name, one, TOKENS[row : row + 1], (4, 1, 6), one.new_cache(1, 11))

    jobs = [(one, row) for row in (0, 1) for one in (model, fast)]
    alone = list(map(work, jobs))
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(work, jobs * 3))
    return float(sum((one != other).sum() for one, other in zip(together, alone * 3, strict=True)))


def sharded(_):
    """A feed-forward network over chips in every layout, as a share of its largest output."""
    stream, pairs = np.random.default_rng(8), []
    x, up, down = (stream.normal(size=shape) for shape in ((24, 24), (24, 48), (48, 24)))
    want = np.maximum(x @ up, 0) @ down
    for layout, sizes in itertools.product(LAYOUTS, ((1, 2, 1), (2, 3, 1), (2, 2, 2))):
        pairs.append((mesh.feed_forward(mesh.Mesh(sizes), layout, x, up, down), want))
    return apart(*pairs) / float(np.abs(want).max())
