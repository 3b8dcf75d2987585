"""A box that is killed while a destination misbehaves: nothing is lost, and what was taken is not sent again."""

import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import boxprocess
import peers
import pytest
from boxprocess import all_jobs, running, send, until
from peers import ScriptedPeer, Talk
from studies import study

from magickbox.job import JobState

COUNT = 5


class Seen:
    """What a destination was sent, and what it took with 0x0000; ``met`` once it is in the middle of its mischief."""

    def __init__(self) -> None:
        self.sent: Counter[str] = Counter()
        self.taken: set[str] = set()
        self.met = threading.Event()

    def takes(self, talk: Talk, status: int = 0) -> None:
        """Take one instance, and answer."""
        request, _ = talk.message()
        uid = request[0x1000].decode().strip("\0 ")
        self.sent[uid] += 1
        if not status:
            self.taken.add(uid)
        talk.respond(request, status)

    def serves(self, talk: Talk) -> None:
        """Take everything."""
        talk.accept()
        with suppress(EOFError):
            while True:
                self.takes(talk)


def silent_before_the_answer(seen: Seen, talk: Talk) -> None:
    talk.pdu()
    seen.met.set()


def silent_at_the_third(seen: Seen, talk: Talk) -> None:
    talk.accept()
    seen.takes(talk)
    seen.takes(talk)
    request, _ = talk.message()
    seen.sent[request[0x1000].decode().strip("\0 ")] += 1
    seen.met.set()


def aborts_at_the_third(seen: Seen, talk: Talk) -> None:
    talk.accept()
    seen.takes(talk)
    seen.takes(talk)
    talk.pdu()
    talk.say(7, bytes(4))
    seen.met.set()


def closes_after_one(seen: Seen, talk: Talk) -> None:
    talk.accept()
    seen.takes(talk)
    peers.close(talk)
    seen.met.set()


def out_of_room_after_one(seen: Seen, talk: Talk) -> None:
    talk.accept()
    seen.takes(talk)
    seen.takes(talk, 0xA700)
    seen.met.set()


def refuses_all_contexts(seen: Seen, talk: Talk) -> None:
    talk.accept(lambda _class, _syntax: 3)
    seen.met.set()
    with suppress(EOFError):
        talk.message()


def rejects(seen: Seen, talk: Talk) -> None:
    talk.pdu()
    talk.say(3, bytes((0, 2, 3, 2)))
    seen.met.set()


MISCHIEF = [silent_before_the_answer, silent_at_the_third, aborts_at_the_third, closes_after_one, out_of_room_after_one,
            refuses_all_contexts, rejects]  # fmt: skip


@pytest.mark.parametrize("mischief", MISCHIEF, ids=lambda each: str(each.__name__))
def test_killed_while_the_destination(tmp_path: Path, mischief: Callable[[Seen, Talk], None]) -> None:
    root, before, after, items = tmp_path / "box", Seen(), Seen(), study(tmp_path / "study", COUNT, pixels=32)
    with ScriptedPeer([lambda talk: mischief(before, talk)]) as bad:
        boxprocess.set_up(root, bad.port)
        with running(root) as box:
            assert box.port is not None
            assert len(send(box.port, items).acknowledged) == COUNT
            assert before.met.wait(20)
            box.kill()
        port = bad.port
    with ScriptedPeer([after.serves], port), running(root):
        until(lambda: [job.state for job in all_jobs(root)] == [JobState.DONE], what="the job to be DONE")
    wanted = {item.sop_instance for item in items}
    assert before.taken | after.taken == wanted, "a result was lost"
    assert sum(after.sent[uid] for uid in before.taken) <= 1, "more than the instance in flight was sent again"
