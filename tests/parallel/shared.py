"""What one of several processes does in the tests, and the models that it does it with.

`python -m tests.parallel.shared CHECK FILE ...` is what `tests.parallel.conftest` lets `launch` start.
"""

import json
import sys
from functools import partial
from pathlib import Path

import numpy as np

from tests.sharding.test_cuts import CONFIGS
from tests.support import random_weights, small_config
from tfguide import Sampling

PROMPTS = [[1, 2, 3], [4, 5, 6, 7, 8], [9]]  # of unequal lengths
TOKENS = np.random.default_rng(0).integers(0, 37, (3, 7))
WIDE = small_config(  # sizes that groups of 32 weights divide; 3 groups of heads for 2 processes
    d_model=64, n_heads=6, n_kv_heads=3, d_head=32, d_ff=128, positions="rotary", activation="swiglu", norm="rms",
    qkv_bias=False, output_bias=False, ffn_bias=False, vocab_size=41,
)  # fmt: skip
FORMATS = ("folder", "int8", "int4", "int4 with 8-bit activations", "quantised folder", "Q8_0", "Q4_1", "bfloat16")


def call(model, config, tokens):
    """A call of any kind of model: its logits, or the hidden states of an encoder."""
    import torch

    tokens = torch.from_numpy(tokens)
    arguments = (tokens, tokens[:, :4]) if config.kind == "encoder-decoder" else (tokens,)
    with torch.inference_mode():
        return model(*arguments).float().numpy()


def compare(model, whole, config):
    """What a model of several processes does otherwise than that of one."""
    import tfguide.torch as framework

    group = model.group
    group.sent.clear()
    found = {"difference": float(np.abs(call(model, config, TOKENS) - call(whole, config, TOKENS)).max())}
    found["sent"] = dict(group.sent)
    found["held"] = sum(array.numel() for array in model.parameters())
    if config.kind != "encoder":
        for name, sampling in (("greedy", Sampling(temperature=0)), ("drawn", Sampling(seed=3))):
            options = {"sampling": sampling, "stop_tokens": ()}
            one, other = (framework.generate(each, PROMPTS, 8, **options) for each in (model, whole))
            found[name] = [np.asarray(row).tolist() for row in one] == [np.asarray(row).tolist() for row in other]
    return found


def families(group, folder):
    """Every family, from its weights."""
    import tfguide.torch as framework
    from tfguide.torch.parallel import parallel_from_weights

    found = {}
    for name, config in CONFIGS.items():
        weights = random_weights(config)
        found[name] = compare(
            parallel_from_weights(config, weights, group), framework.from_weights(config, weights), config
        )
    return found


def files(group, folder):
    """One model in every kind of file, and caches of every type; read by each process for itself."""
    import tfguide.torch as framework
    from tfguide.compress import Quantization
    from tfguide.torch.parallel import by_sequences, load_parallel

    found = {}
    options = {
        "folder": {}, "int8": {"quantization": Quantization(8)}, "int4": {"quantization": Quantization(4)},
        "int4 with 8-bit activations": {"quantization": Quantization(4, activation_bits=8, asymmetric=False)},
        "bfloat16": {"dtype": "bfloat16"},
    }  # fmt: skip
    places = {"quantised folder": "quantised", "Q8_0": "Q8_0.gguf", "Q4_1": "Q4_1.gguf"}
    for name in FORMATS:
        place, own = folder / places.get(name, "plain"), options.get(name, {})
        model, whole = load_parallel(place, group, **own), framework.load_checkpoint(place, **own)
        found[name] = compare(model, whole, WIDE)
    model, whole = load_parallel(folder / "plain", group), framework.load_checkpoint(folder / "plain")
    found["by messages"] = compare(load_parallel(folder / "plain", group.by_messages()), whole, WIDE)
    for n_prompts in (1, 3):  # also fewer than processes
        own = [np.asarray(row).tolist() for row in by_sequences(partial(_greedy, whole), PROMPTS[:n_prompts], group)]
        found[f"{n_prompts} by sequences"] = own == [
            np.asarray(r).tolist() for r in _greedy(whole, PROMPTS[:n_prompts])
        ]
    for dtype in ("float32", "float16", "int8", "int4"):
        one, other = (
            framework.generate(each, PROMPTS, 8, cache_dtype=dtype, stop_tokens=()) for each in (model, whole)
        )
        found[f"cache of {dtype}"] = {"greedy": np.array_equal(one, other)}
    return found


def _greedy(model, prompts):
    import tfguide.torch as framework

    return framework.generate(model, prompts, 8, stop_tokens=())


def served(group, folder):
    """An engine over several processes: the tokens of each request, and those of one process."""
    import tfguide.torch as framework
    from tfguide.serving import Engine, Request
    from tfguide.torch.parallel import Leader, follow, load_parallel

    model = load_parallel(folder / "plain", group)
    if group.rank:
        follow(model)
        return {}
    leader = Leader(model)
    requests = [
        Request(prompt=tuple(prompt), max_new_tokens=20, stop_tokens=(), sampling=Sampling(seed=i), n=1 + i % 2)
        for i, prompt in enumerate(PROMPTS * 2)
    ]
    sizes = {"rows": 3, "tokens": 5, "n_blocks": 4, "max_length": 31}  # too few blocks for all: some texts give way
    found = []
    for one in (leader, framework.load_checkpoint(folder / "plain")):
        engine = Engine(one, **sizes)
        found.append([[list(text.tokens) for text in texts] for texts in engine.run(requests)])
        preempted = engine.scheduler.n_preempted
    leader.dismiss()
    return {"tokens": found[0] == found[1], "preempted": preempted}


def main(check, folder):
    """Do a check, and write what process 0 found."""
    from tfguide.torch.parallel import joined

    with joined() as group:
        found = globals()[check](group, Path(folder))
        if group.rank == 0:
            (Path(folder) / f"{check}-{group.n}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
