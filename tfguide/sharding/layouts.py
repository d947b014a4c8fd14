"""The elements that the chips of a mesh send each other for one layer, by the formulas of Pope et al. 2022.

A mesh has X x Y x Z chips, P together; D is d_model, F is d_ff. Weights of the feed-forward network stay where they
are (weight-stationary) and activations travel, or weights are gathered (weight-gathered) and activations stay:

    "1d-ws"   each chip keeps F / P of the hidden features
    "2d-ws"   each chip keeps D / X by F / (Y Z)
    "wg-x", "wg-xy", "wg-xyz"   as 2d-ws, with the weights gathered over X, X Y or all chips before each use

Tokens are those of the whole batch. Elements are counted on one chip; multiply by 2 bytes in bfloat16.
"""

from __future__ import annotations

from collections.abc import Sequence

from tfguide.checks.values import check_choice, check_count

LAYOUTS = ("1d-ws", "2d-ws", "wg-x", "wg-xy", "wg-xyz")


def ffn_communication(
    layout: str, tokens: int, d_model: int, d_ff: int, mesh: Sequence[int], gated: bool = False, exact: bool = False
) -> dict[str, float]:
    """The elements that one chip sends for a feed-forward layer, by term; the sum times the bytes is the traffic.

    mesh: (X, Y, Z). gated: three matrices instead of the paper's two. exact: with the factor (p - 1) / p of a
    collective over p chips, which the paper drops; the simulated mesh counts these numbers.
    Source: Pope et al. 2022, section 3.2 and appendix A. Raises ValueError for an unknown layout, with the nearest
    names, for counts below 1, and for a mesh that is not three counts.
    """
    check_choice("layout", layout, LAYOUTS)
    tokens = check_count("tokens", tokens)
    D, F = check_count("d_model", d_model), check_count("d_ff", d_ff)
    X, Y, Z = check_mesh(mesh)
    P, up = X * Y * Z, 2 if gated else 1

    def part(elements, p):
        return elements * (p - 1) / p if exact else float(elements)

    if layout == "1d-ws":
        return {"gather inputs": part(tokens * D, P), "scatter outputs": part(tokens * D, P)}
    if layout == "2d-ws":
        inner, hidden = tokens * D / X, tokens * F / (Y * Z)
        return {
            "gather inputs": part(inner, Y * Z),
            "scatter hidden": part(up * hidden, X),
            "gather hidden": part(hidden, X),
            "scatter outputs": part(inner, Y * Z),
        }
    p = {"wg-x": X, "wg-xy": X * Y, "wg-xyz": P}[layout]
    terms = {"gather weights": part((up + 1) * D * F * p / P, p)}
    if layout != "wg-xyz":
        # The exact factor is 1 - p / P: where all chips' weights are gathered, no activation travels.
        inner = tokens * D / p if p < P else 0.0
        terms |= {"gather inputs": part(inner, P // p), "scatter outputs": part(inner, P // p)}
    return terms


def attention_communication(
    attention: str, tokens: int, d_model: int, n_heads: int, d_head: int, chips: int, exact: bool = False
) -> dict[str, float]:
    """The elements that one chip sends for an attention layer whose projections keep the heads apart.

    attention: "head": each chip attends with its heads to all sequences. "batch": the queries travel to the chip that
    holds their sequence's cache, and the results back, two all-to-alls. Keys and values of one head are made where
    they are needed. Source: Pope et al. 2022, section 3.3. Raises ValueError.
    """
    check_choice("attention", attention, ("batch", "head"))
    tokens, d_model = check_count("tokens", tokens), check_count("d_model", d_model)
    n_heads, d_head = check_count("n_heads", n_heads), check_count("d_head", d_head)
    chips = check_count("chips", chips)

    def part(elements):
        return elements * (chips - 1) / chips if exact else float(elements)

    terms = {"gather inputs": part(tokens * d_model), "scatter outputs": part(tokens * d_model)}
    if attention == "batch":
        own = tokens * n_heads * d_head / chips
        terms |= {"queries to sequences": part(own), "results to heads": part(own)}
    return terms


def check_mesh(mesh: Sequence[int]) -> tuple[int, int, int]:
    """A mesh as three counts. Raises ValueError or TypeError."""
    if not isinstance(mesh, Sequence) or isinstance(mesh, str) or len(mesh) != 3:
        raise ValueError(f"mesh must be three counts (X, Y, Z), got {mesh!r}")
    return tuple(check_count(f"mesh axis {axis}", size) for axis, size in zip("XYZ", mesh, strict=True))


def meshes(chips: int) -> list[tuple[int, int, int]]:
    """Every way to lay out that many chips as X x Y x Z."""
    chips = check_count("chips", chips)
    return [
        (x, y, chips // x // y)
        for x in range(1, chips + 1)
        if chips % x == 0
        for y in range(1, chips // x + 1)
        if chips // x % y == 0
    ]


def best_mesh(layout: str, chips: int, tokens: int, d_model: int, d_ff: int, gated: bool = False):
    """The mesh on which a layout sends the fewest elements; of equals, the one nearest to a cube."""
    return min(
        meshes(chips),
        key=lambda mesh: (
            round(sum(ffn_communication(layout, tokens, d_model, d_ff, mesh, gated, exact=True).values()), 6),
            max(mesh) - min(mesh),
            mesh,
        ),
    )
