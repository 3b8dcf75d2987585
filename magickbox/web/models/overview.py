"""What the first page shows, as the API has it."""

from pydantic import BaseModel, ConfigDict, Field

from magickbox.web.models.system import Status


class Destination(BaseModel):
    """How things stand with a destination, in short."""

    name: str
    state: str = Field(description="`sending`, `idle`, `paused`, `draining` or `unreachable`")
    open: int = Field(description="deliveries that are to go there")
    dead: int = Field(description="deliveries that were given up")
    oldest: str | None = Field(description="since when the oldest open one waits")
    reason: str


class Failure(BaseModel):
    """Something that went wrong lately and waits for somebody."""

    kind: str = Field(description="`job` or `destination`")
    subject: str = Field(description="the job's id, or the destination's name")
    since: str
    reason: str


class Overview(BaseModel):
    """How the box stands: what it says of itself, and what its ledger says."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "status": None, "rates": {}, "jobs": {"DONE": 120, "RUNNING": 1},
                    "destinations": [
                        {
                            "name": "PACS@10.0.0.5:104", "state": "idle", "open": 0, "dead": 1, "oldest": None,
                            "reason": "",
                        }
                    ],
                    "failures": [
                        {
                            "kind": "job", "subject": "20260312T171245Z-ProcRSI-7f3a",
                            "since": "2026-03-12T17:20:00.123456+00:00",
                            "reason": "delivery 7 to PACS@10.0.0.5:104 is dead: refused",
                        }
                    ],
                    "empty": False,
                }
            ]
        }
    )  # fmt: skip

    status: Status | None = Field(description="null if the box does not answer")
    rates: dict[str, float] = Field(description="instances a second of each open association, by its id")
    jobs: dict[str, int] = Field(description="how many are in each state")
    destinations: list[Destination]
    failures: list[Failure] = Field(description="at most 20, the newest first")
    empty: bool = Field(description="true if the box has never had a job")


class FirstSteps(BaseModel):
    """What to do with an empty box."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "host": "magickbox.example.org", "port": 11112, "ae_title": "MAGICKBOX", "called": "EXAMPLE",
                    "commands": ["magickbox send magickbox.example.org 11112 FOLDER --called EXAMPLE"],
                    "processor": False, "rule": '{ "routing": [] }', "has_rules": False,
                }
            ]
        }
    )  # fmt: skip

    host: str = Field(description="where senders reach the box")
    port: int
    ae_title: str
    called: str = Field(description="the called AE title of the example")
    commands: list[str] = Field(description="each sends a folder of images")
    processor: bool = Field(description="true if the example processor is there and switched on")
    rule: str = Field(description="a routing.json that keeps its results in a folder")
    has_rules: bool
