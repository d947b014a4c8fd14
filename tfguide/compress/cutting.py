"""A part of the inputs or of the outputs of a packed weight: the same integers and scales, packed anew."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tfguide.compress import packing
from tfguide.compress.quantization import ACTIVATION_BLOCK, Quantization


def cut_packed(
    quantization: Quantization, arrays: Sequence[np.ndarray], shape: tuple[int, ...], axis: int, start: int, stop: int
) -> tuple[np.ndarray, ...]:
    """The arrays of a packed weight from `start` to `stop` along an axis of its shape.

    arrays: as `Quantization.pack` returns them for a weight of this shape, (in, out), or those of the experts
    (experts, in, out), stacked. Raises ValueError where inputs that share a scale would be cut.
    """
    if len(shape) == 3 and axis == 0:
        return tuple(array[start:stop] for array in arrays)
    if len(shape) == 3:
        cut = [cut_packed(quantization, parts, shape[1:], axis - 1, start, stop) for parts in zip(*arrays, strict=True)]
        return tuple(np.stack(parts) for parts in zip(*cut, strict=True))
    n_in, n_out = shape
    packed, scale, *unit = arrays
    if axis == 0:
        check_cut(quantization, n_in, start, stop)
        rows, columns, outputs = slice(None), slice(start, stop), slice(0, n_out)
    else:
        rows, columns, outputs = slice(start, stop), slice(None), slice(start, stop)
    if quantization.weight_bits == 8:
        q = packing.unpack_int8(packed, n_out, n_in)[rows, columns]
        return packing.pack_int8(q), packing.pack_scales(scale[outputs])
    size = quantization.group_size
    groups = slice(start // size, stop // size) if axis == 0 else slice(None)
    if quantization.asymmetric:
        q = packing.unpack_uint4(packed, n_out, n_in)[rows, columns]
        steps = packing.unpack_bytes(scale, n_out)[rows, groups]
        return packing.pack_uint4(q), packing.pack_bytes(steps), packing.pack_units(unit[0].T[outputs])
    q = packing.unpack_int4(packed, n_out, n_in)[rows, columns]
    steps = scale.transpose(0, 2, 1).reshape(-1, scale.shape[1])[:n_out][rows, groups]  # stays float16
    return packing.pack_int4(q), packing.pack_scales(steps)


def check_cut(quantization: Quantization, n_in: int, start: int, stop: int) -> None:
    """Raise ValueError where inputs that share a scale would be cut, those of a weight or of the activations."""
    unit = shared_inputs(quantization)
    if start % unit or (stop % unit and stop != n_in):
        raise ValueError(
            f"inputs {start} to {stop} of {n_in} cannot be cut out: {unit} of them share a scale in this quantisation"
        )


def shared_inputs(quantization: Quantization | None) -> int:
    """How many inputs share a scale, and so stay together: 1 where there is no such group."""
    if quantization is None:
        return 1
    sizes = [quantization.group_size or 1, ACTIVATION_BLOCK if quantization.activation_bits else 1]
    return int(np.lcm.reduce(sizes))
