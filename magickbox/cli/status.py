"""``magickbox status``: what the running box is doing just now."""

import argparse
from collections.abc import Iterator
from typing import Any

from magickbox.cli import places
from magickbox.cli.output import complain, print_json, print_table, shown, size
from magickbox.control import ask
from magickbox.progress import shown as percent


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Describe the command."""
    parser = commands.add_parser("status", help="what the running box is doing just now")
    places.add_data(parser)
    places.add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Ask the box and print what it says; 1 if none runs."""
    data = places.data_folder(args)
    answer = ask(data.control, "status") if data.control.exists() else None
    if answer is None:
        return complain(f"{data.root}: no box runs on this data folder")
    status: dict[str, Any] = answer["status"]
    if args.json:
        print_json(status)
        return 0
    for name, value in _lines(status):
        print(f"{name:<16} {shown(value)}")
    head = ("FROM", "TO", "INSTANCES", "A JOB IN")
    rows = [(shown(g["calling"]), shown(g["called"]), g["instances"], f"{g['due']:.0f} s") for g in status["gathering"]]
    print()
    print_table(head, rows, "no study is being gathered")
    print()
    runs = [(r["job"], r["processor"], r["since"], _far(r["progress"])) for r in status.get("runs", ())]
    print_table(("JOB", "PROCESSOR", "SINCE", "HOW FAR"), runs, "no processor runs")
    return 0


def _far(progress: float | None) -> str:
    return "-" if progress is None else percent(progress)


def _lines(status: dict[str, Any]) -> Iterator[tuple[str, object]]:
    received = status["received"]
    host, port = status["listening"]
    yield "listening", f"{host}:{port}" + (f", TLS {status['listening_tls'][1]}" if status["listening_tls"] else "")
    yield "connections", status["open_connections"]
    yield "associations", f"{status['open_associations']} open, {received['associations']} since the start"
    yield "rejected", received["rejected"]
    yield "received", f"{received['instances']} instances, {size(received['bytes'])}"
    yield "refused", f"{received['refused']}, put off {received['put_off']}"
    slowed = f"; each answer waits {status['receiving_pause']:.2f} s" if status["receiving_pause"] else ""
    yield "jobs waiting", f"{status['jobs_waiting']} for a processor{slowed}"
    yield "rules", status["rules_problem"] or "in order"
    yield "processors", "bad: " + ", ".join(status["bad_processors"]) if status["bad_processors"] else "in order"
    yield "sandbox", status["sandbox"]
    if window := status.get("window"):
        by_number = f" or {window['by_number']}" if window.get("by_number") else ""
        yield "window", window["problem"] or f"{window['address']}{by_number}"
    yield "disk", f"{size(status['disk_free'])} free, the mark is {size(status['disk_mark'])}"
