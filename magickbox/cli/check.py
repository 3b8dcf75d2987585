"""``magickbox check``: settings, routing rules and processors; exit code 1 and exact messages if anything is wrong."""

import argparse
import os
from pathlib import Path

from magickbox.cli import places
from magickbox.cli.output import print_json
from magickbox.config import Settings
from magickbox.dropins.folder import read_dropins
from magickbox.errors import ConfigError
from magickbox.rules.file import RulesRefused, load


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Describe the command."""
    parser = commands.add_parser("check", help="are settings, rules and processors right?")
    places.add_box(parser)
    places.add_settings(parser)
    places.add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Look at everything, say everything that is wrong."""
    settings, sources, problems = Settings(), {}, []
    try:
        loaded = places.settings(args)
        settings, sources = loaded.settings, dict(loaded.sources)
    except ConfigError as exc:
        problems += [f"settings: {line}" for line in str(exc).splitlines()]
    where = places.places(args)
    good = [f"settings: {name} from {source}" for name, source in sources.items() if source != "default"]
    for told, wrong in (_data(where.data.root), _routing(where.routing, settings), _dropins(where.processors)):
        good += told
        problems += wrong
    if args.json:
        print_json({"good": good, "problems": problems})
    else:
        for line in good:
            print(f"ok       {line}")
        for line in problems:
            print(f"PROBLEM  {line}")
    return 1 if problems else 0


def _data(root: Path) -> tuple[list[str], list[str]]:
    if not root.exists():
        return [f"data: {root} is not there yet; it is made at the first start"], []
    if not os.access(root, os.W_OK | os.X_OK):
        return [], [f"data: {root} is not writable by this user (uid {os.getuid()})"]
    return [f"data: {root}"], []


def _routing(path: Path, settings: Settings) -> tuple[list[str], list[str]]:
    if not path.exists():
        return [f"routing: {path} is not there yet; an empty one is made at the first start"], []
    try:
        rules = load(path, settings.me, settings.me_port)
    except RulesRefused as exc:
        return [], [f"routing: {problem}" for problem in exc.problems]
    except OSError as exc:
        return [], [f"routing: {path}: {exc.strerror}"]
    return [f"routing: {path}: {len(rules.rules)} rules", *(f"routing: note: {w}" for w in rules.warnings)], []


def _dropins(folder: Path) -> tuple[list[str], list[str]]:
    dropins = read_dropins(folder)
    good = [
        f"processor {p.name}: serves {p.called_ae}" + ("" if p.enabled else " (switched off)") for p in dropins.good
    ]
    bad = [f"processor {b.name}: {problem}" for b in dropins.bad for problem in b.problems]
    return good or [f"processors: none in {folder}"], bad
