"""The two frameworks mirror each other: the same files, public names, parameters and documentation."""

import inspect
import re
from pathlib import Path

import pytest

import tfguide.reference
import tfguide.tensorflow
import tfguide.torch

PACKAGE = Path(tfguide.torch.__file__).parents[1]
# Keras layers with weights from the start, as nn.Linear has them.
ONE_SIDED_FILES = {"linear.py"}
# Where a tensor lives is PyTorch's to say; Keras has a policy for the type.
ONE_SIDED_PARAMETERS = {(cache, "device") for cache in ("KVCache", "QuantizedKVCache", "SlidingCache")}
NAMES = sorted(tfguide.torch.__all__)


def signature(function):
    return [(p.name, p.default, p.kind) for p in inspect.signature(function).parameters.values()]


def call_of(cls):
    """What runs when an instance is called: `forward` in PyTorch, `call` in Keras, `__call__` in the reference."""
    return next((cls.__dict__[name] for name in ("forward", "call", "__call__") if name in cls.__dict__), cls.__init__)


def public_methods(cls):
    methods = {n: f for n, f in vars(cls).items() if inspect.isfunction(f) and not n.startswith("_")}
    return {n: f for n, f in methods.items() if n not in ("forward", "call", "build")}


def test_the_files_are_the_same():
    one, other = ({path.name for path in (PACKAGE / part).glob("*.py")} for part in ("torch", "tensorflow"))
    assert one ^ other <= ONE_SIDED_FILES


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
    if "Cache" not in name:
        assert signature(call_of(one)) == signature(call_of(other))
    methods = public_methods(one), public_methods(other)
    assert methods[0].keys() == methods[1].keys()
    for method in methods[0]:
        assert signature(methods[0][method]) == signature(methods[1][method]), method


@pytest.mark.parametrize("name", sorted(set(tfguide.reference.__all__) & set(NAMES)))
def test_the_reference_has_the_same_parameters_first(name):
    reference, one = getattr(tfguide.reference, name), getattr(tfguide.torch, name)
    if inspect.isclass(one):
        assert signature(reference.__init__) == signature(one.__init__)
        reference, one = call_of(reference), call_of(one)
    assert signature(one)[: len(signature(reference))] == signature(reference)


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_is_documented_alike(name):
    """The two docstrings are the same words, but for the names of the frameworks and of what they call an array."""

    def words(text):
        assert text, f"{name} has no docstring"
        for own, common in [
            ("PyTorch", "FRAMEWORK"), ("TensorFlow", "FRAMEWORK"), ("tfguide.torch", "HERE"),
            ("tfguide.tensorflow", "HERE"), ("causal_mask(3).int()", "EXAMPLE"),
            ("tf.cast(causal_mask(3), tf.int32).numpy()", "EXAMPLE"),
        ]:  # fmt: skip
            text = text.replace(own, common)
        return re.sub(r"\s+", " ", text)

    assert words(getattr(tfguide.torch, name).__doc__) == words(getattr(tfguide.tensorflow, name).__doc__)


def test_every_file_is_read_to_its_end():
    """A file past about 250 lines holds a second idea."""
    paths = PACKAGE.rglob("*.py")
    lengths = {str(path.relative_to(PACKAGE)): len(path.read_text().splitlines()) for path in paths}
    assert {name: n for name, n in lengths.items() if n > 300} == {}
