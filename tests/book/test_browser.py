"""The built pages in a real browser: an installed Chromium, headless, with an empty profile, on a loopback server."""

import re
from urllib.parse import urlsplit

import pytest

from tests.book.chromium import PAGES, PHONE, complain, serving
from tests.book.test_narrow import FITTED, out_of_sight

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

pytestmark = pytest.mark.browser

DESK = {"width": 1280, "height": 900}

# Formulas that are not typeset, and what is wider than the page. Returns complaints.
READ_PAGE = r"""() => {
  const found = [];
  const say = (what, node) => found.push(`${what}: ${(node.textContent || node.outerHTML).trim().slice(0, 80)}`);
  for (const math of document.querySelectorAll("article .math"))
    if (!math.querySelector("mjx-container") && !math.closest("pre, code")) say("a formula is not typeset", math);
  for (const error of document.querySelectorAll("mjx-merror, [data-mml-node='merror'], mjx-container [data-mjx-error]"))
    say("MathJax reports an error", error);

  const walker = document.createTreeWalker(document.querySelector("article") || document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode, parent = text.parentElement;
    if (parent.closest("script, style, pre, code, mjx-container, svg, #search-results")) continue;
    if (/\\\(|\\\)|\\\[|\\\]|\$\$|\\begin\{|\\(frac|mathbb|operatorname|text)\b/.test(text.data)) say("raw TeX", text);
  }

  const root = document.documentElement, wide = root.clientWidth;
  if (root.scrollWidth > wide) found.push(`the page scrolls sideways: ${root.scrollWidth} > ${wide}`);
  // What hangs over the edge is cut off, unless an ancestor of it scrolls.
  const scrolls = (node) => {
    for (let e = node; e && e !== root; e = e.parentElement)
      if (["auto", "scroll"].includes(getComputedStyle(e).overflowX)) return true;
    return false;
  };
  for (const node of document.querySelectorAll("article *")) {
    if (node.closest("svg:not(.tfguide-figure) *, svg.tfguide-figure *, mjx-assistive-mml")) continue;
    const box = node.getBoundingClientRect();
    if (box.width > 0 && box.height > 0 && box.right > wide + 1 && !scrolls(node)) {
      found.push(`<${node.tagName} class="${node.className}"> is cut off: ${Math.round(box.right)} > ${wide}`);
      break;
    }
  }
  return found;
}"""


BOXES_BEHIND = """() => {
  const paint = (node) => getComputedStyle(node).backgroundColor;
  const clear = ["rgba(0, 0, 0, 0)", paint(document.body)], found = [];
  for (let e = document.querySelector("svg.tfguide-figure"); e !== document.body; e = e.parentElement)
    if (!clear.includes(paint(e))) found.push(`${e.tagName}.${e.className}: ${paint(e)}`);
  return found;
}"""


def visit(page: "sync_api.Page", address: str) -> list[str]:
    """Open the address on a phone, go to a desk and back, and return the complaints: a load takes seconds."""
    found: list[str] = []
    origin = urlsplit(address).netloc

    def asked(request: "sync_api.Request") -> None:
        parts = urlsplit(request.url)
        if parts.scheme not in ("data", "blob") and parts.netloc != origin:
            found.append(f"a request leaves the book: {request.url}")

    page.on("request", asked)
    page.on("requestfailed", lambda request: found.append(f"a request failed: {request.url} {request.failure}"))
    page.on("response", lambda answer: answer.status >= 400 and found.append(f"{answer.status}: {answer.url}"))
    page.on("pageerror", lambda error: found.append(f"a script failed: {error}"))
    page.on("console", lambda message: message.type == "error" and found.append(f"console: {message.text}"))
    page.goto(address, wait_until="load")
    page.evaluate("async () => { await window.MathJax?.startup?.promise; await document.fonts.ready; }")
    page.wait_for_function(FITTED)
    found += [f"on a phone, {complaint}" for complaint in page.evaluate(READ_PAGE)]
    resize(page, DESK)
    found += [f"on a desk, {complaint}" for complaint in page.evaluate(READ_PAGE)]
    found += switch_themes(page) + switch_tabs(page)
    resize(page, PHONE)
    return found + out_of_sight(page)


def resize(page: "sync_api.Page", size: "sync_api.ViewportSize") -> None:
    page.set_viewport_size(size)
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


@pytest.mark.parametrize("name", PAGES)
def test_a_page_opens_typeset_and_fits(name, phone, site):
    """Its figures follow the theme, its tabs follow each other, and nothing is cut on a phone."""
    page = phone.new_page()
    try:
        complain(visit(page, f"{site}/{name}.html"))
    finally:
        page.close()


def test_there_are_figures_and_tabs_to_switch(html_folder):
    pages = [(html_folder / f"{name}.html").read_text(encoding="utf-8") for name in PAGES]
    assert sum('class="tfguide-figure"' in page for page in pages) > 10
    assert sum(page.count("sd-tab-set") > 1 for page in pages) > 5


def test_the_front_door_leads_to_the_first_page(phone, site):
    page = phone.new_page()
    page.goto(f"{site}/")
    page.wait_for_url("**/book/index.html")
    assert page.locator("article h1").count() == 1
    page.close()


def switch_tabs(page: "sync_api.Page") -> list[str]:
    """The complaints where a click on one framework does not show it in every set of the page."""
    found = []
    keys = page.eval_on_selector_all("label[data-sync-id]", "all => [...new Set(all.map(e => e.dataset.syncId))]")
    for key in [*keys, *reversed(keys)]:
        page.locator(f'label[data-sync-id="{key}"]:visible').first.click()
        hidden = page.eval_on_selector_all(
            f'label[data-sync-id="{key}"]',
            """all => all.filter(e => !document.getElementById(e.htmlFor).checked
                                      || !(e.nextElementSibling.offsetHeight > 0)).length""",
        )
        if hidden:
            found.append(f"after a click on {key!r}, {hidden} sets do not show it")
    return found


def test_the_search_finds_multi_head(phone, site):
    page = phone.new_page()
    page.goto(f"{site}/search.html?q=multi-head", wait_until="load")
    results = page.locator("#search-results ul.search li")
    results.first.wait_for()
    # Titles come first; the text of each page is fetched after, and may take long on a busy machine.
    said = results.filter(has_text=re.compile("multi-head", re.IGNORECASE)).first
    try:
        said.wait_for()
    except sync_api.TimeoutError:
        pytest.fail(f"no result says multi-head: {results.all_inner_texts()}")
    finally:
        page.close()


ABBREVIATIONS = ("GQA", "MQA", "MHA", "MLA", "FFN", "KV", "RoPE", "TTFT", "TPOT", "MFU", "LLM", "NLP", "FLOP")


@pytest.mark.parametrize("short", ABBREVIATIONS)
def test_the_search_for_an_abbreviation_finds_the_glossary(short, phone, site):
    page = phone.new_page()
    page.goto(f"{site}/search.html?q={short}", wait_until="load")
    page.locator("#search-results ul.search li").first.wait_for()
    links = page.locator(f'#search-results ul.search a[href*="glossary.html#term-{short}"]')
    try:
        links.first.wait_for()
    except sync_api.TimeoutError:
        results = page.locator("#search-results ul.search li").all_inner_texts()
        pytest.fail(f"the search for {short} finds no entry of the glossary: {results[:10]}")
    address = links.first.get_attribute("href")
    page.goto(f"{site}/{address}", wait_until="load")
    assert page.locator(f'[id="{address.partition("#")[2]}"]').is_visible()
    page.close()


def switch_themes(page: "sync_api.Page") -> list[str]:
    """The complaints where a figure's letters contrast with the page by less than 4.5 to 1, in light and in dark."""
    found = []
    if not page.locator("svg.tfguide-figure text").count():
        return found
    for mode in ("dark", "light"):
        page.evaluate("mode => { document.documentElement.dataset.theme = mode }", mode)
        ink, paper = page.evaluate(
            """() => [getComputedStyle(document.querySelector("svg.tfguide-figure text")).fill,
                      getComputedStyle(document.body).backgroundColor]"""
        )
        if contrast(ink, paper) < 4.5:
            found.append(f"in the {mode}, a figure's letters are {ink} on {paper}")
        found += [f"in the {mode}, a box is painted behind the figure: {box}" for box in page.evaluate(BOXES_BEHIND)]
    return found


def contrast(one: str, other: str) -> float:
    """The contrast ratio of WCAG 2 between two colours as the browser writes them, `rgb(r, g, b)`."""

    def luminance(colour: str) -> float:
        parts = [int(value) / 255 for value in re.findall(r"\d+", colour)[:3]]
        red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


# What is broken on purpose must be seen.

BROKEN = {
    "a request leaves the book": '<img src="http://127.0.0.1:9/x.png" alt="elsewhere">',
    "a request failed": '<script src="https://cdn.example.org/x.js"></script>',
    "404": '<img src="missing.png" alt="missing">',
    "a script failed": "<script>undefinedFunction()</script>",
    "console: on purpose": "<script>console.error('on purpose')</script>",
    "a formula is not typeset": '<span class="math notranslate nohighlight">x^2</span>',
    "raw TeX": r"<p>the scale \(1/\sqrt{d}\)</p>",
    "MathJax reports an error": '<span class="math"><mjx-container><mjx-merror>!</mjx-merror></mjx-container></span>',
    "the page scrolls sideways": '<div style="width: 3000px">wide</div>',
    "is cut off": '<div style="overflow-x: clip"><pre style="width: 3000px">wide</pre></div>',
    "on a phone, the page scrolls sideways": '<div style="width: 800px">too wide for a phone</div>',
    "a figure's letters are": "<style>body { background: white }</style>"
    '<svg class="tfguide-figure"><text style="fill: rgb(200, 200, 200)">pale</text></svg>',
    "out of sight": '<div style="overflow-x: auto"><table style="width: 500px"><tr><td>one<td>two</table></div>',
    "a box is painted": '<div style="background: #eee"><svg class="tfguide-figure"><text>on grey</text></svg></div>',
    "sets do not show it": """<div><input type="radio" id="a"><label data-sync-id="x" for="a">x</label><p>text</p>
        <input type="radio" id="b"><label data-sync-id="x" for="b">x</label><p>text</p></div>""",
}


@pytest.mark.parametrize("complaint", BROKEN)
def test_a_broken_page_is_seen(complaint, phone, tmp_path):
    (tmp_path / "page.html").write_text(
        f'<!doctype html><html><head><link rel="icon" href="data:,"></head><body><article>{BROKEN[complaint]}</article>'
    )
    with serving(tmp_path) as address:
        page = phone.new_page()
        found = visit(page, f"{address}/page.html")
        page.close()
    assert any(complaint in line for line in found), found


def test_a_sound_page_has_no_complaint(phone, tmp_path):
    (tmp_path / "page.html").write_text(
        '<!doctype html><html><head><link rel="icon" href="data:,"></head><body><article><p>It costs $5.</p>'
        '<pre style="overflow-x: auto; background-image: linear-gradient(red, blue)">'
        '<div style="width: 3000px">wide, and scrolls in its box</div></pre></article>'
    )
    with serving(tmp_path) as address:
        page = phone.new_page()
        assert visit(page, f"{address}/page.html") == []
        page.close()
