"""What stands before the app: which hosts it answers for, how much it reads, and the headers on all it says.

Plain ASGI, so that what is streamed stays streamed.
"""

import asyncio
import ipaddress
import json
import socket
import time
from collections.abc import Iterable, Mapping
from typing import Any

from fastapi import HTTPException
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

BODY = 1 << 20
PATIENCE, SLOWEST = 60.0, 1024  # seconds to wait for a body, and one more for so many bytes of it
_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; font-src 'self';"
    " connect-src 'self'; worker-src 'self'; manifest-src 'self'; form-action 'self'; base-uri 'none';"
    " frame-ancestors 'none'"
)
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": _CSP,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # with none at all our own forms would come from an Origin of null
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


def known_hosts(named: Iterable[str] = ()) -> frozenset[str]:
    """The host names under which the page may be asked for, beside every plain IP address."""
    own = {socket.gethostname(), socket.getfqdn(), "localhost"}
    return frozenset(name.casefold() for name in (*own, *named))


def is_known(host: str, hosts: frozenset[str]) -> bool:
    """True for a Host header that names this machine: a page of a stranger's name that leads here is not answered."""
    name = host.casefold().strip()
    name = name[1 : name.find("]")] if name.startswith("[") else name.partition(":")[0]
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name.rstrip(".") in hosts
    return True


class Shield:
    """Middleware. ``bodies`` are the longest bodies by the beginning of a path, where they may be longer than usual."""

    def __init__(self, app: ASGIApp, hosts: frozenset[str], bodies: Mapping[str, int], secure: bool) -> None:
        self._app, self._hosts, self._bodies = app, hosts, bodies
        self._headers = dict(HEADERS) | ({"Strict-Transport-Security": "max-age=31536000"} if secure else {})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or have it answered."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        told = self._dressed(send)
        headers = Headers(scope=scope)
        if not is_known(headers.get("host", ""), self._hosts):
            await _refuse(told, 421, "Misdirected Request", "this name is not one of the box's; see web_names")
            return
        most = self._longest(scope["path"])
        length = headers.get("content-length", "")
        if length.isdigit() and int(length) > most:
            await _refuse(told, 413, "Content Too Large", f"at most {most} bytes")
            return
        await self._app(scope, _bounded(receive, most), told)

    def _longest(self, path: str) -> int:
        return max((most for start, most in self._bodies.items() if path.startswith(start)), default=BODY)

    def _dressed(self, send: Send) -> Send:
        async def dressed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        return dressed


def _bounded(receive: Receive, most: int) -> Receive:
    """What comes, no more than ``most`` bytes and not too slowly; after the body, it is waited for without an end."""
    read, waited, whole = 0, 0.0, False

    async def bounded() -> Message:
        nonlocal read, waited, whole
        if whole:
            return await receive()
        began = time.monotonic()
        try:
            async with asyncio.timeout(max(0.0, PATIENCE + read / SLOWEST - waited)):
                message = await receive()
        except TimeoutError:
            raise HTTPException(408) from None
        waited += time.monotonic() - began
        read += len(message.get("body", b""))
        whole = not message.get("more_body", False)
        if read > most:
            raise HTTPException(413)  # the one kind that FastAPI lets pass while it reads a body
        return message

    return bounded


async def _refuse(send: Send, status: int, title: str, detail: str) -> None:
    body: dict[str, Any] = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    headers = [(b"content-type", b"application/problem+json"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(body).encode()})
