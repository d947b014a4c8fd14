"""What a soak sends: requests of many kinds to a tiny model, and some that are none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from tfguide.config import ModelConfig
from tfguide.generation.generate import generate
from tfguide.generation.sampling import Sampling
from tfguide.initialization import init_weights
from tfguide.loading import load_framework, try_accelerate
from tfguide.serving import Engine, Request

CASES = 128  # different requests, each of which comes many times
LENGTH = 96  # positions of a text at most
BAD = ("empty", "long", "outside", "many", "n", "kind")  # what is wrong with a request that is none


def tiny_engine(framework: str = "torch", quantized: bool = True) -> Engine:
    """An engine of a tiny random decoder in a framework, whose cache, queue and rows are too few for what comes.

    quantized: weights and activations of 8 bits, with which texts are the same to the last bit whatever runs beside
    them; else float32, in the plain layers of the framework.
    """
    tg = load_framework(framework)
    config = ModelConfig(
        kind="decoder", d_model=64, n_layers=2, n_heads=4, n_kv_heads=2, d_ff=96, vocab_size=211, max_positions=128,
        norm="rms", positions="rotary", activation="swiglu", qkv_bias=False, output_bias=False, ffn_bias=False,
        eos_token_id=tuple(range(20)),
    )  # fmt: skip
    weights = init_weights(config, 0)
    weights["embedding.token.weight"] *= 30  # else every text is one token again and again
    model = tg.from_weights(config, weights)
    if quantized:
        model = try_accelerate(tg, tg.quantize(model, activation_bits=8))
    return Engine(model, n_blocks=17, rows=7, tokens=24, waiting=9, max_length=LENGTH)


def make_cases(config: ModelConfig, n: int = CASES, seed: int = 0) -> list[Request]:
    """Requests of many kinds: lengths, samplings, choices, priorities, salts, log probabilities, shared beginnings."""
    stream = np.random.default_rng([seed, 1])
    beginnings = [stream.integers(0, config.vocab_size, 48).tolist() for _ in range(4)]
    return [_make_case(stream, config, beginnings) for _ in range(n)]


def _make_case(stream, config, beginnings):
    prompt = stream.integers(0, config.vocab_size, int(stream.integers(1, 30))).tolist()
    if stream.random() < 0.5:
        prompt = beginnings[stream.integers(len(beginnings))][: int(stream.integers(8, 49))] + prompt[:16]
    how: dict[str, Any] = {"temperature": 0.0}
    if stream.random() < 0.6:
        how = {"temperature": float(stream.uniform(0.3, 2)), "seed": int(stream.integers(1000))}
        how |= {"top_k": int(stream.integers(1, 50))} if stream.random() < 0.3 else {}
        how |= {"top_p": 0.9} if stream.random() < 0.3 else {}
    if stream.random() < 0.1:
        how["repetition_penalty"] = 1.3
    return Request(
        prompt=prompt, max_new_tokens=int(stream.integers(1, LENGTH - len(prompt) + 1)) if stream.random() < 0.2
        else int(stream.integers(1, 20)),
        sampling=Sampling(**how), stop_tokens=() if stream.random() < 0.3 else None,
        n=int(stream.integers(1, 5)) if stream.random() < 0.2 else 1, priority=int(stream.integers(0, 3)),
        salt="other" if stream.random() < 0.1 else None, logprobs=2 if stream.random() < 0.1 else None,
        prompt_logprobs=1 if stream.random() < 0.05 else None,
    )  # fmt: skip


def alone(model: Any, request: Request) -> list[list[int]]:
    """The new tokens of each choice of a request, by `generate`."""
    return generate(model, [request.prompt] * request.n, request.max_new_tokens, request.stop_tokens, request.sampling)


def wrong_request(kind: str, good: Request, vocab_size: int) -> Any:
    """A request that is wrong in one of the ways of BAD. Raises TypeError or ValueError where it cannot be made."""
    if kind == "kind":
        return good.prompt
    changes = {
        "empty": {"prompt": []}, "long": {"prompt": [1] * (LENGTH + 2)}, "n": {"n": 0},
        "outside": {"prompt": [vocab_size]}, "many": {"max_new_tokens": LENGTH + 1},
    }  # fmt: skip
    return replace(good, **changes[kind])
