"""How a token is chosen: the stepper of beam search, what temperature and limits keep, and what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tfguide.figures.steppers import Cell, Frame, Row
from tfguide.figures.style import DASHES, PALETTE, ink, size, style
from tfguide.figures.tables import grouped_table, table
from tfguide.generation import BeamSearch, Sampling, probabilities

if TYPE_CHECKING:
    from IPython.display import HTML
    from matplotlib.figure import Figure

#: What the states of the frames mean.
LEGEND = {"read": "running: one row of the batch each", "chosen": "kept", "gone": "dropped", "accepted": "ended"}
MOST = 6  # candidates that a frame shows


def beam_frames(chances: Mapping[str, Mapping[str, float]], stop: str, n_beams: int) -> list[Frame]:
    """The frames of a beam search over words, a frame for each step, and one that compares it with greedy.

    chances: the probabilities of the next word, by the last one, which is "" at the start. stop: the word that ends a
    sentence. Every step is one of `BeamSearch`. Raises ValueError where the stop word is none of the words.
    """
    words = sorted({word for row in chances.values() for word in row})
    if stop not in words:
        raise ValueError(f"expected a stop word among {', '.join(words)}, got {stop!r}")
    search = BeamSearch(n_beams, 1 << 10, frozenset({words.index(stop)}), 0.0)
    frames, parents = [], [0]
    while parents:
        before = search.running
        rows = np.array([_log_row(chances, words, tokens) for tokens, _ in before])
        parents, _ = search.step(rows)
        running = tuple(Cell(_named(words, tokens, p) if tokens else "the prompt", "read") for tokens, p in before)
        lines = [Row("running", running), Row("continuations", _continuations(words, before, rows, search))]
        if search.ended:
            ended = (_named(words, *_parts(beam)) for beam in search.ended)
            lines.append(Row("ended", tuple(Cell(text, "accepted") for text in ended)))
        frames.append(Frame(_says([_text(words, tokens) for tokens, _ in before], parents, n_beams), tuple(lines)))
    return [*frames, _compared(chances, words, stop, search.ended[0])]


def _continuations(words, before, rows, search):
    """The likeliest continuations of all beams, and what became of each."""
    kept, ended = ({tokens for tokens, *_ in some} for some in (search.running, map(_parts, search.ended)))
    found = [
        ((*tokens, word), total + row[word])
        for (tokens, total), row in zip(before, rows, strict=True)
        for word in np.flatnonzero(np.isfinite(row)).tolist()
    ]
    found.sort(key=lambda pair: -pair[1])
    states = ["accepted" if tokens in ended else "chosen" if tokens in kept else "gone" for tokens, _ in found]
    shown = [Cell(_named(words, *pair), state) for pair, state in zip(found[:MOST], states[:MOST], strict=True)]
    return (*shown, *([Cell(f"and {len(found) - MOST} more")] if len(found) > MOST else ()))


def _says(running, parents, n_beams):
    if running == [""]:
        return f"The prompt is read once. The {n_beams} likeliest first words become rows of a batch."
    if not parents:
        return "All that was kept has ended."
    many = len(running)
    start = f"One step of the model reads the weights once for {many} rows. All continuations of all rows compete. "
    barren = [text for i, text in enumerate(running) if i not in parents]
    if not barren:
        return f"{start}Every row has a successor among the {n_beams} best."
    twice = [text for i, text in enumerate(running) if parents.count(i) > 1]
    return (
        f"{start}\u201c{twice[0]}\u201d has {parents.count(running.index(twice[0]))} successors among the best, "
        f"\u201c{barren[0]}\u201d has none: the cache of the one is copied over that of the other."
    )


def _compared(chances, words, stop, best):
    """The last frame: what greedy decoding writes, by a search with one beam, and the better sentence."""
    alone = BeamSearch(1, 1 << 10, frozenset({words.index(stop)}), 0.0)
    last = [0]
    while last:
        _, last = alone.step(np.array([_log_row(chances, words, tokens) for tokens, _ in alone.running]))
    greedy = alone.ended[0]
    says = f"Greedy decoding writes a sentence of probability {np.exp(greedy.log_probability):.3f}, the search found "
    if best.tokens == greedy.tokens:
        says += "the same sentence."
    else:
        says += f"one of {np.exp(best.log_probability):.3f}, which begins with \u201c{words[best.tokens[0]]}\u201d."
    rows = (("greedy", greedy, "gone"), ("beam search", best, "accepted"))
    return Frame(says, tuple(
        Row(name, (Cell(_named(words, *_parts(beam)), state),))
        for name, beam, state in rows
    ))  # fmt: skip


def _log_row(chances, words, tokens):
    row = chances[words[tokens[-1]] if tokens else ""]
    with np.errstate(divide="ignore"):
        return np.log([row.get(word, 0.0) for word in words])


def _parts(beam):
    return beam.tokens, beam.log_probability


def _text(words, tokens):
    return " ".join(words[token] for token in tokens)


def _named(words, tokens, log_probability):
    return f"{_text(words, tokens)}  {log_probability:.2f}".replace("-", "\u2212")


def temperatures(
    names: Sequence[str], logits: np.ndarray, values: Sequence[float] = (0.5, 1.0, 1.5), shown: int = 10
) -> Figure:
    """The likeliest tokens by name, and all by rank, at some temperatures.

    names: of the `shown` likeliest tokens; logits: (V,). The points on the curves are where top-p 0.9 ends.
    """
    import matplotlib.pyplot as plt

    with style():
        fig, (top, low) = plt.subplots(2, 1, figsize=size(1.25))
        for k, value in enumerate(values):
            ranked = np.sort(probabilities(logits[None], Sampling(temperature=value))[0])[::-1]
            look = {"color": PALETTE[k], "label": f"temperature {value:g}"}
            top.barh(np.arange(shown) + 0.27 * (k - 1), ranked[:shown], height=0.25, **look)
            low.plot(np.arange(1, len(ranked) + 1), ranked, linestyle=DASHES[k], **look)
            n = kept(logits, Sampling(temperature=value, top_p=0.9))
            low.plot([n], [ranked[n - 1]], "o", color=PALETTE[k], markersize=6)
        top.set_yticks(range(shown), [repr(name) for name in names[:shown]])
        top.invert_yaxis()
        top.set_xlabel("probability")
        low.set(xscale="log", yscale="log", ylim=(1e-9, 1.5), xlabel="rank of the token", ylabel="probability")
        low.axvline(40, color=ink(), linewidth=0.8, linestyle=DASHES[2])
        fig.legend(*low.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return fig


def kept(logits: np.ndarray, sampling: Sampling) -> int:
    """How many of the tokens (V,) can be drawn."""
    return int(np.count_nonzero(probabilities(logits[None], sampling)))


def kept_table(rows: Mapping[str, np.ndarray], samplings: Mapping[str, Sampling]) -> HTML:
    """How many tokens each way to choose keeps after each prompt, and their share of the probability.

    rows: the logits (V,) by prompt.
    """
    lines = []
    for prompt, logits in rows.items():
        whole = probabilities(logits[None], Sampling())[0]
        for name, sampling in samplings.items():
            some = probabilities(logits[None], sampling)[0] > 0
            lines.append((prompt, (name, f"{some.sum():,}", f"{whole[some].sum():.1%}")))
    return grouped_table(("way", "tokens that can come", "their probability at temperature 1"), lines)


def choosing_table(result: Mapping[str, Any], rows: int) -> HTML:
    """The seconds of choosing for so many rows beside those of a step: of `python -m tfguide.bench.decoding`."""
    lines = [
        (
            row["way"], f"{1e3 * row['seconds']:.2f} ms", f"{row['seconds'] / row['step_seconds']:.1%}",
            f"{1e3 * row['whole_seconds']:.2f} ms", f"{row['whole_seconds'] / row['step_seconds']:.0%}",
        )
        for row in result["choosing"] if row["rows"] == rows
    ]  # fmt: skip
    return table(("way", "choosing", "of a step", "from the whole distribution", "of a step"), lines)


def texts_table(result: Mapping[str, Any]) -> HTML:
    """Likelihood and repetition of continuations by the way they were chosen, below those of the text itself."""
    plain = _without_limits(result)
    lines = [
        (
            row["way"], f"{row['mean_log_probability']:.2f}".replace("-", "\u2212"), f"{row['repeated']:.0%}",
            f"{row['distinct']:.0%}",
        )
        for row in (result["text"], *plain, *(row for row in result["texts"] if row not in plain))
    ]  # fmt: skip
    return table(("way", "log p of a token", "repeated", "distinct pairs"), lines)


def _without_limits(result):
    """The rows of greedy decoding and of each temperature alone, the coldest first."""
    own = [row for row in result["texts"] if row["way"] in ("greedy", f"temperature {row['temperature']:g}")]
    return sorted(own, key=lambda row: row["temperature"])


def texts_by_temperature(result: Mapping[str, Any]) -> Figure:
    """Likelihood and repetition of what was drawn at each temperature; dotted: of the text itself."""
    import matplotlib.pyplot as plt

    drawn = _without_limits(result)
    at = [row["temperature"] for row in drawn]
    with style():
        fig, axes = plt.subplots(2, 1, figsize=size(1.0), sharex=True)
        for ax, key, label in zip(
            axes, ("mean_log_probability", "repeated"), ("log p of a token", "repeated"), strict=True
        ):
            ax.plot(at, [row[key] for row in drawn], "o-", color=PALETTE[0], markersize=4, label="drawn")
            ax.axhline(result["text"][key], color=PALETTE[1], linestyle=DASHES[2], label="the text itself")
            ax.set_ylabel(label)
        axes[1].set_xlabel("temperature; 0 is greedy")
        fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return fig


def beams_table(result: Mapping[str, Any]) -> HTML:
    """What a step of a beam search takes by its width, beside what its bytes say, and what the search finds."""
    first = result["beams"][0]
    lines = [
        (
            row["n_beams"], f"{step_seconds(row) / step_seconds(first):.2f}\u00a0x",
            f"{row['bytes'] / first['bytes']:.2f}\u00a0x", f"{1e3 * row['decode_seconds']:.1f} ms",
            f"{1e3 * row['choose_seconds']:.1f} ms", f"{1e3 * row['reorder_seconds']:.2f} ms",
            f"{row['log_probability']:.1f}".replace("-", "\u2212"), f"{row['repeated']:.0%}",
        )
        for row in result["beams"]
    ]  # fmt: skip
    head = ("beams", "a step", "by its bytes", "the model", "choosing", "the cache", "log p", "repeated")
    return table(head, lines)


def step_seconds(row: Mapping[str, Any]) -> float:
    """The seconds of a whole step of a beam search."""
    return sum(row[f"{part}_seconds"] for part in ("decode", "choose", "reorder"))
