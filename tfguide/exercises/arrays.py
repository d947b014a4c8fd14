"""Arrays of NumPy as the tensors of a framework, and back. A framework is imported only when it is named."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np

from tfguide.exercises.entry import FRAMEWORKS, TITLES

#: The modules by which code names a framework; what stands inside them counts as well.
_MODULES = {
    "torch": "torch", "tensorflow": "tensorflow", "keras": "tensorflow",
    "tfguide.torch": "torch", "tfguide.tensorflow": "tensorflow",
}  # fmt: skip


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


def framework_of(function: Callable[..., Any]) -> str | None:
    """What a function is written in: the framework that its code names, or that of the functions beside it.

    None where it names neither. Raises ValueError where it names both, since its arguments would have to be of one.
    """
    if inspect.ismethod(function):
        function = function.__func__
    if inspect.isfunction(function):
        found = _frameworks_in(function, set())
    else:  # a layer of one of the frameworks, say
        found = set().union(*(_frameworks_of(part.__module__) for part in type(function).__mro__))
    if len(found) > 1:
        raise ValueError(
            f"{function!r} names PyTorch and TensorFlow: say what its arguments shall be, with framework= one "
            f"of {', '.join(map(repr, FRAMEWORKS))}"
        )
    return found.pop() if found else None


def _frameworks_in(function, seen):
    """The frameworks that the code of a function names; seen: the functions that were looked at, which grow."""
    seen.add(function)
    names = set(_names(function.__code__))
    values = [function.__globals__[name] for name in names if name in function.__globals__]
    values += inspect.getclosurevars(function).nonlocals.values()
    found = {_MODULES[name] for name in names if name in _MODULES and name not in function.__globals__}
    for value in values:
        if inspect.isfunction(value) and value.__module__ == function.__module__ and value not in seen:
            found |= _frameworks_in(value, seen)
        found |= _frameworks_of(_home(value))
    return found


def _frameworks_of(module):
    """The framework to which a module belongs by its name, as a set of none or one."""
    return {framework for name, framework in _MODULES.items() if f"{module}.".startswith(f"{name}.")}


def _home(value):
    """The name of a module, or of the one in which a function, a class or a value's class stands."""
    if inspect.ismodule(value):
        return value.__name__
    return value.__module__ if inspect.isroutine(value) or inspect.isclass(value) else type(value).__module__


def _names(code):
    """The names that code uses beside its own variables, those of functions inside it among them."""
    yield from code.co_names
    for constant in code.co_consts:
        if inspect.iscode(constant):
            yield from _names(constant)


def kind_of(framework: str) -> str:
    """What the arguments of a framework's function are called."""
    return "arrays of NumPy" if framework == "numpy" else f"tensors of {TITLES[framework]}"
