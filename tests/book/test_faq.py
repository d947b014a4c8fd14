"""Chapter 10: every question has an address, an answer of a few sentences, a proof, and a link to what explains it."""

import re
from pathlib import Path

import pytest

BOOK = Path(__file__).resolve().parents[2] / "book"
CONTENTS = BOOK / "10_faq.md"
PAGES = sorted(BOOK.glob("10*_faq*.md"))

#: The six of the source, in its order, each with what its heading must say.
SOURCE = {
    "source-data": "training data", "source-positions": "position encodings", "source-heads": "several heads",
    "source-sizes": "sizes", "source-resources": "few resources", "source-evaluate": "evaluated",
}  # fmt: skip
#: The forty that people ask.
ASKED = {
    "cache-logits": "change the logits", "cache-queries": "queries", "batch-alone": "in a batch than alone",
    "batch-padding": "left or on the right", "sampling-greedy": "temperature 0 not deterministic",
    "sampling-load": "load", "cache-reuse": "reusing cached blocks", "precision-int8": "int8 slower than fp16",
    "precision-cache": "keys or in the values", "precision-nan": "NaN", "faq-speculation": "speculative decoding",
    "memory-more": "14 GB model take 23 GB", "cache-full": "longer than the cache", "memory-blocks": "free blocks",
    "memory-reserve": "reserve all memory", "faq-experts": "expert", "devices-slower": "two GPUs slower",
    "devices-parallel": "data parallelism", "speed-threads": "threads", "speed-utilisation": "100% utilisation",
    "attention-flash": "PagedAttention", "memory-page": "page size", "positions-halves": "halves or interleaved",
    "positions-length": "garbage past the trained length", "speed-compile": "compiling gain nothing",
    "speed-static": "static or a dynamic cache", "speed-retrace": "retrace", "cache-prefix": "one changed token",
    "batch-stall": "long prompt stall", "batch-logits": "logits of every token of the prompt",
    "text-broken": "broken characters", "attention-query": "Q come from", "architecture-norm": "before or after",
    "sampling-loops": "greedy text repeat", "architecture-heads": "d_model", "precision-int4": "int4 hurt",
    "attention-scale": "square root of d", "speed-decode": "decoding so slow", "sampling-frameworks": "last digit",
    "memory-need": "How much memory",
}  # fmt: skip
QUESTION = re.compile(r"^\(([a-z0-9-]+)\)=\n### (.+?)\n(.*?)(?=^\([a-z0-9-]+\)=\n|^## |\Z)", re.MULTILINE | re.DOTALL)


def questions():
    """(heading, answer) by label, of all pages."""
    return {label: (heading, answer) for page in PAGES for label, heading, answer in QUESTION.findall(page.read_text())}


FOUND = questions()


def label(key):
    return key if key.startswith("faq-") else f"faq-{key}"


def prose(answer):
    """The answer without its cells and captions."""
    return re.sub(r"^```.*?^```$", "", answer, flags=re.MULTILINE | re.DOTALL).strip()


def test_there_are_the_six_of_the_source_and_forty_more():
    assert len(SOURCE) == 6 and len(ASKED) == 40
    assert sorted(FOUND) == sorted(map(label, SOURCE | ASKED))
    in_source = re.findall(r"^\(faq-(source-\w+)\)=", CONTENTS.read_text(), re.MULTILINE)
    assert in_source == list(SOURCE)


@pytest.mark.parametrize("key", SOURCE | ASKED)
def test_a_question_is_answered_and_proved(key):
    heading, answer = FOUND[label(key)]
    assert (SOURCE | ASKED)[key].lower() in heading.lower() and heading.endswith("?")
    sentences = re.findall(r"[.!?](?=\s|$)", prose(answer))
    assert 3 <= len(sentences) <= 12, len(sentences)
    assert "```{code-cell}" in answer, "no cell proves it"
    links = re.findall(r"\]\((?:#([\w-]+)|([\w/]+\.md))\)|\{eq\}`([\w-]+)`", prose(answer))
    assert any(page.startswith("0") or (name and not name.startswith("faq")) for name, page, _ in links), links


def test_every_address_is_there_once_and_in_the_contents():
    every = [name for page in BOOK.rglob("*.md") for name in re.findall(r"^\(([\w-]+)\)=$", page.read_text(), re.M)]
    assert len(every) == len(set(every))
    listed = re.findall(r"\]\(#(faq-[\w-]+)\)", CONTENTS.read_text().split("## The source's six")[0])
    assert sorted(listed) == sorted(FOUND)


def test_the_contents_name_the_page_of_each_group():
    """A group links to the page on which its questions stand."""
    text = CONTENTS.read_text().split("## The questions")[1].split("```")[0]
    for group in text.split("\n\n**")[2:]:
        page, labels = re.search(r"\]\((\w+\.md)\)", group)[1], re.findall(r"\(#(faq-[\w-]+)\)", group)
        there = (BOOK / page).read_text()
        assert labels and all(f"({name})=\n### " in there for name in labels), page


def test_nothing_is_promised_that_is_not_there():
    for page in PAGES:
        assert not re.search(r"later chapter|will be", page.read_text()), page.name
