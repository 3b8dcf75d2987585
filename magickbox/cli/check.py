"""``magickbox check``: settings, routing rules and processors; exit code 1 and exact messages if anything is wrong."""

import argparse
import os
from collections.abc import Mapping
from pathlib import Path

from magickbox.allotment import misfits
from magickbox.cli import places
from magickbox.cli.output import print_json
from magickbox.config import SETTINGS, Loaded, Settings, stray_variables
from magickbox.control import ask
from magickbox.disk import mark_problem
from magickbox.dropins.folder import read_dropins
from magickbox.dropins.pins import Pin, adorn, read_pins, why_not, with_own_steps
from magickbox.errors import ConfigError, EngineDown
from magickbox.examination import cluster, container_engine
from magickbox.machine import room_of
from magickbox.processor import Processor
from magickbox.rules.file import RulesRefused, load
from magickbox.rules.keeper import GONE
from magickbox.senders import destination_problems
from magickbox.service import Places, protection_of
from magickbox.tls import try_out
from magickbox.tlsfiles import OFF, tls_files
from magickbox.web.encryption import problems_of as encryption_problems
from magickbox.web.keeper import bind


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Describe the command."""
    parser = commands.add_parser("check", help="are settings, rules and processors right?")
    places.add_box(parser)
    places.add_settings(parser)
    places.add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Look at everything, say everything that is wrong."""
    loaded, problems = Loaded(Settings(), {}), []
    try:
        loaded = places.settings(args)
    except ConfigError as exc:
        problems += [f"settings: {line}" for line in str(exc).splitlines()]
    problems += [f"settings: {line}" for line in stray_variables(os.environ)]
    where, settings = places.places(args), loaded.settings
    shield = protection_of(settings, where)
    warnings = [f"sandbox: {shield.warning}"] if shield.warning else []
    good = [
        f"settings: {name} = {SETTINGS[name].shown(value)} from {loaded.sources[name]}"
        for name, value in loaded.values.items()
    ]
    if shield.refusal:
        problems.append(f"sandbox: {shield.refusal}")
    elif not warnings:
        good.append(f"sandbox: {shield.describe()}")
    root = where.data.root
    looks = (
        _data(root, settings),
        _tls(root, settings),
        _window(where, settings),
        _routing(where, settings),
        _dropins(where, settings),
        _cluster(where, settings),
    )
    for told, wrong in looks:
        good += told
        problems += wrong
    if args.json:
        print_json({"good": good, "warnings": warnings, "problems": problems})
    else:
        for line in good:
            print(f"ok       {line}")
        for line in warnings:
            print(f"WARNING  {line}")
        for line in problems:
            print(f"PROBLEM  {line}")
    return 1 if problems else 0


def _data(root: Path, settings: Settings) -> tuple[list[str], list[str]]:
    problem = mark_problem(root, settings.min_free)
    if problem:
        return [], [f"settings: {problem}"]
    if not root.exists():
        return [f"data: {root} is not there yet; it is made at the first start"], []
    if not os.access(root, os.W_OK | os.X_OK):
        return [], [f"data: {root} is not writable by this user (uid {os.getuid()})"]
    return [f"data: {root}"], []


def _tls(root: Path, settings: Settings) -> tuple[list[str], list[str]]:
    try:
        files = tls_files(settings, root)
    except ConfigError as exc:
        return [], [f"tls: {line}" for line in str(exc).splitlines()]
    if files is None:
        unused = settings.tls_certificate or settings.tls_key or settings.tls_ca or settings.client_certificates != OFF
        return ["tls: note: there is no TLS without tls_port"] if unused else [], []
    found = try_out(files)
    good = [] if found.problems else [f"tls: {found.summary}; client certificates: {files.client_certificates}"]
    return good + [f"tls: note: {note}" for note in found.notes], [f"tls: {problem}" for problem in found.problems]


def _window(where: Places, settings: Settings) -> tuple[list[str], list[str]]:
    """Can the page be served? A box that runs on the folder has the port itself."""
    if not settings.web:
        return ["window: switched off"], []
    problems = encryption_problems(settings, where.data.root)
    good = []
    if settings.web_certificate is None and not settings.web_host.startswith(("127.", "::1", "localhost")):
        good.append("window: note: without web_certificate passwords can be read on the network")
    if not (where.data.control.exists() and ask(where.data.control, "status")):
        try:
            bind(settings.web_host, settings.web_port).close()
        except ConfigError as exc:
            problems.append(str(exc))
    if not problems:
        good.append(f"window: {settings.web_host}:{settings.web_port}")
    return good, [f"window: {problem}" for problem in problems]


def _routing(where: Places, settings: Settings) -> tuple[list[str], list[str]]:
    path = where.routing
    if not path.exists():
        if where.data.last_good_rules.exists():
            return [], [f"routing: {path} is gone; {GONE}"]
        if path.parent != where.data.root and not path.parent.is_dir():
            return [], [f"routing: {path}: there is no folder {path.parent} (--routing)"]
        return [f"routing: {path} is not there yet; an empty one is made at the first start"], []
    try:
        rules = load(path, settings.me, settings.me_port)
    except RulesRefused as exc:
        return [], [f"routing: {problem}" for problem in exc.problems]
    except OSError as exc:
        return [], [f"routing: {path}: {exc.strerror}"]
    good = [f"routing: {path}: {len(rules.rules)} rules", *(f"routing: note: {w}" for w in rules.warnings)]
    examined = destination_problems(rules)
    good += [f"destination {each}" for each in map(str, rules.destinations.values()) if not examined[each]]
    return good, [f"destination {name}: {problem}" for name, found in examined.items() for problem in found]


def _dropins(where: Places, settings: Settings) -> tuple[list[str], list[str]]:
    problem = places.processors_problem(where)
    if problem:
        return [], [f"processors: {problem}"]
    pins = read_pins(where.data.images)
    dropins = adorn(read_dropins(where.processors), pins)
    good = [
        f"processor {p.name}: serves {p.called_ae}" + ("" if p.enabled else " (switched off)") for p in dropins.good
    ]
    bad = [f"processor {b.name}: {problem}" for b in dropins.bad for problem in b.problems]
    room = room_of(settings)
    bad += [f"processor {p.name}: {why}" for p in dropins.good if p.enabled for why in misfits(p, room)]
    with_image = [p for p in with_own_steps(dropins.good) if p.image is not None and p.enabled]
    told, wrong = _images(with_image, pins, settings) if with_image else ([], [])
    return [*(good or [f"processors: none in {where.processors}"]), *told], [*bad, *wrong]


def _cluster(where: Places, settings: Settings) -> tuple[list[str], list[str]]:
    """With the engine slurm: a job on each node says whether it sees what it has to see."""
    if settings.engine != "slurm":
        return [], []
    if not where.data.state.is_dir():
        return [f"cluster: is tried when the data folder is there ({where.data.root})"], []
    found = read_dropins(where.processors).good if places.processors_problem(where) is None else ()
    told, wrong = cluster(settings, os.environ, where.data.root, where.processors, (p for p in found if p.enabled))
    return [f"cluster: {line}" for line in told], [f"cluster: {line}" for line in wrong]


def _images(processors: list[Processor], pins: Mapping[str, Pin], settings: Settings) -> tuple[list[str], list[str]]:
    """Is there an engine, and what the box knew last of the images; nothing is pulled here."""
    try:
        engine = container_engine(os.environ, settings)
    except EngineDown as exc:
        return [], [f"containers: {exc}"]
    good, bad = [f"containers: {engine}"], []
    for one in processors:
        pin = pins.get(one.name)
        if pin is None:
            good.append(f"processor {one.name}: the image {one.image} is looked for when the box runs")
        elif (why := why_not(one, pins)) is not None:
            bad.append(f"processor {one.name}: {why}")
        elif pin.image is not None:
            good.append(f"processor {one.name}: runs {one.image}, {pin.image.digest or pin.image.id}")
    return good, bad
