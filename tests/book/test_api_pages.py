"""The API pages show every public name once, in the table and below it; both frameworks have the same page."""

import importlib
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

PAGES = Path(__file__).resolve().parents[2] / "book" / "appendices"


def listed(page):
    """The names in the tables of a page, and those it describes, each in order."""
    text = (PAGES / page).read_text()
    tables = re.findall(r"\.\. autosummary::\n   :nosignatures:\n\n((?:   \w+\n)+)", text)
    described = re.findall(r"\.\. (?:autofunction|autoclass|autoexception|py:data):: (?:tfguide\.)?(\w+)", text)
    return [name for table in tables for name in table.split()], described


@pytest.mark.parametrize("package", ["reference", "torch", "tensorflow"])
def test_page_of_an_implementation_has_every_public_name(package):
    if package != "reference":
        pytest.importorskip(package)
    public = set(importlib.import_module(f"tfguide.{package}").__all__)
    table, described = listed(f"api_{package}.md")
    assert table == described
    assert len(table) == len(set(table))
    assert set(table) == public


def test_frameworks_have_the_same_page():
    assert listed("api_torch.md") == listed("api_tensorflow.md")


def test_page_of_the_package_has_every_public_name():
    import tfguide

    _, described = listed("api.md")
    assert set(described) == {name for name in tfguide.__all__ if not name.startswith("_")}


def test_page_of_the_cost_model_has_every_public_name():
    from tfguide import cost, sharding

    table, described = listed("api_cost.md")
    assert set(sharding.__all__) - set(described) == {"LAYOUTS"}
    assert table == described[: len(table)]
    assert set(table) == set(cost.__all__) - {"BYTES", "CHIPS", "LAYOUTS"}  # tables, named below


@pytest.mark.parametrize(
    "package", ["checkpoints", "generation", "compress", "text", "training", "exercises", "export", "serving"]
)
def test_shared_page_has_every_public_name(package):
    table, described = listed("api_shared.md")
    public = importlib.import_module(f"tfguide.{package}").__all__
    assert table == described
    # On the page of the package, or a table, or no function.
    elsewhere = {"PromptLookup", "Sampling", "ACTIVATION_BLOCK", "EXERCISES", "FILE", "NO_LABEL"}
    assert set(public) - elsewhere <= set(described)


def test_page_of_many_processes_has_every_public_name():
    pytest.importorskip("torch")
    from tfguide.torch import parallel

    table, described = listed("api_parallel.md")
    assert set(table) == set(parallel.__all__)
    assert set(table) < set(described)
    assert set(described) >= {"ProcessMesh", *importlib.import_module("tfguide.torch.parallel.dtensor").__all__}


class Signatures(HTMLParser):
    """The text of every signature of an API page, by the name that it documents."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.found: dict[str, str] = {}
        self._name = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "dt":
            attributes = dict(attrs)
            self._name = attributes.get("id") or "" if "sig-object" in (attributes.get("class") or "") else ""
            self.found |= {self._name: ""} if self._name else {}

    def handle_endtag(self, tag: str) -> None:
        self._name = "" if tag == "dt" else self._name

    def handle_data(self, data: str) -> None:
        if self._name:
            self.found[self._name] += data


# Each framework's own types, what its storages take as an index, and the attention that its layers call by default.
OWN_TYPES = (
    (r", device=None", ""), (r"\b(torch|tf)\.", ""), (r"\bDType\b", "dtype"), (r"\bVariable\b", "Tensor"),
    (r"(?<=places: )(tuple|Tensor)|(?<=slots: ndarray\) → )(tuple|Tensor)", "index"),
    (r"<function (fused|scaled_dot_product)_attention>", "attention"),
)  # fmt: skip


def signatures(html_folder, package):
    """The signatures of a page without what the frameworks must say differently: their own names and types."""
    html = (html_folder / f"book/appendices/api_{package}.html").read_text(encoding="utf-8")
    found = {}
    for name, text in Signatures(html).found.items():
        text = " ".join(text.split()).removesuffix("#").replace(f"tfguide.{package}.", "")
        text = text.replace("( ", "(").replace(", )", ")")  # how a long line was broken
        for ours, theirs in OWN_TYPES:
            text = re.sub(ours, theirs, text)
        text = re.sub(r"^forward\b|^call\b", "call", text)
        found[name.removeprefix(f"tfguide.{package}.").replace(".forward", ".call")] = text
    return found


def test_frameworks_show_the_same_signatures(html_folder):
    one, other = (signatures(html_folder, package) for package in ("torch", "tensorflow"))
    assert len(one) > 60
    assert one.keys() == other.keys()
    assert [(name, one[name], other[name]) for name in one if one[name] != other[name]] == []


@pytest.mark.parametrize("package", ["torch", "tensorflow"])
def test_what_a_class_inherits_from_the_package_is_shown(html_folder, package):
    """The verbs of every model, whoever wrote them, and all that can be asked of a cache."""
    shown = signatures(html_folder, package).keys()
    framework = importlib.import_module(f"tfguide.{package}")
    models = {"Decoder", "EncoderDecoder", "FastDecoder", "CompiledDecoder"}
    verbs = {f"{model}.{verb}" for model in models for verb in ("new_cache", "prefill", "decode", "score")}
    caches = {
        f"{cache}.{name}"
        for cache in ("KVCache", "SlidingCache")
        for base in getattr(framework, cache).__mro__[:-1]
        for name, member in vars(base).items()
        if not name.startswith("_")
        and getattr(member, "__doc__", None)
        and (callable(member) or type(member) is property)
    }
    assert len(caches) > 16
    assert verbs | caches <= shown


@pytest.mark.parametrize(
    "page", ["api_reference", "api_torch", "api_tensorflow", "api_shared", "api_cost", "api_parallel", "api"]
)
def test_every_signature_names_its_parameters(html_folder, page):
    """`*args, **kwargs` says nothing; only `attention_maps` passes on what any of three models takes."""
    found = Signatures((html_folder / f"book/appendices/{page}.html").read_text(encoding="utf-8")).found
    assert found
    assert [n for n, t in found.items() if "**kwargs" in t or ("*args" in t and not n.endswith("attention_maps"))] == []


def test_a_class_that_keras_wraps_shows_its_own_parameters(html_folder):
    shown = signatures(html_folder, "tensorflow")["MultiHeadAttention"]
    assert shown.startswith("class MultiHeadAttention(d_model: int, n_heads: int, n_kv_heads: int | None = None")
