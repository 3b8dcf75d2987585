"""Server-sent events: tells pages that something has changed, and looks for it only while somebody listens.

Topics: ``status`` (with what the box says of itself), ``jobs``, ``job:<id>``, ``deliveries`` and ``log``. Events
hold no patient data; who hears one asks the API for what it may see.
"""

import asyncio
import json
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from magickbox.errors import MagickboxError
from magickbox.ledger.reader import connect
from magickbox.web.context import Context
from magickbox.web.problems import Problem

EVERY, LASTS = 1.0, 600.0
MOST_LISTENERS, MOST_EACH = 60, 20  # in all, and of one user
_HEARTBEAT = 15.0
_MOST_JOBS = 200
FIXED = frozenset({"status", "jobs", "deliveries", "log"})


@dataclass(frozen=True)
class Event:
    """What has changed, and what is told of it."""

    topic: str
    data: dict[str, Any] = field(default_factory=dict)

    def as_text(self) -> str:
        """As the stream has it."""
        return f"event: {self.topic}\ndata: {json.dumps(self.data)}\n\n"


class Look:
    """What things looked like at the last look; used by one thread at a time."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._connection: sqlite3.Connection | None = None
        self._version: int | None = None
        self._last_history = 0
        self._status: dict[str, Any] | None = None
        self._log: tuple[int, int] | None = None

    def close(self) -> None:
        """Let go of the ledger."""
        if self._connection is not None:
            self._connection.close()
        self._connection = self._version = None

    def look(self) -> list[Event]:
        """What has changed since the last look; nothing at the first one, except how the box stands."""
        return [*self._of_status(), *self._of_ledger(), *self._of_log()]

    def _of_status(self) -> list[Event]:
        try:
            status = {"running": True, **self._context.status()}
        except (Problem, MagickboxError):
            status = {"running": False}
        if status == self._status:
            return []
        was, self._status = self._status or {}, status
        return [Event("status", status), *(Event(f"job:{job}") for job in _further(was, status))]

    def _of_ledger(self) -> list[Event]:
        try:
            if self._connection is None:
                self._connection = connect(self._context.data.ledger)
            version = int(self._connection.execute("PRAGMA data_version").fetchone()[0])
            if version == self._version:
                return []
            first, self._version = self._version is None, version
            moved = self._moved_jobs(self._connection)
        except sqlite3.DatabaseError:
            self.close()
            return []
        if first:
            return []
        told = [Event("deliveries")]
        return [*told, Event("jobs"), *(Event(f"job:{job}") for job in moved)] if moved else told

    def _moved_jobs(self, connection: sqlite3.Connection) -> list[str]:
        rows = connection.execute(
            "SELECT id, job FROM history WHERE id > ? ORDER BY id DESC LIMIT ?", (self._last_history, _MOST_JOBS)
        ).fetchall()
        if rows:
            self._last_history = int(rows[0]["id"])
        return list(dict.fromkeys(str(row["job"]) for row in rows))

    def _of_log(self) -> list[Event]:
        try:
            found = (self._context.data.logs / "routing.log").stat()
        except OSError:
            return []
        was, self._log = self._log, (found.st_ino, found.st_size)
        return [] if was in (None, self._log) else [Event("log")]


def _further(was: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """The jobs whose runs say that they are further than they were."""
    before = {run["job"]: run["progress"] for run in was.get("runs", ())}
    return [run["job"] for run in now.get("runs", ()) if run["progress"] != before.get(run["job"])]


@dataclass(eq=False, frozen=True)
class Listener:
    """Who listens to what; counted from the moment it is made until it has left the hub."""

    user: str
    topics: frozenset[str]
    news: asyncio.Queue[Event]


class Hub:
    """All who listen, and the one task that looks for them; used in the event loop only."""

    def __init__(self, context: Context) -> None:
        self._look = Look(context)
        self._listeners: set[Listener] = set()
        self._task: asyncio.Task[None] | None = None
        self._last_status: Event | None = None

    def join(self, user: str, topics: frozenset[str]) -> Listener:
        """Begin to listen, until ``leave``. Raises Problem 503 for too many in all, 429 for too many of one user."""
        if len(self._listeners) >= MOST_LISTENERS:
            raise Problem(503, "Too many listeners", f"{MOST_LISTENERS} pages are followed live already")
        if sum(each.user == user for each in self._listeners) >= MOST_EACH:
            raise Problem(429, "Too many listeners", f"{user} follows {MOST_EACH} pages live already; close some")
        mine = Listener(user, topics, asyncio.Queue(100))
        self._listeners.add(mine)
        return mine

    def leave(self, mine: Listener) -> None:
        """Listen no more."""
        self._listeners.discard(mine)

    async def stream(self, mine: Listener) -> AsyncIterator[str]:
        """What a listener hears, for some minutes: a browser asks again."""
        until = time.monotonic() + LASTS
        if self._last_status is not None:
            self._give(mine, self._last_status)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._watch())
        yield "retry: 2000\n\n"
        while time.monotonic() < until:
            try:
                event = await asyncio.wait_for(mine.news.get(), _HEARTBEAT)
            except TimeoutError:
                yield ": nothing new\n\n"
            else:
                yield event.as_text()

    async def _watch(self) -> None:
        """Look until nobody listens any more."""
        try:
            while self._listeners:
                for event in await asyncio.to_thread(self._look.look):
                    if event.topic == "status":
                        self._last_status = event
                    for listener in self._listeners:
                        self._give(listener, event)
                await asyncio.sleep(EVERY)
        finally:
            self._look.close()
            self._last_status = None

    def _give(self, listener: Listener, event: Event) -> None:
        if event.topic in listener.topics:
            with suppress(asyncio.QueueFull):  # it does not read; what it missed it sees at its next look
                listener.news.put_nowait(event)
