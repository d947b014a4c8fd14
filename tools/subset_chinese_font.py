"""Cut the Chinese characters that the book uses out of Noto Sans CJK, into book/_static/fonts/NotoSansSC-subset.woff.

    python tools/subset_chinese_font.py /usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc

A reader without a Chinese font would see boxes. The whole font has 16 MB, the part that the book needs 0.1 MB. Run this
where tests/book/test_chinese.py reports characters that the part lacks. Needs fonttools, which matplotlib brings.
"""

import argparse
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FONT = ROOT / "book" / "_static" / "fonts" / "NotoSansSC-subset.woff"
SIMPLIFIED = 2  # the number of the simplified Chinese font in the collection

#: Chinese characters, their punctuation and their full-width forms.
CHINESE = re.compile("[\u3000-\u303f\u4e00-\u9fff\uff00-\uffef]")


def used() -> set[str]:
    """The Chinese characters in the pages and the notebooks."""
    files = [path for folder in ("book", "notebooks") for path in (ROOT / folder).rglob("*")]
    texts = [
        path.read_text() for path in files if path.suffix in (".md", ".ipynb") and ".ipynb_checkpoints" not in str(path)
    ]
    return set(CHINESE.findall("".join(texts)))


def main() -> None:
    from fontTools import subset
    from fontTools.ttLib import TTCollection

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("collection", type=Path, help="NotoSansCJK-Regular.ttc, from Debian's fonts-noto-cjk")
    parser.add_argument("--also", type=Path, help="a text whose characters are kept as well")
    arguments = parser.parse_args()
    characters = used() | (set(CHINESE.findall(arguments.also.read_text())) if arguments.also else set())
    font = TTCollection(arguments.collection).fonts[SIMPLIFIED]
    options = subset.Options(layout_features=[], name_IDs=[0, 1, 2, 13, 14], notdef_outline=True, hinting=False)
    subsetter = subset.Subsetter(options)
    subsetter.populate(text="".join(sorted(characters)))
    subsetter.subset(font)
    font.flavor, font.recalcTimestamp = "woff", False
    FONT.parent.mkdir(exist_ok=True)
    font.save(FONT)
    print(f"{FONT.relative_to(ROOT)}: {len(characters)} characters, {FONT.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
