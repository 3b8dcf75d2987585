"""Log in, log out, and set a password by a one-time link."""

from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse, Response

from magickbox.errors import ConfigError, NotFound
from magickbox.web.context import Context, context
from magickbox.web.pages.frame import render
from magickbox.web.problems import Problem
from magickbox.web.security import In, Viewer, address, cookie_name, from_elsewhere, identified
from magickbox.web.users import User, ended_words

router = APIRouter(include_in_schema=False)

Text = Annotated[str, Form(max_length=300)]


def _safe_next(target: str) -> str:
    """A path of ours, or the first page: never another site."""
    plain = target.startswith("/") and not target.startswith("//") and "\\" not in target and target.isprintable()
    return target if plain else "/"


def _refuse_others(request: Request) -> None:
    """Raise Problem 403 for a form of another site, which would log somebody in as one whom that site has chosen."""
    if from_elsewhere(request):
        raise Problem(403, "Forbidden", "this was sent from another site; load the page again and send it from there")


@router.get("/login")
async def login_page(request: Request, next: str = "/") -> Response:  # the word in the address
    if await identified(request) is not None:
        return RedirectResponse(_safe_next(next), 303)
    has_users = bool(await run_in_threadpool(context(request).accounts.users.listing))
    return render(request, "login.html", None, target=_safe_next(next), name="", said="", has_users=has_users)


@router.post("/login")
def login(request: Request, box: In, name: Text = "", password: Text = "", next: Text = "/") -> Response:
    _refuse_others(request)
    target, where = _safe_next(next), address(request)
    with box.accounts.throttle.turn(name, where) as wait:
        user = None if wait > 0 else _proved(box, name, password, where)
    if wait > 0:
        said = f"too many log-ins have failed; wait {wait:.0f} s"
        return _again(request, target, name, said, 429, {"Retry-After": f"{wait:.0f}"})
    if user is None:
        return _again(request, target, name, "name or password is wrong", 401)
    return _begun(request, box, user.name, target, "login")


def _proved(box: Context, name: str, password: str, where: str) -> User | None:
    user = box.accounts.users.is_password(name, password)
    if user is None:
        box.accounts.throttle.failed(name, where)
        box.accounts.audit.note(name, "page", where, "login", "", "refused: name or password is wrong")
    else:
        box.accounts.throttle.succeeded(name, where)
    return user


def _again(
    request: Request, target: str, name: str, said: str, status: int, headers: dict[str, str] | None = None
) -> Response:
    page = render(request, "login.html", None, status, target=target, name=name, said=said, has_users=True)
    page.headers.update(headers or {})
    return page


def _begun(request: Request, box: Context, name: str, target: str, action: str, result: str = "done") -> Response:
    """A session has begun: its cookie, and on to the page."""
    where = address(request)
    box.accounts.audit.note(name, "page", where, action, "", result)
    answer = RedirectResponse(target, 303)
    answer.set_cookie(
        cookie_name(request), box.accounts.sessions.begin(name, where), httponly=True, samesite="lax",
        secure=request.url.scheme == "https", path="/",
    )  # fmt: skip
    return answer


@router.post("/logout")
def logout(request: Request, box: In, who: Viewer) -> Response:
    box.accounts.sessions.end(request.cookies.get(cookie_name(request), ""))
    box.accounts.audit.note(who.name, who.via, address(request), "logout", "", "done")
    answer = RedirectResponse("/login", 303)
    answer.delete_cookie(cookie_name(request), path="/", secure=request.url.scheme == "https", httponly=True)
    return answer


@router.get("/setup/{secret}")
def setup_page(request: Request, box: In, secret: str) -> Response:
    whose = _whose(box, secret)
    return render(request, "setup.html", None, secret=secret, whose=whose, name="", said="")


@router.post("/setup/{secret}")
def setup(request: Request, box: In, secret: str, name: Text = "", password: Text = "", again: Text = "") -> Response:
    _refuse_others(request)
    whose = _whose(box, secret)
    try:
        if password != again:
            raise ConfigError("the two passwords are not the same")
        user, ended = box.accounts.users.use_link(secret, name, password)
    except (ConfigError, NotFound) as exc:
        return render(request, "setup.html", None, 422, secret=secret, whose=whose, name=name, said=str(exc))
    action = "set-up" if whose == "" else "password by link"
    return _begun(request, box, user.name, "/", action, ended_words(ended))


def _whose(box: Context, secret: str) -> str:
    whose = box.accounts.users.of_link(secret)
    if whose is None:
        raise Problem(404, "This link is over", "it was used, or is too old; 'magickbox users link' makes another")
    return whose
