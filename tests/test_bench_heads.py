"""`tfguide bench heads`: steps and caches of one model with fewer and fewer key/value heads."""

import json

import pytest

from tests.support import FRAMEWORKS
from tfguide import cost
from tfguide.bench.models import SMALL, bytes_read
from tfguide.cli import main


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_row_for_each_number_of_heads_and_each_length(name, small_limits, tmp_path, monkeypatch, capsys):
    from tfguide.bench import models

    small = SMALL.replace(d_model=96, n_layers=2, d_ff=64, vocab_size=67, n_heads=6, n_kv_heads=3, d_head=32)
    monkeypatch.setitem(models.MODELS, "S", small)
    file = tmp_path / "heads.json"
    command = f"bench heads --framework {name} --kv-heads 6 1 --lengths 11 5 --new-tokens 2 --repeats 2 --json {file}"
    assert main(command.split()) == 0
    result = json.loads(file.read_text())
    assert [(row["prompt"], row["n_kv_heads"]) for row in result["rows"]] == [(5, 6), (5, 1), (11, 6), (11, 1)]
    for row in result["rows"]:
        config = small.replace(n_kv_heads=row["n_kv_heads"])
        assert row["bytes"] == bytes_read(config, "int8", row["prompt"] + 1)
        assert row["cache_bytes"] == cost.kv_bytes(config, 1, 13, "float16")
        assert row["seconds"] > 0 and row["over_bytes"] > 0
    assert len(capsys.readouterr().out.splitlines()) == 3 + 4
    assert main(["bench", "heads", "--kv-heads", "5"]) == 2
    assert "n_kv_heads" in capsys.readouterr().err
