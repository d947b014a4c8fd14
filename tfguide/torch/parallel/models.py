"""Models that several processes compute together: each holds its own heads, hidden features, experts and words."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import torch

from tfguide.checkpoints import Blocks
from tfguide.checkpoints.models import has_blocks
from tfguide.compress import Quantization
from tfguide.compress.quantized import quantized_weights
from tfguide.config import ModelConfig
from tfguide.sharding.cuts import divided_axis, part_of
from tfguide.sharding.pieces import Pieces, Share, read_share
from tfguide.torch.experts import MixtureOfExperts
from tfguide.torch.linear import left_out
from tfguide.torch.models import Decoder, Encoder, EncoderDecoder
from tfguide.torch.parallel.group import Group
from tfguide.torch.parallel.layers import ParallelMixture, Summed, VocabularyEmbedding
from tfguide.torch.positions import alibi_bias
from tfguide.torch.stack import DecoderStack, EncoderStack
from tfguide.torch.weighted import Weighted
from tfguide.weights import check_dtype


class Parallel(Weighted):
    """What the models of this module have in common: a share of the weights, and a group to compute with.

    Every process calls a method with the same arguments and gets the same result. `config` is that of this process,
    with its own heads and hidden features, and all words; `share.config` is that of the model. `group.sent` has the
    elements that this process has sent. The weights cannot be read, saved or changed: no process has them all.
    """

    def __init__(self, share: Share, group: Group):
        super().__init__(share.local)
        self.share, self.group = share, group
        if self.config.positions == "alibi":
            for name, stack in list(self.named_children()):
                if isinstance(stack, EncoderStack):
                    kind = _DecoderStack if isinstance(stack, DecoderStack) else _EncoderStack
                    self.add_module(name, kind(share, len(stack.layers)))

    @property
    def dtype(self) -> torch.dtype:
        """The type of the weights and the activations; blocks are dequantised to float32."""
        if self.config.d_input is not None or not isinstance(self.embedding.token, VocabularyEmbedding):
            return super().dtype
        token = self.embedding.token
        return torch.float32 if token.is_in_blocks else token.weight.dtype

    def shape_of(self, weight):
        """The shape of this process's piece of a weight."""
        return self.share.piece(weight.name).shape_of(weight)

    def weight_of(self, name):
        """Raises TypeError: no process has a whole weight."""
        raise TypeError(
            f"{name} cannot be read from a model of which {self.share.n} processes hold pieces: "
            "load the checkpoint in one process"
        )

    packed_of = weight_of


class ParallelEncoder(Parallel, Encoder):
    """`Encoder`, computed by the processes of a group."""


class _WithHead(Parallel):
    """A model with a head, whose words are divided."""

    def logits(self, hidden):
        """The head: hidden states (..., D) to logits (..., V); each process computes those of its words."""
        return self.group.all_gather(super().logits(hidden), hidden.dim() - 1, "logits", self.share.words)


class ParallelDecoder(_WithHead, Decoder):
    """`Decoder`, computed by the processes of a group."""


class ParallelEncoderDecoder(_WithHead, EncoderDecoder):
    """`EncoderDecoder`, computed by the processes of a group."""


class _OwnHeads:
    """A stack of a model with ALiBi, whose slopes are those of this process's heads among all."""

    def __init__(self, share, n_layers):
        super().__init__(share.local, n_layers)
        self.share = share

    def position_terms(self, positions, key_positions, lengths, slides=False):
        start, stop = part_of(self.share.config, "H", self.share.n, self.share.rank)
        return alibi_bias(positions, key_positions, self.share.config.n_heads)[:, start:stop], None


class _EncoderStack(_OwnHeads, EncoderStack):
    pass


class _DecoderStack(_OwnHeads, DecoderStack):
    pass


_KINDS = {"encoder": ParallelEncoder, "decoder": ParallelDecoder, "encoder-decoder": ParallelEncoderDecoder}


def load_parallel(
    folder: str | os.PathLike,
    group: Group,
    ignore: Sequence[str] = (),
    dtype: str | None = None,
    quantization: Quantization | None = None,
) -> Parallel:
    """The model in a checkpoint, of which each process of a group reads and keeps its own pieces.

    The other arguments are those of `load_checkpoint`; integers and scales are those of the whole model. Every process
    must call it with the same ones. Raises as `read_share`, and ValueError in all processes if they are not the same.
    """
    share, quantization, arrays = group.all_do(
        lambda: read_share(folder, group.n, group.rank, ignore, dtype, quantization)
    )
    small = not isinstance(arrays, Pieces) and has_blocks(arrays)
    group.agree("the model", [share.config.to_dict(), share.unit, str(quantization), dtype, small])
    return group.all_do(lambda: _filled(_empty(share, group, dtype or "float32"), quantization, arrays, small))


def parallel_from_weights(
    config: ModelConfig, weights: Mapping[str, np.ndarray], group: Group, dtype: str = "float32"
) -> Parallel:
    """The model of a canonical dictionary, of which each process of a group keeps its own pieces.

    Arguments and errors as of `from_weights` and `check_processes`, and ValueError in all processes if their
    configurations differ.
    """
    check_dtype(dtype)
    group.agree("the model", [config.to_dict(), dtype])
    share = Share(config, group.n, group.rank)
    return _divide(_empty(share, group, dtype).fill(_added_once(share, share.cut(weights))))


def _filled(model, quantization, arrays, small):
    arrays = _added_once(model.share, arrays)
    if quantization is not None:
        model.fill_quantized(quantization, arrays)
    elif small:
        model.fill_blocks(arrays)
    else:
        model.fill(arrays)
    return _divide(model)


def _empty(share, group, dtype):
    with left_out():
        return _KINDS[share.config.kind](share, group).to(getattr(torch, dtype))


def _summed(share):
    """The paths of the layers whose inputs are cut, so that each process has a part of the sum."""
    weights = quantized_weights(share.config).items()
    return [
        name.rpartition(".")[0]
        for name, weight in weights
        if weight.is_matrix and divided_axis(weight) == len(weight.axes) - 2 and not weight.is_routed
    ]


def _added_once(share, arrays: Mapping[str, Blocks | np.ndarray]) -> Pieces:
    """The arrays, in which the bias of a sum is 0 but in the first process."""
    biases = {f"{path}.bias" for path in _summed(share)} if share.rank else ()

    def read(name):
        return np.zeros_like(arrays[name]) if name in biases else arrays[name]

    return Pieces({name: partial(read, name) for name in arrays})


def _divide(model):
    """Let the layers whose weights are cut ask the other processes for the rest; the model, ready for inference."""
    share, group = model.share, model.group
    for path in _summed(share):
        parent, _, name = path.rpartition(".")
        model.get_submodule(parent).add_module(name, Summed(model.get_submodule(path), group, _step_of(path)))
    for path, layer in list(model.named_modules()):
        if isinstance(layer, MixtureOfExperts):
            ends = [part_of(share.config, "experts", share.n, rank)[1] for rank in range(share.n)]
            parent, _, name = path.rpartition(".")
            model.get_submodule(parent).add_module(name, ParallelMixture(layer, group, ends))
    if share.config.d_input is None:
        start, _ = part_of(share.config, "V", share.n, share.rank)
        model.embedding.add_module("token", VocabularyEmbedding(model.embedding.token, start, group))
    return model.eval().to(group.device)


def _step_of(path):
    """The name under which the sum of a layer is counted: that of its sublayer."""
    return path.rpartition(".")[0].rpartition(".")[2]
