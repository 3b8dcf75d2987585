"""Storage commitment as SCU, against peers that do not do as they should: one association each."""

import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import peers
import pytest
from commitpeer import report_of
from peers import QUICK, Script, ScriptedPeer, Talk
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from magickbox.destination import Rejected, Retry
from magickbox.dicom.commitment import INSTANCE, SOP_CLASS
from magickbox.owncalls import OwnCalls
from magickbox.proof import How, Reference, Report, Verify
from magickbox.prover import Answer, Question
from magickbox.scu.commitment import CommitmentProver
from magickbox.scu.find import FindProver

UIDS = ("1.2.3.1", "1.2.3.2")
QUESTION = Question("2.25.7", tuple(Reference("1.2.840.10008.5.1.4.1.1.4", uid) for uid in UIDS), Verify(), "job")
ALL = Report("2.25.7", UIDS)


@dataclass
class Listener:
    """What was heard, in its order."""

    heard: list[Report | str] = field(default_factory=list)
    status: int = 0x0000
    over_after: int = 1
    over: threading.Event = field(default_factory=threading.Event)

    def accepted(self) -> None:
        """The question was taken."""
        self.heard.append("accepted")

    def report(self, report: Report) -> int:
        """An answer."""
        self.heard.append(report)
        return self.status

    @property
    def is_over(self) -> bool:
        """True after as many reports as the test wants, or when it says so."""
        return self.over.is_set() or sum(isinstance(each, Report) for each in self.heard) >= self.over_after


def ask(script: Script, ear: Listener, wait: float = 2.0) -> Answer:
    """Put the question to a scripted peer."""
    question = replace(QUESTION, verify=Verify(How.COMMITMENT, wait=wait))
    with ScriptedPeer([script]) as peer:
        return CommitmentProver(OwnCalls(), QUICK).ask(peer.destination, question, ear, lambda _held: None)


def question_of(talk: Talk) -> dict[int, bytes]:
    """Accept the association and read the question."""
    talk.accept()
    request, dataset = talk.message()
    assert request[0x0003].rstrip(b"\0").decode() == SOP_CLASS
    assert request[0x1001].rstrip(b"\0").decode() == INSTANCE
    assert (request[0x0100], request[0x1008]) == (b"\x30\x01", b"\1\0")
    assert all(uid.encode() in dataset for uid in (*UIDS, "2.25.7"))
    return request


def report(talk: Talk, report: Dataset, event: int = 1) -> int:
    """Send an N-EVENT-REPORT on this association; the status that it gets."""
    talk.say(4, pieces(talk, report, event))
    answer, _ = talk.message()
    assert answer[0x0100] == b"\x00\x81"
    assert (answer[0x0120], answer[0x1002]) == (b"\x07\0", struct.pack("<H", event))
    return int.from_bytes(answer[0x0900], "little")


def pieces(talk: Talk, report: Dataset, event: int) -> bytes:
    """Command and dataset in one P-DATA-TF."""
    context = next(iter(talk.contexts))
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, talk.contexts[context][1] == "1.2.840.10008.1.2"
    write_dataset(buffer, report)
    uid, instance = SOP_CLASS.encode() + b"\0", INSTANCE.encode()
    elements = {0x0002: uid, 0x0100: b"\0\1", 0x0110: b"\7\0", 0x0800: b"\1\0", 0x1000: instance,
                0x1002: struct.pack("<H", event)}  # fmt: skip
    command = b"".join(struct.pack("<HHI", 0, tag, len(value)) + value for tag, value in elements.items())
    return b"".join(
        struct.pack(">IBB", len(part) + 2, context, control) + part
        for control, part in ((3, command), (2, buffer.getvalue()))
    )


def test_the_report_comes_on_the_same_association() -> None:
    ear, statuses = Listener(), []

    def script(talk: Talk) -> None:
        talk.respond(question_of(talk), 0)
        statuses.append(report(talk, report_of("2.25.7", UIDS)))
        talk.serve()

    assert ask(script, ear) is None
    assert ear.heard == ["accepted", ALL]
    assert statuses == [0]


def test_the_report_comes_before_the_response() -> None:
    ear, statuses = Listener(), []

    def script(talk: Talk) -> None:
        request = question_of(talk)
        statuses.append(report(talk, report_of("2.25.7", UIDS)))
        talk.respond(request, 0)
        talk.serve()

    assert ask(script, ear) is None
    assert ear.heard == [ALL, "accepted"]
    assert statuses == [0]


def test_the_response_and_the_report_come_in_one_piece() -> None:
    ear = Listener()

    def script(talk: Talk) -> None:
        request = question_of(talk)
        context = next(iter(talk.contexts))
        elements = {0x0100: b"\x30\x81", 0x0120: request[0x0110], 0x0800: b"\1\1", 0x0900: b"\0\0"}
        body = b"".join(struct.pack("<HHI", 0, tag, len(value)) + value for tag, value in elements.items())
        response = struct.pack(">IBB", len(body) + 2, context, 3) + body
        talk.say(4, response + pieces(talk, report_of("2.25.7", UIDS), 1))
        talk.message()
        talk.serve()

    assert ask(script, ear) is None
    assert ear.heard == ["accepted", ALL]


def test_failures_are_named_and_reports_of_others_do_not_end_the_waiting() -> None:
    ear, statuses = Listener(status=0x0115, over_after=2), []

    def script(talk: Talk) -> None:
        talk.respond(question_of(talk), 0)
        statuses.append(report(talk, report_of("2.25.8", ["1.2.3.9"])))
        statuses.append(report(talk, report_of("2.25.7", UIDS[:1], {UIDS[1]: 0x0110}), 2))
        talk.serve()

    assert ask(script, ear) is None
    assert ear.heard == ["accepted", Report("2.25.8", ("1.2.3.9",)), Report("2.25.7", UIDS[:1], ((UIDS[1], 0x0110),))]
    assert statuses == [0x0115] * 2


def test_events_that_are_no_answers_are_refused() -> None:
    ear, statuses = Listener(), []

    def script(talk: Talk) -> None:
        talk.respond(question_of(talk), 0)
        statuses.append(report(talk, report_of("2.25.7", UIDS), 9))
        nameless = Dataset()
        nameless.StudyID = "1"
        statuses.append(report(talk, nameless))
        statuses.append(report(talk, report_of("2.25.7", UIDS)))
        talk.serve()

    assert ask(script, ear) is None
    assert ear.heard == ["accepted", ALL]
    assert statuses == [0x0113, 0x0115, 0]


def test_nothing_more_is_waited_for_than_was_asked_for() -> None:
    ear = Listener()

    def script(talk: Talk) -> None:
        talk.respond(question_of(talk), 0)
        talk.serve()

    assert ask(script, ear, wait=0.2) is None
    assert ear.heard == ["accepted"]


def test_an_answer_that_comes_elsewhere_ends_the_waiting() -> None:
    ear, released = Listener(), threading.Event()

    def script(talk: Talk) -> None:
        talk.respond(question_of(talk), 0)
        ear.over.set()
        talk.serve()
        released.set()

    assert ask(script, ear, wait=300.0) is None
    assert released.is_set()


def abort(talk: Talk) -> None:
    """A-ABORT, and the connection goes."""
    talk.say(7, bytes(4))
    peers.close(talk)


def vanish(talk: Talk) -> None:
    """The connection goes."""
    peers.close(talk)


def chatter(talk: Talk) -> None:
    """An answer to a C-STORE that nobody sent."""
    talk.respond({0x0100: b"\1\0", 0x0110: b"\1\0"}, 0)


@pytest.mark.parametrize("do", [abort, vanish, chatter, lambda _talk: None], ids=["abort", "gone", "chatter", "silent"])
def test_trouble_before_the_response_is_passing(do: Callable[[Talk], None]) -> None:
    ear = Listener()

    def script(talk: Talk) -> None:
        question_of(talk)
        do(talk)

    said = ask(script, ear)
    assert isinstance(said, Retry)
    assert said.answered
    assert ear.heard == []


@pytest.mark.parametrize("do", [abort, vanish], ids=["abort", "gone"])
def test_trouble_after_the_response_changes_nothing(do: Callable[[Talk], None]) -> None:
    ear = Listener()

    def script(talk: Talk) -> None:
        talk.respond(question_of(talk), 0)
        do(talk)

    assert ask(script, ear) is None
    assert ear.heard == ["accepted"]


def test_refusals_say_what_they_are() -> None:
    def refuse(status: int) -> Script:
        def script(talk: Talk) -> None:
            talk.respond(question_of(talk), status)
            talk.serve()

        return script

    def no_such_service(talk: Talk) -> None:
        talk.accept(lambda _class, _syntax: 3)
        talk.serve()

    assert ask(refuse(0x0122), Listener()) == Rejected("storage commitment refused: 0x0122", 0x0122)
    said = ask(refuse(0x0213), Listener())
    assert isinstance(said, Retry)
    assert (said.reason, said.answered) == ("storage commitment refused: 0x0213", True)
    assert ask(no_such_service, Listener()) == Rejected("no storage commitment: SOP class not supported")


def test_nobody_there_is_passing_and_unanswered() -> None:
    destination = peers.ScriptedPeer([]).destination
    there = replace(destination, port=peers.free_port())
    said = CommitmentProver(OwnCalls(), QUICK).ask(there, QUESTION, Listener(), lambda _held: None)
    assert isinstance(said, Retry)
    assert not said.answered


def look_for(script: Script) -> Answer:
    """Look for an instance of pydicom's test data at a scripted peer."""
    item = peers.item_of(peers.sample("CT_small.dcm"))
    question = Question(
        "2.25.7", (Reference(item.sop_class, item.sop_instance, item.path),), Verify(How.FIND), "job", age=9e9
    )
    ear = Listener()
    with ScriptedPeer([script]) as peer:
        said = FindProver(OwnCalls(), QUICK).ask(peer.destination, question, ear, lambda _held: None)
    assert ear.heard == []
    return said


@pytest.mark.parametrize("do", [abort, vanish, chatter, lambda _talk: None], ids=["abort", "gone", "chatter", "silent"])
def test_a_query_that_breaks_off_says_nothing_of_the_instances(do: Callable[[Talk], None]) -> None:
    def script(talk: Talk) -> None:
        talk.accept()
        request, identifier = talk.message()
        assert request[0x0100] == b"\x20\0"
        assert b"IMAGE" in identifier
        do(talk)

    said = look_for(script)
    assert isinstance(said, Retry)
    assert said.answered


def test_a_peer_without_queries_says_so() -> None:
    def script(talk: Talk) -> None:
        talk.accept(lambda _class, _syntax: 3)
        talk.serve()

    assert look_for(script) == Rejected("no C-FIND: SOP class not supported")
