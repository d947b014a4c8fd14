"""Everything that a page needs comes with the page: no script, style, font or image is fetched from elsewhere.

MathJax 3 comes from the package sphinx-mathjax-offline, which carries the files. As an extension that package copies
all of them, 24 MB; this one copies the part that typesets TeX.
"""

import shutil
from importlib.metadata import distribution
from pathlib import Path

from sphinx.application import Sphinx

# The combined component, the fonts, the TeX packages loaded on demand, and whatever the menu of a formula can ask for.
MATHJAX_PARTS = (
    "tex-chtml.js",
    "output",
    "input/tex/extensions",
    "ui",
    "a11y",
    "sre/mathmaps/base.json",
    "sre/mathmaps/en.json",
    "sre/mathmaps/nemeth.json",
)


def mathjax_folder() -> Path:
    """The folder of MathJax inside the installed package, found by its metadata (its name is no Python identifier)."""
    package = distribution("sphinx-mathjax-offline")
    entry = next(f for f in package.files or [] if f.name == "tex-chtml.js")
    return Path(str(package.locate_file(entry))).resolve().parent


def copy_mathjax(app: Sphinx, exception: Exception | None) -> None:
    if exception is not None or app.builder.format != "html":
        return
    source, target = mathjax_folder(), Path(app.outdir) / "_static" / "mathjax"
    for part in MATHJAX_PARTS:
        if (source / part).is_dir():
            shutil.copytree(source / part, target / part, dirs_exist_ok=True)
        else:
            (target / part).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / part, target / part)


def setup(app: Sphinx) -> dict[str, bool]:
    # Jupyter Book sets this value for sphinx_comments in every book; unknown, it would be a warning.
    app.add_config_value("comments_config", {}, "")
    app.connect("config-inited", lambda _, config: setattr(config, "mathjax_path", "mathjax/tex-chtml.js"))
    app.connect("build-finished", copy_mathjax)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
