"""On a simulated mesh, every layout gives the layer's output and sends what the closed forms say."""

import numpy as np
import pytest

import tfguide.reference as ref
from tfguide.cost import LAYOUTS, attention_communication, ffn_communication
from tfguide.sharding.mesh import Mesh, attention, feed_forward

MESHES = [(1, 1, 1), (2, 1, 1), (1, 2, 1), (1, 1, 3), (2, 3, 1), (2, 2, 2), (1, 2, 4), (4, 4, 4), (3, 1, 2)]
TOKENS, D, F = 192, 192, 384  # what every mesh above divides


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("sizes", MESHES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_feed_forward_layer(layout, sizes, gated):
    stream = np.random.default_rng(0)
    x, up, down, gate = (stream.normal(size=s) for s in ((TOKENS, D), (D, F), (F, D), (D, F)))
    mesh = Mesh(sizes)
    got = feed_forward(mesh, layout, x, up, down, gate if gated else None)
    hidden = np.maximum(x @ gate, 0) * (x @ up) if gated else np.maximum(x @ up, 0)
    want = hidden @ down
    assert np.abs(got - want).max() < 1e-10 * np.abs(want).max()
    formula = ffn_communication(layout, TOKENS, D, F, sizes, gated, exact=True)
    assert mesh.sent.keys() == formula.keys()
    for step, elements in formula.items():
        assert mesh.sent[step] == pytest.approx(elements, rel=1e-12), step
    if np.prod(sizes) > 1:
        assert sum(mesh.sent.values()) > 0


@pytest.mark.parametrize("kv_heads", [1, 6, 24, 192])
@pytest.mark.parametrize("sizes", MESHES, ids=str)
@pytest.mark.parametrize("how", ["head", "batch"])
def test_an_attention_layer(how, sizes, kv_heads):
    stream = np.random.default_rng(1)
    B, T, H, d = 192, 2, 192, 2
    x, query, output = (stream.normal(size=s) for s in ((B, T, D), (D, H * d), (H * d, D)))
    key, value = (stream.normal(size=(D, kv_heads * d)) / 10 for _ in range(2))
    visible = ref.causal_mask(T)
    attend = lambda q, k, v: ref.scaled_dot_product_attention(q, k, v, visible)  # noqa: E731
    mesh = Mesh(sizes)
    got = attention(mesh, how, x, query, key, value, output, H, kv_heads, attend)
    heads = [(x @ w).reshape(B, T, -1, d) for w in (query, key, value)]
    want = attend(*heads).reshape(B, T, -1) @ output
    assert np.abs(got - want).max() < 1e-10 * np.abs(want).max()
    formula = attention_communication(how, B * T, D, H, d, len(mesh.chips), exact=True)
    assert mesh.sent == pytest.approx(formula)


def test_what_a_mesh_refuses():
    x, up, down = np.ones((8, 6)), np.ones((6, 8)), np.ones((8, 6))
    with pytest.raises(ValueError, match="cannot divide 6 evenly"):
        feed_forward(Mesh((2, 2, 1)), "1d-ws", x, up, down)
    with pytest.raises(ValueError, match="three counts"):
        Mesh((2, 2))
    with pytest.raises(ValueError, match="mesh axis Y must be at least 1"):
        Mesh((2, 0, 1))
    with pytest.raises(ValueError, match="did you mean '2d-ws'"):
        feed_forward(Mesh((1, 1, 1)), "2d", x, up, down)
    with pytest.raises(ValueError, match="4 chips cannot divide 2 heads"):
        ones = np.ones((8, 8))
        attention(Mesh((4, 1, 1)), "head", np.ones((4, 1, 8)), ones, ones, ones, ones, 2, 2, None)
