"""Steppers: the script shows the frames that Python wrote, and what these say is what the package does."""

import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("IPython")
pytest.importorskip("matplotlib")

from tests.book.chromium import serving
from tests.support import numpy, random_weights, small_config
from tfguide import ModelConfig, compress, cost
from tfguide import reference as ref
from tfguide.figures import batching, caching, ceiling, decoding, quantised, style, tiles
from tfguide.figures.steppers import Cell, Frame, Row, cells, frame_html, stepper
from tfguide.serving import BlockPool, Table
from tfguide.serving.simulate import Arrival

STATIC = Path(__file__).parents[2] / "book" / "_static"
FRAMES = [
    Frame("First <b> & </script>.", (Row("x < y", cells("a", "b", state="new")), Row("y", cells(1, 2)))),
    Frame("Second, which is longer, so that it takes more lines than the first one does. " * 4, (Row("x", ()),)),
    Frame("Third.", (Row("x", (Cell("ĀĠ 中", "read"),)),)),
]
LEGEND = {"new": "made now", "read": "read"}


def test_a_stepper_says_what_it_cannot_show():
    with pytest.raises(ValueError, match="two frames or more, got 1"):
        stepper("one", FRAMES[:1], legend={"new": "made now"})
    with pytest.raises(ValueError, match=r"expected states among new, .*, got odd"):
        stepper("odd", [FRAMES[0], Frame("", (Row("x", cells(1, state="odd")),))], legend=LEGEND)
    with pytest.raises(ValueError, match=r"must explain \['new', 'read'\], it explains \['new'\]"):
        stepper("short", FRAMES, legend={"new": "made now"})


def test_the_page_carries_every_frame_and_shows_the_first():
    shown = stepper("three", FRAMES, legend=LEGEND).data
    assert shown.count("</script>") == 1  # the one that ends the data
    data = json.loads(re.search(r'json">(.*)</script>', shown).group(1))
    assert [frame["says"] for frame in data] == [frame.says for frame in FRAMES]
    assert data[2]["rows"][0]["cells"] == [{"text": "ĀĠ 中", "state": "read"}]
    assert frame_html(FRAMES[0]) in shown and "First &lt;b&gt;" in shown


@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 390])
def test_the_script_shows_what_python_wrote(browser, tmp_path, width):
    style, script = (STATIC / "steppers.css").read_text(), (STATIC / "steppers.js").read_text()
    drawing = '<svg><g id="f3-step-0"></g><g id="f3-step-2"></g><g id="axis-1"></g></svg>'
    box = stepper("three", FRAMES, legend=LEGEND, drawing=drawing).data
    (tmp_path / "page.html").write_text(
        f"<!doctype html><html data-theme='light'><meta charset='utf-8'><style>{style}</style>"
        f"<script>{script}</script><body>{box}</body></html>",
        encoding="utf-8",
    )
    with serving(tmp_path) as address:
        page = browser.new_page(viewport={"width": width, "height": 900})
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"{address}/page.html")
        frame, where = page.locator(".stepper-frame"), page.locator(".stepper-where")
        back, on = page.get_by_role("button", name="one step back"), page.get_by_role("button", name="one step on")
        # What the browser makes of Python's HTML, to compare with what the script makes.
        parsed = page.evaluate(
            "all => all.map(one => Object.assign(document.createElement('div'), { innerHTML: one }).innerHTML)",
            [frame_html(one) for one in FRAMES],
        )
        heights = []
        for k, want in enumerate(parsed):
            assert frame.inner_html() == want and where.inner_text() == f"{k + 1} of 3"
            assert back.is_disabled() == (k == 0) and on.is_disabled() == (k == 2)
            heights.append(frame.bounding_box()["height"])
            seen = page.evaluate("[...document.querySelectorAll('svg g')].map(g => g.getAttribute('visibility'))")
            assert seen == ["visible" if k == 0 else "hidden", "visible" if k == 2 else "hidden", None]
            if k < 2:
                on.press("Enter")
        assert len(set(heights)) == 1  # what stands below does not jump
        back.click()
        assert frame.inner_html() == parsed[1]
        page.get_by_role("slider").press("Home")
        assert frame.inner_html() == parsed[0]
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth") and not errors
        page.close()


PIECES = ["The", " cat", " sat", " on", " the", " mat"]


def test_the_growing_cache_counts_what_a_model_computes(tg):
    """A model writes three tokens after three: what each call takes and finds in the cache is what the frames say."""
    config = small_config(positions="rotary", n_kv_heads=2)
    model = tg.from_weights(config, random_weights(config))
    cache, calls, tokens = model.new_cache(1, 7), [], np.array([[3, 5, 7]])
    for _ in range(3):
        calls.append((int(cache.lengths[0]), tokens.shape[1]))
        tokens = numpy(model(tokens, cache=cache))[:, -1:].argmax(axis=-1)
    frames = caching.growing_cache(PIECES, 3)
    seen = []
    for frame in frames:
        keys, values = (next(row for row in frame.rows if row.name.startswith(name)) for name in ("keys", "values"))
        states = [cell.state for cell in keys.cells]
        assert keys.cells == values.cells and states == sorted(states, reverse=True)  # "read" before "new"
        seen.append((states.count("read"), states.count("new")))
    assert seen == calls == [(0, 3), (3, 1), (4, 1)]
    assert [cell.text for row in frames[-1].rows[:1] for cell in row.cells] == PIECES
    with_cache, without = caching.positions_computed(3, 3)
    assert with_cache == sum(new for _, new in calls) and without == sum(old + new for old, new in calls)
    assert [cell.text for cell in frames[-1].rows[-1].cells] == [f"{with_cache} so far", f"{without} without a cache"]
    for n_prompt in (0, 6):
        with pytest.raises(ValueError, match=f"a prompt of 1 to 5 of the 6 tokens, got {n_prompt}"):
            caching.growing_cache(PIECES, n_prompt)


def test_the_slider_of_the_batch_shows_the_bound_and_its_ceiling():
    config, chip = ModelConfig.from_preset("llama-3-8b"), cost.CHIPS["h100"]
    batches, contexts = (1, 64, 4096), (128, 2048)
    frames = ceiling.batch_frames(config, chip, contexts, batches)
    limits = [[row.cells[0].state for row in frame.rows] for frame in frames]
    assert limits == [["read"] * 2, ["read"] * 2, ["new", "read"]]  # 2048 tokens reach arithmetic at no batch
    at_most = cost.step(config, chip, chips=1, batch=64, context=2048).roofline_s
    assert [cell.text for cell in frames[1].rows[1].cells][1:] == [
        f"{1e3 * at_most:.1f} ms", f"{64 / at_most:,.0f} tokens/s", "fits"
    ]  # fmt: skip
    assert [row.cells[3].text for row in frames[2].rows] == ["does not fit"] * 2
    drawing = style.to_svg(ceiling.batch_roofline(config, chip, contexts, batches), alt="points")
    shown = stepper("batch", frames, legend=ceiling.LEGEND, drawing=drawing).data
    groups = re.findall(r'<g id="[^"]*step-(\d)"( visibility="hidden")?', shown)
    assert sorted(groups) == sorted([(str(k), ' visibility="hidden"' if k else "") for k in range(3)] * 2)


def test_softmax_over_tiles_carries_what_attention_over_the_keys_so_far_has():
    scores, values = np.array([0.3, 1.2, -0.5, 2.1, 0.4, 1.6, 0.9]), np.array([1.0, -2.0, 0.5, 3.0, -1.0, 2.0, 0.0])
    frames = tiles.online_softmax(scores, values, 3)
    query, key, value = np.ones((1, 1, 1, 1)), scores.reshape(1, 7, 1, 1), values.reshape(1, 7, 1, 1)
    for end, frame in zip((3, 6, 7, 7), frames, strict=True):
        mean = ref.scaled_dot_product_attention(query, key[:, :end], value[:, :end], scale=1.0).item()
        m, total = scores[:end].max(), np.exp(scores[:end] - scores[:end].max()).sum()
        rows = {row.name: [cell.text for cell in row.cells] for row in frame.rows}
        assert rows["m, l, o"] == [f"m = {m:.1f}", f"l = {total:.3f}", f"o = {mean * total:.3f}"]
        if end < 7:
            assert len(rows["exp(score \u2212 m)"]) == 3
    assert rows["o / l"] == [f"{mean:.3f}"]
    assert "rises from 1.2 to 2.1" in frames[1].says and f"= {np.exp(1.2 - 2.1):.2f}." in frames[1].says
    assert "stays as it is" in frames[2].says
    states = [[cell.state for cell in frame.rows[0].cells] for frame in frames]
    assert states == [["gone"] * start + ["new"] * (end - start) + [""] * (7 - end)
                      for start, end in ((0, 3), (3, 6), (6, 7), (7, 7))]  # fmt: skip
    with pytest.raises(ValueError, match="a tile of 1 to 6 of the 7 keys, got 7"):
        tiles.online_softmax(scores, values, 7)


def test_beam_search_shows_a_sentence_that_greedy_decoding_misses():
    chances = {
        "": {"the": 0.55, "a": 0.45}, "the": {"dog": 0.4, "cat": 0.35, "old": 0.25}, "a": {"dog": 0.9, "cat": 0.1},
        "old": {"dog": 0.5, "cat": 0.5}, "dog": {"barks": 0.5, "sleeps": 0.4, ".": 0.1},
        "cat": {"sleeps": 0.6, ".": 0.4}, "barks": {".": 1.0}, "sleeps": {".": 1.0},
    }  # fmt: skip
    sentences, open_ends = {}, {(): 1.0}
    while open_ends:  # all of them, by enumeration
        text, p = open_ends.popitem()
        for word, q in chances[text[-1] if text else ""].items():
            (sentences if word == "." else open_ends)[*text, word] = p * q
    best = max(sentences, key=sentences.get)
    frames = decoding.beam_frames(chances, ".", 2)
    rows = [{row.name: [(cell.text, cell.state) for cell in row.cells] for row in frame.rows} for frame in frames]

    def shown(text, p):
        return f"{' '.join(text)}  {np.log(p):.2f}".replace("-", "\u2212")

    assert rows[0]["continuations"] == [(shown(["the"], 0.55), "chosen"), (shown(["a"], 0.45), "chosen")]
    assert [text for text, _ in rows[2]["running"]] == [shown(["a", "dog"], 0.405), shown(["the", "dog"], 0.22)]
    kept, lost = ("a dog barks", "a dog sleeps"), ("the dog barks", "the dog sleeps", "a dog .", "the dog .")
    found = [(text.split("  ")[0], state) for text, state in rows[2]["continuations"]]
    assert found == [(text, "chosen") for text in kept] + [(text, "gone") for text in lost]
    assert "\u201ca dog\u201d has 2 successors among the best, \u201cthe dog\u201d has none" in frames[2].says
    assert "Every row has a successor among the 2 best" in frames[1].says
    assert rows[-1]["beam search"] == [(shown(best, sentences[best]), "accepted")]
    assert rows[-2]["ended"][0][0] == shown(best, sentences[best])
    greedy = ("the", "dog", "barks", ".")
    assert rows[-1]["greedy"] == [(shown(greedy, sentences[greedy]), "gone")] and sentences[greedy] < sentences[best]
    assert f"probability {sentences[greedy]:.3f}" in frames[-1].says and f"of {sentences[best]:.3f}" in frames[-1].says
    assert "the same sentence" in decoding.beam_frames(chances | {"the": {"dog": 1.0}}, ".", 2)[-1].says
    with pytest.raises(ValueError, match=r"a stop word among ., a, barks, .*, got 'end'"):
        decoding.beam_frames(chances, "end", 2)


def test_a_quantised_group_is_that_of_the_package():
    weights, inputs = (0.31, -0.42, 0.07, 0.55, -0.18, 0.24, -0.05, 0.11), (1.0, -2.0, 0.5, 1.5, 3.0, -1.0, 0.0, 2.0)
    frames = quantised.quantised_group(weights, inputs, 3.2)
    rows = [
        {row.name: [cell.text.replace("\u2212", "-") for cell in row.cells] for row in frame.rows} for frame in frames
    ]
    w, how = np.array(weights, np.float32)[:, None], compress.Quantization(4, group_size=8)
    levels, _, _ = compress.quantize_uint4(w, 8)
    packed, scale, unit = how.pack("w", w)
    back = compress.dequantize(packed, scale, 1, 8, unit)[:, 0]
    assert rows[2]["levels"] == [str(level) for level in levels[0]]
    assert rows[3]["bytes"] == [f"0x{byte:02x}" for byte in packed[0, 0, 0]]
    assert [float(text) for text in rows[4]["come back"]] == pytest.approx(back, abs=0.0051)
    assert [float(text) for text in rows[4]["error"]] == pytest.approx(back - w[:, 0], abs=0.00051)
    step, minimum = map(float, rows[1]["step, minimum"])
    assert minimum + step * levels[0] == pytest.approx(back, abs=2e-3)
    assert np.abs(back - w[:, 0]).max() <= step / 2 + 1e-4  # as the frame says
    assert float(rows[5]["product"][0]) == pytest.approx(np.array(inputs) @ back, abs=0.0006)
    assert f"exact product is {np.array(inputs) @ w[:, 0]:.3f}" in frames[5].says
    spoiled = np.append(w[:-1], np.float32([[3.2]]), axis=0)
    assert rows[6]["levels"] == [str(level) for level in compress.quantize_uint4(spoiled, 8)[0][0]]
    assert frames[6].rows[0].cells[-1].state == "rejected"
    assert stepper("a group", frames, legend=quantised.LEGEND).data.count("</script>") == 1
    with pytest.raises(ValueError, match=r"8 weights and 8 inputs, got \(7,\) and \(8,\)"):
        quantised.quantised_group(weights[:7], inputs, 3.2)


SYSTEM = range(100, 108)
ARRIVALS = [
    Arrival(0, [*SYSTEM, 1], 6), Arrival(2, [*SYSTEM, 2, 3], 7), Arrival(3, range(200, 211), 5),
    Arrival(7, [*SYSTEM, 4, 5], 3),
]  # fmt: skip


def test_the_stepper_of_serving_shows_what_the_scheduler_decides():
    """Every token is computed once, but for those of the text that gave way; a table and the pool say the same."""
    frames = batching.serving_frames(ARRIVALS, n_blocks=8, block_size=4, rows=3, tokens=6)
    rows = [{row.name: [(cell.text, cell.state) for cell in row.cells] for row in frame.rows} for frame in frames]
    computed = {name: [] for name in "ABCD"}
    for one in rows[:-1]:
        at_once = 0
        for text, state in one["this step"]:
            first, last = (*map(int, re.findall(r"\d+", text)), 0)[:2]
            computed[text[0]] += range(first, max(first, last) + 1)
            at_once += max(first, last) - first + 1
            assert state == "new"
        assert 0 < at_once <= 6
        owners = {text.split()[0]: set(text.split()[1]) - {batching.FREE} for text, _ in one["pool"]}
        tables = {name[-1]: [text.split(":")[0] for text, _ in cells] for name, cells in one.items() if "table" in name}
        assert owners == {block: {t for t in tables if block in tables[t]} for block in owners}
        assert all((state == "accepted") <= (len(owners[text.split()[0]]) > 1) for text, state in one["pool"])
    ends = {"A": 14, "B": 16, "C": 15, "D": 12}  # the last token of an answer is chosen, and not computed
    assert computed["A"] == list(range(1, 15)) and computed["B"] == list(range(9, 17))  # B takes two blocks from A
    assert computed["D"] == list(range(9, 13))  # and D from B, when A has ended
    assert computed["C"] == [*range(1, 9), *range(9, 16)] and {name: max(n) for name, n in computed.items()} == ends
    says = [frame.says for frame in frames]
    assert "B begins: the pool has its first 8 tokens, in 2 blocks." in says[2]
    assert "C has more tokens than the step has left" in says[3] and "C gives up its own and waits" in says[5]
    assert ("C", "rejected") in rows[5]["waiting"] and "There are too few blocks for C." in says[6]
    assert "C begins again: the pool has its first 8 tokens" in says[7] and "With its next token B ends." in says[8]
    assert {state for _, state in rows[-1]["pool"]} == {"kept", ""}
    stepper("serving", frames, legend=batching.LEGEND)
    two = batching.serving_frames(ARRIVALS, n_blocks=40, block_size=4, rows=1, tokens=6)
    assert any("There are too few rows for B." in frame.says for frame in two)


def test_rows_over_steps_are_those_of_the_longest_answers_and_of_the_scheduler():
    answers = [3, 9, 2, 5, 4, 7]
    static, continuous = batching.static_spans(2, answers), batching.continuous_spans(2, answers)
    assert static == [(0, 0, 0, 3), (1, 1, 0, 9), (2, 0, 9, 11), (3, 1, 9, 14), (4, 0, 14, 18), (5, 1, 14, 21)]
    assert [(i, stop - start) for i, _, start, stop in continuous] == list(enumerate(answers))
    for row in range(2):  # a row has no hole, and no two answers at once
        own = sorted(span[2:] for span in continuous if span[1] == row)
        assert own[0][0] == 0 and all(a[1] == b[0] for a, b in itertools.pairwise(own))
    assert max(stop for *_, stop in continuous) == 17 < 21
    assert len(batching.row_timeline(2, answers).axes) == 2


def test_block_tables_are_drawn_with_an_arrow_for_each_entry():
    pool, tables = BlockPool(8, 4), {"A": Table(), "B": Table()}
    tokens = {"A": [*SYSTEM, 1], "B": [*SYSTEM, 2, 3]}
    for name, table in tables.items():
        pool.share_prefix(table, tokens[name])
        pool.grow(table, len(tokens[name]))
        pool.publish(table, tokens[name], len(tokens[name]))
    fig = batching.block_tables(tables, {"A": 9, "B": 10}, pool)
    words = [text.get_text() for text in fig.axes[0].texts]
    assert words.count("0\u20133") == 2 and words.count("8") == 1 and words.count("8\u20139") == 1
    arrows = [one for one in fig.axes[0].patches if type(one).__name__ == "FancyArrowPatch"]
    assert len(arrows) == 6
