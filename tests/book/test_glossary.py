"""The glossary spells out every abbreviation of the book, in order, and gives each its Chinese term."""

import re
from pathlib import Path

GLOSSARY = Path(__file__).resolve().parents[2] / "book" / "appendices" / "glossary.md"
ABBREVIATIONS = """
    ALiBi AUC AUC-ROC AVX2 AWQ BERT BF16 BIO BLEU BOS BPE CLS CPU CUDA DP ECE EOS FFN FFNN FLOP FP16 FP32 FP8
    GB GELU GEMM GEMV GeGLU GGUF GPT GPTQ GPU GQA HBM INT4 INT8 ITL KV LLM MBU MFU MHA MLA MLP MoE MQA MRR
    MXFP4 NaN NEON NER NLP NVLink ONNX PAD PCIe PP ReLU RMSNorm RoPE ROUGE SEP SRL SwiGLU TF32 TFLOP TP TPOT
    TPU TTFT UNK UTF-8 VNNI XLA
"""


def entries():
    """(names, lines of the definition) of each entry, in order."""
    body = re.search(r"^```\{glossary\}\n(.*?)^```$", GLOSSARY.read_text(), re.MULTILINE | re.DOTALL)[1]
    for entry in re.split(r"\n\n(?=\S)", body.strip("\n")):
        lines = entry.split("\n")
        names = [line for line in lines if not line.startswith(" ")]
        yield names, lines[len(names) :]


ENTRIES = list(entries())


def test_every_abbreviation_is_an_entry_or_another_name_of_one():
    named = [name for names, _ in ENTRIES for name in names]
    wanted = ABBREVIATIONS.split()
    assert len(wanted) > 70 and [short for short in wanted if named.count(short) != 1] == []


def test_entries_are_in_order_and_each_has_its_chinese_term():
    first = [names[0].lower() for names, _ in ENTRIES]
    assert first == sorted(first) and len(set(first)) == len(first)
    for names, lines in ENTRIES:
        assert re.fullmatch(r"    \[.+\]\{\.zh\}\\", lines[0]) and len(lines) > 1, names
