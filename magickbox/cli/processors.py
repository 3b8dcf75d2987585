"""``magickbox processors``: list them, make one, switch one on or off; ``developing`` has ``run`` and ``check``."""

import argparse
from collections.abc import Mapping
from pathlib import Path

from magickbox.allotment import misfits
from magickbox.cli import developing, places
from magickbox.cli.output import print_json, print_table
from magickbox.dropins.container_template import image_of
from magickbox.dropins.folder import Dropins, read_dropins
from magickbox.dropins.pins import adorn, read_pins, why_not
from magickbox.dropins.switch import disable, enable
from magickbox.dropins.template import new
from magickbox.machine import room_of
from magickbox.processor import Processor


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Describe the command."""
    parser = commands.add_parser("processors", help="list, new, run, check, enable, disable")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="the drop-ins, good and bad")
    places.add_json(listing)
    listing.set_defaults(run=run_list)
    make = actions.add_parser("new", help="make a drop-in from a template that runs as it is")
    make.add_argument("--container", action="store_true", help="one that runs in a container: with a Containerfile")
    make.set_defaults(run=run_new)
    developing.add(actions)
    on, off = actions.add_parser("enable", help="switch one on"), actions.add_parser("disable", help="switch one off")
    on.set_defaults(run=run_switch, switch=enable, now="enabled")
    off.set_defaults(run=run_switch, switch=disable, now="disabled")
    for each in (make, on, off):
        each.add_argument("name", metavar="NAME")
    for each in (listing, make, on, off):
        places.add_data(each)
        each.add_argument("--processors", metavar="DIR", help="the folder of the drop-ins")


def _folder(args: argparse.Namespace) -> Path:
    return places.processors(args, places.data_folder(args))


def run_list(args: argparse.Namespace) -> int:
    """Print the drop-ins; exit code 1 if one is bad."""
    folder = _folder(args)
    pins = read_pins(places.data_folder(args).images)
    dropins = adorn(read_dropins(folder), pins)
    waiting = {p.name: why for p in dropins.good if p.enabled and (why := why_not(p, pins))}
    room = room_of(places.settings(args).settings)
    unfit = {p.name: "; ".join(wrong) for p in dropins.good if p.enabled and (wrong := misfits(p, room))}
    if args.json:
        print_json({"folder": folder, "good": dropins.good, "bad": dropins.bad, "waiting": waiting, "unfit": unfit})
    else:
        print_table(
            ("NAME", "CALLED AE", "VERSION", "STATE", "WHAT IT DOES"), _rows(dropins, waiting, unfit),
            f"no drop-ins in {folder}",
        )  # fmt: skip
    return 1 if dropins.bad else 0


def _rows(dropins: Dropins, waiting: Mapping[str, str], unfit: Mapping[str, str]) -> list[tuple[object, ...]]:
    good: list[tuple[object, ...]] = []
    for p in dropins.good:
        why = unfit.get(p.name) or waiting.get(p.name)
        state = "unfit" if p.name in unfit else _state(p, waiting)
        good.append((p.name, p.called_ae, p.version, state, why or p.description or _what(p)))
    return good + [(bad.name, "-", "-", "BAD", "; ".join(bad.problems)) for bad in dropins.bad]


def _state(one: Processor, waiting: Mapping[str, str]) -> str:
    if not one.enabled:
        return "off"
    return "waits" if one.name in waiting else "on"


def _what(one: Processor) -> str:
    if one.steps:
        return " -> ".join(step.label for step in one.steps)
    return " ".join([*([one.image] if one.image else []), *one.command])


def run_new(args: argparse.Namespace) -> int:
    """Make a drop-in."""
    folder = _folder(args)
    folder.mkdir(parents=True, exist_ok=True)
    made = new(folder, args.name, args.container)
    print(f"{made} is there; send to called AE {args.name}")
    if args.container:
        print(f"its image is still to be made: podman build --tag {image_of(args.name)} {made}")
    return 0


def run_switch(args: argparse.Namespace) -> int:
    """Switch a drop-in on or off."""
    args.switch(_folder(args), args.name)
    print(f"{args.name} is {args.now}")
    return 0
