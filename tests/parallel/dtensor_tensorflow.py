"""What test_dtensor_tensorflow.py runs in processes of their own: TensorFlow makes virtual devices only as it starts.

The first argument names a function below, the others are numbers for it. Prints the results as one line of JSON.
"""

import json
import os
import sys
from typing import ClassVar

import numpy as np
import tensorflow as tf
from tensorflow.experimental import dtensor
from tensorflow.python.eager import context  # the only way to the graphs that DTensor has made of eager operations

import tfguide.tensorflow as tg
from tests.support import random_weights, small_config
from tfguide import Experts, LatentAttention, Sampling
from tfguide.loading import find_checkpoint
from tfguide.sharding.cuts import piece_of
from tfguide.sharding.layouts import LAYOUTS, attention_communication, ffn_communication
from tfguide.sharding.mesh import Mesh
from tfguide.sharding.mesh import feed_forward as simulated
from tfguide.tensorflow.parallel.devices import start
from tfguide.tensorflow.parallel.dtensor import DeviceMesh, attention, feed_forward, parallel_from_weights
from tfguide.weights import weight_table

MESHES = [(1, 1, 1), (2, 1, 1), (1, 2, 1), (4, 1, 1), (2, 2, 1), (1, 2, 2), (8, 1, 1), (2, 2, 2), (1, 2, 4), (1, 1, 8)]
T, D, F = 32, 48, 64
SENDS = {"CollectiveGatherV2": 1, "CollectiveAllToAllV2": 1, "CollectiveReduceV2": 2}  # times (p - 1) / p of the result


class Watched(DeviceMesh):
    """A mesh that also reads, of each change of layout, which collectives TensorFlow runs on its first device.

    TensorFlow gives the graph of an operation out when it runs first; afterwards it is the same one.
    """

    graphs: ClassVar = {}

    def __init__(self, sizes):
        super().__init__(sizes)
        self.real, self.kinds = {}, set()

    def _counting_with(self, other):
        self.real, self.kinds = other.real, other.kinds
        return super()._counting_with(other)

    def relayout(self, x, specs, axis, step):
        context.context().enable_run_metadata()
        y = super().relayout(x, specs, axis, step)
        found = collectives(context.context().export_run_metadata())
        context.context().disable_run_metadata()
        kind, elements, p = self.graphs.setdefault((self.sizes, tuple(x.shape), axis, tuple(specs)), found)
        self.real[step] = self.real.get(step, 0.0) + SENDS[kind] * elements * (p - 1) / p
        self.kinds.add(kind)
        return y


def collectives(metadata):
    """The last collective of the first device in the graphs: its name, the elements of its result, its devices.

    TensorFlow may give out the graph of the operation before with it.
    """
    found = []
    for part in (part for graph in metadata.function_graphs for part in graph.partition_graphs):
        nodes = {node.name: node for node in part.node}
        for node in nodes.values():
            if node.op.startswith("Collective") and node.device.endswith("CPU:0"):
                shape = [size.size for size in node.attr["_output_shapes"].list.shape[0].dim]
                p = int(tf.make_ndarray(nodes[node.input[1]].attr["value"].tensor))
                found.append((node.op, int(np.prod(shape)), p))
    return found[-1] if found else None


def arrays(*shapes):
    stream = np.random.default_rng(0)
    return [stream.normal(size=shape).astype(np.float32) for shape in shapes]


def layers(n):
    """Every layout on every mesh of up to n devices."""
    start(n)
    dtensor._reset_dtensor_device(is_async=False)  # else the graph of an operation may come out with a later one's
    rows = [feed_forward_row(s, layout, gated) for s in MESHES for layout in LAYOUTS for gated in (False, True)]
    rows += [attention_row(s, how, K) for s in MESHES for how in ("head", "batch") for K in (1, 4, 8)]
    return rows


def feed_forward_row(sizes, layout, gated):
    x, up, down, gate = arrays((T, D), (D, F), (F, D), (D, F))
    mesh, chips = Watched(sizes), Mesh(sizes)
    got = feed_forward(mesh, layout, x, up, down, gate if gated else None)
    want = (np.maximum(x @ gate, 0) * (x @ up) if gated else np.maximum(x @ up, 0)) @ down
    simulated(chips, layout, x, up, down, gate if gated else None)
    closed = ffn_communication(layout, T, D, F, sizes, gated, exact=True)
    return row(mesh, got, want, closed) | {"layout": layout, "gated": gated, "simulated": chips.sent}


def attention_row(sizes, how, K):
    B, L, H, d = 8, 3, 8, 6
    x, query, key, value, output = arrays((B, L, D), (D, H * d), (D, K * d), (D, K * d), (H * d, D))
    mesh, visible = Watched(sizes), tg.causal_mask(L)
    attend = lambda q, k, v: tg.scaled_dot_product_attention(q, k, v, visible)  # noqa: E731
    got = attention(mesh, how, x, query, key, value, output, H, K, attend)
    heads = [(x @ weight).reshape(B, L, -1, d) for weight in (query, key, value)]
    want = attend(*heads).numpy().reshape(B, L, -1) @ output
    closed = attention_communication(how, B * L, D, H, d, mesh.n, exact=True)
    return row(mesh, got, want, closed) | {"layout": f"attention by {how}", "K": K}


def row(mesh, got, want, closed):
    """What a layer gave and sent. A step over one device has no collective."""
    real = {step: mesh.real.get(step, 0.0) for step in mesh.sent}
    return {
        "mesh": mesh.sizes, "processes": 1, "largest difference": float(np.abs(got - want).max() / np.abs(want).max()),
        "counted": real, "sent": mesh.sent, "closed form": closed, "kinds": sorted(mesh.kinds),
    }  # fmt: skip


MODELS = {
    "learned": dict(),
    "grouped": dict(n_kv_heads=2, positions="rotary", activation="swiglu", norm="rms"),
    "one key head": dict(n_kv_heads=1, positions="rotary", vocab_size=40),
    "alibi": dict(positions="alibi", tied_head=False, vocab_size=40),
    "window": dict(positions="rotary", sliding_window=3),
    "modified": dict(positions="rotary", qk_norm=True, attention_sinks=True, attention_softcap=5.0),
    "latent": dict(
        d_head=12, positions="rotary", qkv_bias=False, output_bias=False,
        latent=LatentAttention(kv_rank=16, d_nope=8, d_rope=4, d_value=8),
    ),
    "experts": dict(activation="swiglu", experts=Experts(n_experts=8, per_token=2, d_expert=12, n_shared=1)),
}  # fmt: skip


def models(n, *which):
    """Small decoders on n devices: logits of padded rows, tokens of prompts of unequal lengths, and what is held."""
    start(n)
    mesh, results = DeviceMesh((n, 1, 1)), {}
    for name, changes in list(MODELS.items())[slice(*which or [None])]:
        config = small_config(**(dict(n_heads=4, d_ff=32) | changes))
        weights = random_weights(config)
        one, model = tg.from_weights(config, weights), parallel_from_weights(config, weights, mesh)
        tokens = np.random.default_rng(0).integers(0, config.vocab_size, (3, 7))
        valid = np.arange(7) < np.array([[2], [4], [7]])
        difference = np.abs(one(tokens, valid=valid) - model(tokens, valid=valid)).max()
        options = dict(max_new_tokens=6, sampling=Sampling(temperature=0.0))
        texts = [tg.generate(each, [[1, 2, 3], [4, 5, 6, 7, 8], [9]], **options) for each in (one, model)]
        results[name] = {"difference": float(difference), "same": same(*texts), "own": owns(config, model, n)}
    return results


def same(one, other):
    return [list(map(int, row)) for row in one] == [list(map(int, row)) for row in other]


def owns(config, model, n):
    """Whether each device has of each weight what `piece_of` says, or all of it where the words are not divided."""
    for name, weight in weight_table(config).items():
        for rank, own in enumerate(dtensor.unpack(model.pieces[name])):
            piece = piece_of(config, weight, n, rank)
            whole = piece.copies > 1 or weight.shape[piece.axis] % n
            if tuple(own.shape) != (weight.shape if whole else piece.shape_of(weight)):
                return False
    return True


def smollm(n):
    """SmolLM2 on n devices: the tokens after two prompts, and the largest difference of the logits."""
    start(n)
    one = tg.load_checkpoint(find_checkpoint(None))
    config, weights = one.config, tg.to_weights(one)
    one, model = tg.from_weights(config, weights), parallel_from_weights(config, weights, DeviceMesh((n, 1, 1)))
    prompts = [[504, 3575, 282, 4649, 314], [28, 29]]
    difference = np.abs(one(prompts[:1]) - model(prompts[:1])).max()
    texts = [tg.generate(each, prompts, max_new_tokens=8, sampling=Sampling(temperature=0.0)) for each in (one, model)]
    return {"difference": float(difference), "same": same(*texts)}


def client(n):
    """One of several processes, which have n devices together: every layout."""
    start(n)
    x, up, down = arrays((T, D), (D, F), (F, D))
    want, rows = np.maximum(x @ up, 0) @ down, []
    for layout in LAYOUTS:
        mesh = DeviceMesh((2, n // 2, 1))
        got = feed_forward(mesh, layout, x, up, down)
        closed = ffn_communication(layout, T, D, F, mesh.sizes, exact=True)
        difference = float(np.abs(got - want).max() / np.abs(want).max())
        rows.append({"layout": layout, "mesh": mesh.sizes, "gated": False, "processes": dtensor.num_clients(),
                     "largest difference": difference, "counted": mesh.sent, "closed form": closed})  # fmt: skip
    dtensor.barrier(mesh.mesh)  # no process ends while another one still waits for its parts
    return rows


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](*map(int, sys.argv[2:]))), flush=True)
    os._exit(0)  # TensorFlow has no way to leave a cluster of DTensor, and aborts at exit
