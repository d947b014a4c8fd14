"""The keys of rotary positions in a config.json: one reading and one writing for all families that have them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from tfguide.checkpoints.fields import Fields
from tfguide.config import ModelConfig
from tfguide.scalings import DynamicScaling, LinearScaling, LongRopeScaling, RopeScaling, Scaling, YarnScaling

KINDS = {name: name for name in ("default", "llama3", "linear", "dynamic", "yarn", "longrope")}
_ALL = "all features of a head are rotated"


def rope(fields: Fields, max_positions: int, default: float = 10_000.0) -> tuple[float, Scaling | None]:
    """The base and the scaling of the rotary frequencies, from `rope_parameters` or the older `rope_scaling`.

    max_positions: the key `max_position_embeddings`; default: the base where nothing gives one. Where a number is given
    twice, transformers takes the first of: the older object, unless it is empty; a base inside the object; a length of
    training outside it. Refuses heads that are rotated in part: for classes that have them, see `partial_rope`.
    """
    fields.fixed("partial_rotary_factor", 1.0, _ALL)
    theta, parameters = _parameters(fields, default)
    return (theta, None) if parameters is None else rotation(fields, parameters, theta, max_positions)


def rotation(fields: Fields, rope: Fields, theta: float | None, max_positions: int) -> tuple[float, Scaling | None]:
    """The base and the scaling in an object of rotary parameters. theta: the base outside of it."""
    rope.fixed("partial_rotary_factor", 1.0, _ALL)
    return _read(fields, rope, theta, max_positions)


def partial_rope(
    fields: Fields,
    max_positions: int,
    d_head: int,
    default: float = 10_000.0,
    kinds: Mapping[str, str] = KINDS,
    trained: int | None = None,
) -> tuple[float, Scaling | None, int]:
    """`rope`, and how many features of a head of `d_head` are rotated: the whole part of `partial_rotary_factor` d.

    kinds: the kind of scaling that each name stands for in the family; trained: what the family's class takes where no
    `original_max_position_embeddings` stands outside of the object.
    """
    share = fields.number("partial_rotary_factor", 1.0, null=True)
    theta, parameters = _parameters(fields, default)
    scaling = None
    if parameters is not None:
        share = parameters.number("partial_rotary_factor", share, null=True)
        theta, scaling = _read(fields, parameters, theta, max_positions, kinds, trained)
    share = 1.0 if share is None else share
    if not 0.0 < share <= 1.0:
        raise ValueError(f"{fields.source}: partial_rotary_factor must be above 0 and at most 1, got {share}")
    return theta, scaling, int(d_head * share)


def rope_keys(config: ModelConfig) -> dict[str, Any]:
    """The object `rope_parameters` of a configuration; see `share_keys`."""
    return {"rope_type": "default", "rope_theta": config.rope_theta} | _scaling_keys(config.rope_scaling)


def share_keys(config: ModelConfig) -> dict[str, float]:
    """The key of `rope_parameters` for heads that are rotated in part; none where they are rotated as a whole."""
    share = config.d_rotary / config.d_head
    exact = int(config.d_head * share) == config.d_rotary  # a reader takes the whole part of this product
    share = share if exact else math.nextafter(share, 1.0)
    return {} if config.d_rotary == config.d_head else {"partial_rotary_factor": share}


def longest(scaling: Scaling | None, max_positions: int) -> int | None:
    """The longest text, as a ModelConfig has it: `max_position_embeddings`, which DynamicScaling takes as trained."""
    return None if isinstance(scaling, DynamicScaling) else max_positions


def trained_positions(config: ModelConfig) -> int | None:
    """The key `max_position_embeddings` of a configuration; None: no limit."""
    scaling = config.rope_scaling
    return scaling.original_max_positions if isinstance(scaling, DynamicScaling) else config.max_positions


def _parameters(fields, default):
    """The base outside of the object of rotary parameters, and this object or None."""
    for name in ("_rope_type_labels", "default_rope_type"):  # names for kinds of layers, which Llama does not have
        fields.fixed(name, None, "one kind of rotation")
    theta = fields.number("rope_theta", default, null=True)
    older, parameters = fields.inner("rope_scaling"), fields.inner("rope_parameters")
    if older is not None and parameters is not None:
        fields.pass_over("rope_parameters", "rope_scaling comes first")
    parameters = parameters if older is None else older
    if parameters is None and theta is None:
        raise ValueError(f"{fields.source}: rope_theta must be a number where nothing else gives one, got None")
    return theta, parameters


def _read(fields, rope, theta, max_positions, kinds=KINDS, outside=None):
    rope.alias("type", "rope_type")
    kind = rope.choice("rope_type", "default", kinds)
    theta = rope.number("rope_theta", theta)
    scaling = None
    if kind == "linear":
        scaling = LinearScaling(factor=rope.number("factor", None))
    if kind == "dynamic":
        scaling = DynamicScaling(factor=rope.number("factor", None), original_max_positions=max_positions)
    if kind in ("llama3", "yarn", "longrope"):
        trained = rope.count("original_max_position_embeddings", max_positions)
        trained = fields.count("original_max_position_embeddings", outside) or trained
        scaling = {"llama3": _llama3, "yarn": _yarn, "longrope": _longrope}[kind](rope, trained, max_positions)
    rope.finish()
    return theta, scaling


def _llama3(rope, trained, max_positions):
    return RopeScaling(
        factor=rope.number("factor", None),
        low_freq_factor=rope.number("low_freq_factor", None),
        high_freq_factor=rope.number("high_freq_factor", None),
        original_max_positions=trained,
    )


def _yarn(rope, trained, max_positions):
    return YarnScaling(
        factor=_factor(rope, trained, max_positions, absent=False),
        original_max_positions=trained,
        attention_factor=rope.number("attention_factor", None, null=True),
        beta_fast=rope.number("beta_fast", None, null=True) or 32.0,
        beta_slow=rope.number("beta_slow", None, null=True) or 1.0,
        mscale=rope.number("mscale", None, null=True) or None,
        mscale_all_dim=rope.number("mscale_all_dim", None, null=True) or None,
        truncate=rope.flag("truncate", True, null=False),
    )


def _longrope(rope, trained, max_positions):
    return LongRopeScaling(
        short_factors=_factors(rope, "short_factor"),
        long_factors=_factors(rope, "long_factor"),
        original_max_positions=trained,
        factor=_factor(rope, trained, max_positions, absent=True),
        attention_factor=rope.number("attention_factor", None, null=True),
    )


def _factors(rope, key):
    factors = rope.entries(key, None)
    if not factors:
        raise ValueError(f"{rope.source}: {key} must be a list of a number for each pair of features, got {factors!r}")
    return tuple(factors)


def _factor(rope, trained, max_positions, absent):
    """The factor; null, or an absent key where that is allowed, stands for the quotient of the lengths."""
    factor = rope.number("factor", None, null=absent or rope.has("factor"))
    return max_positions / trained if factor is None else factor


def _scaling_keys(scaling):
    """The keys of a scaling, by the names of transformers, without those that are None."""
    if scaling is None:
        return {}
    names = {
        "kind": "rope_type", "original_max_positions": "original_max_position_embeddings",
        "short_factors": "short_factor", "long_factors": "long_factor",
    }  # fmt: skip
    keys = {names.get(name, name): value for name, value in dataclasses.asdict(scaling).items() if value is not None}
    keys = {name: list(value) if isinstance(value, tuple) else value for name, value in keys.items()}
    if isinstance(scaling, DynamicScaling):  # its length of training is the key `max_position_embeddings`
        del keys["original_max_position_embeddings"]
    return keys
