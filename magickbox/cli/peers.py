"""``magickbox send`` and ``magickbox echo``: be a DICOM peer, to try a box or a destination."""

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path

from magickbox.association import title_problem
from magickbox.cli.output import complain, shown
from magickbox.destination import Delivered, DicomDestination, Result, Retry
from magickbox.dicom.header import identify, read_file_meta
from magickbox.errors import UnreadableHeader
from magickbox.owncalls import OwnCalls
from magickbox.scu.echo import echo
from magickbox.scu.store import StoreSender
from magickbox.sender import Item


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Describe the commands."""
    send = commands.add_parser("send", help="send DICOM files or folders to a host and port")
    ping = commands.add_parser("echo", help="ask a host and port whether DICOM answers there (C-ECHO)")
    for parser in (send, ping):
        parser.add_argument("host", metavar="HOST")
        parser.add_argument("port", metavar="PORT", type=_port)
        parser.add_argument("--called", metavar="AE", type=_title, default="ANY-SCP", help="AE title to call [ANY-SCP]")
        parser.add_argument(
            "--calling", metavar="AE", type=_title, default="MAGICKBOX", help="our AE title [MAGICKBOX]"
        )
    send.add_argument("paths", metavar="PATH", nargs="+", type=Path)
    send.set_defaults(run=run_send)
    ping.set_defaults(run=run_echo)


def _port(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"'{text}' is not a port from 1 to 65535")
    return int(text)


def _title(text: str) -> str:
    problem = title_problem(text)
    if problem:
        raise argparse.ArgumentTypeError(f"'{text}': {problem}")
    return text


def _destination(args: argparse.Namespace) -> DicomDestination:
    return DicomDestination(args.host, args.port, args.calling, args.called)


def run_echo(args: argparse.Namespace) -> int:
    """Ask, and say what came of it."""
    destination = _destination(args)
    result = echo(destination)
    if isinstance(result, Delivered):
        print(f"{destination} answers")
        return 0
    return complain(f"{destination}: {shown(result.reason)}")


def run_send(args: argparse.Namespace) -> int:
    """Send all files; exit code 0 only if each was taken."""
    items, left_out = items_of(args.paths)
    for path, why in left_out:
        print(f"left out {path}: {why}")
    if not items:
        return complain("no DICOM files there")
    failed = 0
    for item, result in send_all(_destination(args), items):
        if not isinstance(result, Delivered):
            failed += 1
            print(f"not taken {item.path}: {shown(result.reason)}")
        elif result.status:
            print(f"taken with a warning {item.path}: {shown(result.reason)}")
    print(f"{len(items) - failed} of {len(items)} instances taken by {_destination(args)}")
    return 1 if failed else 0


def items_of(paths: Iterable[Path]) -> tuple[list[Item], list[tuple[Path, str]]]:
    """The DICOM files at or below some paths, and what is none, with the reason."""
    items, left_out = [], []
    for path in _files(paths):
        try:
            items.append(_item(path))
        except (OSError, UnreadableHeader) as exc:
            left_out.append((path, str(exc)))
    return items, left_out


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted(p for p in path.rglob("*") if p.is_file())
        else:
            yield path


def _item(path: Path) -> Item:
    with path.open("rb") as stream:
        meta = read_file_meta(stream)
        stream.seek(meta.offset)
        identity = identify(stream, meta.transfer_syntax)
    # The dataset's word counts, as when the box routes: scripts that change UIDs often leave the file meta as it was.
    sop_class, sop_instance = identity.sop_class or meta.sop_class, identity.sop_instance or meta.sop_instance
    if not sop_class or not sop_instance:
        raise UnreadableHeader("it has no SOP class or SOP instance UID")
    return Item(path, sop_class, sop_instance, meta.transfer_syntax)


def send_all(destination: DicomDestination, items: list[Item]) -> Iterator[tuple[Item, Result]]:
    """Send items over as few associations as their contexts allow; one result each."""
    sender = StoreSender(OwnCalls())
    for group in sender.split(destination, items):
        session = sender.connect(destination, group, "")
        if isinstance(session, Retry):
            yield from ((item, session) for item in group)
            continue
        with session:
            yield from ((item, session.send(item)) for item in group)
