"""The Transformer in PyTorch: the same names, parameters and numbers as `tfguide.tensorflow`."""

from tfguide.torch import startup  # noqa: F401, I001  before anything that imports PyTorch

from tfguide.checkpoints.models import save_checkpoint, save_gguf
from tfguide.compress.models import (
    layer_changes, pool_kv_heads, prune_heads, prune_layers, prune_magnitude, prune_neurons, prune_two_four,
    quantize, to_weights,
)  # fmt: skip
from tfguide.generation import attention_maps, beam_search, generate, perplexity, speculative_generate, stream
from tfguide.torch.attention import MultiHeadAttention, attention_weights, fused_attention, scaled_dot_product_attention
from tfguide.torch.blocks import DecoderBlock, EncoderBlock
from tfguide.torch.cache import Int4KVCache, KVCache, QuantizedKVCache, QuantizedStorage, SlidingCache, Storage
from tfguide.torch.checkpoints import load_checkpoint
from tfguide.torch.experts import MixtureOfExperts, clamped_swiglu, dense_mixture, route
from tfguide.torch.fast import CompiledDecoder, FastDecoder, accelerate
from tfguide.torch.feedforward import FeedForward, activate
from tfguide.torch.gguf import BlockEmbedding, BlockLinear
from tfguide.torch.latent import MultiHeadLatentAttention, absorbed_attention, latent_keys_values
from tfguide.torch.masks import Mask, causal_mask, padding_mask
from tfguide.torch.models import (
    Decoder, Encoder, EncoderDecoder, from_weights, sentence_embeddings,
)  # fmt: skip
from tfguide.torch.modified import ModifiedAttention, modified_attention, modified_attention_weights, softcap
from tfguide.torch.norms import LayerNorm, RMSNorm, layer_norm, rms_norm
from tfguide.torch.positions import alibi_bias, relative_bias, rotary_angles, rotate, sinusoidal_positions
from tfguide.torch.quantized import QuantizedLinear
from tfguide.torch.tiled import tiled_attention
from tfguide.torch.train import Trainer, adamw, clip_gradients, cross_entropy

__all__ = [
    "BlockEmbedding", "BlockLinear", "CompiledDecoder", "Decoder", "DecoderBlock", "Encoder", "EncoderBlock",
    "EncoderDecoder", "FastDecoder", "FeedForward", "Int4KVCache", "KVCache", "LayerNorm", "Mask", "MixtureOfExperts",
    "ModifiedAttention", "MultiHeadAttention", "MultiHeadLatentAttention", "QuantizedKVCache", "QuantizedLinear",
    "QuantizedStorage", "RMSNorm", "SlidingCache", "Storage", "Trainer", "absorbed_attention", "accelerate", "activate",
    "adamw", "alibi_bias", "attention_maps", "attention_weights", "beam_search", "causal_mask", "clamped_swiglu",
    "clip_gradients", "cross_entropy", "dense_mixture", "from_weights", "fused_attention", "generate",
    "latent_keys_values", "layer_changes", "layer_norm", "load_checkpoint", "modified_attention",
    "modified_attention_weights", "padding_mask", "perplexity", "pool_kv_heads", "prune_heads", "prune_layers",
    "prune_magnitude", "prune_neurons", "prune_two_four", "quantize", "relative_bias", "rms_norm", "rotary_angles",
    "rotate", "route", "save_checkpoint", "save_gguf", "scaled_dot_product_attention", "sentence_embeddings",
    "sinusoidal_positions", "softcap", "speculative_generate", "stream", "tiled_attention", "to_weights",
]  # fmt: skip
