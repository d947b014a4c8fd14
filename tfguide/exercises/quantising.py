"""Exercises of section 6.6: integers with scales."""

from __future__ import annotations

import numpy as np

from tfguide.exercises.entry import Exercise, Mistake, numbers

BLOCK = 32


def absmax_int8(weight):
    """A weight (in, out) as integers from -127 to 127, (out, in), and a scale for each output, (out,)."""
    scale = np.abs(weight).max(axis=0) / 127
    return np.rint(weight / scale).astype(np.int8).T, scale


def int4_groups(weight, group_size):
    """A weight (in, out) as integers from -7 to 7, (out, in), and a scale for each group of inputs, (out, in / g)."""
    groups = weight.T.reshape(weight.shape[1], -1, group_size)  # (out, groups, g)
    scale = np.abs(groups).max(axis=-1) / 7
    return np.rint(groups / scale[..., None]).astype(np.int8).reshape(weight.T.shape), scale


def quantize_activations(x):
    """Activations (n, in) as integers from -127 to 127, and a scale for each 32 inputs; the last block may be short."""
    padded = np.pad(x, [(0, 0), (0, -x.shape[1] % BLOCK)]).reshape(len(x), -1, BLOCK)
    scale = np.abs(padded).max(axis=-1) / 127
    q = np.rint(padded / scale[..., None]).astype(np.int8)
    return q.reshape(len(x), -1)[:, : x.shape[1]], scale


def _scaled(weight, scale, most):
    return np.clip(np.rint(weight / scale), -most, most).astype(np.int8).T


def _one_scale(weight):
    scale = np.full(weight.shape[1], np.abs(weight).max() / 127)
    return _scaled(weight, scale, 127), scale


def _by_128(weight):
    scale = np.abs(weight).max(axis=0) / 128
    return _scaled(weight, scale, 127), scale


def _cut(weight):
    scale = np.abs(weight).max(axis=0) / 127
    return np.trunc(weight / scale).astype(np.int8).T, scale


def _without_sign(weight):
    scale = weight.max(axis=0) / 127
    return _scaled(weight, scale, 127), scale


def _groups_of_outputs(weight, group_size):
    """Groups of one input, as many as there are of an output; the shapes of the result are right."""
    n_in, n_out = weight.shape
    groups = weight.reshape(n_in, n_in // group_size, -1)
    scale = np.abs(groups).max(axis=-1) / 7  # (in, groups)
    q = np.rint(groups / scale[..., None]).astype(np.int8).reshape(n_in, n_out).T
    return q, np.resize(scale, (n_out, n_in // group_size))


def _one_group(weight, group_size):
    scale = np.abs(weight).max(axis=0) / 7
    return np.rint(weight / scale).astype(np.int8).T, np.repeat(scale[:, None], len(weight) // group_size, axis=1)


def _by_8(weight, group_size):
    groups = weight.T.reshape(weight.shape[1], -1, group_size)
    scale = np.abs(groups).max(axis=-1) / 8
    return np.clip(np.rint(groups / scale[..., None]), -8, 7).astype(np.int8).reshape(weight.T.shape), scale


def _of_the_row(x):
    scale = np.abs(x).max(axis=1, keepdims=True) / 127
    return np.rint(x / scale).astype(np.int8), np.repeat(scale, -(-x.shape[1] // BLOCK), axis=1)


def _of_the_column(x):
    _, right = quantize_activations(x)
    scale = np.broadcast_to(right.max(axis=0), right.shape)
    wide = np.repeat(scale, BLOCK, axis=1)[:, : x.shape[1]]
    return np.rint(x / wide).astype(np.int8), scale


EXERCISES = (
    Exercise(
        id="absmax-int8",
        page="06f",
        grade=1,
        title="Weights of 8 bits",
        signature="absmax_int8(weight)",
        statement="Return a weight (in, out), an array of NumPy, as two arrays: integers (out, in) from -127 to 127, "
        "rounded to the nearest, and a scale for each output, (out,), so that the number of the largest magnitude "
        "becomes 127 or -127.",
        hints=(
            "Each column of the weight has its own scale.",
            "The scale is the largest magnitude of the column over 127.",
            "np.rint(weight / scale).astype(np.int8).T, scale",
        ),
        inputs=lambda rng: [(numbers(rng, 7, 5),), (numbers(rng, 11, 3) * np.array([1.0, 0.01, 100.0]),)],
        oracle=absmax_int8,
        mistakes=(
            Mistake("All outputs share one scale: each has its own.", _one_scale),
            Mistake("The largest number would be 128, which int8 does not have: the scale is over 127.", _by_128),
            Mistake("Numbers are cut towards 0: round to the nearest.", _cut),
            Mistake(
                "The sign is not taken off: the largest magnitude may be that of a negative number.", _without_sign
            ),
        ),
        solution="tfguide.compress:quantize_int8",
        tensors=False,
    ),
    Exercise(
        id="int4-groups",
        page="06f",
        grade=2,
        title="Weights of 4 bits, in groups",
        signature="int4_groups(weight, group_size)",
        statement="Return a weight (in, out), an array of NumPy, as two arrays: integers (out, in) from -7 to 7, and "
        "scales (out, in / group_size). Each `group_size` neighbouring inputs of an output share a scale, so that "
        "the number of the largest magnitude in the group becomes 7 or -7. (The package also searches for a better "
        "scale than this.)",
        hints=(
            "Turn the weight first: rows are then outputs, and a group lies within a row.",
            "weight.T as (out, groups, group_size): the scale is taken over the last axis.",
            "scale = largest magnitude / 7; round groups / scale[..., None]; reshape to (out, in).",
        ),
        inputs=lambda rng: [(numbers(rng, 6, 4), 3), (numbers(rng, 10, 4), 5)],
        oracle=int4_groups,
        mistakes=(
            Mistake("All inputs of an output share a scale here: each group has its own.", _one_group),
            Mistake("The scale is over 8, and the largest number does not fit or is cut: it is over 7.", _by_8),
            Mistake("The groups are neighbours among the outputs: they are inputs of one output.", _groups_of_outputs),
        ),
        tensors=False,
    ),
    Exercise(
        id="activation-blocks",
        page="06f",
        grade=3,
        title="Activations of 8 bits",
        signature="quantize_activations(x)",
        statement="Return activations (n, in), an array of NumPy, as two arrays: integers (n, in) from -127 to 127, "
        "and scales (n, blocks). Each 32 neighbouring inputs of a row are a block with a scale of its own, over 127; "
        "the last block of a row may be shorter.",
        hints=(
            "Zeros at the end of a row do not change the largest magnitude.",
            "Pad to a multiple of 32, reshape to (n, blocks, 32), and cut the padding off the integers at the end.",
            "np.pad(x, [(0, 0), (0, -x.shape[1] % 32)])",
        ),
        inputs=lambda rng: [(numbers(rng, 3, 37),), (numbers(rng, 2, 71),)],
        oracle=quantize_activations,
        mistakes=(
            Mistake("A row has one scale: an outlier then costs all its neighbours their precision.", _of_the_row),
            Mistake("Rows share their scales: each row is quantised by itself.", _of_the_column),
        ),
        solution="tfguide.compress:quantize_activations",
        tensors=False,
    ),
)
