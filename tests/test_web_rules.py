"""The rules in the window: checked, tried, saved, compared and brought back, by the API and by the pages."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from boxes import Image, TestBox
from boxprocess import until
from starlette.testclient import TestClient
from webbox import Desk, desk, serving

from magickbox.ledger import Ledger
from magickbox.rules.file import LARGEST
from magickbox.web.principal import Role

RULES = """{
  // the first
  "routing": [
    { "name": "to the PACS", "AETitleIn": "Proc", "RouteDirectory": "INPUT",
      "send": [ { "success": { "IP": "10.0.0.5", "PORT": 104, "AETitleSender": "BOX", "AETitleTo": "PACS" } } ] }
  ]
}
"""
OTHER = RULES.replace("PACS", "ARCHIVE")
BROKEN = RULES.replace('"send"', '"sent"')


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Desk]:
    with desk(tmp_path / "data") as found:
        found.context.places.routing.write_text(RULES)
        yield found


@pytest.fixture
def admin(office: Desk) -> TestClient:
    return office.client(Role.ADMIN)


def state_of(client: TestClient) -> str:
    return str(client.get("/api/v1/rules").json()["state"])


def save(client: TestClient, text: str = OTHER, state: str | None = None, **more: str) -> dict[str, object]:
    given = {"text": text, "state": state_of(client) if state is None else state, **more}
    answer = client.put("/api/v1/rules", json=given)
    return {"status": answer.status_code, **answer.json()}


def processed(office: Desk, uid: str = "1.2.3") -> str:
    """A job of two instances whose processor said success."""
    ledger = Ledger(office.context.data.ledger)
    box = TestBox(office.context.data, ledger)
    try:
        return box.run(box.job(Image(uid), Image(f"{uid}.1"))).id
    finally:
        ledger.close()


def audit(office: Desk) -> list[tuple[str, str, str]]:
    entries = office.context.accounts.audit.listing(10)
    return [(each.who, each.action, each.result) for each in entries if each.action == "rules"]


def test_the_rules_are_told_in_words_and_as_they_are(office: Desk) -> None:
    told = office.client(Role.VIEWER).get("/api/v1/rules").json()
    assert told["text"] == RULES
    assert told["usable"]
    (rule,) = told["rules"]
    assert rule["jobs"] == "jobs sent to Proc"
    assert rule["entries"][0] == {
        "when": "success", "what": "all files of INPUT", "to": "PACS@10.0.0.5:104", "then": "",
    }  # fmt: skip


def test_a_file_with_errors_is_said_and_the_last_good_rules_are_shown(office: Desk, admin: TestClient) -> None:
    office.context.data.last_good_rules.write_text(RULES)
    office.context.places.routing.write_text(BROKEN)
    told = admin.get("/api/v1/rules").json()
    assert not told["usable"]
    assert told["text"] == BROKEN
    assert [(each["line"], each["warning"]) for each in told["findings"]] == [(5, False)]
    assert [each["name"] for each in told["rules"]] == ["to the PACS"]
    page = admin.get("/rules").text
    assert "has errors" in page
    assert "to the PACS" in page


def test_a_draft_is_checked_while_one_types(admin: TestClient) -> None:
    wrong = admin.post("/api/v1/rules/check", json={"text": BROKEN}).json()
    assert not wrong["usable"]
    (finding,) = wrong["findings"]
    assert (finding["line"], finding["column"]) == (5, 7)
    assert finding["said"] == "unknown key, did you mean 'send'?"
    good = admin.post("/api/v1/rules/check", json={"text": OTHER}).json()
    assert good["usable"]
    assert good["rules"][0]["entries"][0]["to"] == "ARCHIVE@10.0.0.5:104"


@pytest.mark.parametrize("text", ["", "{", "\x00", "[" * 5000, '"\\ud800"', "9" * 500, '{"routing": 1}', "null"])
def test_no_text_is_more_than_a_finding(admin: TestClient, text: str) -> None:
    found = admin.post("/api/v1/rules/check", json={"text": text})
    assert found.status_code == 200
    assert found.json()["findings"]
    assert save(admin, text)["status"] == 422


def test_half_of_a_character_is_no_text(admin: TestClient) -> None:
    body = json.dumps({"text": "\ud800"})
    headers = {"Content-Type": "application/json"}
    assert admin.post("/api/v1/rules/check", content=body, headers=headers).status_code == 422


def test_a_text_beyond_what_the_box_takes_is_refused(admin: TestClient) -> None:
    assert admin.post("/api/v1/rules/check", json={"text": " " * (LARGEST + 1)}).status_code == 422
    assert admin.post("/api/v1/rules/check", json={"text": " " * (8 << 20)}).status_code == 413
    assert admin.post("/rules/edit", data={"text": " " * (LARGEST + 1), "do": "check"}).status_code == 400


def test_saving_brings_rules_into_force_and_is_written_down(office: Desk, admin: TestClient) -> None:
    saved = save(admin, comment="the archive is new")
    assert saved["status"] == 200
    assert office.context.places.routing.read_text() == OTHER
    versions = admin.get("/api/v1/rules/history").json()["items"]
    assert [(each["who"], each["how"]) for each in versions] == [
        ("anna", "saved: the archive is new"),
        ("", "found in the file"),
    ]
    assert versions[0]["id"] == saved["version"]
    assert audit(office) == [("anna", "rules", saved["version"])]


def test_rules_with_errors_are_never_saved(office: Desk, admin: TestClient) -> None:
    answer = save(admin, BROKEN)
    assert answer["status"] == 422
    assert "did you mean 'send'?" in str(answer["findings"])
    assert office.context.places.routing.read_text() == RULES


def test_of_two_people_the_second_is_told_and_nothing_is_lost(office: Desk, admin: TestClient) -> None:
    loaded = state_of(admin)
    assert save(admin, OTHER, loaded)["status"] == 200
    refused = save(office.client(Role.ADMIN), RULES.replace("PACS", "MINE"), loaded)
    assert refused["status"] == 409
    assert "changed by somebody else" in str(refused["detail"])
    assert refused["state"] == state_of(admin)
    assert office.context.places.routing.read_text() == OTHER


def test_versions_are_compared_and_brought_back(office: Desk, admin: TestClient) -> None:
    save(admin)
    first = admin.get("/api/v1/rules/history").json()["items"][1]
    lines = admin.get("/api/v1/rules/compare", params={"old": first["id"]}).json()
    changed = [(each["kind"], each["old"], each["new"]) for each in lines if each["kind"] not in ("same", "gap")]
    assert changed == [("gone", 4, None), ("gone", 5, None), ("new", None, 4), ("new", None, 5)]
    assert admin.get(f"/api/v1/rules/history/{first['id']}").json()["text"] == RULES
    answer = admin.post(f"/api/v1/rules/history/{first['id']}/return", json={"state": state_of(admin)})
    assert answer.status_code == 200
    assert office.context.places.routing.read_text() == RULES
    newest = admin.get("/api/v1/rules/history").json()["items"][0]
    assert newest["how"].startswith("returned to that of ")
    assert admin.get("/api/v1/rules/compare", params={"old": first["id"]}).json() == []


def test_the_history_comes_in_pages(admin: TestClient) -> None:
    for name in "abc":
        save(admin, RULES.replace("PACS", name))
    first = admin.get("/api/v1/rules/history", params={"limit": 3}).json()
    rest = admin.get("/api/v1/rules/history", params={"limit": 3, "cursor": first["next"]}).json()
    assert (len(first["items"]), len(rest["items"]), rest["next"]) == (3, 1, None)


@pytest.mark.parametrize("name", ["nothing", "..%2F..%2Frouting", "20200101T000000000000Z-000000000000"])
def test_a_version_that_is_none(admin: TestClient, name: str) -> None:
    assert admin.get(f"/api/v1/rules/history/{name}").status_code == 404
    assert admin.get("/api/v1/rules/compare", params={"old": name}).status_code == 404


def test_a_draft_is_tried_on_the_last_jobs_and_nothing_happens(office: Desk) -> None:
    kept, gone = processed(office), processed(office, "1.2.4")
    shutil.rmtree(office.context.data.jobs / gone)
    client = office.client(Role.OPERATOR)
    tried = client.post("/api/v1/rules/try", json={"text": OTHER, "jobs": 5}).json()
    assert (tried["changed"], tried["unchanged"], tried["skipped"]) == (1, 0, 1)
    jobs = {each["job"]: each for each in tried["jobs"]}
    assert jobs[gone]["skipped"] == "its folder is gone"
    assert [each["to"] for each in jobs[kept]["gone"]] == ["PACS@10.0.0.5:104"]
    assert [(each["to"], each["instances"]) for each in jobs[kept]["new"]] == [("ARCHIVE@10.0.0.5:104", 2)]
    assert office.context.places.routing.read_text() == RULES
    assert client.post("/api/v1/rules/try", json={"text": BROKEN}).status_code == 422
    assert client.post("/api/v1/rules/try", json={"text": OTHER, "jobs": 5000}).status_code == 422


def test_a_trial_shows_values_of_patients_only_to_who_may_see_them(tmp_path: Path) -> None:
    named = OTHER.replace('"AETitleTo"', '"which": [{"PatientName": "Test"}], "AETitleTo"')
    for hidden in ("none", "operator"):
        with desk(tmp_path / hidden, web_hide_names=hidden) as office:
            processed(office)
            client = office.client(Role.OPERATOR)
            told = client.post("/api/v1/rules/try", json={"text": named}).text
            page = client.post("/rules/edit", data={"text": named, "do": "try"}).text
        assert ("Test^Person" in told) == ("Test^Person" in page) == (hidden == "none")


def test_who_sees_no_names_cannot_guess_them_by_trials(tmp_path: Path) -> None:
    named = OTHER.replace('"AETitleTo"', '"which": [{"PatientName": "^T"}], "AETitleTo"')
    with desk(tmp_path / "data", web_hide_names="operator") as office:
        processed(office)
        client = office.client(Role.OPERATOR)
        refused = client.post("/api/v1/rules/try", json={"text": named})
        assert refused.status_code == 403
        assert "0010,0010" in refused.json()["detail"]
        assert client.post("/api/v1/rules/try", json={"text": OTHER}).status_code == 200
        office.context.places.routing.write_text(named)  # an admin's rules may be tried by everybody
        assert client.post("/api/v1/rules/try", json={"text": named}).status_code == 200
        assert office.client(Role.ADMIN).post("/api/v1/rules/try", json={"text": named}).status_code == 200


def test_the_pages_work_without_javascript(office: Desk, admin: TestClient) -> None:
    processed(office)
    page = admin.get("/rules/edit").text
    state = re.search(r'name="state" value="(\w+)"', page)
    assert state
    form = {"text": OTHER.replace("\n", "\r\n"), "state": state[1], "csrf": admin.headers["X-CSRF-Token"]}
    del admin.headers["X-CSRF-Token"]
    assert "This has errors" in admin.post("/rules/edit", data={**form, "text": BROKEN, "do": "check"}).text
    assert "1 job would be sent otherwise" in admin.post("/rules/edit", data={**form, "do": "try"}).text
    assert 'class="new"' in admin.post("/rules/edit", data={**form, "do": "compare"}).text
    saved = admin.post("/rules/edit", data={**form, "do": "save", "comment": "by form"})
    assert saved.status_code == 303
    assert "are in force for jobs" in admin.get(saved.headers["Location"]).text
    assert office.context.places.routing.read_text() == OTHER
    refused = admin.post("/rules/edit", data={**form, "text": RULES, "do": "save"})
    assert refused.status_code == 409
    assert "changed by somebody else" in refused.text
    assert "to the PACS" in refused.text  # what was typed is still there
    history = admin.get("/rules/history").text
    (path,) = re.findall(r'action="(/rules/history/[^"]+/return)"', history)
    now = re.search(r'name="state" value="(\w+)"', history)
    assert now
    back = admin.post(path, data={"state": now[1], "csrf": form["csrf"]})
    assert back.status_code == 303
    assert office.context.places.routing.read_text() == RULES


def test_an_operator_tries_and_an_admin_saves(office: Desk) -> None:
    client = office.client(Role.OPERATOR)
    assert client.post("/rules/edit", data={"text": OTHER, "state": state_of(client), "do": "save"}).status_code == 403
    assert save(client)["status"] == 403
    assert office.context.places.routing.read_text() == RULES
    assert 'value="save"' not in client.get("/rules/edit").text
    assert "readonly" in office.client(Role.VIEWER).get("/rules/edit").text


def test_what_stands_in_rules_is_escaped(office: Desk, admin: TestClient) -> None:
    save(admin, RULES.replace("to the PACS", "<script>alert(1)</script>"))
    for path in ("/rules", "/rules/edit", "/rules/history"):
        assert "<script>alert" not in admin.get(path).text


def test_a_file_that_cannot_be_written_is_said(office: Desk, admin: TestClient, tmp_path: Path) -> None:
    office.context.places.routing.unlink()
    office.context.places.routing.symlink_to("/proc/self/nothing")
    answer = save(admin, OTHER)
    assert answer["status"] == 507
    assert audit(office)[0][2].startswith("failed: ")


def test_a_box_takes_what_the_window_saves(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as box:
        admin = box.client(Role.ADMIN)
        given = {"text": OTHER, "state": admin.get("/api/v1/rules").json()["state"]}
        assert admin.put("/api/v1/rules", json=given).status_code == 200
        until(lambda: (box.root / "state" / "rules.json").read_text() == OTHER, what="the box's last good rules")
        versions = admin.get("/api/v1/rules/history").json()["items"]
        assert [each["who"] for each in versions] == ["anna", ""]
