"""Models, files and tokenisers that the tests of GGUF files make."""

import json
import math

import gguf
import numpy as np

from tests.support import small_config
from tfguide.checkpoints.gguf.blocks import BLOCK_TYPES, NUMBERS
from tfguide.parts import Experts, LatentAttention
from tfguide.scalings import LinearScaling, LongRopeScaling, RopeScaling, YarnScaling

LLAMA = dict(
    norm="rms", positions="rotary", activation="swiglu", qkv_bias=False, output_bias=False, ffn_bias=False,
    max_positions=67, vocab_size=37, d_model=35, n_heads=5, n_kv_heads=1, d_head=6, d_ff=33,
)  # fmt: skip
GPT2 = dict(positions="learned", activation="gelu_tanh", max_positions=67, vocab_size=37, d_model=35, n_heads=5,
            n_kv_heads=5, d_head=7, d_ff=33)  # fmt: skip
GEMMA3 = LLAMA | dict(
    norm_placement="both", qk_norm=True, activation="geglu_tanh", embedding_scale=35**0.5, n_layers=4,
    sliding_window=5, sliding_layers=(0, 2), rope_theta=53.0, local_rope_theta=7.0,
)  # fmt: skip
PHI3 = LLAMA | dict(d_model=30, n_kv_heads=5, rope_theta=100.0, d_rotary=4)
DEEPSEEK2 = LLAMA | dict(
    tied_head=False, n_kv_heads=None, d_head=None, n_layers=3, rope_theta=100.0,
    latent=LatentAttention(kv_rank=13, d_nope=5, d_rope=4, d_value=3, query_rank=11),
    experts=Experts(n_experts=6, per_token=2, d_expert=13, n_shared=2, n_dense_layers=1, router="sigmoid", scale=2.5,
                    correction_bias=True, n_groups=3, groups_per_token=2),
    rope_scaling=YarnScaling(factor=4.0, original_max_positions=16, mscale=1.0, mscale_all_dim=1.0),
    attention_scale=(0.1 * math.log(4.0) + 1.0) ** 2 / 3.0,
)  # fmt: skip
GPT_OSS = LLAMA | dict(
    tied_head=False, qkv_bias=True, output_bias=True, ffn_bias=True, attention_sinks=True, n_layers=3, d_ff=13,
    sliding_window=5, sliding_layers=(0, 2),
    experts=Experts(n_experts=5, per_token=2, d_expert=13, router_bias=True, clamp=7.0),
)  # fmt: skip
SCALING = RopeScaling(factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_positions=32)
CONFIGS = {
    "llama": LLAMA,
    "llama-untied-biases": LLAMA | dict(tied_head=False, qkv_bias=True, output_bias=True, ffn_bias=True),
    "llama-scaled": LLAMA | dict(rope_theta=100.0, rope_scaling=SCALING, n_kv_heads=5, eos_token_id=(2, 5, 7)),
    "llama-tokens": LLAMA | dict(d_model=30, d_head=None, bos_token_id=1, eos_token_id=2, pad_token_id=3),
    "qwen2": LLAMA | dict(tied_head=False, qkv_bias=True, d_model=30),
    "qwen3": LLAMA | dict(qk_norm=True),
    "llama-mixtral": LLAMA | dict(tied_head=False, d_ff=13, experts=Experts(n_experts=5, per_token=2, d_expert=13)),
    "qwen3moe": LLAMA | dict(qk_norm=True, experts=Experts(n_experts=5, per_token=2, d_expert=13)),
    "gemma3": GEMMA3,
    "gemma3-untied-full": GEMMA3
    | dict(tied_head=False, logit_softcap=3.0, sliding_window=None, sliding_layers=None, local_rope_theta=None),
    "gemma3-layers": GEMMA3 | dict(sliding_layers=(0, 1, 3)),
    "gemma3-all": GEMMA3 | dict(sliding_layers=None),
    "llama-linear": LLAMA | dict(rope_theta=100.0, rope_scaling=LinearScaling(factor=2.5)),
    "qwen2-yarn": LLAMA
    | dict(
        qkv_bias=True, d_model=30, rope_theta=100.0, rope_scaling=YarnScaling(factor=4.0, original_max_positions=16)
    ),
    "phi3": PHI3
    | dict(
        max_positions=1024,
        rope_scaling=LongRopeScaling(
            short_factors=(1.0, 1.05), long_factors=(1.5, 7.0), original_max_positions=512, factor=2.0
        ),
    ),
    "phi3-long": PHI3
    | dict(
        rope_scaling=LongRopeScaling(
            short_factors=(1.0, 1.05),
            long_factors=(1.5, 7.0),
            original_max_positions=16,
            factor=67 / 16,
            attention_factor=1.25,
        )
    ),
    "deepseek2": DEEPSEEK2,
    "deepseek2-softmax": DEEPSEEK2
    | dict(
        latent=LatentAttention(kv_rank=13, d_nope=5, d_rope=4, d_value=3),
        experts=Experts(n_experts=5, per_token=2, d_expert=13, n_shared=1, normalised=False),
        rope_scaling=YarnScaling(factor=4.0, original_max_positions=16, attention_factor=1.25, beta_fast=4.0),
        attention_scale=None,
    ),
    "deepseek2-dense": DEEPSEEK2 | dict(experts=None, rope_scaling=None, attention_scale=None),
    "gpt_oss": GPT_OSS
    | dict(rope_theta=100.0, rope_scaling=YarnScaling(factor=4.0, original_max_positions=16, truncate=False)),
    "gpt_oss-layers": GPT_OSS | dict(n_layers=5, sliding_layers=(1, 2, 4), qkv_bias=False),
    "gpt_oss-full": GPT_OSS | dict(sliding_window=None, sliding_layers=None),
    "gpt2": GPT2,
    "gpt2-untied": GPT2 | dict(tied_head=False, bos_token_id=36, eos_token_id=36),
}
ENCODERS = {"bert": dict(n_token_types=2), "distilbert": {}, "roberta": dict(n_token_types=1, position_offset=3)}


def encoder(name):
    """A small configuration of one of ENCODERS."""
    return small_config(
        "encoder", norm_placement="post", embedding_norm=True, positions="learned", max_positions=19,
        activation="gelu", decoder_start_token_id=None, d_model=24, d_head=4, **ENCODERS[name],
    )  # fmt: skip


def config_of(name, **changes):
    return small_config("decoder", **CONFIGS[name] | dict(decoder_start_token_id=None) | changes)


SIZES = dict(
    context_length=19, embedding_length=12, block_count=1, feed_forward_length=14, attention__head_count=3,
    attention__head_count_kv=1, attention__key_length=6, attention__value_length=6, rope__dimension_count=6,
    attention__layer_norm_rms_epsilon=1e-5, rope__freq_base=500_000.0,
)  # fmt: skip
SHAPES = {
    "token_embd.weight": (11, 12), "blk.0.attn_norm.weight": (12,), "blk.0.attn_q.weight": (18, 12),
    "blk.0.attn_k.weight": (6, 12), "blk.0.attn_v.weight": (6, 12), "blk.0.attn_output.weight": (12, 18),
    "blk.0.ffn_norm.weight": (12,), "blk.0.ffn_gate.weight": (14, 12), "blk.0.ffn_up.weight": (14, 12),
    "blk.0.ffn_down.weight": (12, 14), "output_norm.weight": (12,),
}  # fmt: skip


def write(file, keys=None, tensors=None, arch="llama", **more):
    """A small file: `more` are keys of the architecture, `keys` others; None leaves a key or a tensor out."""
    writer = gguf.GGUFWriter(file, arch)
    own = {f"{arch}.{name.replace('__', '.')}": value for name, value in (SIZES | more).items()}
    for key, value in (own | (keys or {})).items():
        if isinstance(value, (bool, np.bool_)):
            writer.add_bool(key, value)
        elif isinstance(value, (int, float, str)):
            {int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}[type(value)](key, value)
        elif value is not None:
            writer.add_array(key, value)
    stream = np.random.default_rng(0)
    for name, shape in (SHAPES | (tensors or {})).items():
        if shape is not None:
            array = np.asarray(shape, np.float32) if name == "rope_freqs.weight" else stream.normal(size=shape)
            writer.add_tensor(name, array.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


TEXT = ["the answer is 42, isn't it?", "an answer\n\nto the question", "größe und antwort 1234 ", "一二 the the"]


def train(folder, style, vocab_size):
    """A tokeniser trained on TEXT, saved to a folder as transformers has it."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    first = [AddedToken("<unk>", special=True), AddedToken("<s>", special=True), AddedToken("</s>", special=True)]
    if style == "sentencepiece":
        tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
        alphabet = []
        first += [AddedToken(f"<0x{i:02X}>", normalized=False) for i in range(256)]
    else:
        tokenizer = Tokenizer(models.BPE())
        cut = pre_tokenizers.ByteLevel(add_prefix_space=False)
        digits = pre_tokenizers.Digits(individual_digits=True)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, cut]) if style == "smollm" else cut
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, initial_alphabet=alphabet, special_tokens=first)
    tokenizer.train_from_iterator(TEXT, trainer)
    tokenizer.add_tokens([AddedToken("[user]", normalized=False)])
    if style == "gpt-2":
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    if style == "sentencepiece":  # bytes are tokens of the model, as in Llama's file
        data = json.loads((folder / "tokenizer.json").read_text())
        data["added_tokens"] = [token for token in data["added_tokens"] if not token["content"].startswith("<0x")]
        (folder / "tokenizer.json").write_text(json.dumps(data))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"chat_template": "{{ messages }}", "add_bos_token": False})
    )
    return tokenizer


# Where the float16 scales of a block begin; all other bytes may be any.
HALVES = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q8_0": [0], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208]}


def random_blocks(stream, block_type, shape):
    """Random blocks of a matrix (rows, in): uint8 (rows, bytes), whose numbers are about 0.05, as weights are."""
    rows, d_in = shape
    if block_type in ("F32", "F16", "BF16"):
        numbers = stream.normal(0, 0.05, shape).astype(np.float16 if block_type == "F16" else "<f4")
        return numbers.view("<u2")[:, 1::2].copy().view(np.uint8) if block_type == "BF16" else numbers.view(np.uint8)
    block = BLOCK_TYPES[NUMBERS[block_type]]
    if block_type == "MXFP4":
        data = stream.integers(0, 256, (rows, d_in // block.size, block.n_bytes), dtype=np.uint8)
        data[..., 0] = stream.integers(120, 124, data.shape[:-1])
        return data.reshape(rows, -1)
    data = stream.integers(0, 256, (rows * d_in // block.size, block.n_bytes), dtype=np.uint8)
    largest = {"Q4_0": 8, "Q4_1": 15, "Q5_0": 16, "Q8_0": 127, "Q4_K": 15 * 63, "Q5_K": 31 * 63, "Q6_K": 32 * 127}
    for at in HALVES[block_type]:
        scale = stream.uniform(0.5, 1.5, (len(data), 1)) * 0.1 / largest[block_type]
        if at == 2:  # a minimum, near the middle of the levels
            scale *= {"Q4_1": -7.5, "Q4_K": 7.5, "Q5_K": 15.5}[block_type]
        data[:, at : at + 2] = scale.astype("<f2").view(np.uint8)
    return data.reshape(rows, -1)
