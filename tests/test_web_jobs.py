"""Jobs, deliveries and logs over the API: with a real box behind it, and with what strangers put into images."""

import io
import json
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from boxprocess import COPY, all_jobs, is_quiet, send, until
from officebox import EVIL, Office, open_office

from magickbox.datafolder import DataFolder
from magickbox.errors import NotFound
from magickbox.ledger import Ledger, jobs
from magickbox.web.jobfiles import files_below, zipped
from magickbox.web.principal import Role


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    with open_office(tmp_path_factory.mktemp("office")) as found:
        yield found


def test_a_job_is_told_whole(office: Office) -> None:
    client, job = office.operator, office.job("COPY")
    (line,) = client.get("/api/v1/jobs", params={"called_ae": "copy"}).json()["items"]
    assert (line["id"], line["state"], line["outcome"]) == (job, "DONE", "success")
    assert (line["patient_name"], line["patient_id"], line["modalities"]) == ("Secret^Patient", EVIL, ["MR"])
    assert line["deliveries"] == {"DELIVERED": 1}
    whole = client.get(f"/api/v1/jobs/{job}").json()
    assert whole["job"] == line
    assert [(each["instances"], each["description"]) for each in whole["series"]] == [(4, "T1 test")]
    assert [each["instances"] for each in whole["associations"]] == [4]
    assert [(each["n"], each["outcome"], each["exit_code"]) for each in whole["attempts"]] == [(1, "success", 0)]
    assert whole["may"] == ["rerun", "reroute", "delete"]
    kinds = [each["kind"] for each in client.get(f"/api/v1/jobs/{job}/timeline").json()]
    assert kinds[0] == "association"
    assert kinds[-1] == "receipt"
    assert {"state", "run", "decision", "delivery"} < set(kinds)


def test_what_is_not_there_is_a_problem(office: Office) -> None:
    client = office.operator
    for path in ("", "/timeline", "/why", "/files", "/zip", "/log", "/documents/info.json"):
        answer = client.get(f"/api/v1/jobs/nobody{path}")
        assert answer.status_code == 404
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert "nobody" in answer.json()["detail"]
    assert client.get("/api/v1/jobs", params={"cursor": "x"}).status_code == 400
    assert client.get("/api/v1/jobs", params={"since": "yesterday"}).status_code == 422
    assert client.get("/api/v1/jobs", params={"until": "9999-12-31"}).status_code == 422
    assert client.get("/api/v1/jobs", params={"since": "0001-01-01T00:00:00+23:59"}).status_code == 422
    assert client.get("/api/v1/deliveries/99999999999999999999999").status_code == 404
    assert client.post("/api/v1/deliveries/99999999999999999999999/retry").status_code == 404
    assert client.get("/api/v1/deliveries", params={"destination": "nobody"}).status_code == 404


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({}, 2), ({"state": "DONE"}, 1), ({"state": ["DONE", "ATTENTION"]}, 2), ({"state": "HELD"}, 0),
        ({"calling_ae": "scan*"}, 2), ({"called_ae": "FAIL"}, 1), ({"modality": "mr"}, 2), ({"modality": "CT"}, 0),
        ({"text": "secret"}, 2), ({"text": "T1"}, 2), ({"text": "nobody"}, 0), ({"text": EVIL}, 2),
        ({"since": "2020-01-01"}, 2), ({"until": "2020-01-01"}, 0), ({"text": "secret", "called_ae": "COPY"}, 1),
    ],
)  # fmt: skip
def test_a_filter_finds_what_it_says(office: Office, asked: dict[str, str], found: int) -> None:
    client = office.operator
    page = client.get("/api/v1/jobs", params=asked).json()
    assert len(page["items"]) == found
    assert page["next"] is None
    counts = client.get("/api/v1/jobs/counts", params=asked).json()
    assert counts["total"] == sum(counts["states"].values())
    if "state" not in asked:
        assert counts["total"] == found


def test_pages_follow_each_other(office: Office) -> None:
    client = office.operator
    first = client.get("/api/v1/jobs", params={"limit": 1}).json()
    second = client.get("/api/v1/jobs", params={"limit": 1, "cursor": first["next"]}).json()
    assert [line["called_ae"] for line in (*first["items"], *second["items"])] == ["FAIL", "COPY"]
    assert second["next"] is None


def test_names_are_hidden_from_those_who_do_not_see_them(office: Office) -> None:
    client = office.blind
    texts = []
    for job in (office.job("COPY"), office.job("FAIL")):
        for path in ("", "/timeline", "/why", "/why?when=today", metadata_path(office, job)):
            answer = client.get(f"/api/v1/jobs/{job}{path}")
            assert answer.status_code == 200, answer.text
            texts.append(answer.text)
        for path in ("/file?path=INPUT/x", "/zip", "/log", "/processing.log", "/documents/proc.json", "/files"):
            assert client.get(f"/api/v1/jobs/{job}{path}").status_code == 403
        assert client.get(f"/api/v1/jobs/{job}/documents/info.json").status_code == 200
    texts.append(client.get("/api/v1/jobs").text)
    for text in texts:
        assert "Secret" not in text
        assert "SECRET" not in text
        assert "alert" not in text
        assert "19700131" not in text
    assert texts[-1].count('"patient_name":"hidden"') == 2
    assert client.get("/api/v1/jobs", params={"text": "secret"}).json()["items"] == []
    assert len(client.get("/api/v1/jobs", params={"text": "T1"}).json()["items"]) == 2
    assert "Secret" in office.operator.get("/api/v1/jobs").text


def test_why_tells_each_rule_with_what_it_saw(office: Office) -> None:
    client, job = office.operator, office.job("COPY")
    decided = client.get(f"/api/v1/jobs/{job}/why").json()
    today = client.get(f"/api/v1/jobs/{job}/why", params={"when": "today"}).json()
    assert (decided["n"], decided["same_rules"], decided["with_values"]) == (1, True, False)
    assert [rule["applies"] for rule in decided["decision"]["rules"]] == [True, False]
    assert "values" not in json.dumps(decided["decision"])
    tests = today["decision"]["rules"][1]["entries"][0]["which"][0]["tests"]
    assert [(each["tag"], each["values"][0]["text"], each["values"][0]["matches"]) for each in tests] == [
        ("0008,0060", "MR", False),
        ("0010,0010", "Secret^Patient", True),
    ]
    assert client.get(f"/api/v1/jobs/{job}/why", params={"n": 2}).status_code == 404


def test_files_are_those_of_the_folder_and_no_others(office: Office) -> None:
    client, job = office.operator, office.job("COPY")
    page = client.get(f"/api/v1/jobs/{job}/files", params={"limit": 5}).json()
    rest = client.get(f"/api/v1/jobs/{job}/files", params={"cursor": page["next"]}).json()
    names = [each["path"] for each in (*page["items"], *rest["items"])]
    assert names == sorted(names)
    assert len(names) == 8
    one = client.get(f"/api/v1/jobs/{job}/file", params={"path": names[0]})
    assert one.content == (office.root / "jobs" / job / names[0]).read_bytes()
    assert one.headers["Content-Disposition"].startswith("attachment;")
    for bad in ("../info.json", "INPUT/../info.json", "info.json", "/etc/passwd", "INPUT", "INPUT//x", "", "OUTPUT/.."):
        assert client.get(f"/api/v1/jobs/{job}/file", params={"path": bad}).status_code == 404


def test_a_link_in_a_job_leads_nowhere(office: Office, tmp_path: Path) -> None:
    client, job = office.operator, office.job("COPY")
    (secret := tmp_path / "secret").write_text("not yours")
    link = office.root / "jobs" / job / "OUTPUT" / "link.dcm"
    link.symlink_to(secret)
    try:
        assert client.get(f"/api/v1/jobs/{job}/file", params={"path": "OUTPUT/link.dcm"}).status_code == 404
        assert "link.dcm" not in client.get(f"/api/v1/jobs/{job}/files").text
        assert b"not yours" not in client.get(f"/api/v1/jobs/{job}/zip").content
    finally:
        link.unlink()


@pytest.mark.parametrize(
    ("what", "places"), [("both", {"INPUT", "OUTPUT"}), ("INPUT", {"INPUT"}), ("OUTPUT", {"OUTPUT"})]
)
def test_a_zip_has_every_file_byte_for_byte(office: Office, what: str, places: set[str]) -> None:
    job = office.job("COPY")
    answer = office.operator.get(f"/api/v1/jobs/{job}/zip", params={"what": what})
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        for name in archive.namelist():
            assert archive.read(name) == (office.root / "jobs" / name).read_bytes()
        assert {name.split("/")[1] for name in archive.namelist()} == places
        assert len(archive.namelist()) == 4 * len(places)


def test_documents_and_log_are_as_on_disk(office: Office) -> None:
    client, job = office.operator, office.job("FAIL")
    folder = office.root / "jobs" / job
    for name in ("info.json", "proc.json"):
        assert client.get(f"/api/v1/jobs/{job}/documents/{name}").content == (folder / name).read_bytes()
    assert client.get(f"/api/v1/jobs/{job}/documents/run.json").json()["processor"] == "FAIL"
    assert client.get(f"/api/v1/jobs/{job}/documents/delivery.json").status_code == 404
    piece = client.get(f"/api/v1/jobs/{job}/log").json()
    assert EVIL in piece["text"]
    assert (piece["running"], piece["next"]) == (False, piece["size"])
    rest = client.get(f"/api/v1/jobs/{job}/log", params={"offset": piece["next"]}).json()
    assert (rest["text"], rest["next"]) == ("", piece["next"])
    assert client.get(f"/api/v1/jobs/{job}/log", params={"offset": piece["size"] + 5}).json()["offset"] == 0
    assert client.get(f"/api/v1/jobs/{job}/processing.log").text == piece["text"]


def metadata_path(office: Office, job: str) -> str:
    """Where the elements of the first image of a job's INPUT are."""
    series = office.operator.get(f"/api/v1/jobs/{job}/series").json()["input"]["series"]
    return f"/input/instances/{series[0]['instances'][0]['instance']}/metadata"


def test_metadata_is_a_tree_with_a_search(office: Office) -> None:
    client, job = office.operator, office.job("COPY")
    path = f"/api/v1/jobs/{job}{metadata_path(office, job)}"
    texts = {each["name"]: each["text"] for each in client.get(path).json()["elements"]}
    assert (texts["Patient's Name"], texts["Patient ID"], texts["Rows"]) == ("Secret^Patient", EVIL, "64")
    for search in ("patient's na", "0010,0010", "00100010", "secret^"):
        found = client.get(path, params={"search": search}).json()
        assert [each["tag"] for each in found["elements"]] == ["(0010,0010)"]
    shown = {each["name"]: (each["text"], each["hidden"]) for each in office.blind.get(path).json()["elements"]}
    assert shown["Patient's Name"] == (None, True)
    assert shown["Rows"] == ("64", False)


def test_deliveries_are_told_with_each_instance(office: Office) -> None:
    client, job = office.operator, office.job("COPY")
    (line,) = client.get("/api/v1/deliveries", params={"job": job}).json()["items"]
    assert (line["state"], line["rule"], line["entry"], line["tries"]) == ("DELIVERED", "all", 1, 1)
    whole = client.get(f"/api/v1/deliveries/{line['id']}").json()
    assert whole["delivery"] == line
    assert whole["progress"] == {"sent": 4}
    assert [each["sent"] for each in whole["attempts"]] == [4]
    first = client.get(f"/api/v1/deliveries/{line['id']}/instances", params={"limit": 3}).json()
    rest = client.get(f"/api/v1/deliveries/{line['id']}/instances", params={"cursor": first["next"]}).json()
    assert [each["n"] for each in (*first["items"], *rest["items"])] == [1, 2, 3, 4]
    assert {each["status"] for each in first["items"]} == {"0x0000"}
    assert client.get("/api/v1/deliveries", params={"state": "DEAD"}).json()["items"] == []
    assert len(client.get("/api/v1/deliveries", params={"destination": line["destination"]}).json()["items"]) == 1


def test_the_log_is_told_by_job_and_followed(office: Office) -> None:
    client, job = office.operator, office.job("COPY")
    every = client.get("/api/v1/log").json()
    of_job = client.get("/api/v1/log", params={"job": job}).json()
    assert "routed" in {each["event"] for each in of_job["items"]}
    assert 0 < len(of_job["items"]) < len(every["items"])
    assert client.get("/api/v1/log", params={"cursor": every["next"]}).json()["items"] == []
    with (office.root / "logs" / "routing.log").open("a") as log:
        log.write(f"2026-01-01T00:00:00.000000+00:00 ERROR test job={job} reason=planted\n")
    (new,) = client.get("/api/v1/log", params={"cursor": every["next"]}).json()["items"]
    assert (new["level"], new["event"]) == ("ERROR", "test")
    assert [each["level"] for each in client.get("/api/v1/log", params={"level": "ERROR"}).json()["items"]] == ["ERROR"]
    assert client.get("/api/v1/log", params={"job": "../x"}).status_code == 422
    assert "Secret" not in json.dumps(every)


def test_a_person_reruns_holds_and_deletes(office: Office) -> None:
    client, job = office.operator, office.job("COPY")
    assert office.blind.post(f"/api/v1/jobs/{job}/rerun").status_code == 403
    said = client.post(f"/api/v1/jobs/{job}/rerun").json()
    assert said["done"] is True
    until(lambda: is_quiet(office.root), 30, "the rerun")
    (new,) = client.get(f"/api/v1/jobs/{job}").json()["successors"]
    refused = client.post(f"/api/v1/jobs/{new}/release")
    assert refused.status_code == 409
    assert "release" in refused.json()["detail"]
    bulk = client.post("/api/v1/jobs/bulk/delete", json={"ids": [new, "nobody"]}).json()
    assert [each["done"] for each in bulk] == [True, False]
    assert client.get(f"/api/v1/jobs/{new}").json()["job"]["state"] == "DELETED"
    assert client.get(f"/api/v1/jobs/{new}").json()["may"] == []
    assert client.get(f"/api/v1/jobs/{new}/zip").status_code == 404
    office.catalogue()
    assert client.get(f"/api/v1/jobs/{new}").json()["job"]["patient_name"] == ""
    (delivery,) = client.get("/api/v1/deliveries", params={"job": job}).json()["items"]
    assert client.post(f"/api/v1/deliveries/{delivery['id']}/retry").status_code == 409
    with office.desk.context.store.reading() as tx:
        audited = [(row["who"], row["action"], row["subject"]) for row in tx.execute("SELECT * FROM audit")]
    assert ("otto", "rerun", job) in audited
    assert ("otto", "delete", "nobody") in audited


def test_the_api_is_asked_while_the_box_writes_and_jobs_go(office: Office) -> None:
    """Nobody who looks sees anything but an answer or a 404, or a zip that breaks off, whatever happens meanwhile."""
    client, seen, stop = office.desk.client(Role.OPERATOR, raising=False), [], threading.Event()

    def look() -> None:
        while not stop.is_set():
            for line in client.get("/api/v1/jobs").json()["items"]:
                for path in ("", "/timeline", "/why?when=today", "/files", "/zip", "/log"):
                    seen.append(client.get(f"/api/v1/jobs/{line['id']}{path}").status_code)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        before = len(all_jobs(office.root))
        for _ in range(3):
            send(office.port, office.items, "COPY")
        until(lambda: len(all_jobs(office.root)) > before and is_quiet(office.root), 30, "more jobs")
        for job in all_jobs(office.root)[:-2]:
            if job.state != "DELETED":
                client.post(f"/api/v1/jobs/{job.id}/delete")
    finally:
        stop.set()
        looking.join()
    assert set(seen) <= {200, 404}
    assert len(seen) > 10


def test_a_zip_breaks_off_when_a_file_goes(tmp_path: Path) -> None:
    (tmp_path / "INPUT").mkdir()
    for name in ("a", "b"):
        (tmp_path / "INPUT" / name).write_bytes(b"x" * 1000)
    stream = zipped(tmp_path, files_below(tmp_path), "job")
    next(stream)
    (tmp_path / "INPUT" / "b").unlink()
    with pytest.raises(NotFound, match="gone"):
        list(stream)


def test_the_scripts_are_those_that_were_written(office: Office) -> None:
    assert (office.root / "processors" / "COPY").read_text() == COPY
    ledger = Ledger(DataFolder(office.root).ledger, readonly=True)
    with ledger.reading() as tx:
        assert jobs.get(tx, office.job("FAIL")).message
    ledger.close()
