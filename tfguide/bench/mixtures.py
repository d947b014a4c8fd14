"""`python -m tfguide.bench.mixtures`: what a mixture of experts predicts, by the number of experts that a token reads.

Small decoders learn from the documentation of Python by one recipe, from the same batches. Mixtures of eight experts
that send a token to 1 or 2 of them stand between two ordinary networks: one that is as wide as the two experts of a
token together, and one as wide as all eight. The mixture of 2 is read with more and fewer experts than it learned with,
too. The loss has no term that spreads the tokens over the experts. `--json` goes on with the file if it is there.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tfguide.bench.run import write_json
from tfguide.bench.trade import go_on, model_perplexity, read_learned
from tfguide.config import ModelConfig
from tfguide.cost.parameters import active_parameters, parameters
from tfguide.initialization import init_weights
from tfguide.loading import FRAMEWORKS, load_framework
from tfguide.parts import Experts
from tfguide.tasks import documentation
from tfguide.training import Recipe, batch_of, learn, next_tokens
from tfguide.versions import versions

N_EXPERTS, D_EXPERT = 8, 128
RECIPE = Recipe(steps=800, rows=8, length=128, learning_rate=3e-3)
HELD_OUT = 16384  # tokens


def model_config(vocabulary: int, d_ff: int, per_token: int | None = None) -> ModelConfig:
    """Two blocks of the book's decoder, half as wide: with a network of `d_ff`, or with experts of which some are read.

    One expert alone has the weight that the router gives it: a weight of 1 would teach the router nothing.
    """
    experts = per_token and Experts(
        n_experts=N_EXPERTS, per_token=per_token, d_expert=D_EXPERT, normalised=per_token > 1
    )
    return documentation.model_config(vocabulary).replace(
        d_model=128, n_layers=2, d_ff=d_ff, d_head=32, attention_scale=32**-0.5, d_rotary=32, experts=experts
    )  # fmt: skip


def contestants(vocabulary: int) -> dict[str, ModelConfig]:
    """The models that learn, by name."""
    mixtures = {f"{k} of {N_EXPERTS} experts": model_config(vocabulary, D_EXPERT, k) for k in (1, 2)}
    return {
        "a network of two experts' width": model_config(vocabulary, 2 * D_EXPERT),
        **mixtures,
        "a network of all experts' width": model_config(vocabulary, N_EXPERTS * D_EXPERT),
    }


def measure_mixture(
    tg: Any,
    name: str,
    config: ModelConfig,
    recipe: Recipe,
    learned: np.ndarray,
    held_out: np.ndarray,
    report: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Train one model and measure it: a row with its sizes, the loss of each step, and the perplexity.

    learned, held_out: tokens (n,). "read": the perplexity of a mixture by the experts that a token reads, whatever it
    learned with. report: is given a line from time to time.
    """  # fmt: skip
    start = time.perf_counter()
    trainer = tg.Trainer(tg.from_weights(config, init_weights(config, recipe.seed)), recipe)
    losses = []
    for record in learn(trainer, lambda step: next_tokens(batch_of(learned, step, recipe))):
        losses.append(round(record.loss, 4))
        if record.step % 100 == 0:
            report(f"{name}: step {record.step}, loss {record.loss:.3f}, {time.perf_counter() - start:.0f} s")
    row = {
        "name": name, "config": config.to_dict(), "parameters": parameters(config),
        "active_parameters": active_parameters(config), "loss": losses, "seconds": time.perf_counter() - start,
        "perplexity": model_perplexity(trainer.model, held_out),
    }  # fmt: skip
    if config.experts is not None and config.experts.normalised:
        weights = trainer.model.to_weights()
        row["read"] = {n: model_perplexity(tg.from_weights(reading(config, n), weights), held_out)
                       for n in range(1, config.experts.n_experts + 1)}  # fmt: skip
    return row


def reading(config: ModelConfig, n: int) -> ModelConfig:
    """The same mixture with `n` experts for each token. Raises ValueError for more than it has."""
    return config.replace(experts=dataclasses.replace(config.experts, per_token=n))


def table(rows: Sequence[dict]) -> str:
    """The rows as a table of text."""
    lines = [f"{'':34}{'weights':>11}{'of a token':>12}{'perplexity':>12}"]
    for row in rows:
        lines.append(
            f"{row['name']:34}{row['parameters']:>11,}{row['active_parameters']:>12,}{row['perplexity']:>12.2f}"
        )
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m tfguide.bench.mixtures", description=__doc__.split("\n\n")[0])
    parser.add_argument("--framework", choices=FRAMEWORKS, default="torch")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="some of the models; default: all")
    parser.add_argument("--steps", type=int, default=RECIPE.steps, help=f"default: {RECIPE.steps}")
    parser.add_argument("--json", metavar="FILE", required=True, help="the result, which is gone on with")
    options = parser.parse_args(arguments)
    tokenizer = documentation.tokenizer()
    recipe = dataclasses.replace(RECIPE, steps=options.steps, warmup=min(RECIPE.warmup, options.steps - 1))
    learned, _ = read_learned(tokenizer)
    held_out = np.array(tokenizer.encode(documentation.held_out()).ids[:HELD_OUT])
    result = go_on(options.json, "mixtures")
    result |= {"framework": options.framework, "recipe": dataclasses.asdict(recipe), "versions": versions()}
    names = contestants(tokenizer.get_vocab_size())
    for name in options.only or names:
        row = measure_mixture(
            load_framework(options.framework), name, names[name], recipe, learned, held_out,
            lambda line: print(line, flush=True),
        )  # fmt: skip
        rows = {old["name"]: old for old in result["rows"]} | {name: row}
        result["rows"] = [rows[one] for one in names if one in rows]
        write_json(result, options.json)
    print(table(result["rows"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
