"""Exercises of section 6.7: weights and heads that are left out."""

from __future__ import annotations

import numpy as np

from tfguide.compress import pruning
from tfguide.config import ModelConfig
from tfguide.exercises.entry import Exercise, Mistake, numbers
from tfguide.initialization import init_weights


def two_four(weight):
    """A weight (in, out) in which of every 4 inputs of an output the 2 smallest are 0."""
    fours = weight.reshape(-1, 4, weight.shape[1])
    smallest = np.argsort(np.abs(fours), axis=1)[:, :2]
    result = fours.copy()
    np.put_along_axis(result, smallest, 0, axis=1)
    return result.reshape(weight.shape)


def prune_magnitude(weight, sparsity):
    """A weight in which the round(sparsity n) numbers nearest to 0 are 0."""
    result = weight.copy()
    order = np.argsort(np.abs(weight), axis=None)
    result.flat[order[: round(sparsity * weight.size)]] = 0
    return result


def keep_heads(w_value, w_output, n_heads, n_kept):
    """The heads that matter most, by the norm of their rows of W_o times that of their columns of W_v, in order."""
    value = np.linalg.norm(w_value.reshape(len(w_value), n_heads, -1), axis=(0, 2))
    output = np.linalg.norm(w_output.reshape(n_heads, -1, w_output.shape[1]), axis=(1, 2))
    return sorted(np.argsort(-value * output)[:n_kept].tolist())


def _smallest_kept(weight):
    return weight - two_four(weight)


def _two_four_signed(weight):
    fours = weight.reshape(-1, 4, weight.shape[1])
    result = fours.copy()
    np.put_along_axis(result, np.argsort(fours, axis=1)[:, :2], 0, axis=1)
    return result.reshape(weight.shape)


def _half_of_column(weight):
    result = weight.copy()
    np.put_along_axis(result, np.argsort(np.abs(weight), axis=0)[: len(weight) // 2], 0, axis=0)
    return result


def _by_output(w_value, w_output, n_heads, n_kept):
    output = np.linalg.norm(w_output.reshape(n_heads, -1, w_output.shape[1]), axis=(1, 2))
    return sorted(np.argsort(-output)[:n_kept].tolist())


def _least(w_value, w_output, n_heads, n_kept):
    best = keep_heads(w_value, w_output, n_heads, n_heads - n_kept)
    return [head for head in range(n_heads) if head not in best]


def _head_cases(rng):
    for D, H, d, kept in ((3, 5, 2, 2), (7, 5, 3, 3)):
        sizes = np.repeat(rng.permutation(H) + 1.0, d)
        yield (
            numbers(rng, D, H * d) * sizes,
            numbers(rng, H * d, D) * np.repeat(rng.permutation(H) + 1.0, d)[:, None],
            H,
            kept,
        )


def _model_with(weight):
    """An encoder whose feed-forward network has this matrix, as a configuration and weights, and the matrix's name."""
    config = ModelConfig(
        kind="encoder", d_model=len(weight), n_layers=1, n_heads=1, d_ff=weight.shape[1], vocab_size=2,
        positions="learned", max_positions=2,
    )  # fmt: skip
    name = "encoder.layers.0.feed_forward.up.weight"
    return config, init_weights(config) | {name: weight}, name


def _solve_two_four(weight):
    config, weights, name = _model_with(weight)
    return pruning.prune_two_four(config, weights)[name]


def _solve_magnitude(weight, sparsity):
    config, weights, name = _model_with(weight)
    return pruning.prune_magnitude(config, weights, sparsity)[name]


def _solve_heads(w_value, w_output, n_heads, n_kept):
    """The heads whose rows of the output matrix the package keeps."""
    D, d = len(w_value), w_value.shape[1] // n_heads
    config = ModelConfig(
        kind="encoder", d_model=D, n_layers=1, n_heads=n_heads, d_head=d, d_ff=2, vocab_size=2,
        positions="learned", max_positions=2,
    )  # fmt: skip
    name = "encoder.layers.0.self_attention"
    weights = init_weights(config) | {f"{name}.value.weight": w_value, f"{name}.output.weight": w_output}
    _, smaller = pruning.prune_heads(config, weights, n_kept)
    kept = smaller[f"{name}.output.weight"].reshape(n_kept, d, D)
    return [h for h in range(n_heads) if (kept == w_output[h * d : (h + 1) * d]).all(axis=(1, 2)).any()]


EXERCISES = (
    Exercise(
        id="two-four",
        page="06g",
        grade=1,
        title="Two of four",
        signature="two_four(weight)",
        statement="Return a weight (in, out), an array of NumPy, in which of every 4 neighbouring inputs of an "
        "output the 2 of the smallest magnitude are 0. in is a multiple of 4.",
        hints=(
            "Inputs are rows: the four lie below each other in a column.",
            "Reshape to (in / 4, 4, out) and order the magnitudes along axis 1.",
            "np.argsort(np.abs(fours), axis=1)[:, :2], and np.put_along_axis(..., 0, axis=1) on a copy.",
        ),
        inputs=lambda rng: [(numbers(rng, 8, 4),), (numbers(rng, 12, 8),)],
        oracle=two_four,
        mistakes=(
            Mistake("The two largest are 0: they are the ones to keep.", _smallest_kept),
            Mistake("The sign counts here: a large negative weight is a large one.", _two_four_signed),
            Mistake(
                "The four are neighbouring outputs of one input: they are inputs of one output.",
                lambda weight: two_four(weight.T).T,
            ),
            Mistake("Half of each column is 0: of every four inputs exactly two are.", _half_of_column),
        ),
        solution="tfguide.compress.pruning:prune_two_four",
        solve=_solve_two_four,
        tensors=False,
    ),
    Exercise(
        id="prune-magnitude",
        page="06g",
        grade=2,
        title="The smallest weights",
        signature="prune_magnitude(weight, sparsity)",
        statement="Return a weight (in, out), an array of NumPy, in which round(sparsity * n) of its n numbers are "
        "0: those of the smallest magnitude in the whole matrix. The weight that was given stays as it is.",
        hints=(
            "Order all magnitudes of the matrix, not those of each row.",
            "np.argsort(..., axis=None) orders the flat array.",
            "Copy the weight, and set result.flat[order[:k]] to 0.",
        ),
        inputs=lambda rng: [(numbers(rng, 5, 7), 0.5), (numbers(rng, 3, 11), 0.3), (numbers(rng, 3, 2), 0.0)],
        oracle=prune_magnitude,
        mistakes=(
            Mistake(
                "The largest weights are 0: the smallest are to go.",
                lambda w, s: np.where(prune_magnitude(w, 1 - s) == 0, w, 0) if s else prune_magnitude(w, 1.0),
            ),
            Mistake(
                "The sign counts here: a large negative weight is a large one.",
                lambda w, s: np.where(w < np.append(np.sort(w, axis=None), np.inf)[round(s * w.size)], 0, w),
            ),
            Mistake(
                "`sparsity` is taken as a limit of the magnitude: it is the part of the weights that becomes 0.",
                lambda w, s: np.where(np.abs(w) < s, 0, w),
            ),
            Mistake(
                "The share is that of each row: it is taken of the whole matrix.",
                lambda w, s: np.stack([prune_magnitude(row, s) for row in w]),
            ),
        ),
        solution="tfguide.compress.pruning:prune_magnitude",
        solve=_solve_magnitude,
        tensors=False,
    ),
    Exercise(
        id="keep-heads",
        page="06g",
        grade=3,
        title="Which heads stay?",
        signature="keep_heads(w_value, w_output, n_heads, n_kept)",
        statement="Return the list of the `n_kept` heads that matter most, in ascending order. The importance of a "
        "head is the norm of its d columns of w_value (D, H d) times the norm of its d rows of w_output (H d, D).",
        hints=(
            "A head's columns are neighbours; its norm is the root of the sum of all their squares.",
            "Reshape to (D, H, d) and (H, d, D): which axes are summed?",
            "np.linalg.norm(..., axis=(0, 2)) and (1, 2); argsort of the negative product; the first n_kept, sorted.",
        ),
        inputs=lambda rng: list(_head_cases(rng)),
        oracle=keep_heads,
        mistakes=(
            Mistake("These are the heads that matter least.", _least),
            Mistake(
                "Only the output matrix is looked at: a head with small values adds little all the same.", _by_output
            ),
            Mistake(
                "The heads stand in the order of their importance: in ascending order they stay what they were.",
                lambda w_value, w_output, h, kept: sorted(
                    keep_heads(w_value, w_output, h, kept),
                    key=lambda head: keep_heads(w_value, w_output, h, 1) != [head],
                ),
            ),
        ),
        solution="tfguide.compress.pruning:prune_heads",
        solve=_solve_heads,
        tensors=False,
    ),
)
