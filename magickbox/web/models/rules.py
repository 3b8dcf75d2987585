"""The rules, drafts of them and their history, as the API has them."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from magickbox.rules.file import LARGEST

Text = Annotated[str, Field(max_length=LARGEST, description="the whole routing file, as docs/routing.md describes it")]
State = Annotated[
    str, Field(max_length=64, description="`state` of the rules that were loaded; saving is refused if it is another")
]

_DRAFT = '{ "routing": [ { "name": "all to the PACS", "send": [ { "success": { "to": "pacs" } } ] } ] }'


_VERSION: dict[str, JsonValue] = {
    "id": "20261122T010203000000Z-0123456789ab", "at": "2026-11-22T01:02:03Z", "who": "anna",
    "how": "saved: the PACS has moved", "digest": "0123456789ab", "size": len(_DRAFT),
}  # fmt: skip


class FindingModel(BaseModel):
    """Something wrong with a text of rules, or unwise in one that can be used (`warning`)."""

    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={
            "examples": [
                {
                    "line": 2, "column": 17, "where": "routing[0].sent", "said": "unknown key, did you mean 'send'?",
                    "warning": False,
                }
            ]
        },
    )  # fmt: skip

    line: int
    column: int
    where: str
    said: str
    warning: bool


class EntryModel(BaseModel):
    """Where a rule sends, in words."""

    model_config = ConfigDict(from_attributes=True)

    when: str = Field(description="the outcome that it wants")
    what: str
    to: str
    then: str


class RuleModel(BaseModel):
    """A rule in words; `off` names what switches it off."""

    model_config = ConfigDict(from_attributes=True)

    name: str
    off: str
    jobs: str
    entries: list[EntryModel]
    more: list[str]


class RulesModel(BaseModel):
    """The routing file, and what of it is in force: its last good content if it has errors now."""

    text: str
    state: str
    file: str
    usable: bool
    findings: list[FindingModel]
    rules: list[RuleModel] = Field(description="those in force, in the order in which they are looked at")
    destinations: list[str] = Field(description="the names that entries can send to")


class Draft(BaseModel):
    """A text of rules that is not saved."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"text": _DRAFT}]})

    text: Text


class CheckedModel(BaseModel):
    """What is wrong with a draft; `rules` is what it says, if it can be used."""

    usable: bool
    findings: list[FindingModel]
    rules: list[RuleModel]


class TryDraft(Draft):
    """A draft that is to be tried on the last jobs."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"text": _DRAFT, "jobs": 20}]})

    jobs: int = Field(20, ge=1, le=100)


class SendingModel(BaseModel):
    """What goes where: `after` must fail first, `held` says why a check of the rule holds it back."""

    model_config = ConfigDict(from_attributes=True)

    rule: str
    to: str
    instances: int
    after: str
    held: str
    priority: str


class TriedJob(BaseModel):
    """What a draft would do with a job: what stays as it is now, what is no longer sent, and what is sent anew."""

    job: str
    born: datetime
    called_ae: str
    calling_ae: str
    outcome: str | None
    changes: bool
    same: list[SendingModel]
    gone: list[SendingModel]
    new: list[SendingModel]
    why: list[str]
    skipped: str = Field(description="why the job was not looked at; empty if it was")


class TriedModel(BaseModel):
    """A draft tried on the last jobs, newest first."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"changed": 0, "unchanged": 20, "skipped": 0, "jobs": []}]}
    )  # fmt: skip

    changed: int
    unchanged: int
    skipped: int
    jobs: list[TriedJob]


class SaveDraft(Draft):
    """A draft that is to come into force."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"text": _DRAFT, "state": "absent", "comment": "the PACS has moved"}]}
    )

    state: State
    comment: str = Field("", max_length=150, description="why, for the history")


class ReturnTo(BaseModel):
    """That an old version is to come into force again."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"state": "absent"}]})

    state: State


class SavedModel(BaseModel):
    """What was saved; `version` is null if the file said the same already."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"version": "20261122T010203000000Z-0123456789ab", "state": "0123456789ab"}]}
    )  # fmt: skip

    version: str | None
    state: str


class VersionModel(BaseModel):
    """A set of rules that was in force from then on; `who` is empty if it was found in the file."""

    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={"examples": [_VERSION]},
    )  # fmt: skip

    id: str
    at: datetime
    who: str
    how: str
    digest: str
    size: int


class WholeVersion(VersionModel):
    """The same with its text."""

    model_config = ConfigDict(json_schema_extra={"examples": [{**_VERSION, "text": _DRAFT}]})

    text: str


class LineModel(BaseModel):
    """A line of a comparison: of both, only of the old one (`gone`), only of the new one, or left out between."""

    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={"examples": [{"kind": "new", "text": "  \"routing\": []", "old": None, "new": 2}]}
    )  # fmt: skip

    kind: Literal["same", "gone", "new", "gap"]
    text: str
    old: int | None
    new: int | None
