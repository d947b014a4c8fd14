"""`python -m tfguide.bench.rounds`: some rounds of speculation on real text, with all that decided them.

Both models draw from their `TOP_K` most likely tokens. So their distributions have few numbers that are not 0, and a
round can be kept whole and decided again by `accept`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfguide.bench.drafts import least_changing
from tfguide.bench.run import write_json
from tfguide.checks.values import check_count
from tfguide.compress.models import prune_layers
from tfguide.generation import Sampling, accept
from tfguide.generation.choose import Chooser, probabilities
from tfguide.generation.verdicts import Place
from tfguide.loading import FRAMEWORKS, find_checkpoint, load_framework, load_model
from tfguide.text import read_tokenizer

TOP_K = 4
PROMPT = "The capital of France is Paris. The capital of Italy is"


def record_rounds(
    model: Any, draft: Any, prompt: Sequence[int], sampling: Sampling, draft_length: int = 4, n_rounds: int = 4
) -> list[dict[str, Any]]:
    """The first rounds of `speculative_generate` after a prompt, computed without a cache.

    A round has the "drafted" tokens, the "uniforms" that decide, how many were "accepted" and the token that is "next".
    "support" are the tokens that either model may draw at each place, in ascending order, and "target" (n + 1 rows) and
    "draft" (n rows) their chances there. Raises ValueError for counts below 1 and at temperature 0, which has no
    chances.
    """
    draft_length, n_rounds = check_count("draft_length", draft_length), check_count("n_rounds", n_rounds)
    if sampling.temperature == 0:
        raise ValueError("a round at temperature 0 has no chances: expected a temperature above 0")
    uniform, text, rounds = Chooser(sampling, 1).streams[0].random, [int(token) for token in prompt], []
    for _ in range(n_rounds):
        drafted, q = [], []
        for _ in range(draft_length):
            logits = draft.score([text + drafted], last=1)[0]
            place = Place(logits, sampling, text + drafted)
            q.append(place.whole())
            drafted.append(place.draw(uniform()))
        logits = model.score([text + drafted], last=draft_length + 1)[0]
        texts = [text + drafted[:i] for i in range(draft_length + 1)]
        p = probabilities(logits, sampling, texts)
        uniforms = [uniform() for _ in range(draft_length + 1)]
        n, token = accept(p, np.array(q), drafted, uniforms)
        support = [np.flatnonzero(p[i] + (q[i] if i < draft_length else 0)) for i in range(draft_length + 1)]
        rounds.append({
            "drafted": drafted, "uniforms": uniforms, "accepted": n, "next": token,
            "support": [some.tolist() for some in support],
            "target": [p[i, some].tolist() for i, some in enumerate(support)],
            "draft": [q[i][some].tolist() for i, some in enumerate(support[:-1])],
        })  # fmt: skip
        text += [*drafted[:n], token]
    return rounds


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m tfguide.bench.rounds", description=__doc__.split("\n\n")[0])
    parser.add_argument("--framework", choices=FRAMEWORKS, default="torch")
    parser.add_argument("--model", metavar="PATH", help="a checkpoint with a tokenizer; default: SmolLM2-135M-Instruct")
    parser.add_argument("--prompt", default=PROMPT)
    parser.add_argument("--drop", type=int, default=4, help="layers that the draft lacks; default: 4")
    parser.add_argument("--length", type=int, default=4, help="tokens drafted in a round; default: 4")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--json", metavar="FILE", help="write the rounds there, with the pieces of text of all tokens")
    options = parser.parse_args(arguments)
    path, tg = find_checkpoint(options.model), load_framework(options.framework)
    model, tokenizer = load_model(tg, path, "float32"), read_tokenizer(path)
    draft = prune_layers(model, least_changing(model, path, options.drop))
    prompt = tokenizer.encode(options.prompt).ids
    sampling = Sampling(top_k=TOP_K, seed=options.seed)
    rounds = record_rounds(model, draft, prompt, sampling, options.length, options.rounds)
    known = {*prompt, *(token for one in rounds for some in one["support"] for token in some)}
    pieces = {str(token): tokenizer.decode([token]) for token in sorted(known)}
    for one in rounds:
        drafted = [pieces[str(token)] for token in one["drafted"]]
        print(f"{drafted} accepted: {one['accepted']}, next: {pieces[str(one['next'])]!r}")
    if options.json:
        about = {"model": path.name, "layers": [model.config.n_layers, draft.config.n_layers], "top_k": TOP_K}
        write_json(about | {"prompt": prompt, "pieces": pieces, "rounds": rounds}, options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
