"""Builds real data folders for tests: received by the real code, born by the real birth, published by the real step."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydicom.config import IGNORE
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from magickbox.association import Association, End
from magickbox.births.birth import Birth
from magickbox.births.newjob import Policy, conceive
from magickbox.clock import now
from magickbox.datafolder import DataFolder
from magickbox.gathering import Arrival, Due, Key
from magickbox.incoming.answer import SUCCESS, Stored
from magickbox.incoming.folder import AssociationFolder
from magickbox.incoming.quarantine import Quarantine
from magickbox.job import Job, Move
from magickbox.jobfolder import JobFolder
from magickbox.ledger import Ledger, jobs
from magickbox.ledger.jobs import Share
from magickbox.processor import Outcome
from magickbox.runs import attempt as attempts
from magickbox.steps import Reached, unwatched

MR, LITTLE = "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.1.2.1"
STUDY = "1.2.826.0.1.3680043.10.1"


@dataclass(frozen=True)
class Image:
    """A small MR instance; ``content`` makes its bytes differ from another one's of the same UID.

    ``said_class`` and ``said_uid`` are what its dataset says, if that is not what the command says.
    """

    uid: str
    content: int = 0
    study: str | None = STUDY
    said_class: str = MR
    said_uid: str | None = None

    def dataset(self) -> bytes:
        """The dataset's bytes as a peer sends them."""
        ds = Dataset()
        _say(ds, SOPClassUID=self.said_class, SOPInstanceUID=self.said_uid or self.uid)
        ds.Modality, ds.PatientName = "MR", "Test^Person"
        if self.study is not None:
            _say(ds, StudyInstanceUID=self.study, SeriesInstanceUID=f"{self.study}.1")
        ds.Rows = ds.Columns = 4
        ds.BitsAllocated = 16
        ds.PixelData = bytes([self.content % 256]) * 32
        buffer = DicomBytesIO()
        buffer.is_little_endian, buffer.is_implicit_VR = True, False
        write_dataset(buffer, ds)
        return buffer.getvalue()


def _say(ds: Dataset, **uids: str) -> None:
    """Put UIDs into a dataset as they are, valid or not."""
    for keyword, uid in uids.items():
        ds.add(DataElement(keyword, "UI", uid, validation_mode=IGNORE))


@dataclass
class Peer:
    """One association of a peer: what it sends is kept by the real receiver's code."""

    folder: AssociationFolder
    arrivals: list[Arrival] = field(default_factory=list)

    def __del__(self) -> None:
        """A test that leaves an association open must not keep its descriptors until the last test."""
        self.folder.let_go()

    @property
    def association(self) -> Association:
        """The association as the box knows it."""
        return self.folder.association

    def store(self, image: Image) -> Stored:
        """Send one instance by C-STORE and say how it was answered."""
        incoming = self.folder.begin(MR, image.uid, LITTLE)
        incoming.write(image.dataset())
        stored = incoming.commit()
        if stored.instance is not None:
            self.arrivals.append(Arrival(self.association.id, stored.instance))
        return stored

    def send(self, *images: Image, how: End | None = End.RELEASED) -> "Peer":
        """Send instances that must be taken, then end the association; ``how`` None leaves it open."""
        for image in images:
            stored = self.store(image)
            assert stored.status == SUCCESS, stored.why
        if how is not None:
            self.folder.end(how, now())
        return self


@dataclass
class TestBox:
    """A data folder with its ledger, without the stages of a running box."""

    __test__ = False

    data: DataFolder
    ledger: Ledger
    reached: Reached = unwatched
    count: int = 0

    @property
    def birth(self) -> Birth:
        """A new one each time, as after a restart."""
        return Birth(self.data, self.ledger, self.reached)

    def peer(self, called: str = "Proc", calling: str = "MODALITY", parent: str | None = None) -> Peer:
        """A peer opens an association."""
        self.count += 1
        association = Association(f"a{self.count:04d}", calling, called, "10.0.0.7", now(), parent)
        quarantine = Quarantine(self.data.quarantine)
        return Peer(AssociationFolder(self.data.incoming, association, quarantine, reached=self.reached))

    def due(self, *peers: Peer, by_association: bool = False, aborted: bool = False) -> Due:
        """What these peers sent, due to become a job."""
        arrivals = tuple(arrival for peer in peers for arrival in peer.arrivals)
        one = peers[0].association
        study = arrivals[0].instance.study
        key = Key(one.calling_ae, one.called_ae, study, one.id if by_association else None)
        return Due(key, arrivals, aborted)

    def plan(self, *peers: Peer, policy: Policy | None = None, **more: bool) -> Path:
        """Steps up to 6: the folder of a planned birth."""
        due = self.due(*peers, **more)
        known = {peer.association.id: peer.association for peer in peers}
        shares = tuple(Share(known[a], n) for a, n in due.per_association().items())
        birth = self.birth
        with self.ledger.reading() as tx:
            plan = conceive(tx, due, shares, policy or Policy(), birth.same)
        return birth.plan(plan)

    def bear(self, *peers: Peer, policy: Policy | None = None, **more: bool) -> Job:
        """Steps 6 to 9: what the peers sent becomes a job."""
        return self.birth.carry_on(self.plan(*peers, policy=policy, **more))

    def job(self, *images: Image, called: str = "Proc", policy: Policy | None = None) -> Job:
        """A job that one peer's released association brought."""
        return self.bear(self.peer(called).send(*images), policy=policy)

    def folder(self, job: Job) -> JobFolder:
        """A job's folder."""
        return JobFolder(self.data.jobs / job.id)

    def row(self, job: Job) -> Job:
        """A job's row as it is now."""
        with self.ledger.reading() as tx:
            return jobs.get(tx, job.id)

    def run(self, job: Job, success: str = "success", results: Sequence[str] = ("result.txt",)) -> Job:
        """Steps 10 to 12: a run that wrote these files into OUTPUT and said ``success``."""
        self.start(job)
        folder, n = self.folder(job), 1
        attempt = attempts.prepare(folder, n, tuple(path.name for path in sorted(folder.input.iterdir())))
        for name in results:
            (attempt.output / name).write_text("result")
        outcome = Outcome(success)
        result = attempts.RunResult(0, outcome)
        attempts.write_result(attempt, result)
        attempts.publish(folder, attempt, result)
        folder.write_proc(outcome.as_proc_json())
        attempts.clear(attempt)
        with self.ledger.transaction() as tx:
            jobs.end_attempt(tx, job.id, n, 0, success, "")
            return jobs.move(tx, job.id, Move.FINISH, "ran", outcome=success)

    def start(self, job: Job) -> Job:
        """Step 10: the first attempt's row."""
        with self.ledger.transaction() as tx:
            jobs.begin_attempt(tx, job.id, 1, "Proc", "", "")
            return jobs.move(tx, job.id, Move.START, "attempt 1", attempt=1, processor="Proc")

    def move(self, job: Job, *steps: Move) -> Job:
        """Move a job by the table."""
        with self.ledger.transaction() as tx:
            for step in steps:
                job = jobs.move(tx, job.id, step, f"a test's {step}")
        return job


def new_box(root: Path, reached: Reached = unwatched) -> TestBox:
    """A data folder that is prepared and has an empty ledger."""
    data = DataFolder(root / "data")
    data.prepare()
    return TestBox(data, Ledger(data.ledger), reached)
