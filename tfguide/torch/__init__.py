"""The Transformer in PyTorch: the same names, parameters and numbers as `tfguide.tensorflow`."""

from tfguide.torch import startup  # noqa: F401, I001  before anything that imports PyTorch

from tfguide.torch.attention import (
    MultiHeadAttention,
    attention_weights,
    causal_mask,
    fused_attention,
    padding_mask,
    scaled_dot_product_attention,
)
from tfguide.torch.beam import beam_search
from tfguide.torch.cache import KVCache, QuantizedKVCache, SlidingCache
from tfguide.torch.checkpoints import load_checkpoint, save_checkpoint
from tfguide.torch.compile import CompiledDecoder
from tfguide.torch.fast import FastDecoder, accelerate
from tfguide.torch.feedforward import FeedForward, activate
from tfguide.torch.generate import decode, generate, prefill, stream
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
from tfguide.torch.perplexity import perplexity
from tfguide.torch.positions import (
    alibi_bias,
    relative_bias,
    rotary_angles,
    rotate,
    sinusoidal_positions,
)
from tfguide.torch.prune import (
    layer_changes,
    pool_kv_heads,
    prune_heads,
    prune_layers,
    prune_magnitude,
    prune_neurons,
    prune_two_four,
)
from tfguide.torch.quantize import QuantizedLinear, quantize
from tfguide.torch.speculative import speculative_generate
from tfguide.torch.tiled import tiled_attention

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
