"""What inference costs: parameters, operations, bytes, seconds and chips, from a configuration alone.

Every number is arithmetic on a `ModelConfig`, a chip and a workload; nothing is fitted. Units are in the names:
`_bytes`, `_s` for seconds, `flops` for operations, elements where nothing else is said. A GB is 10^9 bytes.
"""

from tfguide.cost.chips import CHIPS, Chip
from tfguide.cost.compilation import started_seconds, steps_to_pay
from tfguide.cost.flops import decode_flops, decode_flops_by_term, prefill_flops, prefill_flops_by_term
from tfguide.cost.intensity import critical_batch, critical_context, decode_intensity, intensity_ceiling
from tfguide.cost.memory import (
    BYTES,
    block_bytes,
    cache_bytes,
    expert_bytes,
    kv_bytes,
    kv_bytes_per_token,
    kv_share,
    max_context,
    quantized_bytes,
    weight_bytes,
)  # fmt: skip
from tfguide.cost.parameters import active_parameters, experts_read, parameters, parameters_by_part
from tfguide.cost.plan import Plan, plan
from tfguide.cost.serving import Steady, StepCost, Traffic, capacity, fit_step_cost, steady, step_cost
from tfguide.cost.speculative import best_draft_length, speculative_speedup, speculative_tokens
from tfguide.cost.step import Step, bandwidth_seconds, mfu, parameters_read, step, weight_bytes_read
from tfguide.sharding.layouts import LAYOUTS, attention_communication, best_mesh, ffn_communication

__all__ = [
    "BYTES",
    "CHIPS",
    "LAYOUTS",
    "Chip",
    "Plan",
    "Steady",
    "Step",
    "StepCost",
    "Traffic",
    "active_parameters",
    "attention_communication",
    "bandwidth_seconds",
    "best_draft_length",
    "best_mesh",
    "block_bytes",
    "cache_bytes",
    "capacity",
    "critical_batch",
    "critical_context",
    "decode_flops",
    "decode_flops_by_term",
    "decode_intensity",
    "expert_bytes",
    "experts_read",
    "ffn_communication",
    "fit_step_cost",
    "intensity_ceiling",
    "kv_bytes",
    "kv_bytes_per_token",
    "kv_share",
    "max_context",
    "mfu",
    "parameters",
    "parameters_by_part",
    "parameters_read",
    "plan",
    "prefill_flops",
    "prefill_flops_by_term",
    "quantized_bytes",
    "speculative_speedup",
    "speculative_tokens",
    "started_seconds",
    "steady",
    "step",
    "step_cost",
    "steps_to_pay",
    "weight_bytes",
    "weight_bytes_read",
]
