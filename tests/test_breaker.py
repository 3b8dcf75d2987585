"""When a destination counts as unreachable: pure, with the time given."""

import random
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from magickbox.breaker import Circuit
from magickbox.pace import Pace

START = datetime(2026, 3, 12, 17, 12, tzinfo=UTC)
PACE = Pace()


def after(answers: list[bool], seed: int = 1) -> Circuit:
    circuit, rng = Circuit(), random.Random(seed)
    for n, answered in enumerate(answers):
        moment = START + timedelta(seconds=n)
        circuit = circuit.answered() if answered else circuit.unanswered(moment, f"no {n}", PACE, rng)
    return circuit


def test_it_opens_at_the_third_failure_in_a_row_and_keeps_since_when() -> None:
    assert not after([False, False]).is_open
    assert not after([False, False, True, False, False]).is_open
    third, fifth = after([False] * 3), after([False] * 5)
    assert third.open_since == fifth.open_since == START + timedelta(seconds=2)
    assert (third.probes, fifth.probes) == (0, 2)
    assert fifth.reason == "no 4"


@given(st.lists(st.booleans(), max_size=30), st.integers())
def test_one_answer_closes_it_whatever_came_before(answers: list[bool], seed: int) -> None:
    assert after([*answers, True], seed) == Circuit()


@given(st.lists(st.booleans(), max_size=30), st.integers())
def test_it_is_open_exactly_if_the_last_three_got_no_answer(answers: list[bool], seed: int) -> None:
    assert after(answers, seed).is_open == (len(answers) >= 3 and not any(answers[-3:]))


@given(st.integers(0, 2000), st.integers())
def test_the_pauses_between_probes_grow_up_to_a_limit_and_differ(probes: int, seed: int) -> None:
    pause = PACE.next_probe(probes, random.Random(seed))
    longest = min(PACE.longest_probe, PACE.probe * 2.0 ** min(probes, 60))
    assert longest * (1 - PACE.jitter) <= pause <= longest


@given(st.integers(-(10**9), 10**9))
def test_the_next_probe_is_never_farther_than_the_longest_pause(seconds: int) -> None:
    """However the clock is set meanwhile."""
    circuit = after([False] * 3)
    pause = circuit.probe_in(START + timedelta(seconds=seconds), PACE.longest_probe)
    assert 0.0 <= pause <= PACE.longest_probe


def test_asking_soon_changes_only_one_that_is_open() -> None:
    assert after([False] * 3).asked_soon(START).probe_in(START, 120.0) == 0.0
    assert after([False]).asked_soon(START) == after([False])
