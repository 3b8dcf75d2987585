"""``magickbox``: the parser, and what becomes of errors: one line on stderr and exit code 1; misuse is 2."""

import argparse
import os
import sys
from collections.abc import Sequence

from magickbox import __version__
from magickbox.cli import (
    alarms,
    backup,
    bench,
    check,
    deliveries,
    demo,
    destinations,
    explain,
    jobs,
    peers,
    processors,
    serve,
    status,
    users,
    verify,
)
from magickbox.cli.output import complain, never_fail_to_print
from magickbox.errors import MagickboxError

_COMMANDS = (
    serve, demo, check, status, jobs, explain, deliveries, destinations, alarms, processors, peers, users, verify,
    backup, bench,
)  # fmt: skip


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = argparse.ArgumentParser(
        prog="magickbox",
        description="A post-processing box for DICOM: studies come in, processors run, rules route results.",
        epilog="Each command has --help of its own.",
    )
    top.add_argument("--version", action="version", version=f"magickbox {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in _COMMANDS:
        module.add(commands)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    never_fail_to_print()
    args = parser().parse_args(argv)
    try:
        return int(args.run(args))
    except MagickboxError as exc:
        return complain(exc)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as exc:
        return complain(f"{exc.filename}: {exc.strerror}" if exc.filename else exc)


if __name__ == "__main__":
    sys.exit(main())
