"""Budgets and pauses, and what an attempt's outcome means."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from magickbox.delivery import Progress
from magickbox.pace import DAY, Again, Arrived, Failed, Outcome, Pace, Verdict, judge_attempt

TRIES = st.integers(1, 100_000)
AGES = st.floats(0, 30 * DAY)
SEEDS = st.integers().map(random.Random)


def test_with_a_fallback_three_attempts_and_pauses_of_5_and_15_s() -> None:
    assert [Pace().next_pause(tries, 0, True, random.Random()) for tries in (1, 2, 3, 4)] == [5, 15, None, None]


@given(TRIES, AGES, SEEDS)
def test_without_a_fallback_a_pause_is_at_most_15_minutes_and_the_budget_7_days(
    tries: int, age: float, rng: random.Random
) -> None:
    pause = Pace().next_pause(tries, age, False, rng)
    assert (pause is None) == (age >= 7 * DAY)
    assert pause is None or 0 < pause <= 900


@given(st.integers(1, 7), SEEDS)
def test_pauses_grow_in_spite_of_their_jitter(tries: int, rng: random.Random) -> None:
    pace = Pace()
    one, next_one = pace.next_pause(tries, 0, False, rng), pace.next_pause(tries + 1, 0, False, rng)
    assert one is not None
    assert next_one is not None
    assert next_one > one


@given(SEEDS)
def test_the_long_budget_is_some_hundred_attempts_not_thousands(rng: random.Random) -> None:
    pace, age, tries = Pace(), 0.0, 0
    while (pause := pace.next_pause(tries + 1, age, False, rng)) is not None:
        age, tries = age + pause, tries + 1
    assert 600 < tries < 1000


@given(st.floats(0.001, 10), TRIES, SEEDS)
def test_a_scaled_pace_scales_every_time(factor: float, tries: int, rng: random.Random) -> None:
    state = rng.getstate()
    plain = Pace().next_pause(tries, 0, False, rng)
    rng.setstate(state)
    assert Pace().scaled(factor).next_pause(tries, 0, False, rng) == pytest.approx((plain or 0) * factor)


@given(SEEDS, st.floats(0, 1e6))
def test_a_wish_to_wait_is_granted_up_to_the_longest_pause_where_nothing_else_waits(
    rng: random.Random, after: float
) -> None:
    outcome = Outcome(trouble="HTTP 503", after=after)
    patient = judge_attempt(Progress(pending=1), outcome, 1, 0, False, Pace(), rng)
    hasty = judge_attempt(Progress(pending=1), outcome, 1, 0, True, Pace(), rng)
    assert isinstance(patient, Again)
    assert isinstance(hasty, Again)
    assert max(3.75, min(after, 900)) <= patient.pause <= max(5, min(after, 900))
    assert hasty.pause == 5


P, O = Progress, Outcome  # noqa: E741  the table is easier to read


@pytest.mark.parametrize(
    ("left", "outcome", "tries", "age", "has_fallback", "expected"),
    [
        (P(sent=3), O(sent=3), 1, 0, False, Arrived()),
        (P(sent=3), O(), 1, 0, True, Arrived()),
        (P(sent=2, rejected=1), O(), 2, 0, False, Failed("1 of 3 instances refused for good")),
        (P(rejected=3), O(), 2, 0, True, Failed("3 of 3 instances refused for good")),
        (P(pending=1, sent=2), O(0, 0, "no way"), 3, 0, True, Failed("given up after 3 attempts: no way")),
        (P(pending=1), O(0, 0, "no way"), 900, 7 * DAY, False, Failed("given up after 7.0 days: no way")),
        (P(pending=1), O(0, 0, "no way"), 1, 0, True, Again(5, 1, "no way")),
        (P(pending=1), O(0, 0, "no way"), 2, 0, True, Again(15, 2, "no way")),
        (P(pending=1), O(0, 0, "no way"), 2, 0, False, Again(10, 2, "no way")),
        (P(pending=1), O(0, 0, "no way"), 99, 0, False, Again(900, 99, "no way")),
        # A refusal is asked again soon, whatever the budget; one that waits for a peer that is gone is not hurried.
        (P(refused=1), O(0, 1), 1, 0, False, Again(1, 1, "1 of 1 instances refused once, to be asked again")),
        (P(refused=1), O(0, 1), 1, 0, True, Again(1, 1, "1 of 1 instances refused once, to be asked again")),
        (P(refused=1, sent=1), O(0, 0, "x"), 3, 0, False,
         Again(20, 3, "x; 1 of 2 instances refused once, to be asked again")),
        # The budget counts for refusals too.
        (P(refused=1), O(0, 1, ""), 3, 0, True,
         Failed("given up after 3 attempts: 1 of 1 instances refused once, to be asked again")),
        # What gets something through begins anew; with a fallback a person waits, so it does not.
        (P(pending=5, sent=5), O(5, 0, "aborted"), 9, 0, False, Again(5, 1, "aborted")),
        (P(pending=5, sent=5), O(5, 0, "aborted"), 3, 0, True, Failed("given up after 3 attempts: aborted")),
        (P(pending=1, rejected=1), O(0, 0, "0xA700"), 2, 0, False,
         Again(10, 2, "0xA700; 1 of 2 instances refused for good")),
    ],
)  # fmt: skip
def test_what_an_attempt_means(
    left: Progress, outcome: Outcome, tries: int, age: float, has_fallback: bool, expected: Verdict
) -> None:
    pace = Pace(jitter=0.0)
    assert judge_attempt(left, outcome, tries, age, has_fallback, pace, random.Random()) == expected


@given(
    st.builds(Progress, *[st.integers(0, 3)] * 4),
    st.builds(Outcome, st.integers(0, 3), st.integers(0, 3), st.sampled_from(["", "trouble"])),
    TRIES,
    AGES,
    st.booleans(),
    SEEDS,
)
def test_a_verdict_never_leaves_work_behind(
    left: Progress, outcome: Outcome, tries: int, age: float, has_fallback: bool, rng: random.Random
) -> None:
    verdict = judge_attempt(left, outcome, tries, age, has_fallback, Pace(), rng)
    if isinstance(verdict, Arrived):
        assert left == Progress(sent=left.sent)
    elif isinstance(verdict, Again):
        assert left.pending or left.refused
    else:
        assert left.pending or left.refused or left.rejected
        assert verdict.reason
