"""Record a conversation with SmolLM2, once in each framework and once in none: what the page "Use it" shows.

    python tools/record_conversations.py                     # all of them, in turn, on a machine that does nothing else
    python tools/record_conversations.py --framework none    # one of them; the others stay as they were recorded

writes book/appendices/conversations.json. The lines are typed into `tfguide chat`, in a process of its own, and what it
prints is kept with its messages. Whatever is started for the first time, such as the compiler of the kernels, runs
before, in a conversation that is not kept.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from tfguide.bench.timing import machine
from tfguide.tasks import smollm

TARGET = Path(__file__).resolve().parent.parent / "book" / "appendices" / "conversations.json"
FRAMEWORKS = ("none", "torch", "tensorflow")
TYPED = (
    "Name the capital of France in one sentence.",
    "And the capital of Italy?",
    "Tell me in one sentence why people visit Rome.",
)


def converse(framework: str) -> dict:
    """One conversation: the command, and all that it printed, line by line as it came."""
    words = ["chat", "--framework", framework]
    given = "".join(f"{line}\n" for line in TYPED)
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-m", "tfguide.cli", *words],
            input=given, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise SystemExit(f"tfguide {' '.join(words)} ended with status {done.returncode}:\n{done.stdout}")
    return {"command": f"tfguide {' '.join(words)}", "printed": done.stdout.rstrip().splitlines()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--framework", choices=FRAMEWORKS, nargs="+", default=FRAMEWORKS)
    arguments = parser.parse_args()
    smollm.file()  # raises for another file than the book's
    kept = json.loads(TARGET.read_text(encoding="utf-8"))["conversations"] if TARGET.exists() else {}
    kept |= {framework: converse(framework) for framework in arguments.framework}
    found = {
        "model": smollm.FILE,
        "sha256": smollm.SHA256,
        "machine": machine(),
        "typed": list(TYPED),
        "conversations": {framework: kept[framework] for framework in FRAMEWORKS if framework in kept},
    }
    TARGET.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    for one in found["conversations"].values():
        print(f"$ {one['command']}", *one["printed"], sep="\n")


if __name__ == "__main__":
    main()
