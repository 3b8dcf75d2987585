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
from magickbox.web.routes import resources

EXAMPLES = int(os.environ.get("MAGICKBOX_SCHEMA_EXAMPLES", "0"))
CHECKS = [
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
CHANGING = [each for each in CALLS if each[0] != "GET"]
OWN = 1  # the number of the token by which all is asked


@dataclass
class Tried:
    """A running box, its description, and what is in it by the names of the parameters."""

    address: str
    token: str
    schema: Any
    known: Mapping[str, list[Any]]

    def call(self, path: str) -> Any:
        """An answer's JSON."""
        return _asked(self.address + path, self.token)


def _asked(address: str, token: str) -> Any:
    answer = requests.get(address, headers={"Authorization": f"Bearer {token}"}, timeout=20)
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
    job = next(each for each in jobs if ask(f"/jobs/{each}/series")["input"]["series"])
    series = ask(f"/jobs/{job}/series")["input"]["series"]
    return {
        "job": [job, *jobs],
        "place": ["input", "output"],
        "series": [each["series"] for each in series],
        "instance": [one["instance"] for each in series for one in each["instances"]],
        "frame": [1],
        "number": [each["id"] for each in ask("/deliveries")["items"]],
        "version": [each["id"] for each in ask("/rules/history")["items"]] or ["none"],
        "destinations": [each["name"] for each in ask("/destinations")],
        "processors": [each["name"] for each in ask("/processors")],
        "users": ["otto", "vera"],
        "tokens": [OWN + 1],
    }


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tried]:
    with tried(tmp_path_factory.mktemp("read")) as found:
        yield found


@pytest.fixture(scope="module")
def throw_away(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tried]:
    with tried(tmp_path_factory.mktemp("changed")) as found:
        yield found


@pytest.mark.parametrize(("method", "path"), READING, ids=[" ".join(each) for each in READING])
def test_what_is_read_is_as_described(box: Tried, method: str, path: str) -> None:
    hold(box, method, path)


@pytest.mark.parametrize(("method", "path"), CHANGING, ids=[" ".join(each) for each in CHANGING])
def test_what_is_changed_is_as_described(throw_away: Tried, method: str, path: str) -> None:
    hold(throw_away, method, path)


def hold(box: Tried, method: str, path: str) -> None:
    """Ask a call in every way, and hold its answers to the description."""
    call = box.schema[path][method]
    forms = bool(list(call.iter_parameters())) or bool(list(call.body))
    modes = [GenerationMode.POSITIVE, *([GenerationMode.NEGATIVE] if forms else [])]
    kept = settings(
        max_examples=EXAMPLES or (12 if forms else 1), deadline=None, derandomize=not EXAMPLES, database=None,
        suppress_health_check=list(HealthCheck), print_blob=False,
    )  # fmt: skip
    seen = set[int]()

    @kept
    @given(case=st.one_of([call.as_strategy(mode) for mode in modes]), data=st.data())
    def ask(case: Any, data: st.DataObject) -> None:
        for name in case.path_parameters or ():
            found = box.known.get(path.split("/")[3], box.known.get(name)) if name in ("name", "number") else None
            found = found or box.known.get(name)
            if found and data.draw(st.integers(0, 3)):
                case.path_parameters[name] = data.draw(st.sampled_from(found))
        assume("/tokens/" not in path or str(case.path_parameters["number"]) != str(OWN))
        answer = case.call(base_url=box.address, headers={"Authorization": f"Bearer {box.token}"}, timeout=30)
        seen.add(answer.status_code)
        case.validate_response(answer, checks=[not_a_server_error, *CHECKS])

    ask()
    print(method, path, sorted(seen))
