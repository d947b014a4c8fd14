"""From tensors as Hugging Face names and shapes them to canonical weights, and back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from tfguide.checkpoints.mxfp4 import StoredBlocks, check_blocks
from tfguide.checkpoints.tensors import DTYPE_NAMES, Tensor, equal, to_float32
from tfguide.config import ModelConfig
from tfguide.weights import weight_shapes


@dataclass(frozen=True)
class Place:
    """Where a canonical weight lies in a checkpoint.

    name: the tensor, without the prefix of the classes that wrap a trunk. transposed: PyTorch's Linear stores
    (out, in). columns, width: the weight is these of the `width` columns of a matrix, or numbers of a bias, that
    several weights share. plus: the weight is the stored numbers plus this; norms may scale by 1 + w. pairs: (n, m):
    of every n columns those from m on lie in pairs (2i, 2i + 1) in the file, and in (i, i + d/2) in the weight.
    copies: other names under which a file may hold the same tensor; all that are there must be equal.
    """

    name: str
    transposed: bool = False
    columns: range | None = None
    width: int | None = None
    plus: float = 0.0
    pairs: tuple[int, int] | None = None
    copies: tuple[str, ...] = ()

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the whole tensor, from that of the canonical weight."""
        shape = shape if self.width is None else (*shape[:-1], self.width)
        return (*shape[:-2], shape[-1], shape[-2]) if self.transposed else shape

    def take(self, stored: np.ndarray, index: tuple[slice, ...] = ()) -> np.ndarray:
        """The numbers of the canonical weight, without `plus`: a view of a stored tensor, but for `pairs` a copy.

        index: of the part of the weight that is wanted; default: all of it.
        """
        whole = stored.swapaxes(-2, -1) if self.transposed else stored
        if self.pairs is not None:
            *rows, columns = (*index, *[slice(None)] * (whole.ndim - len(index)))
            return whole[tuple(rows)][..., self.order(whole.shape[-1])[columns]]
        if self.columns is None:
            return whole[index]
        return whole[..., self.columns.start : self.columns.stop : self.columns.step][index]

    def order(self, n_columns: int) -> np.ndarray:
        """The column in the file of each of the columns of the weight, where `pairs` says that they differ."""
        n, first = self.pairs
        own = np.concatenate([np.arange(first), np.arange(first, n, 2), np.arange(first + 1, n, 2)])
        return (np.arange(0, n_columns, n)[:, None] + own).reshape(-1)


@dataclass(frozen=True)
class Stack:
    """Where the stacked weight of experts (experts, in, out) lies: a tensor for each, which is written, or `whole`."""

    places: tuple[Place, ...]
    whole: Place

    @property
    def names(self) -> tuple[str, ...]:
        """Every name that a file may hold."""
        return (*(place.name for place in self.places), self.whole.name)


@dataclass(frozen=True)
class Packed:
    """Where a weight of experts lies that a file may hold in MXFP4: in NAME_blocks and NAME_scales instead of NAME."""

    place: Place

    @property
    def names(self) -> tuple[str, ...]:
        """Every name that a file may hold."""
        return self.place.name, f"{self.place.name}_blocks", f"{self.place.name}_scales"


@dataclass(frozen=True)
class Stored:
    """A canonical weight in a file, not read yet: its tensor, and its place there."""

    tensor: Tensor
    place: Place

    @property
    def dtype(self) -> str:
        """The type in which the file holds it, "float32", "bfloat16", "float16" or "float64"."""
        return DTYPE_NAMES[self.tensor.dtype]

    def mapped(self, index: tuple[slice, ...] = ()) -> np.ndarray:
        """The stored numbers as a view of the file, without `plus`; bfloat16 as its bits, uint16; index: of a part."""
        return self.place.take(self.tensor.stored(), index)

    def to_float32(self, keeps_order: bool = False, index: tuple[slice, ...] = ()) -> np.ndarray:
        """The weight as a float32 array of its own. Raises ValueError for float64 beyond the largest float32.

        keeps_order: a matrix that the file holds as (out, in) is a view of an array in this order, which is not copied
        column by column. index: of the part of the weight that is read; default: all of it.
        """
        view = self.mapped(index)
        if keeps_order and self.place.transposed:
            return to_float32(self.tensor, view.swapaxes(-2, -1)).swapaxes(-2, -1)
        array = to_float32(self.tensor, view)
        return array + np.float32(self.place.plus) if self.place.plus else array


@dataclass(frozen=True)
class StoredStack:
    """The stacked weight of experts in a file, not read yet: a tensor for each, and their places."""

    tensors: tuple[Tensor, ...]
    places: tuple[Place, ...]

    @property
    def dtype(self) -> str:
        """The type in which the file holds it; "float32" where the experts differ."""
        dtypes = {DTYPE_NAMES[tensor.dtype] for tensor in self.tensors}
        return dtypes.pop() if len(dtypes) == 1 else "float32"

    def mapped(self) -> np.ndarray:
        """The stored numbers (experts, in, out): a copy, since they lie apart; bfloat16 as its bits, uint16."""
        return np.stack([place.take(t.stored()) for t, place in zip(self.tensors, self.places, strict=True)])

    def to_float32(self, keeps_order: bool = False, index: tuple[slice, ...] = ()) -> np.ndarray:
        """The weight as a float32 array of its own. Raises ValueError for float64 beyond the largest float32.

        keeps_order: matrices that the file holds as (out, in) are a view of an array in this order. index: of the part
        of the weight that is read; default: all of it.
        """
        experts, *inner = index or (slice(None),)
        tensors = self.tensors[experts]
        views = [
            place.take(tensor.stored(), tuple(inner))
            for tensor, place in zip(tensors, self.places[experts], strict=True)
        ]
        if not keeps_order:
            return np.stack([to_float32(tensor, view) for tensor, view in zip(tensors, views, strict=True)])
        rows = [to_float32(tensor, view.T) for tensor, view in zip(tensors, views, strict=True)]
        return np.stack(rows).swapaxes(1, 2)


def linear(ours: str, theirs: str, bias: bool = True, transposed: bool = True) -> Iterator[tuple[str, Place]]:
    """The places of a linear map and its bias. transposed: (out, in), as PyTorch's Linear stores it."""
    yield f"{ours}.weight", Place(f"{theirs}.weight", transposed)
    if bias:
        yield f"{ours}.bias", Place(f"{theirs}.bias")


def fused(
    widths: Mapping[str, int], theirs: str, bias: bool = True, transposed: bool = True
) -> Iterator[tuple[str, Place]]:
    """The places of linear maps that one tensor holds side by side. widths: by our names, in order, their outputs."""
    first, width = 0, sum(widths.values())
    for ours, size in widths.items():
        columns = range(first, first + size)
        first += size
        yield f"{ours}.weight", Place(f"{theirs}.weight", transposed, columns, width)
        if bias:
            yield f"{ours}.bias", Place(f"{theirs}.bias", columns=columns, width=width)


def norm(ours: str, theirs: str, bias: bool = True, plus: float = 0.0) -> Iterator[tuple[str, Place]]:
    """The places of a norm; `plus`: as in `Place`, for its weight."""
    yield f"{ours}.weight", Place(f"{theirs}.weight", plus=plus)
    if bias:
        yield f"{ours}.bias", Place(f"{theirs}.bias")


def plain_names(tensors: Mapping[str, Tensor], plain: Callable[[str], str]) -> dict[str, Tensor]:
    """Tensors by names without prefixes and old spellings. Raises ValueError where two become one."""
    result: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        other = result.setdefault(plain(name), tensor)
        if other is not tensor:
            raise ValueError(f"{tensor.file}: tensors {other.name!r} and {name!r} are two spellings of one name")
    return result


def find_weights(
    config: ModelConfig, family: ModuleType, tensors: Mapping[str, Tensor], where: str
) -> dict[str, Stored | StoredStack | StoredBlocks]:
    """The canonical weights of a configuration in their files, from tensors by their plain names.

    Every name, shape and type is checked before a number is read. Raises ValueError that names file and tensor.
    """
    for field in ("n_layers", "n_encoder_layers"):
        if (getattr(config, field) or 0) > len(tensors):
            raise ValueError(f"{where}: {field}={getattr(config, field)}, but there are only {len(tensors)} tensors")
    places = family.places(config)
    _check_names(family, places, tensors)
    shapes = weight_shapes(config).items()
    return {name: _stored(name, places[name], shape, tensors, where) for name, shape in shapes}


def hf_tensors(config: ModelConfig, family: ModuleType) -> dict[str, tuple[tuple[int, ...], list[str]]]:
    """The tensors to write: by name, the shape of each and the canonical weights that it is made of, in order.

    Those of an expert, where it has tensors of its own, are NAME[e].
    """
    places, shapes, tensors = family.places(config), weight_shapes(config), {}
    for ours, place in one_by_one({name: places[name] for name in shapes}).items():
        name, _, expert = ours.partition("[")
        shape = shapes[name][1:] if expert else shapes[name]
        tensors.setdefault(place.name, (place.shape(shape), []))[1].append(ours)
    return tensors


def hf_array(places: Mapping[str, Place], weights: Mapping[str, np.ndarray], names: list[str]) -> np.ndarray:
    """A tensor to write from its canonical weights, by the names of `hf_tensors`: float32, contiguous.

    It is a copy only where it must be one.
    """
    place, weight = places[names[0]], part_of(weights, names[0])
    if place.columns is None and place.pairs is None and not place.plus:
        return np.ascontiguousarray(weight.swapaxes(-2, -1) if place.transposed else weight, np.float32)
    array = np.empty(place.shape(weight.shape), np.float32)
    if place.pairs is not None:
        whole = array.swapaxes(-2, -1) if place.transposed else array
        whole[..., place.order(whole.shape[-1])] = weight
        return array
    for name in names:
        places[name].take(array)[...] = part_of(weights, name)
    array -= np.float32(place.plus)
    return array


def one_by_one(places: Mapping[str, Place | Stack | Packed]) -> dict[str, Place]:
    """The places by canonical names, those of an expert as NAME[e]."""
    result = {}
    for name, place in places.items():
        place = place.place if isinstance(place, Packed) else place
        single = enumerate(place.places) if isinstance(place, Stack) else [(None, place)]
        result |= {name if expert is None else f"{name}[{expert}]": own for expert, own in single}
    return result


def part_of(weights: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """A weight by its name in `one_by_one`: that of one expert is a part of the stacked one."""
    own, _, expert = name.partition("[")
    return weights[own][int(expert.removesuffix("]"))] if expert else weights[own]


def _check_names(family, places, tensors):
    stacks = {name for place in places.values() if isinstance(place, (Stack, Packed)) for name in place.names}
    singles = [place for place in places.values() if isinstance(place, Place)]
    expected = stacks | {name for place in singles for name in (place.name, *place.copies)}
    for name, tensor in tensors.items():
        if name not in expected and not family.SKIPPED.fullmatch(name):
            raise ValueError(f"{tensor.file}: unexpected tensor {tensor.name!r}: {_why_unexpected(family, name)}")


def _why_unexpected(family, name):
    if name.split(".")[0] in family.HEADS:
        return f"a head for a task of its own, which tfguide has not; it reads {family.READS}"
    return "the configuration has no such weight"


def _stored(ours, place, shape, tensors, where) -> Stored | StoredStack | StoredBlocks:
    """A canonical weight in its file, or one that lies in a tensor for each expert."""
    if isinstance(place, Stack) and place.whole.name not in tensors:
        sources = (_source(f"{ours}[{e}]", own, shape[1:], tensors, where) for e, own in enumerate(place.places))
        return StoredStack(tuple(sources), place.places)
    place = place.whole if isinstance(place, Stack) else place
    if isinstance(place, Packed):
        plain, *names = place.names
        place = place.place
        if plain not in tensors and all(name in tensors for name in names):
            blocks, scales = (tensors[name] for name in names)
            check_blocks(blocks, scales, place.shape(shape))
            return StoredBlocks(blocks, scales, place)
    return Stored(_source(ours, place, shape, tensors, where), place)


def _source(ours, place, shape, tensors, where) -> Tensor:
    """The tensor that holds a canonical weight, checked."""
    found = [tensors[name] for name in (place.name, *place.copies) if name in tensors]
    if not found:
        raise ValueError(f"{where}: missing tensor {place.name!r} of shape {place.shape(shape)} ({ours})")
    for tensor in found:
        if tensor.shape != place.shape(shape):
            raise ValueError(
                f"{tensor.file}: tensor {tensor.name!r} must have shape {place.shape(shape)}, got {tensor.shape}"
            )
        tensor.check_dtype()
    for other in found[1:]:
        if not equal(found[0], other):
            raise ValueError(
                f"{other.file}: tensors {found[0].name!r} and {other.name!r} must be equal, because the configuration "
                f"ties them, and they differ"
            )
    return found[0]
