"""Exercises of chapter 1: the time of an answer, and how many positions are computed for it."""

from __future__ import annotations

from tfguide.cost import bandwidth_seconds
from tfguide.exercises.entry import Exercise, Mistake

PAGE = "01"


def tokens_per_second(parameters, bytes_per_parameter, bandwidth, batch):
    """The most tokens a second: all weights are read once for a step, which gives a token to every sequence."""
    return batch / bandwidth_seconds(parameters * bytes_per_parameter, 1, bandwidth)


def first_token_seconds(parameters, bytes_per_parameter, prompt_tokens, peak_flops, bandwidth):
    """The least time to the first token: two operations for each parameter and token, or one reading of the weights."""
    operations_s = 2 * parameters * prompt_tokens / peak_flops
    return max(operations_s, bandwidth_seconds(parameters * bytes_per_parameter, 1, bandwidth))


def positions_computed(prompt_tokens, new_tokens):
    """The positions that are computed for an answer: without a cache the whole text again for each token; with one."""
    T, n = prompt_tokens, new_tokens
    return n * T + n * (n - 1) // 2, T + n - 1


EXERCISES = (
    Exercise(
        id="tokens-per-second",
        page=PAGE,
        grade=1,
        title="How many tokens a second can there be?",
        signature="tokens_per_second(parameters, bytes_per_parameter, bandwidth, batch)",
        statement="A decode step reads all weights of a model once, and gives one token to each of `batch` sequences. "
        "Return the most tokens a second, of all sequences together, that the bandwidth of the memory (bytes a second) "
        "allows. Leave out the cache and the operations.",
        hints=(
            "How many bytes are read in one step?",
            "How long does the memory take for that, and how many tokens are there then?",
            "Bytes are `parameters * bytes_per_parameter`; a step takes bytes / bandwidth; it yields `batch` tokens.",
        ),
        inputs=lambda rng: [(7_000_000_003, 2, 3.35e12, 1), (134_515_009, 0.5, 53e9, 5), (8_030_261_249, 1, 2.0e12, 3)],
        oracle=tokens_per_second,
        mistakes=(
            Mistake(
                "This is the time of a step, in seconds: its inverse is asked for.",
                lambda n, b, bandwidth, batch: n * b / bandwidth,
            ),
            Mistake(
                "This counts bits: `bytes_per_parameter` are bytes already, there is nothing to multiply or divide "
                "by 8.",
                lambda n, b, bandwidth, batch: batch * bandwidth / (n * b) / 8,
            ),
            Mistake(
                "This reads the weights again for each sequence: a step reads them once for the whole batch.",
                lambda n, b, bandwidth, batch: bandwidth / (n * b),
            ),
        ),
        tensors=False,
    ),
    Exercise(
        id="first-token",
        page=PAGE,
        grade=2,
        title="How long until the first token?",
        signature="first_token_seconds(parameters, bytes_per_parameter, prompt_tokens, peak_flops, bandwidth)",
        statement="Return the least time in seconds to read a prompt, after which the first token is known. Every "
        "parameter is one multiplication and one addition for each token of the prompt; the weights are read once. "
        "Operations (`peak_flops` a second) and reading (`bandwidth`, bytes a second) go on at the same time. Leave "
        "out attention's own operations.",
        hints=(
            "There are two times: that of the operations, and that of the memory.",
            "They overlap, so the longer of the two decides.",
            "max(2 * parameters * prompt_tokens / peak_flops, parameters * bytes_per_parameter / bandwidth).",
        ),
        inputs=lambda rng: [
            (7_000_000_003, 2, 1021, 989e12, 3.35e12),
            (7_000_000_003, 2, 13, 989e12, 3.35e12),
            (134_515_009, 4, 509, 1.3e12, 53e9),
        ],
        oracle=first_token_seconds,
        mistakes=(
            Mistake(
                "This adds the two times: they overlap, and the longer one decides.",
                lambda n, b, t, peak, bandwidth: 2 * n * t / peak + n * b / bandwidth,
            ),
            Mistake(
                "This counts one operation for each parameter: a multiplication and an addition are two.",
                lambda n, b, t, peak, bandwidth: max(n * t / peak, n * b / bandwidth),
            ),
            Mistake(
                "This reads the weights once for each token: the tokens of a prompt share one reading.",
                lambda n, b, t, peak, bandwidth: max(2 * n * t / peak, n * b * t / bandwidth),
            ),
            Mistake(
                "This is the time of the operations alone: with a short prompt the reading of the weights takes "
                "longer.",
                lambda n, b, t, peak, bandwidth: 2 * n * t / peak,
            ),
            Mistake(
                "This is the time of the reading alone: with a long prompt the operations take longer.",
                lambda n, b, t, peak, bandwidth: n * b / bandwidth,
            ),
        ),
        tensors=False,
    ),
    Exercise(
        id="positions-computed",
        page=PAGE,
        grade=3,
        title="What does a cache save?",
        signature="positions_computed(prompt_tokens, new_tokens)",
        statement="A prompt is continued by `new_tokens` tokens. Return two integers: how many positions go through "
        "the model without a cache, where each new token needs the whole text again, and how many with one. The last "
        "token that is written is not read any more.",
        hints=(
            "Write down how many positions each pass has, for a prompt of 3 tokens and an answer of 2.",
            "Without a cache the passes have T, T + 1, ..., T + n - 1 positions. With one: T, then 1 each.",
            "The sum of 0 to n - 1 is n (n - 1) / 2.",
        ),
        inputs=lambda rng: [(13, 5), (11, 7), (3, 101)],
        oracle=positions_computed,
        mistakes=(
            Mistake(
                "This reads the last token as well: nothing follows it, so it never goes through the model.",
                lambda t, n: (n * t + n * (n - 1) // 2, t + n),
            ),
            Mistake(
                "Every pass has the length of the finished text here: the text grows by one token for each pass.",
                lambda t, n: (n * (t + n), t + n - 1),
            ),
            Mistake(
                "This sums 1 to n: the first pass has the T positions of the prompt and no more.",
                lambda t, n: (n * t + n * (n + 1) // 2, t + n - 1),
            ),
        ),
        tensors=False,
    ),
)
