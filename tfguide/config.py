"""Every model family of the book in one frozen dataclass."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from tfguide.checks.combinations import check_combinations, check_inputs
from tfguide.checks.values import check_choice, check_count, check_number, make_plain, nearest
from tfguide.parts import Experts, LabelHead, LatentAttention
from tfguide.scalings import SCALINGS, Scaling, make_scaling

KINDS = ("encoder", "decoder", "encoder-decoder")
NORMS = ("layer", "rms")
# A norm before a sublayer, after the sum, before attention and network side by side (PaLM), on both sides (Gemma 3).
PLACEMENTS = ("pre", "post", "parallel", "both")
POSITIONS = ("none", "sinusoidal", "learned", "rotary", "alibi", "relative")
ACTIVATIONS = ("relu", "gelu", "gelu_tanh", "swiglu", "geglu", "geglu_tanh")
PARTS = {"rope_scaling": SCALINGS, "latent": (LatentAttention,), "experts": (Experts,), "labels": (LabelHead,)}
GATED_ACTIVATIONS = ("swiglu", "geglu", "geglu_tanh")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The sizes and the choices that define a model; every field is checked on construction.

    Sizes that are not given are derived: `n_kv_heads` is `n_heads`, `d_head` is `d_model / n_heads`, `n_encoder_layers`
    is `n_layers` for an encoder-decoder. `n_layers` counts the blocks of the only stack, or of the decoder.

    Raises TypeError for a value of the wrong type and ValueError for one out of range or a combination that does not
    fit together; both name the field, what was expected and what came.
    """

    kind: str  # "encoder", "decoder" or "encoder-decoder"
    d_model: int  # D
    n_layers: int  # L
    n_heads: int  # H
    d_ff: int  # F
    vocab_size: int | None = None  # V; left out where vectors come in
    d_input: int | None = None  # encoders only: vectors of so many features come in instead of tokens
    n_kv_heads: int | None = None  # K; H: multi-head, 1: multi-query, between: grouped
    d_head: int | None = None  # d
    n_encoder_layers: int | None = None  # encoder-decoder only
    max_positions: int | None = None  # longest sequence; None: no limit of its own
    position_offset: int = 0  # rows of the learned table before that of the first position (RoBERTa, OPT: 2)
    n_token_types: int = 0  # segment embeddings; 0: none (BERT has 2)

    norm: str = "layer"  # "layer" or "rms"
    norm_placement: str = "pre"  # see PLACEMENTS
    norm_eps: float = 1e-5
    norm_bias: bool = True  # ignored by "rms", which has none
    embedding_norm: bool = False  # a norm straight after the embeddings (BERT)

    positions: str = "none"  # "sinusoidal", "learned", "rotary", "alibi", "relative"
    rope_theta: float = 10_000.0
    local_rope_theta: float | None = None  # of layers with a window, which no scaling changes; default: rope_theta
    rope_scaling: Scaling | None = None
    d_rotary: int | None = None  # how many features of a head are rotated, the first ones; default: d_head
    relative_buckets: int = 32  # T5
    relative_max_distance: int = 128  # T5
    sliding_window: int | None = None  # a position sees itself and the window - 1 before it
    sliding_layers: tuple[int, ...] | None = None  # the layers with the window; None: all layers

    activation: str = "gelu"  # see ACTIVATIONS; swiglu, geglu and geglu_tanh are gated: three matrices
    qkv_bias: bool = True
    output_bias: bool = True
    ffn_bias: bool = True
    qk_norm: bool = False  # a norm over each head's query and key (Qwen3)
    attention_sinks: bool = False  # a learned score for each head that takes weight and has no value (gpt-oss)
    attention_softcap: float | None = None  # c: scores become c tanh(score / c) (Gemma 2)
    latent: LatentAttention | None = None  # DeepSeek's attention instead of grouped heads
    experts: Experts | None = None  # a mixture of experts instead of the feed-forward network
    attention_scale: float | None = None  # multiplies the scores; default: 1 / sqrt(d_head) (T5: 1)
    embedding_scale: float = 1.0  # multiplies the token embeddings (the original Transformer: sqrt(D))
    residual_scale: float = 1.0  # multiplies the output of each sublayer (Granite)
    logit_scale: float = 1.0  # multiplies the hidden states before the head (tied T5: 1 / sqrt(D))
    logit_softcap: float | None = None  # c: logits become c tanh(logit / c) (Gemma 2)
    tied_head: bool = True  # the head is the transpose of the token embedding; ignored by encoders
    pooler: bool = False  # BERT's tanh layer over the first position; encoders only
    labels: LabelHead | None = None  # a classifier of texts or tokens; encoders only

    dropout: float = 0.0  # on the embeddings and on each sublayer's output, in training only
    pad_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | tuple[int, ...] | None = None  # several where more than one token ends a text
    decoder_start_token_id: int | None = None  # encoder-decoder: what generation starts from

    def __post_init__(self):
        make_plain(self)
        for name, allowed in (
            ("kind", KINDS),
            ("norm", NORMS),
            ("norm_placement", PLACEMENTS),
            ("positions", POSITIONS),
            ("activation", ACTIVATIONS),
        ):
            check_choice(name, getattr(self, name), allowed)
        for name in ("d_model", "n_layers", "n_heads", "d_ff", "vocab_size" if self.d_input is None else "d_input"):
            check_count(name, getattr(self, name))
        check_inputs(self)
        self._derive_sizes()
        self._check_fields()
        check_combinations(self)
        if self.sliding_layers is not None:
            layers = tuple(sorted(set(self.sliding_layers)))
            object.__setattr__(self, "sliding_layers", None if len(layers) == self.n_layers else layers)

    def _derive_sizes(self):
        if self.n_kv_heads is None:
            object.__setattr__(self, "n_kv_heads", self.n_heads)
        if self.latent is not None and self.d_head is None:
            object.__setattr__(self, "d_head", self.latent.d_head)
        if self.d_head is None:
            if self.d_model % self.n_heads:
                raise ValueError(
                    f"d_model must be divisible by n_heads unless d_head is given, "
                    f"got d_model={self.d_model} and n_heads={self.n_heads}"
                )
            object.__setattr__(self, "d_head", self.d_model // self.n_heads)
        if self.kind == "encoder-decoder" and self.n_encoder_layers is None:
            object.__setattr__(self, "n_encoder_layers", self.n_layers)
        check_count("d_head", self.d_head)
        if self.d_rotary is None:
            object.__setattr__(self, "d_rotary", self.d_head if self.latent is None else self.latent.d_rope)
        if self.attention_scale is None:
            object.__setattr__(self, "attention_scale", 1.0 / math.sqrt(self.d_head))

    def _check_fields(self):
        for name in ("n_token_types", "position_offset"):
            check_count(name, getattr(self, name), least=0)
        for name in ("max_positions", "sliding_window", "n_encoder_layers"):
            if getattr(self, name) is not None:
                check_count(name, getattr(self, name))
        for name in ("n_kv_heads", "relative_buckets", "relative_max_distance"):
            check_count(name, getattr(self, name))
        for name in (
            "norm_bias", "embedding_norm", "qkv_bias", "output_bias", "ffn_bias", "tied_head", "pooler", "qk_norm",
            "attention_sinks",
        ):  # fmt: skip
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"{name} must be a bool, got {getattr(self, name)!r}")
        for name in (
            "norm_eps", "rope_theta", "attention_scale", "embedding_scale", "residual_scale", "logit_scale",
        ):  # fmt: skip
            check_number(name, getattr(self, name), above=0.0)
        for name in ("local_rope_theta", "attention_softcap", "logit_softcap"):
            if getattr(self, name) is not None:
                check_number(name, getattr(self, name), above=0.0)
        check_number("dropout", self.dropout)
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout must be at least 0 and below 1, got {self.dropout}")
        if isinstance(self.eos_token_id, (list, tuple)):  # a list: as JSON gives it back
            tokens = tuple(check_count("eos_token_id", token, least=0) for token in self.eos_token_id)
            object.__setattr__(self, "eos_token_id", tokens)
        tokens = [(name, getattr(self, name)) for name in ("pad_token_id", "bos_token_id", "decoder_start_token_id")]
        for name, token in [*tokens, *(("eos_token_id", token) for token in self.eos_token_ids)]:
            if token is not None:
                check_count(name, token, least=0)
                if token >= self.vocab_size:
                    raise ValueError(f"{name} must be below vocab_size={self.vocab_size}, got {token}")
        for name, (kind, *others) in PARTS.items():
            if not isinstance(getattr(self, name), (kind, *others, type(None))):
                kind = f"{'an' if kind is Experts else 'a'} {kind.__name__}"
                more = "".join(f", or a {other.__name__}" for other in others)
                raise TypeError(f"{name} must be {kind} or None{more}, got {getattr(self, name)!r}")

    def has_experts(self, layer: int) -> bool:
        """Whether a layer of a stack, counted from 0, has a mixture of experts instead of the one network."""
        return self.experts is not None and layer >= self.experts.n_dense_layers

    @property
    def gated(self) -> bool:
        """Whether the feed-forward network has a gate, and so three matrices instead of two."""
        return self.activation in GATED_ACTIVATIONS

    @property
    def eos_token_ids(self) -> tuple[int, ...]:
        """Every token that ends a text."""
        if isinstance(self.eos_token_id, tuple):
            return self.eos_token_id
        return () if self.eos_token_id is None else (self.eos_token_id,)

    def slides(self, layer: int) -> bool:
        """Whether a layer sees a window only."""
        return self.sliding_window is not None and (self.sliding_layers is None or layer in self.sliding_layers)

    def rope(self, slides: bool = False) -> tuple[float, Scaling | None]:
        """The base and the scaling of the rotary frequencies, in layers with a window or in the others."""
        if slides and self.local_rope_theta is not None:
            return self.local_rope_theta, None
        return self.rope_theta, self.rope_scaling

    @property
    def modifies_attention(self) -> bool:
        """Whether attention has a part that the formula of chapter 3 has not: query/key norms, sinks or a softcap."""
        return self.qk_norm or self.attention_sinks or self.attention_softcap is not None

    @property
    def n_sliding_layers(self) -> int:
        """How many layers see a window only; the others see all earlier positions."""
        if self.sliding_window is None:
            return 0
        return self.n_layers if self.sliding_layers is None else len(self.sliding_layers)

    @property
    def n_groups(self) -> int:
        """G: how many query heads share one key/value head."""
        return self.n_heads // self.n_kv_heads

    @property
    def cached(self) -> dict[str, tuple[int, ...]]:
        """What an attention layer keeps of each position for later queries: shapes by name.

        >>> ModelConfig.from_preset("llama-3-8b").cached
        {'key': (8, 128), 'value': (8, 128)}
        """
        heads = (self.n_kv_heads, self.d_head)
        return {"key": heads, "value": heads} if self.latent is None else self.latent.cached

    @property
    def final_norm(self) -> bool:
        """Whether each stack ends in a norm: blocks that normalise their input do not normalise their output."""
        return self.norm_placement != "post"

    def replace(self, **changes) -> ModelConfig:
        """The same configuration with some fields changed, and every field checked again.

        A size that still has its derived value is derived again:

        >>> config = ModelConfig(kind="decoder", d_model=64, n_layers=2, n_heads=4, d_ff=256, vocab_size=100)
        >>> config.replace(n_heads=8).d_head
        8
        """
        derived = {  # where n_heads does not divide d_model, no d_head is derived: none is a fraction
            "n_kv_heads": self.n_heads,
            "d_head": self.d_model / self.n_heads if self.latent is None else self.latent.d_head,
            "d_rotary": self.d_head if self.latent is None else self.latent.d_rope,
            "attention_scale": 1.0 / math.sqrt(self.d_head),
            "n_encoder_layers": self.n_layers if self.kind == "encoder-decoder" else None,
        }
        for name, value in derived.items():
            if getattr(self, name) == value:
                changes.setdefault(name, None)
        n_layers = changes.get("n_layers")
        if isinstance(n_layers, int) and self.sliding_layers is not None:  # of the layers that are left
            changes.setdefault("sliding_layers", tuple(layer for layer in self.sliding_layers if layer < n_layers))
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
            raise ValueError(f"unknown field {unknown[0]!r} for ModelConfig{nearest(unknown[0], known)}")
        fields = dict(fields)
        parts = {"rope_scaling": make_scaling, "latent": LatentAttention, "experts": Experts, "labels": LabelHead}
        for name, make in parts.items():
            if isinstance(fields.get(name), dict):
                fields[name] = make(**fields[name])
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
            raise ValueError(f"unknown preset {name!r}{nearest(str(name), PRESETS)}")
        config = cls(**PRESETS[name])
        return config.replace(**changes) if changes else config
