"""Destinations and their queues as the API has them."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field, JsonValue

_ONE: dict[str, JsonValue] = {
    "name": "pacs", "kind": "dicom", "where": "PACS@10.0.0.5:104", "state": "UNREACHABLE",
    "since": "2026-11-22T01:02:03Z", "open": 12, "dead": 1,
    "oldest": "2026-11-22T01:02:03Z", "next_try": "2026-11-22T02:02:03Z", "reason": "connection refused",
    "members": [], "in_rules": True, "used": True,
}  # fmt: skip


class DestinationModel(BaseModel):
    """A destination and how its queue stands.

    `state` is RUNNING, PAUSED, DRAINING, UNREACHABLE, UNUSED (nothing was ever to be sent there) or GROUP.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [_ONE]})

    name: str
    kind: str = Field(description="dicom, stow, folder, group; empty if only old deliveries know it")
    where: str
    state: str
    since: datetime | None = None
    open: int = Field(default=0, description="deliveries that are on their way")
    dead: int = Field(default=0, description="deliveries that were given up")
    oldest: datetime | None = Field(default=None, description="when the oldest of those on their way was begun")
    next_try: datetime | None = None
    reason: str = ""
    members: list[str] = Field(default=[], description="of a group")
    in_rules: bool = Field(default=True, description="false if no rule in force names it any more")
    used: bool = Field(default=True, description="false if nothing was ever to be sent there: it has no queue")


class EchoModel(BaseModel):
    """Whether a destination answered, and what it said if it did not well."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"answers": True, "said": "", "seconds": 0.02}]})

    answers: bool
    said: str
    seconds: float


class SentAgain(BaseModel):
    """Dead deliveries that are tried again, those that could not be, and how many there still are."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"again": 12, "refused": [], "left": 0}]})

    again: int
    refused: list[str]
    left: int


class SaidModel(BaseModel):
    """What the box said that it did."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"said": "nothing is sent to pacs until it is resumed"}]})

    said: str
