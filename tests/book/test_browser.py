"""The built pages in a real browser: an installed Chromium, headless, with an empty profile, on a loopback server."""

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from tests.book.chromium import PAGES, complain, serving

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

pytestmark = pytest.mark.browser

WIDTHS = {"desk": 1280, "phone": 390}

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


BOXES_BEHIND_A_FIGURE = """() => {
  const paint = (node) => getComputedStyle(node).backgroundColor;
  const clear = ["rgba(0, 0, 0, 0)", paint(document.body)], found = [];
  for (let e = document.querySelector("svg.tfguide-figure"); e !== document.body; e = e.parentElement)
    if (!clear.includes(paint(e))) found.push(`${e.tagName}.${e.className}: ${paint(e)}`);
  return found;
}"""


@pytest.fixture(scope="module", params=WIDTHS)
def window(request, browser) -> Iterator["sync_api.BrowserContext"]:
    context = browser.new_context(viewport={"width": WIDTHS[request.param], "height": 900})
    yield context
    context.close()


@pytest.fixture(scope="module")
def desk(browser) -> Iterator["sync_api.BrowserContext"]:
    context = browser.new_context(viewport={"width": WIDTHS["desk"], "height": 900})
    yield context
    context.close()


@pytest.fixture(scope="module")
def untypeset(browser) -> Iterator["sync_api.BrowserContext"]:
    """A desk without MathJax, which takes most of the time of a page: for what has nothing to do with formulas."""
    context = browser.new_context(viewport={"width": WIDTHS["desk"], "height": 900})
    context.route("**/_static/mathjax/*.js*", lambda route: route.abort())
    yield context
    context.close()


def visit(page: "sync_api.Page", address: str) -> list[str]:
    """Open the address, wait until it is typeset, and return the complaints."""
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
    return found + page.evaluate(READ_PAGE)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_opens_typeset_and_fits(name, window, site):
    page = window.new_page()
    try:
        complain(visit(page, f"{site}/{name}.html"))
    finally:
        page.close()


def test_the_front_door_leads_to_the_first_page(desk, site):
    page = desk.new_page()
    page.goto(f"{site}/")
    page.wait_for_url("**/book/index.html")
    assert page.locator("article h1").count() == 1
    page.close()


def test_tabs_switch_together(untypeset, site, html_folder):
    """On every page with tabs, a click on one framework shows it in every set of the page."""
    most = 0
    for name in PAGES:
        if "sd-tab-set" not in (html_folder / f"{name}.html").read_text(encoding="utf-8"):
            continue
        page = untypeset.new_page()
        page.goto(f"{site}/{name}.html", wait_until="load")
        keys = page.eval_on_selector_all("label[data-sync-id]", "all => [...new Set(all.map(e => e.dataset.syncId))]")
        for key in [*keys, *reversed(keys)]:
            page.locator(f'label[data-sync-id="{key}"]:visible').first.click()
            states = page.eval_on_selector_all(
                f'label[data-sync-id="{key}"]', "all => all.map(e => document.getElementById(e.htmlFor).checked)"
            )
            assert all(states), (
                f"{name}: after a click on {key!r}, {states.count(False)} of {len(states)} sets stay behind"
            )
            shown = page.eval_on_selector_all(
                f'label[data-sync-id="{key}"]', "all => all.filter(e => e.nextElementSibling.offsetHeight > 0).length"
            )
            assert shown == len(states), f"{name}: {shown} of {len(states)} sets show {key!r}"
        most = max(most, page.locator(".sd-tab-set").count())
        page.close()
    assert most >= 2, "no page has two sets of tabs, so nothing was switched together"


def test_the_search_finds_multi_head(untypeset, site):
    page = untypeset.new_page()
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
def test_the_search_for_an_abbreviation_finds_the_glossary(short, untypeset, site):
    page = untypeset.new_page()
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


def test_figures_follow_the_theme(untypeset, site, html_folder):
    """The letters of a figure contrast with the page by 4.5 to 1 at least, in light and in dark."""
    seen = 0
    for name in PAGES:
        if 'class="tfguide-figure"' not in (html_folder / f"{name}.html").read_text(encoding="utf-8"):
            continue
        page = untypeset.new_page()
        page.goto(f"{site}/{name}.html", wait_until="load")
        for mode in ("light", "dark"):
            page.evaluate("mode => { document.documentElement.dataset.theme = mode }", mode)
            ink, paper = page.evaluate(
                """() => [getComputedStyle(document.querySelector("svg.tfguide-figure text")).fill,
                          getComputedStyle(document.body).backgroundColor]"""
            )
            assert contrast(ink, paper) >= 4.5, f"{name}, {mode}: {ink} on {paper}"
            behind = page.evaluate(BOXES_BEHIND_A_FIGURE)
            assert not behind, f"{name}, {mode}: a box is painted behind the figure, {behind}"
        seen += 1
        page.close()
    assert seen, "no page shows a figure"


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
}


@pytest.mark.parametrize("complaint", BROKEN)
def test_a_broken_page_is_seen(complaint, desk, tmp_path):
    (tmp_path / "page.html").write_text(
        f'<!doctype html><html><head><link rel="icon" href="data:,"></head><body><article>{BROKEN[complaint]}</article>'
    )
    with serving(tmp_path) as address:
        page = desk.new_page()
        found = visit(page, f"{address}/page.html")
        page.close()
    assert any(complaint in line for line in found), found


def test_a_sound_page_has_no_complaint(desk, tmp_path):
    (tmp_path / "page.html").write_text(
        '<!doctype html><html><head><link rel="icon" href="data:,"></head><body><article><p>It costs $5.</p>'
        '<div style="overflow-x: auto"><pre style="width: 3000px">wide, and scrolls in its box</pre></div></article>'
    )
    with serving(tmp_path) as address:
        page = desk.new_page()
        assert visit(page, f"{address}/page.html") == []
        page.close()
