"""Series, their instances and what can be seen of them, as the API has them."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

KindWord = Literal["image", "document", "report", "other"]
PlaceWord = Literal["input", "output"]


EXAMPLE: dict[str, Any] = {
    "job": "20260312T171200Z-ProcRSI-7f3a",
    "input": {
        "series": [
            {
                "series": "1.2.840.1.2",
                "number": 3,
                "modality": "MR",
                "description": "T1",
                "patient": "hidden",
                "frames": 1,
                "has_pictures": True,
                "instances": [
                    {
                        "instance": "1.2.840.1.2.1",
                        "sop_class": "1.2.840.10008.5.1.4.1.1.4",
                        "number": 1,
                        "frames": 1,
                        "rows": 256,
                        "columns": 256,
                        "kind": "image",
                    }
                ],
            }
        ],
        "unreadable": 0,
        "other": 0,
    },
    "output": {"series": [], "unreadable": 0, "other": 0},
}


class InstanceView(BaseModel):
    """One instance of a series."""

    instance: str = Field(description="its SOP Instance UID; ~2 behind it for a second file of that UID, and so on")
    sop_class: str
    number: int | None
    frames: int
    rows: int
    columns: int
    kind: KindWord = Field(description="what can be seen: frames, a PDF document, a structured report, or nothing")


class SeriesView(BaseModel):
    """One series, its instances in the order in which they are looked at."""

    series: str = Field(description="its Series Instance UID")
    number: int | None
    modality: str
    description: str
    patient: str = Field(description="the patient's name; the word hidden for those who do not see names")
    frames: int
    has_pictures: bool
    instances: list[InstanceView]


class PlaceView(BaseModel):
    """INPUT or OUTPUT of a job."""

    series: list[SeriesView]
    unreadable: int = Field(description="DICOM files whose header cannot be read")
    other: int = Field(description="files that are no DICOM files")


class JobSeries(BaseModel):
    """All series of a job: as received, and as the processor left them."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    job: str
    input: PlaceView
    output: PlaceView


class ReportLine(BaseModel):
    """One item of a structured report's content tree."""

    depth: int
    kind: str = Field(description="its value type, such as TEXT, NUM, CODE, CONTAINER")
    name: str
    value: str


class Report(BaseModel):
    """The content tree of a structured report, each item after the one it belongs to."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"lines": [{"depth": 0, "kind": "NUM", "name": "Diameter", "value": "12 mm"}]}]}
    )  # fmt: skip

    lines: list[ReportLine]
