"""Section 6.13 shows what was measured: the way down, the peers, and the parts of a step."""

import itertools
import json

import pytest

plt = pytest.importorskip("matplotlib.pyplot")
pytest.importorskip("IPython")

from tests.test_figures_tables import APPENDICES, texts  # noqa: E402  (after the checks for the packages)
from tfguide import ModelConfig, cost  # noqa: E402
from tfguide.bench import gap, predict  # noqa: E402
from tfguide.bench.models import bytes_read  # noqa: E402
from tfguide.figures import together  # noqa: E402

SMOLLM = APPENDICES / "benchmarks" / "smollm2"


@pytest.fixture(scope="module")
def measured():
    return json.loads((SMOLLM / "waterfall.json").read_text())


@pytest.fixture(scope="module")
def decoding():
    return [json.loads(file.read_text()) for file in sorted(SMOLLM.glob("peers_decode_*.json"))]


def test_every_rung_is_a_bar_with_the_time_of_its_bytes(measured):
    rows = measured["rows"]
    assert {row["framework"] for row in rows} == {"torch", "tensorflow"}
    figure = together.waterfall(measured)
    ax = figure.axes[0]
    assert [bar.get_width() for bar in ax.patches] == pytest.approx([1e3 * row["seconds"] for row in rows])
    marks = [line.get_xdata()[0] for line in ax.lines]
    assert marks == pytest.approx([1e3 * row["seconds"] / row["over_bytes"] for row in rows])
    plt.close(figure)
    shown = texts(together.waterfall_table(measured))[1:]
    assert [line[1] for line in shown] == [f"{1e3 * row['seconds']:.2f}" for row in rows]
    assert shown[0][2].startswith("1.0") and shown[0][0] == "no cache, PyTorch"


def test_the_page_says_what_the_way_down_shows(measured):
    rows = {(row["name"], row["framework"]): row for row in measured["rows"]}
    for one in ("torch", "tensorflow"):
        assert rows["no cache", one]["seconds"] > 2 * rows["a cache", one]["seconds"]
    assert rows["no cache", "torch"]["seconds"] / rows["a cache", "torch"]["seconds"] == max(
        before["seconds"] / after["seconds"]
        for before, after in itertools.pairwise(row for row in measured["rows"] if row["framework"] == "torch")
    )
    compiled = json.loads((SMOLLM / "compilation.json").read_text())["rows"]
    plain = next(row for row in compiled if (row["framework"], row["model"]) == ("torch", "SmolLM2"))
    assert 1700 < plain["operations"] < 2000  # nearly two thousand
    again = cost.prefill_flops(ModelConfig.from_dict(measured["config"]), 257) / measured["limits"]["float32_flops"]
    reading = bytes_read(ModelConfig.from_dict(measured["config"]), "float32", 0)
    assert 20 < again * measured["limits"]["read_bytes_per_second"] / reading < 30
    kernels = rows["all threads", "torch"]
    assert kernels["seconds"] < rows["a cache", "torch"]["seconds"]
    assert kernels["seconds"] > rows["int8", "torch"]["seconds"] > rows["int4", "torch"]["seconds"]
    for row in measured["rows"]:
        if row["dtype"] == "float32":
            assert row["same_tokens"] == len(row["tokens"]) and row["difference"] < 1e-4


def test_the_parts_of_a_step_fill_its_bar(measured):
    rows = measured["gap"]
    figure = together.gap_bars(rows)
    shares = [bar.get_width() for bar in figure.axes[0].patches]
    assert len(shares) == len(rows) * len(together.GROUPS)
    assert sorted(name for names in together.GROUPS.values() for name in names) == sorted(gap.PARTS)
    plt.close(figure)
    config = ModelConfig.from_dict(measured["config"])
    for k, row in enumerate(rows):
        assert sum(row["parts"].values()) == pytest.approx(row["seconds"])
        own = shares[k * len(together.GROUPS) : (k + 1) * len(together.GROUPS)]
        assert own[0] == pytest.approx((row["parts"]["weights"] + row["parts"]["head"]) / row["seconds"])
        reading = bytes_read(config, row["dtype"], row["context"]) / row["read_bytes_per_second"]
        assert together.reading_share(row) == pytest.approx(reading / row["seconds"], rel=0.01)
    shown = texts(together.gap_table(rows))
    assert len(shown) == 2 + len(gap.PARTS) and shown[-1][1] == f"{1e3 * rows[0]['seconds']:.2f}"


def test_the_way_down_is_counted_by_the_package():
    config = ModelConfig.from_preset("llama-3-8b")
    frames = together.descent(config, 99, 1e11, 1e12)
    values = [[row.cells[0].text for row in frame.rows] for frame in frames]
    assert [line[0] for line in values] == ["100"] + ["1"] * 5
    again = cost.prefill_flops(config, 100) + 2 * 4096 * 128256 * 99
    assert values[0][1] == f"{again / 1e9:,.2f} GFLOP" and values[0][3] == f"{again / 1e9:,.1f} ms"
    assert values[0][2] == f"{bytes_read(config, 'float32', 0) / 1e6:,.0f} MB"
    assert values[4][2] == f"{bytes_read(config, 'int8', 100) / 1e6:,.0f} MB"
    assert values[1] == values[2] and not any(row.cells[0].state for row in frames[2].rows)
    assert [frame.rows[-1].cells[1].text for frame in frames] == ["products"] + ["reading"] * 5


def test_ratios_and_equal_tokens_are_those_of_the_files(decoding):
    assert decoding
    found = together.equal_tokens(decoding)
    assert found["float32", "Hugging Face"][0] == found["float32", "Hugging Face"][1]
    names = {row["name"] for result in decoding for row in result["rows"] if "error" not in row}
    assert {"tfguide", "Hugging Face", "KerasHub", "llama.cpp"} <= names
    results = [
        {"task": "decode", "size": "S", "rows": [
            {"name": "tfguide", "framework": "torch", "dtype": "int8", "share_of_bandwidth": share, "ratio": 1.0},
            {"name": "llama.cpp", "framework": "torch", "dtype": "int8", "share_of_bandwidth": 0.4, "ratio": ratio},
            {"name": "Hugging Face", "framework": "torch", "dtype": "int8", "error": "none"},
        ]}
        for share, ratio in ((0.8, 2.0), (0.9, 0.5))
    ]  # fmt: skip
    assert texts(together.ratios_table(results)) == [
        ["model, weights", "llama.cpp", "of the limit"],
        ["S, 8 bits", "0.50\u00a0x to 2.00\u00a0x", "80% to 90%"],
    ]
    assert together.mean_ratio(results, "llama.cpp") == pytest.approx(1.0)


def test_models_s_and_m_stand_in_the_table():
    results = predict.read_results(APPENDICES / "benchmarks" / "epyc")
    lines = texts(together.ratios_table(results))
    assert [line[0] for line in lines[1:]] == [
        f"{size}, {kind}" for size in "SM" for kind in ("float32", "bfloat16", "float16", "8 bits", "4 bits")
    ]
