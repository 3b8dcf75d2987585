"""Deliveries as the API has them."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field, JsonValue

_LINE: dict[str, JsonValue] = {
    "id": 2, "job": "20260312T171245Z-ProcRSI-7f3a", "rule": "Results to the PACS", "entry": 1,
    "destination": "PACS@10.0.0.5:104", "state": "DEAD", "reason": "no connection", "instances": 3,
    "priority": "normal", "tries": 12, "opened": "2026-03-12T17:13:40.000000+00:00", "next_try": None,
    "ended": "2026-03-19T17:13:40.000000+00:00", "waits_for": None,
}  # fmt: skip


class DeliveryModel(BaseModel):
    """The bringing of some of a job's instances to one destination."""

    model_config = ConfigDict(json_schema_extra={"examples": [_LINE]})

    id: int
    job: str
    rule: str
    entry: int = Field(description="which entry of the rule, from 1")
    destination: str
    state: str
    reason: str
    instances: int
    priority: str
    tries: int = Field(description="all attempts that were made")
    opened: datetime | None
    next_try: datetime | None
    ended: datetime | None
    waits_for: int | None


class DeliveryAttemptModel(BaseModel):
    """One try at a delivery."""

    n: int
    began: datetime
    ended: datetime | None
    sent: int
    refused: int
    result: str


class ProofModel(BaseModel):
    """How the destination was asked whether it has everything."""

    how: str
    transaction: str
    asked: datetime
    answered: datetime | None
    state: str
    reason: str


class DeliveryWhole(BaseModel):
    """One delivery with its attempts; its instances are a list of their own."""

    delivery: DeliveryModel
    next: str = Field(description="what happens next; empty if it is over")
    progress: dict[str, int]
    attempts: list[DeliveryAttemptModel]
    proofs: list[ProofModel]


class ItemModel(BaseModel):
    """One instance of a delivery; ``status`` is what the destination said last."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{
            "n": 1, "file": "OUTPUT/000001.dcm", "sop_instance": "1.2.840.1.2.1", "state": "FAILED", "status": "0xA700",
            "reason": "out of resources", "at": "2026-03-12T17:13:41Z",
        }]}
    )  # fmt: skip

    n: int
    file: str
    sop_instance: str
    state: str
    status: str | None
    reason: str
    at: datetime | None
