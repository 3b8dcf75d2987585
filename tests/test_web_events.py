"""Who may follow the events: so many in all, so many of one user, counted before a line is sent."""

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx2 as httpx
import pytest
from boxprocess import until
from browser import listening
from starlette.types import Message
from webbox import Desk, desk, log_in

from magickbox.web.api.events import _Stream
from magickbox.web.events import MOST_EACH, MOST_LISTENERS, Hub
from magickbox.web.principal import Role
from magickbox.web.problems import Problem

ALL = frozenset({"jobs"})


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Desk]:
    with desk(tmp_path / "data") as found:
        yield found


def test_a_stream_counts_before_it_begins_and_no_longer_than_it_lasts(office: Desk) -> None:
    hub = Hub(office.context)
    first, *rest = [hub.join("vera", ALL) for _ in range(MOST_EACH)]
    with pytest.raises(Problem, match="vera follows") as refused:
        hub.join("vera", ALL)
    assert refused.value.status == 429
    hub.leave(first)
    rest.append(hub.join("vera", ALL))
    others = [hub.join(f"user {number}", ALL) for number in range(MOST_LISTENERS - MOST_EACH)]
    with pytest.raises(Problem, match="followed live already") as refused:
        hub.join("otto", ALL)
    assert refused.value.status == 503
    for each in (*rest, *others):
        hub.leave(each)
    hub.leave(first)  # once more does no harm
    hub.join("vera", ALL)


def test_who_goes_before_the_answer_has_begun_is_counted_no_longer(office: Desk) -> None:
    hub = Hub(office.context)

    async def silent() -> Message:
        return {"type": "http.disconnect"}

    async def gone(_message: Message) -> None:
        raise OSError("the peer is gone")

    for _ in range(MOST_EACH + 1):
        answer = _Stream(hub, hub.join("vera", ALL))
        with suppress(OSError, ExceptionGroup):
            asyncio.run(answer({"type": "http"}, silent, gone))
    assert len([hub.join("vera", ALL) for _ in range(MOST_EACH)]) == MOST_EACH


def test_a_user_who_follows_too_much_is_refused_and_others_are_not(office: Desk) -> None:
    with listening(office.app) as address:
        clients = {role: httpx.Client(base_url=address, timeout=20) for role in (Role.VIEWER, Role.OPERATOR)}
        for role, client in clients.items():
            log_in(client, role)
        vera, otto = clients[Role.VIEWER], clients[Role.OPERATOR]

        def follow(client: httpx.Client) -> httpx.Response:
            return client.send(client.build_request("GET", "/api/v1/events?topics=jobs"), stream=True)

        streams = [follow(vera) for _ in range(MOST_EACH)]
        assert {each.status_code for each in streams} == {200}
        refused = vera.get("/api/v1/events?topics=jobs")
        assert (refused.status_code, refused.headers["Content-Type"]) == (429, "application/problem+json")
        assert follow(otto).status_code == 200
        streams.pop().close()
        until(lambda: follow(vera).status_code == 200, what="room for another one")
        for client in clients.values():
            client.close()
