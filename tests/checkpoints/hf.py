"""Small random models of transformers, the folders they are saved to, and what they compute."""

import json

import numpy as np
import torch
import transformers
from safetensors.numpy import load_file, save_file

BERT = dict(
    vocab_size=37, hidden_size=21, num_hidden_layers=2, num_attention_heads=3, intermediate_size=34,
    max_position_embeddings=19, type_vocab_size=3, layer_norm_eps=1e-5,
)  # fmt: skip
ROBERTA = BERT | dict(max_position_embeddings=21, type_vocab_size=1)
DISTILBERT = dict(vocab_size=37, dim=21, n_layers=2, n_heads=3, hidden_dim=34, max_position_embeddings=19)
GPT2 = dict(vocab_size=37, n_embd=15, n_layer=2, n_head=3, n_positions=19, bos_token_id=5, eos_token_id=7)
LLAMA = dict(
    vocab_size=37, hidden_size=24, intermediate_size=34, num_hidden_layers=2, num_attention_heads=6,
    num_key_value_heads=2, head_dim=10, max_position_embeddings=67, rms_norm_eps=1e-5,
)  # fmt: skip
QWEN2 = {key: value for key, value in LLAMA.items() if key != "head_dim"}
GEMMA3 = LLAMA | dict(
    num_hidden_layers=3, sliding_window=5, query_pre_attn_scalar=7,
    rope_parameters=dict(full_attention=dict(rope_type="default", rope_theta=53.0),
                         sliding_attention=dict(rope_type="default", rope_theta=7.0)),
    layer_types=["sliding_attention", "full_attention", "sliding_attention"],
)  # fmt: skip
PHI3 = QWEN2 | dict(pad_token_id=None, eos_token_id=7)
QWEN3_MOE = LLAMA | dict(num_experts=7, num_experts_per_tok=3, moe_intermediate_size=12)  # multiples of 16 bytes
DEEPSEEK_V3 = dict(
    vocab_size=37, hidden_size=28, intermediate_size=34, num_hidden_layers=2, num_attention_heads=6,
    num_key_value_heads=6, kv_lora_rank=11, q_lora_rank=13, qk_nope_head_dim=5, qk_rope_head_dim=4, v_head_dim=7,
    max_position_embeddings=67, rms_norm_eps=1e-5, n_routed_experts=8, num_experts_per_tok=3, moe_intermediate_size=12,
    n_group=4, topk_group=2, n_shared_experts=2, first_k_dense_replace=1,
)  # fmt: skip
GPT_OSS = LLAMA | dict(
    intermediate_size=20, num_local_experts=5, num_experts_per_tok=2, swiglu_limit=0.9, sliding_window=5,
    rope_parameters=dict(rope_type="default", rope_theta=53.0),
)  # fmt: skip
T5 = dict(
    vocab_size=37, d_model=22, d_kv=5, d_ff=34, num_heads=3, num_layers=2, num_decoder_layers=3,
    relative_attention_num_buckets=8, relative_attention_max_distance=11, decoder_start_token_id=3,
)  # fmt: skip
LLAMA3 = dict(
    rope_type="llama3", rope_theta=100.0, factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0,
    original_max_position_embeddings=32,
)  # fmt: skip
YARN = dict(
    rope_type="yarn", rope_theta=500.0, factor=4.0, original_max_position_embeddings=13, beta_fast=4.0, beta_slow=0.5,
    mscale=1.3, mscale_all_dim=0.7, truncate=False,
)  # fmt: skip
LONGROPE = dict(
    rope_type="longrope", rope_theta=500.0, short_factor=[1.0, 1.1, 1.3, 1.7, 2.3],
    long_factor=[1.0, 2.0, 3.0, 5.0, 7.0], original_max_position_embeddings=2, factor=5.0,
)  # fmt: skip

# The class, its configuration, and more arguments of the class.
CASES = {
    "bert": ("BertModel", BERT),
    "bert-relu-pretraining": ("BertForPreTraining", BERT | dict(hidden_act="relu", num_attention_heads=7)),
    "bert-tanh-mlm": ("BertForMaskedLM", BERT | dict(hidden_act="gelu_new", type_vocab_size=1)),
    "bert-no-pooler": ("BertModel", BERT, dict(add_pooling_layer=False)),
    "distilbert": ("DistilBertModel", DISTILBERT),
    "distilbert-tanh-mlm": ("DistilBertForMaskedLM", DISTILBERT | dict(activation="gelu_new", n_heads=7)),
    "roberta": ("RobertaModel", ROBERTA),
    "roberta-relu-mlm": (
        "RobertaForMaskedLM",
        ROBERTA | dict(hidden_act="relu", pad_token_id=5, max_position_embeddings=23, type_vocab_size=3),
    ),
    "gpt2": ("GPT2LMHeadModel", GPT2),
    "gpt2-untied": ("GPT2LMHeadModel", GPT2 | dict(tie_word_embeddings=False, n_inner=34, n_head=5)),
    "gpt2-relu-unscaled": ("GPT2LMHeadModel", GPT2 | dict(activation_function="relu", scale_attn_weights=False)),
    "gpt2-gelu-trunk": ("GPT2Model", GPT2 | dict(activation_function="gelu", layer_norm_epsilon=0.1)),
    "llama-multi-head": (
        "LlamaForCausalLM",
        LLAMA | dict(hidden_size=18, num_attention_heads=3, num_key_value_heads=3, head_dim=6),
    ),
    "llama-grouped": ("LlamaForCausalLM", LLAMA | dict(rope_parameters=dict(rope_type="default", rope_theta=53.0))),
    "llama-multi-query-biases": (
        "LlamaForCausalLM",
        LLAMA
        | dict(num_key_value_heads=1, attention_bias=True, mlp_bias=True, tie_word_embeddings=True, hidden_act="gelu"),
    ),
    "llama-attention-bias": ("LlamaForCausalLM", LLAMA | dict(attention_bias=True, hidden_act="swish")),
    "llama-3": ("LlamaForCausalLM", LLAMA | dict(rope_parameters=LLAMA3)),
    "llama-yarn": ("LlamaForCausalLM", LLAMA | dict(rope_parameters=YARN)),
    "llama-longrope": ("LlamaForCausalLM", LLAMA | dict(rope_parameters=LONGROPE)),
    "llama-tanh-trunk": (
        "LlamaModel",
        LLAMA | dict(tie_word_embeddings=True, hidden_act="gelu_pytorch_tanh", head_dim=None),
    ),
    "mistral-window": ("MistralForCausalLM", LLAMA | dict(sliding_window=5)),
    "mistral-tied": (
        "MistralForCausalLM",
        LLAMA
        | dict(
            hidden_size=23,
            num_attention_heads=3,
            num_key_value_heads=1,
            sliding_window=None,
            tie_word_embeddings=True,
            hidden_act="gelu",
        ),
    ),
    "qwen2": ("Qwen2ForCausalLM", QWEN2),
    "qwen2-window-tied": (
        "Qwen2ForCausalLM",
        QWEN2
        | dict(
            hidden_size=30,
            num_attention_heads=3,
            num_key_value_heads=1,
            tie_word_embeddings=True,
            use_sliding_window=True,
            sliding_window=5,
            max_window_layers=0,
        ),
    ),
    "qwen2-window-by-layer": (
        "Qwen2ForCausalLM",
        QWEN2 | dict(use_sliding_window=True, sliding_window=5, max_window_layers=1),
    ),
    "qwen3": ("Qwen3ForCausalLM", LLAMA),
    "qwen3-biases-tied": (
        "Qwen3ForCausalLM",
        LLAMA
        | dict(
            hidden_size=23,
            num_attention_heads=3,
            num_key_value_heads=1,
            attention_bias=True,
            tie_word_embeddings=True,
            use_sliding_window=True,
            sliding_window=5,
            layer_types=["sliding_attention", "full_attention"],
        ),
    ),
    "gemma3_text": ("Gemma3ForCausalLM", GEMMA3),
    "gemma3_text-untied-capped": (
        "Gemma3ForCausalLM",
        GEMMA3
        | dict(
            num_attention_heads=3,
            num_key_value_heads=3,
            layer_types=None,
            sliding_window_pattern=2,
            attention_bias=True,
            tie_word_embeddings=False,
            final_logit_softcapping=3.0,
            hidden_activation="silu",
        ),
    ),
    "phi3": ("Phi3ForCausalLM", PHI3),
    "phi3-window-tied": (
        "Phi3ForCausalLM",
        PHI3
        | dict(
            num_attention_heads=3,
            num_key_value_heads=1,
            head_dim=10,
            sliding_window=5,
            tie_word_embeddings=True,
            hidden_act="gelu_new",
        ),
    ),
    "mixtral": ("MixtralForCausalLM", LLAMA | dict(num_local_experts=5, num_experts_per_tok=2, intermediate_size=20)),
    "mixtral-window-tied": (
        "MixtralForCausalLM",
        LLAMA
        | dict(
            num_local_experts=3,
            intermediate_size=28,
            sliding_window=5,
            tie_word_embeddings=True,
            hidden_act="gelu",
            head_dim=None,
        ),
    ),
    "gpt_oss": ("GptOssForCausalLM", GPT_OSS),
    "gpt_oss-windows-tied": (
        "GptOssForCausalLM",
        GPT_OSS
        | dict(layer_types=["full_attention", "sliding_attention"], tie_word_embeddings=True, num_key_value_heads=3),
    ),
    "qwen3_moe": ("Qwen3MoeForCausalLM", QWEN3_MOE),
    "qwen3_moe-dense-biases": (
        "Qwen3MoeForCausalLM",
        QWEN3_MOE
        | dict(
            mlp_only_layers=[0], attention_bias=True, norm_topk_prob=True, use_sliding_window=True, sliding_window=5
        ),
    ),
    "deepseek_v3": ("DeepseekV3ForCausalLM", DEEPSEEK_V3),
    "deepseek_v3-dense-biases": (
        "DeepseekV3ForCausalLM",
        DEEPSEEK_V3
        | dict(
            first_k_dense_replace=2,
            q_lora_rank=None,
            num_attention_heads=5,
            num_key_value_heads=5,
            attention_bias=True,
            tie_word_embeddings=True,
            hidden_act="gelu",
            rope_parameters=dict(rope_type="default", rope_theta=53.0),
        ),
    ),
    "phi3-longrope-partial": (
        "Phi3ForCausalLM",
        PHI3
        | dict(
            hidden_size=30,
            num_attention_heads=3,
            num_key_value_heads=1,
            rope_parameters=LONGROPE,
            original_max_position_embeddings=2,
        ),  # which every text of `inputs` exceeds
    ),
    "deepseek_v3-yarn": (
        "DeepseekV3ForCausalLM",
        DEEPSEEK_V3
        | dict(
            first_k_dense_replace=2,
            rope_parameters=dict(
                rope_type="yarn",
                rope_theta=53.0,
                factor=4.0,
                original_max_position_embeddings=8,
                mscale=0.7,
                mscale_all_dim=1.3,
                beta_fast=2.0,
                beta_slow=0.5,
            ),
        ),
    ),
    "t5-1.0": ("T5ForConditionalGeneration", T5),
    "t5-gelu": ("T5ForConditionalGeneration", T5 | dict(feed_forward_proj="gelu", num_decoder_layers=1)),
    "t5-1.1": ("T5ForConditionalGeneration", T5 | dict(feed_forward_proj="gated-gelu", tie_word_embeddings=False)),
    "t5-1.1-tied": ("T5ForConditionalGeneration", T5 | dict(feed_forward_proj="gated-silu", tie_word_embeddings=False)),
    "t5-scaled-untied": ("T5ForConditionalGeneration", T5 | dict(feed_forward_proj="gated-gelu_python")),
    "t5-trunk": ("T5Model", T5 | dict(feed_forward_proj="gelu_new")),
}
PADDING = (1, 5)  # of the cases of RoBERTa
ENCODERS = ("bert", "distilbert", "roberta")
UNTIED_T5 = ("t5-1.1", "t5-scaled-untied")  # transformers 5 ties every T5 that it makes


def config(case):
    """The configuration of a case."""
    name, fields, *_ = CASES[case]
    return getattr(transformers, name).config_class(**fields)


def make(case, seed=0):
    """A model of a case, in which every parameter is random: none is 0 or 1 as initialisation leaves it."""
    name, fields, *more = CASES[case]
    model = getattr(transformers, name)(config(case), **(more[0] if more else {})).eval()
    if case in UNTIED_T5:
        model.lm_head.weight = torch.nn.Parameter(torch.empty(fields["vocab_size"], fields["d_model"]))
    return randomise(model, seed)


def randomise(model, seed=0):
    """Fill every parameter of a model with random numbers; returns the model."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:
                parameter.normal_(0.7, 0.4, generator=generator)
            else:
                # T5 does not scale its scores: queries of usual size would make a softmax that amplifies rounding.
                size = 0.7 if name.endswith("Attention.q.weight") else 2.0
                parameter.normal_(0.0, size * parameter.shape[-1] ** -0.5, generator=generator)
        for name, buffer in model.named_buffers():
            if name.endswith("correction_bias"):
                buffer.normal_(0.0, 0.3, generator=generator)
    return model


def save(model, folder, dtype=None, **options):
    """Save a model as transformers does, in another type if one is given; returns the folder."""
    if dtype is not None:
        model = model.to(dtype)
    model.save_pretrained(folder, **options)
    return folder


def edit_config(folder, *remove, **changes):
    """Change a folder's config.json; a value of None writes null."""
    file = folder / "config.json"
    keys = {key: value for key, value in json.loads(file.read_text()).items() if key not in remove}
    file.write_text(json.dumps(keys | changes))


def edit_tensors(folder, edit):
    """Change a folder's model.safetensors: `edit` gets the arrays and changes them."""
    arrays = load_file(folder / "model.safetensors")
    edit(arrays)
    save_file(
        {name: np.ascontiguousarray(a) for name, a in arrays.items()},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )


def inputs(kind, vocab_size=37, n_types=0, seed=0):
    """Tokens with padding on the right, for a model of ours: the inputs, the masks, and where outputs are real."""
    stream = np.random.default_rng(seed)

    def tokens(length):
        tokens = stream.integers(0, vocab_size - len(PADDING), (3, length))
        for token in PADDING:  # which a text does not hold: RoBERTa counts positions without it
            tokens += tokens >= token
        return tokens

    def valid(*lengths):
        return np.arange(max(lengths)) < np.array(lengths)[:, None]

    if kind == "encoder-decoder":
        masks = dict(source_valid=valid(17, 3, 11), target_valid=valid(2, 13, 7))
        return (tokens(17), tokens(13)), masks, masks["target_valid"]
    masks = dict(valid=valid(17, 3, 11))
    if n_types > 1:
        masks["token_types"] = stream.integers(0, n_types, (3, 17))
    return (tokens(17),), masks, masks["valid"]


@torch.no_grad()
def outputs(model, tokens, masks):
    """What a model of transformers gives for our inputs: logits, or hidden states of an encoder."""
    names = {
        "valid": "attention_mask",
        "token_types": "token_type_ids",
        "source_valid": "attention_mask",
        "target_valid": "decoder_attention_mask",
    }
    tensors = {names[name]: torch.tensor(mask).long() for name, mask in masks.items()}
    ids = dict(zip(("input_ids", "decoder_input_ids"), map(torch.tensor, tokens), strict=False))
    model = model.float().eval()
    if model.base_model_prefix in ENCODERS:
        model = model.base_model
    result = model(**ids, **tensors)
    if "logits" in result:
        return result.logits.numpy()
    hidden = result.last_hidden_state
    if model.base_model_prefix in ENCODERS:
        return hidden.numpy()
    # A trunk alone: the logits are those of the tied head.
    scale = model.config.d_model**-0.5 if model.config.model_type == "t5" else 1.0
    return (scale * hidden @ model.get_input_embeddings().weight.T).numpy()
