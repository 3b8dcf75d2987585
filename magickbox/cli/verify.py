"""``magickbox verify`` and ``magickbox retention``: do folders and ledger agree, and what is about to expire."""

import argparse

from magickbox.cli import places
from magickbox.cli.output import moment, print_json, print_table, shown
from magickbox.clock import now
from magickbox.datafolder import BoxLock
from magickbox.job import JobState
from magickbox.ledger import Ledger
from magickbox.mending.repair import repair
from magickbox.removal import Removal
from magickbox.retention import expired
from magickbox.verification.verify import verify


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Describe the commands."""
    check = commands.add_parser("verify", help="folders against ledger; reads only")
    check.add_argument("--quick", action="store_true", help="sizes only: do not read every instance")
    check.add_argument("--repair", action="store_true", help="mend what can be mended; the box must be stopped")
    check.set_defaults(run=run_verify)
    expire = commands.add_parser("retention", help="which jobs have had their time; deletes nothing without --delete")
    expire.add_argument("--delete", action="store_true", help="delete them now; the box must be stopped")
    expire.add_argument("--config", metavar="FILE", help="settings (default: magickbox.toml in the data folder)")
    expire.set_defaults(run=run_retention)
    for each in (check, expire):
        places.add_data(each)
        places.add_json(each)


def run_verify(args: argparse.Namespace) -> int:
    """Compare, print every finding; exit code 1 if one is an error."""
    data = places.used_data_folder(args)
    if args.repair:
        with BoxLock(data):
            for line in repair(data):
                print(shown(line))
    findings = verify(data, Ledger(data.ledger, readonly=True), quick=args.quick, running=places.box_runs(data))
    if args.json:
        print_json(findings)
    else:
        rows = [(f.severity, f.where, f.what) for f in findings]
        print_table(("", "WHERE", "WHAT"), rows, "folders and ledger agree")
    return 1 if any(f.severity == "error" for f in findings) else 0


def run_retention(args: argparse.Namespace) -> int:
    """Say which jobs would be deleted; with --delete, delete them."""
    data, settings = places.used_data_folder(args), places.settings(args).settings
    if not args.delete:
        with Ledger(data.ledger, readonly=True).reading() as tx:
            found = expired(tx, settings.keep_done, settings.keep_unrouted, now())
    else:
        with BoxLock(data):
            ledger = Ledger(data.ledger)
            with ledger.reading() as tx:
                found = expired(tx, settings.keep_done, settings.keep_unrouted, now())
            for each in found:
                Removal(data, ledger).delete(each.job.id, each.why, "retention", only_if=JobState.DONE)
            ledger.close()
    if args.json:
        print_json(found)
    else:
        rows = [(e.job.id, moment(e.job.since), e.why) for e in found]
        print_table(("JOB", "SINCE", "WHY"), rows, "nothing has had its time")
        if found:
            print(f"{len(found)} jobs " + ("deleted" if args.delete else "would be deleted (this was a dry run)"))
    return 0
