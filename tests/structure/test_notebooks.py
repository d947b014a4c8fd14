"""The notebooks as they are committed: executed top to bottom in one kernel, clean, and listed in the book."""

import ast
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PAGES = [*sorted((ROOT / "book").glob("*.md")), *sorted((ROOT / "book" / "appendices").glob("*.md"))]


def code_cells(path):
    cells = json.loads(path.read_text())["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code" and "".join(cell["source"]).strip()]


def test_there_are_notebooks():
    assert len(NOTEBOOKS) >= 7


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_executed_and_clean(path):
    cells = code_cells(path)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert outputs, "nothing is stored, so nbval compares nothing"
    for output in outputs:
        assert output["output_type"] != "error"
        assert output.get("name") != "stderr", "".join(output["text"])[:200]
    text = path.read_text()
    assert not re.search(r"/(home|root|work|tmp|Users)/", text), "a path of the machine that it ran on"
    assert "True" in json.dumps(outputs), "it prints no check"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_nbval_does_not_compare_is_held_by_a_check(path):
    """Timings and figures differ between runs; what matters in them is asserted, there or in a cell that follows."""
    cells = code_cells(path)
    for i, cell in enumerate(cells):
        ignored = "nbval-ignore-output" in cell["metadata"].get("tags", [])
        if ignored and any(output["output_type"] == "stream" for output in cell["outputs"]):
            assert any(checks(later) for later in cells[i:]), "".join(cell["source"])


def checks(cell):
    compared = "nbval-ignore-output" not in cell["metadata"].get("tags", [])
    return re.search(r"\bassert\b", "".join(cell["source"])) or (compared and "True" in json.dumps(cell["outputs"]))


def page_cells(path):
    """The executed code of a page, without the options of its cells."""
    cells = re.findall(r"^```\{code-cell\}[^\n]*\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL)
    options = re.compile(r"\A(?:---\n(?s:.*?)\n---\n|(?::.*\n(?:[ ]+.*\n)*)*)")
    return [options.sub("", cell) for cell in cells]


def imported(source):
    """The modules that code imports, in the order of the lines."""
    lines = [line for line in source.splitlines() if not line.startswith(("%", "!"))]
    nodes = [n for n in ast.walk(ast.parse("\n".join(lines))) if isinstance(n, (ast.Import, ast.ImportFrom))]
    for node in sorted(nodes, key=lambda node: node.lineno):
        yield from [node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]


@pytest.mark.parametrize("path", [*NOTEBOOKS, *PAGES], ids=lambda path: path.stem)
def test_tensorflow_comes_by_the_package(path):
    """`tfguide.tensorflow` imports it so that PyTorch works beside it, and without its greetings on stderr."""
    if path.suffix == ".md":
        cells = page_cells(path)
    else:
        cells = ["".join(cell["source"]) for cell in code_cells(path)]
    names = [name for cell in cells for name in imported(cell)]
    bare = [i for i, name in enumerate(names) if name.split(".")[0] in ("tensorflow", "keras", "keras_hub")]
    if bare:
        assert "tfguide.tensorflow" in names[: bare[0]], f"{names[bare[0]]} is imported before tfguide.tensorflow"


def test_the_rule_reads_what_pages_and_notebooks_import():
    everything = [name for path in PAGES for cell in page_cells(path) for name in imported(cell)]
    assert {"torch", "tfguide.torch", "tfguide.tensorflow", "numpy"} <= set(everything)


def test_every_page_and_notebook_is_in_the_table_of_contents():
    listed = set(re.findall(r"(?:file|root): (\S+)", (ROOT / "_toc.yml").read_text()))
    assert listed == {str(page.relative_to(ROOT).with_suffix("")) for page in [*NOTEBOOKS, *PAGES]}
