"""The command `tfguide`: generate text, time this package against others, and plan what serving costs."""

from __future__ import annotations

import argparse
import os
import sys

from tfguide.cli import bench, calibrate, generate, plan


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns 0 for success, 2 for a mistake in the arguments, 130 for an interrupt."""
    options = build_parser().parse_args(arguments)
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


def build_parser() -> argparse.ArgumentParser:
    """The parser of the command line, with every command."""
    parser = argparse.ArgumentParser(prog="tfguide", description=__doc__.split(":", 1)[1].strip())
    commands = parser.add_subparsers(required=True, metavar="command")
    for module in (generate, plan, bench, calibrate):  # the order of `tfguide --help`
        module.add_commands(commands)
    return parser
