"""Deliveries that count only when the destination has verified them: what becomes of them, answer by answer."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import peers
import pytest
from deliverbox import QUICK, Box, fake
from planned import ARCHIVE, PACS, entry, new_items

from magickbox.association import Association
from magickbox.clock import now
from magickbox.deliver import Deliver
from magickbox.delivery import Delivery, DeliveryState, ItemState
from magickbox.destination import Rejected, Retry
from magickbox.job import JobState, Move
from magickbox.ledger import Ledger, deliveries, proofs
from magickbox.proof import How, Proof, ProofState, Report, Verify
from magickbox.prover import Answer, Ear, FakeProver, Provers, Question
from magickbox.sender import FakeSender

S, P = DeliveryState, ProofState
SURE = replace(PACS, verify=Verify(How.COMMITMENT, within=60.0))
HASTY = replace(PACS, verify=Verify(How.COMMITMENT, within=0.05))


class Peer:
    """A destination: says what the test lets it say of each question, in turn, the last for ever."""

    def __init__(self) -> None:
        self.does: list[Callable[[Question, Ear], Answer]] = [silent]
        self.prover = FakeProver(self._answer)
        self.provers = Provers({How.COMMITMENT: self.prover}, lambda destination: destination)

    def _answer(self, question: Question, ear: Ear) -> Answer:
        does = self.does.pop(0) if len(self.does) > 1 else self.does[0]
        return does(question, ear)

    @property
    def questions(self) -> list[Question]:
        """What it was asked."""
        return self.prover.asked


def silent(_question: Question, ear: Ear) -> Answer:
    """It will answer later."""
    ear.accepted()
    return None


def commits(question: Question, ear: Ear) -> Answer:
    """It has everything, and says so on the same association, even before it takes the question."""
    assert ear.report(all_of(question)) == 0x0000
    assert ear.is_over
    ear.accepted()
    return None


def lacks(*uids: str) -> Callable[[Question, Ear], Answer]:
    """It lacks some."""

    def does(question: Question, ear: Ear) -> Answer:
        ear.accepted()
        there = tuple(each.sop_instance for each in question.instances if each.sop_instance not in uids)
        assert ear.report(Report(question.uid, there, tuple((uid, 0x0112) for uid in uids))) == 0x0000
        return None

    return does


def all_of(question: Question) -> Report:
    """The report that commits to everything."""
    return Report(question.uid, tuple(each.sop_instance for each in question.instances))


@pytest.fixture
def peer() -> Peer:
    """What is asked."""
    return Peer()


@pytest.fixture
def box(tmp_path: Path, peer: Peer) -> Iterator[Box]:
    """A stage on a ledger of its own."""
    ledger = Ledger(tmp_path / "ledger.sqlite")
    yield Box(ledger, tmp_path, FakeSender(), provers=peer.provers)
    ledger.close()


def of(box: Box, number: int) -> Delivery:
    """A delivery."""
    with box.ledger.reading() as tx:
        return deliveries.get(tx, number)


def asked(box: Box, number: int) -> list[Proof]:
    """What was asked about it."""
    with box.ledger.reading() as tx:
        return proofs.of_delivery(tx, number)


def says(stage: Deliver, report: Report, calling: str = "PACS") -> int:
    """A report that comes to the port."""
    return stage.reported(Association("a1", calling, "BOX", "127.0.0.1", now()), report)


def waits(box: Box, number: int, questions: int = 1) -> None:
    """Wait until the destination was asked and the attempt is over."""
    peers.wait_for(
        lambda: (
            len(asked(box, number)) == questions
            and asked(box, number)[-1].state is P.ASKED
            and "waits for storage commitment" in of(box, number).reason
        ),
        f"a question, notes: {box.notes}",
    )


def test_a_delivery_is_open_until_its_destination_commits(box: Box, peer: Peer) -> None:
    (number,) = box.routed(entry(SURE))
    with box.running() as stage:
        waits(box, number)
        assert (of(box, number).state, box.job()) == (S.OPEN, JobState.DELIVERING)
        assert box.items(number) == [ItemState.SENT] * 2
        assert [each.sop_instance for each in peer.questions[0].instances] == ["1.2.3.1", "1.2.3.2"]
        assert peer.questions[0].uid.startswith("2.25.")
        assert len(peer.questions[0].uid) <= 64
        assert says(stage, all_of(peer.questions[0])) == 0x0000
        assert (of(box, number).state, box.job()) == (S.DELIVERED, JobState.DONE)
        assert of(box, number).reason == "committed by storage commitment"
    assert len(peer.questions) == 1
    assert len(fake(box).sent) == 2
    events = [(event, facts.get("reason")) for _, event, facts in box.notes if event in ("asked", "delivered")]
    assert events == [("asked", None), ("delivered", "committed by storage commitment")]


def test_the_answer_may_come_on_the_same_association_before_the_question_is_taken(box: Box, peer: Peer) -> None:
    peer.does = [commits]
    (number,) = box.routed(entry(SURE))
    with box.running():
        box.ends()
    assert [each.state for each in asked(box, number)] == [P.COMMITTED]
    assert [event for _, event, _ in box.notes].count("delivered") == 1


def test_what_is_lacking_is_sent_again_and_asked_about_anew(box: Box, peer: Peer) -> None:
    peer.does = [lacks("1.2.3.2"), commits]
    (number,) = box.routed(entry(SURE, new_items(3)))
    with box.running():
        box.ends()
    assert [item.sop_instance for _, item in fake(box).sent] == ["1.2.3.1", "1.2.3.2", "1.2.3.3", "1.2.3.2"]
    assert [each.state for each in asked(box, number)] == [P.FAILED, P.COMMITTED]
    assert asked(box, number)[0].reason == (
        "1 of 3 instances not committed by storage commitment: 0x0112 no such object instance"
    )
    assert len({each.uid for each in asked(box, number)}) == 2


def test_what_lacks_for_ever_is_dead_and_says_what(box: Box, peer: Peer) -> None:
    peer.does = [lacks("1.2.3.2")]
    (number,) = box.routed(entry(SURE))
    with box.running() as stage:
        box.ends(JobState.ATTENTION)
        assert of(box, number).reason == (
            "sent, but not verified: 1 of 2 instances not committed by storage commitment:"
            " 0x0112 no such object instance"
        )
        assert [item.sop_instance for _, item in fake(box).sent].count("1.2.3.2") == 3
        assert box.items(number) == [ItemState.SENT, ItemState.PENDING]
        peer.does = [commits]
        stage.retry(number, "anna")
        box.ends()
    assert [item.sop_instance for _, item in fake(box).sent].count("1.2.3.1") == 1
    assert [item.sop_instance for _, item in fake(box).sent].count("1.2.3.2") == 4


def test_who_never_answers_is_asked_three_times_and_then_told_of(box: Box, peer: Peer) -> None:
    (number,) = box.routed(entry(HASTY))
    with box.running():
        box.ends(JobState.ATTENTION)
    assert len(peer.questions) == len({question.uid for question in peer.questions}) == 3
    assert of(box, number).reason.startswith("sent, but not verified: no answer by storage commitment to the question")
    assert len(fake(box).sent) == 2


def test_a_late_answer_counts(box: Box, peer: Peer) -> None:
    (number,) = box.routed(entry(HASTY))
    with box.running() as stage:
        peers.wait_for(lambda: len(peer.questions) == 2)
        assert says(stage, all_of(peer.questions[0])) == 0x0000
        box.ends()
    assert of(box, number).state is S.DELIVERED


def test_an_answer_after_the_end_is_taken_and_changes_nothing(box: Box, peer: Peer) -> None:
    (number,) = box.routed(entry(HASTY))
    with box.running() as stage:
        box.ends(JobState.ATTENTION)
        assert says(stage, all_of(peer.questions[-1])) == 0x0000
        assert of(box, number).state is S.DEAD
        peer.does = [commits]
        stage.retry(number, "anna")
        box.ends()


def test_answers_that_do_not_count(box: Box, peer: Peer) -> None:
    (number,) = box.routed(entry(SURE))
    with box.running() as stage:
        waits(box, number)
        good = all_of(peer.questions[0])
        assert says(stage, replace(good, transaction="2.25.1")) == 0x0115  # which nobody asked
        assert says(stage, good, "OTHER") == 0x0124
        assert of(box, number).state is S.OPEN
        assert [event for _, event, _ in box.notes].count("report") == 2
        assert says(stage, good, " pacs ") == 0x0000
        assert says(stage, Report(good.transaction, (), (("1.2.3.1", 0x0110),))) == 0x0000  # again, and otherwise
        assert (of(box, number).state, box.items(number)) == (S.DELIVERED, [ItemState.SENT] * 2)


def test_the_answer_of_one_destination_is_not_that_of_another(box: Box, peer: Peer) -> None:
    sure_archive = replace(ARCHIVE, verify=SURE.verify)
    first, second = box.routed(entry(SURE), entry(sure_archive, rule="other"))
    with box.running() as stage:
        waits(box, first)
        waits(box, second)
        of_archive = next(each.uid for each in asked(box, second))
        report = Report(of_archive, ("1.2.3.1", "1.2.3.2"))
        assert says(stage, report, "PACS") == 0x0124
        assert says(stage, report, "ARCHIVE") == 0x0000
        assert (of(box, first).state, of(box, second).state) == (S.OPEN, S.DELIVERED)


def test_a_report_that_names_fewer_than_were_asked_about_commits_to_no_more(box: Box, peer: Peer) -> None:
    (number,) = box.routed(entry(SURE))
    with box.running() as stage:
        waits(box, number)
        peer.does = [commits]
        assert says(stage, Report(peer.questions[0].uid, ("1.2.3.1",))) == 0x0000
        box.ends()
    assert "the answer does not name it" in asked(box, number)[0].reason
    assert [item.sop_instance for _, item in fake(box).sent] == ["1.2.3.1", "1.2.3.2", "1.2.3.2"]


def test_who_may_report_can_be_said(box: Box, peer: Peer) -> None:
    (number,) = box.routed(entry(replace(PACS, verify=replace(SURE.verify, reports_from="PACS_SC"))))
    with box.running() as stage:
        waits(box, number)
        assert says(stage, all_of(peer.questions[0]), "PACS") == 0x0124
        assert says(stage, all_of(peer.questions[0]), "PACS_SC") == 0x0000
        box.ends()


def test_trouble_on_the_way_is_tried_again_by_the_budget(box: Box, peer: Peer) -> None:
    gone = Retry("the peer aborted the association", answered=True)
    peer.does = [lambda _question, _ear: gone] * 5 + [commits]
    (number,) = box.routed(entry(SURE))
    with box.running():
        box.ends()
    assert [each.state for each in asked(box, number)] == [P.BROKEN] * 5 + [P.COMMITTED]
    assert len(fake(box).sent) == 2


def test_a_destination_that_knows_no_commitment_is_told_of(box: Box, peer: Peer) -> None:
    peer.does = [lambda _question, _ear: Rejected("no storage commitment: SOP class not supported")]
    (number,) = box.routed(entry(SURE))
    with box.running():
        box.ends(JobState.ATTENTION)
    assert of(box, number).reason == "sent, but not verified: no storage commitment: SOP class not supported"
    assert len(peer.questions) == 3


def test_a_restart_waits_on_and_a_question_that_was_cut_short_is_asked_anew(box: Box, peer: Peer) -> None:
    (number,) = box.routed(entry(SURE))
    with box.running():
        waits(box, number)
    stage = box.stage()
    assert says(stage, all_of(peer.questions[0])) == 0x0000  # while nothing runs but the port
    assert of(box, number).state is S.DELIVERED
    (other,) = box.routed(entry(SURE), name="other")
    with box.ledger.transaction() as tx:
        for item in deliveries.instances_of(tx, other):
            tx.execute("UPDATE delivery_instances SET state = 'SENT' WHERE delivery = ? AND n = ?", (other, item.n))
        proofs.ask(tx, "2.25.99", other, How.COMMITMENT, "PACS", "BOX")  # and then the box was killed
    with box.running():
        waits(box, other, questions=2)
    assert [each.state for each in asked(box, other)] == [P.BROKEN, P.ASKED]
    with box.running():
        peers.wait_for(lambda: of(box, other).next_try is not None)
    assert len(asked(box, other)) == 2


def test_a_person_may_have_it_asked_anew_and_may_take_it_back(box: Box, peer: Peer) -> None:
    (number,) = box.routed(entry(SURE))
    with box.running() as stage:
        waits(box, number)
        stage.retry(number, "anna")
        waits(box, number, questions=2)
        assert [each.state for each in asked(box, number)] == [P.BROKEN, P.ASKED]
        stage.cancel(number, "anna")
        assert says(stage, all_of(peer.questions[1])) == 0x0000
        assert of(box, number).state is S.CANCELLED


def test_a_job_that_is_held_is_done_after_its_release(box: Box, peer: Peer) -> None:
    (number,) = box.routed(entry(SURE))
    with box.running() as stage:
        waits(box, number)
        box.move(Move.HOLD)
        assert says(stage, all_of(peer.questions[0])) == 0x0000
        assert (of(box, number).state, box.job()) == (S.DELIVERED, JobState.HELD)
        box.move(Move.RELEASE)
        stage.wake()
        box.ends()


def test_a_fallback_waits_for_the_answer_and_takes_over_when_there_is_none(box: Box, peer: Peer) -> None:
    first, second = box.routed(
        entry(HASTY, gate=True, has_fallback=True), entry(ARCHIVE, waits_for=0)
    )  # fmt: skip
    with box.running():
        box.ends()
    assert box.states() == [S.REPLACED, S.DELIVERED]
    assert of(box, first).reason.startswith("sent, but not verified")
    assert of(box, second).reason == ""


def test_unreachable_meanwhile_does_not_give_up_what_waits_for_an_answer(box: Box, peer: Peer) -> None:
    box.pace = replace(QUICK, patience=0.2)
    (waiting,) = box.routed(entry(SURE))
    with box.running() as stage:
        waits(box, waiting)
        fake(box).refusal = lambda _destination: "connection refused"
        (gone,) = box.routed(entry(SURE), name="gone")
        stage.wake()
        box.ends(JobState.ATTENTION, "gone")
        assert of(box, waiting).state is S.OPEN
        assert says(stage, all_of(peer.questions[0])) == 0x0000
        box.ends()
    assert of(box, gone).state is S.DEAD
