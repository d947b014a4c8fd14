"""Exercises of section 6.12: what chips send to each other."""

from __future__ import annotations

from tfguide.exercises.entry import Exercise, Mistake
from tfguide.sharding import best_mesh, ffn_communication

PAGE = "06l"


def collectives(elements, chips):
    """The elements that one of the chips sends: for an all-gather, a reduce-scatter and an all-reduce."""
    sent = elements * (chips - 1) / chips
    return sent, sent, 2 * sent


def ffn_bytes(layout, tokens, d_model, d_ff, x, yz):
    """The bytes that one chip sends for a feed-forward layer of two matrices, in bfloat16."""
    return 2 * sum(ffn_communication(layout, tokens, d_model, d_ff, (x, yz, 1), exact=True).values())


def best_x(chips, tokens, d_model, d_ff):
    """The size of the axis X with which the two-dimensional layout sends the fewest elements."""
    return best_mesh("2d-ws", chips, tokens, d_model, d_ff)[0]


def _sent(layout, tokens, d, f, x, yz, exact=True, hidden=2, inner=2):
    def part(elements, p):
        return elements * (p - 1) / p if exact else elements

    if layout == "1d-ws":
        return 2 * inner * part(tokens * d, x * yz)
    return 2 * (inner * part(tokens * d / x, yz) + hidden * part(tokens * f / yz, x))


def _argmin_x(chips, sent):
    return min((x for x in range(1, chips + 1) if chips % x == 0), key=sent)


EXERCISES = (
    Exercise(
        id="collectives",
        page=PAGE,
        grade=1,
        title="What a collective costs",
        signature="collectives(elements, chips)",
        statement="A tensor of `elements` numbers belongs to all of p chips. Return three numbers, the elements that "
        "one chip sends at least: in an all-gather, where each chip begins with its 1 / p of the tensor and ends "
        "with all of it; in a reduce-scatter, where each begins with a whole tensor and ends with its 1 / p of the "
        "sum; and in an all-reduce, which is a reduce-scatter and then an all-gather.",
        hints=(
            "In a ring each chip passes on a part of n / p numbers in every step.",
            "How many steps until every part was everywhere? One fewer than there are chips.",
            "n * (p - 1) / p, the same again, and twice that.",
        ),
        inputs=lambda rng: [(7001, 7), (12288, 64), (101, 1)],
        oracle=collectives,
        mistakes=(
            Mistake("A chip does not send its own part to itself: p - 1 steps, not p.", lambda n, p: (n, n, 2 * n)),
            Mistake(
                "This sends the whole tensor in every step: a step passes on a part of n / p.",
                lambda n, p: (n * (p - 1), n * (p - 1), 2 * n * (p - 1)),
            ),
            Mistake(
                "An all-reduce costs as much as each of its two halves here: it is both.",
                lambda n, p: (n * (p - 1) / p, n * (p - 1) / p, n * (p - 1) / p),
            ),
            Mistake("This is one step of the ring: there are p - 1.", lambda n, p: (n / p, n / p, 2 * n / p)),
        ),
        tensors=False,
    ),
    Exercise(
        id="ffn-traffic",
        page=PAGE,
        grade=2,
        title="The traffic of a layer",
        signature="ffn_bytes(layout, tokens, d_model, d_ff, x, yz)",
        statement="Return the bytes that one chip sends for a feed-forward layer of two matrices (D, F) and (F, D), "
        "all numbers in 16 bits, on x * yz chips.\n\n"
        'In the layout "1d-ws" the inputs, `tokens` vectors of D, are gathered over all chips, and the outputs are '
        'scattered as sums over all chips. In "2d-ws" inputs and outputs travel over yz chips, as vectors of D / x. '
        "Between the matrices the hidden numbers, tokens * F / yz of them, are summed and scattered over the x "
        "chips, and gathered again. A collective of n elements over p chips sends n (p - 1) / p.",
        hints=(
            "Write a helper for n (p - 1) / p, and count the collectives of each layout.",
            "1d: two of tokens * D over all chips. 2d: two of tokens * D / x over yz, two of tokens * F / yz over x.",
            "A number of 16 bits is 2 bytes.",
        ),
        inputs=lambda rng: [
            ("1d-ws", 13, 96, 384, 2, 3),
            ("2d-ws", 13, 96, 384, 2, 3),
            ("2d-ws", 101, 512, 2048, 4, 16),
        ],
        oracle=ffn_bytes,
        mistakes=(
            Mistake("These are elements: a number of 16 bits is 2 bytes.", lambda *sizes: ffn_bytes(*sizes) / 2),
            Mistake(
                "A chip does not send its own part to itself: the factor (p - 1) / p is missing.",
                lambda *sizes: _sent(*sizes, exact=False),
            ),
            Mistake(
                "The hidden numbers travel once here: they are summed and scattered, then gathered.",
                lambda *sizes: _sent(*sizes, hidden=1),
            ),
            Mistake("Only the inputs are counted: the outputs travel as far.", lambda *sizes: _sent(*sizes, inner=1)),
        ),
        solution="tfguide.sharding:ffn_communication",
        solve=ffn_bytes,
        tensors=False,
    ),
    Exercise(
        id="best-split",
        page=PAGE,
        grade=3,
        title="Where to cut",
        signature="best_x(chips, tokens, d_model, d_ff)",
        statement="The chips are laid out as x * yz, in every way that divides their number. Return the x with which "
        "the "
        'layout "2d-ws" of the exercise ffn-traffic sends the fewest elements. No two of the ways are equally good.',
        hints=(
            "There are only as many ways as the number of chips has divisors: try them all.",
            "With x = 1 nothing hidden travels; with x = chips no input does.",
            "min over the divisors x of 2 (T D / x) (yz - 1) / yz + 2 (T F / yz) (x - 1) / x, with yz = chips // x.",
        ),
        inputs=lambda rng: [(16, 7, 96, 384), (64, 5, 512, 8192), (36, 3, 4096, 5120)],
        oracle=best_x,
        mistakes=(
            Mistake(
                "The two axes are exchanged: the inputs are cut by x, the hidden numbers by yz.",
                lambda chips, *sizes: chips // best_x(chips, *sizes),
            ),
            Mistake(
                "This is the square, or what is nearest to it: F is larger than D.",
                lambda chips, *sizes: _argmin_x(chips, lambda x: abs(x - chips / x)),
            ),
            Mistake(
                "Only the inputs and the outputs are counted: the hidden numbers travel too.",
                lambda chips, tokens, d, f: _argmin_x(
                    chips, lambda x: _sent("2d-ws", tokens, d, f, x, chips // x, hidden=0)
                ),
            ),
        ),
        solution="tfguide.sharding:best_mesh",
        solve=best_x,
        tensors=False,
    ),
)
