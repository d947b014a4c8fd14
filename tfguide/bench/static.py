"""Static batches, as a loop around Hugging Face's `generate` makes them: what has arrived is padded and written.

The next batch begins when the longest answer of this one is written; what arrives meanwhile waits. There is no HTTP
between: a request is there when it is due. Tokens count as delivered when the batch has made them, which is more than
`generate` offers of several rows.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tfguide.bench.clients import Outcome
from tfguide.bench.workload import Task
from tfguide.loading import load_framework
from tfguide.native import cores

ROWS = 16  # texts of a batch at most


class StaticBatches:
    """Hugging Face's model of a GGUF file, its weights in float32. rows: the most texts of a batch."""

    name = "Hugging Face"

    def __init__(self, path: Path, tokenizer: Any, rows: int = ROWS):
        self.path, self.tokenizer, self.rows = path, tokenizer, rows
        self._model: Any = None

    @contextlib.contextmanager
    def start(self) -> Iterator[Any]:
        """Load the model, once; it keeps nothing between runs.

        The weights are those that this package reads from the file: transformers reads such files with another package
        only. Raises as `load_checkpoint` and transformers.
        """
        import torch
        import transformers

        torch.set_num_threads(cores())
        if self._model is None:
            transformers.utils.logging.disable_progress_bar()
            tg = load_framework("torch")
            with tempfile.TemporaryDirectory() as folder:
                tg.save_checkpoint(tg.load_checkpoint(self.path, dtype="float32"), folder)
                self._model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
            self._model.generation_config.eos_token_id = None  # an answer has the length that is wanted
            self._write([self.tokenizer.encode("one that does not count").ids], [8], lambda: None)
        yield self._run

    def _run(self, tasks: Sequence[Task]) -> list[Outcome]:
        prompts = [self.tokenizer.encode(task.prompt).ids for task in tasks]
        return run_batches(tasks, self.rows, lambda rows, step: self._write(
            [prompts[i] for i in rows], [tasks[i].n_new for i in rows], step
        ))  # fmt: skip

    def _write(self, prompts, counts, step):
        """Continue prompts to the longest count: the new tokens (B, n). `step` is called after each token of all."""
        import torch
        import transformers

        class Watch(transformers.StoppingCriteria):
            """Sees every step, and ends none."""

            def __call__(self, input_ids, scores, **more):
                step()
                return torch.zeros(len(input_ids), dtype=torch.bool)

        longest = max(map(len, prompts))
        ids = torch.zeros(len(prompts), longest, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            ids[row, longest - len(prompt) :] = torch.tensor(prompt)
            mask[row, longest - len(prompt) :] = 1
        with torch.inference_mode():
            found = self._model.generate(
                ids, attention_mask=mask, max_new_tokens=max(counts), do_sample=False, pad_token_id=0,
                stopping_criteria=transformers.StoppingCriteriaList([Watch()]),
            )  # fmt: skip
        return found[:, longest:].tolist()


def run_batches(tasks: Sequence[Task], rows: int, write: Any) -> list[Outcome]:
    """Serve requests in static batches: the outcome of each.

    write: a function of the places of a batch's requests and of `step`, which it calls after each token of all rows.
    """
    start = time.perf_counter()
    outcomes: list[Outcome] = []
    while len(outcomes) < len(tasks):
        first = len(outcomes)
        time.sleep(max(0.0, start + tasks[first].at - time.perf_counter()))
        now = time.perf_counter() - start
        batch = [i for i in range(first, min(first + rows, len(tasks))) if tasks[i].at <= now or i == first]
        delivery = _Delivery([tasks[i] for i in batch], start)
        write(batch, delivery)
        outcomes += delivery.outcomes
    return outcomes


class _Delivery:
    """Counts the steps of a batch for each of its requests, as far as it wants them."""

    def __init__(self, tasks: Sequence[Task], start: float):
        self.outcomes = [Outcome(task.at, task.at) for task in tasks]
        self._wanted, self._start, self._n = [task.n_new for task in tasks], start, 0

    def __call__(self) -> None:
        self._n += 1
        when = time.perf_counter() - self._start
        for outcome, wanted in zip(self.outcomes, self._wanted, strict=True):
            if self._n <= wanted:
                outcome.token(when)
                outcome.count(self._n)
