"""Lines of the box's logs as the API has them."""

from pydantic import BaseModel, ConfigDict, Field


class LogLine(BaseModel):
    """One event."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"at": "2026-03-12T17:13:48.816700+00:00", "level": "INFO", "event": "routed", "facts": "deliveries=1"}
            ]
        }
    )

    at: str
    level: str
    event: str
    facts: str


class LogLines(BaseModel):
    """Some lines, oldest first; ``next`` is the cursor by which one asks for what comes after them."""

    items: list[LogLine]
    next: str = Field(description="what `cursor` must be for what comes next")
