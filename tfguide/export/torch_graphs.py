"""Models of `tfguide.torch` as modules of tensors alone, which `torch.export` traces."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tfguide.export.names import PAST, by_layer, by_name, cached_shapes
from tfguide.generation.views import CallView
from tfguide.torch import Decoder, Encoder, EncoderDecoder

MODELS = (Encoder, Decoder, EncoderDecoder)
DYNAMIC = torch.export.Dim.DYNAMIC


class PastView(CallView):
    """A traced call's part of a cache: keys and values come in as tensors, and go out longer.

    past: what each layer has kept, each (B, P, ...); length: T, of the new tokens. `present` collects what is kept now.
    """

    def __init__(self, past: list[tuple[Tensor, ...]], length: int):
        self._past, self.present = past, []
        before, device = past[0][0].shape[1], past[0][0].device
        self.positions = torch.arange(length, device=device)[None] + before  # (1, T)
        self.key_positions = torch.arange(before + length, device=device)[None]  # (1, S)

    def append(self, layer: int, parts: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The positions before with the new ones behind them, each (B, S, ...)."""
        joined = tuple(torch.cat(pair, dim=1) for pair in zip(self._past[layer], parts, strict=True))
        self.present.append(joined)
        return joined


class EncoderGraph(nn.Module):
    """Tokens and a mask (B, T) to hidden states (B, T, D)."""

    def __init__(self, model: Encoder):
        super().__init__()
        self.model = model

    def forward(self, tokens, valid):
        """tokens: integers (B, T); valid: boolean (B, T)."""
        positions = torch.arange(tokens.shape[1], device=tokens.device)[None]
        return self.model.encoder(self.model.embedding(tokens, positions), positions, valid)


class DecoderGraph(nn.Module):
    """Tokens (B, T) and what is kept of the P positions before them to logits (B, T, V) and what is kept now."""

    def __init__(self, model: Decoder):
        super().__init__()
        self.model = model

    def forward(self, tokens, past):
        """tokens: integers (B, T); past: by name, each (B, P, ...), P = 0 before the first."""
        config = self.model.config
        view = PastView(by_layer(config, past), tokens.shape[1])
        hidden = self.model.trunk(tokens, view.positions, cache=view)
        return self.model.logits(hidden), by_name(config, view.present)


class EncoderDecoderGraph(nn.Module):
    """Source (B, S) and target (B, T) to logits (B, T, V); nothing is kept between calls."""

    def __init__(self, model: EncoderDecoder):
        super().__init__()
        self.model = model

    def forward(self, source, source_valid, target):
        """source, target: integers; source_valid: boolean (B, S)."""
        model = self.model
        places = [torch.arange(tokens.shape[1], device=tokens.device)[None] for tokens in (source, target)]
        memory = model.encoder(model.embedding(source, places[0]), places[0], source_valid)
        hidden = model.decoder(model.embedding(target, places[1]), places[1], None, memory, source_valid)
        return model.logits(hidden)


def graph_of(model: Encoder | Decoder | EncoderDecoder) -> nn.Module:
    """The module to trace, ready for inference. What is in blocks of a GGUF file is dequantised."""
    if model.block_types:
        model = model.with_weights(model.config, model.to_weights())
    kind = {"encoder": EncoderGraph, "decoder": DecoderGraph, "encoder-decoder": EncoderDecoderGraph}
    return kind[model.config.kind](model).eval()


def example_of(model: Encoder | Decoder | EncoderDecoder) -> dict[str, Any]:
    """Inputs to trace with, by name: no size is 0 or 1, which a tracer would take for constants."""
    config, device = model.config, model.device
    tokens = torch.zeros((2, 3), dtype=torch.int64, device=device)
    valid = torch.ones((2, 3), dtype=torch.bool, device=device)
    if config.kind == "encoder":
        return {"tokens": tokens, "valid": valid}
    if config.kind == "encoder-decoder":
        target = torch.zeros((2, 4), dtype=torch.int64, device=device)
        return {"source": tokens, "source_valid": valid, "target": target}
    past = {
        PAST + name: torch.zeros((2, 5, *shape), dtype=model.dtype, device=device)
        for name, shape in cached_shapes(config).items()
    }
    return {"tokens": tokens, "past": past}


def dynamic_axes(model: Encoder | Decoder | EncoderDecoder, named: bool = False) -> dict[str, Any]:
    """Which sizes may differ from call to call: the first two of each input. named: by names, for ONNX."""

    def axes(length):
        return {0: "batch", 1: length} if named else {0: DYNAMIC, 1: DYNAMIC}

    if model.config.kind == "encoder":
        return {"tokens": axes("length"), "valid": axes("length")}
    if model.config.kind == "encoder-decoder":
        return {"source": axes("source"), "source_valid": axes("source"), "target": axes("target")}
    past = {PAST + name: axes("past") for name in cached_shapes(model.config)}
    return {"tokens": axes("length"), "past": past}
