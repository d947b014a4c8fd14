"""`tfguide plan`, `models` and `chips`: what they print is what the cost model says, and mistakes are explained."""

import json

import pytest

from tfguide import PRESETS, ModelConfig, cost
from tfguide.cli import main
from tfguide.cli.plan import parse_sweep

PLAN = ["plan", "--model", "llama-3-70b", "--chip", "h100", "--batch", "32", "--context", "8192", "--weights", "int8"]
MISTRAL = dict(
    hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32, num_key_value_heads=8,
    vocab_size=32000,
)  # fmt: skip


def report(capsys, *arguments):
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_plan_is_that_of_the_cost_model(capsys):
    got = report(capsys, *PLAN)
    want = cost.plan(ModelConfig.from_preset("llama-3-70b"), "h100", 32, 8192, weights="int8")
    assert (got["chips"], got["layout"], got["attention"]) == (want.chips, want.decode.layout, want.decode.attention)
    assert got["decode"]["serial_s"] == want.decode.serial_s
    assert got["prefill"]["roofline_s"] == want.prefill.roofline_s
    assert sum(got["memory_per_chip_bytes"].values()) == pytest.approx(80e9)
    used = cost.decode_flops(ModelConfig.from_preset("llama-3-70b"), 8192, 32)  # what is computed, so that no plan uses
    assert got["decode"]["mfu"] == used / (want.chips * 989.4e12 * want.decode.serial_s) < 1  # more than all of a chip
    assert got["prefill"]["mfu"] == want.prefill.utilization < 1
    longest = got["longest_context_tokens"]
    assert longest > 8192
    again = [*PLAN, "--chips", str(got["chips"]), "--attention", got["attention"]]
    again[8] = str(longest)
    assert report(capsys, *again)["chips"] == got["chips"]
    again[8] = str(longest + 1)
    assert main(again) == 2 and "is the least that weights and cache take" in capsys.readouterr().err


def test_the_table_shows_the_same_numbers(capsys):
    got = report(capsys, *PLAN)
    assert main(PLAN) == 0
    table = capsys.readouterr().out
    for number in (
        f"{1e3 * got['decode']['serial_s']:.3f} ms",
        f"{1e3 * got['prefill']['compute_s']:.1f} ms",
        f"{got['memory_per_chip_bytes']['kv_cache'] / 1e9:.2f} GB",
        f"{got['decode']['tokens_per_second']:,.0f}",
        f"{got['longest_context_tokens']:,} tokens",
    ):
        assert number in table
    assert max(map(len, table.splitlines())) <= 115


def test_a_context_beyond_the_model_is_noted(capsys):
    command = ["plan", "--model", "gpt2", "--chip", "h100", "--context"]
    assert main([*command, "1024"]) == 0 and "note" not in capsys.readouterr().out
    assert main([*command, "1025"]) == 0 and "note: the model is made for 1,024 positions" in capsys.readouterr().out


def test_types_have_two_names(capsys):
    names = ("float8", "fp8", "float8_e4m3fn", "F8_E4M3"), ("bfloat16", "bf16", "torch.bfloat16"), ("float4", "mxfp4")
    for same in names:
        for option in ("--weights", "--kv"):
            one, *others = (report(capsys, *PLAN, option, name) for name in same)
            assert one[option[2:]] == same[0] and all(other == one for other in others)


def test_experts_products_and_memory_are_options(capsys):
    plan = ["plan", "--model", "mixtral-8x7b", "--chip", "rtx-5090", "--batch", "3", "--context", "500"]
    more = ["--weights", "fp8", "--experts", "mxfp4", "--products", "fp8"]
    got = report(capsys, *plan, *more)
    config, chip = ModelConfig.from_preset("mixtral-8x7b"), cost.CHIPS["rtx-5090"]
    want = cost.plan(config, chip, 3, 500, weights="fp8", experts="mxfp4", products="fp8")
    assert got["decode"]["serial_s"] == want.decode.serial_s and got["experts_read"] == cost.experts_read(config, 3)
    assert main([*plan, *more]) == 0
    shown = capsys.readouterr().out
    assert "experts mxfp4, products float8" in shown and "reads 4.6 of the 8 experts of a layer" in shown
    assert report(capsys, *plan, *more, "--memory", "64")["memory_per_chip_bytes"]["free"] == pytest.approx(
        got["memory_per_chip_bytes"]["free"] + 32e9
    )
    assert main([*plan, *more, "--memory", "20", "--chips", "1"]) == 2
    assert "is the least that weights and cache take, and 18 GB are free" in capsys.readouterr().err


def test_a_chip_without_a_published_rate_is_planned_for_as_it_reads(capsys):
    plan = ["plan", "--model", "llama-3-8b", "--chip", "m4-max"]
    got = report(capsys, *plan)
    assert got["prefill"] is None and got["decode"]["compute_s"] is None and got["decode"]["mfu"] is None
    assert main(plan) == 0 and "arithmetic is not counted, and no prompt is planned" in capsys.readouterr().out


def test_the_types_of_the_cost_model_are_those_of_the_command(capsys):
    got = report(capsys, *PLAN[:-2])
    want = cost.plan(ModelConfig.from_preset("llama-3-70b"), "h100", 32, 8192)
    assert got["decode"]["serial_s"] == want.decode.serial_s and got["weights"] == got["kv"] == "bfloat16"


@pytest.mark.parametrize(
    "window",
    [dict(), dict(sliding_window=1024), dict(sliding_window=1024, use_sliding_window=True, max_window_layers=1)],
    ids=["none", "all layers", "some layers"],
)
@pytest.mark.parametrize("context", [500, 1024, 1025, 30_000])
def test_the_longest_context_is_not_below_the_planned_one(window, context, tmp_path, capsys):
    family = "qwen2" if "max_window_layers" in window else "mistral"
    keys = MISTRAL | {"model_type": family, "sliding_window": None} | window
    (tmp_path / "config.json").write_text(json.dumps(keys))
    plan = ["plan", "--model", str(tmp_path), "--chip", "h100", "--chips", "1", "--batch", "8", "--context"]
    longest = report(capsys, *plan, str(context))["longest_context_tokens"]
    if "sliding_window" in window and family == "mistral":
        assert longest is None
        assert main([*plan, str(context)]) == 0 and "fits for this batch: any" in capsys.readouterr().out
    else:
        assert longest >= context
        assert report(capsys, *plan, str(longest))["longest_context_tokens"] == longest
        assert main([*plan, str(longest + 1)]) == 2 and "is the least that weights" in capsys.readouterr().err


def test_a_sweep_goes_through_and_plots(capsys, tmp_path):
    file = tmp_path / "batch.svg"
    got = report(capsys, *PLAN, "--sweep", "batch=1..512", "--plot", str(file))
    batches = [one["batch"] for one in got]
    assert batches[0] == 1 and batches[-1] == 512 and batches == sorted(set(batches)) and len(batches) <= 40
    assert (
        got[0]["decode"]["serial_s"]
        == cost.plan(ModelConfig.from_preset("llama-3-70b"), "h100", 1, 8192, weights="int8").decode.serial_s
    )
    assert file.read_text().startswith("<?xml")
    assert main([*PLAN, "--sweep", "chips=1..8", "--plot", str(file)]) == 0
    assert "2 of 4 do not fit, first at chips 1" in capsys.readouterr().out


def test_sweeps():
    assert parse_sweep("chips=1..9") == ("chips", [1, 2, 4, 8])
    assert parse_sweep("context=3..3") == ("context", [3])
    for wrong in ("batch", "batch=1", "batch=5..1", "batch=0..4", "layers=1..2", "batch=a..b", "batch=-1..4"):
        with pytest.raises(ValueError, match="--sweep must be"):
            parse_sweep(wrong)


def test_everything_known_is_listed(capsys):
    assert list(report(capsys, "models")) == list(PRESETS)
    assert report(capsys, "models")["llama-3-8b"]["parameters"] == 8_030_261_248
    assert list(report(capsys, "chips")) == list(cost.CHIPS)
    for command, names in (("models", PRESETS), ("chips", cost.CHIPS)):
        assert main([command]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert [line.split()[0] for line in lines[1:]] == list(names)


WRONG = [
    (["--model", "lama-3-70b"], "did you mean 'llama-3-70b'"),
    (["--chip", "h10"], "did you mean 'h100'"),
    (["--batch", "0"], "batch must be at least 1"),
    (["--context", "-5"], "context must be at least 1"),
    (["--chips", "0"], "chips must be at least 1"),
    (["--weights", "fp7"], "dtype must be one of float32"),
    (["--kv", "int"], "did you mean 'int"),
    (["--latency-ms", "0.0001"], "no plan keeps a step within"),
    (["--model", "bert-base"], "kind='decoder'"),
    (["--sweep", "batch=9..1"], "--sweep must be"),
    (["--context", "100000000000"], "is the least that weights and cache take"),
]


@pytest.mark.parametrize("more, message", WRONG, ids=[message for _, message in WRONG])
def test_mistakes_are_explained(capsys, more, message):
    assert main([*PLAN, *more]) == 2
    captured = capsys.readouterr()
    assert message in captured.err and not captured.out


def test_a_chip_must_be_named(capsys):
    assert main(["plan", "--model", "gpt2"]) == 2
    assert "--chip is missing" in capsys.readouterr().err


@pytest.mark.parametrize("inside", ["", "config.json"])
def test_a_config_json_is_planned_for_as_its_preset(inside, tmp_path, capsys):
    (tmp_path / "config.json").write_text(json.dumps(MISTRAL | {"model_type": "mistral"}))
    chips = ["--chip", "h200", "--chips", "16", "--weights", "int8"]
    got, want = (report(capsys, "plan", "--model", str(model), *chips) for model in (tmp_path / inside, "mistral-7b"))
    assert got.pop("model") == str(tmp_path / inside) and want.pop("model") == "mistral-7b"
    assert got["decode"] == want["decode"] and got["parameters"] == want["parameters"]
