"""Tables of the book: what is put in is shown as text, rows fill their columns, and commands show what they print."""

import json
import re
from pathlib import Path

import pytest

pytest.importorskip("IPython")
pytest.importorskip("matplotlib")

from tfguide.bench import predict
from tfguide.figures import algorithms, benchmarks, conformance, quality, tables, terminal
from tfguide.figures.tables import Cell

APPENDICES = Path(__file__).parents[1] / "book" / "appendices"


def lines(html):
    """The rows of a table, each a list of (tag, attributes, content)."""
    found = re.findall(r"<tr>(.*?)</tr>", html.data)
    return [re.findall(r"<(t[hd])([^>]*)>(.*?)</\1>", row) for row in found]


def texts(html):
    return [[content for _, _, content in row] for row in lines(html)]


def test_a_table_has_its_heads_in_a_head_and_its_rows_below():
    shown = tables.table(("speed", "model"), [(3, "S"), (1.5, "M")])
    assert shown.data == (
        '<div class="pst-scrollable-table-container"><table class="table">'
        "<thead><tr><th>speed</th><th>model</th></tr></thead>"
        "<tbody><tr><td>3</td><td>S</td></tr><tr><td>1.5</td><td>M</td></tr></tbody></table></div>"
    )


@pytest.mark.parametrize("cell", ["<b>", Cell("<b>"), Cell("<b>", is_code=True), Cell("<b>", is_head=True)])
def test_what_is_put_in_is_text(cell):
    shown = tables.table((cell,), [(cell,)], above=(cell,)).data
    assert "<b>" not in shown and shown.count("&lt;b&gt;") == 3
    assert "<i>" not in tables.table(("a",), [(Cell("x & y", below="<i>"),)]).data
    assert "<b>" not in tables.grouped_table(("a",), [("<b>", ("1",))]).data
    assert "<b>" not in tables.heading("<b>").data


def test_a_cell_can_span_be_code_and_have_a_second_line():
    head, one, two = lines(
        tables.table("abc", [(Cell("x", columns=2), 1), (Cell("f", is_code=True), Cell(2, "two"), 3)])
    )
    assert [tag for tag, _, _ in head] == ["th"] * 3
    assert one == [("td", ' colspan="2"', "x"), ("td", "", "1")]
    assert two == [("td", "", "<code>f</code>"), ("td", "", "2<br><small>two</small>"), ("td", "", "3")]


@pytest.mark.parametrize("row", [(1, 2), (1, 2, 3, 4), (1, Cell(2, columns=3))])
def test_a_row_that_does_not_fill_the_columns_is_refused(row):
    with pytest.raises(ValueError, match=r"3 columns was expected, got [24]"):
        tables.table("abc", [row])
    with pytest.raises(ValueError, match="3 columns"):
        tables.table("abc", [], above=row)


def test_numbers_stand_right_but_for_the_first_column():
    for row in lines(tables.table("abc", [(1, 2, 3)], numbers=True)):
        assert ["right" in look for _, look, _ in row] == [False, True, True]


def test_a_group_has_its_name_once_over_its_rows():
    shown = lines(tables.grouped_table("ab", [("one", (1, 2)), ("one", (3, 4)), ("two", (5, 6))]))
    groups = [row[0] for row in shown if len(row) == 1]
    assert groups == [("th", ' colspan="2"', "one"), ("th", ' colspan="2"', "two")]
    assert [len(row) for row in shown] == [2, 1, 2, 2, 1, 2]


def test_the_differences_of_the_table_are_those_of_the_file():
    rows = json.loads((APPENDICES / "conformance" / "models.json").read_text())
    above, head, *body = texts(conformance.differences_table(rows, "positions", "kind"))
    assert above == ["positions", "PyTorch", "TensorFlow"]
    assert {row[0] for row in body} == {str(row["positions"]) for row in rows}
    kinds = head[1 : len(head) // 2 + 1]
    for row in body:
        for place, value in enumerate(row[1:]):
            wanted = row[0], ("torch", "tensorflow")[place // len(kinds)], kinds[place % len(kinds)]
            mine = [
                one["largest_difference"]
                for one in rows
                if (str(one["positions"]), one["framework"], one["kind"]) == wanted
            ]
            assert value == f"{1e6 * max(mine):.1f}"
    heads, *_ = texts(conformance.differences_table(rows, "kv_heads"))
    assert heads == ["kv heads", "PyTorch", "TensorFlow"]


def test_each_part_of_a_model_has_its_line():
    rows = json.loads((APPENDICES / "conformance" / "models.json").read_text())
    body = [row for row in texts(conformance.parts_table(rows))[1:] if len(row) > 1]
    assert sorted(row[0] for row in body) == sorted({part for row in rows for part in row["parts"]})
    for part, torch, tensorflow, models in body:
        some = [row for row in rows if part in row["parts"]]
        assert int(models) == len({tuple(map(str, row.values()))[:5] for row in some}) > 0
        for name, shown in (("torch", torch), ("tensorflow", tensorflow)):
            assert shown == f"{1e6 * conformance.worst(some, framework=name):.1f}"


def test_each_optimisation_has_what_was_measured():
    folder = APPENDICES / "conformance"
    rows = [row for file in ("optimisations", "compiled") for row in json.loads((folder / f"{file}.json").read_text())]
    body = [row for row in texts(conformance.optimisations_table(rows))[1:] if len(row) > 1]
    assert len(body) == len({(row["group"], row["name"]) for row in rows}) > 25
    shown = {cells[0].partition("<br>")[0]: cells for cells in body}
    assert shown["speculative, greedy"][1:5] == ["", "equal", "equal", "equal tokens"]
    for row in rows:
        place = ("reference", "torch", "tensorflow").index(row["implementation"]) + 1
        cell = shown[row["name"]][place]
        if row["unit"] == "":
            assert cell == (f"{row['measured']:.1e}" if row["measured"] else "0")
        elif row["unit"] == "bound":
            assert cell == f"{100 * row['measured']:.0f}% of it" and shown[row["name"]][4] == "its bound"
    changed = [row | dict(measured=3.0) if row["unit"] == "tokens" else row for row in rows]
    assert conformance.optimisations_table(changed).data.count("3 differ") == 2 * len(
        {row["name"] for row in rows if row["unit"] == "tokens"}
    )


def test_each_family_has_its_largest_differences():
    folder = APPENDICES / "conformance"
    folders, files, written = (
        json.loads((folder / f"{name}.json").read_text()) for name in ("folders", "gguf", "gguf_written")
    )
    body = texts(conformance.families_table(folders, files, written))[2:]
    assert [row[0] for row in body] == [f"<code>{name}</code>" for name in dict.fromkeys(r["family"] for r in folders)]
    for family, torch, tensorflow, name, *others in body:
        for rows, cells in ((folders, (torch, tensorflow)), (files, others)):
            for framework, cell in zip(("torch", "tensorflow"), cells, strict=True):
                own = [
                    row["difference"]
                    for row in rows
                    if f"<code>{row['family']}</code>" == family and row["framework"] == framework
                ]
                assert cell == (f"{1e6 * max(own):.2g}" if own else "")
        assert bool(name) == bool(others[0]) and ("read, written" in name) == bool(name)
    lines = texts(conformance.families_table(folders, files, []))
    assert not any("written" in cell for line in lines for cell in line)


@pytest.mark.parametrize("machine", ["epyc", "xeon", "zen5", "zen5_avx2"])
def test_the_table_and_the_bars_of_the_benchmark_show_the_same_rows(machine):
    results = predict.read_results(APPENDICES / "benchmarks" / machine)
    rows = [row for result in results if result["task"] == "decode" for row in result["rows"]]
    shown = [row for row in lines(benchmarks.results_table(results, "decode"))[1:] if len(row) > 1]
    assert len(shown) == len(rows)
    failed = [row for row in shown if "colspan" in row[0][1]]
    assert len(failed) == sum("error" in row for row in rows)
    bars = [
        value for size in ("S", "M") for some in benchmarks.decoding_by_type(results, size).values()
        for _, value, _ in some
    ]  # fmt: skip
    speeds = [row[0][2] for row in shown if "colspan" not in row[0][1]]
    assert sorted(speeds) == sorted(f"{value:.1f}" for value in bars) and bars


def test_the_shares_of_the_steps_sum_to_one():
    head, *body = texts(algorithms.steps_table([("one", 300.0, 2.0, 4.0), ("two", 100.0, 1.0, 1.0)]))
    assert body[0][:4] == ["one", "75.0%", "75.0%", "50.0"]
    assert body[-1][:4] == ["all", "100.0%", "100.0%", "50.0"]
    assert len(head) == len(body[0])


def test_a_command_shows_what_it_prints(capsys):
    shown = terminal.tfguide("chips", ["h100", "a100"])
    assert len(shown) == 2
    assert capsys.readouterr().out.splitlines() == shown
    assert terminal.tfguide("chips", 1) == terminal.tfguide("chips")[:1]


def test_a_command_that_fails_is_an_error_unless_it_may(capsys):
    command = "plan --model llama-3-70b --chip h100 --chips 1 --context 4096 --weights bf16"
    with pytest.raises(RuntimeError, match="status 2"):
        terminal.tfguide(command)
    [message] = terminal.tfguide(command, may_fail=True)
    assert message.startswith("tfguide: ")


def test_a_command_reads_what_is_typed(tmp_path):
    """Its messages stand where they came."""
    [message] = terminal.tfguide(f"chat --checkpoint {tmp_path}", typed=["a"], may_fail=True)
    assert message.startswith("tfguide: no tokenizer.json in")
    with pytest.raises(RuntimeError, match=r"status 2:\ntfguide: no tokenizer\.json in"):
        terminal.tfguide(f"chat --checkpoint {tmp_path}", typed=["a"])


def test_the_instructions_are_counted_for_each_multiply_add():
    found = json.loads((APPENDICES / "benchmarks" / "arm_instructions.json").read_text(encoding="utf-8"))
    head, *rows = texts(benchmarks.instructions_table(found))
    assert head == ["weights", "tfguide, 1 row", "llama.cpp, 1 row", "tfguide, 16 rows", "llama.cpp, 16 rows"]
    shown = [value for row in rows if len(row) > 1 for value in row[1:]]
    want = [row[who] / (row["rows"] * 768 * 768) for row in found["rows"] for who in ("tfguide", "llama.cpp")]
    assert shown == [f"{value:.3f}" for value in want] and len({row["level"] for row in found["rows"]}) == 3
    assert [row[0] for row in rows[1:6]] == ["float32", "bfloat16", "float16", "8 bits", "4 bits"]


def test_the_table_of_quantisation_shows_what_was_measured():
    found = json.loads((APPENDICES / "benchmarks" / "smollm2" / "quantization.json").read_text(encoding="utf-8"))
    shown = [row for row in texts(quality.quantization_table(found))[1:] if len(row) > 1]
    assert len(shown) == len(found["rows"]) >= 8
    exact = found["rows"][0]
    assert exact["weights"] == "float32" and shown[0][:3] == [f"{exact['perplexity']:.2f}", "+0.00%", "32.00"]
    for row, cells in zip(found["rows"], shown, strict=True):
        assert cells[0] == f"{row['perplexity']:.2f}" and cells[-1].startswith(row["weights"])
        above = float(cells[1].replace("\u2212", "-").rstrip("%"))
        assert above == pytest.approx(100 * (row["perplexity"] / exact["perplexity"] - 1), abs=0.006)
    failed = {"rows": [exact, {"name": "llama.cpp", "weights": "F16", "error": "it <is> not"}]}
    assert texts(quality.quantization_table(failed))[-1] == ["it &lt;is&gt; not", "F16"]


def test_the_table_of_vectors_shows_what_was_measured():
    found = json.loads((APPENDICES / "benchmarks" / "minilm" / "quantization.json").read_text(encoding="utf-8"))
    _, *shown = texts(quality.vectors_table(found))
    want = [[f"{row['cosine']:.4f}", f"{row['least_cosine']:.4f}", f"{row['bits']:.2f}"] for row in found["rows"]]
    assert [cells[:3] for cells in shown] == want
    assert [cells[-1] for cells in shown] == [row["weights"] for row in found["rows"]] and len(shown) >= 8


def test_the_table_of_load_times_shows_what_was_measured():
    found = json.loads((APPENDICES / "benchmarks" / "smollm2" / "load.json").read_text(encoding="utf-8"))
    head, *shown = texts(quality.load_table(found))
    assert head[:3] == ["first token, s", "memory, MB", "128 tokens, s"]
    names = {"none": "tfguide, no framework", "torch": "tfguide, PyTorch", "tensorflow": "tfguide, TensorFlow"}
    for row, cells in zip(found["rows"], shown, strict=True):
        assert cells[0].startswith(f"{row.get('command', row['first']):.2f}") and cells[-1] == names.get(
            row["framework"], row["name"]
        )
        assert cells[1] == f"{row['peak_bytes'] / 1e6:,.0f}"
    failed = found | {"rows": [*found["rows"], {"name": "llama.cpp", "framework": "", "error": "it is not"}]}
    assert texts(quality.load_table(failed))[-1] == ["it is not", "llama.cpp"]
    assert quality.about(found).startswith("SmolLM2-135M-Instruct")
