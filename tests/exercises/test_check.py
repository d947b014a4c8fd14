"""What a check says of results that are wrong in other ways than a known mistake, and of code that does not run."""

import numpy as np
import pytest

from tfguide import reference
from tfguide.exercises import check, find
from tfguide.exercises.arrays import framework_of
from tfguide.exercises.checking import check_function
from tfguide.exercises.compare import difference

WEIGHTS, SPLIT, MASK = find("attention-weights"), find("split-heads"), find("causal-mask")


@pytest.fixture(autouse=True)
def own_progress(tmp_path, monkeypatch):
    monkeypatch.setenv("TFGUIDE_DATA", str(tmp_path / "data"))


@pytest.mark.parametrize(
    ("expected", "got", "said"),
    [
        (np.zeros((2, 3)), None, "The result is None: is there a `return`?"),
        (np.zeros((2, 3)), np.zeros((3, 2)), "The result has shape (3, 2), expected (2, 3)."),
        (np.zeros(3), "no", "The result must be an array or a tensor of shape (3,), got the string 'no'."),
        (np.zeros(3), [0, 0, 0], "The result must be an array or a tensor of shape (3,), got a value of type list."),
        (np.zeros(3), np.zeros(3, int), "must hold floating-point numbers, got int64: the shape is right."),
        (np.ones(3, bool), np.ones(3), "must hold booleans, got float64: the shape is right."),
        (np.zeros((2, 3)), np.array([[0, 0, 0], [0, 2e-9, 1]]),
         "2 of 6 numbers differ.\nThe first is at index (1, 1): expected 0, got 2e-09."),
        (np.zeros(2), np.array([0, np.nan]), "The first is at index (1,): expected 0, got nan."),
        (np.array([np.inf]), np.array([1e300]), "expected inf, got 1e+300."),
        (7, 8, "The result is 8, expected 7."),
        (7.0, 7.00000002, "The result is 7.00000002, expected 7."),
        (7, 7.0, "The result must be one of the integers, got 7.0, float64."),
        (7.0, "7", "The result must be a number, got the string '7'."),
        ((1, 2), 1, "2 results are expected, got one a value of type int: `return a, b` returns two."),
        ((1, 2), (1, 2, 3), "2 results are expected, got 3."),
        ((1, 2), (1, 3), "Result 2 of 2 is 3, expected 2."),
        (["a", "b"], ["a", "c"], "The first that differs is number 1, counted from 0: expected 'b', got 'c'."),
        (["a", "b"], ["a"], "The result has 1 entries, expected 2: ['a', 'b'], got ['a']."),
        ("a", "b", "The result must be 'a', got 'b'."),
    ],
)  # fmt: skip
def test_a_difference_is_said(expected, got, said):
    assert said in difference(expected, got)


@pytest.mark.parametrize(
    ("expected", "got"),
    [
        (np.ones(3), np.full(3, 1 + 1e-5, np.float32)),  # a float32 is no better
        (np.ones(3), np.full(3, 1.001, np.float16)),
        (np.array([np.nan, np.inf]), np.array([np.nan, np.inf])),
        (7.0, 7), (7, np.int64(7)), ((1, 2.0), [1, 2.0]), ([1, 2], (1, 2)), ([1, 2], np.array([1, 2])),
    ],
)  # fmt: skip
def test_what_is_as_good_is_accepted(expected, got):
    assert difference(expected, got) is None


def test_a_number_from_a_framework_is_as_good_as_float32():
    """`.item()` of a float32 is a Python number, with 16 digits of which 7 are right."""
    torch = pytest.importorskip("torch")
    perplexity = find("perplexity")

    def mine(logits, tokens):
        return torch.nn.functional.cross_entropy(logits[:-1], tokens[1:]).exp().item()

    assert check_function(perplexity, mine, "torch").passed
    near = check_function(perplexity, lambda logits, tokens: 1.001 * mine(logits, tokens), "torch").text
    assert "The result is " in near


def test_the_type_decides_the_tolerance():
    near = np.ones(3) + 1e-5
    assert difference(np.ones(3), near) and not difference(np.ones(3), near.astype(np.float32))
    assert difference(np.ones(3), (near + 1e-3).astype(np.float32))


@pytest.mark.parametrize("framework", ["numpy", "torch", "tensorflow"])
def test_a_result_of_the_wrong_shape_says_which_case_it_was(framework):
    if framework != "numpy":
        pytest.importorskip(framework)
    text = check_function(SPLIT, lambda x, n_heads: x, framework).text
    assert "Case 1 of 2:\n    x of shape (1, 3, 10), n_heads = 2\n" in text
    assert "The result has shape (1, 3, 10), expected (1, 3, 2, 5)." in text


def test_nan_is_explained_where_no_mistake_is_known():
    text = check_function(WEIGHTS, lambda q, k: reference.attention_weights(q, k) * np.nan, "numpy").text
    assert ", got nan." in text and text.endswith("the root of a negative number.")


def test_half_precision_of_both_frameworks_is_read():
    torch, tf = pytest.importorskip("torch"), pytest.importorskip("tensorflow")
    half = check_function(SPLIT, lambda x, n: x.reshape(*x.shape[:2], n, -1).bfloat16(), "torch")
    assert half.passed, half.text
    one = lambda x, n: tf.cast(tf.reshape(x, [*x.shape[:2], n, -1]), tf.bfloat16)  # noqa: E731
    assert check_function(SPLIT, one, "tensorflow").passed
    grad = check_function(SPLIT, lambda x, n: x.requires_grad_().reshape(*x.shape[:2], n, -1) * 1, "torch")
    assert grad.passed, grad.text
    whole = check_function(SPLIT, lambda x, n: x.reshape(*x.shape[:2], n, -1).to(torch.int64), "torch")
    assert "must hold floating-point numbers, got int64" in whole.text


def raises(x, n_heads):
    return x.no_such_name


def test_an_exception_is_told_with_its_line():
    text = check_function(SPLIT, raises, "numpy").text
    assert "It raises AttributeError: 'numpy.ndarray' object has no attribute 'no_such_name'" in text
    line = raises.__code__.co_firstlineno + 1
    assert f"It was at line {line}: return x.no_such_name" in text and "The arguments are arrays of NumPy." in text


def test_an_argument_that_is_changed_is_a_fault():
    def in_place(x, n_heads):
        result = x.reshape(*x.shape[:2], n_heads, -1).copy()
        x += 1
        return result

    assert "The result is right, but `x` was changed in place: copy it" in check_function(SPLIT, in_place, "numpy").text


def test_check_prints_and_keeps_a_success(capsys):
    torch = pytest.importorskip("torch")

    def mine(n_queries, n_keys):
        return torch.ones(n_queries, n_keys, dtype=torch.bool).tril(n_keys - n_queries)

    assert check("causal-mask", mine) is True
    printed = capsys.readouterr().out
    assert printed.startswith(
        "causal-mask: solved in PyTorch, on 3 cases.\n\nThe package's own, tfguide/torch/masks.py"
    )
    assert "    def causal_mask(" in printed
    assert printed.endswith("Next: Several heads (chapter 2, grade 3 of 3)\n    tfguide exercise start multi-head\n")
    assert check("causal-mask", lambda t, s: ~reference.causal_mask(t, s)) is False
    assert "True means that the query may look." in capsys.readouterr().out


def test_the_framework_is_the_one_that_the_code_names(capsys):
    torch, tf = pytest.importorskip("torch"), pytest.importorskip("tensorflow")
    seen = []
    check("split-heads", lambda x, n: seen.append(type(x)) or torch.zeros(1))
    check("split-heads", lambda x, n: seen.append(type(x)) or tf.zeros(1))
    check("split-heads", lambda x, n: seen.append(type(x)) or x)
    check("split-heads", lambda x, n: seen.append(type(x)) or x, framework="torch")
    assert seen[0] is seen[3] is torch.Tensor and issubclass(seen[1], tf.Tensor) and seen[2] is np.ndarray
    assert "so it got arrays of NumPy; `framework=` chooses others." in capsys.readouterr().out
    with pytest.raises(ValueError, match="names PyTorch and TensorFlow"):
        check("split-heads", lambda x, n: torch.zeros(1) + tf.zeros(1))


def test_a_framework_is_named_in_many_ways():
    pytest.importorskip("torch")
    import torch.nn.functional as F
    from torch import einsum

    import tfguide.torch as tg

    def helper(x):
        return F.relu(x)

    def imports(x):
        import torch

        return torch.relu(x)

    functions = [helper, imports, lambda x: helper(x), lambda x: einsum("i", x), lambda x: tg.softcap(x, 1.0)]
    functions += [lambda x: [F.relu(part) for part in x], lambda x: (lambda y: F.relu(y))(x)]
    functions += [tg.RMSNorm(3), tg.RMSNorm(3).forward]
    assert [framework_of(function) for function in functions] == ["torch"] * 9
    assert [framework_of(function) for function in (lambda x: np.abs(x), reference.causal_mask, len)] == [None] * 3


def test_a_success_that_cannot_be_kept_is_still_one(monkeypatch, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TFGUIDE_DATA", str(tmp_path / "file"))
    assert check("causal-mask", reference.causal_mask)
    assert "This success could not be kept:" in capsys.readouterr().out


def test_mistakes_of_a_caller():
    with pytest.raises(TypeError, match="takes the function itself"):
        check("causal-mask", reference.causal_mask(3))
    with pytest.raises(ValueError, match="framework must be one of 'numpy', 'torch', 'tensorflow', got 'jax'"):
        check("causal-mask", reference.causal_mask, "jax")
