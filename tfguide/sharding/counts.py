"""The elements that a process sends for a pass through a whole model that is divided by tensor parallelism."""

from __future__ import annotations

from tfguide.checks.values import check_choice, check_count
from tfguide.config import ModelConfig
from tfguide.sharding.cuts import check_processes, part_of


def model_communication(config: ModelConfig, tokens: int, rows: int, n: int) -> dict[str, float]:
    """The elements that one of n processes sends, by step: the names and the counts of `Group.sent`.

    tokens: those of the batch that the pass reads; rows: those of which logits are computed. Every sum that all get is
    a reduce-scatter and an all-gather, and sends `2 (n - 1) / n` of its elements: that of the embedding, and one for
    each attention and each network. What the tokens send to experts depends on the router, and is left out. Source:
    Shoeybi et al. 2019, "Megatron-LM", section 3. Raises ValueError for an encoder-decoder, and as `check_processes`.
    """
    check_choice("config.kind", config.kind, ("decoder", "encoder"))
    check_processes(config, n)
    tokens, rows = check_count("tokens", tokens), check_count("rows", rows, least=0)
    share = (n - 1) / n
    summed = 2 * share * tokens * config.d_model
    n_routed = sum(config.has_experts(layer) for layer in range(config.n_layers))
    sent = {"embedding": 0.0 if config.d_input else summed, "self_attention": summed * config.n_layers}
    sent["feed_forward"] = summed * (config.n_layers - n_routed)
    if n_routed:
        largest = -(-tokens // n)  # parts of one size travel, the last ones filled up
        sent["gather outputs of experts"] = share * n * largest * config.d_model * n_routed
        sent["shared"] = summed * n_routed if config.experts.n_shared else 0.0
    if config.kind == "decoder":
        ends = [part_of(config, "V", n, rank) for rank in range(n)]
        sent["logits"] = share * n * rows * max(stop - start for start, stop in ends)
    return {step: elements for step, elements in sent.items() if elements}
