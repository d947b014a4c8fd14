"""Arrays of NumPy as the tensors of a framework, and back. A framework is imported only when it is named."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np

from tfguide.exercises.entry import FRAMEWORKS, TITLES

#: The modules by which code names a framework.
_MODULES = {"torch": "torch", "tensorflow": "tensorflow", "keras": "tensorflow"}


def to_framework(value: Any, framework: str) -> Any:
    """A copy of an argument: an array as a tensor of "torch" or "tensorflow" in float32, int64 or bool.

    For "numpy" an array stays one, in float64, int64 or bool. Tuples and lists are copied, anything else is passed on.
    Raises ImportError where the framework is not installed.
    """
    if isinstance(value, (tuple, list)):
        return type(value)(to_framework(part, framework) for part in value)
    if not isinstance(value, np.ndarray):
        return value
    if framework == "numpy":
        return value.copy()
    value = value.astype(np.float32) if value.dtype == np.float64 else value.copy()
    if framework == "torch":
        return import_module("tfguide.torch.tensors").as_tensor(value)
    import_module("tfguide.tensorflow")  # sets up TensorFlow before it is imported
    return import_module("tensorflow").convert_to_tensor(value)


def to_array(value: Any) -> tuple[np.ndarray, str]:
    """A tensor, an array or a number as an array, with the name of its type; bfloat16 becomes float32."""
    torch, tensorflow = sys.modules.get("torch"), sys.modules.get("tensorflow")
    if torch is not None and isinstance(value, torch.Tensor):
        name = str(value.dtype).removeprefix("torch.")
        value = value.detach().cpu()
        return (value.float() if name == "bfloat16" else value).numpy(), name
    if tensorflow is not None and isinstance(value, (tensorflow.Tensor, tensorflow.Variable)):
        name = value.dtype.name
        return (tensorflow.cast(value, tensorflow.float32) if name == "bfloat16" else value).numpy(), name
    array = np.asarray(value)
    return array, array.dtype.name


def is_array(value: Any) -> bool:
    """Whether a value is an array or a tensor of one of the frameworks."""
    if isinstance(value, (np.ndarray, np.generic)):
        return True
    torch, tensorflow = sys.modules.get("torch"), sys.modules.get("tensorflow")
    if torch is not None and isinstance(value, torch.Tensor):
        return True
    return tensorflow is not None and isinstance(value, (tensorflow.Tensor, tensorflow.Variable))


def framework_of(function: Callable[..., Any]) -> str:
    """What a function is written in: the framework that its code names, else "numpy".

    Raises ValueError where it names both, since its arguments would have to be of one.
    """
    if not inspect.isfunction(function):
        return "numpy"
    used = inspect.getclosurevars(function)
    modules = [value for value in [*used.globals.values(), *used.nonlocals.values()] if inspect.ismodule(value)]
    found = {_MODULES.get(module.__name__.split(".")[0]) for module in modules} - {None}
    if len(found) > 1:
        raise ValueError(
            f"{function.__name__} names PyTorch and TensorFlow: say what its arguments shall be, with framework= one "
            "of "
            f"{', '.join(map(repr, FRAMEWORKS))}"
        )
    return found.pop() if found else "numpy"


def kind_of(framework: str) -> str:
    """What the arguments of a framework's function are called."""
    return "arrays of NumPy" if framework == "numpy" else f"tensors of {TITLES[framework]}"
