"""The description of the API, and a running window that is held to it: schemathesis asks what the description allows,
and what it does not; the answers are of a status, a media type and a form that it declares, and never a fault.

A few examples for each call, always the same; ``MAGICKBOX_SCHEMA_EXAMPLES=200`` asks for more, and others each time.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from boxprocess import all_jobs, is_quiet, send, set_up, station, until
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from studies import study
from webbox import serving

from magickbox.web.accounts import accounts_of, open_store
from magickbox.web.describing import API
from magickbox.web.principal import Role
from magickbox.web.problems import PROBLEM
from magickbox.web.routes import resources

EXAMPLES = int(os.environ.get("MAGICKBOX_SCHEMA_EXAMPLES", "0"))
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
MONITORING = [("GET", "/healthz"), ("GET", "/readyz"), ("GET", "/metrics")]
STREAM = f"{API}/events"  # does not end; see test_web_now.py
CALLS = [
    (method, API + getattr(route, "path").replace(":path", ""))  # noqa: B009
    for router in resources()
    for route in router.routes
    for method in sorted(getattr(route, "methods", ()))
]
READING = [each for each in (*CALLS, *MONITORING) if each[0] == "GET" and each[1] != STREAM]
# Those on jobs come last, since they delete them.
CHANGING = sorted((each for each in CALLS if each[0] != "GET"), key=lambda each: "/jobs/" in each[1])
# What is asked of what is there is answered with success, but for these.
EXPECTED = {
    ("GET", "/jobs/{job}/{place}/instances/{instance}/report"): 422,  # they are images
    ("GET", "/jobs/{job}/{place}/instances/{instance}/document"): 422,
    ("POST", "/deliveries/{number}/{verb}"): 409,  # it is delivered
    ("POST", "/first-steps/rule"): 422,  # there are rules
    ("POST", "/tokens"): 403,  # a token makes none
    ("POST", "/uploads/{upload}/send"): 202,
}
PLACES = ("path", "query")
WRITTEN = ("application/json", "multipart/form-data", PROBLEM)  # others are bytes
OWN = 1  # the number of the token by which all is asked


@dataclass
class Tried:
    """A running box, its description, and what is in it by the names of the parameters."""

    address: str
    token: str
    schema: Any
    known: Mapping[str, list[Any]]

    def value(self, path: str, name: str) -> list[Any]:
        """What is there for a parameter, in the path of a call."""
        kind = path.split("/")[3] if path.startswith(API) else ""
        own = self.known.get(kind) if name in ("name", "number") else None
        return own or self.known.get(name, [])


def _asked(address: str, token: str, body: dict[str, str] | None = None) -> Any:
    method = "GET" if body is None else "POST"
    answer = requests.request(method, address, json=body, headers={"Authorization": f"Bearer {token}"}, timeout=20)
    answer.raise_for_status()
    return answer.json()


@contextmanager
def tried(top: Path) -> Iterator[Tried]:
    """A box with two jobs of four images, both delivered, and an admin's token."""
    root = top / "data"
    with station(top / "station") as there:
        set_up(root, there.port)
        with serving(root) as box:
            items = study(top / "study", 4)
            for called in ("COPY", "NOBODY"):
                assert not send(box.port, items, called).unanswered
            until(lambda: len(all_jobs(root)) == 2 and is_quiet(root), 40, "the jobs")
            store = open_store(root / "state")
            accounts = accounts_of(store)
            accounts.users.add("schema", Role.ADMIN)
            token, secret = accounts.tokens.make("schema", "schemathesis", "admin")
            accounts.tokens.make("schema", "another", "read")
            store.close()
            assert token.id == OWN
            described = _asked(f"{box.address}{API}/openapi.json", secret)
            yield Tried(box.address, secret, schemathesis.openapi.from_dict(described), known(box.address, secret))


def known(address: str, token: str) -> dict[str, list[Any]]:
    """What there is in a box."""

    def ask(path: str) -> Any:
        return _asked(address + API + path, token)

    jobs = [each["id"] for each in ask("/jobs")["items"]]
    job = next(each["id"] for each in ask("/jobs")["items"] if each["called_ae"] == "COPY")
    series = ask(f"/jobs/{job}/series")["input"]["series"]
    trial = _asked(address + API + "/trials", token, {"processor": "COPY", "job": job})["id"]
    until(lambda: not ask(f"/trials/{trial}")["running"], 60, "the end of the test run")  # one is made at a time
    return {
        "job": [job, *jobs],
        "place": ["input", "output"],
        "series": [each["series"] for each in series],
        "instance": [one["instance"] for each in series for one in each["instances"]],
        "frame": [1],
        "number": [each["id"] for each in ask("/deliveries")["items"]],
        "version": [each["id"] for each in ask("/rules/history")["items"]],
        "old": [each["id"] for each in ask("/rules/history")["items"]],
        "destinations": [each["name"] for each in ask("/destinations")],
        "processors": [each["name"] for each in ask("/processors")],
        "users": ["otto", "vera"],
        "tokens": [OWN + 1],
        "uploads": [0],
        "path": [ask(f"/jobs/{job}/files")["items"][-1]["path"]],
        "trial": [trial],
        "upload": [_asked(address + API + "/uploads", token, {"called_ae": "COPY"})["id"]],
    }


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tried]:
    with tried(tmp_path_factory.mktemp("read")) as found:
        yield found


@pytest.fixture(scope="module")
def throw_away(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tried]:
    with tried(tmp_path_factory.mktemp("changed")) as found:
        yield found


def test_every_call_has_examples(box: Tried) -> None:
    described = box.schema.raw_schema
    without = []
    for path, methods in described["paths"].items():
        for method, each in methods.items():
            must = [one for one in each.get("parameters", ()) if one["in"] == "path" or one.get("required")]
            without += [
                (method, path, one["name"]) for one in must if "example" not in one and "enum" not in one["schema"]
            ]
            bodies = [each.get("requestBody", {}), *(one for code, one in each["responses"].items() if code != "204")]
            shown = [one for body in bodies for media, one in body.get("content", {}).items() if media in WRITTEN]
            without += [(method, path, str(one)) for one in shown if not has_example(described, one)]
    assert without == []


def has_example(described: Mapping[str, Any], part: Any, above: tuple[str, ...] = ()) -> bool:
    """True where a part of the description has an example, or what it names has."""
    if isinstance(part, list):
        return any(has_example(described, each, above) for each in part)
    if not isinstance(part, dict):
        return False
    name = str(part.get("$ref", "")).rpartition("/")[2]
    if name and name not in above:
        return has_example(described, described["components"]["schemas"][name], (*above, name))
    return "example" in part or "examples" in part or has_example(described, list(part.values()), above)


def test_every_example_is_of_the_form_that_it_shows(box: Tried) -> None:
    schemas = box.schema.raw_schema["components"]["schemas"]
    shown = [(name, each) for name, schema in schemas.items() for each in schema.get("examples", ())]
    assert len(shown) > 40
    assert [problem for name, each in shown for problem in wrong_with(schemas, name, each)] == []


def wrong_with(schemas: Mapping[str, Any], name: str, example: object) -> list[str]:
    """In what an example is not of its form."""
    form = {"$ref": f"#/components/schemas/{name}", "components": {"schemas": schemas}}
    return [f"{name}: {each.message}" for each in Draft202012Validator(form).iter_errors(example)]


def test_every_refusal_that_is_declared_is_a_problem(box: Tried) -> None:
    for path, methods in box.schema.raw_schema["paths"].items():
        for each in methods.values():
            refusals = {code: one for code, one in each["responses"].items() if code >= "400" and path != "/readyz"}
            assert [code for code, one in refusals.items() if [*one["content"]] != [PROBLEM]] == []
            assert not path.startswith(API) or {"401", "403"} < set(refusals)


@pytest.mark.parametrize(("method", "path"), READING, ids=[" ".join(each) for each in READING])
def test_what_is_read_is_as_described(box: Tried, method: str, path: str) -> None:
    hold(box, method, path)


@pytest.mark.parametrize(("method", "path"), CHANGING, ids=[" ".join(each) for each in CHANGING])
def test_what_is_changed_is_as_described(throw_away: Tried, method: str, path: str) -> None:
    hold(throw_away, method, path)


def hold(box: Tried, method: str, path: str) -> None:
    """Ask a call in every way, and hold its answers to the description."""
    call = box.schema[path][method]
    answer = held(box, case_of_what_is_there(box, call, method, path))
    assert answer.status_code == EXPECTED.get((method, path.removeprefix(API)), answer.status_code), answer.text
    assert answer.status_code < 300 or (method, path.removeprefix(API)) in EXPECTED, answer.text
    forms = bool(list(call.iter_parameters())) or bool(list(call.body))
    if not forms:
        return

    @settings(
        max_examples=EXAMPLES or 12, deadline=None, derandomize=not EXAMPLES, database=None,
        suppress_health_check=list(HealthCheck), print_blob=False,
    )  # fmt: skip
    @given(case=st.one_of([call.as_strategy(mode) for mode in GenerationMode]), data=st.data())
    def ask(case: Any, data: st.DataObject) -> None:
        for name in case.path_parameters or ():
            case.path_parameters[name] = data.draw(
                st.sampled_from([case.path_parameters[name], *box.value(path, name) * 2])
            )
        assume("/tokens/" not in path or str(case.path_parameters["number"]) != str(OWN))
        held(box, case)

    ask()


def held(box: Tried, case: Any) -> Any:
    """The answer to a request, which is as described."""
    answer = case.call(base_url=box.address, headers={"Authorization": f"Bearer {box.token}"}, timeout=30)
    case.validate_response(answer, checks=CHECKS)
    return answer


def case_of_what_is_there(box: Tried, call: Any, method: str, path: str) -> Any:
    """A request for what is there, with the body that the description gives as an example, or one that suits."""
    raw = call.definition.raw
    given = [each for each in raw.get("parameters", ()) if each["in"] == "path" or each.get("required")]
    value = {each["name"]: [*box.value(path, each["name"]), each["example"]][0] for each in given}
    where = {place: {each["name"]: value[each["name"]] for each in given if each["in"] == place} for place in PLACES}
    for media, content in raw.get("requestBody", {}).get("content", {}).items():
        body = body_of(box, path) or content.get("example") or example_of(box.schema.raw_schema, content["schema"])
        return call.Case(path_parameters=where["path"], query=where["query"], body=body, media_type=media)
    return call.Case(path_parameters=where["path"], query=where["query"])


def body_of(box: Tried, path: str) -> object:
    """A body that names what is in this box; None where the example of the description does."""
    rules = _asked(f"{box.address}{API}/rules", box.token)
    return {
        "/trials": {"processor": "COPY", "job": box.known["job"][0]},
        "/rules": {"text": rules["text"], "state": rules["state"]},
        "/uploads/{upload}/files/{number}": b"this is no image",
        "/rules/try": {"text": rules["text"], "jobs": 2},
        "/rules/history/{version}/return": {"state": rules["state"]},
    }.get(path.removeprefix(API))


def example_of(described: Mapping[str, Any], schema: Mapping[str, Any]) -> Any:
    """The first example of a schema, which may be named."""
    name = schema.get("$ref", "").rpartition("/")[2]
    return (described["components"]["schemas"][name] if name else schema)["examples"][0]
