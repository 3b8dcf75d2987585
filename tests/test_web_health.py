"""Alive, ready, numbers, and what changes as it changes: of a real box."""

import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from boxprocess import is_quiet, send, until
from peers import item_of, sample
from webbox import Serving, desk, serving

from magickbox.web.principal import Role


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serving(tmp_path_factory.mktemp("box") / "data") as found:
        yield found


def test_a_box_is_alive_and_ready(box: Serving) -> None:
    nobody = box.client()
    assert nobody.get("/healthz").json() == {"status": "alive"}
    answer = nobody.get("/readyz")
    assert answer.status_code == 200
    assert answer.json() == {"ready": True, "checks": dict.fromkeys(("ledger", "disk", "port", "rules"), True)}


def test_a_bad_rule_makes_it_not_ready(box: Serving) -> None:
    file = box.root / "routing.json"
    good = file.read_text()
    file.write_text("{ this is no rule")
    try:
        until(lambda: box.client().get("/readyz").status_code == 503, what="not ready")
        assert box.client().get("/readyz").json()["checks"] == {
            "ledger": True,
            "disk": True,
            "port": True,
            "rules": False,
        }
    finally:
        file.write_text(good)
    until(lambda: box.client().get("/readyz").status_code == 200, what="ready again")


def test_numbers_and_events_of_a_study(box: Serving) -> None:
    heard: list[str] = []
    client = box.client(Role.VIEWER)
    listening = threading.Event()

    def listen() -> None:
        with client.stream("GET", "/api/v1/events") as stream:
            for line in stream.iter_lines():
                heard.append(line)
                listening.set()
                if line == "event: jobs":
                    return

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    assert listening.wait(20)
    until(lambda: any('"running": true' in line for line in heard), what="the first look")
    send(box.port, [item_of(sample("CT_small.dcm"))])
    thread.join(30)
    assert "event: jobs" in heard
    until(lambda: is_quiet(box.root), what="the job's end")
    status = box.client(Role.VIEWER).get("/api/v1/status").json()
    assert status["received"]["instances"] == 1
    assert status["listening"] == ["127.0.0.1", box.port]
    numbers = box.client().get("/metrics").text  # from this machine, without a token
    for line in ("magickbox_up 1.0", "magickbox_received_instances_total 1.0", 'magickbox_jobs{state="DONE"} 1.0'):
        assert line in numbers.splitlines()
    assert 'magickbox_store_seconds_bucket{le="+Inf"} 1.0' in numbers.splitlines()
    assert 0 < float(re.findall(r"^magickbox_store_seconds_sum (\S+)$", numbers, re.MULTILINE)[0]) < 30
    assert "CompressedSamples" not in numbers
    names = set(re.findall(r"^# TYPE (\w+)", numbers, re.MULTILINE))
    assert {"magickbox_disk_free_bytes", "magickbox_receiver_lag_instances", "magickbox_deliveries"} <= names


def test_without_a_box_it_is_alive_but_not_ready(tmp_path: Path) -> None:
    with desk(tmp_path / "data") as office:
        client = office.client()
        assert client.get("/healthz").status_code == 200
        assert client.get("/readyz").status_code == 503
        answer = office.client(Role.VIEWER).get("/api/v1/status")
        assert answer.status_code == 503
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert json.loads(answer.text)["title"] == "The box does not answer"
        assert client.get("/metrics").status_code == 401  # the test client is no loopback address
        numbers = office.client(Role.VIEWER).get("/metrics").text
        assert "magickbox_up 0.0" in numbers.splitlines()
