"""Who may do what: every route of the app has its row here, and is called in every role and without one."""

from collections.abc import Iterable, Iterator

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient
from webbox import Desk, desk

from magickbox.web.principal import Role

ALL = None  # for everybody, also without a log-in

# Each route with the least role that may call it.
ROWS: dict[tuple[str, str], Role | None] = {
    ("GET", "/static/{version}/{name:path}"): ALL,
    ("GET", "/favicon.ico"): ALL,
    ("GET", "/api/v1/openapi.json"): ALL,
    ("GET", "/login"): ALL,
    ("POST", "/login"): ALL,
    ("POST", "/logout"): Role.VIEWER,
    ("GET", "/setup/{secret}"): ALL,
    ("POST", "/setup/{secret}"): ALL,
    ("GET", "/"): Role.VIEWER,
    ("GET", "/healthz"): ALL,
    ("GET", "/readyz"): ALL,
    ("GET", "/metrics"): Role.VIEWER,
    ("GET", "/api/v1/me"): Role.VIEWER,
    ("GET", "/api/v1/status"): Role.VIEWER,
    ("GET", "/api/v1/events"): Role.VIEWER,
    ("GET", "/api/v1/jobs/{job}/series"): Role.VIEWER,
    ("GET", "/jobs/{job}/pictures"): Role.VIEWER,
    ("GET", "/upload"): Role.OPERATOR,
    ("POST", "/api/v1/uploads"): Role.OPERATOR,
    ("PUT", "/api/v1/uploads/{upload}/files/{number}"): Role.OPERATOR,
    ("POST", "/api/v1/uploads/{upload}/send"): Role.OPERATOR,
    ("GET", "/api/v1/uploads/{upload}"): Role.OPERATOR,
    ("DELETE", "/api/v1/uploads/{upload}"): Role.OPERATOR,
    ("GET", "/api/v1/jobs/{job}/{place}/series/{series}/thumbnail"): Role.VIEWER,
    ("GET", "/api/v1/jobs/{job}/{place}/instances/{instance}/frames/{frame}"): Role.VIEWER,
    ("GET", "/api/v1/jobs/{job}/{place}/instances/{instance}/frames/{frame}/values"): Role.VIEWER,
    ("GET", "/api/v1/jobs/{job}/{place}/instances/{instance}/metadata"): Role.VIEWER,
    ("GET", "/api/v1/jobs/{job}/{place}/instances/{instance}/report"): Role.VIEWER,
    ("GET", "/api/v1/jobs/{job}/{place}/instances/{instance}/document"): Role.VIEWER,
    ("GET", "/destinations"): Role.VIEWER,
    ("GET", "/destinations/one"): Role.VIEWER,
    ("POST", "/destinations/do"): Role.OPERATOR,
    ("GET", "/api/v1/destinations"): Role.VIEWER,
    ("POST", "/api/v1/destinations/{name:path}/echo"): Role.OPERATOR,
    ("POST", "/api/v1/destinations/{name:path}/retry"): Role.OPERATOR,
    ("POST", "/api/v1/destinations/{name:path}/{verb}"): Role.OPERATOR,
    ("GET", "/processors"): Role.VIEWER,
    ("GET", "/processors/one"): Role.VIEWER,
    ("POST", "/processors/switch"): Role.ADMIN,
    ("POST", "/processors/upload"): Role.ADMIN,
    ("POST", "/processors/test"): Role.OPERATOR,
    ("POST", "/processors/stop"): Role.OPERATOR,
    ("GET", "/api/v1/processors"): Role.VIEWER,
    ("POST", "/api/v1/processors"): Role.ADMIN,
    ("GET", "/api/v1/processors/{name}"): Role.VIEWER,
    ("POST", "/api/v1/processors/{name}/enable"): Role.ADMIN,
    ("POST", "/api/v1/processors/{name}/disable"): Role.ADMIN,
    ("POST", "/api/v1/trials"): Role.OPERATOR,
    ("GET", "/api/v1/trials/{trial}"): Role.OPERATOR,
    ("POST", "/api/v1/trials/{trial}/stop"): Role.OPERATOR,
    ("GET", "/rules"): Role.VIEWER,
    ("GET", "/rules/edit"): Role.VIEWER,
    ("POST", "/rules/edit"): Role.OPERATOR,
    ("GET", "/rules/history"): Role.VIEWER,
    ("POST", "/rules/history/{version}/return"): Role.ADMIN,
    ("GET", "/api/v1/rules"): Role.VIEWER,
    ("PUT", "/api/v1/rules"): Role.ADMIN,
    ("GET", "/api/v1/rules/schema"): Role.VIEWER,
    ("POST", "/api/v1/rules/check"): Role.OPERATOR,
    ("POST", "/api/v1/rules/try"): Role.OPERATOR,
    ("GET", "/api/v1/rules/compare"): Role.VIEWER,
    ("POST", "/api/v1/rules/compare"): Role.OPERATOR,
    ("GET", "/api/v1/rules/history"): Role.VIEWER,
    ("GET", "/api/v1/rules/history/{version}"): Role.VIEWER,
    ("POST", "/api/v1/rules/history/{version}/return"): Role.ADMIN,
    ("GET", "/jobs"): Role.VIEWER,
    ("POST", "/jobs/do"): Role.OPERATOR,
    ("GET", "/jobs/{job}"): Role.VIEWER,
    ("GET", "/jobs/{job}/part"): Role.VIEWER,
    ("GET", "/jobs/{job}/why"): Role.VIEWER,
    ("GET", "/jobs/{job}/series"): Role.VIEWER,
    ("GET", "/deliveries/{number}"): Role.VIEWER,
    ("POST", "/deliveries/{number}/{verb}"): Role.OPERATOR,
    ("GET", "/log"): Role.VIEWER,
    ("GET", "/api/v1/jobs"): Role.VIEWER,
    ("GET", "/api/v1/jobs/counts"): Role.VIEWER,
    ("POST", "/api/v1/jobs/bulk/{verb}"): Role.OPERATOR,
    ("GET", "/api/v1/jobs/{job}"): Role.VIEWER,
    ("GET", "/api/v1/jobs/{job}/timeline"): Role.VIEWER,
    ("GET", "/api/v1/jobs/{job}/why"): Role.VIEWER,
    ("POST", "/api/v1/jobs/{job}/{verb}"): Role.OPERATOR,
    ("GET", "/api/v1/jobs/{job}/files"): Role.VIEWER,
    ("GET", "/api/v1/jobs/{job}/file"): Role.VIEWER,
    ("GET", "/api/v1/jobs/{job}/zip"): Role.VIEWER,
    ("GET", "/api/v1/jobs/{job}/log"): Role.VIEWER,
    ("GET", "/api/v1/jobs/{job}/processing.log"): Role.VIEWER,
    ("GET", "/api/v1/jobs/{job}/documents/{name}"): Role.VIEWER,
    ("GET", "/api/v1/deliveries"): Role.VIEWER,
    ("POST", "/api/v1/deliveries/bulk/{verb}"): Role.OPERATOR,
    ("GET", "/api/v1/deliveries/{number}"): Role.VIEWER,
    ("GET", "/api/v1/deliveries/{number}/instances"): Role.VIEWER,
    ("POST", "/api/v1/deliveries/{number}/{verb}"): Role.OPERATOR,
    ("GET", "/api/v1/log"): Role.VIEWER,
    ("GET", "/now/parts"): Role.VIEWER,
    ("POST", "/now/example-processor"): Role.ADMIN,
    ("POST", "/now/example-rule"): Role.ADMIN,
    ("GET", "/api/v1/overview"): Role.VIEWER,
    ("GET", "/api/v1/first-steps"): Role.VIEWER,
    ("POST", "/api/v1/first-steps/processor"): Role.ADMIN,
    ("POST", "/api/v1/first-steps/rule"): Role.ADMIN,
    ("GET", "/api/v1/settings"): Role.VIEWER,
    ("PATCH", "/api/v1/settings"): Role.ADMIN,
    ("GET", "/settings"): Role.VIEWER,
    ("POST", "/settings"): Role.ADMIN,
    ("GET", "/api/v1/users"): Role.ADMIN,
    ("POST", "/api/v1/users"): Role.ADMIN,
    ("PUT", "/api/v1/users/{name}/role"): Role.ADMIN,
    ("POST", "/api/v1/users/{name}/link"): Role.ADMIN,
    ("DELETE", "/api/v1/users/{name}"): Role.ADMIN,
    ("GET", "/api/v1/tokens"): Role.VIEWER,
    ("POST", "/api/v1/tokens"): Role.VIEWER,
    ("DELETE", "/api/v1/tokens/{number}"): Role.VIEWER,
    ("GET", "/api/v1/audit"): Role.ADMIN,
    ("GET", "/account"): Role.VIEWER,
    ("GET", "/api"): Role.VIEWER,
    ("POST", "/account/password"): Role.VIEWER,
    ("POST", "/account/tokens"): Role.VIEWER,
    ("POST", "/account/tokens/{number}/revoke"): Role.VIEWER,
    ("GET", "/users"): Role.ADMIN,
    ("POST", "/users"): Role.ADMIN,
    ("POST", "/users/{name}/{action}"): Role.ADMIN,
    ("GET", "/audit"): Role.ADMIN,
}


def routes_of(app: FastAPI) -> Iterator[tuple[str, str]]:
    """Every method and path that the app answers."""
    yield from _routes(app.routes)


def _routes(routes: Iterable[object], prefix: str = "") -> Iterator[tuple[str, str]]:
    for route in routes:
        if (router := getattr(route, "original_router", None)) is not None:  # an included one
            yield from _routes(router.routes, prefix + getattr(route, "include_context").prefix)  # noqa: B009
            continue
        methods = getattr(route, "methods", None)
        assert methods is not None, f"{route} is of a kind that this test does not know"
        yield from ((method, prefix + getattr(route, "path")) for method in methods if method != "HEAD")  # noqa: B009


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with desk(tmp_path_factory.mktemp("box") / "data") as found:
        yield found


def test_every_route_has_its_row_and_every_row_its_route(office: Desk) -> None:
    assert set(routes_of(office.app)) == set(ROWS)


def test_every_route_of_the_api_is_described(office: Desk) -> None:
    described = office.client().get("/api/v1/openapi.json").json()["paths"]
    plain = {
        path.replace(":path", "")
        for _, path in routes_of(office.app)
        if path.startswith("/api/") and "openapi" not in path
    }
    assert plain | {"/healthz", "/readyz", "/metrics"} == set(described)
    assert [path for path in described for each in described[path].values() if not each.get("summary")] == []


@pytest.fixture(scope="module")
def clients(office: Desk) -> dict[Role | None, TestClient]:
    return {role: office.client(role, raising=False) for role in (None, *Role)}


def path_of(pattern: str) -> str:
    """A path of a route, naming things that are not there."""
    path = pattern.replace(":path", "").replace("{", "no-such-").replace("}", "")
    return path + ("?topics=nonsense" if path.endswith("/events") else "")  # a stream would not end


@pytest.mark.parametrize(("route", "least"), ROWS.items(), ids=[" ".join(row) for row in ROWS])
def test_a_route_is_refused_below_its_role_and_not_from_it_on(
    office: Desk, clients: dict[Role | None, TestClient], route: tuple[str, str], least: Role | None
) -> None:
    method, pattern = route
    nobody = clients[None].request(method, path_of(pattern))
    to_login = nobody.status_code == 303 and nobody.headers["Location"].startswith("/login")
    assert (to_login or "WWW-Authenticate" in nobody.headers) == (least is not ALL), nobody.text
    for role in Role:
        client = clients[role] if pattern != "/logout" else office.client(role)
        answer = client.request(method, path_of(pattern))
        if least is not ALL:
            assert (answer.status_code == 403) == (role < least), (role, answer.text)
        assert answer.status_code != 500, answer.text
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    ("method", "pattern"), [route for route, least in ROWS.items() if route[0] != "GET" and least is not ALL]
)
def test_a_change_needs_the_csrf_value(clients: dict[Role | None, TestClient], method: str, pattern: str) -> None:
    for given in ("", "0" * 64):
        answer = clients[Role.ADMIN].request(method, path_of(pattern), headers={"X-CSRF-Token": given})
        assert answer.status_code == 403, answer.text
