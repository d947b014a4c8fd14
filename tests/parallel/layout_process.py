"""What one of several processes does in `test_layouts_torch.py`: decoders of DTensors, plans that are run, refusals.

`python -m tests.parallel.layout_process FOLDER`, which `launch` starts; every process writes what it has found.
"""

import json
import sys
from pathlib import Path

import numpy as np

from tests.parallel.shared import PROMPTS
from tests.support import random_weights, small_config
from tfguide import Experts, LatentAttention, ModelConfig, Sampling, cost

TOKENS = np.random.default_rng(0).integers(0, 37, (3, 7))
VALID = np.arange(7) < np.array([[3], [5], [7]])
SMALL = dict(n_heads=8, d_ff=24, vocab_size=44)
FAMILIES = {
    "plain": small_config(**SMALL),
    "grouped": small_config(**SMALL, n_kv_heads=4, positions="rotary", activation="swiglu", norm="rms"),
    "two key/value heads": small_config(**SMALL, n_kv_heads=2, positions="rotary"),
    "one key/value head": small_config(**SMALL, n_kv_heads=1, positions="rotary", norm_placement="parallel"),
    "uneven words": small_config(**SMALL | {"vocab_size": 37}, tied_head=False, positions="alibi"),
    "norms and sinks": small_config(**SMALL, qk_norm=True, attention_sinks=True, norm_placement="both"),
    "window": small_config(**SMALL, sliding_window=3, positions="rotary"),
    "relative": small_config(**SMALL, positions="relative"),
    "latent": small_config(
        **SMALL, d_head=12, positions="rotary", qkv_bias=False, output_bias=False,
        latent=LatentAttention(kv_rank=16, d_nope=8, d_rope=4, d_value=8),
    ),
}  # fmt: skip
#: Which of them so many processes try: half, or all in the slow test.
TRIED = {
    2: ("plain", "norms and sinks", "window", "relative"),
    4: ("grouped", "two key/value heads", "one key/value head", "uneven words", "latent"),
    8: tuple(FAMILIES),
}
EXPERTS = small_config(
    n_heads=4, activation="swiglu", ffn_bias=False, experts=Experts(n_experts=4, per_token=2, d_expert=12)
)
BATCH, CONTEXT = 8, 16


def planned(n, kv_heads):
    """The cheapest way to decode, and to read the prompts, of a small model on n chips: two steps."""
    config = ModelConfig(
        kind="decoder", d_model=64, n_layers=3, n_heads=8, n_kv_heads=kv_heads, d_head=16, d_ff=256, vocab_size=96,
        positions="rotary",
    )  # fmt: skip
    plan = cost.plan(config, "tpu-v4", BATCH, CONTEXT, chips=n)
    return config, {"decode": plan.decode, "prefill": plan.prefill}


def run_plan(config, step):
    """A layer of a model in the layout, on the mesh and with the attention of a plan: how far it is, what it sends."""
    import torch

    import tfguide.torch as framework
    from tfguide.sharding.mesh import attention, feed_forward, relu
    from tfguide.torch.parallel.mesh import ProcessMesh

    stream, tokens = np.random.default_rng(0), step.batch * step.new_tokens
    D, F, d = config.d_model, config.d_ff, config.d_head
    heads = [n * d for n in (config.n_heads, config.n_kv_heads, config.n_kv_heads)]
    sizes = (tokens, D), (D, F), (F, D), *((D, wide) for wide in heads), (heads[0], D)
    x, up, down, *weights = (torch.from_numpy(stream.normal(size=size) / size[0] ** 0.5) for size in sizes)
    visible = framework.causal_mask(step.new_tokens)

    def attend(query, key, value):
        return framework.scaled_dot_product_attention(query, key, value, visible)

    with ProcessMesh(step.mesh) as mesh:
        y = feed_forward(mesh, step.layout, x, up, down)
        network = dict(mesh.sent)
    sequences = x.reshape(step.batch, step.new_tokens, D)
    with ProcessMesh(step.mesh) as mesh:
        z = attention(mesh, step.attention, sequences, *weights, config.n_heads, config.n_kv_heads, attend)
        attended = dict(mesh.sent)
    split = [(sequences @ weight).unflatten(2, (-1, d)) for weight in weights[:3]]
    whole = attend(*split).flatten(2) @ weights[3]
    difference = max(float((y - relu(x @ up) @ down).abs().max()), float((z - whole).abs().max()))
    return {"difference": difference, "feed-forward": network, "attention": attended}


def decoder(config, mesh):
    """A decoder of DTensors beside that of one process."""
    import torch

    import tfguide.torch as framework
    from tfguide.torch.parallel.dtensor import parallel_from_weights

    weights = random_weights(config)
    whole, model = framework.from_weights(config, weights), parallel_from_weights(config, weights, mesh)
    for array in weights.values():  # the models have their own
        array.fill(np.nan)
    before = dict(mesh.sent)
    with torch.no_grad():
        got, expected = model(TOKENS, VALID), whole(TOKENS, VALID)
    found = {
        "difference": float((got - expected)[torch.from_numpy(VALID)].abs().max()),
        "sent": {step: count - before.get(step, 0.0) for step, count in mesh.sent.items()},
        "held": sum(weight.to_local().untyped_storage().nbytes() // 4 for weight in model.parameters()),
    }
    options = dict(sampling=Sampling(temperature=0), stop_tokens=())
    one, other = (framework.generate(each, PROMPTS, 4, **options) for each in (model, whole))
    return found | {"tokens": np.array_equal(one, other)}


def other_types(mesh):
    """Half precision, caches of other types, and a cache in blocks."""
    import tfguide.torch as framework
    from tfguide.serving import Engine, Request
    from tfguide.torch.parallel.dtensor import parallel_from_weights

    config = FAMILIES["grouped"]
    weights = random_weights(config)
    whole, model = framework.from_weights(config, weights), parallel_from_weights(config, weights, mesh)
    found = {}
    for dtype in ("float16", "int8"):
        one, other = (
            framework.generate(each, PROMPTS, 4, stop_tokens=(), cache_dtype=dtype) for each in (model, whole)
        )
        found[f"{dtype} cache"] = np.array_equal(one, other)
    cache = [each.new_cache(2, 16).nbytes for each in (model, whole)]
    found["cache bytes"] = cache[1] / cache[0]
    requests = [Request(prompt=tuple(prompt), max_new_tokens=6, stop_tokens=()) for prompt in PROMPTS]
    texts = [
        [list(text.tokens) for texts in Engine(each, n_blocks=8, rows=2, tokens=8).run(requests) for text in texts]
        for each in (model, whole)
    ]
    found["engine"] = texts[0] == texts[1]
    half = [
        framework.from_weights(config, weights, "bfloat16"),
        parallel_from_weights(config, weights, mesh, "bfloat16"),
    ]
    one, other = (each(TOKENS).float() for each in half)
    found["bfloat16 difference"] = float((one - other).abs().max())
    return found


def refusals(n):
    """What is said where something does not fit."""
    from tfguide.torch.parallel.devices import DeviceMesh
    from tfguide.torch.parallel.dtensor import attention, feed_forward, parallel_from_weights
    from tfguide.torch.parallel.mesh import ProcessMesh

    mesh, odd = DeviceMesh((n, 1, 1)), small_config(n_heads=3)
    ones, three = np.ones((4, 4)), np.ones((3, 1, 4))
    calls = {
        "mesh": lambda: ProcessMesh((n, 2, 1)),
        "device mesh": lambda: DeviceMesh((1, 1, 1)),
        "experts": lambda: parallel_from_weights(EXPERTS, random_weights(EXPERTS), mesh),
        "heads": lambda: parallel_from_weights(odd, random_weights(odd), mesh),
        "4 bits": lambda: parallel_from_weights(
            FAMILIES["plain"], random_weights(FAMILIES["plain"]), mesh
        ).new_cache(1, 8, "int4"),
        "layout": lambda: feed_forward(mesh, "2d", ones, ones, ones),
        "sequences": lambda: attention(mesh, "batch", three, ones, ones, ones, ones, 4, 4, None),
        "attention heads": lambda: attention(mesh, "head", three, ones, ones, ones, ones, 1, 1, None),
    }  # fmt: skip
    said = {}
    for name, call in calls.items():
        try:
            call()
        except ValueError as error:
            said[name] = str(error)
    return said


def main(folder):
    """Do all checks, and write what this process has found."""
    from tfguide.torch.parallel import joined
    from tfguide.torch.parallel.devices import DeviceMesh

    with joined() as group:
        n = group.n
        mesh = DeviceMesh((n, 1, 1))
        found = {"plans": {}, "families": {name: decoder(FAMILIES[name], mesh) for name in TRIED[n]}}
        for kv_heads in (1, 8):
            config, steps = planned(n, kv_heads)
            found["plans"][str(kv_heads)] = {phase: run_plan(config, step) for phase, step in steps.items()}
        if n == 2:
            found |= {"types": other_types(mesh), "refusals": refusals(n)}
        Path(folder, f"{group.rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
