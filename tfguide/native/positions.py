"""The position tables that the kernels read."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tfguide.config import ModelConfig
from tfguide.frequencies import rotary_frequencies, sinusoidal_frequencies


class PositionTables:
    """Arrays by name with a row for each position, and their addresses. Arrays are never modified, only replaced."""

    def __init__(self, length: int, arrays: Mapping[str, np.ndarray]):
        self.length = length
        self._arrays = {name: np.ascontiguousarray(array, np.float32) for name, array in arrays.items()}
        self.addresses = {name: array.ctypes.data for name, array in self._arrays.items()}


def position_tables(config: ModelConfig, length: int, learned: np.ndarray | None) -> PositionTables:
    """The tables for texts of up to `length` positions. learned: the model's own table, or None."""
    positions = np.arange(length, dtype=np.float64)[:, None]
    if config.positions == "learned":
        return PositionTables(config.max_positions, {"positions": learned[config.position_offset :]})
    if config.positions == "rotary":
        kinds = {"": False, **({"local_": True} if config.n_sliding_layers else {})}
        angles = {
            name: positions * rotary_frequencies(config.d_head, *config.rope(kind)) for name, kind in kinds.items()
        }
        return PositionTables(length, {
            f"{name}{table}": function(x)
            for name, x in angles.items() for table, function in (("cos", np.cos), ("sin", np.sin))
        })  # fmt: skip
    if config.positions == "sinusoidal":
        angles = positions * sinusoidal_frequencies(config.d_model)
        table = np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(length, config.d_model)
        return PositionTables(length, {"positions": table})
    return PositionTables(length, {})
