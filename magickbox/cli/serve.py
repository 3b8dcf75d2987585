"""``magickbox serve``: run a box until it is told to stop."""

import argparse
import json
import os
import resource
import signal
import threading
from contextlib import suppress
from dataclasses import replace

from magickbox import __version__
from magickbox.cli import places
from magickbox.config import stray_variables
from magickbox.errors import ConfigError
from magickbox.pulse import Pulse
from magickbox.resettling import LIVE, changed, reread, taken_up
from magickbox.service import Box, build
from magickbox.supervisor import Supervisor
from magickbox.web.keeper import Keeper
from magickbox.web.start import Start


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Describe the command."""
    parser = commands.add_parser("serve", help="run a box", description="Run a box until SIGTERM or Ctrl-C.")
    places.add_box(parser)
    places.add_settings(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Start the box, wait, stop it."""
    _raise_descriptor_limit()
    loaded = places.settings(args)
    found = places.places(args)
    problem = places.processors_problem(found)
    if problem:
        raise ConfigError(problem)
    supervisor = Supervisor.of(os.environ)
    box = build(loaded.settings, found, os.environ)
    places.make_default_processors(found)
    window = Keeper(Start(found, places.config_file(args), loaded), box.logs["process"].note, _say)
    box.control.tell("window", window.describe)
    box.control.teach("settings", lambda _subject, who: _adopt(box, window, who))
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    try:
        box.start()
    except BaseException:
        box.close()
        raise
    for line in introduction(box):
        print(line, flush=True)
    window.start()
    supervisor.ready(_status(box))
    pulse = Pulse(box.ledger)
    # A signal that the system gave to another thread does not wake this one, and only this one runs its handler.
    while not stopped.wait(0.5):
        supervisor.alive(pulse.trouble, lambda: _status(box))
    supervisor.stopping()
    print("stopping: no new associations, what is open goes on at the next start", flush=True)
    window.stop()
    box.stop()
    print("stopped", flush=True)
    return 0


def _adopt(box: Box, window: Keeper, who: str) -> str:
    """Read the settings file again and take up what can be; says in JSON what, and what waits; raises ConfigError."""
    was = window.about.loaded
    new = reread(was, window.about.config)
    box.adopt(new.settings)
    window.about = replace(window.about, loaded=taken_up(was, new))
    names = changed(was, new)
    taken, waiting = [n for n in names if n in LIVE], [n for n in names if n not in LIVE]
    box.logs["process"].note("info", "settings", {"taken": ",".join(taken), "waiting": ",".join(waiting), "by": who})
    return json.dumps({"taken_up": taken, "waiting": waiting})


def _status(box: Box) -> str:
    """What a service manager shows of the box, in one line."""
    host, port = box.receiver.address
    return f"{host}:{port}, {len(box.receive.open_associations())} associations, {box.capacity.waiting} jobs wait"


def _say(line: str) -> None:
    """For the window's thread: a terminal that is gone must not end it."""
    with suppress(OSError):
        print(line, flush=True)


def _raise_descriptor_limit() -> None:
    """Take as many file descriptors as the system allows: each association needs two."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def introduction(box: Box) -> list[str]:
    """What a person wants to know of a box that has just started."""
    host, port = box.receiver.address
    dropins, rules = box.dropins.current, box.rules.current()
    names = ", ".join(p.called_ae for p in dropins.good if p.enabled) or "none yet"
    lines = [
        f"magickbox {__version__} listening on {host}:{port} (AE title {box.settings.ae_title}, any called AE)",
        f"  data        {box.places.data.root}",
        f"  processors  {box.places.processors}: {names}",
        f"  rules       {box.places.routing}: {len(rules.rules)} rules",
        f"  sandbox     {box.protection.told_at_start[1]}",
        f"  logs        {box.places.data.logs}",
    ]
    if (tls := box.receiver.tls_address) is not None:
        lines.insert(1, f"  TLS         {tls[0]}:{tls[1]}, client certificates: {box.settings.client_certificates}")
        lines += [f"  note: {note}" for note in box.tls_notes()]
    lines += [f"  bad processor {bad.name}: {bad.problems[0]}" for bad in dropins.bad]
    if box.rules.problem:
        lines.append(f"  the last good rules are in use: {box.rules.problem}")
    lines += [f"  note: {stray}" for stray in stray_variables(os.environ)]
    return lines
