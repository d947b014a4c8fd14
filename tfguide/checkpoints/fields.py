"""The keys of a config.json: each is read by a family, known to change no result, or an error."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Collection, Iterable, Mapping
from typing import Any

# Keys of every family that change neither hidden states nor logits: bookkeeping, training, and how text is drawn.
_INERT = """
    architectures model_type transformers_version _name_or_path name_or_path _commit_hash dtype torch_dtype
    torchscript use_bfloat16 tf_legacy_loss gradient_checkpointing use_cache chunk_size_feed_forward tokenizer_class
    prefix sep_token_id task_specific_params finetuning_task problem_type id2label label2id num_labels _num_labels
    return_dict use_return_dict output_attentions output_hidden_states output_past output_scores
    return_dict_in_generate tie_last_hidden_states cross_attention_hidden_size initializer_range
    attn_implementation _attn_implementation _attn_implementation_autoset unsloth_fixed unsloth_version
    max_length min_length do_sample early_stopping num_beams num_beam_groups diversity_penalty temperature top_k top_p
    typical_p repetition_penalty length_penalty no_repeat_ngram_size encoder_no_repeat_ngram_size bad_words_ids
    num_return_sequences forced_bos_token_id forced_eos_token_id remove_invalid_values exponential_decay_length_penalty
    suppress_tokens begin_suppress_tokens epsilon_cutoff eta_cutoff encoder_repetition_penalty
    num_assistant_tokens num_assistant_tokens_schedule assistant_confidence_threshold assistant_lookbehind
    target_lookbehind
    """
INERT = frozenset(_INERT.split())

# Keys of every family that change the result unless they have this value.
FIXED = {
    "quantization_config": (None, "weights that are not quantised"),
    "auto_map": (None, "the family's own code, never code that comes with a checkpoint"),
    "pruned_heads": ({}, "all heads of a layer"),
    "add_cross_attention": (False, "no cross-attention in this family"),
    "tie_encoder_decoder": (False, "an encoder and a decoder with weights of their own"),
}

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


class Fields:
    """A config.json being read: every key taken is checked, and `finish` refuses what is left.

    source: what errors call the file. ignore: keys treated as if they were absent; a key inside another is
    "outer.inner". Every error is a ValueError that names the file, the key, what came and what is supported.
    """

    def __init__(self, keys: Mapping[str, Any], source: str = "config.json", ignore: Iterable[str] = (), outer=""):
        self.source = source
        self._outer = outer
        self._ignore = frozenset(ignore)
        self._keys = {key: value for key, value in keys.items() if outer + key not in self._ignore}

    def unsupported(self, key: str, value: Any, supported: str) -> ValueError:
        """The error for a value that is not supported; says what is, and how to read the folder without the key."""
        key = self._outer + key
        return ValueError(
            f"{self.source}: {key}={_short(value)} is not supported: {supported}; "
            f"ignore=({key!r},) reads the folder as if the key were absent"
        )

    def count(self, key: str, default: int | None, least: int = 1) -> int | None:
        """A whole number of at least `least`; None only where the default is None."""
        value = self._take(key, default)
        if value is None and default is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise self._wrong(key, f"an integer of at least {least}", value)
        return value

    def number(self, key: str, default: float | None) -> float:
        """A finite number, as a float."""
        value = self._take(key, default)
        try:
            if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
                return float(value)
        except OverflowError:  # an integer beyond the largest float
            pass
        raise self._wrong(key, "a finite number", value)

    def flag(self, key: str, default: bool) -> bool:
        """true or false."""
        value = self._take(key, default)
        if not isinstance(value, bool):
            raise self._wrong(key, "true or false", value)
        return value

    def choice(self, key: str, default: str, known: Mapping[str, Any]) -> Any:
        """What a name stands for."""
        value = self._take(key, default)
        if not isinstance(value, str) or value not in known:
            raise self.unsupported(key, value, f"expected one of {', '.join(map(repr, known))}")
        return known[value]

    def fixed(self, key: str, value: Any, meaning: str) -> None:
        """A key that may be absent, null or have this one value."""
        received = self._take(key, value)
        if received is not None and (received != value or isinstance(received, bool) != isinstance(value, bool)):
            raise self.unsupported(key, received, f"expected {json.dumps(value)}, {meaning}")

    def dropout(self, key: str, default: float) -> float:
        """A rate of at least 0 and below 1, for training only."""
        rate = self.number(key, default)
        if not 0.0 <= rate < 1.0:
            raise self._wrong(key, "a number of at least 0 and below 1", rate)
        return rate

    def inner(self, key: str) -> Fields | None:
        """The object under a key; None where the key is absent, null or {}."""
        value = self._take(key, None)
        if value is not None and not isinstance(value, dict):
            raise self._wrong(key, "an object", value)
        return Fields(value, self.source, self._ignore, f"{self._outer}{key}.") if value else None

    def alias(self, other: str, key: str) -> None:
        """Let `other` stand for `key`, as transformers does. Raises ValueError where both are given and differ."""
        if other not in self._keys:
            return
        value = self._keys.pop(other)
        if self._keys.setdefault(key, value) != value:
            raise self.unsupported(other, value, f"it is another name of {key}, which is {_short(self._keys[key])}")

    def has(self, key: str) -> bool:
        """Whether a key is there and has not been taken yet."""
        return key in self._keys

    def token_ids(self, vocab_size: int, **defaults: int | None) -> dict[str, int | None]:
        """The special tokens, by the names that a ModelConfig gives them; absent ones have the family's defaults.

        Warns where an id lies outside the vocabulary, which is then read as None, or left out of several.
        """
        names = ("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id")
        return {name: self._token_id(name, defaults.get(name), vocab_size) for name in names}

    def finish(self, inert: Collection[str] = ()) -> None:
        """Raise ValueError for the first key that nobody has taken and that is not known to be inert."""
        for key in self._keys:
            if not self._outer and key in FIXED:
                value, meaning = FIXED[key]
                Fields({key: self._keys[key]}, self.source).fixed(key, value, meaning)
            elif (self._outer or key not in INERT) and key not in inert:
                raise self.unsupported(
                    key, self._keys[key], "nothing here reads this key, and it may change the result"
                )

    def _take(self, key, default):
        return self._keys.pop(key, default)

    def _wrong(self, key, expected, value):
        return ValueError(f"{self.source}: {self._outer}{key} must be {expected}, got {_short(value)}")

    def _token_id(self, name, default, vocab_size):
        given = name in self._keys
        value = self._take(name, default)
        if name == "eos_token_id" and isinstance(value, list) and value:
            ends = tuple(end for end in (self._one_token(name, v, vocab_size, given) for v in value) if end is not None)
            return ends if len(ends) > 1 else next(iter(ends), None)
        return self._one_token(name, value, vocab_size, given)

    def _one_token(self, name, value, vocab_size, given):
        if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
            raise self._wrong(name, "an integer or null", value)
        if value is None or 0 <= value < vocab_size:
            return value
        if given:
            advice = f"not one of the {vocab_size} tokens of the vocabulary, read as None"
            warnings.warn(f"{self.source}: {name}={_short(value)} is {advice}", stacklevel=2)
        return None


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
