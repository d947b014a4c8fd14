"""Every Chinese character of the pages is in the font that comes with the book, so nobody sees boxes."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_the_font_has_every_chinese_character_of_the_book():
    ttlib = pytest.importorskip("fontTools.ttLib")
    spec = importlib.util.spec_from_file_location("subset_chinese_font", ROOT / "tools" / "subset_chinese_font.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    used = tool.used()
    assert "注" in used
    lacking = used - {chr(code) for code in ttlib.TTFont(tool.FONT).getBestCmap()}
    assert not lacking, f"not in {tool.FONT.name}: {''.join(sorted(lacking))}; run tools/subset_chinese_font.py"
