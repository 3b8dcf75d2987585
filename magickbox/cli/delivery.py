"""``magickbox deliveries show``: everything about one delivery."""

import argparse
from collections import Counter
from dataclasses import replace

from magickbox.cli import places
from magickbox.cli.output import moment, print_json, print_table, shown
from magickbox.delivery import Delivery
from magickbox.errors import NotFound
from magickbox.ledger import Transaction, deliveries, jobs, proofs, queues
from magickbox.proof import WORDS
from magickbox.prospect import what_next
from magickbox.queueing import lane_of

MOST = 20


def add(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Describe the command."""
    show = actions.add_parser("show", help="one delivery: its instances, attempts, and what happens next")
    show.add_argument("delivery", metavar="ID")
    places.add_data(show)
    places.add_json(show)
    show.set_defaults(run=run_show)


def run_show(args: argparse.Namespace) -> int:
    """Print one delivery with its attempts, its proofs, and its instances by what came of them."""
    if not args.delivery.isdecimal():
        raise NotFound(f"'{args.delivery}' is no delivery's number; 'magickbox deliveries list' shows them")
    with places.ledger_to_read(args).reading() as tx:
        found = deliveries.get(tx, int(args.delivery))
        (told,) = as_told(tx, [found])
        if args.json:
            print_json(_everything(tx, found, told))
        else:
            _print(tx, found, told)
    return 0


def _next(tx: Transaction, delivery: Delivery) -> str:
    attempts = deliveries.attempts(tx, delivery.id)
    under_way = attempts[-1].began if attempts and attempts[-1].ended is None else None
    queue = queues.state_of(tx, lane_of(delivery.destination))
    return what_next(delivery, jobs.get(tx, delivery.job).state, queue, under_way)


def _everything(tx: Transaction, found: Delivery, told: Delivery) -> dict[str, object]:
    return {
        "delivery": told,
        "next": _next(tx, found),
        "progress": deliveries.progress(tx, found.id),
        "attempts": deliveries.attempts(tx, found.id),
        "proofs": proofs.of_delivery(tx, found.id),
        "instances": deliveries.instances_of(tx, found.id),
    }


def _print(tx: Transaction, found: Delivery, told: Delivery) -> None:
    left = deliveries.progress(tx, found.id)
    counts = ((left.sent, "sent"), (left.pending, "to be sent"), (left.refused, "refused once"),
              (left.rejected, "refused for good"))  # fmt: skip
    facts = {
        "delivery": f"{told.id} of {told.job}",
        "rule": f"{told.rule}, entry {told.entry}",
        "to": told.destination,
        "state": f"{told.state} {moment(told.ended) if told.ended else ''}",
        "reason": told.reason,
        "next": _next(tx, found),
        "priority": told.priority.word,
        "instances": f"{told.instances}: " + ", ".join(f"{count} {words}" for count, words in counts if count),
    }
    for name, value in facts.items():
        if value:
            print(f"{name:10} {shown(value).strip()}")
    print("\nattempts")
    rows = [
        (a.n, moment(a.began), moment(a.ended), a.sent, a.refused, a.result) for a in deliveries.attempts(tx, found.id)
    ]
    print_table(("N", "BEGAN", "ENDED", "SENT", "REFUSED", "RESULT"), rows, "none")
    for proof in proofs.of_delivery(tx, found.id):
        print(f"{WORDS[proof.how]} {proof.state} {moment(proof.asked)}: {shown(proof.reason)}")
    _print_instances(tx, found)


def _print_instances(tx: Transaction, found: Delivery) -> None:
    """What destinations said of instances beyond a plain success, and how often; each by name with --json."""
    said = Counter((i.state, i.status, i.reason) for i in deliveries.instances_of(tx, found.id) if i.reason)
    if said:
        print("\ninstances of which the destination said something")
        rows = [(count, state, "-" if status is None else f"0x{status:04X}", reason)
                for (state, status, reason), count in said.most_common(MOST)]  # fmt: skip
        print_table(("COUNT", "STATE", "STATUS", "SAID"), rows, "none")


def as_told(tx: Transaction, found: list[Delivery]) -> list[Delivery]:
    """Deliveries as people read them: all attempts ever made are tries, and entries count from 1 as in the logs."""
    counts = deliveries.attempt_counts(tx)
    return [replace(each, tries=counts.get(each.id, 0), entry=each.entry + 1) for each in found]
