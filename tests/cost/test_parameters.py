"""Counts from the table of weights, against the closed formulas of the architecture."""

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import small_config
from tfguide import Experts, LatentAttention, cost
from tfguide.bench.models import bytes_read
from tfguide.cost.flops import visible_pairs
from tfguide.cost.memory import cache_dtype
from tfguide.cost.parameters import attention_parameters, multiplied_parameters

LATENTS = st.builds(
    LatentAttention,
    kv_rank=st.sampled_from([5, 17]),
    d_nope=st.sampled_from([3, 7]),
    d_rope=st.just(2),
    d_value=st.sampled_from([11, 13]),
    query_rank=st.sampled_from([None, 19]),
)
EXPERTS = st.builds(
    Experts,
    n_experts=st.sampled_from([5, 7]),
    per_token=st.integers(1, 3),
    d_expert=st.sampled_from([23, 29]),
    n_shared=st.integers(0, 2),
    n_dense_layers=st.integers(0, 3),
    router_bias=st.booleans(),
)


@st.composite
def configs(draw):
    kind = draw(st.sampled_from(["encoder", "decoder", "encoder-decoder"]))
    flags = ("norm_bias", "embedding_norm", "qkv_bias", "output_bias", "ffn_bias", "qk_norm", "tied_head")
    latent = draw(st.none() | LATENTS)
    heads = dict(d_head=None) if latent else dict(n_kv_heads=draw(st.sampled_from([1, 3, 6])))
    placements = ["pre", "post"] if kind == "encoder-decoder" else ["pre", "post", "parallel"]
    return small_config(
        kind,
        n_layers=3,
        n_encoder_layers=draw(st.sampled_from([None, 2])) if kind == "encoder-decoder" else None,
        n_token_types=draw(st.sampled_from([0, 2])),
        norm=draw(st.sampled_from(["layer", "rms"])),
        norm_placement=draw(st.sampled_from(placements)),
        positions=draw(st.sampled_from(["none", "learned", "rotary", "relative"])),
        activation=draw(st.sampled_from(["gelu", "swiglu"])),
        pooler=kind == "encoder" and draw(st.booleans()),
        latent=latent,
        experts=draw(st.none() | EXPERTS),
        **heads,
        **{flag: draw(st.booleans()) and not (latent and flag == "qk_norm") for flag in flags},
    )


def attention(config):
    D, H, K, d, latent = config.d_model, config.n_heads, config.n_kv_heads, config.d_head, config.latent
    if latent is None:
        biases = config.qkv_bias * (H + 2 * K) * d + config.output_bias * D
        return 2 * D * (H + K) * d, biases + config.qk_norm * 2 * d
    rank, d_query = latent.query_rank, latent.d_nope + latent.d_rope
    matrices = D * H * d_query if rank is None else D * rank + rank * H * d_query
    matrices += D * (latent.kv_rank + latent.d_rope) + latent.kv_rank * H * (latent.d_nope + latent.d_value)
    matrices += H * latent.d_value * D
    norms = latent.kv_rank + (rank or 0)
    return matrices, norms + config.qkv_bias * (norms + latent.d_rope) + config.output_bias * D


def feed_forward(config, layer, active):
    D, n = config.d_model, 3 if config.gated else 2
    experts = config.experts
    if experts is None or layer < experts.n_dense_layers:
        return n * D * config.d_ff, config.ffn_bias * ((n - 1) * config.d_ff + D)
    several = (experts.per_token if active else experts.n_experts) + experts.n_shared
    outputs = several - max(experts.n_shared - 1, 0)  # shared experts are one network, with one bias of its output
    biases = config.ffn_bias * (several * (n - 1) * experts.d_expert + outputs * D)
    biases += (experts.router_bias + experts.correction_bias) * experts.n_experts
    return several * n * D * experts.d_expert + D * experts.n_experts, biases


@settings(max_examples=150, deadline=None)
@given(configs())
def test_parts_are_those_of_the_formulas(config):
    D, V = config.d_model, config.vocab_size
    stacks = [config.n_layers] if config.kind != "encoder-decoder" else [config.n_encoder_layers, config.n_layers]
    crosses = config.n_layers if config.kind == "encoder-decoder" else 0
    own = sum(attention(config))
    assert attention_parameters(config) == own
    tables = config.relative_buckets * config.n_heads * len(stacks) if config.positions == "relative" else 0
    norms = sum(stacks) * (1 if config.norm_placement == "parallel" else 2) + crosses
    norms += config.embedding_norm + (len(stacks) if config.norm_placement != "post" else 0)
    each = D * (2 if config.norm == "layer" and config.norm_bias else 1)
    learned = config.max_positions * D if config.positions == "learned" else 0
    head = 0 if config.kind == "encoder" or config.tied_head else D * V
    for active in (False, True):
        networks = [feed_forward(config, layer, active) for n in stacks for layer in range(n)]
        assert cost.parameters_by_part(config, active) == {
            "embedding": V * D + learned + config.n_token_types * D,
            "attention": (sum(stacks) + crosses) * own + tables,
            "feed_forward": sum(map(sum, networks)),
            "norms": norms * each,
            "head": head + (D * D + D if config.pooler else 0),
        }
    assert cost.parameters(config) == sum(cost.parameters_by_part(config).values())
    assert cost.active_parameters(config) == sum(cost.parameters_by_part(config, active=True).values())
    assert multiplied_parameters(config) == {
        "attention": (sum(stacks) + crosses) * attention(config)[0],
        "feed_forward": sum(matrices for matrices, _ in networks),
    }


def test_experts_of_both_stacks_are_read_as_tokens_fall_on_them():
    experts = Experts(n_experts=4, per_token=1, d_expert=5)
    config = small_config("encoder-decoder", n_encoder_layers=3, experts=experts, tied_head=False)
    every = cost.parameters_read(config, 10**9)
    one = 2 * 22 * 5 + 5 + 22  # up and down, with their biases
    assert every == cost.parameters(config) - 37 * 22
    assert every - cost.parameters_read(config, 1) == (2 + 3) * 3 * one
    dense = small_config(experts=Experts(n_experts=4, per_token=1, d_expert=5, n_dense_layers=2))
    assert cost.parameters_read(dense, 1) == cost.parameters_read(small_config(), 1)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.none() | st.integers(1, 50))
def test_visible_pairs_are_those_of_a_mask(context, new_tokens, window):
    new_tokens = min(new_tokens, context)
    queries = range(context - new_tokens, context)
    pairs = sum(query - key < (window or context) for query in queries for key in range(query + 1))
    assert visible_pairs(context, new_tokens, window) == pairs


def test_the_bytes_of_a_benchmark_are_those_of_the_matrices():
    config = small_config(n_kv_heads=3, positions="learned", norm="rms", qkv_bias=False)
    matrices = 2 * (attention(config)[0] + feed_forward(config, 0, False)[0]) + 22 * 37  # a tied head is read whole
    cache = 2 * 2 * 3 * 10 * 13
    assert bytes_read(config, "float32", 13) == 4 * (matrices + cache)
    assert bytes_read(config, "float16", 13) == 2 * (matrices + cache)
    outputs = 2 * (60 + 2 * 30 + 22 + 26 + 22) + 37
    assert bytes_read(config, "int8", 13) == matrices + 4 * outputs + 2 * cache
    assert [cache_dtype(name) for name in ("float32", "bfloat16", "float16", "int8", "int4")] == [
        "float32", "bfloat16", "float16", "float16", "float16",
    ]  # fmt: skip
