"""Jobs as the API has them."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, JsonValue

_LINE: dict[str, JsonValue] = {
    "id": "20260312T171245Z-ProcRSI-7f3a", "state": "DONE", "since": "2026-03-12T17:13:48.816700+00:00",
    "reason": "1 delivery arrived", "hold_asked": False, "calling_ae": "PACS", "called_ae": "ProcRSI",
    "peer": "10.0.2.2", "received": "2026-03-12T17:12:00.123456+00:00", "born": "2026-03-12T17:12:45.123456+00:00",
    "instances": 120, "bytes": 63000000, "outcome": "success", "message": "", "processor": "ProcRSI", "attempt": 1,
    "aborted": False, "study": "1.2.840.113619.2.1", "patient_name": "Test^Person", "patient_id": "4711",
    "accession": "A77", "study_date": "20260312", "description": "Knee left", "modalities": ["MR"],
    "deliveries": {"DELIVERED": 1}, "follows": None, "rerun_of": None, "parent": None, "priority": None,
}  # fmt: skip


class SeriesModel(BaseModel):
    """A series of a job's INPUT."""

    uid: str
    modality: str
    description: str
    instances: int


class JobModel(BaseModel):
    """One job. Texts of patient and study are empty until its images were looked at, some seconds after its birth."""

    model_config = ConfigDict(json_schema_extra={"examples": [_LINE]})

    id: str
    state: str
    since: datetime
    reason: str = Field(description="why it is in this state")
    hold_asked: bool = Field(description="it runs, and is held when its processor has ended")
    calling_ae: str
    called_ae: str
    peer: str
    received: datetime
    born: datetime
    instances: int
    bytes: int
    outcome: str | None
    message: str = Field(description="what the processor said; may name the patient")
    processor: str | None
    attempt: int
    aborted: bool
    study: str
    patient_name: str = Field(description="`hidden` for those who do not see names")
    patient_id: str
    accession: str
    study_date: str
    description: str
    modalities: list[str]
    deliveries: dict[str, int] = Field(description="how many are in each state")
    follows: str | None
    rerun_of: str | None
    parent: str | None
    priority: str | None = Field(description="urgent, normal or off-peak, if a person said so; else its processor's")


class CountsModel(BaseModel):
    """How many jobs there are in each state, the filter's own states not counted, and what else one can filter by."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"states": {"DONE": 118, "ATTENTION": 2}, "total": 120}]})

    states: dict[str, int]
    total: int


class AssociationModel(BaseModel):
    """An association that brought instances of a job."""

    id: str
    calling_ae: str
    called_ae: str
    peer: str
    began: datetime
    ended: datetime | None
    how: str | None
    instances: int


class AttemptModel(BaseModel):
    """One run of the processor; ``outcome`` may be `interrupted`."""

    n: int
    processor: str
    version: str
    began: datetime
    ended: datetime | None
    seconds: float | None
    exit_code: int | None
    outcome: str | None
    message: str


class EventModel(BaseModel):
    """One line of a job's timeline."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{
            "at": "2026-03-12T17:13:02Z", "kind": "run", "title": "run 1 of ProcRSI 1.0", "text": "", "who": "",
            "seconds": 12.5, "state": "success", "delivery": None,
        }]}
    )  # fmt: skip

    at: datetime
    kind: str = Field(description="association, state, run, decision, delivery, proof or receipt")
    title: str
    text: str = ""
    who: str = ""
    seconds: float | None = Field(default=None, description="how long it took, if it is over and took any time")
    state: str = Field(default="", description="the state that it came to, for states, runs and deliveries")
    delivery: int | None = None


class JobWhole(BaseModel):
    """One job with what belongs to it."""

    job: JobModel
    birth_date: str
    series: list[SeriesModel]
    associations: list[AssociationModel]
    attempts: list[AttemptModel]
    successors: list[str] = Field(description="reruns of it, and jobs that came late after it")
    has_folder: bool
    progress: float | None = Field(description="how far its run says it is, from 0 to 1; null if it says nothing")
    may: list[str] = Field(
        description="what can be done with it now:"
        " rerun, reroute, hold, cancel, release, delete, urgent, normal, off-peak"
    )


class WhyModel(BaseModel):
    """Why each rule did or did not fire: a decision that was taken, or what today's rules would decide."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{
            "when": "decided", "at": "2026-03-12T17:13:40Z", "n": 1, "same_rules": True, "with_values": False,
            "note": "", "decision": {},
        }]}
    )  # fmt: skip

    when: str = Field(description="`decided` or `today`")
    at: datetime | None
    n: int | None = Field(description="number of the decision")
    same_rules: bool | None = Field(description="true if the rules of then are those in force")
    with_values: bool = Field(description="whether the values of tags are told")
    note: str
    decision: dict[str, Any] = Field(description="as `magickbox explain --json` has it")


class BulkRequest(BaseModel):
    """Jobs or deliveries to do something with."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"ids": ["20260312T171245Z-ProcRSI-7f3a"]}]})

    ids: list[str] = Field(min_length=1, max_length=200)


class DoneModel(BaseModel):
    """What the box said to one of them."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"id": "20260312T171245Z-ProcRSI-7f3a", "done": True, "said": "it is held"}]}
    )

    id: str
    done: bool
    said: str


class FileModel(BaseModel):
    """A file of a job; ``path`` is how it is asked for."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"path": "INPUT/000001.dcm", "bytes": 526336}]}
    )  # fmt: skip

    path: str
    bytes: int


class ElementModel(BaseModel):
    """An element, or an item of a sequence (``tag`` null); ``text`` null: no text, too long, or not to be seen."""

    depth: int
    tag: str | None
    vr: str
    name: str
    text: str | None
    length: int | None
    hidden: bool = False


class MetadataModel(BaseModel):
    """The elements of one file."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{
            "path": "INPUT/000001.dcm", "note": "",
            "elements": [
                {"depth": 0, "tag": "(0008,0060)", "vr": "CS", "name": "Modality", "text": "MR", "length": 2}
            ],
        }]}
    )  # fmt: skip

    path: str
    elements: list[ElementModel]
    note: str = Field(description="why they are not all, if they are not")


class LogPiece(BaseModel):
    """A piece of processing.log; ``offset`` is 0 again if a new run has begun another log."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"text": "4 images\n", "offset": 0, "next": 9, "size": 9, "running": False}]}
    )  # fmt: skip

    text: str
    offset: int
    next: int = Field(description="`offset` of what comes next")
    size: int
    running: bool
