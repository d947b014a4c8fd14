"""Two more contestants: CTranslate2, and OpenVINO GenAI. Each converts the checkpoint folder once, beside it.

Neither is a dependency: `pip install -e '.[bench,runtimes]'`, or a folder of them on PYTHONPATH.
"""

from __future__ import annotations

import os
import time
from importlib import util

import numpy as np

from tfguide.bench.gguf_file import write_gguf
from tfguide.bench.models import read_config
from tfguide.checkpoints.reading import open_checkpoint
from tfguide.native import cores
from tfguide.tasks import smollm

# The types of weights that each has on a processor without instructions for bfloat16.
CTRANSLATE2 = {"float32": "float32", "int8": "int8"}
OPENVINO = {"float16": "F16", "int8": "Q8_0", "int4": "Q4_0"}


class CTranslate2:
    """CTranslate2's `generate_batch`, with weights and activations of the type.

    On one thread or on all cores, whichever a trial finds faster: its threads sleep between operations, and where
    waking them takes long, more of them are slower. `about` has the tokens a second of the trial, {threads: tokens}.
    """

    TRIAL = 16  # tokens

    def __init__(self, folder: str, dtype: str, prompt: np.ndarray):
        self.name, self.prompt = "CTranslate2", _words(prompt[0])
        self.dtype, self.folder = CTRANSLATE2[dtype], convert_ctranslate2(folder, dtype)
        trial = {threads: self._try(threads) for threads in sorted({1, cores()})}
        threads = max(trial, key=trial.get)
        self._load(threads)
        self.about = {"threads": threads, "tokens_per_second_of_threads": trial}

    def _load(self, threads: int) -> None:
        import ctranslate2

        self.generator = None  # before the next one: idle threads count where the library decides how to wait
        self.generator = ctranslate2.Generator(
            self.folder, device="cpu", compute_type=self.dtype, inter_threads=1, intra_threads=threads
        )

    def _try(self, threads: int) -> float:
        """The tokens a second with so many threads, from one run after another that does not count."""
        self._load(threads)
        self.run(2)
        start = time.perf_counter()
        self.run(self.TRIAL)
        return self.TRIAL / (time.perf_counter() - start)

    def run(self, n: int) -> list[int]:
        done = self.generator.generate_batch(
            [self.prompt], max_length=n, min_length=n, beam_size=1, sampling_topk=1, end_token=[],
            include_prompt_in_result=False,
        )  # fmt: skip
        return list(done[0].sequences_ids[0])

    def logits(self) -> np.ndarray:
        return np.asarray(self.generator.forward_batch([self.prompt]))[0, -1]


class OpenVino:
    """OpenVINO GenAI's `LLMPipeline` of a GGUF file, whose weights it keeps in the file's blocks of 8 or 4 bits."""

    def __init__(self, folder: str, dtype: str, prompt: np.ndarray):
        import openvino
        import openvino_genai

        self.name, self.openvino, self.prompt = "OpenVINO GenAI", openvino, prompt.astype(np.int64)
        self.folder = os.path.join(folder, f"openvino-{dtype}")
        file = os.path.join(self.folder, f"{dtype}.gguf")
        if not os.path.exists(file):
            tokenizer = _find_tokenizer(folder)
            os.makedirs(self.folder, exist_ok=True)
            write_gguf(folder, file, dtype, tokenizer)
        self.scheduling = openvino_genai.SchedulerConfig()
        self.scheduling.enable_prefix_caching = False  # or the same prompt is read once, and never again
        self.pipeline = openvino_genai.LLMPipeline(
            file, "CPU", scheduler_config=self.scheduling, enable_save_ov_model=True, INFERENCE_NUM_THREADS=cores()
        )
        every = np.ones_like(self.prompt)
        self.inputs = openvino_genai.TokenizedInputs(openvino.Tensor(self.prompt), openvino.Tensor(every))
        self.options = openvino_genai.GenerationConfig()
        self.options.ignore_eos, self.options.do_sample = True, False

    def run(self, n: int) -> list[int]:
        self.options.max_new_tokens = n
        return list(self.pipeline.generate(self.inputs, self.options).tokens[0])

    def logits(self) -> np.ndarray:
        """By the network that the pipeline made of the file: the pipeline itself shows no logits."""
        made = self.openvino.Core().compile_model(os.path.join(self.folder, "openvino_model.xml"), "CPU")
        given = {"input_ids": self.prompt, "attention_mask": np.ones_like(self.prompt)}
        given["position_ids"] = np.arange(self.prompt.shape[1])[None]
        given["beam_idx"] = np.zeros(1, np.int32)
        names = {name for port in made.inputs for name in port.names}
        return made.create_infer_request().infer({k: v for k, v in given.items() if k in names})[0][0, -1]


def more_peers(dtype: str) -> dict[str, type | None]:
    """The contestants here that have the type: the class by name, None for one that is not installed."""
    found: dict[str, type | None] = {}
    if dtype in CTRANSLATE2:
        found["CTranslate2"] = CTranslate2 if _has("ctranslate2") and _has("transformers") else None
    if dtype in OPENVINO:
        found["OpenVINO GenAI"] = OpenVino if _has("openvino_genai") and _has("gguf") else None
    return found


def convert_ctranslate2(folder: str, dtype: str) -> str:
    """The folder of CTranslate2's own format, written beside the checkpoint once."""
    made = os.path.join(folder, f"ctranslate2-{dtype}")
    if os.path.exists(os.path.join(made, "model.bin")):
        return made
    import transformers
    from ctranslate2.converters import TransformersConverter

    transformers.utils.logging.disable_progress_bar()
    vocab_size = transformers.AutoConfig.from_pretrained(folder).vocab_size

    class Converter(TransformersConverter):
        """Its own, with names for tokens: a checkpoint of random weights has no tokenizer."""

        def load_tokenizer(self, *given, **options):
            return _Vocabulary(vocab_size)

    Converter(folder).convert(made, quantization=CTRANSLATE2[dtype])
    return made


class _Vocabulary:
    """Names instead of words: what CTranslate2 asks of a tokenizer."""

    def __init__(self, size: int):
        self.names = _words(range(size))
        self.bos_token, self.eos_token, self.unk_token = self.names[:3]

    def get_vocab(self) -> dict[str, int]:
        return {name: k for k, name in enumerate(self.names)}


def _find_tokenizer(folder):
    """A file with a tokenizer, which OpenVINO GenAI wants to see: token numbers go in and come out."""
    size = open_checkpoint(folder)[0].vocab_size
    if not smollm.is_installed() or read_config(smollm.file()).vocab_size != size:
        raise ValueError(f"OpenVINO GenAI needs a tokenizer in its file, and there is none here of {size} tokens")
    return smollm.file()


def _words(tokens):
    return [f"<{token}>" for token in tokens]


def _has(module):
    return util.find_spec(module) is not None
