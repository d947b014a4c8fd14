"""A folder's tokenizer: neither cut nor padded, or an error that names the file."""

import pytest

from tfguide.text import read_tokenizer

tokenizers = pytest.importorskip("tokenizers")


@pytest.fixture
def folder(tmp_path):
    model = tokenizers.models.WordLevel({"a": 0, "b": 1, "[PAD]": 2}, unk_token="a")
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.enable_truncation(8)
    tokenizer.enable_padding(length=64, pad_id=2, pad_token="[PAD]")
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return tmp_path


@pytest.mark.parametrize("n", [1, 7, 8, 9, 47, 64, 100])
def test_a_prompt_is_neither_cut_nor_padded(folder, n):
    text = " ".join("ab"[i % 2] for i in range(n))
    as_saved = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text)
    assert len(as_saved.ids) == 64  # the file does ask for it
    assert read_tokenizer(folder).encode(text).ids == [i % 2 for i in range(n)]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": "1.0"}'])
def test_a_file_that_is_not_whole_is_named(folder, text):
    (folder / "tokenizer.json").write_text(text)
    with pytest.raises(ValueError, match=r"tokenizer\.json: not a whole tokenizer\.json"):
        read_tokenizer(folder)


def test_no_file_and_no_folder(folder):
    (folder / "tokenizer.json").unlink()
    for where in (folder, folder / "nothing"):
        with pytest.raises(ValueError, match=r"no tokenizer\.json in"):
            read_tokenizer(where)
