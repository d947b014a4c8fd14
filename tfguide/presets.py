"""The published models by name: the fields of a `ModelConfig` for each, with the source."""

from __future__ import annotations

import math
from typing import Any

from tfguide.parts import Experts, LatentAttention
from tfguide.scalings import LinearScaling, RopeScaling, YarnScaling


def _gpt2(d_model, n_layers, n_heads):
    return dict(
        kind="decoder", d_model=d_model, n_layers=n_layers, n_heads=n_heads, d_ff=4 * d_model, vocab_size=50257,
        max_positions=1024, positions="learned", activation="gelu_tanh", dropout=0.1,
        bos_token_id=50256, eos_token_id=50256,
    )  # fmt: skip


def _bert(d_model, n_layers, n_heads):
    return dict(
        kind="encoder", d_model=d_model, n_layers=n_layers, n_heads=n_heads, d_ff=4 * d_model, vocab_size=30522,
        max_positions=512, n_token_types=2, norm_placement="post", norm_eps=1e-12, embedding_norm=True,
        positions="learned", activation="gelu", pooler=True, dropout=0.1, pad_token_id=0,
    )  # fmt: skip


def _roberta(d_model, n_layers, n_heads):
    return _bert(d_model, n_layers, n_heads) | dict(
        vocab_size=50265, position_offset=2, n_token_types=1, norm_eps=1e-5, pad_token_id=1, bos_token_id=0,
        eos_token_id=2,
    )  # fmt: skip


def _t5(d_model, d_head, d_ff, n_heads, n_layers):
    return dict(
        kind="encoder-decoder", d_model=d_model, d_head=d_head, d_ff=d_ff, n_heads=n_heads, n_layers=n_layers,
        vocab_size=32128, norm="rms", norm_eps=1e-6, positions="relative", activation="relu", qkv_bias=False,
        output_bias=False, ffn_bias=False, attention_scale=1.0, logit_scale=d_model**-0.5, dropout=0.1,
        pad_token_id=0, eos_token_id=1, decoder_start_token_id=0,
    )  # fmt: skip


def _llama(d_model, n_layers, n_heads, n_kv_heads, d_ff, vocab_size, max_positions, norm_eps=1e-5, **more):
    return dict(
        kind="decoder", d_model=d_model, n_layers=n_layers, n_heads=n_heads, n_kv_heads=n_kv_heads, d_ff=d_ff,
        vocab_size=vocab_size, max_positions=max_positions, norm="rms", norm_eps=norm_eps, positions="rotary",
        activation="swiglu", output_bias=False, ffn_bias=False,
        **{"qkv_bias": False, "tied_head": False, "bos_token_id": 1, "eos_token_id": 2, **more},
    )  # fmt: skip


def _llama3(d_model, n_layers, n_heads, n_kv_heads, d_ff, **more):
    return _llama(
        d_model, n_layers, n_heads, n_kv_heads, d_ff, vocab_size=128256,
        **{"max_positions": 8192, "rope_theta": 500_000.0, "bos_token_id": 128000, "eos_token_id": 128001, **more},
    )  # fmt: skip


def _llama31(*sizes, factor=8.0, **more):
    scaling = RopeScaling(factor=factor, low_freq_factor=1.0, high_freq_factor=4.0, original_max_positions=8192)
    return _llama3(*sizes, max_positions=131072, rope_scaling=scaling, **more)


def _qwen2(d_model, n_layers, n_heads, n_kv_heads, d_ff, vocab_size=152064, **more):
    return _llama(
        d_model, n_layers, n_heads, n_kv_heads, d_ff, vocab_size, 32768, 1e-6, qkv_bias=True, rope_theta=1e6,
        bos_token_id=151643, eos_token_id=151643, **more,
    )  # fmt: skip


def _qwen3(d_model, n_layers, n_heads, n_kv_heads, d_ff, **more):
    return _llama(
        d_model, n_layers, n_heads, n_kv_heads, d_ff, 151936, 40960, 1e-6, d_head=128, qk_norm=True, rope_theta=1e6,
        bos_token_id=151643, eos_token_id=151645, **more,
    )  # fmt: skip


def _gemma3(d_model, n_layers, n_heads, n_kv_heads, d_ff, d_head=256, vocab_size=262208, **more):
    # Five layers with a window and one without, in turn; a norm before and after each sublayer; sqrt(D) on embeddings.
    return _llama(d_model, n_layers, n_heads, n_kv_heads, d_ff, vocab_size, 131072, 1e-6) | dict(
        d_head=d_head, norm_placement="both", qk_norm=True, activation="geglu_tanh", rope_theta=1e6,
        local_rope_theta=1e4, attention_scale=256**-0.5, embedding_scale=math.sqrt(d_model), tied_head=True,
        pad_token_id=0, bos_token_id=2, eos_token_id=1, sliding_window=1024, rope_scaling=LinearScaling(factor=8.0),
        sliding_layers=tuple(i for i in range(n_layers) if (i + 1) % 6),
    ) | more  # fmt: skip


def _gemma3_small(*sizes):
    return _gemma3(*sizes, vocab_size=262144, max_positions=32768, sliding_window=512, rope_scaling=None)


def _gpt_oss(n_layers, n_experts):
    # A window in every second layer, from the first on; biases everywhere, and experts instead of all networks.
    return _llama(
        2880, n_layers, 64, 8, 2880, 201088, 131072, d_head=64, qkv_bias=True, attention_sinks=True,
        rope_theta=150_000.0, sliding_window=128, sliding_layers=tuple(range(0, n_layers, 2)),
        rope_scaling=YarnScaling(factor=32.0, original_max_positions=4096, truncate=False),
        experts=Experts(n_experts=n_experts, per_token=4, d_expert=2880, router_bias=True, clamp=7.0),
        pad_token_id=199999, bos_token_id=199998, eos_token_id=200002,
    ) | dict(output_bias=True, ffn_bias=True)  # fmt: skip


def _palm(d_model, n_layers, n_heads):
    return dict(
        kind="decoder", d_model=d_model, n_layers=n_layers, n_heads=n_heads, n_kv_heads=1, d_head=256,
        d_ff=4 * d_model, vocab_size=256000, max_positions=2048, norm="layer", norm_placement="parallel",
        norm_bias=False, positions="rotary", activation="swiglu", qkv_bias=False, output_bias=False, ffn_bias=False,
    )  # fmt: skip


def _transformer(d_model, n_heads, dropout):
    # Vaswani et al. 2017, table 3; a shared source-target vocabulary of about 37,000 tokens, and sqrt(D) on it.
    return dict(
        kind="encoder-decoder", d_model=d_model, n_layers=6, n_heads=n_heads, d_ff=4 * d_model, vocab_size=37000,
        norm_placement="post", positions="sinusoidal", activation="relu", qkv_bias=False, output_bias=False,
        embedding_scale=math.sqrt(d_model), dropout=dropout,
    )  # fmt: skip


PRESETS: dict[str, dict[str, Any]] = {
    # Radford et al. 2019; sizes from the published config.json files
    "gpt2": _gpt2(768, 12, 12),
    "gpt2-medium": _gpt2(1024, 24, 16),
    "gpt2-large": _gpt2(1280, 36, 20),
    "gpt2-xl": _gpt2(1600, 48, 25),
    # Devlin et al. 2019
    "bert-base": _bert(768, 12, 12),
    "bert-large": _bert(1024, 24, 16),
    # Liu et al. 2019, and the published config.json files
    "roberta-base": _roberta(768, 12, 12),
    "roberta-large": _roberta(1024, 24, 16),
    # Sanh et al. 2019, "DistilBERT", and the published config.json file
    "distilbert-base": _bert(768, 6, 12) | dict(n_token_types=0, pooler=False),
    # Wang et al. 2020, as published by sentence-transformers
    "minilm-l6": _bert(384, 6, 12),
    # Raffel et al. 2020, version 1.0
    "t5-small": _t5(512, 64, 2048, 8, 6),
    "t5-base": _t5(768, 64, 3072, 12, 12),
    "t5-large": _t5(1024, 64, 4096, 16, 24),
    "t5-3b": _t5(1024, 128, 16384, 32, 24),
    "t5-11b": _t5(1024, 128, 65536, 128, 24),
    # Touvron et al. 2023
    "llama-2-7b": _llama(4096, 32, 32, 32, 11008, 32000, 4096),
    "llama-2-13b": _llama(5120, 40, 40, 40, 13824, 32000, 4096),
    "llama-2-70b": _llama(8192, 80, 64, 8, 28672, 32000, 4096),
    # Grattafiori et al. 2024, and the published config.json files
    "llama-3-8b": _llama3(4096, 32, 32, 8, 14336),
    "llama-3-70b": _llama3(8192, 80, 64, 8, 28672),
    "llama-3.1-8b": _llama31(4096, 32, 32, 8, 14336),
    "llama-3.1-70b": _llama31(8192, 80, 64, 8, 28672),
    "llama-3.1-405b": _llama31(16384, 126, 128, 8, 53248),
    "llama-3.2-1b": _llama31(2048, 16, 32, 8, 8192, factor=32.0, tied_head=True),
    "llama-3.2-3b": _llama31(3072, 28, 24, 8, 8192, factor=32.0, tied_head=True),
    # Jiang et al. 2023, version 0.1
    "mistral-7b": _llama(4096, 32, 32, 8, 14336, 32000, 32768, sliding_window=4096),
    # Abdin et al. 2024, "Phi-3 Technical Report", and the published config.json file
    "phi-3-mini-4k": _llama(
        3072, 32, 32, 32, 8192, 32064, 4096, sliding_window=2047, eos_token_id=32000, pad_token_id=32000
    ),
    # Abdin et al. 2024, "Phi-4 Technical Report", and the published config.json file
    "phi-4": _llama(
        5120,
        40,
        40,
        10,
        17920,
        100352,
        16384,
        rope_theta=250_000.0,
        pad_token_id=100349,
        bos_token_id=100257,
        eos_token_id=100265,
    ),
    # Mistral Small 3 of January 2025, from the published config.json file
    "mistral-small-24b": _llama(5120, 40, 32, 8, 32768, 131072, 32768, d_head=128, rope_theta=1e8),
    # Jiang et al. 2024, "Mixtral of Experts", and the published config.json files
    "mixtral-8x7b": _llama(
        4096,
        32,
        32,
        8,
        14336,
        32000,
        32768,
        rope_theta=1e6,
        experts=Experts(n_experts=8, per_token=2, d_expert=14336),
    ),
    "mixtral-8x22b": _llama(
        6144,
        56,
        48,
        8,
        16384,
        32000,
        65536,
        rope_theta=1e6,
        experts=Experts(n_experts=8, per_token=2, d_expert=16384),
    ),
    # Qwen Team 2024, "Qwen2.5 Technical Report", and the published config.json files
    "qwen2.5-0.5b": _qwen2(896, 24, 14, 2, 4864, 151936, tied_head=True),
    "qwen2.5-1.5b": _qwen2(1536, 28, 12, 2, 8960, 151936, tied_head=True),
    "qwen2.5-3b": _qwen2(2048, 36, 16, 2, 11008, 151936, tied_head=True),
    "qwen2.5-7b": _qwen2(3584, 28, 28, 4, 18944),
    "qwen2.5-14b": _qwen2(5120, 48, 40, 8, 13824),
    "qwen2.5-32b": _qwen2(5120, 64, 40, 8, 27648),
    "qwen2.5-72b": _qwen2(8192, 80, 64, 8, 29568),
    # Qwen Team 2025, "Qwen3 Technical Report", and the published config.json files
    "qwen3-0.6b": _qwen3(1024, 28, 16, 8, 3072, tied_head=True),
    "qwen3-1.7b": _qwen3(2048, 28, 16, 8, 6144, tied_head=True),
    "qwen3-4b": _qwen3(2560, 36, 32, 8, 9728, tied_head=True),
    "qwen3-8b": _qwen3(4096, 36, 32, 8, 12288),
    "qwen3-14b": _qwen3(5120, 40, 40, 8, 17408),
    "qwen3-32b": _qwen3(5120, 64, 64, 8, 25600),
    "qwen3-30b-a3b": _qwen3(2048, 48, 32, 4, 6144, experts=Experts(n_experts=128, per_token=8, d_expert=768)),
    "qwen3-235b-a22b": _qwen3(4096, 94, 64, 4, 12288, experts=Experts(n_experts=128, per_token=8, d_expert=1536)),
    # Gemma Team 2025, "Gemma 3 Technical Report", and the published config.json files
    "gemma-3-270m": _gemma3_small(640, 18, 4, 1, 2048),
    "gemma-3-1b": _gemma3_small(1152, 26, 4, 1, 6912),
    "gemma-3-4b": _gemma3(2560, 34, 8, 4, 10240),
    "gemma-3-12b": _gemma3(3840, 48, 16, 8, 15360),
    "gemma-3-27b": _gemma3(5376, 62, 32, 16, 21504, d_head=128, attention_scale=168**-0.5),
    # OpenAI 2025, "gpt-oss-120b & gpt-oss-20b Model Card", and the published config.json files
    "gpt-oss-20b": _gpt_oss(24, 32),
    "gpt-oss-120b": _gpt_oss(36, 128),
    # DeepSeek-AI 2024, "DeepSeek-V3 Technical Report", section 4.2, without the layer that predicts a second token
    "deepseek-v3": _llama(
        7168,
        61,
        128,
        128,
        18432,
        129280,
        163840,
        1e-6,
        d_head=192,
        rope_scaling=YarnScaling(factor=40.0, original_max_positions=4096, mscale=1.0, mscale_all_dim=1.0),
        attention_scale=192**-0.5 * (0.1 * math.log(40) + 1) ** 2,  # of all features, as mscale_all_dim says
        bos_token_id=0,
        eos_token_id=1,
        latent=LatentAttention(kv_rank=512, d_nope=128, d_rope=64, d_value=128, query_rank=1536),
        experts=Experts(
            n_experts=256,
            per_token=8,
            d_expert=2048,
            n_shared=1,
            n_dense_layers=3,
            router="sigmoid",
            scale=2.5,
            correction_bias=True,
            n_groups=8,
            groups_per_token=4,
        ),
    ),
    # Zhang et al. 2022
    "opt-13b": dict(
        kind="decoder",
        d_model=5120,
        n_layers=40,
        n_heads=40,
        d_ff=20480,
        vocab_size=50272,
        max_positions=2050,
        positions="learned",
        activation="relu",
    ),
    # Chowdhery et al. 2022, table 1
    "palm-8b": _palm(4096, 32, 16),
    "palm-62b": _palm(8192, 64, 32),
    "palm-540b": _palm(18432, 118, 48),
    # Vaswani et al. 2017, table 3
    "transformer-base": _transformer(512, 8, 0.1),
    "transformer-big": _transformer(1024, 16, 0.3),
}

# DeepSeek-AI 2025, "DeepSeek-R1": another training of the same sizes
PRESETS["deepseek-r1"] = PRESETS["deepseek-v3"]
