"""``magickbox bench send``: measure how fast the box sends beside other programs, on the machine that you have."""

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

from magickbox.bench import sendreport
from magickbox.bench.machine import about, busy_problem
from magickbox.bench.objects import KINDS
from magickbox.bench.receivers import dcmtk
from magickbox.bench.send import Comparison, Trial
from magickbox.bench.senders import SENDERS, senders
from magickbox.cli.arguments import list_of, one_of, whole
from magickbox.cli.output import complain, print_table, size


def add(kinds: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Describe the command."""
    parser = kinds.add_parser(
        "send",
        help="how fast instances are sent, by the box and by others",
        description="The same files in one run, by the box as it delivers a job, by 'magickbox send' and by other "
        "programs that are installed, to DCMTK's storescp. Lists are separated by commas.",
    )
    words = ", ".join(f"{kind.name} ({kind.words})" for kind in KINDS.values())
    parser.add_argument("--objects", type=list_of(one_of(*KINDS)), metavar="LIST", help=f"of {words} [small,medium]")
    parser.add_argument(
        "--peers", type=list_of(one_of(*SENDERS)), metavar="LIST", help=f"of {', '.join(SENDERS)} [all]"
    )
    parser.add_argument("--rounds", type=whole, help="how often everything is measured [3]")
    parser.add_argument("--instances", type=whole, help="of one trial [by the object: 2000, 500, 8]")
    parser.add_argument("--quick", action="store_true", help="does it work? (its figures say little)")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write every figure of every round")
    parser.add_argument("--report", metavar="FILE.md", type=Path, help="write the tables as Markdown")
    parser.add_argument(
        "--folder", type=Path, default=Path(tempfile.gettempdir()), help="where the files are, on the disk in question"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure, print, write; exit code 1 if a sender that is there could not be measured."""
    if not args.folder.is_dir():
        return complain(f"{args.folder}: there is no such folder")
    if missing := dcmtk(tuned=True).missing:
        return complain(f"nobody to send to: {missing}")
    known = senders()
    asked = [known[name] for name in args.peers or SENDERS]
    here = [each for each in asked if each.missing is None]
    for each in asked:
        if each.missing:
            print(f"left out {each.name}: {each.missing}", file=sys.stderr)
    kinds = [KINDS[name] for name in args.objects or ["small", "medium"]]
    instances = args.instances or (20 if args.quick else None)
    plan = Comparison(here, kinds, args.rounds or (1 if args.quick else 3), instances)
    if (free := shutil.disk_usage(args.folder).free) < plan.needed * 1.2:
        return complain(f"{args.folder}: {size(plan.needed)} are needed while it runs; {size(free)} are free")
    facts = about(args.folder)
    if busy := busy_problem():
        print(busy, file=sys.stderr)
    trials = plan.run(args.folder, _told)
    return _give(args, sendreport.SendReport(facts, asked, trials, plan.rounds))


def _told(trial: Trial) -> None:
    said = trial.trouble or f"{trial.rate:.0f}/s"
    print(f"round {trial.round} {trial.kind.name} {trial.sender}: {said}", file=sys.stderr, flush=True)


def _give(args: argparse.Namespace, found: sendreport.SendReport) -> int:
    for name, text in found.about.items():
        print(f"{name:11} {text}")
    print_table(sendreport.HEAD, found.rows, "")
    for name in found.boxes:
        print_table(found.ratio_head(name), found.ratio_rows(name), "")
    if args.json:
        args.json.write_text(json.dumps(sendreport.as_json(found), indent=1) + "\n", encoding="utf-8")
    if args.report:
        args.report.write_text(sendreport.markdown(found), encoding="utf-8")
    failed = [trial for trial in found.trials if trial.trouble]
    for trial in failed:
        complain(f"{trial.kind.name} {trial.sender}: {trial.trouble}")
    return 1 if failed else 0
