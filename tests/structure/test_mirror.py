"""The two frameworks mirror each other: the same files, public names, parameters and documentation."""

import importlib
import inspect
import re
from pathlib import Path

import pytest

import tfguide.reference
import tfguide.tensorflow
import tfguide.torch

PACKAGE = Path(tfguide.torch.__file__).parents[1]
# Where a tensor lives is PyTorch's to say; Keras has a policy for the type.
CACHES = ("Int4KVCache", "KVCache", "QuantizedKVCache", "QuantizedStorage", "SlidingCache", "Storage")
ONE_SIDED_PARAMETERS = {(cache, "device") for cache in CACHES}
NAMES = sorted(tfguide.torch.__all__)


def signature(function):
    return [(p.name, p.default, p.kind) for p in inspect.signature(function).parameters.values()]


def call_of(cls):
    """What runs when an instance is called: `forward` in PyTorch, `call` in Keras, `__call__` in the reference."""
    return next((cls.__dict__[name] for name in ("forward", "call", "__call__") if name in cls.__dict__), cls.__init__)


def public_methods(cls):
    """The methods that a class and those of this package that it inherits from have."""
    ours = [vars(base) for base in reversed(cls.__mro__) if base.__module__.startswith("tfguide.")]
    methods = {n: f for own in ours for n, f in own.items() if inspect.isfunction(f) and not n.startswith("_")}
    return {n: f for n, f in methods.items() if n not in ("forward", "call", "build")}


def files_of(framework):
    folder = PACKAGE / framework
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*.py")}


#: What both frameworks have of the computation on many devices. The other files of the folder belong to one of them:
#: PyTorch sends by collectives that the code calls, and TensorFlow by those that its compiler puts in for DTensors.
MANY_DEVICES = {"parallel/__init__.py", "parallel/dtensor.py"}


def test_the_files_are_the_same():
    one, other = (
        {name for name in files_of(framework) if not name.startswith("parallel/") or name in MANY_DEVICES}
        for framework in ("torch", "tensorflow")
    )
    assert one == other


def test_the_layouts_by_dtensors_are_called_alike():
    """The same names, with the same parameters; a default may be a function of the framework."""
    one, other = (importlib.import_module(f"tfguide.{name}.parallel.dtensor") for name in ("torch", "tensorflow"))
    for name in one.__all__:
        pair = [getattr(module, name) for module in (one, other)]
        parameters = [
            [(n, None if callable(default) else default, kind) for n, default, kind in signature(function)]
            for function in pair
        ]
        assert parameters[0] == parameters[1], name
        assert outline(pair[0].__doc__)[0] == outline(pair[1].__doc__)[0], name


def test_the_public_names_are_the_same():
    assert tfguide.torch.__all__ == tfguide.tensorflow.__all__
    assert set(tfguide.reference.__all__) - {"forward"} <= set(NAMES)
    for module in (tfguide.torch, tfguide.tensorflow, tfguide.reference):
        assert all(hasattr(module, name) for name in module.__all__)
        assert module.__all__ == sorted(module.__all__)


@pytest.mark.parametrize("name", NAMES)
def test_the_parameters_are_the_same(name):
    one, other = getattr(tfguide.torch, name), getattr(tfguide.tensorflow, name)
    assert inspect.isclass(one) == inspect.isclass(other)
    if not inspect.isclass(one):
        assert signature(one) == signature(other)
        return
    constructors = [
        [(n, kind) for n, default, kind in signature(cls.__init__) if (name, n) not in ONE_SIDED_PARAMETERS]
        for cls in (one, other)
    ]
    assert constructors[0] == constructors[1]
    if name not in CACHES:
        assert signature(call_of(one)) == signature(call_of(other))
    methods = public_methods(one), public_methods(other)
    assert methods[0].keys() == methods[1].keys()
    for method in methods[0]:
        assert signature(methods[0][method]) == signature(methods[1][method]), method


@pytest.mark.parametrize("name", sorted(set(tfguide.reference.__all__) & set(NAMES)))
def test_the_reference_has_the_same_parameters_first(name):
    reference, one = getattr(tfguide.reference, name), getattr(tfguide.torch, name)
    if inspect.isclass(one):
        parameters = signature(reference.__init__)
        assert signature(one.__init__)[: len(parameters)] == parameters
        reference, one = call_of(reference), call_of(one)
    assert signature(one)[: len(signature(reference))] == signature(reference)


SHAPE = re.compile(r"\([^()]*\b[BTSDHKdFLV]\b[^()]*\)")
ERRORS = re.compile(r"\b(?:[A-Z]\w*Error|NativeUnavailable)\b")


def outline(text):
    """What two docstrings must share: the summary, the shapes in their order, and the errors that are raised."""
    for own, common in [("PyTorch", "FRAMEWORK"), ("TensorFlow", "FRAMEWORK"), ("tfguide.tensorflow", "tfguide.torch")]:
        text = text.replace(own, common)
    text = re.sub(r"\s+", " ", text)
    return re.split("[.,:;] ", text)[0].rstrip("."), set(SHAPE.findall(text)), set(ERRORS.findall(text))


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_is_documented_alike(name):
    """Each dialect explains its own machinery; the summary, the shapes and the errors are the same in both."""
    one, other = getattr(tfguide.torch, name), getattr(tfguide.tensorflow, name)
    assert one.__doc__, f"{name} has no docstring"
    assert outline(one.__doc__) == outline(other.__doc__)
    for method in public_methods(one) if inspect.isclass(one) else ():
        docs = [getattr(cls, method).__doc__ or "" for cls in (one, other)]
        assert outline(docs[0]) == outline(docs[1]), f"{name}.{method}"


def test_what_holds_no_tensor_is_written_once():
    """The loops of generation and compression are the same objects in both frameworks."""
    once = (
        "beam_search generate layer_changes perplexity pool_kv_heads prune_heads prune_layers prune_magnitude "
        "prune_neurons prune_two_four speculative_generate stream"
    )
    for name in once.split():
        assert getattr(tfguide.torch, name) is getattr(tfguide.tensorflow, name)


def test_every_file_is_read_to_its_end():
    """A file past about 250 lines holds a second idea."""
    paths = PACKAGE.rglob("*.py")
    lengths = {str(path.relative_to(PACKAGE)): len(path.read_text().splitlines()) for path in paths}
    assert {name: n for name, n in lengths.items() if n > 300} == {}
