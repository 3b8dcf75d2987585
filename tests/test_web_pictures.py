"""What the API shows of a job's instances."""

from collections.abc import Iterator
from pathlib import Path

import peers
import pydicom
import pytest
from jobpictures import JOB, put
from starlette.testclient import TestClient
from webbox import Desk, desk

from magickbox.clock import now
from magickbox.datafolder import DataFolder
from magickbox.job import Job, JobState
from magickbox.ledger import Ledger, jobs
from magickbox.web.principal import Role

AT = f"/api/v1/jobs/{JOB}"
PDF = "1.2.840.10008.5.1.4.1.1.104.1"


def add_job(data: DataFolder) -> None:
    """The job's row and folder."""
    job = Job(
        id=JOB, state=JobState.DONE, calling_ae="SCANNER", called_ae="Proc", peer="127.0.0.1", study="1.2",
        received=now(), born=now(), instances=1, bytes=1, since=now(),
    )  # fmt: skip
    ledger = Ledger(data.ledger)
    with ledger.transaction() as tx:
        jobs.add(tx, job, (), ())
    ledger.close()
    (data.jobs / JOB / "INPUT").mkdir(parents=True)


def pdf_file(folder: Path, content: bytes) -> Path:
    """An encapsulated document."""
    ds = pydicom.dcmread(peers.sample("reportsi.dcm"))
    ds.SOPClassUID, ds.SOPInstanceUID, ds.SeriesInstanceUID = PDF, "1.2.3.4", "1.2.3"
    ds.EncapsulatedDocument = content + bytes(len(content) % 2)
    ds.EncapsulatedDocumentLength = len(content)
    path = folder / "pdf.dcm"
    ds.save_as(path)
    return path


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    root = tmp_path_factory.mktemp("box")
    with desk(root / "data", web_hide_names="viewer") as found:
        add_job(found.context.data)
        put(
            found.context.data,
            peers.sample("MR_small.dcm"),
            peers.sample("reportsi.dcm"),
            pdf_file(root, b"%PDF-1.7 x"),
        )
        put(found.context.data, peers.sample("examples_rgb_color.dcm"), place="OUTPUT")
        (found.context.data.jobs / JOB / "OUTPUT" / "note.txt").write_text("no DICOM")
        yield found


@pytest.fixture(scope="module")
def operator(office: Desk) -> TestClient:
    return office.client(Role.OPERATOR)


def of_kind(client: TestClient, kind: str, place: str = "input") -> str:
    """The address of the instance of that kind."""
    listing = client.get(f"{AT}/series").json()[place]["series"]
    (found,) = [each["instance"] for series in listing for each in series["instances"] if each["kind"] == kind]
    return f"{AT}/{place}/instances/{found}"


def test_the_series_of_input_and_output_are_listed(operator: TestClient) -> None:
    listing = operator.get(f"{AT}/series").json()
    assert sorted(series["modality"] for series in listing["input"]["series"]) == ["MR", "SR", "SR"]
    assert listing["output"]["series"][0]["has_pictures"]
    assert (listing["input"]["other"], listing["output"]["other"]) == (0, 1)


def test_a_frame_comes_as_png_and_is_asked_for_again_by_its_tag(operator: TestClient) -> None:
    at = f"{of_kind(operator, 'image')}/frames/1"
    first = operator.get(at)
    assert first.content.startswith(b"\x89PNG")
    assert first.headers["Cache-Control"] == "private, no-cache"
    assert operator.get(at, headers={"If-None-Match": first.headers["ETag"]}).status_code == 304
    other = operator.get(at, params={"center": 500, "width": 10})
    assert other.content != first.content
    assert other.headers["ETag"] != first.headers["ETag"]
    assert len(operator.get(at, params={"size": 16}).content) < len(first.content)


def test_elements_are_found_and_what_names_the_patient_is_hidden(office: Desk, operator: TestClient) -> None:
    at = f"{of_kind(operator, 'image')}/metadata"
    assert len(operator.get(at).json()["elements"]) > 50
    (name,) = operator.get(at, params={"search": "patient's name"}).json()["elements"]
    assert name["text"] == "CompressedSamples^MR1"
    (name,) = office.client(Role.VIEWER).get(at, params={"search": "0010,0010"}).json()["elements"]
    assert (name["text"], name["hidden"]) == (None, True)


@pytest.mark.parametrize("window", [("nan", "1"), ("1", "-5"), ("inf", "1"), ("x", "1")])
def test_a_window_that_is_none_is_refused(operator: TestClient, window: tuple[str, str]) -> None:
    at = f"{of_kind(operator, 'image')}/frames/1"
    assert operator.get(at, params={"center": window[0], "width": window[1]}).status_code == 422


def test_values_come_packed_or_plain(operator: TestClient) -> None:
    at = f"{of_kind(operator, 'image')}/frames/1/values"
    packed, plain = operator.get(at), operator.get(at, headers={"Accept-Encoding": "identity"})
    assert packed.headers["Content-Encoding"] == "gzip"
    assert "Content-Encoding" not in plain.headers
    assert packed.content == plain.content
    assert plain.content.startswith(b"MBF1")
    pixels = pydicom.dcmread(peers.sample("MR_small.dcm")).PixelData
    assert plain.content.endswith(pixels)


def test_a_series_has_a_thumbnail_or_says_why_not(operator: TestClient) -> None:
    listing = operator.get(f"{AT}/series").json()["input"]["series"]
    mr = next(each["series"] for each in listing if each["has_pictures"])
    report = next(each["series"] for each in listing if not each["has_pictures"])
    assert operator.get(f"{AT}/input/series/{mr}/thumbnail").content.startswith(b"\xff\xd8\xff")
    at = f"{AT}/input/series/{report}/thumbnail"
    assert operator.get(at).json()["detail"] == "the series has no pictures"
    drawn = operator.get(at, params={"placeholder": True})
    assert (drawn.status_code, drawn.headers["Content-Type"]) == (200, "image/svg+xml")
    assert "the series has no pictures" in drawn.text


def test_what_is_not_there_is_not_found(operator: TestClient) -> None:
    image = of_kind(operator, "image")
    for at in (
        "/api/v1/jobs/20260101T000000Z-No-0000/series", "/api/v1/jobs/..%2F..%2Fstate/series",
        f"{AT}/input/instances/1.2.3.99/frames/1", f"{AT}/input/instances/..%2Finfo.json/frames/1",
        f"{AT}/input/series/9.9/thumbnail",
    ):  # fmt: skip
        assert operator.get(at).status_code == 404, at
    for at in (f"{AT}/elsewhere/series/9.9/thumbnail", f"{image}/frames/0", f"{image}/frames/2"):
        assert operator.get(at).status_code == 422, at


def test_reports_and_documents_are_for_those_who_see_names(office: Desk, operator: TestClient) -> None:
    report, document = f"{of_kind(operator, 'report')}/report", f"{of_kind(operator, 'document')}/document"
    assert operator.get(report).json()["lines"][0]["kind"] == "CONTAINER"
    shown = operator.get(document)
    assert shown.content == b"%PDF-1.7 x"
    assert shown.headers["Content-Type"] == "application/pdf"
    assert shown.headers["Content-Disposition"].startswith("inline")
    assert operator.get(document, params={"download": 1}).headers["Content-Disposition"].startswith("attachment")
    viewer = office.client(Role.VIEWER)
    assert viewer.get(f"{of_kind(viewer, 'image')}/frames/1").status_code == 200
    for at in (report, document):
        assert viewer.get(at).status_code == 403
    assert operator.get(f"{of_kind(operator, 'report')}/document").status_code == 422


def test_what_is_no_pdf_is_never_opened_by_the_browser(office: Desk, operator: TestClient, tmp_path: Path) -> None:
    bad = pydicom.dcmread(pdf_file(tmp_path, b"<html><script>alert(1)</script>"))
    bad.SOPInstanceUID = "1.2.3.5"
    bad.save_as(tmp_path / "bad.dcm")
    put(office.context.data, tmp_path / "bad.dcm", place="OUTPUT")
    answer = operator.get(f"{of_kind(operator, 'document', 'output')}/document")
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["Content-Disposition"].startswith("attachment")
