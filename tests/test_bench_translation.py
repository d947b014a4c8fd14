"""What is measured of the translator: scores by group, two searches, and the variants of one small model."""

import json

import pytest

import tfguide
from tests.support import FRAMEWORKS, load
from tfguide.tasks import translator
from tfguide.tasks.translation import Vocabulary, pairs

pytest.importorskip("sacrebleu", reason="the tasks extra is not installed")

from tfguide.bench import translation


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A model with random weights and its draft, as folders with a vocabulary."""
    words = Vocabulary.of([*pairs(400), *translator.held_out(200)])
    folder = tmp_path_factory.mktemp("models")
    for name, config in (
        ("model", translator.draft_config(len(words))),
        ("draft", translator.draft_config(len(words))),
    ):
        package = load("torch")
        package.save_checkpoint(package.from_weights(config, tfguide.init_weights(config)), folder / name)
    (folder / "model" / translator.VOCABULARY).write_text(words.to_json(), encoding="utf-8")
    return folder / "model", folder / "draft"


def test_scores_have_a_share_for_each_group_and_wrong_ones_are_kept():
    wanted = translator.held_out(40)
    given = [pair.target for pair in wanted]
    assert translation.scores_of(given, wanted)["BLEU"] == pytest.approx(100)
    first = next(i for i, pair in enumerate(wanted) if pair.kind == "time")
    given[first] = "noon"
    scores = translation.scores_of(given, wanted)
    assert set(scores) == {"exact match", "number", "unseen length", "date", "time", "BLEU"}
    assert (
        scores["exact match"] == 39 / 40 and scores["time"] == 4 / 5 and scores["date"] == scores["unseen length"] == 1
    )
    assert translation.wrong(given, wanted) == [
        {"source": wanted[first].source, "translation": "noon", "wanted": wanted[first].target}
    ]


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_the_result_has_both_searches_and_each_variant(name, folders, tmp_path, capsys):
    file = tmp_path / "result.json"
    sizes = ["--pairs", "8", "--examples", "3", "--timed", "1", "--repeats", "1"]
    command = ["--json", str(file), "--framework", name, "--folder", str(folders[0]), "--draft", str(folders[1])]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(translation, "KNOWN", 50)
        patch.setattr(translator, "LONGEST", 4)
        assert translation.main([*command, *sizes]) == 0
    result = json.loads(file.read_text())
    assert list(result["searches"]) == [name] and list(result["searches"][name]) == ["greedy", "4 beams"]
    assert result["searches"][name]["greedy"]["ratio"] == 1 and result["nearest"]["known"] == 50
    rows = {row["variant"]: row for row in result["rows"]}
    assert list(rows) == ["float32", "bfloat16", "int8", "int4", "pruned", "speculative"]
    sizes = {variant: row["n_bytes"] for variant, row in rows.items()}
    assert sizes["int4"] < sizes["int8"] < sizes["bfloat16"] < sizes["float32"] < sizes["speculative"]
    assert rows["speculative"]["scores"] == rows["float32"]["scores"]
    assert "speculative" in capsys.readouterr().out
