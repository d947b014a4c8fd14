"""Name the page at which a build stops.

A kernel that dies ends the build with an exception of the notebook client, which does not say whose kernel it was.
What a cell raises, and a cell that runs out of time, are warnings that name their page.
"""

from sphinx.application import Sphinx
from sphinx.util import logging

LOGGER = logging.getLogger(__name__)


def name_the_page(app: Sphinx, exception: Exception | None) -> None:
    page = app.env.temp_data.get("docname")
    if exception is not None and page:
        LOGGER.error("the build stops at this page: %s", exception, location=page)


def setup(app: Sphinx) -> dict:
    app.connect("build-finished", name_the_page)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
