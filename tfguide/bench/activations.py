"""`python -m tfguide.bench.activations`: how large a model's activations are, and what 8 bits for them cost.

Read with PyTorch, whose layers can be watched: the input of every linear layer, and the residual stream between the
blocks. The inputs are rounded with one scale for a whole tensor, for a row, or for 32 neighbours of a row.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import tfguide.torch as tg
from tfguide.bench.caches import read_documentation
from tfguide.bench.models import read_model
from tfguide.bench.run import write_json
from tfguide.bench.timing import machine
from tfguide.compress.calibration import source_of
from tfguide.generation.checks import check_text_tokens
from tfguide.loading import find_checkpoint
from tfguide.torch.quantized import round_activations

LARGEST = 12  # channels that are named


def round_tensor(x: Tensor) -> Tensor:
    """Activations rounded to 8 bits with one scale for all of them, and converted back."""
    return _rounded(x, x.abs().amax())


def round_rows(x: Tensor) -> Tensor:
    """Activations (..., in) rounded to 8 bits with a scale for each row, and converted back."""
    return _rounded(x, x.abs().amax(dim=-1, keepdim=True))


def _rounded(x, largest):
    scale = (largest / 127).clamp_min(1e-30)
    return torch.round(x / scale) * scale


ROUNDINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "tensor": round_tensor, "row": round_rows, "32 of a row": round_activations,
}  # fmt: skip


@contextmanager
def watching(model: nn.Module, see: Callable[[str, nn.Module, Tensor], Tensor | None]) -> Iterator[None]:
    """Within the block, `see` is given the name, the layer and the input of each linear layer before it computes.

    What it returns takes the place of the input; None leaves it.
    """

    def hook(name):
        def call(layer, inputs):
            changed = see(name, layer, inputs[0])
            return None if changed is None else (changed,)

        return call

    layers = [(name, layer) for name, layer in model.named_modules() if isinstance(layer, nn.Linear)]
    handles = [layer.register_forward_pre_hook(hook(name)) for name, layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.inference_mode()
def measure_inputs(model: Any, tokens: Sequence[int]) -> list[dict]:
    """A row for each linear layer whose input no layer before it has: its largest numbers, and what rounding costs.

    tokens: (n,). "largest" of the input, its "channel" and its "position"; "median" of the channels' largest magnitudes
    and "channels", those of the LARGEST ones; "errors": the root mean square of what the output changes by, over that
    of the output, for each of ROUNDINGS. The first position is left out of the errors: its numbers are the largest.
    """
    rows: list[dict] = []

    def see(name, layer, x):
        if source_of(model.config, name) != name:  # keys and values read what queries read
            return
        inputs = x.flatten(0, -2)
        most, at = inputs.abs().max(dim=0)
        channel = int(most.argmax())
        output = nn.functional.linear(inputs, layer.weight)[1:]
        errors = {
            kind: float((nn.functional.linear(rounds(inputs), layer.weight)[1:] - output).norm() / output.norm())
            for kind, rounds in ROUNDINGS.items()
        }
        rows.append({
            "layer": name, "largest": float(most[channel]), "channel": channel, "position": int(at[channel]),
            "median": float(most.median()), "channels": sorted(most.tolist(), reverse=True)[:LARGEST],
            "errors": errors,
        })  # fmt: skip

    with watching(model, see):
        model(torch.as_tensor(np.asarray(tokens))[None])
    return rows


def measure_residual(model: Any, tokens: Sequence[int]) -> list[dict]:
    """The residual stream before each block and behind the last: its largest number, and that of the other positions.

    tokens: (n,). A row has "largest", its "channel" and "position", "others", the largest behind the first position,
    and "median", of the largest magnitudes of the channels behind it.
    """
    rows = []
    for x in model.hidden_states(np.asarray(tokens)[None]):
        magnitudes = np.abs(x[0])
        position, channel = np.unravel_index(magnitudes.argmax(), magnitudes.shape)
        most = magnitudes[1:].max(axis=0)
        rows.append({
            "largest": float(magnitudes.max()), "channel": int(channel), "position": int(position),
            "others": float(most.max()), "median": float(np.median(most)),
        })  # fmt: skip
    return rows


def measure_roundings(model: Any, tokens: Sequence[int], window: int = 256) -> list[dict]:
    """The perplexity of a text with the inputs of all linear layers in 8 bits, for each of ROUNDINGS; weights float32.

    tokens: (n,). The first row is that without rounding. Raises as `perplexity`.
    """
    tokens = check_text_tokens(tokens, model.config.vocab_size)
    rows = [{"scale": None, "perplexity": tg.perplexity(model, tokens, window)}]
    for kind, rounds in ROUNDINGS.items():
        with watching(model, lambda name, layer, x, rounds=rounds: rounds(x)):
            rows.append({"scale": kind, "perplexity": tg.perplexity(model, tokens, window)})
    return rows


def table(result: dict) -> str:
    """The roundings, the largest inputs of layers, and the residual stream, as text."""
    lines = [f"{'scale of':14}{'perplexity':>11}"]
    lines += [f"{row['scale'] or 'not rounded':14}{row['perplexity']:>11.3f}" for row in result["roundings"]]
    lines += ["", f"{'largest':>10}{'channel':>9}{'median':>8}  layer"]
    for row in sorted(result["inputs"], key=lambda row: -row["largest"])[:8]:
        lines.append(f"{row['largest']:>10.1f}{row['channel']:>9}{row['median']:>8.2f}  {row['layer']}")
    lines += ["", f"{'block':>5}{'largest':>10}{'position':>9}{'others':>9}{'median':>8}"]
    for block, row in enumerate(result["residual"]):
        lines.append(f"{block:>5}{row['largest']:>10.1f}{row['position']:>9}{row['others']:>9.1f}{row['median']:>8.1f}")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m tfguide.bench.activations", description=__doc__.split("\n\n")[0])
    parser.add_argument("--model", metavar="PATH", help="a checkpoint with a tokenizer; default: SmolLM2-135M-Instruct")
    parser.add_argument("--tokens", type=int, default=2048, help="of Python's documentation; default: 2048")
    parser.add_argument("--window", type=int, default=256, help="tokens that are read at once; default: 256")
    parser.add_argument("--json", metavar="FILE", help="write the machine and the result there")
    options = parser.parse_args(arguments)
    path = find_checkpoint(options.model)
    config, weights = read_model(path)
    model = tg.from_weights(config, weights)
    tokens = read_documentation(path, options.tokens - 1)
    few = tokens[: 2 * options.window]
    result = {"window": options.window, "tokens": len(tokens), "watched": len(few)}
    result["inputs"], result["residual"] = measure_inputs(model, few), measure_residual(model, few)
    result["roundings"] = measure_roundings(model, tokens, options.window)
    print(table(result))
    if options.json:
        about = {"framework": "torch", "model": path.name, "dtype": "float32"}
        write_json({"task": "activations", "machine": machine(), **about, **result}, options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
