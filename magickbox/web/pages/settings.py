"""The page of the settings: what is edited here, and all others with their sources."""

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response

from magickbox.errors import ConfigError
from magickbox.web.api import settings
from magickbox.web.context import Context
from magickbox.web.models.settings import Setting
from magickbox.web.pages.frame import render
from magickbox.web.principal import Principal
from magickbox.web.problems import Problem
from magickbox.web.security import Admin, In, Viewer

router = APIRouter(include_in_schema=False)
GROUPS = (
    (
        "PACS and AE title",
        "The default PACS stands behind $me and $port in the rules.",
        ("me", "me_port", "ae_title"),
    ),
    ("How long jobs stay", "Such as 14 days, 12 h, for ever.", ("keep_done", "keep_unrouted")),
    (
        "Alarms",
        "Who is told of jobs in ATTENTION, of destinations that do not answer and of a full disk. A program that is"
        " told (alarm_command) is set in the file only.",
        ("alarm_webhook", "alarm_after", "alarm_pause"),
    ),
)
LABELS = {
    "me": "Host of the PACS", "me_port": "Its port", "ae_title": "AE title of the box", "keep_done": "Delivered jobs",
    "keep_unrouted": "Jobs that go nowhere", "alarm_webhook": "Webhook", "alarm_after": "Told after",
    "alarm_pause": "Told again after",
}  # fmt: skip


@router.get("/settings")
def settings_page(request: Request, box: In, who: Viewer) -> Response:
    return _page(request, box, who)


def _page(
    request: Request, box: Context, who: Principal, said: str = "", wrong: str = "",
    given: dict[str, str] | None = None, status: int = 200,
) -> Response:  # fmt: skip
    found = settings.shown(box)
    items = {each.name: each for each in found.items}
    waiting = [each for each in found.items if each.waiting is not None]
    return render(
        request, "settings.html", who, status, found=found, items=items, waiting=waiting, groups=GROUPS, labels=LABELS,
        said=said, wrong=wrong, given=given or {},
    )  # fmt: skip


@router.post("/settings")
async def save(request: Request, box: In, who: Admin) -> Response:
    given = {name: str(value).strip() for name, value in (await request.form()).items() if name in LABELS}
    return await run_in_threadpool(_save, request, box, who, given)


def _save(request: Request, box: Context, who: Principal, given: dict[str, str]) -> Response:
    before = {each.name: each for each in settings.shown(box).items}
    values = {name: _as_toml(name, text) for name, text in given.items() if _differs(before[name], text)}
    if not values:
        return _page(request, box, who, said="Nothing was changed.")
    try:
        changed = settings.change(request, box, who, values)
    except (ConfigError, Problem) as exc:
        return _page(request, box, who, wrong=str(exc), given=given, status=422)
    told = [f"in force: {', '.join(changed.taken_up)}"] if changed.taken_up else []
    told += [f"from the next start on: {', '.join(changed.waiting)}"] if changed.waiting else []
    return _page(request, box, who, said=f"Saved; {'; '.join(told) or 'nothing is different'}.")


def _differs(before: Setting, text: str) -> bool:
    shown = before.waiting or before.value
    if before.source == "default" and before.waiting is None:
        return text not in ("", before.default)
    return text != shown


def _as_toml(name: str, text: str) -> str | int | None:
    """A field's text as the file has it: a number as a number; nothing for an empty one."""
    if not text:
        return None
    return int(text) if text.isascii() and text.isdigit() and name != "ae_title" else text
