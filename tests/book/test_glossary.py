"""The glossary spells out every abbreviation of the book, in order, and gives each its Chinese term."""

import re
from pathlib import Path

GLOSSARY = Path(__file__).resolve().parents[2] / "book" / "appendices" / "glossary.md"
ABBREVIATIONS = """
    ALiBi AUC AUC-ROC AVX2 AWQ BERT BF16 BIO BLEU BOS BPE CLS CPU CSR CTC CUDA DP ECE EOS FFN FFNN FLOP FP16 FP32 FP8
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


#: Names of makers, programs and formats, letters of the book side by side, and what every reader knows.
NAMES = """
    AMD AMX API ARM AWS BART BLOOM BT CC CLIP EPYC FAQ FFFD GCC HTTP IBM JAX JSON MKL NCCL NVIDIA PDF PEGASUS SQL TGI
    URL WAV XX YZ
"""


def test_every_abbreviation_in_the_text_of_a_page_is_an_entry():
    """Words of capitals, outside of code, formulas and links; a plural has an s."""
    known = {word for names, _ in ENTRIES for name in names for word in re.findall(r"[\w-]+", name)} | set(
        NAMES.split()
    )
    book = GLOSSARY.parents[1]
    pages = [page for page in sorted(book.rglob("*.md")) if page != GLOSSARY]
    found = {}
    for page in pages:
        text = re.sub(r"^(`{3,}|~{3,}).*?^\1 *$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
        text = re.sub(
            r"`[^`]*`|\$\$.*?\$\$|\$[^$]*\$|\]\([^)]*\)|<[^>]*>|^---$.*?^---$", "", text, flags=re.DOTALL | re.MULTILINE
        )
        for word in re.findall(r"(?<![\w.-])[A-Z]{2,}(?=s?(?![\w-]))", text):
            found.setdefault(word, page.name)
    assert len(found) > 30
    assert {word: page for word, page in found.items() if word not in known} == {}


def test_what_a_reader_looks_up_is_in_the_index():
    """Every name of an entry is in the index of the book; these are the words that people search for."""
    named = {name.lower() for names, _ in ENTRIES for name in names}
    wanted = """
        MHA, MQA, GQA, MLA, KV cache, speculative decoding, quantisation, FlashAttention, PagedAttention, BLEU, ROUGE,
        perplexity, recall@k, MRR, F1 score, top-k sampling, top-p, RoPE, ALiBi, mixture of experts, prefill, decode,
        GGUF, ONNX, roofline, pruning, beam search, tensor parallelism, sliding window, attention sink
    """
    assert [word for word in re.split(r",\s+", wanted.strip()) if word.lower() not in named] == []
