"""What Python and C++ share: limits, codes, structures and functions. No other file knows the layouts in C++.

abi.h declares the same, under the same names and in the same order. The library reports how its compiler laid out
abi.h, and `check` compares this report with this file when the library is loaded.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import POINTER, Structure, c_char_p, c_float, c_int32, c_int64, c_void_p
from typing import Any

from tfguide.compress.packing import LANES
from tfguide.compress.quantization import ACTIVATION_BLOCK
from tfguide.config import ACTIVATIONS, PLACEMENTS, ModelConfig
from tfguide.generation.rings import BLOCK, PASS_ROWS

MAX_ROWS = 64  # rows of a decoding step: the frameworks multiply more rows faster
EXACT_ROWS = 4  # more rows are rounded to bfloat16 before they meet bfloat16 weights, where the processor multiplies it
MANY_TOKENS = 8  # new tokens of a text from which on the blocks of its cache are arranged for them
LIMITS = {
    "LANES": LANES, "ACTIVATION_BLOCK": ACTIVATION_BLOCK, "MAX_ROWS": MAX_ROWS, "PASS_ROWS": PASS_ROWS,
    "BLOCK": BLOCK, "EXACT_ROWS": EXACT_ROWS, "MANY_TOKENS": MANY_TOKENS,
}  # fmt: skip

TYPES = ("float32", "bfloat16", "float16")
CACHE_TYPES = (*TYPES, "int8")
FORMATS = (
    *(f"{dtype} rows" for dtype in TYPES), *(f"{dtype} columns" for dtype in TYPES), "int8", "int4", "int8 a8",
    "int4 a8",
)  # fmt: skip
SCALINGS = ("per output", "halves", "halves and minima", "bytes", "bytes of blocks", "signed bytes")
BLOCK_TYPES = ("Q4_0", "Q4_1", "Q5_0", "Q8_0", "Q4_K", "Q5_K", "Q6_K")  # of GGUF files
TASKS = ("normalise", "activate", "rotate")
CODES = {
    "Type": TYPES, "CacheType": CACHE_TYPES, "Format": FORMATS, "Scaling": SCALINGS, "BlockType": BLOCK_TYPES,
    "Placement": PLACEMENTS, "Activation": ACTIVATIONS, "Task": TASKS,
}  # fmt: skip

# The norms of a layer, and their names in its block.
NORMS = {
    "attention_norm": "self_attention_norm", "feed_forward_norm": "feed_forward_norm",
    "attention_post_norm": "self_attention_post_norm", "feed_forward_post_norm": "feed_forward_post_norm",
    "query_norm": "self_attention.query_norm", "key_norm": "self_attention.key_norm",
    "key_value_norm": "self_attention.key_value_norm",
}  # fmt: skip
# The matrices of a layer: of its attention, and of its network.
ATTENTION = ("query", "key", "value", "output")
NETWORK = ("gate", "up", "down")
LATENT = ("query_down", "query_up", "key_value_down", "key_value_up")  # beside those of attention


class Linear(Structure):
    """A matrix (in, out) and its bias."""

    _fields_ = [
        ("weight", c_void_p), ("scale", c_void_p), ("unit", c_void_p), ("bias", c_void_p), ("in", c_int64),
        ("out", c_int64), ("format", c_int32), ("scaling", c_int32), ("group", c_int32),
    ]  # fmt: skip


class Norm(Structure):
    """The weight and the bias of a norm; without a weight there is no norm."""

    _fields_ = [("weight", c_void_p), ("bias", c_void_p)]


class Layer(Structure):
    """The norms and the matrices of a block; a norm or a matrix without a weight is absent."""

    _fields_ = [
        *((name, Norm) for name in NORMS), ("sinks", c_void_p), 
        *((name, Linear) for name in (*ATTENTION, *NETWORK, *LATENT)),
        ("slides", c_int32), ("router", c_void_p), ("router_bias", c_void_p), ("correction", c_void_p),
        ("experts", POINTER(Linear)),
    ]  # fmt: skip


class Experts(Structure):
    """The mixtures of experts of a model."""

    _fields_ = [
        *((name, c_int32) for name in ("n", "per_token", "groups", "groups_per_token", "is_sigmoid", "is_normalised")),
        ("scale", c_float), ("clamp", c_float),
    ]  # fmt: skip


class Latent(Structure):
    """The sizes of latent attention."""

    _fields_ = [*((name, c_int32) for name in ("kv_rank", "d_nope", "d_rope", "d_value")), ("eps", c_float)]


class Model(Structure):
    """The sizes and the weights of a model."""

    _fields_ = [
        *((name, c_int32) for name in ("n_layers", "d_model", "n_heads", "n_kv_heads", "d_head", "d_rotary", "d_ff")),
        *((name, c_int32) for name in ("is_rms", "placement", "activation", "window")),
        *((name, c_float) for name in ("eps", "embedding_scale", "attention_scale", "attention_cap", "residual_scale")),
        ("embedding", Linear), ("added", c_void_p), ("slopes", c_void_p),
        ("embedding_norm", Norm), ("final_norm", Norm), ("layers", POINTER(Layer)), ("experts", Experts),
        ("latent", Latent),
    ]  # fmt: skip


class Call(Structure):
    """What changes between calls, and all that a call may write."""

    _fields_ = [
        *((name, c_void_p) for name in ("tokens", "texts", "places", "many")), ("rows", c_int64),
        ("max_length", c_int64), ("ring", c_int64), ("tables", c_void_p), ("n_pages", c_int64),
        *((name, POINTER(c_void_p)) for name in ("keys", "values", "key_scales", "value_scales")),
        *((name, c_void_p) for name in ("hidden", "positions", "cos", "sin", "local_cos", "local_sin")),
        ("experts_read", c_void_p), ("cache_type", c_int32), ("by_row", c_int32), ("page_bits", c_int32),
    ]  # fmt: skip


class Rowwise(Structure):
    """One task for each row."""

    _fields_ = [
        ("x", c_void_p), ("other", c_void_p), ("y", c_void_p), ("norm", Norm), ("cos", c_void_p), ("sin", c_void_p),
        ("rows", c_int64), ("width", c_int64), ("head", c_int64), ("rotated", c_int64),
        *((name, c_int32) for name in ("task", "type", "activation", "is_rms")), ("eps", c_float),
    ]  # fmt: skip


STRUCTURES = (Linear, Norm, Layer, Experts, Latent, Model, Call, Rowwise)
FUNCTIONS = {  # arguments and result
    "tfguide_abi": ([], c_char_p),
    "tfguide_isa": ([], c_char_p),
    "tfguide_try": ([], None),
    "tfguide_step": ([POINTER(Model), POINTER(Call), c_int32], None),
    "tfguide_linear": ([POINTER(Linear), c_void_p, c_int64, c_void_p, c_int32], None),
    "tfguide_rowwise": ([POINTER(Rowwise), c_int32], None),
    "tfguide_unpack": ([POINTER(Linear), c_void_p, c_int32, c_int32], None),
    "tfguide_repack": ([POINTER(Linear), c_int32, c_void_p, c_int32], None),
    "tfguide_read": ([c_void_p, c_int64, c_int32], c_float),
}


def code(enumeration: str, name: str) -> int:
    """The code of a name in C++. enumeration: one of CODES."""
    return CODES[enumeration].index(name)


def linear(
    weight: int, form: str, d_in: int, d_out: int, scale: int | None = None, unit: int | None = None,
    scaling: str = "per output", group: int = 0, bias: int | None = None,
) -> Linear:  # fmt: skip
    """A matrix and its bias. weight, scale, unit, bias: addresses; form: one of FORMATS; scaling: one of SCALINGS."""
    return Linear(weight, scale, unit, bias, d_in, d_out, code("Format", form), code("Scaling", scaling), group)


def model(config: ModelConfig, embedding: Linear, layers: Sequence[Layer], **places: Any) -> Model:
    """A model. places: its norms and other addresses (see Model)."""
    return Model(
        config.n_layers, config.d_model, config.n_heads, config.n_kv_heads, config.d_head, config.d_rotary,
        config.d_ff,
        config.norm == "rms", code("Placement", config.norm_placement), code("Activation", config.activation),
        config.sliding_window or 0, config.norm_eps, config.embedding_scale, config.attention_scale,
        config.attention_softcap or 0, config.residual_scale,
        embedding, layers=(Layer * len(layers))(*layers), experts=_experts(config),
        latent=_latent(config), **places,
    )  # fmt: skip


def _experts(config):
    if config.experts is None:
        return Experts()
    own = config.experts
    return Experts(
        own.n_experts, own.per_token, own.n_groups, own.groups_per_token, own.router == "sigmoid", own.normalised,
        own.scale, own.clamp or 0,
    )  # fmt: skip


def _latent(config):
    own = config.latent
    return Latent() if own is None else Latent(own.kv_rank, own.d_nope, own.d_rope, own.d_value, own.norm_eps)


def call(
    rows: tuple[int, int, int, int], n_rows: int, max_length: int, ring: int, keys: Any, values: Any, cache_type: str,
    hidden: int, key_scales: Any = None, value_scales: Any = None, by_row: bool = False,
    pages: tuple[int | None, int, int] = (None, 0, 0), **tables: int | None,
) -> Call:  # fmt: skip
    """A call of a model, by addresses. rows: those of tokens, texts, places and many; keys ...: `addresses` of layers.

    pages: the address of the page tables, the pages of a text, and the slots of a page. tables: those of positions and
    angles, and what counts experts, by their names in Call; by_row: the angles are those of the call's rows.
    """
    at, n_pages, page = pages
    return Call(
        *rows, n_rows, max_length, ring, at, n_pages, keys, values, key_scales, value_scales, hidden,
        cache_type=code("CacheType", cache_type), by_row=by_row, page_bits=max(page.bit_length() - 1, 0), **tables,
    )  # fmt: skip


def addresses(places: Sequence[int]) -> Any:
    """A list of addresses as a call takes it; None for an empty one."""
    return (c_void_p * len(places))(*places) if places else None


def rowwise(task: str, dtype: str, activation: str | None = None, **fields: Any) -> Rowwise:
    """A task for each row. fields: those of Rowwise that the task needs, without codes."""
    if activation is not None:
        fields["activation"] = code("Activation", activation)
    return Rowwise(task=code("Task", task), type=code("Type", dtype), **fields)


def declare(library: ctypes.CDLL) -> None:
    """Give the functions of a loaded library the types of their arguments and results."""
    for name, (arguments, result) in FUNCTIONS.items():
        function = getattr(library, name)
        function.argtypes, function.restype = arguments, result


def check(library: ctypes.CDLL) -> None:
    """Compare this file with the headers that a declared library was compiled from.

    Raises RuntimeError that names each limit, enumeration or structure that differs, with both versions.
    """
    ours, theirs = (
        dict(line.split(": ", 1) for line in lines.splitlines()) for lines in (text(), library.tfguide_abi().decode())
    )
    differences = [
        f"{name}: Python has {ours.get(name, 'none')}; C++ has {theirs.get(name, 'none')}"
        for name in {**ours, **theirs}
        if ours.get(name) != theirs.get(name)
    ]
    if differences:
        raise RuntimeError("tfguide/native/abi.py and the compiled abi.h differ:\n" + "\n".join(differences))


def text() -> str:
    """What this file declares, as abi_text.h writes it."""
    limits = [f"limit {name}: {value}" for name, value in LIMITS.items()]
    codes = [
        f"codes {name}: " + ", ".join([str(len(words)), *(f"{word} = {code}" for code, word in enumerate(words))])
        for name, words in CODES.items()
    ]
    return "\n".join([*limits, *codes, *map(_structure_text, STRUCTURES)])


def _structure_text(structure):
    places = [getattr(structure, name) for name, _ in structure._fields_]
    fields = [f"{name} {at.offset}+{at.size}" for (name, _), at in zip(structure._fields_, places, strict=True)]
    return f"structure {structure.__name__}: " + ", ".join([f"{ctypes.sizeof(structure)} bytes", *fields])
