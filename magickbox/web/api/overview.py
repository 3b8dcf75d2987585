"""How the box stands, in one answer; and the first steps with an empty one."""

import json
import socket
import threading
import time
from contextlib import suppress

from fastapi import APIRouter, Depends, Request

from magickbox.dropins.folder import read_dropins
from magickbox.dropins.template import new as new_dropin
from magickbox.errors import ConfigError, MagickboxError
from magickbox.ledger import alarms, jobs, queues
from magickbox.ledger.queues import QueueLine
from magickbox.processor import choose
from magickbox.queueing import Mode
from magickbox.rules.file import RulesRefused, load
from magickbox.web.acting import note
from magickbox.web.api.rules import rule_file
from magickbox.web.context import Context
from magickbox.web.models.accounts import Said
from magickbox.web.models.overview import Destination, Failure, FirstSteps, Overview
from magickbox.web.models.system import Status
from magickbox.web.problems import Problem
from magickbox.web.security import Admin, In, viewer
from magickbox.web.whereabouts import EVERYWHERE, own_address

router = APIRouter(tags=["box"])
EXAMPLE = "EXAMPLE"
MOST = 20
_AT_LEAST = 0.8  # seconds between two samples of a rate


class Rates:
    """Instances a second of each open association, from one look to the next; safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._at, self._counts = 0.0, dict[str, int]()
        self._rates: dict[str, float] = {}

    def look(self, status: Status) -> dict[str, float]:
        """The rates since the look before; nothing for an association that is seen for the first time."""
        counts = {each.id: each.instances for each in status.associations}
        with self._lock:
            moment = time.monotonic()
            passed = moment - self._at
            if passed >= _AT_LEAST:
                known = counts.keys() & self._counts.keys()
                self._rates = {each: round((counts[each] - self._counts[each]) / passed, 1) for each in known}
                self._at, self._counts = moment, counts
            return {each: rate for each, rate in self._rates.items() if each in counts}


@router.get("/overview", dependencies=[Depends(viewer)], summary="How everything stands")
def read_overview(request: Request, box: In) -> Overview:
    return overview(box, request.app.state.rates)


def overview(box: Context, rates: Rates) -> Overview:
    """The answer; without the box its ledger alone."""
    try:
        status = Status.model_validate(box.status())
    except (Problem, MagickboxError):
        status = None
    with box.ledger.reading() as tx:
        counts = jobs.count_by_state(tx)
        lines = queues.overview(tx)
        attention = alarms.newest_in_attention(tx, MOST)
    failures = [
        Failure(kind="job", subject=t.subject, since=str(t.since.isoformat()), reason=t.reason) for t in attention
    ]
    failures += [
        Failure(kind="destination", subject=line.name, since=line.state.troubled.isoformat(), reason=line.state.trouble)
        for line in lines
        if line.open and line.state.troubled is not None
    ]
    return Overview(
        status=status,
        rates=rates.look(status) if status else {},
        jobs=counts,
        destinations=[destination(line) for line in lines],
        failures=sorted(failures, key=lambda each: each.since, reverse=True)[:MOST],
        empty=not counts,
    )


def destination(line: QueueLine) -> Destination:
    """A destination in short."""
    mode = line.state.mode
    word = mode.lower() if mode is not Mode.RUNNING else "unreachable" if line.state.circuit.is_open else ""
    return Destination(
        name=line.name,
        state=word or ("sending" if line.open else "idle"),
        open=line.open,
        dead=line.dead,
        oldest=line.oldest.isoformat() if line.oldest else None,
        reason=line.reason,
    )


@router.get("/first-steps", dependencies=[Depends(viewer)], summary="What to do with an empty box")
def read_first_steps(request: Request, box: In) -> FirstSteps:
    return first_steps(box, request.url.hostname or "")


def first_steps(box: Context, asked: str) -> FirstSteps:
    """``asked`` is the host under which the window was asked for: senders may find the box there as well."""
    port, host = box.settings.port, box.settings.host
    with suppress(Problem, MagickboxError):
        host, port = box.status()["listening"]
    if host in EVERYWHERE:  # one of its addresses or names is to be shown
        here = asked in ("127.0.0.1", "localhost", "::1", "")
        host = (own_address() or socket.gethostname()) if here else asked
    found = choose(read_dropins(box.places.processors).good, EXAMPLE)
    return FirstSteps(
        host=host,
        port=port,
        ae_title=box.settings.ae_title,
        called=EXAMPLE,
        commands=[
            f"magickbox send {host} {port} FOLDER --called {EXAMPLE}",
            f"storescu -aec {EXAMPLE} +sd +r {host} {port} FOLDER",
        ],
        processor=found is not None and found.enabled,
        rule=_rule(box),
        has_rules=_has_rules(box),
    )


def _rule(box: Context) -> str:
    path = json.dumps(str(box.data.root / "results"))
    return f"""{{
  "destinations": {{ "results": {{ "kind": "folder", "path": {path} }} }},
  "routing": [
    {{ "name": "Keep the results", "AETitleIn": "{EXAMPLE}", "send": [ {{ "success": {{ "to": "results" }} }} ] }}
  ]
}}"""


def _has_rules(box: Context) -> bool:
    """True also for a file with a mistake, or one that is gone: it is somebody's."""
    try:
        return bool(load(box.places.routing, box.settings.me, box.settings.me_port).rules)
    except (RulesRefused, OSError):
        return True


@router.post("/first-steps/processor", status_code=201, summary="Make the example processor")
def make_example(request: Request, box: In, who: Admin) -> Said:
    """A folder `EXAMPLE` with a script that makes a new series of each series; it can be edited and removed."""
    new_dropin(box.places.processors, EXAMPLE)
    note(request, who, "add processor", EXAMPLE)
    return Said(said=f"the processor {EXAMPLE} is there; send a study to the called AE title {EXAMPLE}")


@router.post("/first-steps/rule", status_code=201, summary="Use the example rule")
def use_example_rule(request: Request, box: In, who: Admin) -> Said:
    """Only where there are no rules yet; its results go into the folder `results` of the data folder."""
    if _has_rules(box):
        raise ConfigError("there are rules already; add the example to them yourself")
    (box.data.root / "results").mkdir(exist_ok=True)
    file = rule_file(box)
    file.save(_rule(box) + "\n", file.found().state, who.name, "the example rule of the first steps")
    note(request, who, "rules", "the example rule")
    return Said(said="the example rule is in force")
