"""The rules: as they are, as a draft, tried on the last jobs, saved, and as they were."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from magickbox.job import Job
from magickbox.rehearsal import Rehearsal, Rehearsed, last_jobs
from magickbox.routing import Rules
from magickbox.rules.check import Finding, schema
from magickbox.rules.file import RulesRefused, findings, load
from magickbox.rules.history import RuleHistory, TooLong, compare
from magickbox.rules.saving import FileChanged, RuleFile
from magickbox.rules.words import in_words
from magickbox.web.acting import note
from magickbox.web.context import Context
from magickbox.web.models.rules import (
    CheckedModel,
    Draft,
    EntryModel,
    FindingModel,
    LineModel,
    ReturnTo,
    RuleModel,
    RulesModel,
    SavedModel,
    SaveDraft,
    SendingModel,
    TriedJob,
    TriedModel,
    TryDraft,
    VersionModel,
    WholeVersion,
)
from magickbox.web.paging import Cursor, Limit, Page, cursor_of, place_of
from magickbox.web.principal import Principal
from magickbox.web.problems import Problem
from magickbox.web.security import Admin, In, Operator, Viewer

router = APIRouter(prefix="/rules", tags=["rules"])

FILE = "file"
MOST_FINDINGS = 200
_SCHEMA: dict[str, Any] = {"content": {"application/json": {"example": {"type": "object", "properties": {}}}}}


def rule_file(box: Context) -> RuleFile:
    """The routing file of the box, with its history."""
    return RuleFile(
        box.places.routing, RuleHistory(box.data.rule_history), box.settings.me, box.settings.me_port
    )  # fmt: skip


def in_force(box: Context) -> Rules:
    """What the box goes by: the file, or its last good content if it cannot be used."""
    for path in (box.places.routing, box.data.last_good_rules):
        try:
            return load(path, box.settings.me, box.settings.me_port)
        except (RulesRefused, OSError):
            continue
    return Rules()


def found_in(box: Context, text: str) -> list[Finding]:
    """What is wrong with a text, or unwise in it; bounded."""
    return findings(text, box.settings.me, box.settings.me_port)[:MOST_FINDINGS]


def _told(rules: Rules) -> list[RuleModel]:
    return [
        RuleModel(
            name=words.name, off=words.off, jobs=words.jobs, more=list(words.more),
            entries=[EntryModel.model_validate(each) for each in words.entries],
        )
        for words in map(in_words, rules.rules)
    ]  # fmt: skip


@router.get("", summary="The rules: the file, what is wrong with it, and what is in force")
def read_rules(box: In, _who: Viewer) -> RulesModel:
    found, rules = rule_file(box).found(), in_force(box)
    wrong = found_in(box, found.text)
    return RulesModel(
        text=found.text, state=found.state, file=str(box.places.routing),
        usable=not any(not each.warning for each in wrong), rules=_told(rules),
        findings=[FindingModel.model_validate(each) for each in wrong],
        destinations=[*rules.destinations, *rules.groups],
    )  # fmt: skip


@router.get("/schema", summary="The JSON Schema of the routing file", responses={200: _SCHEMA})
def read_schema(_who: Viewer) -> dict[str, Any]:
    return dict(schema())


@router.post("/check", summary="What is wrong with a draft")
def check_draft(box: In, _who: Operator, draft: Draft) -> CheckedModel:
    with box.workbench.checks.one():
        wrong = found_in(box, draft.text)
        usable = not any(not each.warning for each in wrong)
        rules = _told(rule_file(box).check(draft.text)) if usable else []
    return CheckedModel(
        usable=usable, findings=[FindingModel.model_validate(each) for each in wrong], rules=rules
    )  # fmt: skip


@router.post("/try", summary="What a draft would do with the last jobs; nothing is saved, nothing is sent")
def try_draft(box: In, who: Operator, draft: TryDraft) -> TriedModel:
    rules, force = _usable(box, draft.text), in_force(box)
    if not who.sees_names:
        _asks_for_no_names(rules, force)
    with box.workbench.rehearsals.one():
        with box.ledger.reading() as tx:
            found = last_jobs(tx, draft.jobs, force, rules)
        rehearsal = Rehearsal(force, rules, lambda job: box.data.jobs / job, who.sees_names)
        tried = [_tried(each) for each in rehearsal.of(found)]
    changed, skipped = sum(each.changes for each in tried), sum(bool(each.skipped) for each in tried)
    return TriedModel(changed=changed, skipped=skipped, unchanged=len(tried) - changed - skipped, jobs=tried)


def _asks_for_no_names(rules: Rules, force: Rules) -> None:
    """Raise Problem 403 for rules of one's own that look at who the patient is: what they would send says it."""
    for rule in (each for each in rules.rules if each not in force.rules):
        tests = (test for endpoint in rule.endpoints for each in endpoint.filters for test in each.tests)
        named = next((test.tag for test in tests if test.tag.names_the_patient), None)
        if named is not None:
            said = f"rule '{rule.name}' looks at {named}, which tells who the patient is; your role does not see names"
            raise Problem(403, "Forbidden", said)


def _usable(box: Context, text: str) -> Rules:
    """The rules of a text; raises Problem 422 with all that is wrong."""
    try:
        return rule_file(box).check(text)
    except RulesRefused as exc:
        wrong = [FindingModel.model_validate(each).model_dump() for each in found_in(box, text)]
        raise Problem(422, "These rules have errors", str(exc), findings=wrong) from exc


def _tried(one: Rehearsed) -> TriedJob:
    job: Job = one.job
    parts = {
        part: [SendingModel.model_validate(each) for each in getattr(one, part)] for part in ("same", "gone", "new")
    }
    return TriedJob(
        job=job.id, born=job.born, called_ae=job.called_ae, calling_ae=job.calling_ae, outcome=job.outcome,
        changes=one.changes, why=list(one.why), skipped=one.skipped, **parts,
    )  # fmt: skip


@router.put("", summary="Save rules: they come into force at once. Refused if they have errors, or the file changed")
def save_rules(request: Request, box: In, who: Admin, draft: SaveDraft) -> SavedModel:
    how = f"saved: {draft.comment}" if draft.comment.strip() else "saved"
    return _save(request, box, who, draft.text, draft.state, how)


@router.post("/history/{version}/return", summary="Bring an old version into force again")
def return_to(request: Request, box: In, who: Admin, version: str, wanted: ReturnTo) -> SavedModel:
    history = rule_file(box).history
    old = history.get(version)
    return _save(request, box, who, history.text(version), wanted.state, f"returned to that of {old.at:%Y-%m-%d %H:%M}")


def _save(request: Request, box: Context, who: Principal, text: str, state: str, how: str) -> SavedModel:
    """Save and write down who did; raises Problem 409, 422 or 507."""
    file = rule_file(box)
    _usable(box, text)
    try:
        version = file.save(text, state, who.name, how)
    except FileChanged as exc:
        note(request, who, "rules", how, "refused: the file was changed meanwhile")
        raise Problem(409, "Changed by somebody else", str(exc), state=exc.now) from exc
    except OSError as exc:
        note(request, who, "rules", how, f"failed: {exc.strerror}")
        raise Problem(507, "The rules cannot be written", f"{file.path}: {exc.strerror}") from exc
    note(request, who, "rules", how, version.id if version else "the file said so already")
    return SavedModel(version=version.id if version else None, state=file.found().state)


@router.get("/history", summary="Every set of rules that was in force, newest first")
def read_history(box: In, _who: Viewer, limit: Limit = 50, cursor: Cursor = None) -> Page[VersionModel]:
    versions = rule_file(box).history.versions()
    if cursor is not None:
        (before,) = place_of(cursor)
        versions = [each for each in versions if each.id < before]
    items = [VersionModel.model_validate(each) for each in versions[:limit]]
    return Page(items=items, next=cursor_of(items[-1].id) if len(versions) > limit else None)


@router.get("/history/{version}", summary="One of them, with its text")
def read_version(box: In, _who: Viewer, version: str) -> WholeVersion:
    history = rule_file(box).history
    found = VersionModel.model_validate(history.get(version))
    return WholeVersion(**found.model_dump(), text=history.text(version))


Which = Annotated[str, Query(max_length=64, description="a version, or `file` for the routing file as it is now")]


@router.get("/compare", summary="What differs between two versions; no lines if nothing does", responses={404: {}})
def compare_versions(box: In, _who: Viewer, old: Which, new: Which = FILE) -> list[LineModel]:
    return _compared(_text(box, old), _text(box, new))


@router.post("/compare", summary="What differs between the file as it is now and a draft")
def compare_draft(box: In, _who: Operator, draft: Draft) -> list[LineModel]:
    return _compared(_text(box, FILE), draft.text)


def _text(box: Context, which: str) -> str:
    return rule_file(box).found().text if which == FILE else rule_file(box).history.text(which)


def _compared(old: str, new: str) -> list[LineModel]:
    try:
        return [LineModel.model_validate(each) for each in compare(old, new)]
    except TooLong as exc:
        raise Problem(422, "Too long to be compared", str(exc)) from exc
