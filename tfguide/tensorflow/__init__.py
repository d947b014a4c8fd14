"""The Transformer in TensorFlow, as Keras 3 layers: the same names, parameters and numbers as `tfguide.torch`."""

from tfguide.tensorflow import startup  # noqa: F401, I001  before anything that imports Keras

from tfguide.tensorflow.attention import (
    MultiHeadAttention,
    attention_weights,
    causal_mask,
    fused_attention,
    padding_mask,
    scaled_dot_product_attention,
)
from tfguide.tensorflow.beam import beam_search
from tfguide.tensorflow.cache import KVCache, QuantizedKVCache, SlidingCache
from tfguide.tensorflow.checkpoints import load_checkpoint, save_checkpoint
from tfguide.tensorflow.compile import CompiledDecoder
from tfguide.tensorflow.fast import FastDecoder, accelerate
from tfguide.tensorflow.feedforward import FeedForward, activate
from tfguide.tensorflow.generate import decode, generate, prefill, stream
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
from tfguide.tensorflow.quantize import QuantizedLinear, quantize
from tfguide.tensorflow.speculative import speculative_generate
from tfguide.tensorflow.prune import (
    layer_changes,
    pool_kv_heads,
    prune_heads,
    prune_layers,
    prune_magnitude,
    prune_neurons,
    prune_two_four,
)
from tfguide.tensorflow.tiled import tiled_attention
from tfguide.tensorflow.perplexity import perplexity

__all__ = [
    "CompiledDecoder",
    "Decoder",
    "DecoderBlock",
    "Encoder",
    "EncoderBlock",
    "EncoderDecoder",
    "FastDecoder",
    "FeedForward",
    "KVCache",
    "LayerNorm",
    "MultiHeadAttention",
    "QuantizedKVCache",
    "QuantizedLinear",
    "RMSNorm",
    "SlidingCache",
    "accelerate",
    "activate",
    "alibi_bias",
    "attention_maps",
    "attention_weights",
    "beam_search",
    "causal_mask",
    "decode",
    "from_weights",
    "fused_attention",
    "generate",
    "layer_changes",
    "layer_norm",
    "load_checkpoint",
    "padding_mask",
    "perplexity",
    "pool_kv_heads",
    "prefill",
    "prune_heads",
    "prune_layers",
    "prune_magnitude",
    "prune_neurons",
    "prune_two_four",
    "quantize",
    "relative_bias",
    "rms_norm",
    "rotary_angles",
    "rotate",
    "save_checkpoint",
    "scaled_dot_product_attention",
    "sentence_embeddings",
    "sinusoidal_positions",
    "speculative_generate",
    "stream",
    "tiled_attention",
    "to_weights",
]
