"""``magickbox bench``: measure the box beside other programs, on the machine that you have."""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from magickbox.bench import linear, plot, report
from magickbox.bench.figures import Trial
from magickbox.bench.machine import about, busy_problem
from magickbox.bench.objects import KINDS
from magickbox.bench.receive import Comparison
from magickbox.bench.receivers import NAMES, Receiver, box, others
from magickbox.bench.trial import Cell
from magickbox.cli import benchsend
from magickbox.cli.arguments import list_of, one_of, whole
from magickbox.cli.output import complain, print_table, size

_SIZES = {"K": 1024, "KB": 1024, "": 1}


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Describe the command."""
    top = commands.add_parser("bench", help="measure the box beside other programs")
    kinds = top.add_subparsers(dest="what", required=True, metavar="WHAT")
    parser = kinds.add_parser(
        "receive",
        help="how fast instances are taken, by the box and by others",
        description="The same files by the same sender, in one run, to the box, to other programs that are installed, "
        "and to the raw limit. Lists are separated by commas.",
    )
    _add_what(parser)
    _add_how_much(parser)
    _add_results(parser)
    parser.set_defaults(run=run)
    benchsend.add(kinds)


def _add_what(parser: argparse.ArgumentParser) -> None:
    kinds = ", ".join(f"{kind.name} ({kind.words})" for kind in KINDS.values())
    parser.add_argument("--objects", type=list_of(one_of(*KINDS)), metavar="LIST", help=f"of {kinds} [small,medium]")
    parser.add_argument("--associations", type=list_of(whole), metavar="LIST", help="at once [1,4]")
    parser.add_argument("--pdu", type=list_of(_size), metavar="LIST", help="the sender's PDU size [16K,128K]")
    parser.add_argument("--fsync", type=list_of(one_of("on", "off")), metavar="LIST", help="on, off or both [on]")
    parser.add_argument("--peers", type=list_of(one_of(*NAMES)), metavar="LIST", help=f"of {', '.join(NAMES)} [all]")
    parser.add_argument(
        "--receivers", type=list_of(_number), metavar="LIST", help="also a box with this many receivers [its default]"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        type=_setting,
        metavar="KEY=VALUE",
        help="a setting of the box; repeatable",
    )


def _add_how_much(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=whole, help="how often everything is measured [3]")
    parser.add_argument("--instances", type=whole, help="of one trial at most [by the object: 2000, 800, 12]")
    parser.add_argument("--seconds", type=float, help="that one trial sends at most [2]")
    parser.add_argument("--quick", action="store_true", help="in seconds: does it work? (its figures say little)")
    parser.add_argument(
        "--linear",
        type=whole,
        nargs="?",
        const=100_000,
        metavar="N",
        help="instead: N small instances to one box; does it get slower? [100000]",
    )


def _add_results(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", metavar="FILE", type=Path, help="write every figure of every round")
    parser.add_argument("--report", metavar="FILE.md", type=Path, help="write the tables as Markdown, and a picture")
    parser.add_argument("--picture", metavar="FILE.svg", type=Path, help="where the picture goes [beside the report]")
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path(tempfile.gettempdir()),
        help="where receivers store, on the disk in question",
    )


def _number(text: str) -> int:
    return 0 if text == "0" else whole(text)


def _size(text: str) -> int:
    number = text.rstrip("KkBb")
    unit = text[len(number) :].upper()
    if not number.isdigit() or unit not in _SIZES or not 4096 <= int(number) * _SIZES[unit] <= 2**20:
        raise argparse.ArgumentTypeError(f"'{text}' is not a size from 4K to 1024K")
    return int(number) * _SIZES[unit]


def _setting(text: str) -> tuple[str, str]:
    key, sign, value = text.partition("=")
    if not sign or not value:
        raise argparse.ArgumentTypeError(f"'{text}' is not KEY=VALUE")
    return key, value


def run(args: argparse.Namespace) -> int:
    """Measure, print, write; exit code 1 if a receiver that is there could not be measured."""
    if not args.folder.is_dir():
        return complain(f"{args.folder}: there is no such folder")
    asked = _receivers(args)
    here = [each for each in asked if each.missing is None]
    for each in asked:
        if each.missing:
            print(f"left out {each.name}: {each.missing}", file=sys.stderr)
    if not here:
        return complain("none of these receivers is here")
    plan = _comparison(args, here)
    problem = _room_problem(args.folder, linear.needed(args.linear) if args.linear else plan.needed)
    if problem:
        return complain(problem)
    facts = about(args.folder)
    if busy := busy_problem():
        print(busy, file=sys.stderr)
    if args.linear:
        growth = linear.measure(here[0], args.linear, args.folder, fsync=(args.fsync or ["on"]) != ["off"])
        return _give(args, report.Report(facts, asked, [], 1, growth))
    trials = plan.run(args.folder, _Progress(len(plan.cells) * len(here) * plan.rounds))
    return _give(args, report.Report(facts, asked, trials, plan.rounds))


def _room_problem(folder: Path, needed: int) -> str | None:
    free = shutil.disk_usage(folder).free
    words = f"{folder}: {size(needed)} are needed while it runs, and what the box keeps free; {size(free)} are free"
    return words if free < needed * 1.2 else None


def _receivers(args: argparse.Namespace) -> list[Receiver]:
    settings, known = dict(args.set), others()
    names = args.peers or (("box",) if args.linear else NAMES)
    boxes = [box(settings), *(box({**settings, "receivers": str(n)}) for n in args.receivers or ())]
    return [each for name in names for each in (boxes if name == "box" else [known[name]])]


def _comparison(args: argparse.Namespace, here: Sequence[Receiver]) -> Comparison:
    quick = args.quick
    cells = [
        Cell(KINDS[kind], associations, pdu, fsync == "on")
        for kind in args.objects or ["small", "medium"]
        for associations in args.associations or ([1, 2] if quick else [1, 4])
        for pdu in args.pdu or ([16384] if quick else [16384, 131072])
        for fsync in args.fsync or ["on"]
    ]
    instances = args.instances or (20 if quick else None)
    return Comparison(here, cells, args.rounds or (1 if quick else 3), instances, args.seconds or (1 if quick else 2))


class _Progress:
    """Says on stderr what was just measured."""

    def __init__(self, total: int) -> None:
        self._total, self._done = total, 0

    def __call__(self, trial: Trial) -> None:
        self._done += 1
        said = trial.trouble or (f"{trial.figures.rate:.0f}/s" if trial.figures else "")
        words = " ".join((*report.cell_words(trial.cell), trial.receiver))
        print(f"[{self._done}/{self._total}] {words}: {said}", file=sys.stderr, flush=True)


def _give(args: argparse.Namespace, found: report.Report) -> int:
    for name, text in found.about.items():
        print(f"{name:11} {text}")
    if found.trials:
        print_table(report.HEAD, [report.row_words(row) for row in found.rows], "")
        for name in found.boxes:
            print_table(report.ratio_head(found, name), report.ratio_rows(found, name), "")
    for line in found.growth.words if found.growth else ():
        print(line)
    _write(args, found)
    failed = [trial for trial in found.trials if trial.trouble]
    for trial in failed:
        complain(f"{' '.join(report.cell_words(trial.cell))} {trial.receiver}: {trial.trouble}")
    return 1 if failed else 0


def _write(args: argparse.Namespace, found: report.Report) -> None:
    if args.json:
        args.json.write_text(json.dumps(report.as_json(found), indent=1) + "\n", encoding="utf-8")
    picture = args.picture or (args.report.with_suffix(".svg") if args.report else None)
    if picture and found.trials:
        picture.write_text(plot.svg(found), encoding="utf-8")
    if args.report:
        args.report.write_text(report.markdown(found, picture.name if picture else None), encoding="utf-8")
