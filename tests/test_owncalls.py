"""The box's own calls: known before the first byte, forgotten at the end."""

import socket

import pytest
from peers import ScriptedPeer, Talk
from scusends import CT, connect

from magickbox.owncalls import OwnCalls


def test_a_call_is_known_before_its_first_byte_and_forgotten_at_its_end() -> None:
    own, seen = OwnCalls(), list[str | None]()

    def script(talk: Talk) -> None:
        talk.sock.recv(1, socket.MSG_PEEK)  # the first byte of the request is here
        seen.append(own.job_of(talk.sock.getpeername()))
        talk.accept()
        talk.serve()

    with ScriptedPeer([script]) as peer:
        with connect(peer.destination, [CT], own=own) as session:
            session.send(CT)
            address = peer.talks[0].sock.getpeername()
            assert own.job_of(address) == "job"
        assert own.job_of(address) is None
    assert seen == ["job"]


@pytest.mark.parametrize(
    ("opened", "seen"),
    [
        (("127.0.0.1", 5), ("::ffff:127.0.0.1", 5)),
        (("::ffff:10.0.0.1", 5), ("10.0.0.1", 5)),
        (("fe80::1%eth0", 5), ("FE80:0:0::1", 5)),
        (("host", 5), ("host", 5)),
    ],
)
def test_an_address_is_the_same_in_each_of_its_forms(opened: tuple[str, int], seen: tuple[str, int]) -> None:
    own = OwnCalls()
    own.opened(opened, "job")
    assert own.job_of(seen) == "job"
    assert own.job_of((seen[0], 6)) is None
    own.closed(seen)
    assert own.job_of(opened) is None
