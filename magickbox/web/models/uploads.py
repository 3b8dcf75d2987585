"""Uploads, as the API has them."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class NewUpload(BaseModel):
    """What an upload is for."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"called_ae": "ProcRSI"}]})

    called_ae: str = Field(min_length=1, max_length=16, description="the called AE title: which processor gets it")


class UploadResult(BaseModel):
    """What came of one file."""

    name: str
    what: Literal["stored", "refused", "skipped"] = Field(
        description="stored by the box; refused by it; or not sent, since it is no DICOM file"
    )
    why: str


class UploadView(BaseModel):
    """An upload. It is over in the states ``done`` and ``ended``."""

    model_config = ConfigDict(json_schema_extra={"examples": [{
        "id": "5f0c6a1e9b2d4c77", "called_ae": "ProcRSI", "state": "sending", "files": 120, "bytes": 63000000,
        "total": 120, "stored": 40, "refused": 0, "skipped": 1, "problem": "",
        "results": [{"name": "README.txt", "what": "skipped", "why": "no DICM prefix: this is not a DICOM file"}],
        "next": 41,
    }]})  # fmt: skip

    id: str
    called_ae: str
    state: Literal["receiving", "waiting", "unpacking", "sending", "done", "ended"]
    files: int = Field(description="files that have come, a zip being one")
    bytes: int
    total: int = Field(description="files that there are to send, those of zips too; 0 until that is known")
    stored: int
    refused: int
    skipped: int
    problem: str = Field(description="what ended it before all was sent")
    results: list[UploadResult] = Field(description="from `after` on, 500 at most")
    next: int = Field(description="what `after` must be for the results that come next")
