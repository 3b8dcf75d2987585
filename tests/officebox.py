"""A running box with jobs of real images, one of which means harm, and the window's app beside it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from boxprocess import Station, all_jobs, is_quiet, running, send, set_up, station, until
from pydicom import dcmread
from starlette.testclient import TestClient
from studies import study
from webbox import Desk, desk

from magickbox.sender import Item
from magickbox.web.cataloguing import Cataloguing
from magickbox.web.principal import Role

EVIL = "<script>alert('x')</script>"
TO: dict[str, object] = {"IP": "127.0.0.1", "PORT": 0, "AETitleSender": "BOX", "AETitleTo": "ST"}
RULES = {
    "routing": [
        {"name": "all", "send": [{"success": TO}]},
        {
            "name": "only CT",
            "send": [
                {
                    "success": {**TO, "which": [{"Modality": "CT", "PatientName": "Secret.*"}]},
                }
            ],
        },
    ]
}  # fmt: skip


@dataclass
class Office:
    """A running box with jobs, and the window's app beside it."""

    root: Path
    desk: Desk
    port: int
    station: Station
    items: list[Item]

    @property
    def operator(self) -> TestClient:
        """Somebody who may act."""
        return self.desk.client(Role.OPERATOR)

    @property
    def blind(self) -> TestClient:
        """Somebody who may look, but not see names."""
        return self.desk.client(Role.VIEWER)

    def catalogue(self) -> None:
        """What the window's thread does once a second."""
        context = self.desk.context
        Cataloguing(context.catalogue, context.ledger, lambda job: context.data.jobs / job).look()

    def job(self, called: str) -> str:
        """The oldest job for a called AE."""
        return next(job.id for job in reversed(all_jobs(self.root)) if job.called_ae == called)


@contextmanager
def open_office(top: Path) -> Iterator[Office]:
    """Two jobs for ``COPY`` and ``FAIL``; viewers see no names."""
    root = top / "data"
    with station(top / "station") as there:
        set_up(root, there.port)
        rules = json.loads(json.dumps(RULES).replace('"PORT": 0', f'"PORT": {there.port}'))
        (root / "routing.json").write_text(json.dumps(rules))
        _script(root, "FAIL", f'#!/bin/sh\necho "{EVIL} of Secret Patient"\nexit 3\n')
        items = study(top / "study", 4)
        _rename(items, EVIL)
        with running(root) as box, desk(root, web_hide_names="viewer") as window:
            assert box.port is not None
            for called in ("COPY", "FAIL"):
                assert send(box.port, items, called).acknowledged == {item.sop_instance for item in items}
            until(lambda: len(all_jobs(root)) == 2 and is_quiet(root), 40, "the jobs")
            found = Office(root, window, box.port, there, items)
            found.catalogue()
            yield found


def _script(root: Path, name: str, text: str) -> None:
    script = root / "processors" / name
    script.write_text(text)
    script.chmod(0o755)


def _rename(items: list[Item], patient: str) -> None:
    for item in items:
        ds = dcmread(item.path)
        ds.PatientID = patient
        ds.save_as(item.path)
