"""What destinations took, written down beside the ledger: a kill takes nothing back, and nothing stale counts."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from deliverbox import Box
from peers import wait_for
from planned import PACS, entry, new_items, routed

from magickbox.delivery import DeliveryState, ItemState
from magickbox.ledger import Ledger, deliveries
from magickbox.ledger.responses import MOST, Responses
from magickbox.sender import FakeSender

SENT, PENDING = ItemState.SENT, ItemState.PENDING
COUNTING = """
import sys
from pathlib import Path
from magickbox.ledger import Ledger
from magickbox.ledger.responses import Responses
responses = Responses(Ledger(Path(sys.argv[1])), moment=60)
for n in (1, 3):
    assert responses.took(int(sys.argv[2]), 1, n)
print("written", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with closing(Ledger(tmp_path / "ledger.sqlite")) as ledger:
        yield ledger


def begun(ledger: Ledger, count: int = 3) -> int:
    """A delivery with an attempt under way."""
    (number,) = routed(ledger, entry(PACS, new_items(count)))
    with ledger.transaction() as tx:
        assert deliveries.begin_attempt(tx, number) == 1
    return number


def states(ledger: Ledger, number: int) -> list[ItemState]:
    with ledger.reading() as tx:
        return [item.state for item in deliveries.instances_of(tx, number)]


def test_a_kill_takes_back_nothing_that_was_written_down(ledger: Ledger) -> None:
    number = begun(ledger)
    words = [sys.executable, "-c", COUNTING, str(ledger.path), str(number)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"written\n"
        process.send_signal(signal.SIGKILL)
    assert states(ledger, number) == [PENDING] * 3
    responses = Responses(ledger)
    responses.recover()
    assert states(ledger, number) == [SENT, PENDING, SENT]
    assert not responses.path.exists()
    responses.recover()


def test_what_waits_is_in_the_ledger_a_moment_later_without_another_word(ledger: Ledger) -> None:
    number = begun(ledger)
    with closing(Responses(ledger, moment=0.01)) as responses:
        assert responses.took(number, 1, 2)
        wait_for(lambda: states(ledger, number) == [PENDING, SENT, PENDING])
        wait_for(lambda: responses.path.read_bytes() == b"")


def test_many_at_once_are_due_and_the_end_leaves_nothing(ledger: Ledger) -> None:
    number = begun(ledger, MOST + 1)
    with closing(Responses(ledger, moment=60)) as responses:
        due = []
        for n in range(1, MOST + 1):
            assert responses.took(number, 1, n)
            due.append(responses.is_due)
        assert due[-1]
        responses.flush()
        assert not responses.is_due
        assert states(ledger, number) == [SENT] * MOST + [PENDING]
        assert responses.took(number, 1, MOST + 1)
    assert states(ledger, number) == [SENT] * (MOST + 1)
    assert responses.path.read_bytes() == b""


def test_what_was_written_before_an_attempts_end_does_not_count_after_it(ledger: Ledger) -> None:
    """A power loss may bring back a file that was emptied; meanwhile the destination may have lost the instance."""
    number = begun(ledger)
    responses = Responses(ledger, moment=60)
    assert responses.took(number, 1, 1)
    old = responses.path.read_bytes()
    responses.close()
    with ledger.transaction() as tx:
        deliveries.end_attempt(tx, number, 1, 1, 0, "")
        tx.execute("UPDATE delivery_instances SET state = 'PENDING'")
        deliveries.begin_attempt(tx, number)
    responses.path.write_bytes(old)
    responses.recover()
    assert states(ledger, number) == [PENDING] * 3


def test_parts_of_lines_and_what_is_none_are_passed_over(ledger: Ledger) -> None:
    number = begun(ledger)
    responses = Responses(ledger, moment=60)
    for n in (1, 2):
        assert responses.took(number, 1, n)
    first, second = responses.path.read_bytes().split(b"\n\n")
    responses.path.write_bytes(second[:-7] + b"\n" + first + b"\n" + b"\0" * 4096 + b"\nx y\n1 1 3 2026 00000000\n\xff")
    Responses(ledger).recover()
    assert states(ledger, number) == [SENT, PENDING, PENDING]
    responses.close()


def test_where_nothing_can_be_written_down_the_ledger_has_to_know_at_once(tmp_path: Path, ledger: Ledger) -> None:
    (tmp_path / "ledger.sqlite-responses").mkdir()
    responses = Responses(ledger)
    assert not responses.took(begun(ledger), 1, 1)
    assert not responses.is_due
    (tmp_path / "ledger.sqlite-responses").rmdir()
    box = Box(ledger, tmp_path, FakeSender())
    box.routed(entry(PACS), name="other")
    with box.running():
        wait_for(lambda: box.states("other") == [DeliveryState.DELIVERED])


def test_a_short_write_hides_no_other_line(ledger: Ledger) -> None:
    number = begun(ledger)
    responses = Responses(ledger, moment=60)
    with responses.path.open("ab") as file:
        file.write(b"\n1 1 2 2026-")  # all that there was room for
    assert responses.took(number, 1, 3)
    Responses(ledger).recover()
    assert states(ledger, number) == [PENDING, PENDING, SENT]
    responses.close()
