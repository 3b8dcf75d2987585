"""The settings, as the API has them."""

from pydantic import BaseModel, ConfigDict, Field


class Setting(BaseModel):
    """One setting."""

    name: str
    value: str = Field(description="in force now, as people write it; the path of a URL that may be a secret is masked")
    source: str = Field(description="`default`, a line of the file, an environment variable or an option")
    default: str
    meaning: str
    editable: bool = Field(description="true if it can be changed here")
    live: bool = Field(description="true if the box takes a change up at once")
    waiting: str | None = Field(description="what the file says now, if that waits for the next start")


class Settings(BaseModel):
    """All of them."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "file": "/srv/magickbox/magickbox.toml", "problem": None,
                    "items": [
                        {
                            "name": "me", "value": "pacs.example.org", "source": "/srv/magickbox/magickbox.toml:3",
                            "default": "unset", "meaning": "host of the default PACS; stands for $me in routing rules",
                            "editable": True, "live": True, "waiting": None,
                        }
                    ],
                }
            ]
        }
    )  # fmt: skip

    file: str = Field(description="where they are written")
    problem: str | None = Field(description="what is wrong with that file, so that the next start would fail")
    items: list[Setting]


class Changes(BaseModel):
    """What is to be changed: each setting with its new value, as the file has it; null takes it out of the file."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"values": {"me": "pacs.example.org", "me_port": 104}}]})

    values: dict[str, str | int | float | None] = Field(min_length=1, max_length=50)


class Changed(BaseModel):
    """What became of it."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"taken_up": ["me", "me_port"], "waiting": []}]})

    taken_up: list[str] = Field(description="in force now")
    waiting: list[str] = Field(description="in force from the next start on")
