"""The catalogue: filled from real images, found by what people know of a study, gone with its job."""

import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from boxes import LITTLE, MR, Image, Peer, TestBox, new_box
from boxprocess import until
from pydicom.config import IGNORE
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from magickbox.gathering import Arrival
from magickbox.incoming.answer import Stored
from magickbox.job import Job, JobState, Move
from magickbox.ledger import jobs, listings
from magickbox.ledger.listings import JobFilter
from magickbox.ledger.reader import Reader
from magickbox.removal import Removal
from magickbox.web.accounts import open_store
from magickbox.web.catalogue import HIDDEN, KEPT, Catalogue, Study, among
from magickbox.web.cataloguing import Cataloguing


@dataclass
class Archive:
    """A box with a catalogue beside it."""

    box: TestBox
    catalogue: Catalogue
    reader: Reader

    def look(self) -> None:
        """What the window's thread does, once, from a new start."""
        cataloguing = Cataloguing(self.catalogue, self.reader, lambda job: self.box.data.jobs / job)
        while cataloguing.look():
            pass

    def found(self, text: str, modality: str = "", with_person: bool = True) -> set[str]:
        """The jobs that a text finds."""
        with self.reader.reading() as tx:
            wanted = JobFilter(among=among(text, modality, with_person))
            return {job.id for job in listings.page_of_jobs(tx, wanted, None, 100)}


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    box = new_box(tmp_path)
    store = open_store(box.data.state)
    reader = Reader(box.data.ledger, {KEPT: store.path})
    yield Archive(box, Catalogue(store), reader)
    reader.close()
    store.close()
    box.ledger.close()


def store(peer: Peer, number: int, series: int = 1, **said: str) -> Stored:
    """Send one image that says this of patient and study; the command names its UID."""
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID, ds.SOPInstanceUID = MR, f"1.2.3.4.{series}.{number}"
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.Modality = "1.2.3.4", f"1.2.3.4.{series}", "MR"
    for keyword, value in said.items():
        ds.add(DataElement(keyword, dictionary_VR(keyword), value, validation_mode=IGNORE))
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_dataset(buffer, ds)
    incoming = peer.folder.begin(MR, ds.SOPInstanceUID, LITTLE)
    incoming.write(buffer.getvalue())
    stored = incoming.commit()
    assert stored.instance is not None
    return stored


def study(archive: Archive, **said: str) -> Job:
    """A job of two series, three images."""
    peer = archive.box.peer()
    images = [(1, 1, "T1 sagittal"), (2, 1, "T1 sagittal"), (1, 2, "T2 axial")]
    stored = [store(peer, number, series, SeriesDescription=text, **said) for number, series, text in images]
    peer.arrivals += [Arrival(peer.association.id, each.instance) for each in stored if each.instance]
    peer.send()
    return archive.box.bear(peer)


SAID = {
    "PatientName": "Müller^Jörg", "PatientID": "4711-A", "PatientBirthDate": "19600229",
    "AccessionNumber": "ACC77", "StudyDescription": "Knie links",
}  # fmt: skip


def test_a_study_is_known_by_what_its_images_say(archive: Archive) -> None:
    job = study(archive, **SAID)
    archive.look()
    known = archive.catalogue.of([job.id, "nobody"])[job.id]
    assert (known.name, known.patient, known.birth_date) == ("Müller^Jörg", "4711-A", "19600229")
    assert (known.accession, known.description) == ("ACC77", "Knie links")
    assert [(each.uid, each.description, each.instances) for each in known.series] == [
        ("1.2.3.4.1", "T1 sagittal", 2),
        ("1.2.3.4.2", "T2 axial", 1),
    ]
    assert known.modalities == ("MR",)
    assert archive.catalogue.modalities() == ["MR"]
    hidden = known.without_person()
    assert (hidden.name, hidden.patient, hidden.birth_date) == (HIDDEN, HIDDEN, HIDDEN)
    assert hidden.description == "Knie links"


@pytest.mark.parametrize(
    ("text", "found", "without_person"),
    [
        ("muller", True, False), ("JÖRG müll", True, False), ("jorg 4711", True, False), ("4711-a", True, False),
        ("acc77", True, True), ("knie", True, True), ("axial t2", True, True), ("1.2.3.4", True, True),
        ("1.2.3.4.2", True, True), ("1.2.3.4.1.2", True, True), ("1.2.3.4.5", False, False), ("Huber", False, False),
        ("knie Huber", False, False), ("%", False, False), ("Proc", True, True), ("' OR 1", False, False),
    ],
)  # fmt: skip
def test_a_text_finds_a_job(archive: Archive, text: str, found: bool, without_person: bool) -> None:
    job = study(archive, **SAID)
    archive.look()
    assert archive.found(text) == ({job.id} if found else set())
    assert archive.found(text, with_person=False) == ({job.id} if without_person else set())
    assert archive.found(text, "mr") == archive.found(text)
    assert archive.found(text, "CT") == set()


def test_a_deleted_job_is_forgotten_also_by_a_window_that_was_not_there(archive: Archive) -> None:
    first, second = study(archive, **SAID), study(archive, **SAID)
    cataloguing = Cataloguing(archive.catalogue, archive.reader, lambda job: archive.box.data.jobs / job)
    cataloguing.look()
    assert archive.catalogue.known() == {first.id, second.id}
    removal = Removal(archive.box.data, archive.box.ledger)
    for job in (first, second):
        archive.box.move(job, *([Move.PASS, Move.SETTLE] if job.state is JobState.READY else []))
    removal.delete(first.id, "a test's")
    cataloguing.look()
    assert archive.catalogue.known() == {second.id}
    removal.delete(second.id, "a test's")
    archive.look()
    assert archive.catalogue.known() == set()
    assert archive.found("muller") == set()


def test_a_new_job_is_found_while_the_window_runs(archive: Archive) -> None:
    cataloguing = Cataloguing(archive.catalogue, archive.reader, lambda job: archive.box.data.jobs / job)
    cataloguing.look()
    job = study(archive, **SAID)
    cataloguing.look()
    assert archive.found("muller") == {job.id}


def test_images_that_say_nothing_or_are_gone_are_a_row_without_words(archive: Archive) -> None:
    plain, gone = archive.box.job(Image("1.2.3.1")), study(archive, **SAID)
    for path in archive.box.folder(gone).input.iterdir():
        path.unlink()
    archive.look()
    known = archive.catalogue.of([plain.id, gone.id])
    assert known[plain.id].name == "Test^Person"
    assert known[gone.id] == Study(series=known[gone.id].series)
    assert [each.instances for each in known[gone.id].series] == [2, 1]


def test_a_value_is_kept_as_it_is_but_not_for_ever(archive: Archive) -> None:
    job = study(archive, PatientID="<script>alert(1)</script>", PatientName="x" * 5000)
    archive.look()
    known = archive.catalogue.of([job.id])[job.id]
    assert known.patient == "<script>alert(1)</script>"
    assert len(known.name) == 200
    assert archive.found("<script>") == {job.id}


def test_the_ledger_has_nothing_of_it(archive: Archive) -> None:
    study(archive, **SAID)
    archive.look()
    connection = sqlite3.connect(archive.box.data.ledger)
    dump = "\n".join(connection.iterdump())
    connection.close()
    assert "1.2.3.4.1.2" in dump
    assert not [word for word in ("ller", "4711", "ACC77", "Knie") if word in dump]


def test_trouble_is_told_once_and_is_over_when_it_is_over(archive: Archive) -> None:
    told: list[tuple[str, str, Mapping[str, object]]] = []
    job, ledger = study(archive, **SAID), archive.box.data.ledger
    ledger.rename(away := ledger.with_name("away"))
    try:
        cataloguing = Cataloguing(
            archive.catalogue, Reader(ledger), lambda job: archive.box.data.jobs / job, lambda *line: told.append(line)
        )
        cataloguing.start()
        until(lambda: bool(told), 20, "the trouble")
    finally:
        away.rename(ledger)
    until(lambda: archive.catalogue.known() == {job.id}, 20, "the catalogue")
    cataloguing.stop()
    assert [(level, event) for level, event, _ in told] == [("warning", "catalogue-waits")]
    assert "no ledger there" in str(told[0][2]["reason"])


def test_the_thread_catalogues_and_ends(archive: Archive) -> None:
    job = study(archive, **SAID)
    cataloguing = Cataloguing(archive.catalogue, archive.reader, lambda job: archive.box.data.jobs / job)
    cataloguing.start()
    with archive.box.ledger.reading() as tx:
        assert jobs.get(tx, job.id).id == job.id
    until(lambda: archive.catalogue.known() == {job.id}, 20, "the catalogue")
    cataloguing.stop()
