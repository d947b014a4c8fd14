"""The Transformer in PyTorch: the same names, parameters and numbers as `tfguide.tensorflow`."""

try:
    import torch  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "torch":
        raise
    raise ImportError("tfguide.torch needs PyTorch: install it with pip install 'tfguide[torch]'") from error

from tfguide.torch.attention import (
    MultiHeadAttention,
    attention_weights,
    causal_mask,
    padding_mask,
    scaled_dot_product_attention,
)
from tfguide.torch.cache import KVCache
from tfguide.torch.checkpoints import load_checkpoint, save_checkpoint
from tfguide.torch.feedforward import FeedForward, activate
from tfguide.torch.generate import decode, generate, prefill
from tfguide.torch.layers import DecoderBlock, EncoderBlock, LayerNorm, RMSNorm, layer_norm, rms_norm
from tfguide.torch.models import (
    Decoder,
    Encoder,
    EncoderDecoder,
    attention_maps,
    from_weights,
    sentence_embeddings,
    to_weights,
)
from tfguide.torch.positions import (
    alibi_bias,
    relative_bias,
    rotary_angles,
    rotate,
    sinusoidal_positions,
)

__all__ = [
    "Decoder",
    "DecoderBlock",
    "Encoder",
    "EncoderBlock",
    "EncoderDecoder",
    "FeedForward",
    "KVCache",
    "LayerNorm",
    "MultiHeadAttention",
    "RMSNorm",
    "activate",
    "alibi_bias",
    "attention_maps",
    "attention_weights",
    "causal_mask",
    "decode",
    "from_weights",
    "generate",
    "layer_norm",
    "load_checkpoint",
    "padding_mask",
    "prefill",
    "relative_bias",
    "rms_norm",
    "rotary_angles",
    "rotate",
    "save_checkpoint",
    "scaled_dot_product_attention",
    "sentence_embeddings",
    "sinusoidal_positions",
    "to_weights",
]
