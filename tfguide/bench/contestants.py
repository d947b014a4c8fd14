"""Who is timed. A contestant reads a prompt and continues it greedily.

`run(n)` returns n tokens, `logits()` the logits from which the first of them is chosen. Each class loads the same
folder, in one type of weights. Frameworks and peers are imported when they are needed.
"""

from __future__ import annotations

from importlib import util

import numpy as np

from tfguide.bench.llama import LlamaCpp, find_gguf, has_llama_cpp
from tfguide.bench.peers import more_peers
from tfguide.checkpoints.reading import open_checkpoint
from tfguide.config import ModelConfig
from tfguide.loading import load_framework, load_model


class Ours:
    """This package: the fast decoder (`fast`), or the plain model."""

    def __init__(self, framework: str, folder: str, dtype: str, prompt: np.ndarray, fast: bool = True, device="cpu"):
        self.tg = load_framework(framework)
        model = load_model(self.tg, folder, dtype)
        if device != "cpu":
            model = model.to(device)
        self.model = self.tg.accelerate(model) if fast and device == "cpu" else model
        self.prompt, self.framework = prompt, framework
        self.name = f"tfguide, {'PyTorch' if framework == 'torch' else 'TensorFlow'}" + ("" if fast else ", plain")

    def run(self, n: int) -> list[int]:
        return self.tg.generate(self.model, self.prompt, n, stop_tokens=[])[0]

    def logits(self) -> np.ndarray:
        return self.model.prefill(self.prompt, self.model.new_cache(1, self.prompt.shape[1]))[0]


class HuggingFace:
    """transformers' `generate`."""

    def __init__(self, folder: str, dtype: str, prompt: np.ndarray, device="cpu"):
        import torch
        import transformers

        transformers.utils.logging.disable_progress_bar()
        self.name, self.torch = "Hugging Face", torch
        model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype))
        self.model = model.eval().to(device)
        self.model.generation_config.eos_token_id = None
        self.model.generation_config.pad_token_id = 0
        self.prompt = torch.from_numpy(prompt).to(device)

    def run(self, n: int) -> list[int]:
        every = self.torch.ones_like(self.prompt)
        with self.torch.inference_mode():
            tokens = self.model.generate(self.prompt, attention_mask=every, max_new_tokens=n, do_sample=False)
        return tokens[0, self.prompt.shape[1] :].tolist()

    def logits(self) -> np.ndarray:
        with self.torch.inference_mode():
            return self.model(self.prompt, logits_to_keep=1).logits[0, -1].float().cpu().numpy()


class KerasHub:
    """KerasHub's `generate`, compiled by XLA as it is by default."""

    def __init__(self, folder: str, dtype: str, prompt: np.ndarray):
        load_framework("tensorflow")
        import keras_hub

        if open_checkpoint(folder)[0].experts is not None:
            raise ValueError("KerasHub is timed by its Llama, which has no experts")
        self.name = "KerasHub"
        self.backbone = keras_hub.models.LlamaBackbone.from_preset(folder, dtype=dtype)
        self.model = keras_hub.models.LlamaCausalLM(backbone=self.backbone, preprocessor=None)
        self.model.compile(sampler="greedy", jit_compile=True)
        self.prompt = prompt.astype(np.int32)

    def run(self, n: int) -> list[int]:
        length = self.prompt.shape[1]
        tokens = np.concatenate([self.prompt, np.zeros((1, n), np.int32)], axis=1)
        mask = np.arange(length + n)[None] < length
        out = self.model.generate({"token_ids": tokens, "padding_mask": mask.astype(np.int32)}, stop_token_ids=None)
        return np.asarray(out["token_ids"])[0, length:].tolist()

    def logits(self) -> np.ndarray:
        hidden = self.backbone({"token_ids": self.prompt, "padding_mask": np.ones_like(self.prompt)})
        return np.asarray(self.backbone.token_embedding(hidden[:, -1], reverse=True)[0], np.float32)


def entrants(framework: str, dtype: str, peers: bool, device: str = "cpu") -> dict[str, type | None]:
    """The contestants that have the type: the class by name, None for a peer that is not installed."""
    found: dict[str, type | None] = {"tfguide": Ours}
    if not peers:
        return found
    floating = dtype not in ("int8", "int4")
    if framework == "torch":
        if floating:
            found["Hugging Face"] = HuggingFace if _has("transformers") else None
        if device == "cpu":
            found["llama.cpp"] = LlamaCpp if has_llama_cpp() and _has("gguf") else None
            found |= more_peers(dtype)
    elif floating:
        found["KerasHub"] = KerasHub if _has("keras_hub") else None
    return found


def enter(kind: type, framework: str, folder: str, dtype: str, prompt: np.ndarray, n_new: int, device: str = "cpu"):
    """Load a contestant."""
    if kind is Ours:
        return Ours(framework, folder, dtype, prompt, device=device)
    if kind is LlamaCpp:
        return LlamaCpp(find_gguf(folder, dtype), prompt, n_new)
    return kind(folder, dtype, prompt, device) if kind is HuggingFace else kind(folder, dtype, prompt)


def check_config(config: ModelConfig) -> None:
    """Raises ValueError for a model that the peers do not read."""
    if (config.kind, config.norm, config.positions) != ("decoder", "rms", "rotary"):
        raise ValueError("the benchmark is for Llama-shaped models: decoder, rms norm, rotary positions")


def _has(module):
    return util.find_spec(module) is not None
