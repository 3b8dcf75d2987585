"""How the box stands, as the API has it."""

from pydantic import BaseModel, ConfigDict, Field


class Received(BaseModel):
    """What has come to the port since the box was started."""

    associations: int
    rejected: int = Field(description="associations that were rejected")
    instances: int
    bytes: int
    put_off: int = Field(description="instances refused for now (0xA7xx)")
    refused: int = Field(description="instances refused for good")


class Answers(BaseModel):
    """How long instances took from their command to being safe on disk, since the start."""

    bounds: list[float] = Field(description="in seconds")
    counts: list[int] = Field(description="within each bound, but not within the one before; the last beyond all")
    seconds: float = Field(description="of all together")


class OpenAssociation(BaseModel):
    """An association that is open now."""

    id: str
    calling: str = Field(description="calling AE title")
    called: str = Field(description="called AE title")
    peer: str = Field(alias="from", description="its address")
    began: str
    instances: int = Field(description="so many have come over it")


class Gathered(BaseModel):
    """A study that is being gathered."""

    calling: str
    called: str
    instances: int
    due: float = Field(description="seconds until it becomes a job, if nothing more comes")


class RunningJob(BaseModel):
    """A run of a processor that is under way."""

    job: str
    processor: str
    attempt: int
    since: str = Field(description="when it began, or was taken up again after a start of the box")
    progress: float | None = Field(description="how far it says it is, from 0 to 1; null if it says nothing")


class Window(BaseModel):
    """The window itself."""

    address: str | None
    by_number: str | None = Field(default=None, description="the same, where the name in it is not known")
    problem: str | None


class Status(BaseModel):
    """What a look at the running box shows."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "ae_title": "MAGICKBOX", "listening": ["10.0.0.5", 11112], "listening_tls": [],
                    "open_associations": 1, "open_connections": 1,
                    "associations": [
                        {
                            "id": "20260312T171200-1a2b3c4d", "calling": "CT1", "called": "ProcRSI",
                            "from": "10.0.7.4", "began": "2026-03-12T17:12:00.123456+00:00", "instances": 87,
                        }
                    ],
                    "received": {
                        "associations": 12, "rejected": 0, "instances": 5200, "bytes": 2730000000, "put_off": 0,
                        "refused": 0,
                    },
                    "answers": {"bounds": [0.001, 0.01, 0.1], "counts": [4100, 1099, 1, 0], "seconds": 6.1},
                    "behind": 0,
                    "gathering": [{"calling": "CT1", "called": "ProcRSI", "instances": 87, "due": 28.2}],
                    "jobs_waiting": 0, "receiving_pause": 0.0, "rules_problem": None, "bad_processors": [],
                    "sandbox": "bubblewrap; control groups (version 2)", "sandbox_problem": None,
                    "disk_free": 812000000000, "disk_mark": 50000000000,
                    "ledger_problem": None,
                    "runs": [
                        {
                            "job": "20260312T171245Z-ProcRSI-7f3a", "processor": "ProcRSI", "attempt": 1,
                            "since": "2026-03-12T17:12:45.123456+00:00", "progress": 0.4,
                        }
                    ],
                    "window": {"address": "http://127.0.0.1:8080/", "by_number": None, "problem": None},
                }
            ]
        }
    )  # fmt: skip

    ae_title: str = Field(description="the box's own AE title")
    listening: list[str | int] = Field(description="address and port")
    listening_tls: list[str | int] = Field(description="the same of the port with TLS; empty without one")
    open_associations: int
    open_connections: int
    associations: list[OpenAssociation] = Field(description="the open ones, at most 200")
    received: Received
    answers: Answers
    behind: int = Field(description="acknowledged instances that the coordinator has not taken yet")
    gathering: list[Gathered]
    jobs_waiting: int = Field(description="for a processor")
    receiving_pause: float = Field(description="seconds that each answer waits, since too many jobs wait")
    rules_problem: str | None
    bad_processors: list[str]
    sandbox: str = Field(description="what holds processors, or why nothing does")
    sandbox_problem: str | None = Field(description="why there is no sandbox; null if there is one")
    disk_free: int = Field(description="bytes")
    disk_mark: int = Field(description="bytes below which nothing new is taken")
    ledger_problem: str | None
    runs: list[RunningJob] = Field(default=[], description="what runs now, the oldest first")
    window: Window | None = None


class Ready(BaseModel):
    """Whether the box can take and process what comes; each part is true if it is as it should be."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"ready": True, "checks": {"ledger": True, "disk": True, "port": True, "rules": True}}]
        }
    )

    ready: bool
    checks: dict[str, bool]
