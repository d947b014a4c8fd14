"""Exercises of section 6.5: numbers of 16 bits, what overflows and what is lost."""

from __future__ import annotations

import numpy as np

from tfguide.checkpoints.bits import from_bfloat16
from tfguide.exercises.concepts import softmax
from tfguide.exercises.entry import Exercise, Mistake
from tfguide.exercises.mathematics import attention_softmax

PAGE = "06e"


def half_softmax(scores):
    """Softmax of float16 scores, computed in a wider type."""
    return softmax(scores.astype(np.float64))


def round_to_bfloat16(x):
    """float32 numbers rounded to the nearest bfloat16, of two equally near to the one with an even last bit."""
    bits = x.view(np.uint32)
    return from_bfloat16(((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16))


def bfloat16_sum(values):
    """The sum of float32 numbers from left to right, where every partial sum is rounded to bfloat16."""
    total = np.float32(0)
    for value in values:
        total = round_to_bfloat16(np.array([total + value], np.float32))[0]
    return float(total)


def _half_naive(scores):
    e = np.exp(scores)
    return e / e.sum(axis=-1, keepdims=True)


def _half_clipped(scores):
    e = np.minimum(np.exp(scores.astype(np.float64)), 65504)
    return e / e.sum(axis=-1, keepdims=True)


def _cut(x):
    return from_bfloat16((x.view(np.uint32) >> 16).astype(np.uint16))


def _half_up(x):
    return from_bfloat16(((x.view(np.uint32) + 0x8000) >> 16).astype(np.uint16))


def _rounded_inputs(values):
    return float(round_to_bfloat16(values).sum(dtype=np.float64))


def _rounded_once(values):
    return float(round_to_bfloat16(np.array([values.sum(dtype=np.float64)], np.float32))[0])


def _halves(*rows):
    return np.array(rows, np.float16)


EXERCISES = (
    Exercise(
        id="half-softmax",
        page=PAGE,
        grade=1,
        title="Softmax of scores in float16",
        signature="half_softmax(scores)",
        statement="Return softmax over the last axis of `scores` (N, S), which are float16, without the framework's "
        "own function. The result may be float16 or float32. The largest float16 is 65504, and exp(12) is more.",
        hints=(
            "Which step overflows, and what becomes of a row in which one exp is infinity?",
            "After the row's maximum is subtracted every exp is at most 1.",
            "Convert to float32, subtract the maximum of each row, exp, divide by the sum.",
        ),
        inputs=lambda rng: [(_halves([1, 2, 12], [0, -1, 3]),), (_halves([60000, 59968, 0], [-5, -700, -6]),)],
        oracle=half_softmax,
        mistakes=(
            Mistake("exp overflows in float16: subtract the row's maximum first.", _half_naive),
            Mistake("The exponentials are cut at the largest float16: that changes the weights.", _half_clipped),
            Mistake(
                "This is softmax over the first axis: each row must sum to 1.", lambda x: softmax(x.astype(float), 0)
            ),
        ),
        solution="attention_weights",
        solve=attention_softmax,
        tools={
            "numpy": ".astype(np.float32), np.exp",
            "torch": ".float(), torch.exp, .amax(dim=-1, keepdim=True)",
            "tensorflow": "tf.cast, tf.exp, tf.reduce_max(..., axis=-1, keepdims=True)",
        },
    ),
    Exercise(
        id="bf16-round",
        page=PAGE,
        grade=2,
        title="Round to bfloat16",
        signature="round_to_bfloat16(x)",
        statement="Return the numbers x (n,), float32 of NumPy, rounded to bfloat16, as float32. A bfloat16 is the "
        "upper half of the bits of a float32. Round to the nearest one; of two that are equally near, take the one "
        "whose last bit is 0.",
        hints=(
            "x.view(np.uint32) shows the bits; >> 16 takes the upper half, << 16 puts it back.",
            "Cutting the lower half rounds towards 0. Adding half of what is cut, 0x8000, before rounds to the "
            "nearest.",
            "Add 0x7FFF and the lowest bit that stays, (bits >> 16) & 1: a tie then goes to the even one.",
        ),
        inputs=lambda rng: [
            (np.array([1.0, 1.001, -3.14159, 1e-3, 70001.0], np.float32),),
            (1 + np.array([1, 2, 3, 5, 7], np.float32) / 256,),
        ],
        oracle=round_to_bfloat16,
        mistakes=(
            Mistake("The lower half is cut off: that rounds towards 0, and not to the nearest.", _cut),
            Mistake("Ties are rounded away from 0: of two equally near numbers take the even one.", _half_up),
            Mistake(
                "This rounds to float16: bfloat16 has 8 bits of precision, and the range of float32.",
                lambda x: x.astype(np.float16).astype(np.float32),
            ),
        ),
        tensors=False,
    ),
    Exercise(
        id="bf16-sum",
        page=PAGE,
        grade=3,
        title="A sum that stands still",
        signature="bfloat16_sum(values)",
        statement="Return the sum of `values` (n,), float32 of NumPy, as a Python number, as a loop computes it "
        "whose running sum is a bfloat16: begin with 0, and round behind every addition. The function of the "
        "exercise bf16-round is of use.",
        hints=(
            "Where is the next bfloat16 behind 256, and what becomes of 256 + 1?",
            "Round the running sum, not the values.",
            "for each value: total = round(total + value), with the addition in float32.",
        ),
        inputs=lambda rng: [(np.full(301, 1.001, np.float32),), (np.float32(rng.random(53) + 0.5),)],
        oracle=bfloat16_sum,
        mistakes=(
            Mistake("The values are rounded, and the sum is not: it is the sum that has no room.", _rounded_inputs),
            Mistake("The sum is rounded once, at its end: round behind every addition.", _rounded_once),
            Mistake("Nothing is rounded.", lambda values: float(values.sum(dtype=np.float64))),
        ),
        tensors=False,
    ),
)
