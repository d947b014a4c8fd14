"""`tfguide ask`: a question about Python, answered from its documentation, or from documents of your own."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

from tfguide.checks.values import check_count
from tfguide.cli.lines import read_lines
from tfguide.cli.options import add_model_options, load, starting
from tfguide.loading import NONE, find_checkpoint, installed_framework, load_sentence_encoder, open_checkpoint
from tfguide.tasks.answering import LEAST, Reader
from tfguide.tasks.asking import PAGES, Finding, Search, open_search
from tfguide.text import read_template, read_tokenizer

EXAMPLES = (("ask a question about Python", 'tfguide ask "How do I merge two dictionaries into a new one?"'),)
PROMPT = "? "
ABOUT = """\
Answer questions about Python from the documentation that comes with it. MiniLM finds the passage, SmolLM2 reads it and
writes an answer; beside it stands the sentence of the passage that is nearest to the question. A small model may be
wrong: the sentence and the source are there to check it. Without a question, each line of the standard input is one."""


def add_commands(commands: Any) -> None:
    """Add the command to the subparsers of the command line."""
    ask = commands.add_parser(
        "ask", help="ask a question about Python", description=ABOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    ask.set_defaults(run=run)
    ask.add_argument("question", nargs="*", help="one or several, each in quotation marks")
    ask.add_argument("--documents", metavar="PATH", help="a folder of .txt, .md and .rst files, or one file, instead")
    ask.add_argument(
        "--least", type=float, default=LEAST, metavar="SCORE",
        help=f"nothing fits where the best passage scores less; default: {LEAST}",
    )  # fmt: skip
    ask.add_argument(
        "--pages", type=int, default=PAGES, metavar="N",
        help=f"passages that the model reads before it answers from the best; default: {PAGES}, 1 is the quickest",
    )  # fmt: skip
    ask.add_argument("--max-new-tokens", type=int, default=96, metavar="N", help="of an answer; default: 96")
    add_model_options(ask)


def run(options: argparse.Namespace) -> int:
    """Answer each question, or each line of the standard input; returns 0."""
    check_count("--pages", options.pages)
    reader = _reader(options)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    framework = installed_framework() if options.framework in (None, NONE) else options.framework
    search = open_search(load_sentence_encoder(framework), options.documents, _progress, options.least)
    for question in options.question or read_lines(PROMPT):
        if question.strip():
            try:
                _answer(search, reader, question.strip(), options.pages)
            except BrokenPipeError:  # nobody reads on
                raise
            except ValueError as error:
                if options.question:
                    raise
                print(f"tfguide: {error}", file=sys.stderr)
            sys.stdout.flush()
    return 0


def _reader(options):
    with starting():
        checkpoint = open_checkpoint(find_checkpoint(options.checkpoint))
        tokenizer, template = read_tokenizer(checkpoint), read_template(checkpoint)
        model = load(options, checkpoint)
    return Reader(model, tokenizer, template, options.max_new_tokens, cache_dtype=options.cache_dtype)


def _answer(search: Search, reader: Reader, question: str, n_pages: int) -> None:
    """Print what was found and the answer as it comes, then what it took on stderr."""
    finding = search.look_up(question, reader, n_pages)
    print(f"{PROMPT}{question}")
    if not finding.fits:
        print("Nothing in these documents fits the question.", flush=True)
        return
    print(f'{_source(finding)}:\n  "{finding.sentence}"', flush=True)
    for piece in reader.answer(finding.passage.text, question):
        print(piece, end="", flush=True)
    print("\n", flush=True)
    kept = f", {reader.n_kept} kept from before" if reader.n_kept else ""
    print(f"[{reader.last.summary()}{kept}]", file=sys.stderr)


def _source(finding: Finding) -> str:
    """The document and the heading of the best passage."""
    passage = finding.passage
    return passage.source + (f", {passage.heading}" if passage.heading else "")


def _progress(done: int, total: int) -> None:
    """Say how far the vectors are; they are computed once."""
    end = "\n" if done == total else ""
    print(f"\rreading the documents, once: {done} of {total} passages", end=end, file=sys.stderr, flush=True)
