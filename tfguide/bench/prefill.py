"""How long a prompt takes to read: PyTorch beside Hugging Face, TensorFlow beside KerasHub.

    python -m tfguide.bench.prefill --framework torch --json result.json

A Llama-shaped model of 125M parameters with random weights is written to a folder once; both contestants load that
folder. Before anything is timed, their logits after the prompt must agree. Then they take turns. Prefill is the hidden
states of the whole prompt and the logits after its last token; PyTorch's contestants also fill their caches.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile

import numpy as np

from tfguide.bench.timing import machine, median_ratio, take_turns
from tfguide.checkpoints import write_checkpoint
from tfguide.config import ModelConfig
from tfguide.weights import init_weights

# "S", 125M parameters: small enough that a laptop reads a prompt in a second. The eps is the one that KerasHub's Llama
# assumes: its converter passes over the folder's rms_norm_eps.
SMALL = ModelConfig(
    kind="decoder", d_model=768, n_layers=12, n_heads=12, n_kv_heads=4, d_ff=2048, vocab_size=32000,
    max_positions=2048, norm="rms", norm_eps=1e-6, positions="rotary", activation="swiglu", qkv_bias=False,
    output_bias=False, ffn_bias=False, tied_head=False,
)  # fmt: skip
AGREEMENT = 1e-3  # of logits of size 1: two float32 orders of summation differ by less, a wrong formula by more


def torch_contestants(folder: str, tokens: np.ndarray) -> dict:
    """Prefill of this package and of Hugging Face, {"tfguide": ..., "peer": ...}: calls that return logits (V,)."""
    import torch
    import transformers

    import tfguide.torch as tg

    transformers.utils.logging.disable_progress_bar()
    ours = tg.load_checkpoint(folder)
    peer = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokens = torch.from_numpy(tokens)

    def tfguide():
        cache = tg.KVCache(ours.config, *tokens.shape)
        return tg.prefill(ours, tokens, cache)[0].numpy()

    @torch.inference_mode()
    def hugging_face():
        return peer(tokens, use_cache=True, logits_to_keep=1).logits[0, -1].numpy()

    return {"float32, eager": {"tfguide": tfguide, "peer": hugging_face}}


def tensorflow_contestants(folder: str, tokens: np.ndarray) -> dict:
    """Prefill of this package and of KerasHub, eager, as a graph, and compiled by XLA."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tfguide.tensorflow as tg  # isort: skip  sets the Keras backend
    import keras_hub
    import tensorflow as tf

    ours = tg.load_checkpoint(folder)
    peer = keras_hub.models.LlamaBackbone.from_preset(folder)
    tokens = tf.constant(tokens, tf.int32)
    every = {"token_ids": tokens, "padding_mask": tf.ones_like(tokens)}

    def tfguide():
        return ours.logits(ours.hidden(tokens)[:, -1])[0]

    def kerashub():
        return peer.token_embedding(peer(every)[:, -1], reverse=True)[0]

    modes = {
        "float32, eager": lambda call: call,
        "float32, tf.function": tf.function,
        "float32, XLA": lambda call: tf.function(call, jit_compile=True),
    }
    return {
        mode: {name: _to_numpy(wrap(call)) for name, call in (("tfguide", tfguide), ("peer", kerashub))}
        for mode, wrap in modes.items()
    }


def _to_numpy(call):
    return lambda: call().numpy()


FRAMEWORKS = {"torch": (torch_contestants, "Hugging Face"), "tensorflow": (tensorflow_contestants, "KerasHub")}


def measure(framework: str, n_tokens: int = 512, repeats: int = 9, config: ModelConfig = SMALL) -> list[dict]:
    """Time prefill against the framework's peer; one row for each mode, seconds as medians and their ratio.

    Raises RuntimeError where the contestants' logits do not agree: their times would not compare.
    """
    contestants, peer = FRAMEWORKS[framework]
    rows = []
    with tempfile.TemporaryDirectory() as parent:
        folder = os.path.join(parent, "model")
        write_checkpoint(folder, config, init_weights(config))
        tokens = np.random.default_rng(0).integers(0, config.vocab_size, (1, n_tokens))
        for mode, calls in contestants(folder, tokens).items():
            difference = float(np.abs(calls["tfguide"]() - calls["peer"]()).max())
            if not difference <= AGREEMENT:
                raise RuntimeError(f"tfguide and {peer} differ by {difference} in {mode}: nothing is timed")
            seconds = take_turns(calls, repeats)
            rows.append(
                {
                    "framework": framework,
                    "peer": peer,
                    "mode": mode,
                    "tokens": n_tokens,
                    "tfguide_seconds": statistics.median(seconds["tfguide"]),
                    "peer_seconds": statistics.median(seconds["peer"]),
                    "ratio": median_ratio(seconds, "tfguide", "peer"),
                    "largest_difference": difference,
                }
            )
    return rows


def main(arguments: list[str] | None = None) -> int:
    """The command line; 0 where everything was measured."""
    parser = argparse.ArgumentParser(prog="python -m tfguide.bench.prefill", description=__doc__.split("\n\n")[0])
    parser.add_argument("--framework", choices=sorted(FRAMEWORKS), required=True)
    parser.add_argument("--tokens", type=int, default=512, help="length of the prompt (512)")
    parser.add_argument("--repeats", type=int, default=9, help="rounds that count, after 2 that do not (9)")
    parser.add_argument("--json", metavar="FILE", help="write the machine and the results there")
    options = parser.parse_args(arguments)
    if not 1 <= options.tokens <= SMALL.max_positions:
        parser.error(f"--tokens must lie between 1 and {SMALL.max_positions}, got {options.tokens}")
    if options.repeats < 1:
        parser.error(f"--repeats must be at least 1, got {options.repeats}")
    rows = measure(options.framework, options.tokens, options.repeats)
    about = machine()
    print(
        f"{about['processor']}, {about['cores']} cores; medians of {options.repeats}, batch 1, {options.tokens} tokens"
    )
    for row in rows:
        print(
            f"{row['mode']:22}  tfguide {row['tfguide_seconds']:.3f} s   {row['peer']} {row['peer_seconds']:.3f} s"
            f"   ratio {row['ratio']:.2f}"
        )
    if options.json:
        with open(options.json, "w") as file:
            json.dump({"machine": about, "prefill": rows}, file, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
