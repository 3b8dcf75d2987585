"""Connections that keep quiet, and requests that dribble: over real sockets."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx2 as httpx
import pytest
import uvicorn
from fastapi import FastAPI
from starlette.types import Message, Receive, Scope, Send
from webbox import Desk, desk

from magickbox.web import shield
from magickbox.web.patience import SPARE, PatientProtocol

MOST = SPARE + 10
HALF = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX-"


class Impatient(PatientProtocol):
    head = 0.3


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Desk]:
    with desk(tmp_path / "data") as found:
        yield found


@contextmanager
def served(app: FastAPI, protocol: type[PatientProtocol] = PatientProtocol) -> Iterator[int]:
    """The app at a port of this machine."""
    config = uvicorn.Config(
        app, log_config=None, lifespan="off", ws="none", http=protocol, limit_concurrency=MOST, timeout_keep_alive=20
    )
    server = uvicorn.Server(config)
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


def connected(port: int, *, said: bytes) -> socket.socket:
    found = socket.create_connection(("127.0.0.1", port), timeout=30)
    found.sendall(said)
    return found


def test_connections_that_ask_for_nothing_do_not_close_the_window(office: Desk) -> None:
    with served(office.app) as port, ExitStack() as held:
        for _ in range(3 * MOST):
            held.enter_context(connected(port, said=HALF))
        for _ in range(3):
            assert httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == 200


def test_a_head_that_does_not_come_to_its_end_is_not_waited_for(office: Desk) -> None:
    with served(office.app, Impatient) as port:
        for said in (b"", HALF):
            with connected(port, said=said) as slow:
                assert slow.recv(100) == b""
        with connected(port, said=HALF + b"A: 1\r\n\r\n") as second:  # also the second on a connection
            assert b"200 OK" in second.recv(10_000)
            second.sendall(HALF)
            while second.recv(10_000):
                pass


def test_a_body_that_dribbles_is_not_waited_for(office: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shield, "PATIENCE", 0.3)
    head = b"POST /login HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    with served(office.app) as port, connected(port, said=head + b"Content-Length: 9\r\n\r\nname") as slow:
        assert b" 408 " in slow.recv(10_000)


def test_who_waits_for_the_end_of_a_stream_is_not_taken_for_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shield, "PATIENCE", 0.0)
    said: Iterator[Message] = iter([{"type": "http.request"}, {"type": "http.disconnect"}])
    heard: list[Message] = []

    async def receive() -> Message:
        if heard:
            await asyncio.sleep(0.05)  # longer than a body would be waited for
        return next(said)

    async def listens(scope: Scope, receive: Receive, send: Send) -> None:
        heard.append(await receive())
        heard.append(await receive())

    async def send(message: Message) -> None:
        raise AssertionError(message)

    scope = {"type": "http", "path": "/", "headers": [(b"host", b"127.0.0.1")]}
    asyncio.run(shield.Shield(listens, frozenset(), {}, secure=False)(scope, receive, send))
    assert [each["type"] for each in heard] == ["http.request", "http.disconnect"]
