"""Processors in the window: how they run, switched on and off, brought by admins, and tried on a job."""

import io
import os
import signal
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from boxes import Image, TestBox
from boxprocess import until
from pydicom.data import get_testdata_file
from starlette.testclient import TestClient
from test_web_box import children_of
from webbox import Desk, desk, serving

from magickbox.cli.main import main
from magickbox.ledger import Ledger, jobs
from magickbox.web.principal import Role

COPY = b'#!/bin/sh\ncp "$1"/* "$2"/\necho copied for Test^Person\n'
LONG = b"#!/bin/sh\nsleep 600\n"


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Desk]:
    with desk(tmp_path / "data") as found:
        folder = found.context.places.processors
        (folder / "Proc.sh").write_bytes(COPY)
        (folder / "Proc.sh").chmod(0o755)
        (folder / "Bad.sh").write_bytes(b"echo\n")
        (folder / "Bad.sh").chmod(0o755)
        yield found


@pytest.fixture
def admin(office: Desk) -> TestClient:
    return office.client(Role.ADMIN)


def listed(client: TestClient) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in client.get("/api/v1/processors").json()}


def a_job(office: Desk) -> str:
    ledger = Ledger(office.context.data.ledger)
    box = TestBox(office.context.data, ledger)
    try:
        return box.run(box.job(Image("1.2.3"), Image("1.2.4"))).id
    finally:
        ledger.close()


def zipped(name: str = "Seg", script: bytes = COPY) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr(f"{name}/processor.json", b'{"command": ["./run.sh"], "version": "7"}')
        archive.writestr(f"{name}/run.sh", script)
    return made.getvalue()


def bring(client: TestClient, filename: str, content: bytes, **more: str) -> dict[str, Any]:
    answer = client.post("/api/v1/processors", files={"file": (filename, content)}, data=more)
    return {"status": answer.status_code, **answer.json()}


def in_folder(office: Desk) -> list[str]:
    return sorted(os.listdir(office.context.places.processors))


def test_good_and_bad_ones_are_listed_with_how_they_run(office: Desk) -> None:
    job = a_job(office)
    ledger = Ledger(office.context.data.ledger)
    with ledger.transaction() as tx:
        jobs.begin_attempt(tx, job, 2, "Proc", "", "")
        jobs.end_attempt(tx, job, 2, 3, "failed", "no model for Test^Person")
        jobs.begin_attempt(tx, job, 3, "Gone", "", "")
        jobs.end_attempt(tx, job, 3, 0, "success", "")
    ledger.close()
    found = listed(office.client(Role.VIEWER))
    assert {name: each["state"] for name, each in found.items()} == {"Proc": "on", "Bad": "bad", "Gone": "gone"}
    assert "must begin with #!" in found["Bad"]["problems"][0]
    runs = found["Proc"]["runs"]
    assert (runs["runs"], runs["failed"], runs["failures"][0]["job"]) == (2, 1, job)
    assert runs["spread"] is not None
    page = office.client(Role.VIEWER).get("/processors").text
    assert "must begin with #!" in page
    assert "<form" not in page.partition("<main")[2]
    assert "no model for Test^Person" in office.client(Role.VIEWER).get("/processors/one", params={"name": "Proc"}).text


def test_what_a_processor_said_is_hidden_with_the_names(tmp_path: Path) -> None:
    with desk(tmp_path / "data", web_hide_names="viewer") as office:
        job = a_job(office)
        ledger = Ledger(office.context.data.ledger)
        with ledger.transaction() as tx:
            jobs.begin_attempt(tx, job, 2, "Proc", "", "")
            jobs.end_attempt(tx, job, 2, 3, "failed", "no model for Test^Person")
        ledger.close()
        for role, seen in ((Role.VIEWER, False), (Role.OPERATOR, True)):
            assert ("Test^Person" in office.client(role).get("/api/v1/processors").text) is seen


def test_switching_lasts_and_is_written_down(office: Desk, admin: TestClient) -> None:
    assert admin.post("/api/v1/processors/Proc/disable").json() == {"name": "Proc", "on": False}
    assert listed(admin)["Proc"]["state"] == "off"
    assert "Proc.disabled" in in_folder(office)
    form = {"name": "Proc", "to": "on", "csrf": admin.headers["X-CSRF-Token"]}
    assert admin.post("/processors/switch", data=form).status_code == 303
    assert listed(admin)["Proc"]["state"] == "on"
    assert admin.post("/api/v1/processors/Bad/enable").status_code == 422
    assert admin.post("/api/v1/processors/None/enable").status_code == 404
    said = [(each.action, each.subject, each.result[:8]) for each in office.context.accounts.audit.listing(4)]
    assert said == [
        ("processor on", "None", "refused:"),
        ("processor on", "Bad", "refused:"),
        ("processor on", "Proc", "done"),
        ("processor off", "Proc", "done"),
    ]


def test_a_script_and_a_zip_become_processors_that_are_off_at_first(office: Desk, admin: TestClient) -> None:
    assert bring(admin, "Mine.sh", COPY) == {
        "status": 200, "name": "Mine", "version": "", "called_ae": "Mine", "on": False, "replaced": False,
    }  # fmt: skip
    seg = bring(admin, "whatever.zip", zipped(), on="true")
    assert (seg["name"], seg["version"], seg["on"]) == ("Seg", "7", True)
    assert bring(admin, "whatever.zip", zipped())["status"] == 422
    assert bring(admin, "whatever.zip", zipped(), replace="true")["replaced"] is True
    assert {name: each["state"] for name, each in listed(admin).items() if name != "Bad"} == {
        "Proc": "on", "Mine": "off", "Seg": "off",
    }  # fmt: skip
    assert office.context.accounts.audit.listing(1)[0].action == "processor upload"


@pytest.mark.parametrize(
    ("filename", "content", "status"),
    [
        ("../../../evil.sh", COPY, 200),  # only the last part of a name counts
        ("..\\..\\evil.sh", COPY, 200),
        ("evil", b"", 422),
        ("evil.sh", b"no script", 422),
        ("evil.dcm", COPY, 422),
        (".sh", COPY, 422),
        ("evil.zip", b"no zip", 422),
        ("evil.zip", zipped("../evil"), 422),
        ("evil\u202e.sh", COPY, 422),
    ],
)
def test_hostile_uploads(office: Desk, admin: TestClient, filename: str, content: bytes, status: int) -> None:
    before = in_folder(office)
    assert bring(admin, filename, content)["status"] == status
    new = [name for name in in_folder(office) if name not in before]
    assert new == (["evil.disabled", "evil.sh"] if status == 200 else [])
    found = sorted(office.context.data.root.parent.glob("**/evil*"))
    assert found == [office.context.places.processors / name for name in new]


def test_an_upload_without_a_file_or_of_somebody_else(office: Desk, admin: TestClient) -> None:
    assert admin.post("/api/v1/processors").status_code == 422
    assert admin.post("/api/v1/processors", data={"file": "text"}).status_code == 422
    assert bring(office.client(Role.OPERATOR), "Mine.sh", COPY)["status"] == 403
    assert admin.post("/processors/upload", files={"file": ("Mine.sh", b"x")}).status_code == 422
    csrf = admin.headers.pop("X-CSRF-Token")
    given = {"file": ("Mine.sh", COPY)}
    assert admin.post("/processors/upload", files=given, data={"csrf": "other"}).status_code == 403
    placed = admin.post("/processors/upload", files=given, data={"csrf": csrf})
    assert (placed.status_code, placed.headers["Location"]) == (303, "/processors/one?name=Mine")
    assert "Mine.sh" in in_folder(office)


def test_a_name_from_outside_is_escaped(office: Desk, admin: TestClient) -> None:
    folder = office.context.places.processors / "<img src=x>"
    folder.mkdir()
    (folder / "processor.json").write_text('{"command": ["true"], "description": "<script>alert(1)</script>"}')
    for path in ("/processors", "/processors/one?name=%3Cimg%20src%3Dx%3E"):
        page = admin.get(path).text
        assert "&lt;img src=x&gt;" in page
        assert "<img src=x>" not in page
        assert "<script>alert" not in page


def tried(client: TestClient, processor: str, job: str) -> dict[str, Any]:
    """A test run, once it has ended."""
    begun = client.post("/api/v1/trials", json={"processor": processor, "job": job})
    assert begun.status_code == 202, begun.text
    at = f"/api/v1/trials/{begun.json()['id']}"
    until(lambda: not client.get(at).json()["running"], 60, "the end of the test run")
    return dict(client.get(at).json())


def test_a_test_run_reports_and_leaves_nothing(office: Desk) -> None:
    job, client = a_job(office), office.client(Role.OPERATOR)
    before = sorted(path.name for path in (office.context.data.jobs / job).rglob("*"))
    trial = tried(client, "Proc", job)
    assert trial["trouble"] == ""
    report = trial["report"]
    assert (report["outcome"], report["exit"], report["instances"], report["outputs"]) == ("success", 0, 2, 2)
    assert report["same_uid_as_input"] == 2
    assert report["log"] == ["copied for Test^Person"]
    assert sorted(path.name for path in (office.context.data.jobs / job).rglob("*")) == before
    assert list(office.context.data.trials.iterdir()) == []
    page = client.get("/processors/one", params={"name": "Proc"}).text
    assert "copied for Test^Person" in page
    assert client.post("/api/v1/trials", json={"processor": "Bad", "job": job}).status_code == 409
    assert client.post("/api/v1/trials", json={"processor": "None", "job": job}).status_code == 404
    assert client.post("/api/v1/trials", json={"processor": "Proc", "job": "../.."}).status_code == 404
    assert client.get("/api/v1/trials/nothing").status_code == 404


def test_what_a_test_run_prints_is_hidden_with_the_names(tmp_path: Path) -> None:
    with desk(tmp_path / "data", web_hide_names="operator") as office:
        (office.context.places.processors / "Proc.sh").write_bytes(COPY)
        (office.context.places.processors / "Proc.sh").chmod(0o755)
        trial = tried(office.client(Role.OPERATOR), "Proc", a_job(office))
    assert trial["report"]["outcome"] == "success"
    assert "Test^Person" not in str(trial)


def test_one_at_a_time_and_it_can_be_stopped(office: Desk) -> None:
    job, client = a_job(office), office.client(Role.OPERATOR)
    (office.context.places.processors / "Long.sh").write_bytes(LONG)
    (office.context.places.processors / "Long.sh").chmod(0o755)
    begun = client.post("/api/v1/trials", json={"processor": "Long", "job": job}).json()
    assert begun["running"]
    assert client.post("/api/v1/trials", json={"processor": "Proc", "job": job}).status_code == 429
    shown = client.post("/processors/test", data={"name": "Proc", "job": job}, headers={"HX-Request": "true"}).text
    assert "one is made at a time" in shown
    work = office.context.data.trials / begun["id"]
    until(lambda: (work / "run" / "INPUT" / "1.2.3.dcm").exists(), what="a copy of the job")
    client.post("/processors/stop", data={"name": "Long", "trial": begun["id"]})
    at = f"/api/v1/trials/{begun['id']}"
    until(lambda: not client.get(at).json()["running"], 30, "the end of it")
    assert client.get(at).json()["trouble"] == "it was stopped"
    assert not work.exists()
    assert tried(client, "Proc", job)["report"]["outcome"] == "success"


def test_a_job_whose_files_are_gone_cannot_be_tried(office: Desk) -> None:
    job, client = a_job(office), office.client(Role.OPERATOR)
    (office.context.data.jobs / job).rename(office.context.data.root / "elsewhere")
    assert client.post("/api/v1/trials", json={"processor": "Proc", "job": job}).status_code == 404


def processes(word: bytes) -> list[int]:
    """Those that have this word on their command line."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit() and word in (entry / "cmdline").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return found


@pytest.mark.parametrize("sandbox", ["auto", "off"])
def test_a_test_run_ends_with_the_window(tmp_path: Path, sandbox: str) -> None:
    word = f"{6000 + os.getpid() % 1000}.{'7' if sandbox == 'off' else '3'}"
    with serving(tmp_path / "data", "--sandbox", sandbox) as box:
        (box.root / "processors" / "Long.sh").write_text(f"#!/bin/sh\nsleep {word}\n")
        (box.root / "processors" / "Long.sh").chmod(0o755)
        client = box.client(Role.OPERATOR)
        sample = str(get_testdata_file("CT_small.dcm"))
        assert main(["send", "127.0.0.1", str(box.port), sample, "--called", "Other"]) == 0
        until(lambda: client.get("/api/v1/jobs").json()["items"], what="the job")
        job = client.get("/api/v1/jobs").json()["items"][0]["id"]
        assert client.post("/api/v1/trials", json={"processor": "Long", "job": job}).status_code == 202
        until(lambda: bool(processes(word.encode())), what="the run")
        (window,) = children_of(box.process.pid)
        os.kill(window, signal.SIGKILL)
        until(lambda: not processes(word.encode()), what="the end of the run")


def test_a_chain_is_shown_and_brought(office: Desk, admin: TestClient) -> None:
    folder = office.context.places.processors / "Chain"
    folder.mkdir()
    (folder / "processor.json").write_text('{"steps": [{"processor": "Proc"}, {"name": "last", "processor": "Proc"}]}')
    told = listed(admin)["Chain"]
    assert (told["kind"], told["steps"], told["state"]) == ("chain", ["Proc", "last"], "on")
    assert "Proc → last" in admin.get("/processors/one", params={"name": "Chain"}).text
