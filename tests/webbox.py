"""The window for tests: its app in this process over a prepared data folder, or a real ``magickbox serve`` beside it.

``desk(root)`` is quick and has no box: what asks the box answers 503, unless one runs on ``root`` (see boxprocess).
``serving(root)`` starts a real box with its window. Both give clients that are logged in, one for each role.
"""

import os
import re
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx2 as httpx
from fastapi import FastAPI
from starlette.testclient import TestClient

from magickbox.config import load
from magickbox.datafolder import DataFolder
from magickbox.ledger import Ledger
from magickbox.service import Places
from magickbox.web.accounts import accounts_of, open_store
from magickbox.web.app import create_app
from magickbox.web.context import Context, build_context
from magickbox.web.principal import Role
from magickbox.web.start import Start

PASSWORD = "right horse battery"
NAMES = {Role.VIEWER: "vera", Role.OPERATOR: "otto", Role.ADMIN: "anna"}


def add_people(state: Path) -> None:
    """One user of each role, all with PASSWORD."""
    store = open_store(state)
    users = accounts_of(store).users
    for role, name in NAMES.items():
        users.add(name, role, PASSWORD)
    store.close()


def csrf_of(client: httpx.Client) -> str:
    """The value that changes must bring back, as the page has it."""
    found = re.search(r'<meta name="csrf" content="(\w*)">', client.get("/").text)
    assert found
    return found[1]


def log_in(client: httpx.Client, role: Role) -> httpx.Client:
    """Log a client in; from then on it sends the CSRF value with each request, as app.js does."""
    answer = client.post("/login", data={"name": NAMES[role], "password": PASSWORD}, follow_redirects=False)
    assert answer.status_code == 303, answer.text
    client.headers["X-CSRF-Token"] = csrf_of(client)
    return client


@dataclass
class Desk:
    """An app and its context, with clients."""

    app: FastAPI
    context: Context
    clients: list[TestClient] = field(default_factory=list)

    def client(self, role: Role | None = None, *, raising: bool = True) -> TestClient:
        """A client: logged in, or nobody's. Unless ``raising``, what the app raises is a 500."""
        made = TestClient(self.app, "http://127.0.0.1:8080", raise_server_exceptions=raising, follow_redirects=False)
        self.clients.append(made)
        if role is not None:
            log_in(made, role)
        return made


@contextmanager
def desk(root: Path, people: bool = True, **settings: str | int | float) -> Iterator[Desk]:
    """The app over ``root``, which is made if it is not there; ``settings`` as on the command line."""
    data = DataFolder(root)
    data.prepare()
    Ledger(data.ledger).close()
    (root / "processors").mkdir(exist_ok=True)
    places = Places(data, root / "routing.json", root / "processors")
    start = Start(places, root / "magickbox.toml", load(None, {}, settings))
    if people:
        add_people(data.state)
    context = build_context(start)
    found = Desk(create_app(context), context)
    try:
        yield found
    finally:
        for client in found.clients:
            client.close()
        context.close()


@dataclass
class Serving:
    """A running ``magickbox serve``: its DICOM port, its window, and what it has printed."""

    root: Path
    port: int
    address: str
    process: subprocess.Popen[str]
    said: deque[str]
    clients: list[httpx.Client] = field(default_factory=list)

    def client(self, role: Role | None = None) -> httpx.Client:
        """A client: logged in, or nobody's."""
        made = httpx.Client(base_url=self.address, timeout=20, verify=False)
        self.clients.append(made)
        return made if role is None else log_in(made, role)


@contextmanager
def serving(root: Path, *options: str, people: bool = True, window: bool = True) -> Iterator[Serving]:
    """A real box on free ports; ``window`` waits for its page. It ends with SIGTERM, which must go well."""
    data = DataFolder(root)
    data.prepare()
    (root / "processors").mkdir(exist_ok=True)
    if people:
        add_people(data.state)
    command = [sys.executable, "-m", "magickbox.cli.main", "serve", "--data", str(root), "--host", "127.0.0.1"]
    command += ["--port", "0", "--web-port", "0", "--settle", "0", "--min-free", "0", "--receivers", "0"]
    command += ["--processors", str(root / "processors"), *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ)
    said: deque[str] = deque(maxlen=1000)
    heard = threading.Condition()
    reader = threading.Thread(target=_read, args=(process, said, heard), daemon=True)
    reader.start()
    box = Serving(root, 0, "", process, said)
    try:
        box.port = int(_wait(said, heard, r"listening on 127\.0\.0\.1:(\d+)", process))
        if window:
            box.address = _wait(said, heard, r"^  window +(http\S+)/$", process)
        yield box
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0, list(said)
    finally:
        for client in box.clients:
            client.close()
        process.kill()
        process.wait()
        reader.join()


def heard_of(box: Serving, pattern: str) -> str:
    """The first group of a line that the box has printed."""
    return next(found[1] for line in list(box.said) if (found := re.search(pattern, line)))


def _read(process: subprocess.Popen[str], said: deque[str], heard: threading.Condition) -> None:
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            with heard:
                said.append(line.rstrip("\n"))
                heard.notify_all()
    with heard:
        heard.notify_all()


def _wait(said: deque[str], heard: threading.Condition, pattern: str, process: subprocess.Popen[str]) -> str:
    def found() -> str | None:
        return next((match[1] for line in said if (match := re.search(pattern, line))), None)

    with heard:
        heard.wait_for(lambda: found() is not None or process.poll() is not None, 60)
        text = found()
    assert text is not None, list(said)
    return text
