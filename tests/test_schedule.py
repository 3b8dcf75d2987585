"""When a destination may be sent to, and how much: pure, with the time given."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from magickbox.rules.file import RulesRefused, parse
from magickbox.schedule import DAY, Hours, Rate, Ration, read_hours

MIDNIGHT = datetime(2026, 3, 12, tzinfo=UTC)


def at(hour: int, minute: int = 0, second: int = 0) -> datetime:
    return MIDNIGHT + timedelta(hours=hour, minutes=minute, seconds=second)


@pytest.mark.parametrize(
    ("text", "moment", "closed"),
    [
        ("18:00-06:00", at(17, 59, 30), 30),
        ("18:00-06:00", at(18), 0),
        ("18:00-06:00", at(23, 59, 59), 0),
        ("18:00-06:00", at(5, 59, 59), 0),
        ("18:00-06:00", at(6), 12 * 3600),
        ("8:00-12:00, 13:00-24:00", at(12, 30), 1800),
        ("8:00-12:00, 13:00-24:00", at(0), 8 * 3600),
        ("00:00-24:00", at(3), 0),
    ],
)
def test_hours(text: str, moment: datetime, closed: float) -> None:
    assert read_hours(text).closed_for(moment) == pytest.approx(closed)


@pytest.mark.parametrize("wrong", ["", "18-6", "25:00-06:00", "18:00-06:60", "18:00", "24:01-06:00", "18:00-06:00,"])
def test_what_is_no_time_of_day(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"is not a time of day|a day ends at 24:00"):
        read_hours(wrong)


MINUTES = st.integers(0, DAY - 1)


@given(st.lists(st.tuples(MINUTES, MINUTES), min_size=1, max_size=4), st.integers(0, 86399))
def test_it_is_open_when_that_is_said_and_closed_the_second_before(windows: list[tuple[int, int]], second: int) -> None:
    hours, moment = Hours(tuple(windows)), MIDNIGHT + timedelta(seconds=second)
    closed = hours.closed_for(moment)
    assert 0 <= closed < 86400
    if closed:
        opens = moment + timedelta(seconds=round(closed))
        assert hours.closed_for(opens) == 0
        assert hours.closed_for(opens - timedelta(seconds=1)) > 0


RATES = st.builds(Rate, st.floats(0, 6000), st.floats(0, 1000))


@given(RATES, st.lists(st.tuples(st.floats(0, 10), st.integers(0, 10**9)), max_size=30))
def test_never_more_than_the_rate_allows(rate: Rate, comings: list[tuple[float, int]]) -> None:
    """However they come: from the first to the last begun lies at least what all but the last cost."""
    ration, moment, begun = Ration(), 0.0, []
    for pause, size in comings:
        moment += pause
        moment += ration.left(moment)
        assert ration.left(moment) <= 1e-6 * max(1.0, moment)
        ration = ration.used(moment, rate.cost(size))
        begun.append((moment, rate.cost(size)))
    if begun:
        assert begun[-1][0] - begun[0][0] >= sum(cost for _, cost in begun[:-1]) * (1 - 1e-6) - 1e-6


def test_the_dearer_of_both_limits_counts() -> None:
    assert Rate(60, 10).cost(5_000_000) == 1.0
    assert Rate(60, 10).cost(50_000_000) == 5.0
    assert Rate().cost(10**9) == 0.0


RULES = """{ "destinations": { "pacs": { "IP": "10.0.0.5", "PORT": 104, "AETitleSender": "BOX", "AETitleTo": "PACS",
    "queue": %s } }, "routing": [] }"""


def test_the_rules_say_how_a_destination_is_served() -> None:
    rules = parse(RULES % '{ "connections": 3, "hours": "18:00-06:00", "megabytes_per_second": 5 }', "x")
    policy = rules.policy_of("pacs")
    assert (policy.connections, policy.hours, policy.rate) == (3, read_hours("18:00-06:00"), Rate(0, 5))
    assert rules.policy_of("pacs@10.0.0.9:104") == policy
    assert rules.policy_of("PACS@10.0.0.5:104").connections == 1


@pytest.mark.parametrize(
    ("queue", "said"),
    [
        ('{ "connections": 0 }', "destinations.pacs.queue.connections"),
        ('{ "hours": "18-6" }', "'18-6' is not a time of day such as 18:00-06:00"),
        ('{ "instances_per_minute": 0 }', "destinations.pacs.queue.instances_per_minute"),
        ('{ "conections": 2 }', "did you mean 'connections'?"),
    ],
)
def test_a_mistake_is_named_with_its_place(queue: str, said: str) -> None:
    with pytest.raises(RulesRefused) as refused:
        parse(RULES % queue, "x")
    assert said in "".join(refused.value.problems)
