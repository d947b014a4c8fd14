"""Nothing is cut on a phone: every equation, figure, table and output of a page, measured at 390 pixels.

`test_browser` measures every page of the book so.

A formula that ends behind the edge says something else than the page means, and a table whose measured column has to be
scrolled for hides it. So a box that scrolls sideways counts as cut, except for a listing of code, whose lines may be
longer than a phone is wide: such a listing shows by its shaded edge that it goes on.
"""

import re
import time
from pathlib import Path

import pytest

from tests.book.chromium import serving

pytestmark = pytest.mark.browser

# What a reader can fold, and what stands in a tab behind another one, is measured too.
UNFOLD = """() => {
  document.querySelectorAll("details").forEach((e) => (e.open = true));
  document.querySelectorAll(".toggle-hidden").forEach((e) => e.classList.remove("toggle-hidden"));
  const style = document.createElement("style");
  style.textContent = ".sd-tab-content { display: block !important; }";
  document.head.append(style);
}"""

# The book's own script may still be at work on wide tables.
FITTED = "!document.querySelector('script[src*=narrow]') || document.documentElement.dataset.fitted !== undefined"

# Each finding is [kind, name, pixels out of sight].
MEASURE = r"""() => {
  const article = document.querySelector("article") || document.body, found = [];
  const wide = document.documentElement.clientWidth;
  const style = (node) => getComputedStyle(node);
  const seen = (box) => box.width > 0 && box.height > 0;
  const text = (node) =>
    (node.getAttribute("aria-label") || node.textContent || "").trim().replace(/\s+/g, " ").slice(0, 60);
  const listing = (node) => node.closest("pre") && !node.closest(".cell_output");
  const say = (kind, name, pixels) => { if (pixels > 1) found.push([kind, name, Math.round(pixels)]); };

  // The part of the page in which a node may show: every box around it that hides or scrolls what hangs out.
  const frame = (node) => {
    let left = 0, right = wide;
    for (let e = node.parentElement; e && e !== document.body; e = e.parentElement)
      if (style(e).overflowX !== "visible") {
        const box = e.getBoundingClientRect();
        left = Math.max(left, box.left); right = Math.min(right, box.left + e.clientLeft + e.clientWidth);
      }
    return [left, right];
  };
  const beyond = (node) => {
    const box = node.getBoundingClientRect(), [left, right] = frame(node);
    return seen(box) ? Math.max(box.right - right, left - box.left) : 0;
  };

  for (const node of article.querySelectorAll("mjx-container > mjx-math")) {
    const around = node.closest("div.math"), number = around?.querySelector("span.eqno");
    const name = (around?.id || "no label") + ", " + text(node.parentElement);
    say("equation", name, beyond(node));
    if (number) {
      const one = node.getBoundingClientRect(), other = number.getBoundingClientRect();
      const high = Math.min(one.bottom, other.bottom) - Math.max(one.top, other.top);
      const shared = Math.min(one.right, other.right) - Math.max(one.left, other.left);
      if (high > 1) say("equation under its number", name, shared);
    }
  }
  for (const node of article.querySelectorAll("svg.tfguide-figure, img, figure")) {
    say("figure", text(node) || node.alt || node.id, beyond(node));
    if (node.matches("svg"))
      for (const letter of node.querySelectorAll("text")) say("letters of a figure", text(letter), beyond(letter));
  }
  for (const node of article.querySelectorAll("table"))
    say("table", text(node), Math.max(beyond(node), ...[...node.querySelectorAll("th, td")].map(beyond)));
  for (const node of article.querySelectorAll(".cell_output pre"))
    say("output", text(node), Math.max(beyond(node), node.scrollWidth - node.clientWidth));

  for (const node of article.querySelectorAll("*")) {
    const hidden = node.clientWidth && style(node).overflowX !== "visible" ? node.scrollWidth - node.clientWidth : 0;
    const shaded = style(node).backgroundImage.includes("gradient");
    if (node.closest("mjx-container")) continue; // measured above
    if (!listing(node)) say(`<${node.tagName.toLowerCase()} class="${node.className}">`, text(node), hidden);
    else if (!shaded) say("listing without a shaded edge", text(node), hidden);
  }
  return found;
}"""


def out_of_sight(page) -> list[str]:
    """One line for everything that a reader of this open page cannot see at once: what it is, its name, the pixels."""
    page.evaluate(UNFOLD)
    page.wait_for_function(FITTED)
    return [f"{kind}, {pixels} px out of sight: {name}" for kind, name, pixels in page.evaluate(MEASURE)]


def measure(phone, address: str) -> list[str]:
    """What is out of sight on the page of this address."""
    page = phone.new_page()
    try:
        page.goto(address, wait_until="load")
        return out_of_sight(page)
    finally:
        page.close()


def test_formulas_have_their_size_before_the_fonts_have_come(phone, site):
    """One that took its size from the letters around it was wider than the screen where the fonts came late."""

    def late(route, request):
        time.sleep(0.3)
        route.continue_()

    sizes = []
    for slow in (False, True):
        page = phone.new_page()
        if slow:
            page.route(re.compile("/_static/fonts/"), late)
        page.goto(f"{site}/notebooks/errata_1_to_4.html", wait_until="load")
        page.evaluate("() => window.MathJax.startup.promise")
        sizes.append(page.evaluate("[...document.querySelectorAll('mjx-container')].map(e => e.style.fontSize)"))
        page.close()
    assert sizes[0] and sizes[0] == sizes[1]


# What is cut on purpose must be seen, and what fits must pass.

MATHS = (
    '<mjx-container style="display: block; overflow-x: auto">'
    '<mjx-math style="display: inline-block; width: {}px">X</mjx-math></mjx-container>'
)
WIDE = '<svg class="tfguide-figure" aria-label="wide" style="width: 500px; height: 9px"></svg>'
CUT = {
    "equation, ": f'<div class="math" id="wide">{MATHS.format(500)}</div>',
    "equation under its number": f'<div class="math"><span class="eqno" style="float: right">(1)</span>'
    f'<div style="margin-top: -1em">{MATHS.format(360)}</div></div>',
    "figure": f'<div style="overflow-x: auto">{WIDE}</div>',
    "table": '<div style="overflow-x: hidden"><table style="width: 500px"><tr><td>one<td>two</table></div>',
    "output": '<div class="cell_output"><pre style="overflow-x: auto"><div style="width: 500px">7</div></pre></div>',
    "listing without a shaded edge": '<pre style="overflow-x: auto"><div style="width: 500px">x = 1</div></pre>',
    '<div class="box">': '<div class="box" style="overflow-x: scroll"><div style="width: 500px">x</div></div>',
    "figure, ": f'<details><summary>more</summary>{WIDE}</details>',
}  # fmt: skip


@pytest.mark.parametrize("what", CUT)
def test_what_is_cut_is_seen(what, phone, tmp_path):
    (tmp_path / "page.html").write_text(f"<!doctype html><body><article>{CUT[what]}</article>")
    with serving(tmp_path) as address:
        found = measure(phone, f"{address}/page.html")
    assert any(line.startswith(what) for line in found), found


def test_what_fits_passes(phone, tmp_path):
    (tmp_path / "page.html").write_text(
        f'<!doctype html><body><article><div class="math"><span class="eqno" style="float: right">(1)</span>'
        f"{MATHS.format(200)}</div><table><tr><td>one<td>two</table>"
        f'<div class="cell_output"><pre style="white-space: pre-wrap">{"word " * 50}</pre></div>'
        '<pre style="overflow-x: auto; background-image: linear-gradient(red, blue)">'
        '<div style="width: 500px">x = 1</div></pre></article>'
    )
    with serving(tmp_path) as address:
        assert measure(phone, f"{address}/page.html") == []


SCRIPT = Path(__file__).resolve().parents[2] / "book" / "_static" / "narrow.js"
HEADS = "<th>model<th>parameters<th>measured<th>predicted<th>difference<th>source"
ROW = "<td>gpt2<td>124,439,808<td>90.25<td>92.5<td>exact,&nbsp;yes<td>a&nbsp;paper"
LOOK = """.card-head, .cards thead { display: none } .cards td { display: block } .cards .card-head { display: inline }
td { padding: 0 20px } pre { font: 11px monospace; white-space: pre-wrap }"""


def test_a_wide_table_becomes_cards_and_printed_columns_stay_in_line(phone, tmp_path):
    """The script of the book, on a page with a table and an output that are too wide, and with two that fit."""
    (tmp_path / "page.html").write_text(
        f"<!doctype html><style>{LOOK}</style><body><article>"
        f"<div><table id=wide><thead><tr>{HEADS}<tbody><tr>{ROW}</table></div>"
        "<div><table id=slim><thead><tr><th>a<tbody><tr><td>1</table></div>"
        f"<div class=cell_output><pre id=long>{'column  ' * 9}\n{'prose ' * 30}</pre>"
        f"<pre id=longer>{'column  ' * 30}</pre>"
        f"<pre id=short>column</pre><pre id=prose>{'prose ' * 13}</pre></div></article>"
        f"<script>{SCRIPT.read_text(encoding='utf-8')}</script>"
    )
    with serving(tmp_path) as address:
        page = phone.new_page()
        page.goto(f"{address}/page.html", wait_until="load")
        page.wait_for_selector("html[data-fitted]")
        assert page.locator("#wide.cards").count() == 1 and page.locator("#slim.cards").count() == 0
        cells = page.locator("#wide tbody td").all_inner_texts()
        assert [" ".join(cell.split()) for cell in cells][:3] == ["gpt2", "parameters124,439,808", "measured90.25"]
        names = ("long", "longer", "short", "prose")
        sizes = {name: page.locator(f"#{name}").evaluate("e => e.style.fontSize") for name in names}
        page.close()
        assert (
            sizes["longer"] == sizes["short"] == sizes["prose"] == ""
            and 7 <= float(sizes["long"].removesuffix("px")) < 11
        )
        assert measure(phone, f"{address}/page.html") == []
