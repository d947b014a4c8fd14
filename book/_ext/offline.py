"""Everything that a page needs comes with the page: no script, style, font or image is fetched from elsewhere.

MathJax 3 and the two text fonts come from packages that carry nothing but those files, so this repository does not.
As an extension, sphinx-mathjax-offline copies all of MathJax, 24 MB; this one copies the part that typesets TeX.
"""

import shutil
from importlib.metadata import distribution
from pathlib import Path

from sphinx.application import Sphinx

# The combined component, the fonts, the TeX packages loaded on demand, and whatever the menu of a formula can ask for.
MATHJAX = (
    "tex-chtml.js",
    "output",
    "input/tex/extensions",
    "ui",
    "a11y",
    "sre/mathmaps/base.json",
    "sre/mathmaps/en.json",
    "sre/mathmaps/nemeth.json",
)

# Both under the SIL Open Font License; custom.css names the files.
SERIF = ("SourceSerifPro-Regular.otf", "SourceSerifPro-It.otf", "SourceSerifPro-Bold.otf", "LICENSE.txt")
SANS = ("SourceSansPro-Regular.otf", "SourceSansPro-It.otf", "SourceSansPro-Semibold.otf", "LICENSE.txt")


def folder_with(package: str, name: str) -> Path:
    """The folder inside an installed package that holds the file `name`, found without importing the package."""
    installed = distribution(package)
    for file in installed.files or []:
        if file.name == name:
            return Path(str(installed.locate_file(file))).resolve().parent
    raise FileNotFoundError(f"{package} {installed.version} is installed, but holds no {name}")


def copy(source: Path, target: Path, names: tuple[str, ...]) -> None:
    for name in names:
        if (source / name).is_dir():
            shutil.copytree(source / name, target / name, dirs_exist_ok=True)
        else:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, target / name)


def copy_assets(app: Sphinx, exception: Exception | None) -> None:
    if exception is not None or app.builder.format != "html":
        return
    static = Path(app.outdir) / "_static"
    copy(folder_with("sphinx-mathjax-offline", "tex-chtml.js"), static / "mathjax", MATHJAX)
    copy(folder_with("font-source-serif-pro", SERIF[0]), static / "fonts" / "serif", SERIF)
    copy(folder_with("font-source-sans-pro", SANS[0]), static / "fonts" / "sans", SANS)


def setup(app: Sphinx) -> dict[str, bool]:
    # Jupyter Book sets this value for sphinx_comments in every book; unknown, it would be a warning.
    app.add_config_value("comments_config", {}, "")
    app.connect("config-inited", lambda _, config: setattr(config, "mathjax_path", "mathjax/tex-chtml.js"))
    app.connect("build-finished", copy_assets)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
