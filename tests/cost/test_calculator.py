"""The calculator of the page, in a real browser: its arithmetic is tfguide.cost's, and it says what is wrong."""

import json
from pathlib import Path

import pytest

from tfguide import ModelConfig, cost
from tfguide.cost.calculator import RESULTS, calculator_data, golden_cases, model_numbers

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.browser

STATIC = Path(__file__).parents[2] / "book" / "_static"
STEPS = """inputs => {
    const data = JSON.parse(document.getElementById("cost-data").textContent);
    return inputs.map(one => window.tfguideCost.step(data, one));
}"""


@pytest.fixture
def page(browser, tmp_path):
    style = "".join((STATIC / name).read_text() for name in ("custom.css", "calculator.css"))
    file = tmp_path / "page.html"
    file.write_text(
        f"<!doctype html><html data-theme='light'><meta charset='utf-8'><style>{style}</style><body>"
        "<div id='cost-calculator'></div>"
        f"<script type='application/json' id='cost-data'>{json.dumps(calculator_data())}</script>"
        f"<script>{(STATIC / 'calculator.js').read_text()}</script>",
        encoding="utf-8",
    )
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    asked, errors = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(file.as_uri())
    yield page
    assert all(url.startswith("file:") for url in asked) and not errors  # the fonts of the book, and no network
    page.close()


def test_the_golden_cases(page):
    cases = golden_cases(300)
    assert {case["input"]["model"] for case in cases} == set(calculator_data()["models"])
    got = page.evaluate(STEPS, [case["input"] for case in cases])
    for case, one in zip(cases, got, strict=True):
        for name in RESULTS:
            want = case["output"][name]
            assert one[name] == pytest.approx(want, rel=1e-9, abs=1e-300), (case["input"], name)


def test_meshes_that_send_equally_many_elements_are_told_apart_by_bytes(page):
    """Weights and activations differ in bytes, so elements alone do not choose the mesh: every layout and count."""
    names = ("chip", "chips", "batch", "context", "newTokens", "weights", "kv", "layout", "attention")
    inputs = [
        dict(
            zip(names, ("h100", chips, batch, 4096, 1, weights, "bfloat16", layout, "batch"), strict=True), model=model
        )
        for model in ("llama-3-70b", "palm-540b", "mixtral-8x7b")
        for layout in cost.LAYOUTS
        for chips in (2, 6, 8, 16, 60, 64)
        for batch in (1, 64, 1024)
        for weights in ("int4", "int8", "bfloat16")
    ]
    got = page.evaluate(STEPS, inputs)
    for given, one in zip(inputs, got, strict=True):
        want = cost.step(ModelConfig.from_preset(given["model"]), *(given[name] for name in names))
        assert one["communication_s"] == pytest.approx(want.communication_s, rel=1e-9), given


@pytest.mark.parametrize("layers", [None, (0,), (1, 2, 3)], ids=str)
def test_layers_with_and_without_a_window(page, layers):
    config = ModelConfig.from_preset("llama-3-8b", n_layers=5, sliding_window=100, sliding_layers=layers)
    data = calculator_data()
    data["models"]["some"] = model_numbers(config)
    for context, new_tokens in ((50, 1), (50, 20), (100, 1), (101, 7), (5000, 1), (5000, 5000)):
        given = {"model": "some", "chip": "h100", "chips": 3, "batch": 2, "context": context, "newTokens": new_tokens}
        one = page.evaluate("([data, given]) => window.tfguideCost.step(data, given)", [data, given])
        want = cost.step(config, "h100", 3, 2, context, new_tokens)
        for name in RESULTS:
            assert one[name] == pytest.approx(getattr(want, name), rel=1e-9), (given, name)


def test_what_is_not_said_is_as_in_python(page):
    [one] = page.evaluate(STEPS, [{"model": "llama-3-8b", "chip": "h100", "chips": 2, "batch": 4, "context": 512}])
    want = cost.step(ModelConfig.from_preset("llama-3-8b"), "h100", 2, 4, 512)
    assert all(one[name] == pytest.approx(getattr(want, name), rel=1e-9) for name in RESULTS)


@pytest.mark.parametrize(
    "change",
    [dict(layout="3d"), dict(model="gpt-9"), dict(kv=None), dict(batch=0), dict(newTokens=513), dict(chips="2")],
)
def test_a_workload_that_is_none_is_an_error(page, change):
    given = {"model": "llama-3-8b", "chip": "h100", "chips": 2, "batch": 4, "context": 512} | change
    with pytest.raises(sync_api.Error, match=f"RangeError: {next(iter(change))}"):
        page.evaluate(STEPS, [given])


def texts(page):
    return page.inner_text(".cost-results")


def fill(page, **fields):
    for name, value in fields.items():
        control = page.locator(f"#cost-{name}")
        if control.evaluate("node => node.tagName") == "SELECT":
            control.select_option(value)
        else:
            control.fill(str(value))


def shown(page, seconds):
    return page.evaluate("s => window.tfguideCost.seconds(s)", seconds)


def test_what_is_shown_is_what_python_says(page):
    fill(page, model="mixtral-8x7b", chip="tpu-v5p", chips=4, batch=3, context=1000, weights="bfloat16", kv="int8")
    one = cost.step(ModelConfig.from_preset("mixtral-8x7b"), "tpu-v5p", 4, 3, 1000, 1, "bfloat16", "int8")
    before = texts(page)
    for seconds in (one.compute_s, one.weights_s, one.kv_s, one.communication_s, one.serial_s, one.roofline_s):
        assert shown(page, seconds) in before
    assert f"{one.weight_bytes_per_chip / 1e9:.3g} GB" in before
    fill(page, batch=300)
    after = texts(page)
    assert after != before
    many = cost.step(ModelConfig.from_preset("mixtral-8x7b"), "tpu-v5p", 4, 300, 1000, 1, "bfloat16", "int8")
    assert shown(page, many.serial_s) in after and shown(page, one.serial_s) not in after


def test_what_does_not_fit_is_said(page):
    fill(page, model="llama-3.1-405b", chips=1)
    assert "does not fit" in texts(page)


@pytest.mark.parametrize("name", ["chips", "batch", "context"])
@pytest.mark.parametrize("value", ["", "0", "-3", "1.5", "1e300"])
def test_bad_input_is_answered(page, name, value):
    fill(page, **{name: value})
    assert "a whole number from 1 to" in page.inner_text(f"#cost-{name}-note")
    assert page.get_attribute(f"#cost-{name}", "aria-invalid") == "true"
    assert texts(page) == "No result: a field above needs another number."
    fill(page, **{name: 2})
    assert page.inner_text(f"#cost-{name}-note") == ""
    assert "tokens a second" in texts(page)


def test_a_chip_without_links_works_alone(page):
    fill(page, model="gemma-3-1b", chip="m1", chips=2)
    assert page.inner_text("#cost-chips-note") == "this chip has no links to others: 1 is expected"
    assert texts(page) == "No result: a field above needs another number."
    fill(page, chips=1)
    assert page.inner_text("#cost-chips-note") == "" and "one chip sends nothing" in texts(page)
    one = cost.step(ModelConfig.from_preset("gemma-3-1b"), "m1", 1, 32, 8192)
    assert shown(page, one.serial_s) in texts(page)
    fill(page, chips=2)
    fill(page, chip="h100")  # which has links
    assert page.inner_text("#cost-chips-note") == "" and "tokens a second" in texts(page)


def test_a_chip_whose_rate_is_not_published_is_not_offered(page):
    offered = set(page.locator("#cost-chip option").all_inner_texts())
    assert offered == {name for name, chip in cost.CHIPS.items() if chip.product_flops() is not None} < set(cost.CHIPS)


@pytest.mark.slow
def test_no_model_and_no_chip_shows_what_is_no_number(page):
    data = calculator_data()
    for model in data["models"]:
        for chip in ("h100", "tpu-v5e"):
            for chips in (1, 6):
                fill(page, model=model, chip=chip, chips=chips)
                text = page.inner_text("body")
                assert not any(word in text for word in ("NaN", "undefined", "Infinity", "null", "[object"))


def test_every_field_has_a_label_and_a_phone_shows_all(page):
    page.set_viewport_size({"width": 390, "height": 800})
    for control in page.locator(".cost-fields input, .cost-fields select").all():
        name = control.get_attribute("id")
        assert page.locator(f"label[for={name}]").inner_text()
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
