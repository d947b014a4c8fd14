"""Real English text with answers: the docstrings of Python's standard library, to summarise and to classify.

PEP 257 asks that the first line of a docstring sums up what follows: a summary, written by who knew best. And where a
docstring comes from is a label: each module belongs to a chapter of the library's manual. The text is that of the
Python that runs, so it differs a little between versions.
"""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from tfguide.checks.values import check_choice
from tfguide.tasks import library
from tfguide.tasks.own import check_answers, read_columns

HELD_OUT = 5  # of so many texts one is held out
LEAST_WORDS = 8  # of a docstring that is classified
SUMMARY_WORDS = range(4, 21)  # of a first line that counts as a summary
BODY_WORDS = range(20, 201)

#: The labels, and the modules that the manual lists under each of these subjects.
LABELS = {
    "concurrency": "asyncio concurrent multiprocessing queue sched selectors subprocess threading _threading_local",
    "data types": (
        "_collections_abc _pydecimal _strptime bisect calendar collections datetime enum fractions graphlib heapq "
        "numbers random statistics types weakref zoneinfo"
    ),
    "development": (
        "bdb cProfile cgitb code codeop doctest pdb profile pstats pydoc timeit trace traceback tracemalloc unittest"
    ),
    "files": (
        "_pyio bz2 csv fileinput filecmp fnmatch genericpath glob gzip lzma ntpath os pathlib posixpath shutil stat "
        "tarfile tempfile zipfile"
    ),
    "graphics": "curses tkinter turtle",
    "internet": (
        "cgi email ftplib html http imaplib ipaddress mailbox mimetypes nntplib poplib smtplib socket socketserver ssl "
        "telnetlib urllib uuid webbrowser wsgiref xmlrpc"
    ),
    "language": (
        "abc ast contextlib copy dataclasses dis functools importlib inspect modulefinder operator pickle pickletools "
        "pkgutil pyclbr runpy symtable tokenize typing zipimport"
    ),
    "programs": "argparse cmd configparser getopt getpass gettext locale logging optparse platform shlex",
}
_LABEL_OF = {module: label for label, modules in LABELS.items() for module in modules.split()}
_LEFT_OUT = {"idlelib", "test", "tests", "site-packages", "dist-packages"}


@dataclass(frozen=True)
class Docstring:
    """A docstring without its indentation, and where it stands: the module, and the name of what it describes there.

    label: one of `LABELS`.
    """

    module: str
    name: str
    text: str
    label: str


@dataclass(frozen=True)
class Summary:
    """A text, and the line that sums it up."""

    text: str
    summary: str


def docstrings() -> list[Docstring]:
    """The docstrings of the modules in LABELS of at least LEAST_WORDS words, each text once, in the order of their
    places. No module is imported."""
    found, seen = [], set()
    for module, name, text in everywhere(_LABEL_OF):
        key = _key(text)
        if len(key.split()) >= LEAST_WORDS and key not in seen:
            seen.add(key)
            found.append(Docstring(module, name, text, _LABEL_OF[module.partition(".")[0]]))
    return found


def everywhere(modules: Collection[str] | None = None) -> Iterator[tuple[str, str, str]]:
    """Each docstring of the standard library: the module, the name of what it describes there, and the text.

    modules: those to look into, with what is below them; default: all. Tests and what is not of the library are left
    out.
    """
    for module, source in library.modules(_LEFT_OUT, modules):
        for name, _, text in library.documented(source):
            yield module, name, text


def summaries(texts: Sequence[Docstring] | None = None) -> list[Summary]:
    """The docstrings whose first line is a sentence by itself and that go on for some lines: body and first line.

    Both are put on one line, without examples. texts: default `docstrings()`.
    """
    found = []
    for one in docstrings() if texts is None else texts:
        first, _, body = one.text.partition("\n\n")
        body = " ".join(body.partition(">>>")[0].split())
        if "\n" not in first and len(first.split()) in SUMMARY_WORDS and len(body.split()) in BODY_WORDS:
            found.append(Summary(body, first.strip()))
    return found


def is_held_out(text: str) -> bool:
    """Whether no model learns from the text: a checksum of its words decides, so it is the same in every order."""
    return zlib.crc32(_key(text).encode()) % HELD_OUT == 0


def read_labelled(path: str | os.PathLike) -> list[tuple[str, str]]:
    """Texts of your own with their labels: a file in UTF-8 with a label, a tab and a text on each line."""
    return list(read_columns(path, "a label, a tab and a text"))


def read_summaries(path: str | os.PathLike) -> list[Summary]:
    """Texts of your own with their summaries: a file in UTF-8 with a summary, a tab and a text on each line."""
    return [Summary(text, summary) for summary, text in read_columns(path, "a summary, a tab and a text")]


def rouge(summaries: Sequence[str], wanted: Sequence[str]) -> dict[str, float]:
    """The mean F1 of ROUGE-1, -2 and -L over pairs, 0 to 1, by rouge-score with stems. Source: Lin 2004.

    Raises ValueError for lists of unequal lengths and for none, ImportError where rouge-score is not installed.
    """
    check_answers(summaries, wanted)
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError as error:
        raise ImportError("ROUGE is computed by rouge-score: pip install 'tfguide[tasks]'") from error
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)
    scores = [scorer.score(right, given) for given, right in zip(summaries, wanted, strict=True)]
    return {name: sum(score[name].fmeasure for score in scores) / len(scores) for name in scores[0]}


def sentences(text: str) -> list[str]:
    """A text cut behind full stops, question marks and colons that a space and a new sentence follow.

    >>> sentences("Return e.g. 3. See also: the others. No more.")
    ['Return e.g. 3.', 'See also: the others.', 'No more.']
    """
    return [part.strip() for part in re.split(r"(?<=[.!?])\s+(?=[A-Z'\"`(*])", text) if part.strip()]


def lead(text: str, n: int = 1) -> str:
    """The first `n` sentences: the baseline that a summariser must beat."""
    return " ".join(sentences(text)[:n])


def label_names() -> tuple[str, ...]:
    """The labels in the order of their numbers."""
    return tuple(LABELS)


def label_number(label: str) -> int:
    """The number of a label, from 0. Raises ValueError for one that is none."""
    check_choice("label", label, label_names())
    return label_names().index(label)


def _key(text):
    """A text without what does not make it another one."""
    return " ".join(re.findall(r"\w+", text.lower()))
