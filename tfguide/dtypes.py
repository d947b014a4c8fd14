"""One vocabulary of number types: the name of each in this package, its bits, and its names elsewhere.

`float8` and `float4` stand for the small floating types with any exponent: all cost the same. The scales of blocks of
small numbers (one of 8 bits for each 32 in mxfp4) are counted where they matter, not here.
"""

from __future__ import annotations

from tfguide.checks.values import check_choice, nearest

#: The bits of one number, by the name that this package uses.
BITS = {"float32": 32, "bfloat16": 16, "float16": 16, "float8": 8, "int8": 8, "float4": 4, "int4": 4}

#: The types in which a key/value cache keeps its numbers. "int8": integers, with a float32 scale for each vector.
#: "int4": 16 levels, with a step and a minimum in float16 for each 32 numbers.
CACHE_DTYPES = ("float32", "bfloat16", "float16", "int8", "int4")

#: The types in which the weights of a checkpoint are loaded; those of integers with 8-bit activations.
WEIGHT_DTYPES = ("float32", "bfloat16", "float16", "int8", "int4")

# What config.json, safetensors, PyTorch, TensorFlow and papers write, in lower case and without "torch." or "tf.".
_OTHERS = {
    "float32": "fp32 f32 float",
    "bfloat16": "bf16",
    "float16": "fp16 f16 half",
    "float8": "fp8 f8 f8_e4m3 f8_e5m2 e4m3 e5m2 float8_e4m3 float8_e5m2 float8_e4m3fn float8_e4m3fnuz float8_e5m2fnuz",
    "int8": "i8 uint8 u8",
    "float4": "fp4 f4 mxfp4 nvfp4 nf4 float4_e2m1fn",
    "int4": "i4 uint4 u4",
}

#: Every name that a type has, in lower case, with the one that this package uses.
NAMES = {name: name for name in BITS} | {other: name for name, words in _OTHERS.items() for other in words.split()}


def dtype_name(name: str) -> str:
    """This package's name of a type, from any of its names in upper or lower case.

    Raises TypeError for what is not a string, ValueError for an unknown type, with the nearest names.

    >>> dtype_name("F8_E4M3"), dtype_name("torch.bfloat16"), dtype_name("mxfp4")
    ('float8', 'bfloat16', 'float4')
    """
    if not isinstance(name, str):
        raise TypeError(f"dtype must be the name of a type, got {name!r}")
    plain = name.lower().removeprefix("torch.").removeprefix("tf.")
    if plain not in NAMES:
        raise ValueError(
            f"dtype must be one of {', '.join(BITS)}, or another name of one of these, got {name!r}"
            f"{nearest(plain, NAMES)}"
        )
    return NAMES[plain]


def dtype_bytes(name: str) -> float:
    """The bytes of one number. Raises as `dtype_name`.

    >>> dtype_bytes("int4")
    0.5
    """
    return BITS[dtype_name(name)] / 8


def choose_cache_dtype(asked: str | None, activations: str, quantized: bool) -> str:
    """The type of a model's cache: the one of CACHE_DTYPES that was asked for; None: the default.

    The default is the type of the activations, but float16 beside quantised weights and float32 activations: 11 bits
    of precision are enough there, and bfloat16 has 8. The largest float16 is 65504, see `KVCache`.
    Raises TypeError or ValueError for another type.

    >>> [choose_cache_dtype(None, "float32", quantized) for quantized in (False, True)]
    ['float32', 'float16']
    """
    if asked is not None:
        check_choice("cache_dtype", asked, CACHE_DTYPES)
        return asked
    return "float16" if quantized and activations == "float32" else activations
