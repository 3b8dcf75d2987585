"""Who asks, and whether that is enough: the dependencies ``viewer``, ``operator`` and ``admin``.

A page logs in and has a session in a cookie; what changes something must then bring the session's CSRF value back. A
program has a token in ``Authorization: Bearer`` and needs none.
"""

import hmac
from collections.abc import Awaitable, Callable
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request
from fastapi.concurrency import run_in_threadpool

from magickbox.web.context import Context, context
from magickbox.web.principal import Principal, Role
from magickbox.web.problems import Problem

__all__ = ["Admin", "In", "Operator", "Principal", "Role", "Viewer", "admin", "operator", "viewer"]

CSRF_HEADER, CSRF_FIELD = "X-CSRF-Token", "csrf"
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")


def cookie_name(request: Request) -> str:
    """One for each port, since cookies are not: two boxes on one machine do not log each other out."""
    port = request.url.port or (443 if request.url.scheme == "https" else 80)
    return f"{'__Host-' if request.url.scheme == 'https' else ''}magickbox-{port}"


def from_elsewhere(request: Request) -> bool:
    """True if a browser says that another site sends this: where there is no session yet whose value a form could have.

    Over http browsers leave Sec-Fetch-Site out, but each tells in Origin who posts (RFC 6454, 7). Who sends neither is
    no browser, and has nobody's cookies.
    """
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site not in ("same-origin", "none")
    origin = request.headers.get("Origin")
    if origin is None:
        return False
    try:
        posting = urlsplit(origin)
    except ValueError:
        return True
    named = {name.casefold() for name in context(request).settings.web_names}  # a proxy may say another Host
    same = bool(posting.netloc) and posting.netloc.casefold() == request.headers.get("Host", "").casefold()
    return not same and posting.hostname not in named


def address(request: Request) -> str:
    """Where a request comes from."""
    return request.client.host if request.client else "?"


async def identified(request: Request) -> Principal | None:
    """Who asks, or None; raises Problem 401 for a token that is none."""
    if not hasattr(request.state, "principal"):
        request.state.principal = await _identify(request)
    found: Principal | None = request.state.principal
    return found


async def _identify(request: Request) -> Principal | None:
    accounts = context(request).accounts
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme:
        found = await run_in_threadpool(accounts.tokens.principal, token) if scheme.casefold() == "bearer" else None
        if found is None:
            raise Problem(401, "Unauthorized", "this token is unknown, revoked or over", {"WWW-Authenticate": "Bearer"})
        return found
    cookie = request.cookies.get(cookie_name(request))
    return await run_in_threadpool(accounts.sessions.principal, cookie) if cookie else None


async def check_csrf(request: Request, who: Principal) -> None:
    """Raise Problem 403 unless a change that a session asks for comes from our own page."""
    if request.method in _SAFE or who.via != "session":
        return
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
        raise Problem(403, "Forbidden", "this was sent from another site")
    given = request.headers.get(CSRF_HEADER)
    in_form = not request.url.path.startswith("/api/") and request.headers.get("Content-Type", "").startswith(_FORMS)
    if given is None and in_form:  # the bodies that the API takes may be many GB: nobody's is read for this
        given = str((await request.form()).get(CSRF_FIELD, ""))
    if not hmac.compare_digest((given or "").encode(), who.csrf.encode()):
        raise Problem(403, "Forbidden", f"the page is too old, or was not ours ({CSRF_HEADER}); load it again")


def _at_least(role: Role) -> Callable[[Request], Awaitable[Principal]]:
    async def depend(request: Request) -> Principal:
        who = await identified(request)
        if who is None:
            raise Problem(401, "Unauthorized", "log in, or send a token", {"WWW-Authenticate": "Bearer"})
        if who.role < role:
            raise Problem(403, "Forbidden", f"this needs the role {role.word}; {who.name} has {who.role.word} here")
        await check_csrf(request, who)
        return who

    return depend


viewer = _at_least(Role.VIEWER)
operator = _at_least(Role.OPERATOR)
admin = _at_least(Role.ADMIN)

Viewer = Annotated[Principal, Depends(viewer)]
Operator = Annotated[Principal, Depends(operator)]
Admin = Annotated[Principal, Depends(admin)]
In = Annotated[Context, Depends(context)]
