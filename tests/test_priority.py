"""What goes first within a destination's queue: urgent, normal, low, by age, and nothing for ever last."""

import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from deliverbox import Box, fake
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from planned import PACS, entry, new_items

from magickbox.clock import to_text
from magickbox.delivery import Priority
from magickbox.destination import Delivered, DicomDestination, Result
from magickbox.ledger import Ledger, queues
from magickbox.queueing import lane_of
from magickbox.rules.file import RulesRefused, parse
from magickbox.sender import FakeSender, Item

NOW = datetime(2026, 3, 12, 12, tzinfo=UTC)
STEP = timedelta(hours=1)  # as docs/routing.md says


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    with closing(Ledger(tmp_path / "ledger.sqlite")) as ledger:
        yield Box(ledger, tmp_path / "jobs", FakeSender())


def test_urgent_goes_before_normal_before_low_and_what_is_in_hand_is_not_disturbed(box: Box) -> None:
    in_hand, go = threading.Event(), threading.Event()
    order: list[str] = []

    def answer(_destination: DicomDestination, item: Item) -> Result:
        order.append(item.path.parent.parent.name)
        if not in_hand.is_set():
            in_hand.set()
            assert go.wait(10)
        return Delivered()

    fake(box).answer = answer
    box.routed(replace(entry(PACS, new_items(2)), priority=Priority.LOW), name="first")
    with box.running() as stage:
        assert in_hand.wait(10)
        for name, priority in (("low", 2), ("normal", 1), ("urgent", 0), ("low-2", 2), ("urgent-2", 0)):
            box.routed(replace(entry(PACS, new_items(1)), priority=Priority(priority)), name=name)
        stage.wake()
        go.set()
        box.ends(name="low-2")
    assert order == ["first", "first", "urgent", "urgent-2", "normal", "low", "low-2"]


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(waiting=st.lists(st.tuples(st.sampled_from(Priority), st.integers(0, 240)), min_size=1, max_size=12))
def test_nothing_is_overtaken_by_what_came_due_much_later(
    tmp_path_factory: pytest.TempPathFactory, waiting: list[tuple[Priority, int]]
) -> None:
    root = tmp_path_factory.mktemp("box")
    with closing(Ledger(root / "ledger.sqlite")) as ledger:
        box = Box(ledger, root / "jobs", FakeSender())
        planned = [replace(entry(PACS, new_items(1)), priority=priority) for priority, _ in waiting]
        with_age = dict(zip(box.routed(*planned), waiting, strict=True))
        with ledger.transaction() as tx:
            for number, (_, minutes) in with_age.items():
                at = to_text(NOW - timedelta(minutes=minutes))
                tx.execute("UPDATE deliveries SET next_try = ? WHERE id = ?", (at, number))
        with ledger.reading() as tx:
            found = queues.due(tx, NOW, NOW + timedelta(days=1), lane_of(PACS), None)
            first = queues.due(tx, NOW, NOW + timedelta(days=1), lane_of(PACS), None, 1)
    assert {each.id for each in found} == set(with_age)
    assert first == found[:1]
    for n, before in enumerate(found):
        for behind in found[n + 1 :]:
            assert before.next_try is not None
            assert behind.next_try is not None
            lead = before.next_try - behind.next_try  # how much later came what goes first
            assert lead <= STEP * (behind.priority - before.priority)


def test_the_next_to_come_due_is_found_whatever_its_priority(box: Box) -> None:
    low, urgent = box.routed(
        *(replace(entry(PACS, new_items(1)), priority=each) for each in (Priority.LOW, Priority.URGENT))
    )
    with box.ledger.transaction() as tx:
        for number, minutes in ((low, 5), (urgent, 9)):
            at = to_text(NOW + timedelta(minutes=minutes))
            tx.execute("UPDATE deliveries SET next_try = ? WHERE id = ?", (at, number))
        assert queues.next_due(tx, lane_of(PACS), None, NOW) == NOW + timedelta(minutes=5)


STATION = '"IP": "10.0.0.5", "PORT": 104, "AETitleSender": "BOX", "AETitleTo": "PACS"'


def test_an_entry_has_the_priority_of_its_rule_unless_it_says_its_own() -> None:
    rules = parse(
        f"""{{ "routing": [
          {{ "priority": "low", "send": [
            {{ "success": {{ {STATION} }} }},
            {{ "success": {{ {STATION}, "priority": "urgent" }} }},
            {{ "success": {{ "to": "pacs", "priority": "normal" }} }} ] }},
          {{ "send": [ {{ "success": {{ "to": "pacs" }} }} ] }} ],
        "destinations": {{ "pacs": {{ {STATION} }} }} }}""",
        "routing.json",
    )
    priorities = [[each.priority for each in rule.endpoints] for rule in rules.rules]
    assert priorities == [[Priority.LOW, Priority.URGENT, Priority.NORMAL], [Priority.NORMAL]]


def test_another_word_is_refused_with_its_place() -> None:
    with pytest.raises(RulesRefused) as caught:
        parse(f'{{ "routing": [\n{{ "send": [ {{ "success": {{ {STATION}, "priority": "high" }} }} ] }} ] }}', "x.json")
    (said,) = caught.value.problems
    assert said.startswith("x.json, line 2, column ")
    assert 'expected "urgent", "normal" (default) or "low", found "high"' in said
