"""The timing of both forms of latent attention: a row for each number of positions, and the forms agree."""

import importlib
import json
import re
from pathlib import Path

import pytest

from tests.support import FRAMEWORKS, load
from tfguide import LatentAttention
from tfguide.bench.latent import main, measure_forms, table

MEASURED = Path(__file__).parents[1] / "book" / "appendices" / "benchmarks" / "latent.json"

LATENT = LatentAttention(kv_rank=64, d_nope=16, d_rope=8, d_value=24)


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_rows_of_both_forms(name):
    framework = importlib.import_module(name)
    as_tensor = framework.from_numpy if name == "torch" else framework.convert_to_tensor
    rows = measure_forms(load(name), as_tensor, LATENT, 8, (5, 1009), (1, 5), 3)
    assert [(row["n_queries"], row["n_keys"]) for row in rows] == [(1, 5), (1, 1009), (5, 5), (5, 1009)]
    assert all(row["difference"] < 1e-4 for row in rows)
    assert [row["absorbs"] for row in rows] == [True, True, False, True]
    assert all(row["made_seconds"] > 0 and row["absorbed_seconds"] > 0 and row["speed"] > 0 for row in rows)
    assert [line.split()[-1] for line in table(rows).splitlines()[1:]] == ["absorbed", "absorbed", "made", "absorbed"]
    with pytest.raises(ValueError, match="n_keys must be at least 5, got 3"):
        measure_forms(load(name), as_tensor, LATENT, 8, (3,), (5,))


def test_the_command_writes_what_the_figure_reads(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    from tfguide.figures import latent

    arguments = ["--framework", "torch", "--keys", "5", "--queries", "1", "5", "--repeats", "1", "--json"]
    assert main([*arguments, str(tmp_path / "latent.json")]) == 0
    assert "absorbed" in capsys.readouterr().out
    found = json.loads((tmp_path / "latent.json").read_text())
    assert [(row["framework"], row["n_queries"], row["n_keys"]) for row in found["rows"]] == [
        ("torch", 1, 5), ("torch", 5, 5)
    ]  # fmt: skip
    assert found.keys() == json.loads(MEASURED.read_text()).keys()
    assert "absorbed is" in latent.forms_table(found).data


def test_the_figure_and_the_table_show_what_was_measured():
    plt = pytest.importorskip("matplotlib.pyplot")
    from tfguide.figures import latent

    found = json.loads(MEASURED.read_text())
    figure = latent.forms(found)
    axes = figure.axes[0]
    curves = {line.get_label(): line.get_xydata().tolist() for line in axes.lines if "," in line.get_label()}
    assert sum(map(len, curves.values())) == len(found["rows"]) > 10
    for row in found["rows"]:
        name = f"{latent.FRAMEWORKS[row['framework']]}, {row['n_keys']:,} visible"
        assert [row["n_queries"], row["speed"]] in curves[name]
    sizes = LatentAttention(**found["latent"])
    at = latent.crossing(sizes)
    assert [at, at] in [list(line.get_xdata()) for line in axes.lines]
    assert sizes.absorbs(int(at), 4096) and not sizes.absorbs(int(at) + 1, 4096)
    assert latent.crossing(LatentAttention(kv_rank=3, d_nope=5, d_rope=2, d_value=7)) == float("inf")
    plt.close(figure)
    shown = re.findall(r"<tr><td>([\d.]+)\u00a0x</td><td>([\d,]+)</td><td>([\d,]+)</td><td>(\w+)</td>",
                       latent.forms_table(found).data)  # fmt: skip
    want = [
        (f"{row['speed']:.2f}", *(f"{1e3 * row[f'{form}_seconds']:,.0f}" for form in ("absorbed", "made")),
         "absorbed" if row["absorbs"] else "made")
        for row in found["rows"]
    ]  # fmt: skip
    assert shown == want
