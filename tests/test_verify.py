"""A healthy box has no finding, and every kind of planted damage has one that names the place."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from boxes import MR, Image, TestBox, new_box

from magickbox.births.newjob import Policy
from magickbox.delivery import NewDelivery, NewItem
from magickbox.destination import DicomDestination
from magickbox.incoming.answer import CANNOT_UNDERSTAND
from magickbox.job import Job, JobState, Move
from magickbox.jobfolder import remove_tree
from magickbox.ledger import Ledger, Transaction, deliveries, jobs
from magickbox.processor import Late
from magickbox.removal import Removal
from magickbox.verification.finding import Finding
from magickbox.verification.ownership import where_is
from magickbox.verification.verify import verify

A, B, C = Image("1.2.1"), Image("1.2.2"), Image("1.2.3")


@pytest.fixture
def box(tmp_path: Path) -> Iterator[TestBox]:
    made = new_box(tmp_path)
    yield made
    made.ledger.close()


def findings(box: TestBox, *, quick: bool = False, running: bool = False) -> list[Finding]:
    return verify(box.data, box.ledger, quick=quick, running=running)


def route(box: TestBox, job: Job, file: str = "OUTPUT/result.txt") -> Job:
    """Give a processed job a delivery that is open."""
    item = NewItem(file, "1.2.9", MR, "1.2.840.10008.1.2.1")
    new = NewDelivery("rule", 0, DicomDestination("10.0.0.5", 104, "BOX", "PACS"), False, None, False, (item,))
    with box.ledger.transaction() as tx:
        deliveries.plan(tx, job.id, deliveries.record_decision(tx, job.id, "", "{}"), [new])
        return jobs.move(tx, job.id, Move.ROUTE, "routed")


def healthy(box: TestBox) -> dict[str, Job]:
    """Jobs in every state that a stopped box can be in, beside instances that wait, and a refused one."""
    many = box.bear(box.peer().send(A, B, A), box.peer().send(replace(A, content=1), Image("../odd")))
    made = {
        "ready": many,
        "late": box.job(C, policy=Policy(late=Late.RERUN)),
        "processed": box.run(box.job(Image("1.3.1"), called="Other"), "none at all"),
        "delivering": route(box, box.run(box.job(Image("1.3.2"), called="Routed"))),
        "done": box.move(box.run(box.job(Image("1.3.3"), called="Finished")), Move.SETTLE),
        "attention": box.move(box.run(box.job(Image("1.3.4"), called="Sad"), "failed"), Move.ALARM),
        "held": box.move(box.job(Image("1.3.5"), called="Stopped"), Move.HOLD),
        "duplicate": box.job(replace(C)),
        "deleted": box.job(Image("1.3.6"), called="Old"),
    }
    Removal(box.data, box.ledger).delete(made["deleted"].id, "a test", "tester")
    box.peer("Waiting").send(Image("1.3.7"))
    box.peer("Open").send(Image("1.3.8"), how=None)
    assert box.peer("Refused").store(Image("1.3.9", study=None)).status == CANNOT_UNDERSTAND
    return made


@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize("running", [True, False])
def test_a_healthy_box_has_no_finding(box: TestBox, quick: bool, running: bool) -> None:
    assert healthy(box)["duplicate"].state is JobState.DONE
    assert findings(box, quick=quick, running=running) == []


def test_an_empty_box_has_no_finding(box: TestBox) -> None:
    assert findings(box) == []


def test_verify_reads_only(box: TestBox) -> None:
    healthy(box)
    before = {path: path.stat().st_mtime_ns for path in box.data.root.rglob("*") if "state" not in path.parts}
    readonly = Ledger(box.data.ledger, readonly=True)
    assert verify(box.data, readonly, quick=False, running=False) == []
    readonly.close()
    assert {p: p.stat().st_mtime_ns for p in box.data.root.rglob("*") if "state" not in p.parts} == before


def overwrite(path: Path, content: bytes) -> None:
    path.chmod(0o600)
    path.write_bytes(content)


def flip_last(path: Path) -> None:
    content = path.read_bytes()
    overwrite(path, content[:-1] + bytes([content[-1] ^ 1]))


def blank(path: Path) -> None:
    overwrite(path, b"x" * path.stat().st_size)


def lose(box: TestBox, job: Job) -> None:
    remove_tree(box.folder(job).path)
    box.move(job, Move.LOSE)


def put_link(box: TestBox, job: Job) -> None:
    first, second = (box.folder(job).input / name for name in ("1.2.1.dcm", "1.2.2.dcm"))
    first.unlink()
    first.symlink_to(second)


def route_and_lose(box: TestBox, job: Job) -> None:
    route(box, job)
    (box.folder(job).output / "result.txt").unlink()


Plant = Callable[[TestBox, Job], object]

# What is planted in a job, where the finding is (below the job), a part of what it says, and how grave that is.
IN_JOB: dict[str, tuple[Plant, str, str, str]] = {
    "folder gone": (lambda b, j: remove_tree(b.folder(j).path), "", "its folder is gone", "error"),
    "lost": (
        lose,
        "",
        "LOST: its folder with 2 instances",
        "error",
    ),
    "lost is back": (lambda b, j: b.move(j, Move.LOSE), "", "its folder is back", "warning"),
    "instance gone": (lambda b, j: (b.folder(j).input / "1.2.1.dcm").unlink(), "/INPUT/1.2.1.dcm", "missing", "error"),
    "instance cut": (
        lambda b, j: overwrite(b.folder(j).input / "1.2.1.dcm", b"short"),
        "/INPUT/1.2.1.dcm",
        "the file has 5 bytes",
        "error",
    ),
    "instance changed": (
        lambda b, j: flip_last(b.folder(j).input / "1.2.1.dcm"),
        "/INPUT/1.2.1.dcm",
        "not those that were received",
        "error",
    ),
    "instance no DICOM": (
        lambda b, j: overwrite(
            b.folder(j).input / "1.2.1.dcm", b"x" * (b.folder(j).input / "1.2.1.dcm").stat().st_size
        ),
        "/INPUT/1.2.1.dcm",
        "cannot be read: no DICM prefix",
        "error",
    ),
    "instances swapped": (
        lambda b, j: os.replace(b.folder(j).input / "1.2.2.dcm", b.folder(j).input / "1.2.1.dcm"),
        "/INPUT/1.2.1.dcm",
        "of another instance, 1.2.2",
        "error",
    ),
    "instance a link": (
        put_link,
        "/INPUT/1.2.1.dcm",
        "not a regular file",
        "error",
    ),
    "superseded gone": (
        lambda b, j: (b.folder(j).superseded / "1.2.1.1.dcm").unlink(),
        "/superseded/1.2.1.1.dcm",
        "missing",
        "error",
    ),
    "unknown instance": (
        lambda b, j: (b.folder(j).input / "1.9.dcm").touch(),
        "/INPUT/1.9.dcm",
        "no row in the ledger knows",
        "error",
    ),
    "unknown superseded": (
        lambda b, j: (b.folder(j).superseded / "1.9.1.dcm").touch(),
        "/superseded/1.9.1.dcm",
        "no row in the ledger knows",
        "error",
    ),
    "unknown file": (
        lambda b, j: (b.folder(j).input / "Thumbs.db").touch(),
        "/INPUT/Thumbs.db",
        "no row in the ledger knows",
        "warning",
    ),
    "info gone": (lambda b, j: b.folder(j).info.unlink(), "/info.json", "it is missing", "error"),
    "info broken": (lambda b, j: b.folder(j).info.write_text("{"), "/info.json", "cannot be read", "error"),
    "info of another": (
        lambda b, j: b.folder(j).info.write_text(json.dumps({"job": "another"})),
        "/info.json",
        "another job, another",
        "error",
    ),
    "proc gone": (lambda b, j: b.folder(j).proc.unlink(), "/proc.json", "it is missing", "error"),
    "proc broken": (lambda b, j: b.folder(j).proc.write_text("[]"), "/proc.json", "cannot be read", "error"),
    "proc differs": (
        lambda b, j: b.folder(j).proc.write_text('[{"success": "failed"}]'),
        "/proc.json",
        "says 'failed', the ledger has 'success'",
        "error",
    ),
    "output gone": (lambda b, j: remove_tree(b.folder(j).output), "/OUTPUT", "attempt 1 was published", "error"),
    "to be sent gone": (
        route_and_lose,
        "/OUTPUT/result.txt",
        "still to be sent by delivery 1 to",
        "error",
    ),
    "plan left": (lambda b, j: b.folder(j).plan.touch(), "/.plan.json", "birth was interrupted", "warning"),
    "deleted is there": (
        lambda b, j: b.move(j, Move.DELETE, Move.REMOVED),
        "",
        "deleted, but its folder is still there",
        "error",
    ),
    "removal interrupted": (lambda b, j: b.move(j, Move.DELETE), "", "removal was interrupted", "warning"),
    "done too soon": (
        lambda b, j: (route(b, j), b.move(j, Move.SETTLE)),
        "",
        "DONE, but delivery 1 is still open",
        "error",
    ),
    "delivers nothing": (lambda b, j: b.move(j, Move.ROUTE), "", "nothing is open any more", "warning"),
}


@pytest.mark.parametrize("name", IN_JOB)
def test_damage_in_a_job_is_found(box: TestBox, name: str) -> None:
    plant, where, what, severity = IN_JOB[name]
    job = box.run(box.bear(box.peer().send(A, B), box.peer().send(replace(A, content=1))))
    assert findings(box) == []
    plant(box, job)
    (found,) = findings(box) if name != "instances swapped" else findings(box)[:1]
    assert (found.severity, found.where) == (severity, f"jobs/{job.id}{where}")
    assert what in found.what


def test_a_quick_look_reads_no_instance(box: TestBox) -> None:
    job = box.job(A)
    flip_last(box.folder(job).input / "1.2.1.dcm")
    assert findings(box, quick=True) == []
    assert len(findings(box)) == 1


def test_a_missing_link_is_found(box: TestBox) -> None:
    box.job(A)
    later = box.job(C, policy=Policy(late=Late.RERUN))
    (box.folder(later).input / "1.2.1.dcm").unlink()
    (found,) = findings(box)
    assert "linked from an earlier job" in found.what


def test_a_running_job_of_a_stopped_box_is_told_of(box: TestBox) -> None:
    box.start(box.job(A))
    assert findings(box, running=True) == []
    (found,) = findings(box)
    assert found.severity == "warning"
    assert "makes the run again" in found.what


def test_rows_that_contradict_themselves_are_found(box: TestBox) -> None:
    job = box.job(A)
    with box.ledger.transaction() as tx:
        tx.execute("UPDATE jobs SET state = 'PROCESSED', instances = 5 WHERE id = ?", (job.id,))
    told = [f.what for f in findings(box)]
    assert told == ["its row says 5 instances, 1 are recorded", "it is PROCESSED without an outcome"]
    with box.ledger.transaction() as tx:
        tx.execute("UPDATE jobs SET state = 'HELD', instances = 1 WHERE id = ?", (job.id,))
    (found,) = findings(box)
    assert "cannot be released" in found.what


def in_jobs(box: TestBox, name: str) -> Path:
    path = box.data.jobs / name
    path.mkdir()
    return path


def in_incoming(box: TestBox, name: str, *files: str) -> Path:
    path = box.data.incoming / name
    path.mkdir()
    for file in files:
        (path / file).touch()
    return path


def damaged_record(box: TestBox, content: str | None) -> None:
    box.peer().send(A)
    record = box.data.incoming / "a0001" / "association.json"
    record.unlink() if content is None else record.write_text(content)


def damaged_instance(box: TestBox) -> None:
    box.peer().send(A, B)
    overwrite(box.data.incoming / "a0001" / "1.2.1.dcm", b"broken")


JOB = "20260312T171200Z-ProcRSI-7f3a"
OUTSIDE: dict[str, tuple[Callable[[TestBox], object], str, str, bool]] = {
    "folder without row": (lambda b: in_jobs(b, JOB), f"error jobs/{JOB}", "without a row", True),
    "stray folder": (lambda b: in_jobs(b, "notes"), "warning jobs/notes", "not a job's", True),
    "stray file": (lambda b: (b.data.jobs / JOB).touch(), f"warning jobs/{JOB}", "not a job's", True),
    "birth, no plan": (
        lambda b: in_incoming(b, f".new-{JOB}"),
        f"warning incoming/.new-{JOB}",
        "before anything had moved",
        False,
    ),
    "birth": (
        lambda b: in_incoming(b, f".new-{JOB}", ".plan.json"),
        f"warning incoming/.new-{JOB}",
        "the next start carries it on",
        False,
    ),
    "birth, no row": (
        lambda b: (in_jobs(b, JOB) / ".plan.json").touch(),
        f"warning jobs/{JOB}",
        "before its row was written",
        False,
    ),
    "trash": (lambda b: in_incoming(b, f".trash-{JOB}"), f"warning incoming/.trash-{JOB}", "removal", False),
    "part": (lambda b: in_incoming(b, "x", ".part-7"), "warning incoming/x/.part-7", "not acknowledged", False),
    "temporary": (
        lambda b: in_incoming(b, "x", ".association.json.7.tmp"),
        "warning incoming/x/.association.json.7.tmp",
        "not acknowledged",
        False,
    ),
    "stray in incoming": (
        lambda b: (b.data.incoming / "readme").touch(),
        "warning incoming/readme",
        "not the box's",
        True,
    ),
    "stray hidden": (lambda b: in_incoming(b, ".snapshots"), "warning incoming/.snapshots", "not the box's", True),
    "stray in association": (
        lambda b: in_incoming(b, "x", "readme"),
        "warning incoming/x/readme",
        "not the box's",
        True,
    ),
    "record gone": (
        lambda b: damaged_record(b, None),
        "error incoming/a0001/association.json",
        "who sent these",
        True,
    ),
    "record cut": (
        lambda b: damaged_record(b, "{"),
        "error incoming/a0001/association.json",
        "who sent these",
        True,
    ),
    "record odd": (lambda b: damaged_record(b, "[7]"), "error incoming/a0001/association.json", "who sent these", True),
    "instance": (damaged_instance, "error incoming/a0001/1.2.1.dcm", "acknowledged cannot be read", True),
    "no reason": (
        lambda b: (b.data.quarantine / "x.dcm").touch(),
        "warning quarantine/x.dcm",
        "no .reason",
        False,
    ),
    "reason alone": (
        lambda b: (b.data.quarantine / "x.reason").touch(),
        "warning quarantine/x.reason",
        "is not there",
        False,
    ),
    "stray in quarantine": (
        lambda b: (b.data.quarantine / "x.txt").touch(),
        "warning quarantine/x.txt",
        "not the box's",
        False,
    ),
}


@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize("name", OUTSIDE)
def test_damage_outside_of_jobs_is_found(box: TestBox, name: str, quick: bool) -> None:
    plant, where, what, also_running = OUTSIDE[name]
    plant(box)
    (found,) = findings(box, quick=quick)
    assert f"{found.severity} {found.where}" == where
    assert what in found.what
    assert len(findings(box, quick=quick, running=True)) == int(also_running)


def test_a_damaged_ledger_is_found(box: TestBox) -> None:
    box.job(*(Image(f"1.2.{n}") for n in range(300)))
    box.ledger.close()
    content, page = box.data.ledger.read_bytes(), 4096
    rows = content.rindex(b"1.2.150") // page * page  # it can still be opened: the tables are said elsewhere
    box.data.ledger.write_bytes(content[:rows] + b"\xff" * page + content[rows + page :])
    box.ledger = Ledger(box.data.ledger)
    found = findings(box)
    assert found
    assert {f.where for f in found} == {"state/ledger.sqlite"}


def test_what_moves_while_it_is_looked_at_is_not_told_of(box: TestBox) -> None:
    """A job whose row changes between two looks is moving; it is told of only when it stays as it is."""
    job = box.job(A)
    remove_tree(box.folder(job).path)

    class Moving(Ledger):
        """A ledger in which something is noted whenever somebody has looked."""

        count = 0

        @contextmanager
        def reading(self) -> Iterator[Transaction]:
            with super().reading() as tx:
                yield tx
            self.count += 1
            with self.transaction() as tx:
                jobs.note(tx, job.id, f"note {self.count}")

    moving = Moving(box.data.ledger)
    assert verify(box.data, moving, quick=False, running=True) == []
    assert len(verify(box.data, moving, quick=False, running=False)) == 1
    moving.close()
    assert len(findings(box, running=True)) == 1


def test_every_owner_of_an_instance_is_named(box: TestBox) -> None:
    def places(image: Image = A) -> list[str]:
        return where_is(box.data, box.ledger, image.uid)

    assert places() == []
    first, second = box.peer().send(A, Image("1.2.1.1")), box.peer().send(replace(A, content=1))
    assert places() == ["incoming/a0001/1.2.1.dcm", "incoming/a0002/1.2.1.dcm"]
    planned = box.plan(first, second)
    job = planned.name.removeprefix(".new-")
    assert len(places()) == 2
    box.birth.carry_on(planned)
    assert places() == [f"jobs/{job}/INPUT/1.2.1.dcm", f"jobs/{job}/superseded/1.2.1.1.dcm"]
    box.job(C, policy=Policy(late=Late.RERUN))
    assert len(places()) == 2, "a link is a view"
    Removal(box.data, box.ledger).delete(job, "a test")
    assert places() == [f"deleted: {job}"]
    assert len(places(C)) == 1


def test_an_instance_is_found_between_birth_and_row(box: TestBox) -> None:
    job = box.job(A)
    with box.ledger.transaction() as tx:
        for table in ("instances", "associations", "history"):
            tx.execute(f"DELETE FROM {table}")
        tx.execute("DELETE FROM jobs")
    assert where_is(box.data, box.ledger, A.uid) == [f"jobs/{job.id}/INPUT/1.2.1.dcm"]
    (box.folder(job).input / "1.2.1.dcm").unlink()
    assert where_is(box.data, box.ledger, A.uid) == []
