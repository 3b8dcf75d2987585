"""The rules: in words, in the editor, and as they were."""

from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import RedirectResponse, Response
from pydantic import ValidationError

from magickbox.web.api import rules as api
from magickbox.web.context import Context
from magickbox.web.models.rules import (
    CheckedModel,
    Draft,
    LineModel,
    ReturnTo,
    RulesModel,
    SaveDraft,
    TriedModel,
    TryDraft,
)
from magickbox.web.pages.frame import render
from magickbox.web.paging import Cursor
from magickbox.web.principal import Principal
from magickbox.web.problems import Problem
from magickbox.web.security import Admin, In, Operator, Viewer

router = APIRouter(include_in_schema=False)

Do = Literal["check", "try", "compare", "save"]
Text = Annotated[str, Form()]
Name = Annotated[str, Query(max_length=64)]


@dataclass(frozen=True)
class Outcome:
    """What came of a button of the editor; ``problem`` if it could not be done."""

    checked: CheckedModel | None = None
    tried: TriedModel | None = None
    compared: list[LineModel] | None = None
    problem: Problem | None = None


@router.get("/rules")
def rules_page(request: Request, box: In, who: Viewer, saved: Name = "") -> Response:
    return render(request, "rules.html", who, rules=api.read_rules(box, who), saved=saved)


@router.get("/rules/edit")
def editor_page(request: Request, box: In, who: Viewer, version: Name = "") -> Response:
    rules = api.read_rules(box, who)
    text = api.read_version(box, who, version).text if version else rules.text
    return _editor(request, who, rules, text, version=version)


def _editor(
    request: Request, who: Principal, rules: RulesModel, text: str, status: int = 200, *,
    outcome: Outcome | None = None, jobs: int = 20, comment: str = "", version: str = "", state: str = "",
) -> Response:  # fmt: skip
    return render(
        request, "rules_edit.html", who, status, rules=rules, text=text, outcome=outcome or Outcome(), jobs=jobs,
        comment=comment, version=version, state=state or rules.state,
    )  # fmt: skip


@router.post("/rules/edit")
def edit(
    request: Request, box: In, who: Operator, do: Annotated[Do, Form()] = "check", text: Text = "", state: Text = "",
    comment: Text = "", jobs: Annotated[int, Form(ge=1, le=100)] = 20,
) -> Response:  # fmt: skip
    text, comment = text.replace("\r\n", "\n"), comment.strip()[:150]
    try:
        if do == "save":
            return _save(request, box, who, text, state, comment)
        outcome, status = _outcome(box, who, do, text, jobs), 200
    except ValidationError as exc:
        raise Problem(422, "Unprocessable Content", "the text is longer than rules may be") from exc
    except Problem as exc:
        if exc.status == 403:
            raise
        outcome, status = Outcome(problem=exc), exc.status
    status = 200 if "HX-Request" in request.headers else status  # htmx shows only what went well
    rules = api.read_rules(box, who)
    return _editor(request, who, rules, text, status, outcome=outcome, jobs=jobs, comment=comment, state=state)


def _outcome(box: Context, who: Principal, do: Do, text: str, jobs: int) -> Outcome:
    if do == "try":
        return Outcome(tried=api.try_draft(box, who, TryDraft(text=text, jobs=jobs)))
    if do == "compare":
        return Outcome(compared=api.compare_draft(box, who, Draft(text=text)))
    return Outcome(checked=api.check_draft(box, who, Draft(text=text)))


def _save(request: Request, box: Context, who: Principal, text: str, state: str, comment: str) -> Response:
    if not who.may_administer:
        raise Problem(403, "Forbidden", f"this needs the role admin; {who.name} has {who.role.word} here")
    saved = api.save_rules(request, box, who, SaveDraft(text=text, state=state, comment=comment))
    return _on(request, f"/rules?saved={saved.version or 'same'}")


def _on(request: Request, target: str) -> Response:
    """On to a page, as a whole also for htmx."""
    if "HX-Request" in request.headers:
        return Response(status_code=204, headers={"HX-Redirect": target})
    return RedirectResponse(target, 303)


@router.get("/rules/history")
def history_page(
    request: Request, box: In, who: Viewer, old: Name = "", new: Name = api.FILE, cursor: Cursor = None
) -> Response:
    lines = api.compare_versions(box, who, old, new) if old else None
    return render(
        request, "rules_history.html", who, versions=api.read_history(box, who, 50, cursor), lines=lines, old=old,
        new=new, state=api.rule_file(box).found().state, is_first=cursor is None,
    )  # fmt: skip


@router.post("/rules/history/{version}/return")
def return_to(request: Request, box: In, who: Admin, version: str, state: Text = "") -> Response:
    saved = api.return_to(request, box, who, version, ReturnTo(state=state[:64]))
    return _on(request, f"/rules?saved={saved.version or 'same'}")
