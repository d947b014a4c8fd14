"""What a result says of its origin, which pages read it, and what differs from the pinned versions."""

import json

import pytest

pytest.importorskip("IPython")

from tfguide.figures import results

MACHINE = {"processor": "CPU X", "cores": 3, "python": "3.12.1", "versions": {"torch": "2.7.0+cpu", "Num.py": "2.1"}}


@pytest.fixture
def root(tmp_path):
    """A repository with two results and a model, two pages, pins and commands."""
    folder = tmp_path / "book/appendices/benchmarks/small"
    folder.mkdir(parents=True)
    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").write_text("{}")
    (folder / "one.json").write_text(json.dumps({"machine": MACHINE | {"level": "AVX7"}}))
    (folder / "two.json").write_text(json.dumps([1]))
    (tmp_path / "book/06d_page.md").write_text('read(BENCHMARKS / "small/one.json")')
    (tmp_path / "book/11_other.md").write_text('```\nread_results("small")\n```')
    (tmp_path / "constraints.txt").write_text("# pins\ntorch==2.7.0\nNum_py==2.2\n")
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nname = "p"\ndependencies = ["num-py>=2"]\n'
        '[project.optional-dependencies]\na = ["p[b]", "torch>=2.6,<3"]\nb = ["exact==1.5"]\n'
    )
    (tmp_path / "book/appendices/commands.toml").write_text(
        '[["Part <1>"]]\ncommands = ["make it"]\nfiles = ["book/appendices/benchmarks/small", "model"]\n'
        '[["Hand"]]\nhow = "typed"\nfiles = ["pyproject.toml"]\n'
    )
    return tmp_path


def test_commands_are_read_with_their_parts(root):
    one, two = results.read_made(root)
    assert (one.part, one.commands, one.how) == ("Part <1>", ("make it",), "")
    assert (two.part, two.commands, two.how) == ("Hand", (), "typed")
    (root / "book/appendices/commands.toml").write_text('[["a"]]\ncommands = []\n')
    with pytest.raises(KeyError):
        results.read_made(root)


def test_a_result_names_its_machine_and_versions():
    source = results.source_of({"machine": MACHINE})
    assert source == results.Source("CPU X, 3 cores", "3.12.1", (("torch", "2.7.0+cpu"), ("Num.py", "2.1")))
    trained = {"versions": {"Python": "3.11", "tfguide": "0", "torch": "2.7", "kernels": "AVX7", "machine": "x86"}}
    assert results.source_of(trained) == results.Source("x86, AVX7", "3.11", (("torch", "2.7"),))
    assert results.source_of([1]) == results.source_of({}) == results.Source()


def test_pins_and_what_differs(root):
    pins = results.read_pins(root)
    assert pins == {"torch": "2.7.0", "num-py": "2.2", "exact": "1.5"}
    assert results.differing(results.source_of({"machine": MACHINE}), pins) == ["Num.py 2.1"]


@pytest.mark.parametrize(
    ("text", "is_read"),
    [
        ('x / "small/one.json"', True),
        ('x / "small" / "one.json"', True),
        ('f"small/{name}.json" for name in ("one", "two")', True),
        ('f"small/{name}.json" for name in ("three",)', False),
        ('"small" glob(f"on_{x}*.json")', False),
        ('x / "large/one.json"', False),
        ('x / "small/none.json"', False),
        ('```\nread_results("small")\n```', True),
        ('```\nread_results("large")\n```\n```\n"small"\n```', False),
    ],
)
def test_a_page_reads_what_its_code_names(text, is_read):
    assert results.readers("book/appendices/benchmarks/small/one.json", {"page": text}) == ["page"] * is_read


def test_a_prefix_names_the_files_that_begin_with_it():
    text = '(x / "small").glob(f"peers_{task}*.json")'
    assert results.readers("benchmarks/small/peers_a.json", {"page": text}) == ["page"]
    assert results.readers("benchmarks/small/others_a.json", {"page": text}) == []
    text = 'f"appendices/training_{name}.json" for name in ("a", "b")'
    assert results.readers("book/appendices/training_a.json", {"page": text}) == ["page"]
    assert results.readers("book/appendices/training_c.json", {"page": text}) == []


@pytest.mark.parametrize(
    ("page", "name"), [("06d_tiles", "6.4"), ("09_trends", "9"), ("06l_many_devices", "6.12"), ("use_it", "use it")]
)
def test_a_page_is_called_by_its_number(page, name):
    assert results.section_of(page) == name


def test_the_tables_show_each_file_machine_and_version(root):
    made = results.read_made(root)
    assert [path for path, _ in results.sources(root, made)] == [
        "book/appendices/benchmarks/small/one.json",
        "book/appendices/benchmarks/small/two.json",
        "model",
        "pyproject.toml",
    ]
    shown = results.results_table(root, made).data
    line = "<td><code>benchmarks/small/one.json</code></td><td>6.4, 11</td>"
    assert f"{line}<td>CPU X, 3 cores, AVX7<br><small>Python 3.12.1, Num.py 2.1</small></td>" in shown
    assert (
        '<th colspan="3">Part &lt;1&gt;</th>' in shown
        and "<code>make it</code>" in shown
        and "typed" in shown
        and "<code>model</code>" in shown
    )
    assert "<td>CPU X, 3 cores, AVX7</td>" in results.machines_table(root, made).data
    versions = results.versions_table(root, made).data
    assert "<td>num-py</td><td>2.2</td><td>&gt;=2</td><td>2.1</td>" in versions
    assert "<td>exact</td><td>1.5</td><td>==1.5</td><td></td>" in versions and "<td>p</td>" not in versions
