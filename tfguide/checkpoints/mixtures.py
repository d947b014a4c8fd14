"""What the folders of mixtures of experts share: the names of their tensors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tfguide.checkpoints.layout import Place, Stack
from tfguide.config import ModelConfig


def experts(
    config: ModelConfig, ours: str, theirs: str, own: Sequence[str] = ("gate_proj", "up_proj", "down_proj")
) -> Iterator[tuple[str, Place | Stack]]:
    """The places of the router and of the experts of one layer, in the layout of Mixtral, without biases.

    own: the names of the gate, of up and of down in the module of one expert.
    """
    yield f"{ours}.router.weight", Place(f"{theirs}.gate.weight", transposed=True)
    width = config.experts.d_expert
    wholes = (
        Place(f"{theirs}.experts.gate_up_proj", True, range(width), 2 * width),
        Place(f"{theirs}.experts.gate_up_proj", True, range(width, 2 * width), 2 * width),
        Place(f"{theirs}.experts.down_proj", transposed=True),
    )
    for part, name, whole in zip(("gate", "up", "down"), own, wholes, strict=True):
        places = (
            Place(f"{theirs}.experts.{e}.{name}.weight", transposed=True) for e in range(config.experts.n_experts)
        )
        yield f"{ours}.experts.{part}.weight", Stack(tuple(places), whole)
