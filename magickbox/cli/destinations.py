"""``magickbox destinations``: how each destination's queue stands; pause, drain, resume, echo."""

import argparse
from collections.abc import Sequence

from magickbox.cli import places
from magickbox.cli.doing import do
from magickbox.cli.output import complain, moment, print_json, print_table, shown
from magickbox.destination import DicomDestination, Rejected, Retry, needs_job
from magickbox.group import Group
from magickbox.ledger import Transaction, queues
from magickbox.ledger.queues import QueueLine
from magickbox.routing import Rules
from magickbox.rules.file import load
from magickbox.scu.echo import echo
from magickbox.senders import probe

VERBS = {
    "pause": "send nothing there until it is resumed; stops after the instance in hand",
    "drain": "send what is open now, and nothing that comes later until it is resumed",
    "resume": "send there again",
}


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Describe the command."""
    parser = commands.add_parser("destinations", help="list, pause, drain, resume, echo")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="every destination that anything was ever to go to")
    places.add_data(listing)
    places.add_json(listing)
    listing.set_defaults(run=run_list)
    ping = "ask it by C-ECHO whether it is there; if it is, what waits for it goes on at once"
    for verb, meaning in {**VERBS, "echo": ping}.items():
        action = actions.add_parser(verb, help=meaning, description=meaning)
        action.add_argument("destination", metavar="NAME", help="as the listing names it, or its AE title")
        places.add_data(action)
        action.set_defaults(run=run_echo if verb == "echo" else run_verb, verb=verb)


def run_verb(args: argparse.Namespace) -> int:
    """Do one thing to one destination."""
    print(do(places.data_folder(args), args.verb, args.destination))
    return 0


def run_echo(args: argparse.Namespace) -> int:
    """Ask a destination as the box would, and let the box know if it answers."""
    ledger = places.ledger_to_read(args)
    with ledger.reading() as tx:
        line = queues.find(tx, args.destination)
        named = _rules(args).destinations.get(line.name)
        was = queues.newest_destination(tx, line.name) if named is None or needs_job(named) else named
        destination = was if named is None else was.as_now(named)
    result = echo(destination) if isinstance(destination, DicomDestination) else probe(destination)
    if isinstance(result, Retry | Rejected):
        return complain(f"{line.name}: {shown(result.reason)}")
    print(f"{line.name} answers")
    if line.state.circuit.is_open:
        do(places.data_folder(args), "ask", line.name)
    return 0


def _rules(args: argparse.Namespace) -> Rules:
    """The rules in force."""
    rules, settings = places.data_folder(args).last_good_rules, places.settings(args).settings
    return load(rules, settings.me, settings.me_port) if rules.exists() else Rules()


def run_list(args: argparse.Namespace) -> int:
    """Print the destinations."""
    ledger = places.ledger_to_read(args)
    with ledger.reading() as tx:
        lines = queues.overview(tx)
        every = [_group_as_told(tx, group, lines) for group in _rules(args).groups.values()]
    if args.json:
        print_json([*every, *(_as_told(line) for line in lines)])
        return 0
    head = ("NAME", "STATE", "SINCE", "OPEN", "DEAD", "OLDEST", "NEXT TRY", "REASON")
    groups = [(told["name"], "GROUP", "-", told["open"], told["dead"], "-", "-", told["reason"]) for told in every]
    print_table(head, [*groups, *(_row(line) for line in lines)], "no destinations")
    return 0


def _row(line: QueueLine) -> tuple[object, ...]:
    told = _as_told(line)
    return (
        line.name, told["state"], moment(line.since), line.open, line.dead, moment(line.oldest), moment(line.next_try),
        told["reason"],
    )  # fmt: skip


def _as_told(line: QueueLine) -> dict[str, object]:
    """A destination as people read it."""
    return {
        "name": line.name,
        "state": line.state.word,
        "since": line.since,
        "open": line.open,
        "dead": line.dead,
        "oldest": line.oldest,
        "next_try": line.next_try,
        "reason": line.reason,
    }


def _group_as_told(tx: Transaction, group: Group, lines: Sequence[QueueLine]) -> dict[str, object]:
    """A group as people read it, with its members' state; ``open`` and ``dead`` count all that its members have."""
    own = [line for line in lines if line.name in group.names]
    states = {name: queues.state_of(tx, name).word for name in group.names}
    return {
        "name": group.name,
        "state": "GROUP",
        "since": None,
        "open": sum(line.open for line in own),
        "dead": sum(line.dead for line in own),
        "oldest": None,
        "next_try": None,
        "reason": f"{group.policy} of {', '.join(f'{name} ({state})' for name, state in states.items())}",
        "policy": group.policy,
        "members": [{"name": name, "state": state} for name, state in states.items()],
    }
