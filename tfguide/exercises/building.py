"""Exercises of section 5.2: the parts of a model, and the loop that writes."""

from __future__ import annotations

import numpy as np

from tfguide import reference
from tfguide.exercises.algorithms import split_heads
from tfguide.exercises.concepts import attention_layer
from tfguide.exercises.entry import Exercise, Mistake, numbers


def greedy_loop(logits, prompt, max_new_tokens, stop):
    """New tokens of a model that sees the last token only, up to the first `stop`, which is among them."""
    tokens = list(prompt)
    for _ in range(max_new_tokens):
        tokens.append(int(np.argmax(logits[tokens[-1]])))
        if tokens[-1] == stop:
            break
    return tokens[len(prompt) :]


def pre_norm_layer(x, weight, matrix):
    """A residual layer as newer models have it: the norm before the layer, and the sum untouched by it."""
    return x + reference.rms_norm(x, weight) @ matrix


def _solve_pre_norm(package, x, weight, matrix):
    return x + package.rms_norm(x, weight) @ matrix


def cross_attention(x, memory, w_query, w_key, w_value, w_output, n_heads):
    """Attention of a decoder to the output of an encoder: only the queries are its own."""
    query, key, value = (
        split_heads(part @ w, n_heads) for part, w in ((x, w_query), (memory, w_key), (memory, w_value))
    )
    return reference.scaled_dot_product_attention(query, key, value).reshape(x.shape) @ w_output


def _solve_cross(package, x, memory, w_query, w_key, w_value, w_output, n_heads):
    matrices = {"query": w_query, "key": w_key, "value": w_value, "output": w_output}
    return attention_layer(package, x.shape[-1], n_heads, **matrices)(x, memory)


def _causal_cross(x, memory, w_query, w_key, w_value, w_output, n_heads):
    query, key, value = (
        split_heads(part @ w, n_heads) for part, w in ((x, w_query), (memory, w_key), (memory, w_value))
    )
    visible = np.arange(memory.shape[1]) <= np.arange(x.shape[1])[:, None]
    return reference.scaled_dot_product_attention(query, key, value, visible).reshape(x.shape) @ w_output


def _cross_cases(rng):
    for B, T, S, H, d in ((1, 3, 5, 2, 3), (2, 5, 7, 3, 2)):
        D = H * d
        yield numbers(rng, B, T, D), numbers(rng, B, S, D), *(numbers(rng, D, D) / 4 for _ in range(4)), H


EXERCISES = (
    Exercise(
        id="greedy-loop",
        page="05b",
        grade=1,
        title="The loop that writes",
        signature="greedy_loop(logits, prompt, max_new_tokens, stop)",
        statement="A very small model sees the last token only: row i of `logits` (V, V) are the logits behind token "
        "i. Return the list of new tokens behind the list `prompt`: the likeliest one each time, `max_new_tokens` at "
        "most, and none behind the token `stop`, which is the last of the list where it comes.",
        hints=(
            "Each new token is the input of the next step.",
            "Append first, then look whether it is `stop`.",
            "Return what stands behind the prompt: tokens[len(prompt):].",
        ),
        inputs=lambda rng: [
            (np.eye(7)[[1, 2, 3, 4, 5, 6, 0]], [0, 1], 5, 5),
            (np.eye(5)[[1, 2, 0, 3, 4]], [2], 7, 4),
        ],
        oracle=greedy_loop,
        mistakes=(
            Mistake(
                "The prompt is among what is returned: only the new tokens are asked for.",
                lambda logits, prompt, n, stop: [*prompt, *greedy_loop(logits, prompt, n, stop)],
            ),
            Mistake(
                "The token that ends the text is missing: it belongs to what was written.",
                lambda logits, prompt, n, stop: [t for t in greedy_loop(logits, prompt, n, stop) if t != stop],
            ),
            Mistake("It writes on behind `stop`.", lambda logits, prompt, n, stop: greedy_loop(logits, prompt, n, -1)),
            Mistake(
                "Every step reads the end of the prompt: it has to read the token that was just written.",
                lambda logits, prompt, n, stop: greedy_loop(logits, prompt, 1, stop) * n,
            ),
        ),
        solution="tfguide.generation:generate",
        solve=greedy_loop,
        tensors=False,
    ),
    Exercise(
        id="pre-norm",
        page="05b",
        grade=2,
        title="A residual layer",
        signature="pre_norm_layer(x, weight, matrix)",
        statement="Return a residual layer as newer models have it, of shape (B, T, D): x (B, T, D) plus a layer of "
        "the normalised x. The norm is the root mean square norm with `weight` (D,) and eps = 1e-6, the layer a "
        "product with `matrix` (D, D).",
        hints=(
            "Three steps: norm, product, sum.",
            "The sum takes x as it was before the norm.",
            "x + (x / sqrt(mean of x * x + 1e-6) * weight) @ matrix.",
        ),
        inputs=lambda rng: [
            (numbers(rng, B, T, D), numbers(rng, D), numbers(rng, D, D)) for B, T, D in ((1, 2, 5), (2, 3, 7))
        ],
        oracle=pre_norm_layer,
        mistakes=(
            Mistake(
                "The norm comes behind the sum, as in the first Transformer: here it comes before the layer.",
                lambda x, w, m: reference.rms_norm(x + x @ m, w),
            ),
            Mistake(
                "The sum takes the normalised x: what runs past the layer stays untouched.",
                lambda x, w, m: reference.rms_norm(x, w) + reference.rms_norm(x, w) @ m,
            ),
            Mistake("The sum is missing.", lambda x, w, m: reference.rms_norm(x, w) @ m),
            Mistake("The norm is missing.", lambda x, w, m: x + x @ m),
        ),
        solution="DecoderBlock",
        solve=_solve_pre_norm,
        tools={
            "numpy": ".mean, np.sqrt, @",
            "torch": ".mean, torch.sqrt, @",
            "tensorflow": "tf.reduce_mean, tf.sqrt, @",
        },
    ),
    Exercise(
        id="cross-attention",
        page="05b",
        grade=3,
        title="A decoder that looks at an encoder",
        signature="cross_attention(x, memory, w_query, w_key, w_value, w_output, n_heads)",
        statement="Return the multi-head attention (B, T, D) with which a decoder's x (B, T, D) looks at an "
        "encoder's output `memory` (B, S, D). The matrices are (D, D), without biases; the features of a head are "
        "neighbours. No mask is needed: the whole source is known.",
        hints=(
            "Two of query, key and value are made of the memory.",
            "The scores are (B, H, T, S): T queries of the decoder, S keys of the encoder.",
            "As in the exercise multi-head, with x @ w_query, memory @ w_key and memory @ w_value.",
        ),
        inputs=lambda rng: list(_cross_cases(rng)),
        oracle=cross_attention,
        mistakes=(
            Mistake(
                "This is self-attention of x: keys and values are those of the memory.",
                lambda x, memory, *matrices: cross_attention(x, x, *matrices),
            ),
            Mistake(
                "The roles are exchanged: the queries are the decoder's, and the result has its length.",
                lambda x, memory, *matrices: cross_attention(memory, x, *matrices),
            ),
            Mistake("A causal mask hides parts of the source: all of it is known.", _causal_cross),
            Mistake(
                "The output matrix is missing.",
                lambda x, memory, q, k, v, o, h: cross_attention(x, memory, q, k, v, np.eye(x.shape[-1]), h),
            ),
        ),
        solution="MultiHeadAttention",
        solve=_solve_cross,
        tools={
            "numpy": "np.einsum, .reshape",
            "torch": "torch.einsum, torch.softmax, .reshape",
            "tensorflow": "tf.einsum, tf.nn.softmax, tf.reshape",
        },
    ),
)
