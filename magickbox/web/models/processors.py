"""Processors, their runs and test runs of them, as the API has them."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field, JsonValue

_RUN: dict[str, JsonValue] = {
    "job": "20261122T010203Z-ProcRSI-7f3a", "n": 1, "version": "2.1", "began": "2026-11-22T01:02:03Z", "seconds": 12.5,
    "outcome": "failed", "message": "exit code 3: no model found",
}  # fmt: skip
_RUNS: dict[str, JsonValue] = {
    "runs": 200, "mean": 12.1, "spread": 2.2, "longest": 31.0, "failed": 1, "failures": [_RUN], "last": _RUN,
}  # fmt: skip


class RunModel(BaseModel):
    """One run of a processor; times in seconds."""

    model_config = ConfigDict(from_attributes=True, json_schema_extra={"examples": [_RUN]})

    job: str
    n: int
    version: str
    began: datetime
    seconds: float | None
    outcome: str | None
    message: str


class RunsModel(BaseModel):
    """What the last 200 runs came to; `spread` is the standard deviation, `failures` are the last few."""

    model_config = ConfigDict(json_schema_extra={"examples": [_RUNS]})

    runs: int
    mean: float | None
    spread: float | None
    longest: float | None
    failed: int
    last: RunModel | None
    failures: list[RunModel]


class ProcessorModel(BaseModel):
    """A drop-in.

    `state` is on, off, waits (for its image), unfit (it asks for more than this box has, so its jobs fail), bad (it
    cannot be used, `problems` say why) or gone (it ran once).
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "ProcRSI", "state": "on", "called_ae": "ProcRSI", "kind": "folder", "version": "2.1",
                    "description": "segments the left ventricle", "why": "", "problems": [], "image": None,
                    "steps": [], "network": False, "timeout": None,
                    "digest": "5d41402abc4b2a76b9719d911017c592", "runs": _RUNS,
                }
            ]
        }
    )  # fmt: skip

    name: str
    state: str
    called_ae: str = Field(default="", description="a regular expression for the called AE titles that it serves")
    kind: str = Field(default="", description="script, folder, container or chain")
    version: str = ""
    description: str = ""
    why: str = Field(default="", description="what it waits for")
    problems: list[str] = []
    image: str | None = None
    steps: list[str] = Field(default=[], description="what a chain runs, one after another")
    network: bool = False
    timeout: float | None = Field(default=None, description="seconds; null: that of the setting")
    digest: str = Field(default="", description="tells one version of its files from another")
    runs: RunsModel | None = None


class InstalledModel(BaseModel):
    """What was placed; `replaced` if it took the place of another one, which is kept in `.replaced`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"name": "ProcRSI", "version": "2.1", "called_ae": "ProcRSI", "on": False, "replaced": False}]
        }
    )

    name: str
    version: str
    called_ae: str
    on: bool
    replaced: bool


class SwitchedModel(BaseModel):
    """Whether a processor is on now."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "ProcRSI", "on": True}]})

    name: str
    on: bool


class TrialRequest(BaseModel):
    """A test run that is wanted: the processor gets a copy of the job's INPUT; the job itself is left alone."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"processor": "ProcRSI", "job": "20261122T010203Z-ProcRSI-7f3a"}]}
    )

    processor: str = Field(max_length=64)
    job: str = Field(max_length=100)


class OutputFile(BaseModel):
    """A DICOM file that a run has written."""

    path: str
    sop_class: str


class ReportModel(BaseModel):
    """What came of a test run; `trouble` is what the box would do instead of taking the outcome."""

    outcome: str
    message: str
    trouble: str | None
    exit: int | None
    seconds: float
    peak_memory: int | None
    held_by: str
    instances: int
    outputs: int
    output: list[OutputFile] = Field(description="the first hundred")
    others: int
    unreadable: list[str]
    same_uid_as_input: int
    log: list[str] = Field(description="the last lines that it printed; none for those who may not see patient names")


class TrialModel(BaseModel):
    """A test run: its `report` is there when it has ended, `trouble` if it could not be made."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "1f2e3d4c", "processor": "ProcRSI", "job": "20261122T010203Z-ProcRSI-7f3a", "who": "anna",
                    "began": "2026-11-22T01:02:03Z", "running": True, "trouble": "", "report": None,
                }
            ]
        }
    )  # fmt: skip

    id: str
    processor: str
    job: str
    who: str
    began: datetime
    running: bool
    trouble: str
    report: ReportModel | None
