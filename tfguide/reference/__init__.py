"""The Transformer in NumPy, float64: the formulas of chapters 3 and 4, executable, and the oracle of every test.

It is written for reading and for correctness, not for speed: it caches nothing, and every step is one line.
"""

from tfguide.generation import attention_maps
from tfguide.reference.attention import (
    MultiHeadAttention,
    attention_weights,
    causal_mask,
    padding_mask,
    scaled_dot_product_attention,
)
from tfguide.reference.blocks import DecoderBlock, EncoderBlock
from tfguide.reference.experts import MixtureOfExperts, clamped_swiglu, dense_mixture, route
from tfguide.reference.feedforward import FeedForward, activate
from tfguide.reference.latent import MultiHeadLatentAttention, absorbed_attention, latent_keys_values
from tfguide.reference.models import (
    Decoder,
    Encoder,
    EncoderDecoder,
    forward,
    from_weights,
    generate,
    sentence_embeddings,
)
from tfguide.reference.modified import ModifiedAttention, modified_attention, modified_attention_weights, softcap
from tfguide.reference.norms import LayerNorm, RMSNorm, layer_norm, rms_norm
from tfguide.reference.positions import (
    alibi_bias,
    relative_bias,
    rotary_angles,
    rotate,
    sinusoidal_positions,
)
from tfguide.reference.tiled import tiled_attention

__all__ = [
    "Decoder",
    "DecoderBlock",
    "Encoder",
    "EncoderBlock",
    "EncoderDecoder",
    "FeedForward",
    "LayerNorm",
    "MixtureOfExperts",
    "ModifiedAttention",
    "MultiHeadAttention",
    "MultiHeadLatentAttention",
    "RMSNorm",
    "absorbed_attention",
    "activate",
    "alibi_bias",
    "attention_maps",
    "attention_weights",
    "causal_mask",
    "clamped_swiglu",
    "dense_mixture",
    "forward",
    "from_weights",
    "generate",
    "latent_keys_values",
    "layer_norm",
    "modified_attention",
    "modified_attention_weights",
    "padding_mask",
    "relative_bias",
    "rms_norm",
    "rotary_angles",
    "rotate",
    "route",
    "scaled_dot_product_attention",
    "sentence_embeddings",
    "sinusoidal_positions",
    "softcap",
    "tiled_attention",
]
