"""The pages of accounts: one's own password and tokens, the users, the audit."""

from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response

from magickbox.errors import ConfigError, ForbiddenMove, NotFound
from magickbox.web.acting import note
from magickbox.web.api import audit, tokens, users
from magickbox.web.context import Context
from magickbox.web.models.accounts import LinkOut, NewToken, RoleIn, Scope
from magickbox.web.pages.frame import render
from magickbox.web.paging import USUAL, Cursor
from magickbox.web.principal import Principal, Role
from magickbox.web.security import Admin, In, Viewer, address, cookie_name
from magickbox.web.tokens import SCOPES
from magickbox.web.users import ended_words

router = APIRouter(include_in_schema=False)
Text = Annotated[str, Form(max_length=300)]


@router.get("/account")
def account(request: Request, box: In, who: Viewer) -> Response:
    return _account(request, box, who)


def _account(
    request: Request, box: Context, who: Principal, said: str = "", made: str = "", status: int = 200
) -> Response:
    mine = [token for token in tokens.list_tokens(box, who).items if token.user == who.name]
    scopes = [scope for scope, role in SCOPES.items() if role <= who.role]
    return render(request, "account.html", who, status, tokens=mine, scopes=scopes, said=said, made=made)


@router.post("/account/password")
def change_password(
    request: Request, box: In, who: Viewer, old: Text = "", password: Text = "", again: Text = "", keep: Text = ""
) -> Response:
    where = address(request)
    with box.accounts.throttle.turn(who.name, where) as wait:
        right = wait <= 0 and box.accounts.users.is_password(who.name, old) is not None
        if wait <= 0 and not right:
            box.accounts.throttle.failed(who.name, where)
    if wait > 0:
        return _account(request, box, who, f"too many tries; wait {wait:.0f} s", status=429)
    if not right:
        return _account(request, box, who, "the old password is wrong", status=422)
    try:
        if password != again:
            raise ConfigError("the two new passwords are not the same")
        ended = box.accounts.users.set_password(who.name, password, keep_tokens=keep == "tokens")
    except ConfigError as exc:
        return _account(request, box, who, str(exc), status=422)
    note(request, who, "change password", who.name, ended_words(ended))
    answer = RedirectResponse("/account?changed=1", 303)
    answer.set_cookie(
        cookie_name(request), box.accounts.sessions.begin(who.name, where), httponly=True, samesite="lax",
        secure=request.url.scheme == "https", path="/",
    )  # fmt: skip
    return answer


@router.post("/account/tokens")
def make_token(
    request: Request, box: In, who: Viewer, label: Text = "", scope: Annotated[Scope, Form()] = "read", days: Text = ""
) -> Response:
    try:
        lasts = int(days) if days.strip().isdecimal() and 1 <= int(days) <= 3660 else None
        made = tokens.make_token(request, box, who, NewToken(label=label[:80], scope=scope, days=lasts))
    except ConfigError as exc:
        return _account(request, box, who, str(exc), status=422)
    return _account(request, box, who, made=made.token)


@router.post("/account/tokens/{number}/revoke")
def revoke_token(request: Request, box: In, who: Viewer, number: int) -> Response:
    tokens.revoke_token(request, box, who, number)
    return RedirectResponse("/account", 303)


@router.get("/users")
def users_page(request: Request, box: In, who: Admin) -> Response:
    return _users(request, box, who)


def _users(
    request: Request, box: Context, who: Principal, said: str = "", link: LinkOut | None = None, status: int = 200
) -> Response:
    base = str(request.base_url).rstrip("/")
    all_tokens = tokens.list_tokens(box, who).items
    values = {"users": users.list_users(box).items, "tokens": all_tokens, "roles": [role.word for role in Role]}
    return render(request, "users.html", who, status, said=said, link=link, base=base, **values)


@router.post("/users")
def add_user(request: Request, box: In, who: Admin, name: Text = "", role: Text = "viewer") -> Response:
    try:
        link = users.invite(request, box, who, name.strip(), Role.of(role))
    except (ConfigError, ValueError) as exc:
        return _users(request, box, who, str(exc), status=422)
    return _users(request, box, who, link=link, status=201)


@router.post("/users/{name}/{action}")
def change_user(request: Request, box: In, who: Admin, name: str, action: str, role: Text = "viewer") -> Response:
    try:
        if action == "link":
            return _users(request, box, who, link=users.make_link(request, box, who, name))
        if action == "role":
            users.change_role(request, box, who, name, RoleIn.model_validate({"role": role}))
        elif action == "remove":
            users.remove_user(request, box, who, name)
        else:
            raise NotFound(f"'{action}' is nothing that can be done to a user")
    except ForbiddenMove as exc:
        return _users(request, box, who, str(exc), status=409)
    return RedirectResponse("/users", 303)


@router.get("/audit")
def audit_page(
    request: Request, box: In, who: Admin, who_did: str = "", action: str = "", cursor: Cursor = None
) -> Response:
    found = audit.audit_page(box, who_did[:100], action[:100], USUAL, cursor)
    return render(request, "audit.html", who, page=found, who_did=who_did, action=action)
