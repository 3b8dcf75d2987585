"""What a machine has to give, who of those that wait is next, and that nobody waits for ever: pure."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from math import inf
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from magickbox.allotment import NOTHING, Amount, asked_by, shortage, unbounded, unfit
from magickbox.config import load
from magickbox.job import JobPriority
from magickbox.machine import cards, cores, main_memory, room_of
from magickbox.processor import Processor
from magickbox.retry import Retry
from magickbox.waiting import OVERTAKING, PATIENCE, Head, Place, Waiting, Waitlist, in_order, next_of, shortages

G = 1 << 30
URGENT, NORMAL, OFF_PEAK = JobPriority
ROOM = Amount(8, 4, 16 * G, 1)
BEGIN = datetime(2026, 3, 12, tzinfo=UTC)


def processor(**resources: object) -> Processor:
    return Processor("Seg", Path("/p"), ("./run",), "Seg", resources=tuple(resources.items()))


def waiting(
    job: str, line: str, born: float = 0.0, reason: str = "born", priority: JobPriority | None = None
) -> Waiting:
    moment = BEGIN + timedelta(seconds=born)
    return Waiting(moment, job, line, moment, reason, priority)


A, B = Place("A"), Place("B")


def test_what_a_run_holds() -> None:
    assert asked_by(processor()) == asked_by(None) == Amount(1, 1, 0, 0)
    assert asked_by(processor(cpus=1.5, memory="16G", gpus=1, processes=3)) == Amount(1, 1.5, 16 * G, 1)


def test_what_can_never_fit_is_told_with_the_setting() -> None:
    assert unfit(processor(cpus=4, memory="16G", gpus=1), ROOM) is None
    assert unfit(processor(cpus=64), ROOM) == (
        "processor Seg asks for 64 processor cores (resources.cpus), and this box has 4 to give (setting cpus)"
    )
    assert "asks for 17 GB of memory (resources.memory), and this box has 16 GB" in str(
        unfit(processor(memory="17G"), ROOM)
    )
    no_cards = Amount(8, 4, 16 * G, 0)
    assert "asks for 1 graphics card (resources.gpus), and this box has none" in str(unfit(processor(gpus=1), no_cards))
    assert unfit(processor(cpus=64, memory="900G", gpus=8), unbounded(1)) is None


def test_parts_of_cores_add_up() -> None:
    third = Amount(1, 0.1, 0, 0)
    held = NOTHING
    for _ in range(10):
        held = held.plus(third)
    room = Amount(20, 1, 0, 0)
    assert room.less(held).lacks(Amount(1, 0.0000001, 0, 0)) == "cpus"
    for _ in range(9):
        room = room.less(third)
    assert room.lacks(third) is None


def test_why_it_waits_is_told_in_words() -> None:
    free = Amount(6, 2, 3 * G, 0)
    told = [shortage(asked_by(processor(**each)), free, ROOM) for each in ({"cpus": 4}, {"memory": "4G"}, {"gpus": 1})]
    assert told == [
        "waits for processor cores: it needs 4, 2 of 4 are free",
        "waits for memory: it needs 4 GB, 3 GB of 16 GB are free",
        "waits for graphics cards: it needs 1, 0 of 1 are free",
    ]
    assert shortage(Amount(), Amount(0, 0, 0, 0), ROOM) == "waits for a free slot: 8 of 8 are taken"
    assert shortage(Amount(), free, ROOM) == "waits behind a larger job, for which room is kept"


def test_a_line_is_told_once_and_who_comes_later_too() -> None:
    waitlist = Waitlist()
    for n in range(5):
        waitlist.add(waiting(f"j{n}", "A", n))
    assert waitlist.untold(A, "bad", 3) == ["j0", "j1", "j2"]
    assert waitlist.untold(A, "bad", 3) == ["j3", "j4"]
    waitlist.add(waiting("j5", "A", 5))
    waitlist.add(waiting("j6", "A", 6, "bad"))
    assert waitlist.untold(A, "bad", 3) == ["j5"], "the one that says so already is not told again"
    assert waitlist.untold(A, "bad", 3) == []
    assert waitlist.untold(A, "worse", 10) == [f"j{n}" for n in range(7)]


def test_who_is_taken_out_is_not_met_again() -> None:
    waitlist = Waitlist()
    for n in range(4):
        waitlist.add(waiting(f"j{n}", "A" if n % 2 else "B", n))
    waitlist.remove("j1")
    waitlist.remove("nobody")
    first = waitlist.first(A)
    assert first is not None
    assert (first.job, len(waitlist)) == ("j3", 3)
    waitlist.only(["j0", "j2"])
    assert waitlist.lines() == [B]
    waitlist.add(waiting("j1", "A", 1))
    assert waitlist.first(A) == waiting("j1", "A", 1)


def head(
    line: str, born: float, needs: Amount, short_since: float | None = None, priority: JobPriority = NORMAL
) -> Head:
    return Head(Place(line), waiting(line, line, born), needs, short_since, priority)


def test_the_oldest_that_fits_goes_first_until_the_large_one_has_lost_its_patience() -> None:
    big, small = head("big", 0, Amount(1, 4, 0, 0), 0.0), head("small", 1, Amount(1, 1, 0, 0))
    card = head("card", 2, Amount(1, 0, G, 1))
    free = Amount(6, 2, 16 * G, 1)
    heads = in_order([card, small, big])
    assert [each.line.called_ae for each in heads] == ["big", "small", "card"]
    assert next_of(heads, free, PATIENCE - 1) == small
    assert next_of(heads, free, PATIENCE) == card, "what does not keep the large one waiting still goes"
    assert next_of(heads[:2], free, PATIENCE) is None
    assert shortages(heads[:2], free, ROOM, PATIENCE)[small.line].startswith("waits behind a larger job")
    assert next_of(heads, ROOM, PATIENCE) == big


def test_what_is_urgent_goes_first_but_not_before_what_has_waited_for_hours() -> None:
    step = OVERTAKING.total_seconds()
    urgent, normal, late = head("u", 100, Amount(), priority=URGENT), head("n", 50, Amount()), head("l", 0, Amount())
    assert [each.line.called_ae for each in in_order([late, normal, urgent])] == ["u", "l", "n"]
    assert in_order([head("u", step + 1, Amount(), priority=URGENT), late])[0] == late
    assert in_order([head("o", 0, Amount(), priority=OFF_PEAK), head("n", step - 1, Amount())])[0].line == Place("n")
    assert in_order([head("o", 0, Amount(), priority=OFF_PEAK), head("n", step + 1, Amount())])[0].line == Place("o")


def test_for_what_is_urgent_room_is_kept_at_once() -> None:
    big = head("big", 0, Amount(1, 4, 0, 0), 5.0, URGENT)
    assert next_of([big, head("small", 1, Amount())], Amount(6, 2, 16 * G, 1), 5.0) is None


def test_a_job_that_is_made_urgent_stands_in_another_line() -> None:
    waitlist = Waitlist()
    for n in range(3):
        waitlist.add(waiting(f"j{n}", "A", n))
    waitlist.add(waiting("j1", "A", 1, priority=URGENT))
    assert waitlist.lines() == [A, Place("A", URGENT)]
    assert [waitlist.first(line).job for line in waitlist.lines()] == ["j0", "j1"]  # type: ignore[union-attr]
    waitlist.remove("j0")
    assert waitlist.first(A) == waiting("j2", "A", 2)
    assert waitlist.untold(A, "bad", 9) == ["j2"]
    waitlist.add(waiting("j1", "A", 1))
    assert waitlist.first(A) == waiting("j1", "A", 1)
    assert (len(waitlist), waitlist.lines()) == (2, [A])


@dataclass
class Simulation:
    """A machine on which jobs come, run and end, by the rules of the waitlist."""

    room: Amount
    now: float = 0.0
    waitlist: Waitlist = field(default_factory=Waitlist)
    running: dict[str, tuple[float, Amount]] = field(default_factory=dict)
    began: dict[str, float] = field(default_factory=dict)

    def free(self) -> Amount:
        held = NOTHING
        for _, amount in self.running.values():
            held = held.plus(amount)
        assert self.room.lacks(held) is None, "never more than there is"
        return self.room.less(held)

    def fill(self, needs: dict[str, Amount], took: dict[str, float]) -> None:
        while True:
            all_of = [self.waitlist.head(line, needs[line.called_ae]) for line in self.waitlist.lines()]
            heads = in_order(each for each in all_of if each is not None)
            found = next_of(heads, self.free(), self.now)
            if found is None:
                break
            self.waitlist.remove(found.waiting.job)
            self.running[found.waiting.job] = (self.now + took[found.line.called_ae], found.needs)
            self.began[found.waiting.job] = self.now
        for each in heads:
            self.waitlist.waits(each.line, self.now, is_short=True)

    def end_next(self) -> None:
        self.now, job = min((ends, job) for job, (ends, _) in self.running.items())
        del self.running[job]


KIND = st.tuples(st.integers(1, 4), st.integers(0, 16), st.integers(0, 1), st.integers(1, 500))


@settings(max_examples=60, deadline=None)
@given(st.lists(KIND, min_size=1, max_size=4), st.lists(st.integers(0, 3), max_size=30), st.integers(1, 3))
def test_nothing_waits_for_ever_behind_a_stream_of_what_fits(
    kinds: list[tuple[int, int, int, int]], arrivals: list[int], at_once: int
) -> None:
    needs = {f"k{n}": Amount(1, cpus, memory * G, gpus) for n, (cpus, memory, gpus, _) in enumerate(kinds)}
    took = {f"k{n}": float(seconds) for n, (_, _, _, seconds) in enumerate(kinds)}
    needs |= {"huge": Amount(1, 4, 16 * G, 1), "tiny": Amount(1, 1, 0, 0)}
    took |= {"huge": 10.0, "tiny": 100.0}
    machine = Simulation(ROOM)
    for n, kind in enumerate(arrivals):
        machine.waitlist.add(waiting(f"early{n}", f"k{kind % len(kinds)}", -1000 + n))
    machine.waitlist.add(waiting("huge", "huge", 0))
    n = 0
    while "huge" not in machine.began:
        for _ in range(at_once + 4):  # a stream that alone keeps the machine busy for ever
            n += 1
            machine.waitlist.add(waiting(f"tiny{n}", "tiny", n))
        machine.fill(needs, took)
        if "huge" not in machine.began:
            machine.end_next()
    ahead = sum(took[f"k{kind % len(kinds)}"] + PATIENCE for kind in arrivals)
    assert machine.began["huge"] <= ahead + PATIENCE + max(took.values())


def test_what_the_machine_has(tmp_path: Path) -> None:
    own = tmp_path / "cgroup"
    own.write_text("0::/a.slice/b.service\n")
    inner = tmp_path / "fs" / "a.slice" / "b.service"
    inner.mkdir(parents=True)
    (inner / "cpu.max").write_text("max 100000\n")
    (inner.parent / "cpu.max").write_text("50000 100000\n")
    (inner.parent / "memory.max").write_text("max\n")
    (inner / "memory.max").write_text(f"{G}\n")
    assert cores(tmp_path / "fs", own) == 0.5
    assert main_memory(tmp_path / "fs", own) == G
    own.write_text("4:cpu,cpuacct:/a\n3:memory:/a\n")
    (tmp_path / "fs" / "memory" / "a").mkdir(parents=True)
    (tmp_path / "fs" / "memory" / "a" / "memory.limit_in_bytes").write_text(f"{2 * G}\n")
    assert main_memory(tmp_path / "fs", own) == 2 * G
    assert cores(tmp_path / "fs", own) == cores(tmp_path, tmp_path / "none") >= 1


def test_cards_are_counted_by_their_devices(tmp_path: Path) -> None:
    assert cards(tmp_path) == 0
    (tmp_path / "dri").mkdir()
    for name in ("dri/card0", "dri/renderD128", "dri/renderD129"):
        (tmp_path / name).touch()
    assert cards(tmp_path) == 2
    for name in ("nvidia0", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    assert cards(tmp_path) == 1


def test_the_settings_say_what_there_is_to_give() -> None:
    given = {"slots": 3, "cpus": "6.5", "memory": "20G", "gpus": 2}
    assert room_of(load(None, {}, given).settings) == Amount(3, 6.5, 20 * G, 2)  # type: ignore[arg-type]  # options
    assert room_of(load(None, {}, {"memory": "0"}).settings).memory == inf
    found = room_of(load(None, {}, {"slots": 900}).settings)
    assert found.cpus == 900, "whoever wants more slots than cores gets them"
    assert found.memory > main_memory() > 0


@pytest.mark.parametrize("value", ["0", "many", "-1", "true", True])
def test_odd_numbers_of_cores_are_refused(value: str) -> None:
    with pytest.raises(Exception, match="cpus"):
        load(None, {}, {"cpus": value})


def test_which_failures_pass() -> None:
    retry = Retry(1, ("timeout", "oom", "exit:75", "exit:137"))
    causes = [
        retry.cause(limit, code)
        for limit, code in (("timeout", -15), ("oom", -9), ("oom", 1), ("limit", 75), (None, 75), (None, -9), (None, 1))
    ]
    assert causes == ["timeout", "oom", "oom", None, "exit:75", "exit:137", None]
    assert Retry(1, ("exit:75",)).cause(None, None) is None


def test_one_that_was_held_and_released_meanwhile_is_told_again_what_its_line_waits_for() -> None:
    waitlist = Waitlist()
    waitlist.add(waiting("1", "A"))
    waitlist.add(waiting("2", "A"))
    assert waitlist.untold(A, "it is bad", 10) == ["1", "2"]
    waitlist.add(waiting("2", "A", reason="released"))
    waitlist.add(waiting("1", "A", reason="it is bad"))
    assert waitlist.untold(A, "it is bad", 10) == ["2"]
    assert waitlist.untold(A, "it is bad", 10) == []
