"""When a study becomes a job: the waits of the contracts, with the time given; and that no arrival is ever lost."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from magickbox.association import Association, End
from magickbox.clock import now
from magickbox.gathering import Arrival, Due, Gathering, Key, Waits, grouping
from magickbox.instance import Instance

WAITS = Waits(settle=15, settle_open=30, settle_after_abort=60, max_wait=3600)
KEY = Key("PACS", "Proc", "1.2")
OTHER = Key("PACS", "Proc", "1.3")
R, ABORTED = End.RELEASED, End.ABORTED


def arrival(association: str, n: int = 1) -> Arrival:
    return Arrival(association, Instance("1.2", f"1.2.{n}", "1.2", "1.2.1", "MR", "1.2", 7, "00", f"1.2.{n}.dcm", n))


class Clock:
    """A gathering with a clock: each event is at a second of it."""

    def __init__(self, waits: Waits = WAITS) -> None:
        self.gathering, self.waits, self.count = Gathering(), waits, 0

    def stored(self, at: float, association: str = "a", key: Key = KEY) -> "Clock":
        self.count += 1
        self.gathering.stored(key, self.waits, arrival(association, self.count), at)
        return self

    def ended(self, at: float, association: str = "a", how: End = R) -> "Clock":
        self.gathering.ended(association, how, at)
        return self

    def due_at(self) -> float:
        """When the next job is due; checked to be not a moment before."""
        at = self.gathering.next_due()
        assert at is not None
        assert self.gathering.take_due(at - 0.001) == []
        return at

    def born(self) -> Due:
        (due,) = self.gathering.take_due(self.due_at())
        return due


def test_nothing_is_due_when_nothing_came() -> None:
    clock = Clock().ended(5)
    assert clock.gathering.next_due() is None
    assert clock.gathering.take_due(1e9) == []


def test_settle_counts_from_the_last_end() -> None:
    assert Clock().stored(0).stored(1).ended(2).due_at() == 17


def test_settle_0_is_the_release() -> None:
    clock = Clock(replace(WAITS, settle=0)).stored(0).ended(2)
    assert clock.due_at() == 2
    assert len(clock.born().arrivals) == 1


def test_a_new_instance_starts_the_wait_again() -> None:
    clock = Clock().stored(0).ended(2).stored(16, "b")
    assert clock.due_at() > 17
    assert clock.ended(18, "b").due_at() == 33


def test_an_open_association_holds_its_study_until_it_is_silent() -> None:
    """Workstations keep associations open for hours: settle_open after its last instance of it, then settle."""
    assert Clock().stored(0).due_at() == 45
    assert Clock().stored(0).stored(20).due_at() == 65


def test_what_an_open_association_sends_of_another_study_does_not_hold_this_one() -> None:
    clock = Clock().stored(0).stored(20, key=OTHER)
    assert clock.due_at() == 45
    assert clock.born().key == KEY
    assert clock.due_at() == 65


def test_one_that_is_silent_does_not_hold_up_one_that_sends() -> None:
    clock = Clock().stored(0, "silent").stored(10, "b").ended(12, "b")
    assert clock.due_at() == 45, "held by the silent one"
    assert clock.stored(29, "b").ended(40, "b").due_at() == 55, "no longer held"


def test_the_end_of_a_silent_association_starts_the_wait_again() -> None:
    assert Clock().stored(0).ended(40).due_at() == 55


@pytest.mark.parametrize("how", [End.ABORTED, End.CLOSED, End.TIMEOUT, End.STOPPED])
def test_after_an_abort_the_wait_is_longer(how: End) -> None:
    clock = Clock().stored(0).ended(2, how=how)
    assert clock.due_at() == 62
    assert clock.born().aborted


def test_the_second_try_joins_the_first() -> None:
    clock = Clock().stored(0).ended(2, how=ABORTED).stored(40, "b").stored(41, "b").ended(42, "b")
    assert clock.due_at() == 57
    due = clock.born()
    assert not due.aborted
    assert due.per_association() == {"a": 1, "b": 2}


def test_only_the_last_end_counts_as_abort() -> None:
    clock = Clock().stored(0, "a").stored(0, "b").ended(2, "b").ended(3, "a", ABORTED)
    assert clock.due_at() == 63
    assert clock.born().aborted


def test_max_wait_ends_the_wait_in_any_case() -> None:
    clock = Clock(replace(WAITS, max_wait=100))
    for second in range(0, 96, 5):
        clock.stored(second)
    assert clock.due_at() == 100
    assert len(clock.born().arrivals) == 20
    assert clock.stored(101).due_at() == 146, "what comes later begins a new job"


def test_an_end_that_concerns_nothing_changes_nothing() -> None:
    assert Clock().stored(0).ended(10, "b").due_at() == 45


def test_several_can_be_due_at_once() -> None:
    clock = Clock().stored(0).stored(0, key=OTHER).ended(1)
    assert {due.key for due in clock.gathering.take_due(16)} == {KEY, OTHER}
    assert clock.gathering.next_due() is None


def test_what_could_not_be_born_is_tried_again_with_what_came_since() -> None:
    clock = Clock().stored(0).ended(1, how=ABORTED)
    due = clock.born()
    clock.stored(62, "b")
    clock.gathering.put_back(due, replace(WAITS, settle=2, settle_after_abort=2), 63)
    assert clock.gathering.files_of("a") == {"1.2.1.dcm"}
    again = clock.ended(70, "b").born()
    assert [a.association for a in again.arrivals] == ["a", "b"]
    assert not again.aborted


def test_what_could_not_be_born_keeps_that_it_was_aborted() -> None:
    clock = Clock().stored(0).ended(1, how=ABORTED)
    clock.gathering.put_back(clock.born(), replace(WAITS, settle_after_abort=2), 100)
    assert clock.due_at() == 102
    assert clock.born().aborted


def test_files_of_names_what_waits() -> None:
    clock = Clock().stored(0).stored(0, key=OTHER).stored(0, "b")
    assert clock.gathering.files_of("a") == {"1.2.1.dcm", "1.2.2.dcm"}
    assert clock.gathering.associations() == {"a", "b"}
    assert [count for _, count, _ in clock.gathering.waiting()] == [2, 1]


def test_grouping_by_study_or_by_association() -> None:
    association = Association("a1", "PACS", "Proc", "10.0.0.1", now())
    assert grouping(association, "1.2", by_association=False) == KEY
    assert grouping(association, "1.2", by_association=True) == Key("PACS", "Proc", "1.2", "a1")


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["stored", "stored", "stored", "ended", "take", "fail"]),
        st.sampled_from("abc"),
        st.sampled_from([KEY, OTHER]),
        st.sampled_from(list(End)),
        st.floats(0, 80),
    ),
    max_size=60,
)


@given(EVENTS, st.builds(Waits, *(st.sampled_from([0.0, 1.0, 15.0, 90.0]) for _ in range(4))))
def test_every_arrival_ends_in_exactly_one_due(events: list[tuple[str, str, Key, End, float]], waits: Waits) -> None:
    """Whatever comes in whatever order, also when births fail and are tried again."""
    gathering, sent, born = Gathering(), list[Arrival](), list[Arrival]()
    at = 0.0
    for what, association, key, how, pause in events:
        at += pause
        if what == "stored":
            sent.append(arrival(association, len(sent)))
            gathering.stored(key, waits, sent[-1], at)
        elif what == "ended":
            gathering.ended(association, how, at)
        else:
            for due in gathering.take_due(at):
                assert due.arrivals
                if what == "fail":
                    gathering.put_back(due, waits, at)
                else:
                    born += due.arrivals
    for due in gathering.take_due(at + 1e6):
        born += due.arrivals
    assert Counter(born) == Counter(sent)
    assert gathering.next_due() is None
    assert list(gathering.waiting()) == []


@given(EVENTS)
def test_a_due_never_waits_longer_than_max_wait(events: list[tuple[str, str, Key, End, float]]) -> None:
    gathering, first, at = Gathering(), dict[Key, float](), 0.0
    for what, association, key, how, pause in events:
        at += pause
        if what == "ended":
            gathering.ended(association, how, at)
        elif what == "stored":
            first.setdefault(key, at)
            gathering.stored(key, replace(WAITS, max_wait=100), arrival(association), at)
        for waiting, _, due in gathering.waiting():
            assert due <= first[waiting] + 100
        for ready in gathering.take_due(at):
            del first[ready.key]
