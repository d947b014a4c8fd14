"""Sequences divided among processes, each of which has a whole model: nothing is sent but the results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tfguide.torch.parallel.group import Group


def by_sequences(work: Callable[[list[Any]], Sequence[Any]], sequences: Sequence[Any], group: Group) -> list[Any]:
    """The results of all sequences, in their order, in every process; each process works on its own part of them.

    work: from some sequences to a result for each, such as `generate` of a model that every process has loaded whole;
    it is not called where there are fewer sequences than processes and none is left. What it computes for a sequence
    should not depend on which others come with it: with a temperature above 0, `generate` draws by the place in the
    batch. Raises ValueError where there is not one result for each sequence; LostProcess.
    """
    start, stop = (len(sequences) * end // group.n for end in (group.rank, group.rank + 1))
    own = list(sequences[start:stop])
    results = list(work(own)) if own else []
    if len(results) != len(own):
        raise ValueError(f"expected a result for each of {len(own)} sequences, got {len(results)}")
    return [result for part in group.collect(results) for result in part]
