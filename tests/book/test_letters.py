"""One alphabet in all pages: what the mathematics and the code of the book call scores, weights and outputs.

Scores are Z, attention weights A, the output of a head C, the output of a layer Y, the input of an activation U. S is a
size and never a matrix. Formulas of the source are quoted in bold and are left out.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import tfguide
from tfguide.figures import algorithms

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    *sorted((ROOT / "book").glob("*.md")),
    *sorted((ROOT / "book/appendices").glob("*.md")),
    *sorted((ROOT / "notebooks").glob("*.ipynb")),
]

FENCE = re.compile(r"^(`{3,}|:{3,})\{([\w-]+)\}.*?\n(.*?)^\1\s*$", re.MULTILINE | re.DOTALL)
MATH = re.compile(r"\$\$(.+?)\$\$|(?<![\\$])\$([^$\n][^$]*?)\$", re.DOTALL)
BRACED = r"\s*(?:\{(?:[^{}]|\{[^{}]*\})*\}|\w)"
BOLD = re.compile(r"\\(?:mathbf|textbf)" + BRACED)
WORDS = re.compile(r"(\\(?:text|operatorname|mathrm))" + BRACED)

LETTER = r"(?<![A-Za-z\\]){}(?![A-Za-z])"
S, O, Z, C = (LETTER.format(letter) for letter in "SOZC")
WRONG_IN_MATHEMATICS = {
    "S is a size: scores are Z": [
        rf"\\softmax\s*\(?\s*{S}\s*\)",
        rf"\\bar\s*\{{?\s*{S}",
        rf"{S}(?:\^h)?_(?:\{{\s*)?[a-z][ ,]*[a-z]",  # S_{ij}, S_{ts}, S_{h, t s}
        rf"{S}\s*&?=\s*(?:\\t?frac\s*)?(?:\{{\s*)?(?:\\bar\s*)?[QX]",  # S = Q K^T
        rf"{S}\s*&?=\s*(?:\\t?frac\s*12\s*)?\\begin",
        rf"{S}\s*\^\s*(?:\\top|T\b|\{{\\top)",
        rf"P\s*(?:\\[,;:!])?\s*{S}\s*(?:\\[,;:!])?\s*P",
        rf"e\^(?:\{{\s*)?{S}",
    ],
    "O is no letter of the book: the output of a head is C, of a layer Y": [rf"{O}(?!\s*\()"],
    "Z are the scores: a feed-forward network has U": [
        rf"{Z}'?\s*&?=\s*X\s*W",
        rf"(?:\\ReLU|\\phi|\\GELU|f)'?\s*\(\s*{Z}",
        rf"{Z}'\s*(?:\\,)?\s*W_2",
    ],
    "C is the output of a head: costs have words": [rf"{C}\s*\(", r"(?<![A-Za-z\\])C_\{?\\text"],
    "weights of attention are A": [rf"{LETTER.format('P')}\s*&?=\s*\\softmax"],
}
WRONG_IN_CODE = {
    "S is a size: scores are Z": [r"^\s*(?:\w+, )*d?S\b(?:, \w+)*\s*=[^=].*@", r"\bsoftmax\(S\b"],
    "O is no letter of the book": [r"^\s*(?:\w+, )*d?O(?:_\w+)?\b(?:, \w+)*\s*=[^=]", r"[\"']O(?:_\{h\})? ?=?[\"']"],
    "Z are the scores": [r"^\s*d?Z\s*=[^=].*\bW_?[1uo]?\b", r"np\.maximum\(Z\b"],
}


def parts(path: Path) -> Iterator[tuple[str, str]]:
    """("math" or "code", text) of a page or a notebook, in order."""
    if path.suffix == ".ipynb":
        for cell in json.loads(path.read_text())["cells"]:
            source = "".join(cell["source"])
            yield from [("code", source)] if cell["cell_type"] == "code" else formulas(source)
    else:
        yield from from_markdown(path.read_text())


def from_markdown(text: str) -> Iterator[tuple[str, str]]:
    for _, directive, body in FENCE.findall(text):
        if directive == "code-cell":
            yield "code", body
        elif directive == "math":
            yield "math", body
    prose = re.sub(r"^(`{3,})\{(?:code-cell|literalinclude|math)\}.*?^\1\s*$", "", text, flags=re.MULTILINE | re.DOTALL)
    yield from formulas(prose)


def formulas(markdown: str) -> Iterator[tuple[str, str]]:
    for display, inline in MATH.findall(markdown):
        yield "math", display or inline


def complaints(kind: str, text: str) -> list[str]:
    """What is wrong with the letters of a formula or a cell."""
    if kind == "math":
        text = WORDS.sub(r"\1", BOLD.sub(" ", text))
    rules = WRONG_IN_MATHEMATICS if kind == "math" else WRONG_IN_CODE
    return [
        f"{why}: {found.group(0).strip()!r}"
        for why, patterns in rules.items()
        for pattern in patterns
        if (found := re.search(pattern, text, re.MULTILINE))
    ]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_a_page_keeps_to_the_alphabet(path):
    found = [
        f"{complaint}\n    in {text.strip()[:100]}"
        for kind, text in parts(path)
        for complaint in complaints(kind, text)
    ]
    assert not found, "\n".join(found)


def test_the_pages_have_formulas_and_code_to_read():
    kinds = [kind for path in PAGES for kind, _ in parts(path)]
    assert kinds.count("math") > 500 and kinds.count("code") > 200


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("math", r"S = \frac{Q K^\top}{\sqrt d}"),
        ("math", r"S &= \frac{Q K^\top}{\sqrt d} && T \times T"),
        ("math", r"S = \frac12 \begin{pmatrix} 2 & 2 \end{pmatrix}"),
        ("math", r"A_{ts} = \frac{e^{S_{ts}}}{\sum_u e^{S_{tu}}}"),
        ("math", r"A = \softmax(S)"),
        ("math", r"\bar S = A \odot \bar A"),
        ("math", r"\bar K = \bar S^\top Q"),
        ("math", r"P S P^\top"),
        ("math", r"P\,S\,P^\top"),
        ("math", r"S_{h, t s} - m_h\, |t - s|"),
        ("math", r"O = A V"),
        ("math", r"[O_1, \dots, O_H]\,W_o"),
        ("math", r"\Concat(O_1, O_2)"),
        ("math", r"Z = X W_1 + b_1"),
        ("math", r"Z &= X W_1 + b_1"),
        ("math", r"\phi(Z)\, W_2"),
        ("math", r"C(S) = 2 N"),
        ("math", r"C_\text{training} \approx 6N"),
        ("code", "S = Q @ K.T / np.sqrt(4)"),
        ("code", "dS = A * (dC @ V.T - r)"),
        ("code", "O = A @ V"),
        ("code", "q = 1\nO_torch = weights @ values"),
        ("code", "Z = X @ W_1 + b_1"),
    ],
)
def test_another_letter_is_found(kind, text):
    assert complaints(kind, text)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("math", r"Z = \frac{Q K^\top}{\sqrt d} \qquad (T, S)"),
        ("math", r"4 T S H d"),
        ("math", r"(B, H, T, S)"),
        ("math", r"S_\text{both} = S_\text{projections} + S_\text{feed-forward}"),
        ("math", r"S = T"),
        ("math", r"S = 2048"),
        ("math", r"\mathbf{Z} = \mathbf{W}_1 \mathbf{C} + \mathbf{b}_1"),
        ("math", r"[C_1, \dots, C_H]\, W_o"),
        ("math", r"O(T^2)"),
        ("math", r"\text{FLOPs}(S)"),
        ("code", "B, T, S = 2, 5, 7"),
        ("code", "B, T, H, d = query.shape"),
        ("code", "Z = Q @ K.T / np.sqrt(4)"),
        ("code", "C = A @ V"),
    ],
)
def test_a_letter_of_the_book_is_left_alone(kind, text):
    assert not complaints(kind, text)


def test_the_formulas_of_a_page_are_found():
    page = "\n$$\nO = A V\n$$ (label)\n\nText with $S = Q K^\\top$ in it.\n\n```{math}\n:label: x\n\\softmax(S)\n```\n"
    assert sum(bool(complaints(*part)) for part in from_markdown(page)) == 3


@pytest.mark.parametrize("draw", [algorithms.attention_shapes, algorithms.heads_shapes, algorithms.feed_forward_shapes])
def test_a_figure_keeps_to_the_alphabet(draw):
    labels = {text.get_text() for ax in draw().axes for text in ax.texts}
    letters = {re.sub(r"[${}\\]|mathrm", "", label) for label in labels if len(label) < 24}
    assert not {letter for letter in letters if re.fullmatch(r"O(_\d)?|scores", letter)}
    assert {"A", "C", "Z"} <= letters or {"A_1", "C_1"} <= letters or {"W_g", "W_u", "W_d"} <= letters


def test_the_package_the_start_and_the_notation_have_the_same_sizes():
    """Each names every letter of a size, and none that the others lack."""
    in_code = set(
        re.findall(
            r"(?:^|  )([A-Za-z])(?: [a-z]| =)", tfguide.__doc__.split("\n\nMatrices:")[0].split("\n\n", 3)[3], re.M
        )
    )
    start = (ROOT / "book/index.md").read_text().split("## Conventions")[1].split("(the-map)")[0]
    in_start = set(re.findall(r"\| \$([A-Za-z])(?: = H/K)?\$ \|", start))
    notation = (ROOT / "book/appendices/notation.md").read_text().split("## Letters")[1].split("## Matrices")[0]
    in_notation = set(re.findall(r"^\| \$([A-Za-z])\$ \|", notation, re.M))
    assert in_code == in_start == in_notation == set("BTSDHKGdFLV")
