"""What the window shows of runs, and does with them: how far they are, another priority, an end."""

import json
from pathlib import Path

from boxes import Image
from boxprocess import running, set_up, until
from callers import IMAGES, Caller
from webbox import desk

from magickbox.web.principal import Role

WAITS = "#!/bin/sh\necho progress: 2/5\nsleep 600\n"


def store(port: int, number: int) -> None:
    with Caller(port) as caller:
        caller.associate(IMAGES, called=b"Far")
        assert caller.store(Image(f"1.2.3.{number}", study=f"1.2.4.{number}")).status == 0
        caller.release()


def test_a_run_is_followed_and_cancelled_and_a_waiting_job_made_urgent(tmp_path: Path) -> None:
    set_up(tmp_path, 1)
    folder = tmp_path / "processors" / "Far"
    folder.mkdir()
    (folder / "run.sh").write_text(WAITS)
    (folder / "run.sh").chmod(0o755)
    (folder / "processor.json").write_text(json.dumps({"command": ["./run.sh"]}))
    with running(tmp_path, settings={"settle": 0, "slots": 1}) as box, desk(tmp_path) as office:
        assert box.port is not None
        client, guest = office.client(Role.OPERATOR), office.client(Role.VIEWER)
        store(box.port, 1)
        until(lambda: [run["progress"] for run in client.get("/api/v1/status").json()["runs"]] == [0.4])
        (run,) = client.get("/api/v1/status").json()["runs"]
        whole = client.get(f"/api/v1/jobs/{run['job']}").json()
        assert (whole["progress"], whole["may"][-1]) == (0.4, "cancel")
        page, now = client.get(f"/jobs/{run['job']}").text, client.get("/").text
        assert 'value="0.400"' in page
        assert "Cancel the run" in page
        assert f'aria-label="How far {run["job"]} is"' in now
        assert "Cancel the run" not in guest.get(f"/jobs/{run['job']}").text
        store(box.port, 2)
        until(lambda: client.get("/api/v1/jobs/counts").json()["states"].get("READY") == 1)
        waits = client.get("/api/v1/jobs", params={"state": "READY"}).json()["items"][0]["id"]
        assert client.get(f"/api/v1/jobs/{waits}").json()["may"][-3:] == ["urgent", "normal", "off-peak"]
        assert guest.post(f"/api/v1/jobs/{waits}/urgent").status_code == 403
        assert client.post(f"/api/v1/jobs/{waits}/urgent").json()["said"] == f"{waits} is urgent now"
        whole = client.get(f"/api/v1/jobs/{waits}").json()
        assert (whole["job"]["priority"], whole["progress"]) == ("urgent", None)
        for job in (waits, run["job"]):
            assert client.post(f"/api/v1/jobs/{job}/cancel").json()["done"]
            until(lambda j=job: client.get(f"/api/v1/jobs/{j}").json()["job"]["state"] == "HELD")  # type: ignore[misc]
        assert client.post(f"/api/v1/jobs/{waits}/cancel").status_code == 409
