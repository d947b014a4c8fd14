"""The position tables that the kernels read."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tfguide.config import ModelConfig
from tfguide.frequencies import attention_factor, rotary_frequencies, scaled_by_length, sinusoidal_frequencies


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
        if scaled_by_length(config.rope_scaling):  # no angle belongs to a position alone
            return PositionTables(length, {})
        return PositionTables(length, _rotations(config, positions[:, 0], positions[:, 0]))
    if config.positions == "sinusoidal":
        angles = positions * sinusoidal_frequencies(config.d_model)
        table = np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(length, config.d_model)
        return PositionTables(length, {"positions": table})
    return PositionTables(length, {})


def row_tables(config: ModelConfig, places: np.ndarray, lengths: np.ndarray) -> PositionTables:
    """The angles of tokens (n,) at `places`, in texts of `lengths`: see `scaled_by_length` of `tfguide.frequencies`."""
    return PositionTables(len(places), _rotations(config, places, lengths))


def _rotations(config, places, lengths):
    """Cosines and sines, and those of the layers with a window."""
    tables = {}
    for name, slides in (("", False), ("local_", True))[: 2 if config.n_sliding_layers else 1]:
        theta, scaling = config.rope(slides)
        angles = places[:, None] * rotary_frequencies(config.d_rotary, theta, scaling, lengths)
        tables[f"{name}cos"] = attention_factor(scaling) * np.cos(angles)
        tables[f"{name}sin"] = attention_factor(scaling) * np.sin(angles)
    return tables
