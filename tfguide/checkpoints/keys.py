"""What is known of the keys of a config.json, whatever the family: those that change nothing, those that are refused.

What transformers reads was found by reading version 5.23 and by watching which attributes its classes ask for; a test
repeats the watching, so that a key that a later version reads is noticed.
"""

from __future__ import annotations

# Keys of every family that change neither hidden states nor logits: bookkeeping, training, and how text is drawn.
# They are passed over without a warning, since most files have some of them.
_INERT = """
    architectures model_type transformers_version _name_or_path name_or_path _commit_hash dtype torch_dtype
    torchscript use_bfloat16 tf_legacy_loss gradient_checkpointing use_cache chunk_size_feed_forward tokenizer_class
    prefix sep_token_id task_specific_params finetuning_task problem_type id2label label2id num_labels _num_labels
    return_dict use_return_dict output_attentions output_hidden_states output_past output_scores
    return_dict_in_generate tie_last_hidden_states cross_attention_hidden_size initializer_range
    attn_implementation _attn_implementation _attn_implementation_autoset experts_implementation unsloth_fixed
    unsloth_version output_cross_attentions mtp_layer_types
    max_length min_length do_sample early_stopping num_beams num_beam_groups diversity_penalty temperature top_k top_p
    typical_p repetition_penalty length_penalty no_repeat_ngram_size encoder_no_repeat_ngram_size bad_words_ids
    num_return_sequences forced_bos_token_id forced_eos_token_id remove_invalid_values exponential_decay_length_penalty
    suppress_tokens begin_suppress_tokens epsilon_cutoff eta_cutoff encoder_repetition_penalty
    num_assistant_tokens num_assistant_tokens_schedule assistant_confidence_threshold assistant_lookbehind
    target_lookbehind
    """
INERT = frozenset(_INERT.split())

# Keys that a class of any family reads and that change the result, or what is loaded, unless they have this value.
_WHOLE = (None, "a model of its own, not a part of another one's configuration")
_USUAL_FILES = (None, "the files by their usual names")
FIXED = {
    "quantization_config": (None, "weights that are not quantised"),
    "per_layer_config": ({}, "the same sizes in every layer"),
    "sliding_window": (None, "attention to all positions; transformers keeps a window in this model's cache"),
    "attention_chunk_size": (None, "attention to all positions; transformers keeps chunks in this model's cache"),
    "kv_sharing_modes": (None, "keys and values of its own in every layer"),
    "text_config": _WHOLE,
    "text_encoder": _WHOLE,
    "decoder": _WHOLE,
    "generator": _WHOLE,
    "transformers_weights": _USUAL_FILES,
    "configuration_files": _USUAL_FILES,
    "fusion_config": (None, "layers that are not fused"),
    "add_cross_attention": (False, "no cross-attention in this family"),
    # Read by classes of version 4 and by none of version 5.
    "pruned_heads": ({}, "all heads of a layer"),
    "tie_encoder_decoder": (False, "an encoder and a decoder with weights of their own"),
}
FULL_ATTENTION = ("full_attention", "attention")  # the second is what transformers called it before

# The activations of transformers that are the same function as one of ours.
ACTIVATIONS = {
    "relu": "relu",
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_accurate": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_python_tanh": "gelu_tanh",
}
GATES = {"silu": "swiglu", "swish": "swiglu"} | {
    name: {"gelu": "geglu", "gelu_tanh": "geglu_tanh"}[ours] for name, ours in ACTIVATIONS.items() if ours != "relu"
}
