"""Exercises of section 6.10: what a compilation costs, a cache whose shape stays, and what is compiled again."""

from __future__ import annotations

import math

import numpy as np

from tfguide.cost.compilation import steps_to_pay
from tfguide.exercises.entry import Exercise, Mistake, numbers

PAGE = "06j"
_SIGNATURES = (
    ("int32", (1, 3)), ("int64", (1, 3)), ("int32", (1, 4)), ("int32", (1, 3)), ("int32", (1, 7)), ("int32", (3,)),
)  # fmt: skip


def compile_pays(compile_seconds, plain_seconds, compiled_seconds):
    """The number of steps after which a compilation has paid, -1 if it never does."""
    if compiled_seconds >= plain_seconds:
        return -1
    return math.ceil(compile_seconds / (plain_seconds - compiled_seconds))


def static_cache_step(keys, new_keys, positions):
    """A buffer with a new key of each row at its position, and which slots each row may see."""
    slots = np.arange(keys.shape[1])
    written = slots == positions[:, None]  # (B, S), one slot of each row
    return np.where(written[:, :, None, None], new_keys, keys), slots <= positions[:, None]


def count_traces(calls):
    """How many graphs `tf.function` traces: tensors count by type and shape, Python's numbers by their value."""
    return len({tuple(call) for call in calls})


def _solve_pays(*seconds):
    steps = steps_to_pay(*seconds)
    return -1 if steps is None else steps


def _slice(keys, new_keys, positions):
    """Only the slots that are filled."""
    n = int(positions.max()) + 1
    keys, visible = static_cache_step(keys, new_keys, positions)
    return keys[:, :n], visible[:, :n]


def _first_row(keys, new_keys, positions):
    at_first, _ = static_cache_step(keys, new_keys, np.full_like(positions, positions[0]))
    return at_first, static_cache_step(keys, new_keys, positions)[1]


def _masked(change):
    """What is written is right, and the mask is another one: of slots (S,) and positions (B, 1)."""

    def compute(keys, new_keys, positions):
        slots = np.arange(keys.shape[1])
        return static_cache_step(keys, new_keys, positions)[0], change(slots, positions[:, None])

    return compute


def _added(keys, new_keys, positions):
    written, visible = static_cache_step(keys, new_keys, positions)
    at = (np.arange(keys.shape[1]) == positions[:, None])[:, :, None, None]
    return np.where(at, keys + new_keys, written), visible


def _parts(calls):
    return [tuple("number" if isinstance(one, int) else one for one in call) for call in calls]


def _static_cases(rng):
    for positions, S, K, d in (((3, 0), 7, 2, 5), ((1, 4, 2), 5, 1, 3)):
        B = len(positions)
        yield numbers(rng, B, S, K, d), numbers(rng, B, 1, K, d), np.array(positions)


EXERCISES = (
    Exercise(
        id="compile-pays",
        page=PAGE,
        grade=1,
        title="When has a compilation paid?",
        signature="compile_pays(compile_seconds, plain_seconds, compiled_seconds)",
        statement="A compilation takes `compile_seconds` once; a step then takes `compiled_seconds` instead of "
        "`plain_seconds`. Return the least number of steps after which the compiled steps and their compilation have "
        "taken no longer than the plain steps, a whole number, and -1 if that never happens.",
        hints=(
            "Write down the seconds of n steps of both kinds, and let them be equal.",
            "n * plain = compile + n * compiled.",
            "math.ceil(compile / (plain - compiled)), and -1 where compiled is not below plain.",
        ),
        inputs=lambda rng: [(30.0, 0.0703, 0.0204), (44.5, 0.031, 0.019), (7.0, 0.02, 0.023), (2.5, 0.75, 0.25)],
        oracle=compile_pays,
        mistakes=(
            Mistake(
                "A compiled step is not free: what it saves is the difference to a plain one.",
                lambda compiling, plain, compiled: math.ceil(compiling / plain),
            ),
            Mistake(
                "The steps are rounded down: after so many it has not quite paid.",
                lambda compiling, plain, compiled: -1 if compiled >= plain else int(compiling / (plain - compiled)),
            ),
            Mistake(
                "Where a compiled step takes longer, no number of steps pays: return -1.",
                lambda compiling, plain, compiled: math.ceil(compiling / (plain - compiled)),
            ),
        ),
        solution="tfguide.cost.compilation:steps_to_pay",
        solve=_solve_pays,
        tensors=False,
    ),
    Exercise(
        id="static-cache",
        page=PAGE,
        grade=2,
        title="A cache whose shape stays",
        signature="static_cache_step(keys, new_keys, positions)",
        statement="The keys of a cache are a buffer (B, S, K, d) with all its slots from the beginning. One new key of "
        "each row, new_keys (B, 1, K, d), belongs into slot positions[b], an integer tensor (B,). Return two tensors: "
        "the new buffer, of the same shape, and a mask (B, S) of booleans: True where a row may look, at the slots up "
        "to its new key. No shape may depend on the positions.",
        hints=(
            "Compare the numbers of the slots, (S,), with the positions as a column, (B, 1).",
            "Where slot == position stands the new key, elsewhere the old one; the buffer itself is not changed.",
            "where((slots == positions[:, None])[:, :, None, None], new_keys, keys), and slots <= positions[:, None].",
        ),
        inputs=lambda rng: list(_static_cases(rng)),
        oracle=static_cache_step,
        mistakes=(
            Mistake("The result is cut to the slots that are filled: its shape then changes with every step.", _slice),
            Mistake("All rows write at the position of the first one: each has its own.", _first_row),
            Mistake("The new key is added to what the slot held: it takes its place.", _added),
            Mistake("A row does not see its new key: the mask ends at it, not before it.", _masked(np.less)),
            Mistake(
                "A row sees slots that were never written: all behind its position are hidden.",
                _masked(lambda slots, at: np.broadcast_to(True, (len(at), len(slots)))),
            ),
            Mistake("The mask is inverted: True is where a row may look.", _masked(np.greater)),
        ),
        tools={
            "numpy": "np.arange, np.where",
            "torch": "torch.arange, torch.where",
            "tensorflow": "tf.range, tf.where (mind the types: tf.range(n, dtype=positions.dtype))",
        },
    ),
    Exercise(
        id="count-traces",
        page=PAGE,
        grade=3,
        title="How many graphs?",
        signature="count_traces(calls)",
        statement="A function under `tf.function` is called several times. Each call is the list of its arguments: a "
        "tensor is given as its type and its shape, such as ('int32', (1, 5)), and a number of Python as itself. "
        "Return how many graphs are traced.",
        hints=(
            "A graph is traced for a signature that was not there before: what belongs to a signature?",
            "Of a tensor its type and its shape, not its numbers. A number of Python becomes a constant of the graph.",
            "The number of different calls: len({tuple(call) for call in calls}).",
        ),
        inputs=lambda rng: [
            ([[("int32", (1, 5)), 0], [("int32", (1, 5)), 1], [("int32", (1, 5)), 2], [("int32", (1, 5)), 1]],),
            ([[(kind, shape)] for kind, shape in _SIGNATURES],),
            ([[("int32", (2, 7)), ("int32", ())]] * 5,),
        ],
        oracle=count_traces,
        mistakes=(
            Mistake("A graph is kept and found again: a signature is traced once.", lambda calls: len(calls)),
            Mistake(
                "Numbers of Python count by their value: another number is another graph.",
                lambda calls: len(set(_parts(calls))),
            ),
            Mistake(
                "The types of tensors count, beside their shapes.",
                lambda calls: len({tuple(one if isinstance(one, int) else one[1] for one in call) for call in calls}),
            ),
            Mistake(
                "The shapes of tensors count, beside their types.",
                lambda calls: len({tuple(one if isinstance(one, int) else one[0] for one in call) for call in calls}),
            ),
            Mistake(
                "The number of axes is not enough: every size of a shape counts.",
                lambda calls: len(
                    {tuple(one if isinstance(one, int) else (one[0], len(one[1])) for one in call) for call in calls}
                ),
            ),
        ),
        tensors=False,
    ),
)
