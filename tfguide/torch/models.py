"""Whole models: encoder, decoder and encoder-decoder, from a configuration and a weight dictionary."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from tfguide.checks.shapes import (
    check_config,
    check_memory,
    check_pooler,
    check_real_tokens,
    check_token_range,
    check_token_types,
    check_tokens,
    check_valid,
)
from tfguide.config import ModelConfig
from tfguide.generation.caching import check_cached_call, check_padding_at_end
from tfguide.torch.attention import as_tensor
from tfguide.torch.stack import DecoderStack, Embeddings, EncoderStack
from tfguide.weights import attention_names, check_dtype, check_weights, stays_float32, weight_shapes


class Encoder(nn.Module):
    """Tokens (B, T) to hidden states (B, T, D) in which every position has seen every other: BERT's family."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        check_config(config, "encoder")
        self.config, self.quantization = config, None
        self.embedding = Embeddings(config)
        self.encoder = EncoderStack(config, config.n_layers)
        if config.pooler:
            self.pooler = nn.Linear(config.d_model, config.d_model)

    def forward(self, tokens, valid=None, token_types=None, record=None):
        """tokens: integers (B, T); valid: boolean (B, T), True at real tokens; token_types: integers (B, T)."""
        tokens, valid = as_tokens(self, tokens, valid)
        token_types = as_token_types(self, tokens, token_types)
        positions = torch.arange(tokens.shape[1], device=tokens.device)[None]
        return self.encoder(self.embedding(tokens, positions, token_types), positions, valid, record=record)

    def pool(self, hidden):
        """BERT's summary of a sequence, from its hidden states (B, T, D): tanh of a map of the first one, (B, D)."""
        check_pooler(self.config)
        return torch.tanh(self.pooler(hidden[:, 0]))


class Decoder(nn.Module):
    """Tokens (B, T) to logits (B, T, V) in which a position has seen only what came before: GPT's family."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        check_config(config, "decoder")
        self.config, self.quantization = config, None
        self.embedding = Embeddings(config)
        self.decoder = DecoderStack(config, config.n_layers)
        if not config.tied_head:
            self.head = nn.Linear(config.d_model, config.vocab_size, bias=False)

    def forward(self, tokens, valid=None, token_types=None, record=None, cache=None):
        """tokens: integers (B, T); valid: boolean (B, T), True at real tokens; token_types: integers (B, T).

        cache: a `KVCache` that holds what came before the tokens, and takes them up. `valid` may then mark padding
        at the end of each row only.
        """
        return self.logits(self.hidden(tokens, valid, token_types, record, cache))

    def hidden(self, tokens, valid=None, token_types=None, record=None, cache=None):
        """The hidden states (B, T, D) that the head turns into logits; arguments as in the call."""
        tokens, valid = as_tokens(self, tokens, valid)
        token_types = as_token_types(self, tokens, token_types)
        positions = next_positions(self, tokens, valid, cache, record)
        x = self.embedding(tokens, positions, token_types)
        x = self.decoder(x, positions, valid, record=record, cache=cache)
        if cache is not None:
            cache.advance(tokens.shape[1] if valid is None else valid.sum(dim=1))
        return x

    def logits(self, hidden):
        """The head: hidden states (..., D) to logits (..., V)."""
        hidden = hidden * self.config.logit_scale
        tied = self.config.tied_head and self.quantization is None  # a quantised copy of a tied head is a head
        return hidden @ self.embedding.token.weight.T if tied else self.head(hidden)


class EncoderDecoder(nn.Module):
    """Source (B, S) and target (B, T) tokens to logits (B, T, V): T5's family, and the original Transformer."""

    logits = Decoder.logits

    def __init__(self, config: ModelConfig):
        super().__init__()
        check_config(config, "encoder-decoder")
        self.config, self.quantization = config, None
        self.embedding = Embeddings(config)
        self.encoder = EncoderStack(config, config.n_encoder_layers)
        self.decoder = DecoderStack(config, config.n_layers)
        if not config.tied_head:
            self.head = nn.Linear(config.d_model, config.vocab_size, bias=False)

    def forward(self, source, target, source_valid=None, target_valid=None, record=None):
        """source: integers (B, S); target: integers (B, T), starting with the decoder's start token.

        source_valid, target_valid: boolean, the shapes of the tokens, True at real tokens.
        """
        source, source_valid = as_tokens(self, source, source_valid, "source")
        memory = self.encode(source, source_valid, record)
        return self.decode(target, memory, target_valid, source_valid, record)

    def encode(self, source, source_valid=None, record=None):
        """Source tokens (B, S) to the encoder's hidden states (B, S, D), the memory of the decoder."""
        source, source_valid = as_tokens(self, source, source_valid, "source")
        positions = torch.arange(source.shape[1], device=source.device)[None]
        return self.encoder(self.embedding(source, positions), positions, source_valid, record=record)

    def decode(self, target, memory, target_valid=None, source_valid=None, record=None, cache=None):
        """Target tokens (B, T) and the memory (B, S, D) to logits (B, T, V); cache: as in `Decoder`."""
        return self.logits(self.hidden(target, memory, target_valid, source_valid, record, cache))

    def hidden(self, target, memory, target_valid=None, source_valid=None, record=None, cache=None):
        """The hidden states (B, T, D) that the head turns into logits; arguments as in `decode`."""
        target, target_valid = as_tokens(self, target, target_valid, "target")
        check_memory(tuple(memory.shape), (*target.shape, self.config.d_model), self.config.d_model)
        positions = next_positions(self, target, target_valid, cache, record)
        x = self.embedding(target, positions)
        x = self.decoder(x, positions, target_valid, memory, source_valid, record=record, cache=cache)
        if cache is not None:
            cache.advance(target.shape[1] if target_valid is None else target_valid.sum(dim=1))
        return x


def from_weights(
    config: ModelConfig, weights: Mapping[str, np.ndarray], dtype: str = "float32"
) -> Encoder | Decoder | EncoderDecoder:
    """The model of a configuration with the weights of a canonical dictionary (see `tfguide.weight_shapes`).

    The model is ready for inference; the arrays are copied. dtype: of the weights and activations, "float32",
    "bfloat16" or "float16"; norms, softmax and rotary angles are computed in float32 whatever it is.
    Raises ValueError for a missing, extra or wrongly shaped weight, or another dtype.
    """
    check_weights(config, weights)
    check_dtype(dtype)
    model = empty_model(config)
    for name in weight_shapes(config):
        layer, attribute = _owner(model, name)
        array = weights[name].T if isinstance(layer, nn.Linear) else weights[name]  # nn.Linear keeps (out, in)
        kept = torch.float32 if stays_float32(config, name, dtype) else getattr(torch, dtype)
        tensor = torch.from_numpy(np.array(array, np.float32, order="C")).to(kept)
        setattr(layer, attribute, nn.Parameter(tensor))
    return model.eval()


def empty_model(config):
    """A model whose weights are shapes only: no memory and no random numbers for what is about to be replaced."""
    with torch.device("meta"), _NoInitialisation():
        return {"encoder": Encoder, "decoder": Decoder, "encoder-decoder": EncoderDecoder}[config.kind](config)


class _NoInitialisation(TorchFunctionMode):
    """Within it, the functions of torch.nn.init leave a tensor as it is.

    The meta device needs PyTorch's compiler for a normal distribution, which takes seconds to import.
    """

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if getattr(function, "__module__", None) == "torch.nn.init":
            return kwargs["tensor"]
        return function(*args, **(kwargs or {}))


def to_weights(model: Encoder | Decoder | EncoderDecoder) -> dict[str, np.ndarray]:
    """The canonical dictionary of a model's weights, float32 copies: what `from_weights` took.

    Of a quantised model: what its weights stand for.
    """
    weights = {}
    for name in weight_shapes(model.config):
        layer, attribute = _owner(model, name)
        array = getattr(layer, attribute).detach().float().cpu().numpy()
        is_linear = isinstance(layer, nn.Linear) or hasattr(layer, "packed")  # (out, in) both
        weights[name] = np.array(array.T if is_linear and attribute == "weight" else array, order="C")
    return weights


def attention_maps(model, *inputs, **masks) -> dict[str, Tensor]:
    """The weights (B, H, T, S) of every attention layer by name; arguments as in the model's call."""
    maps = []
    model(*inputs, **masks, record=maps.append)
    return dict(zip(attention_names(model.config), maps, strict=True))


def sentence_embeddings(model: Encoder, tokens, valid=None, token_types=None) -> Tensor:
    """One vector of length 1 for each row: the mean of its hidden states at real tokens, normalised; (B, D).

    Source: Reimers & Gurevych 2019. Raises ValueError where a row has no real token.
    """
    check_config(model.config, "encoder")
    hidden = model(tokens, valid, token_types)
    if valid is None:
        mean = hidden.mean(dim=1)
    else:
        valid = as_tensor(valid, hidden.device)
        check_real_tokens(bool(valid.any(dim=1).all()))
        mean = torch.einsum("btd,bt->bd", hidden, valid.to(hidden.dtype)) / valid.sum(dim=1, keepdim=True)
    return mean / mean.norm(dim=1, keepdim=True)


def as_tokens(model, tokens, valid=None, name="tokens"):
    """Token ids and their padding mask as tensors beside the model, checked against its configuration."""
    device = model.embedding.token.weight.device
    tokens = as_tensor(tokens, device)
    integer = not (tokens.is_floating_point() or tokens.is_complex() or tokens.dtype == torch.bool)
    check_tokens(name, tuple(tokens.shape), integer, tokens.dtype, model.config.max_positions)
    _check_range(name, tokens, model.config.vocab_size)
    if valid is not None:
        valid = as_tensor(valid, device)
        check_valid("valid", tuple(valid.shape), valid.dtype == torch.bool, valid.dtype, tuple(tokens.shape))
    return tokens.long(), valid


def as_token_types(model, tokens, token_types):
    """Token types as a tensor beside the model, checked against the model and the tokens; None stays None."""
    if token_types is None:
        return None
    token_types = as_tensor(token_types, tokens.device)
    integer = not (token_types.is_floating_point() or token_types.dtype == torch.bool)
    check_tokens("token_types", tuple(token_types.shape), integer, token_types.dtype)
    check_token_types(model.config, tuple(token_types.shape), tuple(tokens.shape))
    _check_range("token_types", token_types, model.config.n_token_types)
    return token_types.long()


def next_positions(model, tokens, valid, cache, record):
    """Where new tokens stand: (1, T) from 0, or (B, T) behind what a cache holds. Raises ValueError."""
    if cache is None:
        return torch.arange(tokens.shape[1], device=tokens.device)[None]
    check_cached_call(model.config, cache.config, cache.batch_size, tokens.shape[0], record is not None)
    if valid is not None:
        check_padding_at_end(bool((valid[:, 1:] <= valid[:, :-1]).all()))
    return cache.positions(tokens.shape[1])


def _check_range(name, tokens, vocab_size):
    if not torch.compiler.is_compiling():  # a traced graph has no values to look at
        lowest, highest = tokens.aminmax()
        check_token_range(name, int(lowest), int(highest), vocab_size)


def _owner(model, name):
    path, attribute = name.rsplit(".", 1)
    return model.get_submodule(path), attribute
