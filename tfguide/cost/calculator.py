"""The model data for the calculator on the page, and cases that compare it with this package."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfguide.config import ModelConfig
from tfguide.cost.chips import CHIPS
from tfguide.cost.flops import decode_flops_by_term, pair_flops, prefill_flops_by_term
from tfguide.cost.memory import ATTENTIONS, BYTES, kv_bytes_per_token
from tfguide.cost.parameters import attention_parameters, expert_parameters, parameters
from tfguide.cost.step import hidden_width, parameters_read, step
from tfguide.presets import PRESETS
from tfguide.sharding.layouts import LAYOUTS

RESULTS = (
    "flops", "compute_s", "weights_s", "kv_s", "communication_s", "roofline_s", "serial_s", "weight_bytes_per_chip",
    "kv_bytes_per_chip",
)  # fmt: skip


def calculator_data() -> dict[str, Any]:
    """The numbers of every decoder preset and chip, for JSON: sizes and counts, no times.

    Not there: chips whose rate of products is not known. "link_bandwidth" is None where a chip has no links.
    """
    names = [name for name in PRESETS if ModelConfig.from_preset(name).kind == "decoder"]
    keys = ("hbm_bytes", "hbm_bandwidth", "link_bandwidth")
    chips = {
        name: {"peak_flops": chip.product_flops(), **{key: getattr(chip, key) for key in keys}}
        for name, chip in CHIPS.items()
        if chip.product_flops() is not None
    }
    return {
        "models": {name: model_numbers(ModelConfig.from_preset(name)) for name in names},
        "chips": chips,
        "bytes": BYTES,
        "layouts": list(LAYOUTS),
        "attentions": list(ATTENTIONS),
    }


def golden_cases(n: int = 200, seed: int = 0) -> list[dict[str, Any]]:
    """Random workloads from a seed, each with the result of `step`: {"input": ..., "output": ...}."""
    stream = np.random.default_rng(seed)
    data, cases = calculator_data(), []
    models = list(data["models"])
    for index in range(n):
        context = int(2 ** stream.uniform(0, 17))
        chip, chips = str(stream.choice(list(data["chips"]))), int(stream.integers(1, 65))
        given = {
            "model": models[index % len(models)],
            "chip": chip,
            "chips": chips if data["chips"][chip]["link_bandwidth"] else 1,
            "batch": int(2 ** stream.uniform(0, 10)),
            "context": context,
            "newTokens": [1, context, int(stream.integers(1, context + 1))][index % 3],
            "weights": str(stream.choice(list(BYTES))),
            "kv": str(stream.choice(list(BYTES))),
            "layout": str(stream.choice(LAYOUTS)),
            "attention": str(stream.choice(ATTENTIONS)),
        }
        names = ("chip", "chips", "batch", "context", "newTokens", "weights", "kv", "layout", "attention")
        one = step(ModelConfig.from_preset(given["model"]), *(given[name] for name in names))
        cases.append({"input": given, "output": {name: getattr(one, name) for name in RESULTS}})
    return cases


def model_numbers(config: ModelConfig) -> dict[str, Any]:
    """The numbers of one model that `calculator.js` reads."""
    prompt, token = prefill_flops_by_term(config, 1), decode_flops_by_term(config, 1)
    experts = config.experts
    return {
        "parameters": parameters(config),
        # With every expert; the page subtracts those that receive no token.
        "read": parameters_read(config, 1) if experts is None else parameters_read(config, 10**9),
        "experts": experts.n_experts if experts else 0,
        "expertsOfToken": experts.per_token if experts else 0,
        "expertElements": expert_parameters(config),
        "tokenFlops": prompt["projections"] + prompt["feed_forward"],
        "headFlops": token["head"],
        "pairFlops": pair_flops(config, decoding=False),  # in one layer
        "pairFlopsOfStep": pair_flops(config, decoding=True),
        "kvElements": kv_bytes_per_token(config, "int8"),
        "kvHeads": 1 if config.latent else config.n_kv_heads,
        "window": config.sliding_window or 0,
        "slidingLayers": config.n_sliding_layers,
        "layers": config.n_layers,
        "width": config.d_model,
        "hidden": hidden_width(config),
        "gated": config.gated,
        "parallel": config.norm_placement == "parallel",
        "attentionElements": attention_parameters(config),
        "heads": config.n_heads,
        "headFeatures": config.n_heads * config.d_head,
    }
