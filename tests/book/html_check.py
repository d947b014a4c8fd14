"""A static reader of built pages: what would a browser fetch, and does any of it lie outside the book?

A link that a reader may click is no fetch. Whatever the browser loads by itself is: scripts, styles, fonts, images,
frames, media, preloads, `url(...)` and `@import` in CSS, and the addresses that a script imports or fetches.
"""

import re
from html.parser import HTMLParser
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

# Attributes that make a browser fetch, by element. <link> is handled by its rel, srcset by its own syntax.
FETCHING = {
    "audio": ("src",),
    "body": ("background",),
    "embed": ("src",),
    "feimage": ("href", "xlink:href"),
    "iframe": ("src",),
    "image": ("href", "xlink:href"),
    "img": ("src",),
    "input": ("src",),
    "object": ("data",),
    "script": ("src", "href", "xlink:href"),
    "source": ("src",),
    "track": ("src",),
    "use": ("href", "xlink:href"),
    "video": ("src", "poster"),
}
FETCHING_RELS = {
    "apple-touch-icon",
    "dns-prefetch",
    "icon",
    "manifest",
    "mask-icon",
    "modulepreload",
    "preconnect",
    "prefetch",
    "preload",
    "stylesheet",
}
CSS_URL = re.compile(r"""url\(\s*(?:"([^"]*)"|'([^']*)'|([^)"'\s]+))\s*\)|@import\s+(?:"([^"]+)"|'([^']+)')""")
CSS_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)

# In a script an address is external when it is imported, fetched, or put where a browser loads from.
_ADDRESS = r"""["'`]((?:https?:|wss?:)?//[^"'`\s]+)["'`]"""
SCRIPT_FETCH = re.compile(
    rf"""(?:\bimport\s*\(?\s*|\bfrom\s*|\bfetch\(\s*|\bimportScripts\(\s*|\bnew\s+(?:WebSocket|Worker|EventSource)\(\s*"""
    rf"""|\.open\(\s*["'`]\w+["'`]\s*,\s*|\bsrc\s*[:=]\s*|["']src["']\s*,\s*|\brequire\(\s*\[?\s*|_URL\s*=\s*){_ADDRESS}"""
)


def is_external(address: str) -> bool:
    """Does this address name a server, or a scheme other than data inside the page?

    >>> [is_external(a) for a in ("https://a.org/x.js", "//a.org/x.js", "../x.js?v=1", "data:image/png;base64,AA")]
    [True, True, False, False]
    """
    parts = urlsplit(address.strip())
    return bool(parts.netloc) or parts.scheme not in ("", "data", "blob", "about", "javascript")


class _Page(HTMLParser):
    """Collects the addresses that a page fetches, and its inline scripts and styles."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.fetched: list[tuple[str, str]] = []  # (what, address)
        self.styles: list[str] = []
        self.scripts: list[str] = []
        self._inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        self._inside = tag if tag in ("script", "style") else ""
        for name in FETCHING.get(tag, ()):
            if attributes.get(name):
                self.fetched.append((tag, attributes[name]))
        for candidate in attributes.get("srcset", "").split(","):
            if candidate.strip():
                self.fetched.append((f"{tag} srcset", candidate.split()[0]))
        if tag == "link" and FETCHING_RELS & set(attributes.get("rel", "").lower().split()):
            self.fetched.append((f"link {attributes['rel']}", attributes.get("href", "")))
        if tag == "meta" and attributes.get("http-equiv", "").lower() == "refresh" and "url=" in attributes["content"]:
            self.fetched.append(("meta refresh", attributes["content"].split("url=", 1)[1]))
        if tag == "base" and attributes.get("href"):
            self.fetched.append(("base", attributes["href"]))
        if "style" in attributes:
            self.styles.append(attributes["style"])
        self.scripts += [value for name, value in attributes.items() if name.startswith("on")]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self._inside = ""

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "style":
            self.styles.append(data)
        elif self._inside == "script":
            self.scripts.append(data)


def css_addresses(css: str) -> list[str]:
    """The addresses that a style sheet fetches, comments left out."""
    return [next(filter(None, groups), "") for groups in CSS_URL.findall(CSS_COMMENT.sub("", css))]


def script_addresses(script: str) -> list[str]:
    """The external addresses that a script imports, fetches or loads from."""
    return SCRIPT_FETCH.findall(script)


def page_addresses(html: str) -> list[tuple[str, str]]:
    """What a page fetches, as (what, address), inline styles and scripts included."""
    page = _Page()
    page.feed(html)
    page.close()
    return (
        page.fetched
        + [("inline style", address) for style in page.styles for address in css_addresses(style)]
        + [("inline script", address) for script in page.scripts for address in script_addresses(script)]
    )


def check_page(html: str, path: Path, root: Path) -> list[str]:
    """The complaints about one page: each external fetch, and each local file that is fetched and does not exist."""
    return _complaints(page_addresses(html), path, root)


def check_css(css: str, path: Path, root: Path) -> list[str]:
    """The complaints about one style sheet."""
    return _complaints([("style sheet", address) for address in css_addresses(css)], path, root)


def check_script(script: str, path: Path, root: Path) -> list[str]:
    """The complaints about one script: external fetches only, since a script composes its local addresses."""
    return _complaints([("script", address) for address in script_addresses(script)], path, root)


def _complaints(fetched: list[tuple[str, str]], path: Path, root: Path) -> list[str]:
    name, found = path.relative_to(root).as_posix(), []
    for what, address in fetched:
        local = unquote(urlsplit(address.strip()).path)
        if is_external(address):
            found.append(f"{name}: {what} loads {address}")
        elif not address.strip().startswith(("data:", "blob:", "about:", "javascript:", "#")) and local:
            if PurePosixPath(local).is_absolute():
                found.append(f"{name}: {what} {address} works only at the root of a server")
            elif not (path.parent / local).exists():
                found.append(f"{name}: {what} {address} does not exist")
    return found


class _Anchors(HTMLParser):
    """Collects what a page can be entered at, and where its links lead."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.targets: set[str] = set()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        self.targets |= {attributes[name] for name in ("id", "name") if attributes.get(name)}
        if tag == "a" and "href" in attributes:
            self.links.append(attributes["href"])


def anchors(html: str) -> set[str]:
    """The places that a page can be entered at."""
    page = _Anchors()
    page.feed(html)
    page.close()
    return page.targets


def dead_links(root: Path) -> list[str]:
    """Every link of every page under `root` that leads to no page of the book, or to no place in that page."""
    pages = {path.resolve(): _Anchors() for path in sorted(root.rglob("*.html"))}
    for path, page in pages.items():
        page.feed(path.read_text(encoding="utf-8"))
        page.close()
    found = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            place = unquote(parts.fragment)
            if not target.exists():
                found.append(f"{path.relative_to(root.resolve())}: {link} leads to no file")
            elif place and target in pages and place not in pages[target].targets:
                found.append(f"{path.relative_to(root.resolve())}: {link} leads to no place in the page")
    return sorted(set(found))
