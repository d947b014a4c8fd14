"""`tfguide chat`: a conversation with a model."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Iterator
from typing import Any

from tfguide.cli.lines import read_lines
from tfguide.cli.options import add_model_options, add_sampling_options, load, sampling_of, starting
from tfguide.generation.sampling import Sampling
from tfguide.loading import find_checkpoint, open_checkpoint
from tfguide.text import Conversation, read_template, read_tokenizer

EXAMPLES = (("converse with a model", 'tfguide chat --system "Answer in one sentence."'),)
SAMPLING = Sampling(temperature=0.2, top_p=0.9)  # what the authors of SmolLM2 recommend
PROMPT = "> "
HELP = """\
/reset          forget all messages, begin anew
/system TEXT    the message that stands before all others; without TEXT: show it
/save FILE      write the conversation to FILE, as JSON
/help           this list
/exit           end; so does Ctrl-D. Ctrl-C stops an answer"""


def add_commands(commands: Any) -> None:
    """Add the command to the subparsers of the command line."""
    chat = commands.add_parser(
        "chat", help="converse with a model", description="Converse with a model. While it runs:", epilog=HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    chat.set_defaults(run=run)
    chat.add_argument("--system", metavar="TEXT", help="what stands before all messages; default: the template's")
    chat.add_argument("--context", type=int, metavar="N", help="tokens kept; default: what the model has, at most 4096")
    add_model_options(chat)
    add_sampling_options(chat, 256, SAMPLING)


def run(options: argparse.Namespace) -> int:
    """Answer each line of the standard input until it ends; returns 0."""
    conversation = _start(options)
    for line in _lines():
        try:
            if line.startswith("/"):
                if not _obey(conversation, line):
                    break
            elif line.strip():
                _answer(conversation, line)
        except BrokenPipeError:  # nobody reads on
            raise
        except (ValueError, OSError) as error:
            print(f"tfguide: {error}", file=sys.stderr)
        sys.stdout.flush()
    return 0


def _start(options):
    sampling = sampling_of(options)
    path = find_checkpoint(options.checkpoint)
    with starting():
        checkpoint = open_checkpoint(path)
        tokenizer, template = read_tokenizer(checkpoint), read_template(checkpoint)
        model = load(options, checkpoint)
    conversation = Conversation(
        model, tokenizer, template, options.system, sampling, options.context, options.max_new_tokens, options.stop,
        options.cache_dtype,
    )  # fmt: skip
    print(
        f"{path.stem}, a context of {conversation.max_length} tokens. /help lists what else you can do.",
        flush=True,
    )
    return conversation


def _lines() -> Iterator[str]:
    """The lines of the standard input, printed where no terminal shows them: what is printed reads as on a terminal."""
    for line in read_lines(PROMPT, "(/exit or Ctrl-D ends the conversation)"):
        if not sys.stdin.isatty():
            print(f"{PROMPT}{line}", flush=True)
        yield line


def _answer(conversation: Conversation, text: str) -> None:
    """Print an answer as it comes, then what it took on stderr. Ctrl-C ends the answer."""
    with contextlib.suppress(KeyboardInterrupt), contextlib.closing(conversation.ask(text)) as answer:
        for piece in answer:
            print(piece, end="", flush=True)
    print(flush=True)
    print(conversation.last.summary() if conversation.last else "[interrupted]", file=sys.stderr)


def _obey(conversation: Conversation, line: str) -> bool:
    """Do what a line that begins with a slash says; False for the end."""
    command, _, rest = line.partition(" ")
    rest = rest.strip()
    if command == "/exit":
        return False
    if command == "/reset":
        conversation.reset()
        print("(all messages are forgotten)")
    elif command == "/system":
        if rest:
            conversation.set_system(rest)
        print(f"(system: {conversation.system or 'what the template says'})")
    elif command == "/save":
        _save(conversation, rest)
    elif command == "/help":
        print(HELP)
    else:
        raise ValueError(f"there is no {command}:\n{HELP}")
    return True


def _save(conversation, file):
    if not file:
        raise ValueError("/save needs the name of a file")
    with open(file, "w", encoding="utf-8") as opened:
        json.dump(conversation.messages, opened, ensure_ascii=False, indent=1)
        opened.write("\n")
    print(f"({len(conversation.messages)} messages written to {file})")
