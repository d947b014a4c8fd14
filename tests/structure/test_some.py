"""`make test-some`, which .ci/run runs on another Python: something of every folder, and nothing that is not there."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MAKEFILE = (ROOT / "Makefile").read_text().replace("\\\n", " ")
SOME = re.search(r"^SOME := (.*)$", MAKEFILE, re.MULTILINE)[1].split()


def test_all_of_it_exists():
    assert [name for name in SOME if not (ROOT / name).exists()] == []


def test_every_folder_of_tests_is_among_it():
    folders = {path.parent.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob("test_*.py")}
    run = {name if (ROOT / name).is_dir() else Path(name).parent.as_posix() for name in SOME}
    # tests/single needs an environment with one framework; tests/test_single.py runs it with the other one hidden
    assert folders - {"tests/single"} <= run
    assert {"tests/test_single.py", "tests/structure/test_import_orders.py"} <= set(SOME)
    assert sum(name.endswith(".ipynb") for name in SOME) >= 2
