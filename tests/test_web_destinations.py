"""Destinations in the window: how their queues stand, whether they answer, pausing them, and sending again."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from boxprocess import running, station, until
from planned import PACS, QC, entry, new_items, routed, with_files
from starlette.testclient import TestClient
from webbox import Desk, desk

from magickbox.ledger import Ledger, endings
from magickbox.web.principal import Role

LANE = "PACS@127.0.0.1:104"


def rules_to(port: int) -> str:
    to = {"IP": "127.0.0.1", "PORT": port, "AETitleSender": "BOX", "AETitleTo": "STATION"}
    named = {"folder": {"kind": "folder", "path": "/nowhere/at/all"}, "a": to, "group": {"members": ["a"]}}
    return json.dumps({"destinations": named, "routing": [{"send": [{"success": to}, {"success": {"to": "group"}}]}]})


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Desk]:
    """A ledger with a dead delivery and an open one to the PACS, and a running box that may not send it."""
    root = tmp_path / "data"
    with desk(root) as found, station(tmp_path / "station") as peer:
        (root / "routing.json").write_text(rules_to(peer.port))
        ledger = Ledger(found.context.data.ledger)
        dead, _ = routed(ledger, entry(PACS), entry(QC))
        routed(ledger, entry(PACS), name="other")
        with ledger.transaction() as tx:
            endings.fail(tx, dead, "no connection")
        ledger.close()
        for job in ("job", "other"):
            with_files(found.context.data.jobs / job, new_items())
        yield found


@pytest.fixture
def client(office: Desk) -> TestClient:
    return office.client(Role.OPERATOR)


def listed(client: TestClient) -> dict[str, dict[str, object]]:
    return {each["name"]: each for each in client.get("/api/v1/destinations").json()}


def test_all_that_rules_name_and_all_that_anything_was_to_go_to_are_listed(client: TestClient) -> None:
    found = listed(client)
    assert (found[LANE]["open"], found[LANE]["dead"], found[LANE]["in_rules"]) == (1, 1, False)
    assert (found["folder"]["kind"], found["folder"]["state"], found["folder"]["used"]) == ("folder", "UNUSED", False)
    assert (found["group"]["state"], found["group"]["members"]) == ("GROUP", ["a"])
    inline = next(each for name, each in found.items() if name.startswith("STATION@"))
    assert inline["kind"] == "dicom"


def test_echo_says_whether_somebody_answers(office: Desk, client: TestClient) -> None:
    assert client.post("/api/v1/destinations/a/echo").json()["answers"] is True
    refused = client.post("/api/v1/destinations/folder/echo").json()
    assert refused["answers"] is False
    assert refused["said"]
    assert client.post("/api/v1/destinations/group/echo").status_code == 404
    assert client.post("/api/v1/destinations/no%2Fsuch@one/echo").status_code == 404
    entries = [(each.action, each.subject) for each in office.context.accounts.audit.listing(10)]
    assert entries[:2] == [("echo", "folder"), ("echo", "a")]


def test_a_destination_is_paused_and_resumed_by_the_box(office: Desk, client: TestClient) -> None:
    assert client.post(f"/api/v1/destinations/{LANE}/pause").status_code == 503  # no box yet
    with running(office.context.data.root):
        said = client.post(f"/api/v1/destinations/{LANE}/pause").json()["said"]
        assert said == f"nothing is sent to {LANE} until it is resumed"
        assert listed(client)[LANE]["state"] == "PAUSED"
        assert str(listed(client)[LANE]["reason"]).startswith("by otto")
        assert client.post(f"/api/v1/destinations/{LANE}/resume").status_code == 200
        assert client.post("/api/v1/destinations/nothing/pause").status_code == 404
        assert client.post(f"/api/v1/destinations/{LANE}/delete").status_code == 422
    refused, done = (each.result for each in office.context.accounts.audit.listing(10, action="pause")[:2])
    assert refused.startswith("refused: ")
    assert done == said


def test_dead_letters_are_sent_again(office: Desk, client: TestClient) -> None:
    with running(office.context.data.root):
        client.post(f"/api/v1/destinations/{LANE}/pause")
        assert client.post(f"/api/v1/destinations/{LANE}/retry").json() == {"again": 1, "refused": [], "left": 0}
        until(lambda: listed(client)[LANE]["dead"] == 0, what="no dead delivery")
        assert listed(client)[LANE]["open"] == 2
        assert client.post(f"/api/v1/destinations/{LANE}/retry").json()["again"] == 0


def test_the_page_shows_one_with_what_was_given_up_and_sends_it_again(office: Desk, client: TestClient) -> None:
    page = client.get("/destinations").text
    assert LANE in page
    one = client.get("/destinations/one", params={"name": LANE}).text
    assert "no connection" in one
    assert "Given up" in one
    form = {"name": LANE, "back": "one", "csrf": client.headers["X-CSRF-Token"]}
    with running(office.context.data.root):
        client.post("/destinations/do", data={**form, "do": "pause"})
        number = client.get("/destinations/one", params={"name": LANE}).text.partition('name="delivery" value="')[2]
        htmx = {"HX-Request": "true"}
        again = client.post(
            "/destinations/do", data={**form, "do": "again", "delivery": number.partition('"')[0]}, headers=htmx
        )
        assert "is tried again" in again.text
        assert "Given up" not in again.text
        assert "answers, in" in client.post("/destinations/do", data={**form, "name": "a", "do": "echo"}).text
    said = client.post("/destinations/do", data={**form, "do": "resume"}, headers=htmx).text
    assert "started or stopped" in said
    assert client.get("/destinations/one", params={"name": "none"}).status_code == 404


def test_a_viewer_sees_no_button(office: Desk) -> None:
    assert "<form" not in office.client(Role.VIEWER).get("/destinations").text.partition("<main")[2]
