"""docs/api.md is true: its calls exist, and its examples work against a running window."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import listening
from officebox import Office, open_office
from test_docs import blocks

from magickbox.web.principal import Role

API = Path(__file__).parent.parent / "docs" / "api.md"


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    with open_office(tmp_path_factory.mktemp("office")) as found:
        yield found


def without_names(call: str) -> str:
    """A call with its parameters, ``{job}`` or ``JOB``, left open."""
    return re.sub(r"/(\{\w+\}|[A-Z]+)(?=/|$)", "/*", call)


def test_the_calls_that_it_names_exist(office: Office) -> None:
    described = office.operator.get("/api/v1/openapi.json").json()["paths"]
    there = {without_names(f"{method.upper()} {path}") for path, methods in described.items() for method in methods}
    named = set(re.findall(r"`((?:GET|POST|PUT|DELETE) /api/v1/[^`]+)`", API.read_text(encoding="utf-8")))
    assert len(named) > 20
    assert {call for call in named if without_names(call) not in there} == set()


def test_its_examples_work(office: Office, tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        missing = "curl is not installed"
        pytest.fail(f"{missing}, and CI has to have it") if os.environ.get("CI") else pytest.skip(missing)
    made = office.operator.post("/api/v1/tokens", json={"label": "docs", "scope": "operate", "days": 1})
    assert made.status_code == 201, made.text
    job = office.job("COPY")
    examples = blocks(API, "sh api")
    assert len(examples) > 3
    with listening(office.desk.app) as window:
        known = {"TOKEN": made.json()["token"], "WINDOW": window, "JOB": job}
        for example in examples:
            done = subprocess.run(
                ["/bin/sh", "-ec", example.replace("curl ", "curl --fail-with-body ")],
                cwd=tmp_path, env={"PATH": "/usr/bin:/bin", **known}, capture_output=True, text=True, timeout=60,
            )  # fmt: skip
            assert done.returncode == 0, (example, done.stdout, done.stderr)
    assert (tmp_path / "results.zip").read_bytes().startswith(b"PK")
    assert office.desk.client(Role.OPERATOR).get(f"/api/v1/jobs/{job}").json()["successors"]
