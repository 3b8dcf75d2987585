"""The first page: what is going on, what went wrong, and the first steps with an empty box."""

import ipaddress
import json
import socket
import threading
from pathlib import Path

import pytest
from boxprocess import is_quiet, send, until
from peers import item_of, sample
from sandboxes import sandbox
from webbox import desk, serving

from magickbox.dropins.folder import read_dropins
from magickbox.web.api.overview import Rates
from magickbox.web.models.system import Status
from magickbox.web.principal import Role
from magickbox.web.whereabouts import own_address

EXAMPLE = Status.model_config["json_schema_extra"]["examples"][0]  # type: ignore[index]


def test_the_first_steps_lead_to_a_result(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as box:
        assert "First steps" in box.client(Role.VIEWER).get("/").text
        client = box.client(Role.ADMIN)
        steps = client.get("/api/v1/first-steps").json()
        assert (steps["port"], steps["processor"], steps["has_rules"]) == (box.port, False, False)
        assert steps["commands"][0] == f"magickbox send 127.0.0.1 {box.port} FOLDER --called EXAMPLE"
        assert client.post("/now/example-processor").status_code == 303
        assert client.post("/now/example-rule").status_code == 303
        assert client.post("/api/v1/first-steps/processor").status_code == 422  # it is there
        assert client.post("/api/v1/first-steps/rule").status_code == 422
        after = client.get("/api/v1/first-steps").json()
        assert after["processor"]
        assert after["has_rules"]
        until(lambda: "1 rule is in force" in (box.root / "logs/routing.log").read_text(), what="the rule")
        until(lambda: bool(read_dropins(box.root / "processors").good), what="the processor")
        send(box.port, [item_of(sample("CT_small.dcm"))], called="EXAMPLE")
        until(lambda: any((box.root / "results").rglob("*.dcm")), 60, "a result in the folder")
        until(lambda: is_quiet(box.root), what="the job's end")
        page = client.get("/").text
        assert "First steps" not in page
        assert "results" in page  # the destination
        found = client.get("/api/v1/overview").json()
        assert found["jobs"] == {"DONE": 1}
        assert [(d["name"], d["state"], d["open"]) for d in found["destinations"]] == [("results", "idle", 0)]
        assert found["failures"] == []


def test_a_sender_elsewhere_is_shown_an_address_that_it_can_reach(tmp_path: Path) -> None:
    if own_address() is None:
        pytest.skip("this machine has no network")
    with desk(tmp_path / "data", host="0.0.0.0", port="11199") as office:
        client = office.client(Role.VIEWER)
        shown = client.get("/api/v1/first-steps").json()
        assert not ipaddress.ip_address(shown["host"]).is_loopback
        assert shown["commands"][0].startswith(f"magickbox send {shown['host']} 11199 ")
        asked = {"Host": f"{socket.gethostname()}:8080"}  # by that name the window was found
        assert client.get("/api/v1/first-steps", headers=asked).json()["host"] == socket.gethostname().lower()


def test_associations_in_progress_and_what_failed(tmp_path: Path) -> None:
    root = tmp_path / "data"
    root.mkdir()
    nobody = {"IP": "127.0.0.1", "PORT": 9, "AETitleSender": "BOX", "AETitleTo": "<b>PACS"}
    rule = {"name": "r", "RouteDirectory": "INPUT", "send": [{"none": nobody}]}
    (root / "routing.json").write_text(json.dumps({"routing": [rule]}))
    with serving(root, "--settle", "1") as box:
        client = box.client(Role.VIEWER)
        items = [item_of(sample("CT_small.dcm"))] * 300
        thread = threading.Thread(target=send, args=(box.port, items, "COPY", "CT1"))
        thread.start()
        until(lambda: "CT1" in client.get("/now/parts").text, what="the association")
        thread.join()
        until(lambda: client.get("/api/v1/overview").json()["jobs"] == {"DELIVERING": 1}, what="the job")
        until(lambda: bool(client.get("/api/v1/overview").json()["failures"]), what="the failure")
        page = client.get("/").text
        assert "&lt;b&gt;PACS@127.0.0.1:9" in page
        assert "<b>PACS" not in page


def test_a_rate_is_what_came_between_two_looks() -> None:
    status = Status.model_validate(EXAMPLE)
    (association,) = status.associations
    rates = Rates()
    assert rates.look(status) == {}
    later = status.model_copy(update={"associations": [association.model_copy(update={"instances": 187})]})
    rates._at -= 10
    assert 9.0 < rates.look(later)[association.id] <= 10.0
    assert rates.look(status.model_copy(update={"associations": []})) == {}


def test_without_a_box_the_page_says_so(tmp_path: Path) -> None:
    with desk(tmp_path / "data") as office:
        page = office.client(Role.VIEWER).get("/")
        assert page.status_code == 200
        assert "The box does not answer" in page.text


@pytest.mark.parametrize(("setting", "warns"), [("off", True), ("auto", False)])
def test_a_missing_sandbox_is_warned_of(tmp_path: Path, setting: str, warns: bool) -> None:
    if setting == "auto":
        sandbox(tmp_path)  # skips where there is none
    with serving(tmp_path / "data", "--sandbox", setting) as box:
        client = box.client(Role.VIEWER)
        pages = [client.get(path).text for path in ("/", "/now/parts", "/processors")]
        problem = client.get("/api/v1/status").json()["sandbox_problem"]
    assert (problem is not None) is warns
    warning = '<p class="caution"><strong>Warning:</strong> the sandbox is switched off: processors run with the rights'
    assert [page.count(warning) for page in pages] == [int(warns)] * 3
    assert [page.count('class="caution"') for page in pages] == [int(warns)] * 3
