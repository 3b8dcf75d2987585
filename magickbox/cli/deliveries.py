"""``magickbox deliveries``: list them, try one again, take one back."""

import argparse
from dataclasses import replace

from magickbox.cli import places
from magickbox.cli.doing import do
from magickbox.cli.output import moment, print_json, print_table
from magickbox.delivery import Delivery, DeliveryState
from magickbox.ledger import Transaction, deliveries, jobs

VERBS = {"retry": "try it again, with a new budget; at once if it is open", "cancel": "take it back"}


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Describe the command."""
    parser = commands.add_parser("deliveries", help="list, retry, cancel")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="deliveries, oldest first")
    listing.add_argument("--job", metavar="JOB", help="only of this job")
    listing.add_argument("--state", action="append", choices=[s.value for s in DeliveryState], help="only these")
    places.add_data(listing)
    places.add_json(listing)
    listing.set_defaults(run=run_list)
    for verb, meaning in VERBS.items():
        action = actions.add_parser(verb, help=meaning, description=meaning)
        action.add_argument("delivery", metavar="ID")
        places.add_data(action)
        action.set_defaults(run=run_verb, verb=verb)


def run_verb(args: argparse.Namespace) -> int:
    """Do one thing to one delivery."""
    print(do(places.data_folder(args), args.verb, args.delivery))
    return 0


def run_list(args: argparse.Namespace) -> int:
    """Print the deliveries."""
    ledger = places.ledger_to_read(args)
    states = frozenset(DeliveryState(s) for s in args.state or ())
    with ledger.reading() as tx:
        if args.job is not None:
            jobs.get(tx, args.job)  # a name that no job has is a mistake, not an empty list
        found = as_told(tx, deliveries.listing(tx, args.job, tuple(sorted(states))))
    if args.json:
        print_json(found)
    else:
        head = ("ID", "STATE", "JOB", "RULE", "TO", "INSTANCES", "TRIES", "NEXT TRY", "REASON")
        rows = [
            (d.id, d.state, d.job, d.rule, str(d.destination), d.instances, d.tries, moment(d.next_try), d.reason)
            for d in found
        ]
        print_table(head, rows, "no deliveries")
    return 0


def as_told(tx: Transaction, found: list[Delivery]) -> list[Delivery]:
    """Deliveries as people read them: all attempts ever made are tries, and entries count from 1 as in the logs."""
    counts = deliveries.attempt_counts(tx)
    return [replace(each, tries=counts.get(each.id, 0), entry=each.entry + 1) for each in found]
