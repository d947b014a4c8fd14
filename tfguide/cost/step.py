"""The time of one step: the same arithmetic for a token of decoding and for a whole prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tfguide.checks.values import check_choice, check_count, check_number
from tfguide.config import ModelConfig
from tfguide.cost.chips import Chip, as_chip
from tfguide.cost.flops import seen_pairs, terms
from tfguide.cost.memory import ATTENTIONS, attention_share, expert_bytes, kv_bytes, kv_share, weight_bytes
from tfguide.cost.parameters import attention_parameters, expert_parameters, experts_read, parameters_by_part
from tfguide.dtypes import dtype_bytes
from tfguide.sharding.layouts import LAYOUTS, check_mesh, ffn_communication, meshes

ACTIVATION_BYTES = 2.0  # what travels between chips is bfloat16


@dataclass(frozen=True, kw_only=True)
class Step:
    """The seconds of one step on all chips, by cause, and the bytes on each of them.

    compute_s: operations of the busiest chip over its peak, None where the chip's rate is not known and the times
    below leave arithmetic out; weights_s, kv_s: bytes of weights and cache over memory bandwidth; communication_s:
    bytes sent over link bandwidth. No efficiency is assumed: each is a lower bound. utilization: the operations of all
    chips over what they could do in `serial_s`. mesh, layout and attention are what a mesh, `feed_forward` and
    `attention` of `tfguide.sharding.mesh` take: so a plan is run as it stands.
    """

    chips: int
    mesh: tuple[int, int, int]
    layout: str
    attention: str
    batch: int
    new_tokens: int
    flops: float  # of all chips together
    compute_s: float | None
    weights_s: float
    kv_s: float
    communication_s: float
    weight_bytes_per_chip: float  # as stored, the input embedding among them
    kv_bytes_per_chip: float
    chip_flops: float | None  # of products in the type that was asked for

    @property
    def roofline_s(self) -> float:
        """The larger of all arithmetic and all reading, both at once, with communication hidden behind them.

        No step can be faster. Measured steps of PaLM 540B took 2.6 to 11 times as long.
        """
        return max(self.compute_s or 0.0, self.weights_s + self.kv_s)

    @property
    def serial_s(self) -> float:
        """The sum of the four: nothing overlaps. Measured steps of PaLM 540B took 1.5 to 4.1 times as long."""
        return (self.compute_s or 0.0) + self.weights_s + self.kv_s + self.communication_s

    @property
    def utilization(self) -> float | None:
        """The part of the chips' peak that is used, at `serial_s`: operations over peak and time; at most 1.

        Unlike `mfu` it counts what a step computes: no row of the input embedding, one head for a prompt, attention.
        """
        return None if self.chip_flops is None else self.flops / (self.chips * self.chip_flops * self.serial_s)

    @property
    def tokens_per_second(self) -> float:
        """New tokens of all sequences in a second, at `serial_s`."""
        return self.batch * self.new_tokens / self.serial_s

    @property
    def chip_seconds_per_million_tokens(self) -> float:
        """The chip-seconds of a million tokens, at `serial_s`."""
        return self.chips * 1e6 / self.tokens_per_second


def step(
    config: ModelConfig, chip: Chip | str, chips: int, batch: int, context: int, new_tokens: int = 1,
    weights: str = "bfloat16", kv: str = "bfloat16", layout: str = "2d-ws", attention: str = "batch",
    mesh: Sequence[int] | None = None, experts: str | None = None, products: str = "bfloat16",
) -> Step:  # fmt: skip
    """The time of one step that reads `new_tokens` of each of `batch` sequences, the last of them the `context`-th.

    Decoding is `new_tokens=1`, a whole prompt `new_tokens=context`. weights, kv: types, see `tfguide.dtypes`; experts:
    the type of the routed experts' matrices, see `expert_bytes`; default: that of the weights. products: the type in
    which matrices are multiplied, whatever they are stored in; attention is multiplied in 16 bits at least.
    layout: see `ffn_communication`; attention: "batch" or "head", see `kv_share`. mesh: (X, Y, Z) with `chips` in all;
    default: the one that sends the fewest bytes, of equals the one nearest to a cube.

    Not counted: norms, softmax and other passes over activations, sampling, the host, the latency of a message, the
    imbalance of experts and the sending of tokens to them. An expert is read if a token falls on it, see
    `experts_read`. Raises ValueError for what is out of range or unknown, with the nearest names, for several chips
    without links, and for a prompt where the chip's rate is not known.
    """
    if not isinstance(config, ModelConfig):
        raise TypeError(f"config must be a ModelConfig, got {type(config).__name__}")
    chip = as_chip(chip)
    for name, value in (("chips", chips), ("batch", batch), ("context", context), ("new_tokens", new_tokens)):
        check_count(name, value)
    check_choice("layout", layout, LAYOUTS)
    check_choice("attention", attention, ATTENTIONS)
    if config.kind != "decoder":
        raise ValueError(f"a step is that of kind='decoder', got kind={config.kind!r}")
    if new_tokens > context:
        raise ValueError(f"context counts the new tokens too: expected at least {new_tokens}, got {context}")
    if chips > 1 and chip.link_bandwidth is None:
        raise ValueError(f"{chip.name} has no links to others: chips must be 1, got {chips}")
    rate, attention_rate = _rates(chip, products)
    if rate is None and new_tokens > 1:
        raise ValueError(f"the rate of {chip.name}'s products is not published: only decoding can be told")
    tokens, width = batch * new_tokens, hidden_width(config)
    stored = dtype_bytes(weights), dtype_bytes(weights) if experts is None else expert_bytes(experts)
    if mesh is None:
        mesh = _best_mesh(config, layout, attention, chips, tokens, width, stored)
    mesh = check_mesh(mesh)
    if mesh[0] * mesh[1] * mesh[2] != chips:
        raise ValueError(f"mesh {mesh} has {mesh[0] * mesh[1] * mesh[2]} chips, expected {chips}")
    parts = terms(config, batch, new_tokens, seen_pairs(config, context, new_tokens), 1, new_tokens == 1)
    flops, attending = sum(parts.values()), parts["attention"]
    busiest = attending * attention_share(config, chips, attention, batch)
    if rate is not None:  # in units of the products: an operation of attention may take longer
        busiest = (flops - attending) / chips + busiest * (rate / attention_rate)
    cache = kv_bytes(config, batch, context, kv) * kv_share(config, chips, attention, batch)
    sent = _sent_bytes(config, layout, attention, mesh, tokens, width, stored)
    return Step(
        chips=chips,
        mesh=mesh,
        layout=layout,
        attention=attention,
        batch=batch,
        new_tokens=new_tokens,
        flops=flops,
        compute_s=None if rate is None else busiest / rate,
        weights_s=weight_bytes_read(config, tokens, weights, experts) / (chips * chip.hbm_bandwidth),
        kv_s=cache / chip.hbm_bandwidth,
        communication_s=config.n_layers * sent / chip.link_bandwidth if chips > 1 else 0.0,
        weight_bytes_per_chip=weight_bytes(config, weights, experts) / chips,
        kv_bytes_per_chip=cache,
        chip_flops=rate,
    )


def parameters_read(config: ModelConfig, tokens: int = 1) -> float:
    """The parameters that a step of so many tokens reads: all but the input embedding, of which it takes rows.

    A head that is the embedding's transpose reads all of it. Of the experts a step reads those of `experts_read`.
    """
    parts = parameters_by_part(config)
    total = sum(parts.values()) - parts["embedding"]
    total += config.vocab_size * config.d_model if config.tied_head else 0
    if config.experts is not None:
        unseen = config.experts.n_experts - experts_read(config, tokens)
        total -= unseen * expert_parameters(config)
    return total


def weight_bytes_read(config: ModelConfig, tokens: int, weights: str = "bfloat16", experts: str | None = None) -> float:
    """The bytes of weights that a step of so many tokens reads. experts: as in `weight_bytes`."""
    total = parameters_read(config, tokens) * dtype_bytes(weights)
    if experts is None:
        return total
    chosen = experts_read(config, tokens) * expert_parameters(config, biases=False)
    return total + chosen * (expert_bytes(experts) - dtype_bytes(weights))


def decode_bytes(
    config: ModelConfig, context: int, batch: int = 1, weights: str = "bfloat16", kv: str = "bfloat16",
    experts: str | None = None,
) -> float:  # fmt: skip
    """The bytes that a step of decoding reads: weights as `weight_bytes_read` says, and the cache of every sequence."""
    return weight_bytes_read(config, batch, weights, experts) + kv_bytes(config, batch, context, kv)


def mfu(parameters: float, tokens: float, seconds: float, chips: int, peak_flops: float) -> float:
    """Model FLOP/s utilisation: the 2 N operations of each token over the most that the chips can do in that time.

    Not counted: attention's operations, as in the definition. Source: Chowdhery et al. 2022, appendix B.
    Raises ValueError for a number that is not above 0.
    """
    for name, value in (
        ("parameters", parameters),
        ("tokens", tokens),
        ("seconds", seconds),
        ("peak_flops", peak_flops),
    ):
        check_number(name, value, above=0.0)
    check_count("chips", chips)
    return 2 * parameters * tokens / (seconds * chips * peak_flops)


def bandwidth_seconds(n_bytes: float, chips: int, bytes_per_second: float) -> float:
    """The least time in which so many chips read so many bytes. Raises ValueError for a number that is not above 0."""
    check_number("n_bytes", n_bytes, above=0.0)
    check_number("bytes_per_second", bytes_per_second, above=0.0)
    check_count("chips", chips)
    return n_bytes / (chips * bytes_per_second)


def hidden_width(config: ModelConfig) -> int:
    """The hidden features of a feed-forward layer that one token passes through."""
    experts = config.experts
    return config.d_ff if experts is None else (experts.per_token + experts.n_shared) * experts.d_expert


def _rates(chip, products):
    """The operations a second of products and of attention's own; None where they are not known."""
    narrow = dtype_bytes(products) < 2
    return chip.product_flops(products), chip.product_flops("bfloat16" if narrow else products)


def _best_mesh(config, layout, attention, chips, tokens, width, stored):
    """The mesh on which a layer sends the fewest bytes, weights and activations each in its own type."""

    def cost(mesh):
        return round(_sent_bytes(config, layout, attention, mesh, tokens, width, stored), 6)

    return min(meshes(chips), key=lambda mesh: (cost(mesh), max(mesh) - min(mesh), mesh))


def _sent_bytes(config, layout, attention, mesh, tokens, width, stored):
    """The bytes that one chip sends in one layer. stored: the bytes of a weight, and of one of an expert."""
    weight, hidden = stored if config.experts is not None else (stored[0], stored[0])
    chips = mesh[0] * mesh[1] * mesh[2]
    terms = ffn_communication(layout, tokens, config.d_model, width, mesh, config.gated, exact=True)
    gathered = terms.pop("gather weights", 0.0)
    matrices = (3 if config.gated else 2) * config.d_model * width
    attention_matrices = attention_parameters(config)
    sent = sum(terms.values()) * ACTIVATION_BYTES
    sent += gathered * (hidden + weight * attention_matrices / matrices)  # attention's are gathered in the same way
    if config.norm_placement != "parallel":  # attention has an input and an output of its own
        sent += sum(terms.get(name, 0.0) for name in ("gather inputs", "scatter outputs")) * ACTIVATION_BYTES
    if attention == "batch":
        sent += 2 * tokens * config.n_heads * config.d_head / chips * (chips - 1) / chips * ACTIVATION_BYTES
    return sent
