"""Every model family of the book in one frozen dataclass."""

from __future__ import annotations

import dataclasses
import difflib
import math
import numbers
from dataclasses import dataclass
from typing import Any

KINDS = ("encoder", "decoder", "encoder-decoder")
NORMS = ("layer", "rms")
PLACEMENTS = ("pre", "post", "parallel")
POSITIONS = ("none", "sinusoidal", "learned", "rotary", "alibi", "relative")
ACTIVATIONS = ("relu", "gelu", "gelu_tanh", "swiglu", "geglu", "geglu_tanh")
GATED_ACTIVATIONS = ("swiglu", "geglu", "geglu_tanh")


@dataclass(frozen=True, kw_only=True)
class RopeScaling:
    """Llama 3's stretch of the rotary frequencies for contexts longer than those of training.

    Wavelengths shorter than `original_max_positions / high_freq_factor` stay, those longer than
    `original_max_positions / low_freq_factor` are multiplied by `factor`, and those between are interpolated.
    Source: Grattafiori et al. 2024, "The Llama 3 Herd of Models", section 3.4, and Meta's reference code.

    Raises ValueError where a factor is not positive, or where `low_freq_factor >= high_freq_factor`.
    """

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_positions: int

    def __post_init__(self):
        for name in ("factor", "low_freq_factor", "high_freq_factor"):
            _check_number(name, getattr(self, name), above=0.0)
        _check_count("original_max_positions", self.original_max_positions)
        if self.low_freq_factor >= self.high_freq_factor:
            raise ValueError(
                "low_freq_factor must be below high_freq_factor, "
                f"got {self.low_freq_factor} and {self.high_freq_factor}"
            )


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The sizes and the choices that define a model; every field is checked when it is made.

    Sizes left out are derived: `n_kv_heads` is `n_heads`, `d_head` is `d_model / n_heads`, `n_encoder_layers` is
    `n_layers` for an encoder-decoder. `n_layers` counts the blocks of the only stack, or of the decoder.

    Raises TypeError for a value of the wrong type and ValueError for one out of range or a combination that does not
    fit together; both name the field, what was expected and what came.
    """

    kind: str  # "encoder", "decoder" or "encoder-decoder"
    d_model: int  # D
    n_layers: int  # L
    n_heads: int  # H
    d_ff: int  # F
    vocab_size: int  # V
    n_kv_heads: int | None = None  # K; H: multi-head, 1: multi-query, between: grouped
    d_head: int | None = None  # d
    n_encoder_layers: int | None = None  # encoder-decoder only
    max_positions: int | None = None  # longest sequence; None: no limit of its own
    n_token_types: int = 0  # segment embeddings; 0: none (BERT has 2)

    norm: str = "layer"  # "layer" or "rms"
    norm_placement: str = "pre"  # "pre", "post", or "parallel": PaLM's attention and feed-forward side by side
    norm_eps: float = 1e-5
    norm_bias: bool = True  # ignored by "rms", which has none
    embedding_norm: bool = False  # a norm straight after the embeddings (BERT)

    positions: str = "none"  # "sinusoidal", "learned", "rotary", "alibi", "relative"
    rope_theta: float = 10_000.0
    rope_scaling: RopeScaling | None = None
    relative_buckets: int = 32  # T5
    relative_max_distance: int = 128  # T5
    sliding_window: int | None = None  # a position sees itself and the window - 1 before it

    activation: str = "gelu"  # see ACTIVATIONS; swiglu, geglu and geglu_tanh are gated: three matrices
    qkv_bias: bool = True
    output_bias: bool = True
    ffn_bias: bool = True
    attention_scale: float | None = None  # multiplies the scores; 1 / sqrt(d_head) unless told (T5: 1)
    embedding_scale: float = 1.0  # multiplies the token embeddings (the original Transformer: sqrt(D))
    logit_scale: float = 1.0  # multiplies the hidden states before the head (tied T5: 1 / sqrt(D))
    tied_head: bool = True  # the head is the transpose of the token embedding; ignored by encoders
    pooler: bool = False  # BERT's tanh layer over the first position; encoders only

    dropout: float = 0.0  # on the embeddings and on each sublayer's output, in training only
    pad_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | tuple[int, ...] | None = None  # several where more than one token ends a text
    decoder_start_token_id: int | None = None  # encoder-decoder: what generation starts from

    def __post_init__(self):
        for name, allowed in (
            ("kind", KINDS),
            ("norm", NORMS),
            ("norm_placement", PLACEMENTS),
            ("positions", POSITIONS),
            ("activation", ACTIVATIONS),
        ):
            _check_choice(name, getattr(self, name), allowed)
        for name in ("d_model", "n_layers", "n_heads", "d_ff", "vocab_size"):
            _check_count(name, getattr(self, name))
        self._derive_sizes()
        self._check_fields()
        self._check_combinations()

    def _derive_sizes(self):
        if self.n_kv_heads is None:
            object.__setattr__(self, "n_kv_heads", self.n_heads)
        if self.d_head is None:
            if self.d_model % self.n_heads:
                raise ValueError(
                    f"d_model must be divisible by n_heads unless d_head is given, "
                    f"got d_model={self.d_model} and n_heads={self.n_heads}"
                )
            object.__setattr__(self, "d_head", self.d_model // self.n_heads)
        if self.kind == "encoder-decoder" and self.n_encoder_layers is None:
            object.__setattr__(self, "n_encoder_layers", self.n_layers)
        _check_count("d_head", self.d_head)
        if self.attention_scale is None:
            object.__setattr__(self, "attention_scale", 1.0 / math.sqrt(self.d_head))

    def _check_fields(self):
        _check_count("n_kv_heads", self.n_kv_heads)
        _check_count("n_token_types", self.n_token_types, least=0)
        for name in ("max_positions", "sliding_window", "n_encoder_layers"):
            if getattr(self, name) is not None:
                _check_count(name, getattr(self, name))
        for name in ("relative_buckets", "relative_max_distance"):
            _check_count(name, getattr(self, name))
        for name in ("norm_bias", "embedding_norm", "qkv_bias", "output_bias", "ffn_bias", "tied_head", "pooler"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"{name} must be a bool, got {getattr(self, name)!r}")
        for name in ("norm_eps", "rope_theta", "attention_scale", "embedding_scale", "logit_scale"):
            _check_number(name, getattr(self, name), above=0.0)
        _check_number("dropout", self.dropout)
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout must be at least 0 and below 1, got {self.dropout}")
        if isinstance(self.eos_token_id, list):  # as JSON gives it back
            object.__setattr__(self, "eos_token_id", tuple(self.eos_token_id))
        tokens = [(name, getattr(self, name)) for name in ("pad_token_id", "bos_token_id", "decoder_start_token_id")]
        for name, token in [*tokens, *(("eos_token_id", token) for token in self.eos_token_ids)]:
            if token is not None:
                _check_count(name, token, least=0)
                if token >= self.vocab_size:
                    raise ValueError(f"{name} must be below vocab_size={self.vocab_size}, got {token}")
        if self.rope_scaling is not None and not isinstance(self.rope_scaling, RopeScaling):
            raise TypeError(f"rope_scaling must be a RopeScaling or None, got {self.rope_scaling!r}")

    def _check_combinations(self):
        if self.n_heads % self.n_kv_heads:
            raise ValueError(
                f"n_kv_heads must divide n_heads, got n_kv_heads={self.n_kv_heads} and n_heads={self.n_heads}"
            )
        if self.kind != "encoder-decoder" and self.n_encoder_layers is not None:
            raise ValueError(
                f"n_encoder_layers belongs to kind='encoder-decoder', got it with kind={self.kind!r}; use n_layers"
            )
        if self.positions == "learned" and self.max_positions is None:
            raise ValueError("positions='learned' needs max_positions, the number of rows of the table; got None")
        if self.positions == "sinusoidal" and self.d_model % 2:
            raise ValueError(f"positions='sinusoidal' needs an even d_model, got {self.d_model}")
        if self.positions == "rotary" and self.d_head % 2:
            raise ValueError(f"positions='rotary' needs an even d_head, got {self.d_head}")
        if self.rope_scaling is not None and self.positions != "rotary":
            raise ValueError(f"rope_scaling needs positions='rotary', got positions={self.positions!r}")
        if self.positions == "relative":
            self._check_relative()
        if self.sliding_window is not None and self.kind != "decoder":
            raise ValueError(f"sliding_window is supported for kind='decoder', got kind={self.kind!r}")
        if self.pooler and self.kind != "encoder":
            raise ValueError(f"pooler belongs to kind='encoder', got it with kind={self.kind!r}")
        if self.norm_placement == "parallel" and self.kind == "encoder-decoder":
            raise ValueError("norm_placement='parallel' has no place for cross-attention; got kind='encoder-decoder'")

    def _check_relative(self):
        # An encoder spends half of the buckets on each direction, and half of those on one distance each.
        if self.relative_buckets < 4:
            raise ValueError(f"relative_buckets must be at least 4, got {self.relative_buckets}")
        if self.relative_max_distance <= self.relative_buckets // 2:
            raise ValueError(
                "relative_max_distance must be above relative_buckets / 2, "
                f"got {self.relative_max_distance} and {self.relative_buckets}"
            )

    @property
    def gated(self) -> bool:
        """Whether the feed-forward network has a gate, and so three matrices in place of two."""
        return self.activation in GATED_ACTIVATIONS

    @property
    def eos_token_ids(self) -> tuple[int, ...]:
        """Every token that ends a text."""
        if isinstance(self.eos_token_id, tuple):
            return self.eos_token_id
        return () if self.eos_token_id is None else (self.eos_token_id,)

    @property
    def n_groups(self) -> int:
        """G: how many query heads share one key/value head."""
        return self.n_heads // self.n_kv_heads

    @property
    def final_norm(self) -> bool:
        """Whether each stack ends in a norm: blocks that normalise what goes in leave their sum as it is."""
        return self.norm_placement != "post"

    def replace(self, **changes) -> ModelConfig:
        """The same configuration with some fields changed, and everything checked again.

        Derived sizes follow what they are derived from where they still have the derived value:

        >>> config = ModelConfig(kind="decoder", d_model=64, n_layers=2, n_heads=4, d_ff=256, vocab_size=100)
        >>> config.replace(n_heads=8).d_head
        8
        """
        derived = {
            "n_kv_heads": self.n_heads,
            "d_head": self.d_model // self.n_heads,
            "attention_scale": 1.0 / math.sqrt(self.d_head),
            "n_encoder_layers": self.n_layers if self.kind == "encoder-decoder" else None,
        }
        for name, value in derived.items():
            if getattr(self, name) == value:
                changes.setdefault(name, None)
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain Python values, for JSON; `from_dict` reads them back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> ModelConfig:
        """The configuration that `to_dict` wrote. Raises ValueError for a key that is not a field."""
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(fields) - known)
        if unknown:
            raise ValueError(f"unknown field {unknown[0]!r} for ModelConfig{_nearest(unknown[0], known)}")
        fields = dict(fields)
        if isinstance(fields.get("rope_scaling"), dict):
            fields["rope_scaling"] = RopeScaling(**fields["rope_scaling"])
        return cls(**fields)

    @classmethod
    def from_preset(cls, name: str, **changes) -> ModelConfig:
        """A published model by name (see `tfguide.PRESETS`), with fields changed where given.

        >>> ModelConfig.from_preset("llama-3-8b").n_kv_heads
        8

        Raises ValueError for an unknown name, with the nearest known ones.
        """
        from tfguide.presets import PRESETS  # presets are made of this module's classes

        if name not in PRESETS:
            raise ValueError(f"unknown preset {name!r}{_nearest(str(name), PRESETS)}")
        config = cls(**PRESETS[name])
        return config.replace(**changes) if changes else config


def _check_choice(name, value, allowed):
    if not isinstance(value, str):
        raise TypeError(f"{name} must be one of {', '.join(map(repr, allowed))}, got {value!r}")
    if value not in allowed:
        raise ValueError(
            f"{name} must be one of {', '.join(map(repr, allowed))}, got {value!r}{_nearest(value, allowed)}"
        )


def _check_count(name, value, least=1):
    if not isinstance(value, numbers.Integral) or isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")


def _check_number(name, value, above=None):
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number, got {value!r}")
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite, got {value}")
    if above is not None and value <= above:
        raise ValueError(f"{name} must be above {above}, got {value}")


def _nearest(name, known) -> str:
    near = difflib.get_close_matches(name, list(known), n=3, cutoff=0.4)
    return f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
