"""The drafts and the tasks of `tfguide.bench.speculative`; `python -m tfguide.bench.drafts FOLDER` trains a draft.

A model that lost most of its layers predicts next to nothing. It is trained on text that the whole model wrote: what
it must learn is to guess that model. Source: Kim & Rush 2016.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfguide.bench import variants
from tfguide.bench.caches import read_documentation
from tfguide.checkpoints import write_checkpoint
from tfguide.compress.models import prune_layers
from tfguide.generation import PromptLookup, Sampling
from tfguide.generation.generate import generate
from tfguide.loading import FRAMEWORKS, find_checkpoint, load_framework, load_model, try_accelerate
from tfguide.text import read_template, read_tokenizer
from tfguide.training import Recipe, train

_CODE = '''def read_table(path, separator=","):
    """Read a table of numbers from a text file, a row for each line."""
    rows = []
    with open(path) as file:
        for line in file:
            line = line.strip()
            if not line or line.startswith("#"):
                continue
            rows.append([float(cell) for cell in line.split(separator)])
    return rows
'''
_NOTE = (
    "The cache keeps the keys and the values of all positions that were read. A step computes one query, one key and "
    "one value in every layer, and looks at all keys, old and new. Without the cache the whole text would be computed "
    "again for every token. The cache grows by the same number of bytes with every token, and is freed with the text."
)
# Text that is continued, and messages that are answered. The first two can be copied from the prompt, the others not.
TASKS = {
    "copy": ("user", f"Repeat this text word for word:\n\n{_NOTE}"),
    "edit code": ("user", f"Rename the variable rows to table in this function, and change nothing else:\n\n{_CODE}"),
    "documentation": ("text", 512),
    "story": ("user", "Write a short story about a lighthouse keeper and a storm."),
}


def prompts_of(path: str | os.PathLike, tasks: Sequence[str]) -> dict[str, list[int]]:
    """The tokens of each of TASKS, by the tokenizer and the chat template of a checkpoint."""
    prompts = {}
    for task in tasks:
        kind, given = TASKS[task]
        prompts[task] = read_documentation(path, given) if kind == "text" else _asked(path, [given])[0]
    return prompts


def _asked(path, messages):
    """The tokens of a conversation for each message, up to where the model answers."""
    tokenizer, template = read_tokenizer(path), read_template(path)
    texts = [template.render([{"role": "user", "content": one}], add_generation_prompt=True) for one in messages]
    return [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]


def make_drafts(tg: Any, path: str | os.PathLike, dtype: str, trained: str | None = None) -> dict[str, Any]:
    """The drafts by name: prompt lookup, the model in fewer bits, with fewer layers, and one that was trained.

    dtype: of the target. A draft has 8 bits, and one that has all layers fewer than the target.
    """
    drafts: dict[str, Any] = {"prompt lookup": PromptLookup(3)}
    bits = 4 if dtype in ("int8", "int4") else 8
    drafts[f"{bits} bits"] = try_accelerate(tg, load_model(tg, path, f"int{bits}"))
    model = load_model(tg, path, "float32")
    n = model.config.n_layers
    for n_gone in sorted({max(1, n // 7), n // 2}):
        fewer = prune_layers(model, least_changing(model, path, n_gone))
        drafts[f"{n - n_gone} of {n} layers"] = try_accelerate(tg, tg.quantize(fewer, 8, 8))
    if trained is not None:
        one = load_model(tg, trained, "float32")
        drafts[f"{one.config.n_layers} layers, trained"] = try_accelerate(tg, tg.quantize(one, 8, 8))
    return drafts


def least_changing(model: Any, path: str | os.PathLike, n_layers: int) -> list[int]:
    """The numbers of the layers that change their input least on 128 tokens of the documentation."""
    return variants.least_changing(model, np.array([read_documentation(path, 127)]), n_layers)


def write_text(model: Any, prompts: Sequence[Sequence[int]], n_new: int, rows: int, seed: int = 0) -> np.ndarray:
    """What a model writes after prompts, with the prompts, one after another: (n,). rows: at a time."""
    texts = []
    for at in range(0, len(prompts), rows):
        some = prompts[at : at + rows]
        new = generate(model, some, n_new, sampling=Sampling(temperature=0.7, seed=seed + at))
        texts += [[*prompt, *tokens] for prompt, tokens in zip(some, new, strict=True)]
    return np.concatenate([np.array(text, np.int64) for text in texts])


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m tfguide.bench.drafts", description=__doc__.split("\n\n")[0])
    parser.add_argument("folder", help="where the draft is written")
    parser.add_argument("--framework", choices=FRAMEWORKS, default="torch")
    parser.add_argument("--model", metavar="PATH", help="a checkpoint with a tokenizer; default: SmolLM2-135M-Instruct")
    parser.add_argument("--layers", type=int, default=6, help="layers that stay, the last among them; default: 6")
    parser.add_argument("--prompts", type=int, default=64, help="texts that the model writes; default: 64")
    parser.add_argument("--new-tokens", type=int, default=128, help="of each text; default: 128")
    parser.add_argument("--rows", type=int, default=32, help="texts written at a time; default: 32")
    parser.add_argument("--steps", type=int, default=60, help="of training; default: 60")
    parser.add_argument("--rate", type=float, default=5e-4, help="the learning rate at its peak; default: 0.0005")
    options = parser.parse_args(arguments)
    path, tg = find_checkpoint(options.model), load_framework(options.framework)
    prompts = prompts_to_learn_from(path, options.prompts)
    file = Path(options.folder) / "written.npy"
    file.parent.mkdir(parents=True, exist_ok=True)
    if not file.exists():
        np.save(
            file,
            write_text(try_accelerate(tg, load_model(tg, path, "int8")), prompts, options.new_tokens, options.rows),
        )
    tokens = np.load(file)
    print(f"{len(tokens)} tokens", flush=True)
    model = load_model(tg, path, "float32")
    n = model.config.n_layers
    draft = prune_layers(model, range(options.layers - 1, n - 1))
    recipe = Recipe(steps=options.steps, rows=4, length=128, learning_rate=options.rate, warmup=5, decay=0.0)
    for record in train(tg.Trainer(draft, recipe), tokens):
        print(f"{record.step + 1:4} {record.loss:7.3f}", flush=True)
    write_checkpoint(options.folder, draft.config, draft.to_weights())
    return 0


def prompts_to_learn_from(path: str | os.PathLike, n: int) -> list[list[int]]:
    """Beginnings of n texts: questions, and pieces of Python's documentation; none is in TASKS."""
    from pydoc_data.topics import topics

    tokenizer = read_tokenizer(path)
    names = sorted(topics, reverse=True)  # the text of TASKS begins with the first ones
    asked = ("Explain {} in Python.", "Write a story about {}.", "Write a function that has to do with {}.")
    chosen = [(names[i % (len(names) // 2)], i % 4) for i in range(n)]
    messages = iter(_asked(path, [asked[kind].format(name.replace("-", " ")) for name, kind in chosen if kind < 3]))
    return [next(messages) if kind < 3 else tokenizer.encode(topics[name]).ids[:96] for name, kind in chosen]


if __name__ == "__main__":
    sys.exit(main())
