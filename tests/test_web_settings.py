"""Settings in the window: shown with their sources, changed in magickbox.toml, taken up by a running box."""

import json
import os
import re
from pathlib import Path

import pytest
from boxprocess import until
from webbox import Desk, desk, serving

from magickbox.config import load
from magickbox.errors import ConfigError
from magickbox.resettling import LIVE, changed, reread, taken_up
from magickbox.web.api.settings import EDITABLE, edited
from magickbox.web.principal import Role

FILE = """# our PACS
me = "old.example.org"  # since 2020
me_port = 104

# jobs
keep_done = "14 days"
slots = 2
"""


def test_comments_stay_when_a_value_changes() -> None:
    text = edited(FILE, {"me": "new.example.org", "keep_done": None, "alarm_after": 60})
    assert "# our PACS\n" in text
    assert 'me = "new.example.org"  # since 2020\n' in text
    assert "# jobs\n" in text
    assert "keep_done" not in text
    assert "alarm_after = 60" in text
    assert edited(FILE, {}) == FILE
    with pytest.raises(ConfigError, match="has a mistake already"):
        edited("a = = 1", {"me": "x"})


def test_what_is_taken_up_and_what_waits(tmp_path: Path) -> None:
    file = tmp_path / "magickbox.toml"
    file.write_text(FILE)
    was = load(file, {"MAGICKBOX_SLOTS": "3"}, {"settle": 1})
    file.write_text(FILE.replace("old", "new").replace("slots = 2", "slots = 9\ntimeout = 60\nsettle = 99"))
    new = reread(was, file)
    assert changed(was, new) == ["me", "timeout"]  # the variable and the option count more than the file
    assert new.sources["slots"] == "MAGICKBOX_SLOTS"
    now = taken_up(was, new)
    assert (now.settings.me, now.settings.timeout) == ("new.example.org", 3600.0)
    assert changed(now, reread(now, file)) == ["timeout"]
    file.unlink()
    assert reread(was, file).settings.me is None


def settings_of(office: Desk) -> dict[str, dict[str, object]]:
    items = office.client(Role.VIEWER).get("/api/v1/settings").json()["items"]
    return {each["name"]: each for each in items}


def test_every_setting_is_shown_with_its_source_and_secrets_are_not(tmp_path: Path) -> None:
    hook = "https://chat.example.org/hooks/TOP-SECRET"
    with desk(tmp_path / "data", alarm_webhook=hook, slots=3) as office:
        shown = settings_of(office)
        assert shown["slots"]["source"] == "--slots"
        assert shown["port"]["source"] == "default"
        assert shown["alarm_webhook"]["value"] == "https://chat.example.org/***"
        assert not shown["alarm_webhook"]["editable"]  # an option counts more than the file
        assert shown["me"]["editable"]
        page = office.client(Role.ADMIN).get("/settings").text
        assert "TOP-SECRET" not in page
        assert "TOP-SECRET" not in str(shown)


def test_a_viewer_sees_no_way_to_change_them(tmp_path: Path) -> None:
    with desk(tmp_path / "data") as office:
        page = office.client(Role.VIEWER).get("/settings").text
        assert '<button class="main">Save' not in page
        assert len(re.findall(r"<input id=\"set-\w+\"[^>]* disabled", page)) == len(EDITABLE)


@pytest.mark.parametrize(
    ("values", "status", "said"),
    [
        ({"me_port": 0}, 422, "must be a whole number from 1 to 65535"),
        ({"keep_done": "soon"}, 422, "is not a duration"),
        ({"alarm_webhook": "ftp://x"}, 422, "must be an http or https URL"),
        ({"ae_title": "TOO LONG FOR A TITLE"}, 422, "ae_title"),
        ({"alarm_command": "/bin/sh"}, 409, "cannot be changed here"),
        ({"port": 1}, 409, "cannot be changed here"),
        ({"keep_unrouted": "1 h"}, 409, "is given by --keep-unrouted"),
        ({}, 422, "at least 1 item"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_written(
    tmp_path: Path, values: dict[str, object], status: int, said: str
) -> None:
    with desk(tmp_path / "data", keep_unrouted="2 h") as office:
        answer = office.client(Role.ADMIN).patch("/api/v1/settings", json={"values": values})
        assert answer.status_code == status
        assert said in answer.json()["detail"]
        assert sorted(path.name for path in (tmp_path / "data").glob("*.toml*")) == []
        assert list((tmp_path / "data").glob(".*.draft")) == []


def test_a_running_box_takes_them_up(tmp_path: Path) -> None:
    root = tmp_path / "data"
    root.mkdir()
    (root / "magickbox.toml").write_text(FILE)
    (root / "magickbox.toml").chmod(0o600)
    with serving(root) as box:
        client = box.client(Role.ADMIN)
        answer = client.patch("/api/v1/settings", json={"values": {"me": "new.example.org", "ae_title": "OTHER"}})
        assert answer.json() == {"taken_up": ["me"], "waiting": ["ae_title"]}
        shown = {each["name"]: each for each in client.get("/api/v1/settings").json()["items"]}
        assert (shown["me"]["value"], shown["me"]["waiting"]) == ("new.example.org", None)
        assert (shown["ae_title"]["value"], shown["ae_title"]["waiting"]) == ("MAGICKBOX", "OTHER")
        assert os.stat(root / "magickbox.toml").st_mode & 0o777 == 0o600
        page = client.get("/settings").text
        assert "Waiting for the next start" in page

        rule = {"send": [{"success": {"IP": "$me", "PORT": "$port", "AETitleSender": "BOX", "AETitleTo": "PACS"}}]}
        rules = {"routing": [{"name": "to the PACS", "AETitleIn": ".*", **rule}]}
        (root / "routing.json").write_text(json.dumps(rules))
        until(lambda: "1 rule is in force" in (root / "logs/routing.log").read_text(), what="the rule")
        needed = client.patch("/api/v1/settings", json={"values": {"me": None}})
        assert needed.status_code == 422
        assert "the rules need it" in needed.json()["detail"]
        assert client.patch("/api/v1/settings", json={"values": {"me": "third.example.org"}}).status_code == 200
        form = {"keep_done": "20 days", "keep_unrouted": "", "csrf": client.headers["X-CSRF-Token"]}
        saved = client.post("/settings", data=form)
        assert "in force: keep_done" in saved.text
        assert client.post("/settings", data=form).text.count("Nothing was changed") == 1
        wrong = client.post("/settings", data={"keep_done": "soon", "csrf": form["csrf"]})
        assert wrong.status_code == 422
        assert 'value="soon"' in wrong.text  # what was typed is still there
        actions = [entry["action"] for entry in client.get("/api/v1/audit").json()["items"]]
        assert actions.count("change setting") == 4
    text = (root / "magickbox.toml").read_text()
    assert 'me = "third.example.org"  # since 2020' in text
    assert 'keep_done = "20 days"' in text
    with serving(root, people=False) as box:
        assert box.client(Role.VIEWER).get("/api/v1/status").json()["ae_title"] == "OTHER"


def test_every_setting_that_is_edited_has_its_place_on_the_page(tmp_path: Path) -> None:
    assert set(LIVE) < set(EDITABLE)
    with desk(tmp_path / "data") as office:
        page = office.client(Role.ADMIN).get("/settings").text
    assert [name for name in EDITABLE if f'name="{name}"' not in page] == []
