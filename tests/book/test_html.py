"""The built pages load nothing from elsewhere, read off every file."""

import posixpath
import re
from pathlib import Path

import pytest

from tests.book.html_check import anchors, check_css, check_page, check_script, dead_links, is_external, page_addresses


def complain(found: list[str]) -> None:
    assert not found, "\n" + "\n".join(found)


def test_the_book_builds(build):
    if build.returncode:
        log = re.sub(r"\x1b\[[0-9;]*m", "", build.stdout)
        warnings = [line for line in log.splitlines() if "WARNING:" in line or "ERROR:" in line]
        pytest.fail("\n".join([*warnings, "", log[-3000:]]), pytrace=False)


def test_every_page_is_there(html_folder):
    pages = {path.relative_to(html_folder).as_posix() for path in html_folder.rglob("*.html")}
    toc = (html_folder.parents[1] / "_toc.yml").read_text()
    wanted = [line.split(":", 1)[1].strip() for line in toc.splitlines() if "file:" in line or line.startswith("root:")]
    assert len(wanted) > 10
    complain([f"{name} is in _toc.yml and not in the HTML" for name in wanted if f"{name}.html" not in pages])
    assert "index.html" in pages


def test_no_page_loads_from_elsewhere(html_folder):
    pages = [path for path in sorted(html_folder.rglob("*.html")) if "macros" not in path.name]
    complain([c for path in pages for c in check_page(path.read_text(encoding="utf-8"), path, html_folder)])


def test_no_style_sheet_loads_from_elsewhere(html_folder):
    sheets = sorted(html_folder.rglob("*.css"))
    assert sheets
    complain([c for path in sheets for c in check_css(path.read_text(encoding="utf-8"), path, html_folder)])


def test_no_script_loads_from_elsewhere(html_folder):
    scripts = sorted(html_folder.rglob("*.js"))
    assert scripts
    complain([c for path in scripts for c in check_script(path.read_text(encoding="utf-8"), path, html_folder)])


def test_no_svg_loads_from_elsewhere(html_folder):
    images = sorted(html_folder.rglob("*.svg"))
    complain([c for path in images for c in check_page(path.read_text(encoding="utf-8"), path, html_folder)])


def test_every_page_with_a_formula_loads_the_local_mathjax(html_folder):
    for path in html_folder.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        if 'class="math' in text:
            assert "mathjax/tex-chtml.js" in text, path
    assert (html_folder / "_static/mathjax/tex-chtml.js").exists()
    assert list((html_folder / "_static/mathjax/output/chtml/fonts/woff-v2").glob("*.woff"))


def test_every_image_says_what_it_shows(html_folder):
    missing = []
    for path in html_folder.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        images = re.findall(r"<img\b[^>]*>", text) + re.findall(r'<svg class="tfguide-figure"[^>]*>', text)
        for image in images:
            label = re.search(r'(?:alt|aria-label)="([^"]*)"', image)
            if not label or not label.group(1).strip() or re.search(r"_build|\.png|^image", label.group(1)):
                missing.append(f"{path.relative_to(html_folder)}: {image[:120]}")
    complain(missing)


# The checker itself: each of these must be caught, and each of the others must not.

BAD = [
    '<script src="https://cdn.example.org/require.js"></script>',
    '<script async="async" src="//cdn.example.org/x.js"></script>',
    '<link rel="stylesheet" href="https://fonts.example.org/css?family=Inter">',
    '<link rel="preconnect" href="https://fonts.example.org">',
    '<link rel="shortcut icon" href="http://example.org/favicon.ico">',
    '<img src="https://example.org/logo.png" alt="logo">',
    '<img srcset="page.css 1x, https://example.org/b.png 2x" alt="b">',
    '<video poster="https://example.org/p.png"></video>',
    '<iframe src="https://example.org/embed"></iframe>',
    '<object data="https://example.org/x.svg"></object>',
    '<svg><image xlink:href="https://example.org/x.png"/></svg>',
    '<svg><use href="https://example.org/x.svg#a"/></svg>',
    '<div style="background: url(https://example.org/x.png)"></div>',
    '<style>@import "https://example.org/x.css";</style>',
    "<style>@font-face { src: url('//example.org/f.woff2') }</style>",
    '<script type="module">import mermaid from "https://cdn.example.org/mermaid.mjs";</script>',
    '<script>import("https://cdn.example.org/x.js")</script>',
    '<script>fetch("https://example.org/data.json")</script>',
    '<script>const THEBE_JS_URL = "https://unpkg.example.org/thebe"</script>',
    '<script>s.src = "https://example.org/x.js"</script>',
    '<script>new WebSocket("wss://example.org/")</script>',
    '<script>x.open("GET", "https://example.org/")</script>',
    '<meta http-equiv="refresh" content="0; url=https://example.org/">',
    '<base href="https://example.org/">',
    '<img src="missing.png" alt="not there">',
    '<script src="/absolute.js"></script>',
]

GOOD = [
    '<a href="https://arxiv.org/abs/1706.03762">a link that a reader may click</a>',
    '<link rel="canonical" href="https://example.org/page.html">',
    '<link rel="stylesheet" href="page.css?digest=1">',
    '<img src="data:image/png;base64,AAAA" alt="inline">',
    '<svg xmlns="http://www.w3.org/2000/svg"><use href="#mark"/></svg>',
    "<style>/* from https://example.org */ a { color: red }</style>",
    '<script>const link = "see https://example.org";</script>',
    "<p>@import and url(https://example.org) in prose</p>",
]


@pytest.fixture
def page(tmp_path: Path) -> Path:
    (tmp_path / "page.css").write_text("")
    return tmp_path / "page.html"


@pytest.mark.parametrize("html", BAD)
def test_the_checker_catches(html, page):
    assert len(check_page(f"<html><body>{html}</body></html>", page, page.parent)) == 1


@pytest.mark.parametrize("html", GOOD)
def test_the_checker_lets_pass(html, page):
    assert check_page(f"<html><body>{html}</body></html>", page, page.parent) == []


def test_the_checker_reads_files(page):
    assert check_css('@font-face { src: url("https://example.org/f.woff") }', page, page.parent)
    assert check_css("a { background: url(missing.png) }", page, page.parent)
    assert check_script('import x from "https://example.org/x.mjs"', page, page.parent)
    assert not check_script("// https://example.org/licence\nvar a = 1", page, page.parent)
    assert is_external("ftp://example.org/x") and not is_external("x.png")
    assert page_addresses("<p>nothing</p>") == []


def test_every_link_leads_somewhere(html_folder):
    """Between pages, inside a page, and from the indexes: the file is there, and the place in it."""
    complain(dead_links(html_folder))


def test_every_object_of_the_search_has_its_place(html_folder):
    """The search links to functions by their anchors, which no page shows as links."""
    InventoryFile = pytest.importorskip("sphinx.util.inventory").InventoryFile
    inventory = InventoryFile.load((html_folder / "objects.inv").open("rb"), "", posixpath.join)
    pages, found = {}, []
    for kind, objects in inventory.items():
        for name, (_, _, address, _) in objects.items():
            page, _, place = address.partition("#")
            if page not in pages:
                pages[page] = anchors((html_folder / page).read_text(encoding="utf-8"))
            if place and place not in pages[page]:
                found.append(f"{kind} {name}: {address} leads to no place in the page")
    assert pages
    complain(found)


def test_a_dead_link_is_seen(tmp_path):
    (tmp_path / "one.html").write_text(
        '<p id="here"><a href="#here">sound</a><a href="two.html#there">sound</a><a href="https://example.org/#x">out</a>'
        '<a href="#nowhere">dead</a><a href="two.html#nowhere">dead</a><a href="three.html">dead</a>'
    )
    (tmp_path / "two.html").write_text('<p><a name="there">named</a>')
    assert dead_links(tmp_path) == [
        "one.html: #nowhere leads to no place in the page",
        "one.html: three.html leads to no file",
        "one.html: two.html#nowhere leads to no place in the page",
    ]
