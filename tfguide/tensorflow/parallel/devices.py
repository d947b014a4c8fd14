"""A mesh of virtual devices, of one process or of several, and the changes of layout that move tensors among them.

A tensor has three leading axes, one for each axis of the mesh: of its size where its parts differ, and cut along it,
and 1 where all devices have the same. A missing sum is then an axis like others, for which DTensor has no layout. All
products are local; only the changes of layout below move anything.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf
from tensorflow.experimental import dtensor

from tfguide.checks.values import check_count
from tfguide.sharding.layouts import check_mesh
from tfguide.sharding.mesh import ALL, Mesh

LEADING = len(ALL)
UNCUT = dtensor.UNSHARDED


def start(n: int) -> None:
    """Give TensorFlow n virtual CPU devices, before it computes anything.

    Where DTENSOR_NUM_CLIENTS says that several processes compute together, each of them, DTENSOR_CLIENT_ID, has its
    share of the n devices and connects to the others, at DTENSOR_JOBS.
    Raises ValueError if the processes do not divide n, RuntimeError if TensorFlow has started with fewer devices.
    """
    check_count("devices", n)
    processes = dtensor.num_clients()
    if n % processes:
        raise ValueError(f"{processes} processes cannot divide {n} devices evenly")
    try:
        if processes > 1:
            dtensor.initialize_accelerator_system("CPU", num_logical_cpu_devices=n // processes)
        else:
            cpu = tf.config.list_physical_devices("CPU")[0]
            tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * n)
    except (RuntimeError, ValueError) as error:
        if dtensor.num_global_devices("CPU") < n:
            raise RuntimeError(f"start({n}) must come before TensorFlow computes anything: {error}") from error


class DeviceMesh:
    """X x Y x Z devices. `sent`: the elements that one device has sent, by the name of the step.

    They are counted as `tfguide.sharding.Mesh` counts: a collective over p devices sends (p - 1) / p of its larger
    side, as the real parts are before and after it. Raises ValueError for sizes that are not three counts, and
    RuntimeError where there are fewer devices.
    """

    def __init__(self, sizes: Sequence[int]):
        self.sizes = check_mesh(sizes)
        self.n = math.prod(self.sizes)
        self.sent: dict[str, float] = {}
        # Else DTensor gathers on CPUs by a sum of parts that are padded with zeros, which sends twice as much.
        os.environ["LOWER_DTENSOR_GATHER_TO_COLLECTIVE_GATHER_V2"] = "1"
        dims, processes = list(zip("xyz", self.sizes, strict=True)), dtensor.num_clients()
        have = dtensor.num_global_devices("CPU")
        if have < self.n:
            raise RuntimeError(f"a mesh {self.sizes} has {self.n} devices, got {have}: call start({self.n}) first")
        own = dtensor.local_devices("CPU")[: self.n // processes]
        if processes > 1:
            self.mesh = dtensor.create_distributed_mesh(dims, local_devices=own, device_type="CPU")
        else:
            self.mesh = dtensor.create_mesh(dims, devices=own)

    def line(self) -> DeviceMesh:
        """The same devices as a mesh (n, 1, 1), which counts into the same `sent`."""
        return type(self)((self.n, 1, 1))._counting_with(self)

    def shard(self, array: np.ndarray, **dims: Sequence[int]) -> tf.Tensor:
        """Divide an array among the devices, `dim0=(X,)` its first dimension along X; (X, Y, Z, ...).

        Raises ValueError if a dimension cannot be divided evenly.
        """
        parts = Mesh(self.sizes).shard(np.asarray(array), **dims)
        own = [tuple(place[axis] for axis in "xyz") for place in self.mesh.local_device_locations()]
        pieces = [tf.constant(parts[chip][None, None, None]) for chip in own]
        return dtensor.pack(pieces, self._layout([*"xyz"] + [UNCUT] * array.ndim))

    def whole(self, array: np.ndarray) -> tf.Tensor:
        """An array that every device has, (1, 1, 1, ...)."""
        own = tf.constant(np.asarray(array)[None, None, None])
        return dtensor.copy_to_mesh(own, self._layout([UNCUT] * len(own.shape)))

    def unshard(self, x: tf.Tensor) -> np.ndarray:
        """The parts of all devices, (X, Y, Z, ...), in this process; not counted, as it only serves inspection."""
        specs = self._specs(x)
        for axis in ALL:
            if specs[axis] != UNCUT:
                specs[axis] = UNCUT
                x = dtensor.relayout(x, self._layout(specs))
        return dtensor.unpack(x)[0].numpy()

    def all_gather(self, x: tf.Tensor, axes: Sequence[int], dim: int, step: str) -> tf.Tensor:
        """Every device gets the parts of all devices along some axes, joined along `dim`."""
        self.sent.setdefault(step, 0.0)
        for axis in reversed(axes):  # DTensor gathers along one axis after another; together they send as much as one
            if self.sizes[axis] == 1:
                continue
            specs = self._specs(x)
            specs[axis] = UNCUT
            x = _join(self.relayout(x, specs, axis, step), axis, LEADING + dim)
            x = tf.expand_dims(x, axis)
        return x

    def reduce_scatter(self, x: tf.Tensor, axes: Sequence[int], dim: int, step: str) -> tf.Tensor:
        """The sum of the parts along some axes, divided along `dim`: an exchange of shares, and local sums of them."""
        self.sent.setdefault(step, 0.0)
        for axis in axes:
            if self.sizes[axis] > 1:
                x = tf.reduce_sum(self._exchange(x, axis, LEADING + dim, step), 0)
                x = _move(x, LEADING + dim - 1, axis)
        return x

    def all_to_all(self, x: tf.Tensor, axis: int, split: int, join: int, step: str) -> tf.Tensor:
        """Change the division along an axis from the dimension `join` to the dimension `split`."""
        self.sent.setdefault(step, 0.0)
        if self.sizes[axis] == 1:
            return x
        split, join = LEADING + split, LEADING + join
        x = self._exchange(x, axis, split, step)
        x = _join(x, 0, join + (join > split))
        return _move(x, split - 1, axis)

    def cut(self, x: tf.Tensor, axis: int, dim: int) -> tf.Tensor:
        """Each device keeps its part along `dim` of what all have; nothing is sent."""
        if self.sizes[axis] == 1:
            return x
        specs = self._specs(x)
        specs.insert(LEADING + dim, "xyz"[axis])
        x = dtensor.relayout(self._split(x, axis, LEADING + dim), self._layout(specs))
        return _move(tf.squeeze(x, axis), LEADING + dim - 1, axis)

    def locally(self, function: Callable[..., tf.Tensor], *tensors: tf.Tensor) -> tf.Tensor:
        """A function of the parts (...) on each device, of tensors whose parts all differ."""
        parts = [function(*(part[0, 0, 0] for part in own)) for own in zip(*map(dtensor.unpack, tensors), strict=True)]
        return dtensor.pack([part[None, None, None] for part in parts], self._layout(self._specs(tensors[0])))

    def relayout(self, x: tf.Tensor, specs: list[str], axis: int, step: str) -> tf.Tensor:
        """One collective along an axis, counted: `x` in the layout `specs`."""
        y = dtensor.relayout(x, self._layout(specs))
        larger = max(math.prod(dtensor.unpack(side)[0].shape) for side in (x, y))
        self.sent[step] += larger * (self.sizes[axis] - 1) / self.sizes[axis]
        return y

    def _counting_with(self, other):
        self.sent = other.sent
        return self

    def _exchange(self, x, axis, dim, step):
        """Divide `dim` along an axis: a new one there is cut, and the leading one, no longer cut, is the first.

        The front then says from whom a part came. It has to be there: in TensorFlow 2.21, an all-to-all on CPUs mixes
        the parts up unless the first dimension is cut, before it or after it.
        """
        specs = self._specs(x)
        specs.pop(axis)
        specs.insert(dim - 1, "xyz"[axis])
        return self.relayout(_move(self._split(x, axis, dim), axis, 0), [UNCUT, *specs], axis, step)

    def _split(self, x, axis, dim):
        n, size = self.sizes[axis], x.shape[dim]
        if size % n:
            raise ValueError(f"{n} chips cannot divide {size} evenly: choose sizes that the mesh divides")
        return tf.reshape(x, (*x.shape[:dim], n, size // n, *x.shape[dim + 1 :]))

    def _specs(self, x):
        """The layout of a tensor: its leading dimensions are cut unless they are 1."""
        cut = [name if size > 1 else UNCUT for name, size in zip("xyz", x.shape[:LEADING], strict=True)]
        return cut + [UNCUT] * (len(x.shape) - LEADING)

    def _layout(self, specs):
        return dtensor.Layout(specs, self.mesh)


def _move(x, source, target):
    """x with one dimension at another place."""
    order = [i for i in range(len(x.shape)) if i != source]
    order.insert(target, source)
    return tf.transpose(x, order)


def _join(x, source, dim):
    """x with the dimension `source` joined to `dim`, behind it, as the outer part of it."""
    x = _move(x, source, dim - 1)
    return tf.reshape(x, (*x.shape[: dim - 1], x.shape[dim - 1] * x.shape[dim], *x.shape[dim + 1 :]))
