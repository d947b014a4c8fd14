"""Exercises of section 6.11: blocks, shared beginnings, the tokens of a step, and attention by a table."""

from __future__ import annotations

import numpy as np

from tfguide import reference
from tfguide.config import ModelConfig
from tfguide.exercises.entry import Exercise, Mistake, numbers
from tfguide.serving.blocks import BlockPool, Table

PAGE = "06k"


def blocks_held(lengths, block_size):
    """The blocks that texts of these lengths hold, and the positions in them that are not filled."""
    blocks = int((-(-lengths // block_size)).sum())
    return blocks, blocks * block_size - int(lengths.sum())


def share_prefix(computed, tokens, block_size):
    """How many tokens of a prompt need not be computed, since a text that was computed begins with the same blocks."""
    longest = 0
    for text in computed:
        n = 0
        while n + block_size < len(tokens) and text[n : n + block_size] == tokens[n : n + block_size]:
            n += block_size
        longest = max(longest, n)
    return longest


def schedule(unread, budget):
    """The tokens of each text that a step computes: first of those that have one to go, then parts of prompts."""
    counts = [0] * len(unread)
    for is_turn in (lambda n: n == 1, lambda n: n > 1):
        for i, n in enumerate(unread):
            if is_turn(n):
                counts[i] = min(n, budget)
                budget -= counts[i]
    return counts


def paged_attention(query, keys, values, table, length):
    """Attention of one query (H, d) over the first `length` positions of the blocks in a table: (H, d)."""
    key, value = (np.concatenate([part[block] for block in table])[:length] for part in (keys, values))
    return reference.scaled_dot_product_attention(query[None, None], key[None], value[None])[0, 0]


def _solve_sharing(computed, tokens, block_size):
    pool = BlockPool(1 + sum(len(text) // block_size + 1 for text in computed), block_size)
    for text in computed:
        table = Table()
        pool.share_prefix(table, text)
        pool.grow(table, len(text))
        pool.publish(table, text, len(text))
        pool.release(table)
    return pool.share_prefix(Table(), tokens)


def _solve_attention(package, query, keys, values, table, length):
    """The blocks, one after the other, in the framework's dense cache."""
    (_, b, K, d), left = keys.shape, length
    cache = package.KVCache(
        ModelConfig(kind="decoder", d_model=K * d, n_layers=1, n_heads=K, d_ff=2, vocab_size=2), 1, length
    )
    for block in table:
        n = min(b, left)
        view = cache.extend(n)
        key, value = view.append(0, (keys[block : block + 1, :n], values[block : block + 1, :n]))
        view.commit(n)
        left -= n
    return package.scaled_dot_product_attention(query[None, None], key, value)[0, 0]


def _whole_prompt(computed, tokens, block_size):
    return share_prefix(computed, [*tokens, -1], block_size)


def _anywhere(computed, tokens, block_size):
    """A block counts wherever it stands in a text."""
    known = {tuple(text[i : i + block_size]) for text in computed for i in range(0, len(text), block_size)}
    n = 0
    while n + block_size < len(tokens) and tuple(tokens[n : n + block_size]) in known:
        n += block_size
    return n


def _single_tokens(computed, tokens, block_size):
    counts = [0]
    for text in computed:
        differs = [i for i, (a, b) in enumerate(zip(text, tokens, strict=False)) if a != b]
        counts.append(min([*differs, len(text), len(tokens) - 1]))
    return max(counts)


def _in_order(unread, budget):
    counts = []
    for n in unread:
        counts.append(min(n, budget))
        budget -= counts[-1]
    return counts


def _whole_prompts(unread, budget):
    counts = [min(n, 1) if n == 1 else 0 for n in unread]
    left = budget - sum(counts)
    for i, n in enumerate(unread):
        if 1 < n <= left:
            counts[i] = n
            left -= n
    return counts


def _prompts_beside(unread, budget):
    """Prompts get the whole budget, and the single tokens come on top of it."""
    counts = [0] * len(unread)
    for i, n in enumerate(unread):
        counts[i] = 1 if n == 1 else min(n, budget)
        budget -= counts[i] if n > 1 else 0
    return counts


def _attention_cases(rng):
    for H, d, b, n_blocks, table, length in (
        (2, 5, 3, 7, [5, 2, 6], 8),
        (3, 7, 2, 5, [4, 0, 3, 1], 7),
        (1, 3, 5, 3, [2, 0], 6),
    ):
        query = numbers(rng, H, d)
        yield query, numbers(rng, n_blocks, b, H, d), numbers(rng, n_blocks, b, H, d), table, length


_LONG = [*range(20, 28), 1, 2, 3]

EXERCISES = (
    Exercise(
        id="blocks-held",
        page=PAGE,
        grade=1,
        title="How many blocks?",
        signature="blocks_held(lengths, block_size)",
        statement="Texts have `lengths` (n,) positions in a paged cache, an integer array of NumPy, and share none. "
        "Return two integers: the blocks of `block_size` positions that they hold, and how many positions of these are "
        "not filled.",
        hints=(
            "A text of 17 positions holds two blocks of 16, one of 16 holds one.",
            "Round each text up, and then add: a block belongs to one text.",
            "-(-lengths // block_size) rounds up.",
        ),
        inputs=lambda rng: [(np.array([1, 16, 17, 40]), 16), (np.array([5, 7, 10]), 5)],
        oracle=blocks_held,
        mistakes=(
            Mistake(
                "Blocks that are not full are missing: round up.",
                lambda lengths, b: (int((lengths // b).sum()), int((lengths // b).sum() * b - lengths.sum())),
            ),
            Mistake(
                "A text that fills its last block exactly has one block too many here.",
                lambda lengths, b: (int((lengths // b + 1).sum()), int((lengths // b + 1).sum() * b - lengths.sum())),
            ),
            Mistake(
                "The sum is rounded up here, as if texts shared blocks: round each text up.",
                lambda lengths, b: blocks_held(lengths.sum(keepdims=True), b),
            ),
        ),
        tensors=False,
    ),
    Exercise(
        id="share-prefix",
        page=PAGE,
        grade=2,
        title="What is there already?",
        signature="share_prefix(computed, tokens, block_size)",
        statement="`computed` is a list of texts, lists of token ids, whose full blocks of `block_size` positions are "
        "all in the pool. Return how many tokens of a new prompt, the list `tokens`, need not be computed.\n\nOnly "
        "full blocks are shared, a block is the same only if everything before it is, too, and at least one token of "
        "the prompt is computed.",
        hints=(
            "Compare with each text, block by block, and stop at the first difference.",
            "The last block of the prompt is never taken where it ends the prompt: something must be left.",
            "while n + block_size < len(tokens) and the next blocks are equal: n += block_size.",
        ),
        inputs=lambda rng: [
            ([[1, 2, 3, 4, 5, 6], _LONG], [*range(20, 28), 9, 9], 4),
            ([_LONG, [1, 2, 3, 4]], list(range(20, 28)), 4),
            ([[5, 6, 7, 8, 1, 2, 3, 4], _LONG], [1, 2, 3, 4, 5], 4),
            ([_LONG], [*range(20, 26), 3, 3, 3], 4),
            ([], [1, 2, 3], 2),
        ],
        oracle=share_prefix,
        mistakes=(
            Mistake("All of a prompt is taken here: without a computed token there are no logits.", _whole_prompt),
            Mistake("A block counts here wherever it stands: its keys depend on all tokens before it.", _anywhere),
            Mistake("Single tokens are counted: only full blocks are shared.", _single_tokens),
            Mistake(
                "Only the first text is compared: any of them may begin in the same way.",
                lambda computed, tokens, b: share_prefix(computed[:1], tokens, b),
            ),
        ),
        solution="tfguide.serving.blocks:BlockPool",
        solve=_solve_sharing,
        tensors=False,
    ),
    Exercise(
        id="schedule-step",
        page=PAGE,
        grade=2,
        title="The tokens of a step",
        signature="schedule(unread, budget)",
        statement="`unread` is a list of integers, one for each running text in the order of their ranks: how many of "
        "its tokens are not in the cache. It is 1 for a text that is being written, and more for one whose prompt is "
        "being read. A step computes at most `budget` tokens, which are enough for one of each text.\n\nReturn a list: "
        "how many tokens of each text the step computes. Texts that are being written come first. What is left goes to "
        "the prompts, in their order, and a prompt that does not fit is cut.",
        hints=(
            "Two passes over the texts: those with 1, then those with more.",
            "min(n, budget) tokens, which are then taken from the budget.",
            "counts = [0] * len(unread), and two loops with the same body.",
        ),
        inputs=lambda rng: [([1, 30, 1, 1], 16), ([40, 1, 7, 5, 1], 20), ([3, 1, 5], 32), ([50, 1, 9], 8)],
        oracle=schedule,
        mistakes=(
            Mistake("The texts are served in their order: one that is being written waits for a prompt.", _in_order),
            Mistake("A prompt that does not fit waits here: cut it.", _whole_prompts),
            Mistake("The step computes more than its budget: single tokens count as well.", _prompts_beside),
        ),
        solution="tfguide.serving:Scheduler.schedule",
        solve=schedule,
        tensors=False,
    ),
    Exercise(
        id="paged-attention",
        page=PAGE,
        grade=3,
        title="Attention by a table",
        signature="paged_attention(query, keys, values, table, length)",
        statement="Return the output (H, d) of attention for one new token of a text. query (H, d) is its query. keys "
        "and values (n_blocks, b, H, d) are the blocks of a pool, which other texts use as well; `table`, a list of "
        "integers, names those of this text in the order of its positions. The first `length` positions are filled: "
        "all blocks but the last are full. The scale is 1 / sqrt(d).",
        hints=(
            "Join the blocks of the table along the positions, and cut behind the last one that is filled.",
            "Without the cut, slots that other texts have left behind are seen.",
            "scores (H, length) = einsum('hd,shd->hs', query, key) / sqrt(d), softmax, and the sum over the values.",
        ),
        inputs=lambda rng: list(_attention_cases(rng)),
        oracle=paged_attention,
        mistakes=(
            Mistake(
                "The whole last block is seen: cut behind `length` positions.",
                lambda query, keys, values, table, length: paged_attention(
                    query, keys, values, table, len(table) * keys.shape[1]
                ),
            ),
            Mistake(
                "The first blocks of the pool are read, whatever the table says.",
                lambda query, keys, values, table, length: paged_attention(
                    query, keys, values, list(range(len(table))), length
                ),
            ),
            Mistake(
                "The blocks are read in the order of their numbers: the last of the table is the one that is not full.",
                lambda query, keys, values, table, length: paged_attention(query, keys, values, sorted(table), length),
            ),
            Mistake(
                "The scores are not divided by sqrt(d).",
                lambda query, keys, values, table, length: paged_attention(
                    query * query.shape[1] ** 0.5, keys, values, table, length
                ),
            ),
        ),
        solution="KVCache",
        solve=_solve_attention,
        tools={
            "numpy": "np.concatenate, np.einsum, np.exp",
            "torch": "torch.cat, torch.einsum, torch.softmax",
            "tensorflow": "tf.concat, tf.gather, tf.einsum, tf.nn.softmax",
        },
    ),
)
