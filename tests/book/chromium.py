"""An installed Chromium, headless and without a network, and a loopback server for it: what the browser tests share."""

import functools
import http.server
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
TOC = (Path(__file__).resolve().parents[2] / "_toc.yml").read_text()
PAGES = [
    *re.findall(r"^\s*(?:- )?(?:root|file):\s*(\S+)", TOC, flags=re.MULTILINE),
    "genindex",
    "py-modindex",
    "search",
]

PHONE = {"width": 390, "height": 844}  # pixels

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--no-first-run",
    # Whatever a page may ask for, nothing but loopback answers.
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
]


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The address of a server of this folder on loopback."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def complain(found: list[str]) -> None:
    assert not found, "\n" + "\n".join(found)
