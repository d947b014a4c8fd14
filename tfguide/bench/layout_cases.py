"""The layers that are carried out in every layout, on meshes and processes of every kind."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import tfguide.reference
from tfguide.sharding import mesh as layouts
from tfguide.sharding.layouts import LAYOUTS, attention_communication, ffn_communication, meshes

# Every mesh of 8 processes divides these sizes, and no two of them are the same.
TOKENS, D, F = 40, 56, 88  # of a feed-forward layer
B, T, H, d = 24, 5, 8, 13  # of an attention layer
KV_HEADS = (8, 4, 1)  # as many as query heads, grouped, and one


@dataclass(frozen=True)
class Case:
    """A layer in a layout on a mesh. layout: one of LAYOUTS, or how attention is divided, "head" or "batch"."""

    layer: str  # "feed-forward" or "attention"
    layout: str
    mesh: tuple[int, int, int]
    gated: bool = False
    kv_heads: int | None = None

    def arrays(self) -> list[np.ndarray]:
        """The inputs of the layer, float64: x and its weights, of which all outputs are about 1."""
        stream = np.random.default_rng(0)

        def weight(n_in, n_out):
            return stream.normal(size=(n_in, n_out)) / n_in**0.5

        if self.layer == "feed-forward":
            arrays = [stream.normal(size=(TOKENS, D)), weight(D, F), weight(F, D)]
            return [*arrays, weight(D, F)] if self.gated else arrays
        heads = [weight(D, n * d) for n in (H, self.kv_heads, self.kv_heads)]
        return [stream.normal(size=(B, T, D)), *heads, weight(H * d, D)]

    def undivided(self) -> np.ndarray:
        """The output of the layer without any mesh, by the reference's formulas."""
        x, *weights = self.arrays()
        if self.layer == "feed-forward":
            up, down, *gate = weights
            return (layouts.relu(x @ gate[0]) * (x @ up) if gate else layouts.relu(x @ up)) @ down
        heads = [(x @ weight).reshape(B, T, -1, d) for weight in weights[:3]]
        return causal(tfguide.reference)(*heads).reshape(B, T, -1) @ weights[3]

    def closed_form(self) -> dict[str, float]:
        """The elements that one process sends, by step."""
        if self.layer == "feed-forward":
            return ffn_communication(self.layout, TOKENS, D, F, self.mesh, self.gated, exact=True)
        return attention_communication(self.layout, B * T, D, H, d, math.prod(self.mesh), exact=True)

    def run(self, code: Any, mesh: Any, library: Any, convert: Callable[[np.ndarray], Any]) -> np.ndarray:
        """The output of the layer, by the functions `feed_forward` and `attention` of `code` on its mesh.

        library: the implementation of this package, which attends. convert: makes an array what `code` computes with.
        """
        arrays = [convert(array) for array in self.arrays()]
        if self.layer == "feed-forward":
            return np.asarray(code.feed_forward(mesh, self.layout, *arrays))
        return np.asarray(code.attention(mesh, self.layout, *arrays, H, self.kv_heads, causal(library)))


def cases(n: int) -> list[Case]:
    """Every layer in every layout on the meshes of n processes that differ for it."""
    found = []
    for layout in LAYOUTS:
        for mesh in meshes(n):
            # One dimension has no axes; where Y and Z stand together everywhere, only their product matters.
            same = mesh[:2] != (1, 1) if layout == "1d-ws" else mesh[1] != 1 and layout != "wg-xy"
            found += [] if same else [Case("feed-forward", layout, mesh, gated) for gated in (False, True)]
    found += [Case("attention", how, (1, 1, n), kv_heads=K) for how in ("head", "batch") for K in KV_HEADS]
    return found


def causal(library: Any) -> Callable[[Any, Any, Any], Any]:
    """Attention in an implementation of this package, from heads to heads, where no position looks ahead."""
    return lambda query, key, value: library.scaled_dot_product_attention(query, key, value, library.causal_mask(T))


def run_all(
    n: int, code: Any, make_mesh: Callable[[Sequence[int]], Any], library: Any, convert: Callable[[np.ndarray], Any]
) -> list[dict]:
    """For each of `cases(n)` the largest difference from the undivided layer, and the elements sent by step.

    make_mesh: the mesh of these sizes; the other arguments are those of `Case.run`.
    """
    found, make_mesh = [], functools.cache(make_mesh)  # a mesh of processes has groups, which take time to make
    for case in cases(n):
        mesh = make_mesh(case.mesh)
        before = dict(mesh.sent)
        difference = float(np.abs(case.run(code, mesh, library, convert) - case.undivided()).max())
        found.append({"difference": difference, "sent": without_zeros(mesh.sent, before)})
    return found


def without_zeros(sent: Mapping[str, float], before: Mapping[str, float] | None = None) -> dict[str, float]:
    """The elements that were sent by step since `before`, without the steps that have sent nothing."""
    since = {step: elements - (before or {}).get(step, 0.0) for step, elements in sent.items()}
    return {step: elements for step, elements in since.items() if elements}
