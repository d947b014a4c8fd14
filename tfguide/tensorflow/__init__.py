"""The Transformer in TensorFlow, as Keras 3 layers: the same names, parameters and numbers as `tfguide.torch`."""

from tfguide.tensorflow import startup  # noqa: F401, I001  before anything that imports Keras

from tfguide.tensorflow.attention import (
    MultiHeadAttention,
    attention_weights,
    causal_mask,
    padding_mask,
    scaled_dot_product_attention,
)
from tfguide.tensorflow.cache import KVCache

from tfguide.tensorflow.checkpoints import load_checkpoint, save_checkpoint
from tfguide.tensorflow.feedforward import FeedForward, activate
from tfguide.tensorflow.generate import decode, generate, prefill
from tfguide.tensorflow.layers import DecoderBlock, EncoderBlock, LayerNorm, RMSNorm, layer_norm, rms_norm
from tfguide.tensorflow.models import (
    Decoder,
    Encoder,
    EncoderDecoder,
    attention_maps,
    from_weights,
    sentence_embeddings,
    to_weights,
)
from tfguide.tensorflow.positions import (
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
