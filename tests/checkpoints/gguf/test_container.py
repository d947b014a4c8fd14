"""GGUF files opened by this package: equal to the reader of the package `gguf`, and every bad file refused by name."""

import re
import struct
import tracemalloc

import numpy as np
import pytest

from tfguide.checkpoints.gguf import find_gguf, is_gguf, open_gguf
from tfguide.checkpoints.gguf.blocks import BLOCK_TYPES

gguf = pytest.importorskip("gguf")

SIZES = {"F32": (3, 7), "F16": (5, 3), "BF16": (3, 5), "Q8_0": (3, 64), "Q4_0": (5, 32), "Q4_1": (2, 3, 32)}


def write(file, alignment=None):
    """A small file with a tensor of each type in SIZES and metadata of every type; returns its arrays."""
    stream = np.random.default_rng(0)
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_uint8("a.uint8", 200)
    writer.add_int8("a.int8", -3)
    writer.add_uint16("a.uint16", 60_000)
    writer.add_int16("a.int16", -300)
    writer.add_uint32("a.uint32", 1 << 31)
    writer.add_int32("a.int32", -(1 << 31))
    writer.add_uint64("a.uint64", 1 << 63)
    writer.add_int64("a.int64", -(1 << 63))
    writer.add_float32("a.float32", 0.1)
    writer.add_float64("a.float64", 0.1)
    writer.add_bool("a.bool", True)
    writer.add_string("a.string", "größe 一")
    writer.add_array("a.strings", ["", "a", "一二"])
    writer.add_array("a.numbers", [3, -5, 7])
    writer.add_array("a.bools", [True, False])
    if alignment is not None:
        writer.add_custom_alignment(alignment)
    arrays = {}
    for name, shape in SIZES.items():
        kind = gguf.GGMLQuantizationType[name]
        arrays[name] = gguf.quants.quantize(stream.normal(size=shape).astype(np.float32), kind)
        writer.add_tensor(name, arrays[name], raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return arrays


def refused(file, *parts):
    """Check that a file is refused by a message which names it and has every part, in this order."""
    with pytest.raises(ValueError, match="(?s)" + ".*".join(map(re.escape, (str(file), *parts)))):
        open_gguf(file)


@pytest.fixture
def file(tmp_path):
    write(tmp_path / "small.gguf")
    return tmp_path / "small.gguf"


def edit(file, old, new, count=1):
    """Replace bytes of a file, which must be there so many times."""
    content = file.read_bytes()
    assert content.count(old) == count and len(old) == len(new)
    file.write_bytes(content.replace(old, new))


def packed(code, *values):
    return struct.pack("<" + code, *values)


def text(string):
    return packed("Q", len(string.encode())) + string.encode()


def by_hand(pairs=b"", n_pairs=0, tensors=b"", n_tensors=0, data=b"", magic=b"GGUF", version=3):
    """The bytes of a file; the architecture stands before the other pairs."""
    architecture = text("general.architecture") + packed("I", 8) + text("llama")
    header = magic + packed("IQQ", version, n_tensors, n_pairs + 1) + architecture + pairs + tensors
    return header + bytes(-len(header) % 32) + data


def tensor(name, sizes, number=0, offset=0):
    return text(name) + packed("I", len(sizes)) + packed(f"{len(sizes)}Q", *sizes) + packed("IQ", number, offset)


class TestEqual:
    def test_metadata(self, file):
        opened = open_gguf(file)
        fields = gguf.GGUFReader(file).fields
        expected = {key: field.contents() for key, field in fields.items() if not key.startswith("GGUF.")}
        assert opened.metadata == expected
        assert {key: type(value) for key, value in opened.metadata.items()} == {
            key: type(value) for key, value in expected.items()
        }
        assert opened.architecture == "llama" and opened.path == file

    def test_tensors(self, file, tmp_path):
        arrays = write(tmp_path / "same.gguf")
        tensors = open_gguf(file).tensors
        assert tensors.keys() == SIZES.keys()
        for name, tensor in tensors.items():
            kind = gguf.GGMLQuantizationType[name]
            assert (tensor.name, tensor.block_type, tensor.shape) == (name, name, SIZES[name])
            assert tensor.data.dtype == np.uint8 and not tensor.data.flags.writeable
            assert tensor.data.tobytes() == arrays[name].tobytes()
            numbers = tensor.dequantised()
            assert numbers.dtype == np.float32 and numbers.shape == SIZES[name] and numbers.flags.writeable
            np.testing.assert_array_equal(numbers, gguf.quants.dequantize(arrays[name], kind))

    def test_alignment(self, file, tmp_path):
        write(tmp_path / "aligned.gguf", alignment=1024)
        for aligned, tensor in zip(
            open_gguf(tmp_path / "aligned.gguf").tensors.values(), open_gguf(file).tensors.values(), strict=True
        ):
            assert aligned.data.tobytes() == tensor.data.tobytes()

    def test_block_types_are_those_of_the_package(self):
        for number, block in BLOCK_TYPES.items():
            kind = gguf.GGMLQuantizationType(number)
            assert (kind.name, gguf.GGML_QUANT_SIZES[kind]) == (block.name, (block.size, block.n_bytes))
            rows = gguf.quants.dequantize(np.zeros((3, block.n_bytes), np.uint8), kind)
            assert rows.shape == (3, block.size)


class TestBadFiles:
    def test_every_truncation(self, file, tmp_path):
        whole, bad = file.read_bytes(), tmp_path / "bad.gguf"
        padding = -SIZES["Q4_1"][0] * 3 * 20 % 32
        for length in range(len(whole)):
            bad.write_bytes(whole[:length])
            try:
                open_gguf(bad)
                assert length >= len(whole) - padding, length
            except ValueError as error:
                assert str(error).startswith(str(bad)) and length < len(whole) - padding, error

    @pytest.mark.slow
    def test_random_bytes(self, file, tmp_path):
        """A change of one byte, anywhere, gives a ValueError that names the file, or a file that can be read."""
        whole, bad = file.read_bytes(), tmp_path / "bad.gguf"
        stream = np.random.default_rng(0)
        opened = 0
        tracemalloc.start()
        for place in range(len(whole)):
            for value in {whole[place] ^ 1, int(stream.integers(256))} - {whole[place]}:
                bad.write_bytes(whole[:place] + bytes([value]) + whole[place + 1 :])
                tracemalloc.reset_peak()
                try:
                    for tensor in open_gguf(bad).tensors.values():
                        tensor.dequantised()
                    opened += 1
                except ValueError as error:
                    assert str(error).startswith(str(bad)), error
                assert tracemalloc.get_traced_memory()[1] < 4_000_000
        tracemalloc.stop()
        assert opened > 500  # names, numbers and the data itself may be anything

    @pytest.mark.parametrize("content", [b"", b"GG", b"GGML" + bytes(60), b"\0" * 64])
    def test_magic(self, tmp_path, content):
        (tmp_path / "bad.gguf").write_bytes(content)
        refused(tmp_path / "bad.gguf", "magic number" if len(content) < 4 else f"{content[:4]!r}, expected b'GGUF'")

    def test_versions(self, tmp_path):
        bad = tmp_path / "bad.gguf"
        for version in (0, 1, 4):
            bad.write_bytes(by_hand(version=version))
            refused(bad, f"GGUF version {version} is not supported", "2 and 3")
        bad.write_bytes(b"GGUF" + struct.pack(">IQQ", 3, 0, 1) + bytes(64))
        refused(bad, "big-endian", "only little-endian")
        bad.write_bytes(by_hand(version=2))
        assert open_gguf(bad).tensors == {}

    def test_counts(self, tmp_path):
        bad = tmp_path / "bad.gguf"
        bad.write_bytes(by_hand(n_pairs=(1 << 60) - 1))
        refused(bad, f"{1 << 60} metadata pairs do not fit")
        bad.write_bytes(by_hand(n_tensors=1 << 60))
        refused(bad, f"{1 << 60} tensors do not fit")
        bad.write_bytes(by_hand(text("a") + packed("IIQ", 9, 8, 1 << 60), 1))
        refused(bad, f"{1 << 60} entries of metadata 'a' do not fit")
        bad.write_bytes(by_hand(text("a") + packed("IQ", 8, (1 << 64) - 1), 1))
        refused(bad, "truncated: metadata 'a'")

    @pytest.mark.parametrize(
        ("pairs", "n_pairs", "problem"),
        [
            (text("a") + packed("IB", 0, 1) + text("a") + packed("IB", 0, 1), 2, "metadata 'a' is there twice"),
            (text("a") + packed("IB", 13, 1), 1, "metadata 'a' has the unknown type 13"),
            (text("a") + packed("IIQ", 9, 9, 0), 1, "an array of arrays"),
            (text("a") + packed("IB", 7, 2), 1, "must be a bool (0 or 1), got 2"),
            (text("a") + packed("IQ", 8, 1) + b"\xff", 1, "not UTF-8"),
            (text("") + packed("IB", 0, 1), 1, "a metadata key is empty"),
            (text("general.alignment") + packed("II", 4, 24), 1, "must be a power of 2, got 24"),
            (text("general.alignment") + packed("IB", 7, 1), 1, "must be a power of 2, got True"),
            (text("split.count") + packed("IH", 2, 3), 1, "one of 3 files"),
        ],
    )
    def test_metadata(self, tmp_path, pairs, n_pairs, problem):
        (tmp_path / "bad.gguf").write_bytes(by_hand(pairs, n_pairs))
        refused(tmp_path / "bad.gguf", problem)

    def test_no_architecture(self, file):
        edit(file, text("general.architecture"), text("general.architecturE"))
        refused(file, "general.architecture must be a string, got None")

    @pytest.mark.parametrize(
        ("tensors", "problem"),
        [
            ([("a", [8]), ("a", [8], 0, 32)], "tensor 'a' is there twice"),
            ([("", [8])], "name is empty"),
            ([("a", [])], "1 to 4 dimensions, got 0"),
            ([("a", [1, 1, 1, 1, 1])], "1 to 4 dimensions, got 5"),
            ([("a", [8, 0])], "sizes of at least 1, got (0, 8)"),
            ([("a", [1 << 62, 1 << 62])], "goes beyond the end"),
            ([("a", [64])], "goes beyond the end: it ends at byte"),
            ([("a", [8], 0, 64)], "goes beyond the end"),
            ([("a", [8], 0, (1 << 64) - 32)], "goes beyond the end"),
            ([("a", [8], 0, 4)], "must start at a multiple of 32 bytes, got 4"),
            ([("a", [8]), ("b", [8])], "tensors 'a' and 'b' overlap"),
            ([("b", [8], 0, 32), ("a", [9])], "tensors 'a' and 'b' overlap"),
            ([("a", [32], 4)], "unknown block type 4, supported are F32, F16, Q4_0"),
            ([("a", [32, 2], 999)], "unknown block type 999"),
            ([("a", [48, 2], 2)], "multiple of 32 numbers in type Q4_0, got (2, 48)"),
        ],
    )
    def test_tensors(self, tmp_path, tensors, problem):
        content = by_hand(tensors=b"".join(tensor(*entry) for entry in tensors), n_tensors=len(tensors), data=bytes(64))
        (tmp_path / "bad.gguf").write_bytes(content)
        refused(tmp_path / "bad.gguf", problem)

    def test_tensors_that_fill_the_file(self, tmp_path):
        content = by_hand(tensors=tensor("b", [8], 0, 32) + tensor("a", [4, 2]), n_tensors=2, data=bytes(64))
        (tmp_path / "good.gguf").write_bytes(content)
        assert {t.name: t.shape for t in open_gguf(tmp_path / "good.gguf").tensors.values()} == {"b": (8,), "a": (2, 4)}

    def test_not_there(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="no such file"):
            open_gguf(tmp_path / "none.gguf")
        with pytest.raises(TypeError, match="path must be a str or a path, got int"):
            open_gguf(3)


class TestFinding:
    def test_files(self, file, tmp_path):
        (tmp_path / "blob").write_bytes(file.read_bytes())
        (tmp_path / "other").write_bytes(b"GGU")
        assert is_gguf(file) and is_gguf(str(file)) and is_gguf(tmp_path / "blob") and is_gguf("missing.GGUF")
        assert not is_gguf(tmp_path / "other") and not is_gguf(tmp_path / "missing")
        assert find_gguf(tmp_path / "blob") == tmp_path / "blob"

    def test_folders(self, file, tmp_path):
        empty = tmp_path / "empty"
        empty.mkdir()
        assert is_gguf(tmp_path) and not is_gguf(empty)
        assert find_gguf(tmp_path) == file and open_gguf(tmp_path).path == file
        with pytest.raises(FileNotFoundError, match=f"no GGUF file in {empty}"):
            find_gguf(empty)
        (tmp_path / "second.GGUF").write_bytes(b"")
        with pytest.raises(ValueError, match=r"several GGUF files, name one of them: second\.GGUF, small\.gguf"):
            find_gguf(tmp_path)
        (tmp_path / "model.safetensors").write_bytes(b"")
        assert not is_gguf(tmp_path)
