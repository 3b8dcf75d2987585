"""Users, links, sessions, tokens, waiting after mistakes, the audit: by the page, the API and the command line."""

import io
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from webbox import NAMES, PASSWORD, Desk, csrf_of, desk

from magickbox.cli.main import main
from magickbox.clock import now, to_text
from magickbox.datafolder import DataFolder
from magickbox.errors import ConfigError, ForbiddenMove, NotFound
from magickbox.web.accounts import accounts_of, blind_roles, open_store
from magickbox.web.principal import Role
from magickbox.web.store import StoreTrouble
from magickbox.web.throttle import MOST_WAITING, pause

ANOTHER = "another good one"


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Desk]:
    with desk(tmp_path / "data") as found:
        yield found


def new_client(office: Desk) -> TestClient:
    return office.client(raising=False)


def log_in(client: TestClient, name: str, password: str) -> int:
    return client.post("/login", data={"name": name, "password": password}).status_code


def test_a_session_lasts_until_it_is_ended(office: Desk) -> None:
    client = office.client(Role.VIEWER)
    (cookie,) = client.cookies.jar
    assert client.get("/api/v1/me").json()["name"] == "vera"
    assert client.post("/logout").headers["Location"] == "/login"
    client.cookies.set(cookie.name, str(cookie.value))
    assert client.get("/api/v1/me").status_code == 401


def test_the_cookie_cannot_be_read_or_made_by_others(office: Desk) -> None:
    client = new_client(office)
    answer = client.post("/login", data={"name": "vera", "password": PASSWORD})
    said = answer.headers["Set-Cookie"].casefold()
    assert "httponly" in said
    assert "samesite=lax" in said
    name, _, value = answer.headers["Set-Cookie"].partition(";")[0].partition("=")
    content = office.context.store.path.read_bytes()
    assert value.partition(".")[0].encode() not in content  # only its digest is kept
    for forged in (value[:-1], value.partition(".")[0], "x" + value, value.upper(), ""):
        client.cookies.clear()
        client.cookies.set(name, forged)
        assert client.get("/api/v1/me").status_code == 401


def test_an_old_session_is_over(office: Desk) -> None:
    client = office.client(Role.VIEWER)
    with office.context.store.writing() as tx:
        tx.execute("UPDATE sessions SET expires = ?", (to_text(now() - timedelta(seconds=1)),))
    assert client.get("/api/v1/me").status_code == 401
    assert client.get("/account").headers["Location"] == "/login?next=%2Faccount"


def test_mistakes_make_the_next_try_wait_also_for_who_knows_the_password(office: Desk) -> None:
    client = new_client(office)
    assert [log_in(client, "vera", "wrong") for _ in range(4)] == [401] * 4
    answer = client.post("/login", data={"name": "VERA", "password": PASSWORD})
    assert answer.status_code == 429
    assert int(answer.headers["Retry-After"]) <= 1
    assert log_in(client, "otto", PASSWORD) == 303  # another account is not concerned
    with office.context.store.writing() as tx:
        tx.execute("UPDATE failures SET until = ?", (to_text(now()),))
    assert log_in(client, "vera", PASSWORD) == 303


def test_a_burst_of_tries_has_no_more_than_tries_one_by_one(office: Desk) -> None:
    longest = (to_text(now()), "account vera")  # after so many mistakes the next one makes everybody wait a minute
    with office.context.store.writing() as tx:
        tx.execute("INSERT INTO failures (count, until, subject) VALUES (50, ?, ?)", longest)
    clients = [new_client(office) for _ in range(6)]
    with ThreadPoolExecutor(len(clients)) as pool:
        answers = list(pool.map(lambda client: log_in(client, "vera", "wrong"), clients))
    assert sorted(answers) == [401, 429, 429, 429, 429, 429]


def test_who_finds_a_crowd_at_the_log_in_is_sent_away(office: Desk) -> None:
    throttle = office.context.accounts.throttle
    with ExitStack() as crowd:
        for _ in range(MOST_WAITING):
            crowd.enter_context(throttle.queued())
        assert log_in(new_client(office), "vera", PASSWORD) == 429
    assert log_in(new_client(office), "vera", PASSWORD) == 303


def test_neighbours_of_an_ipv6_address_are_counted_together(office: Desk) -> None:
    throttle = office.context.accounts.throttle
    for number in range(31):
        throttle.failed(f"name {number}", f"2001:db8:1:2::{number:x}")
    assert throttle.wait("another", "2001:db8:1:2:ffff::1") > 0
    assert throttle.wait("another", "2001:db8:1:3::1") == 0


def test_the_wait_grows_and_has_its_end() -> None:
    waits = [pause(failures, "account") for failures in range(1, 14)]
    assert waits[:6] == [0, 0, 0, 1, 2, 4]
    assert waits[-1] == 60
    assert [pause(30, "address"), pause(31, "address"), pause(1000, "address")] == [0, 1, 900]


@pytest.mark.parametrize("target", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)"])
def test_a_log_in_leads_to_no_other_site(office: Desk, target: str) -> None:
    form = {"name": "vera", "password": PASSWORD, "next": target}
    assert new_client(office).post("/login", data=form).headers["Location"] == "/"


def test_another_site_can_neither_log_in_nor_change_anything(office: Desk) -> None:
    cross = {"Sec-Fetch-Site": "cross-site"}
    form = {"name": "vera", "password": PASSWORD}
    assert new_client(office).post("/login", data=form, headers=cross).status_code == 403
    client = office.client(Role.ADMIN)
    assert client.post("/logout", headers=cross).status_code == 403


def test_the_csrf_value_may_come_in_the_form(office: Desk) -> None:
    client = office.client(Role.ADMIN)
    value = client.headers.pop("X-CSRF-Token")
    assert client.post("/users", data={"name": "new", "csrf": "wrong"}).status_code == 403
    assert client.post("/users", data={"name": "new", "csrf": value}).status_code == 201
    assert csrf_of(office.client(Role.ADMIN)) != value  # each session has its own


def test_programs_bring_the_csrf_value_in_the_header_only(office: Desk) -> None:
    client = office.client(Role.OPERATOR)
    value = client.headers.pop("X-CSRF-Token")
    begun = client.post("/api/v1/uploads", json={"called_ae": "mip"}, headers={"X-CSRF-Token": value}).json()["id"]
    answer = client.put(f"/api/v1/uploads/{begun}/files/0", data={"csrf": value}, files={"large": b"x" * 100})
    assert answer.status_code == 403


def test_somebody_is_added_and_sets_a_password_by_the_link(office: Desk) -> None:
    anna = office.client(Role.ADMIN)
    made = anna.post("/api/v1/users", json={"name": "mueller", "role": "operator"})
    assert made.status_code == 201
    path = made.json()["path"]
    client = new_client(office)
    assert log_in(client, "mueller", "") == 401
    weak = client.post(path, data={"name": "mueller", "password": "short", "again": "short"})
    assert weak.status_code == 422
    assert "at least 10 characters" in weak.text
    unequal = client.post(path, data={"name": "mueller", "password": ANOTHER, "again": ANOTHER + "x"})
    assert unequal.status_code == 422
    good = client.post(path, data={"name": "anna", "password": ANOTHER, "again": ANOTHER})
    assert good.status_code == 303
    me = client.get("/api/v1/me").json()
    assert (me["name"], me["role"]) == ("mueller", "operator")  # the link says whose password it is, not the form
    assert new_client(office).get(path).status_code == 404
    assert log_in(new_client(office), "anna", PASSWORD) == 303


def test_a_role_and_a_removal_count_at_once(office: Desk) -> None:
    anna, otto = office.client(Role.ADMIN), office.client(Role.OPERATOR)
    assert anna.put("/api/v1/users/otto/role", json={"role": "viewer"}).status_code == 200
    assert otto.get("/api/v1/me").json()["role"] == "viewer"
    assert anna.delete("/api/v1/users/OTTO").status_code == 200
    assert otto.get("/api/v1/me").status_code == 401
    assert anna.delete("/api/v1/users/otto").status_code == 404


def test_the_last_admin_stays(office: Desk) -> None:
    anna = office.client(Role.ADMIN)
    assert anna.delete("/api/v1/users/anna").status_code == 409
    assert anna.put("/api/v1/users/anna/role", json={"role": "viewer"}).status_code == 409
    assert anna.post("/users/anna/remove").status_code == 409
    assert office.context.accounts.users.get("anna").role is Role.ADMIN


def test_a_new_password_ends_other_sessions(office: Desk) -> None:
    here, there = office.client(Role.VIEWER), office.client(Role.VIEWER)
    wrong = here.post("/account/password", data={"old": "wrong", "password": ANOTHER, "again": ANOTHER})
    assert wrong.status_code == 422
    form = {"old": PASSWORD, "password": ANOTHER, "again": ANOTHER}
    assert here.post("/account/password", data=form).status_code == 303
    assert here.get("/api/v1/me").status_code == 200
    assert there.get("/api/v1/me").status_code == 401
    assert log_in(new_client(office), "vera", PASSWORD) == 401
    assert log_in(new_client(office), "vera", ANOTHER) == 303


def test_a_new_password_ends_tokens_unless_they_are_kept(office: Desk) -> None:
    vera, anna = office.client(Role.VIEWER), office.client(Role.ADMIN)

    def token() -> TestClient:
        return bearer(office, vera.post("/api/v1/tokens", json={"label": "mine", "scope": "read"}).json()["token"])

    def audited() -> str:
        return str(anna.get("/api/v1/audit", params={"who_did": "vera"}).json()["items"][0]["result"])

    others = bearer(office, anna.post("/api/v1/tokens", json={"label": "hers", "scope": "read"}).json()["token"])
    program = token()
    assert 'name="keep" value="tokens"' in vera.get("/account").text
    form = {"old": PASSWORD, "password": ANOTHER, "again": ANOTHER, "keep": "tokens"}
    assert vera.post("/account/password", data=form).status_code == 303
    assert program.get("/api/v1/me").status_code == 200
    assert audited() == "done"
    vera.headers["X-CSRF-Token"] = csrf_of(vera)
    second = token()
    form = {"old": ANOTHER, "password": PASSWORD, "again": PASSWORD}
    assert vera.post("/account/password", data=form).status_code == 303
    assert [each.get("/api/v1/me").status_code for each in (program, second, others)] == [401, 401, 200]
    assert audited() == "done; tokens revoked: 2"
    assert 'name="keep"' not in vera.get("/account").text
    vera.headers["X-CSRF-Token"] = csrf_of(vera)
    third = token()
    path = f"/setup/{office.context.accounts.users.new_link('vera')}"
    assert "revokes all tokens" in new_client(office).get(path).text
    form = {"password": ANOTHER, "again": ANOTHER, "keep": "tokens"}
    assert new_client(office).post(path, data=form).status_code == 303
    assert third.get("/api/v1/me").status_code == 401
    assert audited() == "done; tokens revoked: 1"


def test_a_password_by_the_command_line_ends_tokens_unless_they_are_kept(
    office: Desk, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    accounts, data = office.context.accounts, ["--data", str(office.context.data.root)]
    accounts.tokens.make("vera", "mine", "read")
    for words, left in ((["--keep-tokens"], 1), ([], 0)):
        monkeypatch.setattr("sys.stdin", io.StringIO(f"{ANOTHER}\n"))
        assert main(["users", "password", "vera", *words, *data]) == 0
        assert ("tokens stay" if left else "tokens are revoked") in capsys.readouterr().out
        assert len(accounts.tokens.listing("vera")) == left
    assert accounts.audit.listing(1)[0].result == "done; tokens revoked: 1"


def bearer(office: Desk, secret: str) -> TestClient:
    client = new_client(office)
    client.headers["Authorization"] = f"Bearer {secret}"
    return client


def test_a_token_has_its_scope_and_never_more_than_its_owner(office: Desk) -> None:
    anna = office.client(Role.ADMIN)
    made = anna.post("/api/v1/tokens", json={"label": "dashboard", "scope": "read"}).json()
    reader = bearer(office, made["token"])
    assert reader.get("/api/v1/me").json() == {
        "name": "anna", "role": "viewer", "sees_names": True, "via": "token dashboard",
    }  # fmt: skip
    assert reader.get("/api/v1/users").status_code == 403
    full = anna.post("/api/v1/tokens", json={"label": "all", "scope": "admin", "days": 1}).json()
    ruler = bearer(office, full["token"])
    assert ruler.post("/api/v1/users", json={"name": "bot", "role": "viewer"}).status_code == 201  # and no CSRF value
    assert ruler.post("/api/v1/tokens", json={"label": "more", "scope": "admin"}).status_code == 403
    ruler.post("/api/v1/users", json={"name": "boss", "role": "admin"})
    assert ruler.put("/api/v1/users/anna/role", json={"role": "viewer"}).status_code == 200
    assert ruler.get("/api/v1/users").status_code == 403  # its owner is a viewer now


def test_tokens_are_seen_and_revoked_by_their_owner_and_by_admins_only(office: Desk) -> None:
    vera, otto, anna = (office.client(role) for role in Role)
    made = vera.post("/api/v1/tokens", json={"label": "mine", "scope": "read"}).json()
    assert vera.post("/api/v1/tokens", json={"label": "too much", "scope": "operate"}).status_code == 403
    assert otto.get("/api/v1/tokens").json() == {"items": []}
    assert otto.delete(f"/api/v1/tokens/{made['id']}").status_code == 404
    assert anna.delete(f"/api/v1/tokens/{1 << 70}").status_code == 404
    assert [token["label"] for token in anna.get("/api/v1/tokens").json()["items"]] == ["mine"]
    assert made["token"] not in anna.get("/api/v1/tokens").text
    assert anna.delete(f"/api/v1/tokens/{made['id']}").status_code == 200
    assert bearer(office, made["token"]).get("/api/v1/me").status_code == 401


def test_a_token_that_is_over_or_none(office: Desk) -> None:
    vera = office.client(Role.VIEWER)
    made = vera.post("/api/v1/tokens", json={"label": "mine", "scope": "read", "days": 1}).json()
    with office.context.store.writing() as tx:
        tx.execute("UPDATE tokens SET expires = ?", (to_text(now()),))
    for value in (f"Bearer {made['token']}", "Bearer ", "Bearer x", "Basic dmVyYTp4", "Bearer mbx_\x7f"):
        vera.headers["Authorization"] = value
        answer = vera.get("/api/v1/me")  # a session does not save a request with a bad token
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_what_was_done_is_written_down(office: Desk) -> None:
    anna = office.client(Role.ADMIN)
    log_in(new_client(office), "vera", "a secret that was mistyped")
    anna.post("/api/v1/users", json={"name": "bot", "role": "viewer"})
    first = anna.get("/api/v1/audit", params={"limit": 2}).json()
    assert [entry["action"] for entry in first["items"]] == ["add user", "login"]
    assert first["items"][1]["result"] == "refused: name or password is wrong"
    rest = anna.get("/api/v1/audit", params={"cursor": first["next"]}).json()
    assert [(entry["who"], entry["result"]) for entry in rest["items"]] == [("anna", "done")]
    assert rest["next"] is None
    assert "mistyped" not in anna.get("/audit").text
    assert len(anna.get("/api/v1/audit", params={"who_did": "anna"}).json()["items"]) == 2
    for cursor in ("x", "!", "A" * 300, "-1", "MQ", "4pyT"):
        assert anna.get("/api/v1/audit", params={"cursor": cursor}).status_code in (200, 400)


def test_names_are_hidden_from_the_roles_that_the_setting_names(tmp_path: Path) -> None:
    assert blind_roles("none") == frozenset()
    assert blind_roles("operator") == {Role.VIEWER, Role.OPERATOR}
    with desk(tmp_path / "data", web_hide_names="viewer") as office:
        sees = {role: office.client(role).get("/api/v1/me").json()["sees_names"] for role in Role}
    assert sees == {Role.VIEWER: False, Role.OPERATOR: True, Role.ADMIN: True}


@pytest.mark.parametrize("name", ["", "a b", "<b>", "a/b", "x" * 65, "-a", "a\tb"])
def test_names_that_are_none(office: Desk, name: str) -> None:
    with pytest.raises(ConfigError, match="a name is"):
        office.context.accounts.users.add(name, Role.VIEWER)
    answer = office.client(Role.ADMIN).post("/users", data={"name": name})
    assert answer.status_code == 422
    assert "<b>" not in answer.text.partition("<main")[2]


def test_the_first_link_is_over_when_there_is_a_user(tmp_path: Path) -> None:
    with desk(tmp_path / "data", people=False) as office:
        users = office.context.accounts.users
        first, second = users.new_link(), users.new_link()
        assert users.of_link(first) is None  # each new one ends the one before
        users.add("somebody", Role.ADMIN, ANOTHER)
        with pytest.raises(NotFound):
            users.use_link(second, "intruder", ANOTHER)
        assert [user.name for user in users.listing()] == ["somebody"]


def test_a_locked_database_is_told_and_not_waited_for_long(tmp_path: Path) -> None:
    with desk(tmp_path / "data") as office:
        client = office.client(Role.ADMIN)
        with office.context.store.writing() as tx:  # when it was used last is to be noted again
            tx.execute("UPDATE sessions SET seen = ?", (to_text(now() - timedelta(hours=1)),))
        other = sqlite3.connect(office.context.store.path, isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        assert client.get("/api/v1/me").status_code == 200  # who only looks can look all the same
        answer = client.post("/api/v1/users", json={"name": "bot", "role": "viewer"})
        assert answer.status_code == 503
        assert "window.db cannot be used just now" in answer.json()["detail"]
        other.execute("ROLLBACK")
        other.close()
        assert client.post("/api/v1/users", json={"name": "bot", "role": "viewer"}).status_code == 201


def test_a_database_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "window.db").write_bytes(b"nothing of the kind" * 300)
    with pytest.raises(StoreTrouble, match=r"window.db cannot be used: file is not a database"):
        open_store(tmp_path)


# --- the command line ---------------------------------------------------------------------------------------------


@pytest.fixture
def root(tmp_path: Path) -> Path:
    DataFolder(tmp_path).prepare()
    return tmp_path


def told(capsys: pytest.CaptureFixture[str], root: Path, *words: str, code: int = 0) -> str:
    assert main(["users", *words, "--data", str(root)]) == code
    said = capsys.readouterr()
    return said.err if code else said.out


def test_a_forgotten_admin_comes_in_again(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    link = told(capsys, root, "add", "chief", "--role", "admin").strip()
    assert "chief  admin  not yet   never" in told(capsys, root, "list")
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{ANOTHER}\n"))
    told(capsys, root, "password", "chief")
    store = open_store(root / "state")
    accounts = accounts_of(store)
    assert accounts.users.of_link(link.rpartition("/")[2]) is None  # the password ended the link
    assert accounts.users.is_password("chief", ANOTHER) is not None
    again = told(capsys, root, "link", "chief").strip().rpartition("/")[2]
    assert accounts.users.use_link(again, "", PASSWORD)[0].name == "chief"
    assert {entry.via for entry in accounts.audit.listing(10)} == {"command line"}
    store.close()


def test_the_command_line_says_what_cannot_be(root: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "nobody yet" in told(capsys, root, "list")
    assert told(capsys, root, "link").startswith("/setup/")  # that of the first admin
    told(capsys, root, "add", "chief", "--role", "admin")
    assert "there is a user 'CHIEF' already" in told(capsys, root, "add", "CHIEF", code=1)
    assert "is the only admin" in told(capsys, root, "remove", "chief", code=1)
    assert "is the only admin" in told(capsys, root, "role", "chief", "viewer", code=1)
    assert "there is no user 'nobody'" in told(capsys, root, "link", "nobody", code=1)
    assert "there are users already" in told(capsys, root, "link", code=1)
    assert "no box has ever run" in told(capsys, tmp_path / "elsewhere", "list", code=1)
    told(capsys, root, "add", "second", "--role", "admin")
    assert "can no longer log in" in told(capsys, root, "remove", "chief")


def test_moves_that_are_forbidden_are_the_houses_own_errors(office: Desk) -> None:
    with pytest.raises(ForbiddenMove):
        office.context.accounts.users.remove(NAMES[Role.ADMIN])
