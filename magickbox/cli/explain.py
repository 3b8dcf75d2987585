"""``magickbox explain JOB``: every rule, and why it did or did not fire, down to the values that were looked at."""

import argparse
from pathlib import Path

from magickbox.cli import places
from magickbox.cli.output import print_json, shown
from magickbox.config import Settings
from magickbox.datafolder import DataFolder
from magickbox.errors import NotFound
from magickbox.explanation import as_text, explain
from magickbox.job import HAS_FOLDER, Job, JobState
from magickbox.ledger import jobs
from magickbox.route import came_of, decision_for
from magickbox.routing import Rules
from magickbox.rules.file import load


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Describe the command."""
    parser = commands.add_parser("explain", help="which rules would fire for a job, and why")
    parser.add_argument("job", metavar="JOB")
    places.add_box(parser)
    places.add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Decide anew with today's rules (or those of --routing) and print what was looked at; nothing is sent."""
    data = places.data_folder(args)
    rules = _rules(args, data, places.settings(args).settings)
    ledger = places.ledger_to_read(args)
    with ledger.reading() as tx:
        job = jobs.get(tx, args.job)
        came = came_of(tx, job, rules)
    if job.state not in HAS_FOLDER:
        raise NotFound(f"{job.id} is {job.state}: its files are not there any more")
    decision = decision_for(job, data.jobs / job.id, rules, came, ledger)
    if args.json:
        print_json(explain(decision, with_values=True))
        return 0
    if job.outcome is None:
        print(_without_outcome(job))
    for line in as_text(decision):
        print(shown(line))
    return 0


def _without_outcome(job: Job) -> str:
    if job.state is JobState.DONE and job.attempt == 0 and job.reason.startswith("duplicate"):
        return f"{job.id} is a {job.reason}, nor routed; this is what would happen without a processor if it were"
    return f"{job.id} is {job.state} and has no outcome yet; this is what would happen without a processor"


def _rules(args: argparse.Namespace, data: DataFolder, settings: Settings) -> Rules:
    """The rules of the file, or the last good ones if none was named and the file is not there."""
    named: Path = places.places(args).routing
    if not named.exists() and not args.routing and data.last_good_rules.exists():
        named = data.last_good_rules
    if not named.exists():
        raise NotFound(f"{named}: there is no such file")
    return load(named, settings.me, settings.me_port)
