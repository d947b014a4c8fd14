"""The tool that counts ARM instructions: its programs run, and a count is that of the products alone."""

import importlib.util
import shutil
from pathlib import Path

import pytest

from tests.native.kept import kept
from tfguide.native import abi

LEVEL = "armv8.2-a+dotprod"
FOLDER = Path(__file__).parents[2] / "tools" / "instructions"
SCRIPT = FOLDER / "count.py"
spec = importlib.util.spec_from_file_location("count_instructions", SCRIPT)
tool = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tool)
pytestmark = [
    pytest.mark.skipif(
        not all(map(shutil.which, (tool.COMPILER, tool.EMULATOR, "cc"))), reason="no compiler for ARM, or no qemu"
    ),
    pytest.mark.slow,
]


def test_the_instructions_of_our_kernels_are_counted(tmp_path, monkeypatch):
    plugin = tool.build_plugin(tmp_path)
    program = kept(
        lambda folder: tool.build_ours(LEVEL, folder), [tool.COMPILER, f"-march={LEVEL}"], FOLDER / "ours.cpp", SCRIPT
    )
    counts = {}
    for form in ("float32 rows", "int8 a8"):
        kind = abi.code("Format", form)
        for rows, d_out in ((1, 64), (1, 128), (16, 64)):
            monkeypatch.setattr(tool, "D_OUT", d_out)
            counts[form, rows, d_out] = tool.count(program, plugin, kind, rows) / (rows * d_out * tool.D_IN)
            assert tool.count(program, plugin, kind, rows) / (rows * d_out * tool.D_IN) == counts[form, rows, d_out]
    for form, lanes in (("float32 rows", 4), ("int8 a8", 16)):
        one, two = counts[form, 1, 64], counts[form, 1, 128]
        assert 1 / lanes < two <= one < 4  # no fewer than one instruction for the products of a register
        assert 1 / lanes < counts[form, 16, 64] < one  # a weight is loaded once for several rows
