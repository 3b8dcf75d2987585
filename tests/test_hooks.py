"""Hooks: what each keeps to, against a real web server, real silence, real programs."""

import json
import socket
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import hookserver
import peers
import pytest

from magickbox.hook import Hook
from magickbox.hooks.command import Command
from magickbox.hooks.webhook import Webhook

FACTS = b'{"says": "test"}\n'


@dataclass
class Pair:
    """A hook that takes what it is told into ``told``, one that does not, and one that never answers."""

    good: Hook
    told: Path
    bad: Hook
    silent: Hook


def program(folder: Path, name: str, text: str) -> list[str]:
    (folder / name).write_text(text)
    return [sys.executable, str(folder / name)]


@pytest.fixture(params=["webhook", "command"])
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Pair]:
    told = tmp_path / "told"
    if request.param == "command":
        keep = program(tmp_path, "keep.py", f"import sys; open({str(told)!r}, 'w').write(sys.stdin.read())")
        fail = program(tmp_path, "fail.py", "raise SystemExit(3)")
        hang = program(tmp_path, "hang.py", "import time; time.sleep(60)")
        yield Pair(Command(keep, {}), told, Command(fail, {}), Command(hang, {}, limit=0.3))
        return
    with hookserver.listening() as good, hookserver.listening() as bad, socket.create_server(("127.0.0.1", 0)) as hole:
        bad.status = 500
        nobody = f"http://127.0.0.1:{hole.getsockname()[1]}/"
        yield Pair(_Kept(good, told), told, Webhook(bad.url), Webhook(nobody, limit=0.3))


class _Kept(Webhook):
    """Writes down what the server was told, so that both kinds can be looked at alike."""

    def __init__(self, server: hookserver.Listener, told: Path) -> None:
        super().__init__(server.url)
        self._server, self._told = server, told

    def tell(self, facts: bytes) -> str | None:
        said = super().tell(facts)
        self._told.write_text(json.dumps(self._server.told[-1]))
        return said


def test_the_facts_arrive(pair: Pair) -> None:
    assert pair.good.tell(FACTS) is None
    assert json.loads(pair.told.read_text()) == {"says": "test"}


def test_a_no_is_said(pair: Pair) -> None:
    assert pair.bad.tell(FACTS) in ("it answered HTTP 500", "it ended with 3")


def test_silence_has_an_end(pair: Pair) -> None:
    assert pair.silent.tell(FACTS) in ("no answer within 0.3 s", "it did not end within 0.3 s")


def test_what_is_being_told_can_be_cut_short(pair: Pair) -> None:
    pair.silent._limit = 30.0  # type: ignore[attr-defined]  # both kinds have it
    said: list[str | None] = []
    thread = threading.Thread(target=lambda: said.append(pair.silent.tell(FACTS)))
    thread.start()
    deadline = time.monotonic() + 10
    while thread.is_alive() and time.monotonic() < deadline:
        pair.silent.end()
        time.sleep(0.02)
    assert not thread.is_alive()
    assert said[0] is not None


def test_no_secret_of_an_address_is_shown() -> None:
    hook = Webhook("https://user:geheim@hooks.example.org/T0/geheim?key=geheim")
    assert "geheim" not in hook.name + repr(hook)


def test_who_stands_in_the_url_is_sent_as_basic_authentication() -> None:
    with hookserver.listening() as server:
        assert Webhook(server.url.replace("//", "//anna:pass%20word@")).tell(FACTS) is None
        assert server.headers[0]["Authorization"] == "Basic YW5uYTpwYXNzIHdvcmQ="
        assert server.headers[0]["path"] == "/hook/secret"


def test_a_redirect_is_not_followed() -> None:
    with hookserver.listening() as server:
        server.status = 302
        assert Webhook(server.url).tell(FACTS) == "it answered HTTP 302"
        assert len(server.told) == 1


def test_an_answer_that_drips_has_an_end_as_well() -> None:
    stopped = threading.Event()

    def drip(listener: socket.socket) -> None:
        peer, _ = listener.accept()
        with peer:
            while not stopped.wait(0.05):
                try:
                    peer.sendall(b"H")
                except OSError:
                    return

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=drip, args=(listener,))
        thread.start()
        assert Webhook(f"http://127.0.0.1:{listener.getsockname()[1]}/", limit=0.5).tell(FACTS) is not None
        stopped.set()
        thread.join()


def test_nobody_listens() -> None:
    assert Webhook(f"http://127.0.0.1:{peers.free_port()}/").tell(FACTS) == "Connection refused"


def test_a_program_that_is_not_there() -> None:
    assert Command(["/no/such/program"], {}).tell(FACTS) == "it cannot be started: No such file or directory"


def test_arguments_are_no_shell_text_and_the_environment_is_small(tmp_path: Path) -> None:
    told = tmp_path / "told"
    words = program(
        tmp_path, "p.py", f"import os, sys; open({str(told)!r}, 'w').write(repr((sys.argv[1:], [*os.environ])))"
    )
    command = Command(
        [*words, "$HOME; touch x", "*"], {"HOME": "/home/box", "MAGICKBOX_DATA": "/srv", "TOKEN": "geheim"}
    )
    assert command.tell(FACTS) is None
    assert "'$HOME; touch x', '*'" in told.read_text()
    assert "HOME" in told.read_text()
    assert "TOKEN" not in told.read_text()
