"""``magickbox deliveries``: list them, show one, try one again, take one back."""

import argparse
from datetime import timedelta

from magickbox.cli import delivery, places
from magickbox.cli.delivery import as_told
from magickbox.cli.doing import do
from magickbox.cli.output import complain, moment, print_json, print_table
from magickbox.clock import now, seconds
from magickbox.delivery import DeliveryState
from magickbox.errors import ForbiddenMove, NotFound
from magickbox.ledger import deliveries, jobs, queues
from magickbox.queueing import lane_of

VERBS = {"retry": "try it again, with a new budget; at once if it is open", "cancel": "take it back"}


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Describe the command."""
    parser = commands.add_parser("deliveries", help="list, show, retry, cancel")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="deliveries, oldest first")
    listing.add_argument("--job", metavar="JOB", help="only of this job")
    listing.add_argument("--state", action="append", choices=[s.value for s in DeliveryState], help="only these")
    places.add_data(listing)
    places.add_json(listing)
    listing.set_defaults(run=run_list)
    delivery.add(actions)
    for verb, meaning in VERBS.items():
        action = actions.add_parser(verb, help=meaning, description=meaning)
        action.add_argument("delivery", metavar="ID", nargs="*" if verb == "retry" else None)
        if verb == "retry":
            _add_dead(action)
        places.add_data(action)
        action.set_defaults(run=run_verb, verb=verb)


def _add_dead(action: argparse.ArgumentParser) -> None:
    """The options by which all that is dead is tried again, or some of it."""
    action.add_argument(
        "--dead", action="store_true", help="all that is DEAD, as far as the options below do not limit"
    )
    action.add_argument("--to", metavar="NAME", help="only to this destination, as 'destinations list' names it")
    action.add_argument("--job", metavar="JOB", help="only of this job")
    action.add_argument("--died-within", metavar="TIME", type=_time, help="only what died since then, such as '2 days'")


def _time(text: str) -> float:
    try:
        return seconds(text)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(str(exc)) from None


def run_verb(args: argparse.Namespace) -> int:
    """Do one thing to one delivery, or try again all that is dead; one that cannot be tried stops no other."""
    if args.verb == "retry" and bool(args.delivery) == args.dead:
        raise NotFound("name the deliveries to try again, or --dead for all that are DEAD")
    numbers = [args.delivery] if isinstance(args.delivery, str) else args.delivery or _dead(args)
    code = 0
    for number in numbers:
        try:
            print(do(places.data_folder(args), args.verb, number))
        except (NotFound, ForbiddenMove) as exc:
            code = complain(exc)
    if not numbers:
        print("no deliveries are DEAD")
    return code


def _dead(args: argparse.Namespace) -> list[str]:
    """The ids of what is dead and is asked for."""
    since = now() - timedelta(seconds=args.died_within) if args.died_within is not None else None
    ledger = places.ledger_to_read(args)
    with ledger.reading() as tx:
        lane = queues.find(tx, args.to).name if args.to else None
        found = deliveries.listing(tx, args.job, (DeliveryState.DEAD,))
    return [
        str(each.id)
        for each in found
        if (lane is None or lane_of(each.destination) == lane)
        and (since is None or (each.ended is not None and each.ended >= since))
    ]


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
