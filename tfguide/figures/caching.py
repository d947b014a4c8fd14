"""The KV cache in pictures: the stepper of section 6.2, and what a step computes with and without a cache."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tfguide.figures import style
from tfguide.figures.steppers import Cell, Frame, Row, cells

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: What the states of the frames mean.
LEGEND = {"new": "computed in this step", "read": "read from the cache", "chosen": "the token that comes out"}


def growing_cache(pieces: Sequence[str], n_prompt: int) -> list[Frame]:
    """The frames of generation with a cache: the prompt, then a step for each token but the last.

    pieces: the text of every token, prompt and answer; n_prompt: how many of them are the prompt. Raises ValueError
    where the prompt is empty or leaves nothing to answer.
    """
    if not 1 <= n_prompt < len(pieces):
        raise ValueError(f"expected a prompt of 1 to {len(pieces) - 1} of the {len(pieces)} tokens, got {n_prompt}")
    frames, computed, again = [], 0, 0
    for end in range(n_prompt, len(pieces)):
        start = 0 if end == n_prompt else end - 1  # the cache holds what lies before
        n_new = end - start
        computed, again = computed + n_new, again + end
        what = f"the {n_new} tokens of the prompt" if end == n_prompt else f"one token, {pieces[start].strip()!r}"
        held = f"reads {start} from the cache and " if start else ""
        says = (
            f"{'Prefill' if end == n_prompt else 'Decode'}: the model computes keys and values of {what}, {held}"
            f"adds {n_new}. The last row of logits gives {pieces[end].strip()!r}."
        )
        kept = cells(*range(start), state="read") + cells(*range(start, end), state="new")
        texts = (*cells(*pieces[:start]), *cells(*pieces[start:end], state="new"), Cell(pieces[end], "chosen"))
        counts = cells(f"{computed} so far", f"{again} without a cache")
        rows = {"text": texts, "keys": kept, "values": kept, "positions computed": counts}
        frames.append(Frame(says, tuple(Row(name, some) for name, some in rows.items())))
    return frames


def positions_computed(n_prompt: int, n_new: int) -> tuple[int, int]:
    """The positions that a model computes to write `n_new` tokens after a prompt: with a cache, and without.

    With one, the prompt and each new token but the last; without, the whole text again for each token.
    """
    return n_prompt + n_new - 1, sum(range(n_prompt, n_prompt + n_new))


def step_times(lengths: Sequence[int], plain: Sequence[float], cached: Sequence[float]) -> Figure:
    """Seconds of one more token after texts of these lengths: the whole text again, and from a cache."""
    import matplotlib.pyplot as plt

    with style.style():
        fig, ax = plt.subplots(figsize=style.size(0.55))
        ax.plot(lengths, [1e3 * s for s in plain], marker="o", label="the whole text again")
        ax.plot(lengths, [1e3 * s for s in cached], marker="s", label="with a cache")
        ax.set(xlabel="positions before the token", ylabel="ms for one token", xscale="log", yscale="log")
        ax.set_xticks(lengths, [str(n) for n in lengths])
        ax.minorticks_off()
        ax.legend()
    return fig
