"""What is told of trouble and when: pure, with the time given."""

import itertools
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from magickbox.alarm import MOST, Key, Kind, Message, Says, Told, Trouble, compare, fold, forgettable, remember, trial

START = datetime(2026, 3, 12, 17, 12, tzinfo=UTC)
PAUSE = 100.0
LOOK = 10  # seconds
SUBJECTS = ("PACS", "QC")


def trouble(subject: str) -> Trouble:
    return Trouble(Kind.UNREACHABLE, subject, START, "connection refused")


def told_in(looks: Sequence[frozenset[str]]) -> list[tuple[int, str, Says]]:
    """What is told when these destinations are in trouble at these looks: the second, the subject, what is said."""
    told: dict[Key, Told] = {}
    said = []
    for n, present in enumerate(looks):
        moment = START + timedelta(seconds=n * LOOK)
        for message in list(compare(told, [trouble(each) for each in sorted(present)], moment, PAUSE)):
            told[message.trouble.key] = remember(told, message)
            said.append((n * LOOK, message.trouble.subject, message.says))
        for key in forgettable(told, moment, PAUSE):
            del told[key]
    return said


def test_new_trouble_at_once_again_after_the_pause_and_when_it_is_over() -> None:
    looks = [frozenset({"PACS"})] * 12 + [frozenset()] * 2
    assert told_in(looks) == [(0, "PACS", Says.ALARM), (100, "PACS", Says.AGAIN), (120, "PACS", Says.CLEAR)]


def test_trouble_that_comes_and_goes_is_told_once_in_a_pause() -> None:
    looks = [frozenset({"PACS"}), frozenset()] * 8
    assert told_in(looks) == [
        (0, "PACS", Says.ALARM), (10, "PACS", Says.CLEAR), (100, "PACS", Says.ALARM), (110, "PACS", Says.CLEAR),
    ]  # fmt: skip


LOOKS = st.lists(st.frozensets(st.sampled_from(SUBJECTS)), max_size=60)


@given(LOOKS)
def test_no_subject_is_told_twice_in_a_pause_and_none_is_forgotten(looks: list[frozenset[str]]) -> None:
    said = told_in(looks)
    for subject in SUBJECTS:
        own = [(at, says) for at, who, says in said if who == subject]
        loud = [at for at, says in own if says is not Says.CLEAR]
        assert all(later - sooner >= PAUSE for sooner, later in itertools.pairwise(loud))
        for n in range(len(looks) - int(PAUSE) // LOOK):  # what lasts for a whole pause is told in it
            window = looks[n : n + int(PAUSE) // LOOK + 1]
            if all(subject in present for present in window):
                assert any(n * LOOK <= at <= n * LOOK + PAUSE for at in loud)


@given(LOOKS)
def test_after_all_is_over_the_last_word_on_each_is_that_it_is(looks: list[frozenset[str]]) -> None:
    last = {subject: says for _, subject, says in told_in([*looks, frozenset()])}
    assert set(last.values()) <= {Says.CLEAR}
    clears = [(at, who) for at, who, says in told_in([*looks, frozenset()]) if says is Says.CLEAR]
    assert len(clears) == len([1 for _, _, says in told_in([*looks, frozenset()]) if says is Says.ALARM])


def test_a_clock_that_was_set_back_silences_nobody() -> None:
    told = {trouble("PACS").key: Told(trouble("PACS"), START + timedelta(days=700))}
    (message,) = compare(told, [trouble("PACS")], START, PAUSE)
    assert message.says is Says.AGAIN


@given(st.integers(0, 60))
def test_many_of_a_kind_are_told_as_one(count: int) -> None:
    many = [Trouble(Kind.ATTENTION, f"job-{n}", START + timedelta(seconds=n), "dead") for n in range(count)]
    folded = fold(many[:MOST], count)
    assert folded[: min(count, MOST)] == many[:MOST]
    assert len(folded) == min(count, MOST + 1)
    if count > MOST:
        assert folded[-1].reason == f"{count - MOST} more of the same kind"


def test_a_message_is_one_json_object_in_one_line() -> None:
    line = Message(Says.ALARM, trouble("PACS"), START).as_line("BOX")
    assert line.count(b"\n") == 1
    assert json.loads(line) == {
        "box": "BOX",
        "says": "alarm",
        "kind": "unreachable",
        "subject": "PACS",
        "since": "2026-03-12T17:12:00.000000+00:00",
        "at": "2026-03-12T17:12:00.000000+00:00",
        "reason": "connection refused",
    }
    assert json.loads(trial(START).as_line("BOX"))["says"] == "test"
