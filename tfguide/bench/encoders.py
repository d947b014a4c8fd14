"""MiniLM with a head, as the techniques of chapter 6 leave it: what the benchmarks of two tasks share."""

from __future__ import annotations

from functools import partial
from typing import Any

from tfguide.bench.applications import Variant
from tfguide.bench.models import weights_size
from tfguide.compress import Quantization
from tfguide.cost.memory import weight_bytes
from tfguide.loading import load_framework
from tfguide.tasks.examples import Examples, logits

SHARE = 0.5  # of each matrix that is pruned


def variants_of(framework: str, model: Any, examples: Examples) -> list[Variant]:
    """A model with a head as float32, bfloat16, 8 and 4 bits, and pruned: from numbers of examples to their logits.

    So the time is that of the model: the texts have been cut into tokens before.
    """
    guide, config = load_framework(framework), model.config
    size = weights_size(config, None)["n_bytes"]
    made = (
        ("float32", model, size, ""),
        ("bfloat16", guide.from_weights(config, model.to_weights(), "bfloat16"), weight_bytes(config, "bfloat16"), ""),
        ("int8", guide.quantize(model, 8), weights_size(config, Quantization(8))["n_bytes"], "a scale for each output"),
        ("int4", guide.quantize(model, 4), weights_size(config, Quantization(4))["n_bytes"], "groups of 32"),
        ("pruned", guide.prune_magnitude(model, SHARE), size, "half of each matrix set to 0"),
    )

    def answer(one, numbers):
        return logits(one, examples.choose(numbers))

    return [Variant(name, partial(answer, one), int(n_bytes), about) for name, one, n_bytes, about in made]
