"""`tfguide`: converse, ask, generate, serve, answer files, export, plan, train, measure, do exercises."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable
from importlib import import_module

# The modules, in the order of `tfguide --help`.
COMMANDS = ("chat", "ask", "generate", "serve", "batch", "export", "plan", "train", "bench", "calibrate", "exercise")


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns 0 for success, 2 for a mistake in the arguments, 130 for an interrupt.

    `tfguide exercise check` returns 1 where the exercise is not solved yet.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    # A command that has a module of its name needs no other one, and starts sooner.
    named = [name for name in COMMANDS if name in arguments[:1]]
    options = build_parser(named or COMMANDS).parse_args(arguments, argparse.Namespace(arguments=arguments))
    try:
        done = options.run(options)
        sys.stdout.flush()
        return done
    except BrokenPipeError:  # whoever read the output has seen enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, TypeError, OSError, ImportError, RuntimeError) as error:
        print(f"tfguide: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return 130


def build_parser(names: Iterable[str] = COMMANDS) -> argparse.ArgumentParser:
    """The parser of the command line, with the commands of these modules; default: every command."""
    parser = argparse.ArgumentParser(prog="tfguide", description=__doc__.split(":", 1)[1].strip())
    parser.set_defaults(run=_show_commands)
    parser.add_argument("--version", action="store_true", help="the versions of what tfguide computes with")
    commands = parser.add_subparsers(metavar="command")
    for name in names:
        _module(name).add_commands(commands)
    return parser


def _show_commands(options):
    """What `tfguide` alone prints: every command with an example; with --version, the versions."""
    if options.version:
        from tfguide.versions import versions

        for name, version in versions().items():
            print(f"{name:<18}{version}")
        return 0
    print("tfguide COMMAND; for the options of a command: tfguide COMMAND --help\n")
    for name in COMMANDS:
        for about, example in _module(name).EXAMPLES:
            print(f"  {about}\n    {example}\n")
    return 0


def _module(name):
    return import_module(f"tfguide.cli.{name}")
