"""Groups of destinations: the pure choice of a member, the rules that describe them, and what the stage makes of it."""

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import peers
import pytest
from deliverbox import BUSY, QUICK, Box, answers, fake, unreachable
from hypothesis import given
from hypothesis import strategies as st
from planned import QC, entry, new_items

from magickbox.delivery import DeliveryState, NewDelivery
from magickbox.destination import Delivered, DicomDestination
from magickbox.group import Group, MemberState, Policy, Situation, choose
from magickbox.grouping import Picking
from magickbox.job import JobState
from magickbox.ledger import Ledger, deliveries, groups, queues
from magickbox.queueing import DestinationPolicy, Mode, lane_of
from magickbox.routing import Rules
from magickbox.rules.file import RulesRefused, parse
from magickbox.sender import FakeSender

S = DeliveryState
ONE, TWO, THREE = (DicomDestination("127.0.0.1", 104 + n, "BOX", f"PACS{n}", f"PACS{n}") for n in (1, 2, 3))
MEMBERS = (ONE, TWO, THREE)
NAMES = tuple(each.name for each in MEMBERS)


def group(policy: Policy = Policy.FAILOVER, *members: DicomDestination) -> Group:
    return Group("PACS", members or MEMBERS, policy)


# The pure choice

TROUBLES = st.sampled_from(["", "", "paused", "unreachable", "draining"])
SITUATIONS = st.builds(
    lambda members, last, homes, bound: Situation(members, last, tuple(homes), bound),
    st.fixed_dictionaries({name: st.builds(MemberState, TROUBLES, st.integers(0, 5)) for name in NAMES}),
    st.sampled_from(["", *NAMES, "gone"]),
    st.lists(st.sampled_from([*NAMES, "gone"]), unique=True),
    st.sampled_from(["", "", "gone", *NAMES]),
)
AVOIDED = st.frozensets(st.sampled_from(NAMES))
POLICIES = st.sampled_from(Policy)


@given(POLICIES, SITUATIONS, AVOIDED)
def test_a_member_that_is_not_well_gets_nothing_new_while_another_is(
    policy: Policy, situation: Situation, avoid: frozenset[str]
) -> None:
    choice = choose(group(policy), situation, "1.2", avoid)
    assert choice.member in NAMES
    well = {name for name in NAMES if not situation.members[name].trouble} - avoid
    if situation.bound in NAMES:
        assert choice.member == situation.bound
    elif well:
        assert choice.member in well
        assert choice.is_well
    else:
        assert not choice.is_well
        assert not choice.by_turn


@given(POLICIES, SITUATIONS)
def test_a_study_stays_where_it_went_while_that_is_well(policy: Policy, situation: Situation) -> None:
    choice = choose(group(policy), situation, "1.2")
    homes = [name for name in situation.homes if name in NAMES and not situation.members[name].trouble]
    if homes and situation.bound not in NAMES:
        assert choice.member == homes[0]
        assert choice.why == "its study went there"


@given(st.lists(st.integers(0, 30), min_size=1, max_size=90), st.sampled_from([MEMBERS, MEMBERS[:2]]))
def test_round_robin_is_fair_to_studies_however_often_each_comes(
    studies: list[int], members: tuple[DicomDestination, ...]
) -> None:
    """Each new study goes to the next member; one that comes again changes nobody's turn."""
    last, homes = "", dict[str, str]()
    for study in map(str, studies):
        known = (homes[study],) if study in homes else ()
        choice = choose(group(Policy.ROUND_ROBIN, *members), Situation({}, last, known), study)
        assert homes.setdefault(study, choice.member) == choice.member
        last = choice.member if choice.by_turn else last
    counts = Counter(homes.values())
    assert max(counts.values()) - min(counts[each.name] for each in members) <= 1


@given(st.dictionaries(st.sampled_from(NAMES), st.integers(0, 9), min_size=3))
def test_least_queued_takes_the_shortest_queue(queued: dict[str, int]) -> None:
    members = {name: MemberState("", n) for name, n in queued.items()}
    assert queued[choose(group(Policy.LEAST_QUEUED), Situation(members)).member] == min(queued.values())


def test_failover_takes_the_first_that_is_well_and_says_why_it_is_not_another() -> None:
    assert choose(group(), Situation()).member == "PACS1"
    choice = choose(group(), Situation({"PACS1": MemberState("unreachable")}))
    assert (choice.member, choice.why) == ("PACS2", "failover; PACS1 is unreachable")


def test_where_nobody_is_well_it_waits_for_one_that_may_come_back_by_itself() -> None:
    members = {"PACS1": MemberState("paused"), "PACS2": MemberState("unreachable"), "PACS3": MemberState("paused")}
    choice = choose(group(), Situation(members))
    assert choice.member == "PACS2"
    assert choice.why == "no member is well: PACS1 paused, PACS2 unreachable, PACS3 paused"


# The rules

TEXT = """{ "routing": [ { "send": [ { "success": { "to": "PACS" } } ] } ],
"destinations": {
"PACS1": { "IP": "10.0.0.1", "PORT": 104, "AETitleSender": "BOX", "AETitleTo": "PACS" },
"PACS2": { "IP": "10.0.0.2", "PORT": 104, "AETitleSender": "$caller", "AETitleTo": "PACS" },
"back": { "IP": "$sender", "PORT": 104, "AETitleSender": "BOX", "AETitleTo": "WS" },
"PACS": %s } }"""


def test_a_group_is_read_with_its_members_in_their_order() -> None:
    rules = parse(TEXT % '{ "members": ["PACS2", "PACS1"], "policy": "round_robin" }', "x.json")
    found = rules.groups["PACS"]
    assert str(found) == "PACS (round_robin of PACS2, PACS1)"
    assert rules.rules[0].endpoints[0].destination == found
    assert "PACS" not in rules.destinations
    asked = rules.policy_of("PACS2").asked
    assert isinstance(asked, DicomDestination)
    assert (asked.host, asked.calling_ae) == ("10.0.0.2", "MAGICKBOX")
    assert rules.policy_of("back").asked is None
    assert parse(TEXT % '{ "members": ["PACS1"] }', "x.json").groups["PACS"].policy is Policy.FAILOVER


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ('{ "members": ["PACS1", "PACS3"] }', "members[1]: no destination is called 'PACS3', did you mean 'PACS2'"),
        ('{ "members": ["PACS1", "PACS"] }', "members[1]: 'PACS' is a group: a group is made of destinations, not of"),
        ('{ "members": ["PACS1", "back"] }', "members[1]: 'back' goes back to the sender"),
        ('{ "members": [] }', "members: expected a list of the names of at least one"),
        ('{ "members": ["PACS1", "PACS1"] }', "members: expected a list of the names of at least one"),
        ('{ "members": "PACS1" }', "members: expected a list of the names"),
        ('{ "members": ["PACS1"], "policy": "random" }', 'policy: expected "failover" (default), "round_robin" or'),
        ('{ "members": ["PACS1"], "PORT": 104 }', "PORT: unknown key"),
        ('{ "members": ["PACS1"], "kind": "folder" }', "kind: unknown key"),
        ('{ "member": ["PACS1"] }', "member: unknown key"),
    ],
)
def test_what_is_wrong_with_a_group_is_said_with_its_place(value: str, said: str) -> None:
    with pytest.raises(RulesRefused) as caught:
        parse(TEXT % value, "x.json")
    problems = caught.value.problems
    assert any(said in each for each in problems), problems
    assert all(each.startswith("x.json, line 6, column ") for each in problems if said in each)


# The stage


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    with closing(Ledger(tmp_path / "ledger.sqlite")) as ledger:
        made = Box(ledger, tmp_path / "jobs", FakeSender(), pace=replace(QUICK, first=0.05, longest=0.1))
        with_group(made, group(Policy.FAILOVER, ONE, TWO))
        yield made


def with_group(box: Box, made: Group) -> None:
    named = {str(each.name): each for each in made.members}
    rules = Rules(destinations=named, groups={made.name: made})
    box.groups = lambda: rules.groups
    box.policy_of = rules.policy_of


def routed(
    box: Box, name: str, study: str = "1.2.3", count: int = 2, gate: bool = False, then: NewDelivery | None = None
) -> str:
    """A job for the group, routed as the box would; where it is to go."""
    choice = Picking(box.ledger)(box.groups()["PACS"], study)
    to = box.groups()["PACS"].member(choice.member)
    new = replace(entry(to, new_items(count), gate=gate, has_fallback=gate), group="PACS", study=study)
    box.routed(new, *([then] if then else []), name=name)
    with box.ledger.transaction() as tx:
        if choice.by_turn:
            groups.took_turn(tx, "PACS", choice.member)
    return choice.member


def went(box: Box, name: str) -> list[str]:
    return [to.name for to, item in fake(box).sent if item.path.parent.parent.name == name]


def set_mode(box: Box, mode: Mode, to: DicomDestination = ONE) -> None:
    with box.ledger.transaction() as tx:
        queues.set_mode(tx, lane_of(to), mode, "anna")


def moves(box: Box) -> list[str]:
    return [str(facts["reason"]) for _, event, facts in box.notes if event == "moved"]


def test_what_the_first_does_not_take_goes_to_the_second_at_once(box: Box) -> None:
    fake(box).refusal = unreachable("PACS1")
    box.pace = replace(QUICK, first=600.0, longest=600.0)
    assert routed(box, "job") == "PACS1"
    with box.running():
        box.ends()
    assert went(box, "job") == ["PACS2"] * 2
    assert moves(box) == ["moved from PACS1 to PACS2: failover; PACS1 did not take it"]


def test_one_that_is_unreachable_gets_nothing_new_and_is_asked_until_it_is_back(box: Box) -> None:
    fake(box).refusal = unreachable("PACS1")
    for n in range(3):
        routed(box, f"job-{n}", study=f"1.{n}")
    with box.running() as stage:
        for n in range(3):
            box.ends(name=f"job-{n}")
        assert routed(box, "next", study="1.9") == "PACS2"
        stage.wake()
        box.ends(name="next")
        fake(box).refusal = unreachable()
        peers.wait_for(lambda: not is_open(box), "the first to be asked though nothing waits for it")
        assert routed(box, "last", study="1.10") == "PACS1"
        stage.wake()
        box.ends(name="last")
    assert went(box, "last") == ["PACS1"] * 2


def is_open(box: Box, to: DicomDestination = ONE) -> bool:
    with box.ledger.reading() as tx:
        return queues.state_of(tx, lane_of(to)).circuit.is_open


def test_it_is_asked_also_after_a_restart(box: Box) -> None:
    fake(box).refusal = unreachable("PACS1")
    for n in range(3):
        routed(box, f"job-{n}", study=f"1.{n}")
    with box.running():
        peers.wait_for(lambda: is_open(box))
        for n in range(3):
            box.ends(name=f"job-{n}")
    fake(box).refusal = unreachable()
    with box.running():
        peers.wait_for(lambda: not is_open(box))


def test_what_waits_for_a_paused_member_goes_to_another(box: Box) -> None:
    assert routed(box, "job") == "PACS1"
    set_mode(box, Mode.PAUSED)
    with box.running():
        box.ends()
    assert went(box, "job") == ["PACS2"] * 2


def test_a_drained_member_gets_what_was_open_and_nothing_later(box: Box) -> None:
    assert routed(box, "before", study="1.1") == "PACS1"
    set_mode(box, Mode.DRAINING)
    assert routed(box, "after", study="1.2") == "PACS2"
    with box.running():
        box.ends(name="before")
        box.ends(name="after")
    assert went(box, "before") == ["PACS1"] * 2


def test_a_study_of_which_a_part_has_arrived_is_never_split(box: Box) -> None:
    fake(box).answer = answers({"1.2.3.2": [BUSY]})
    box.pace = replace(QUICK, first=0.05, longest=0.05)
    routed(box, "job", count=3)
    with box.running() as stage:
        peers.wait_for(lambda: went(box, "job").count("PACS1") == 2)
        fake(box).refusal = unreachable("PACS1")
        assert routed(box, "more") == "PACS1"
        stage.wake()
        peers.wait_for(lambda: is_open(box), f"the first to be unreachable: {box.notes}")
        assert routed(box, "other", study="1.9", count=1) == "PACS2"
        stage.wake()
        box.ends(name="other")
        assert routed(box, "even more") == "PACS1"
        fake(box).answer = answers({})
        fake(box).refusal = unreachable()
        for name in ("job", "more"):
            box.ends(name=name)
    assert {*went(box, "job"), *went(box, "more")} == {"PACS1"}


def test_a_later_job_of_a_study_goes_where_the_study_went(box: Box) -> None:
    set_mode(box, Mode.PAUSED)
    assert routed(box, "first") == "PACS2"
    with box.running():
        box.ends(name="first")
    set_mode(box, Mode.RUNNING)
    assert routed(box, "second") == "PACS2"
    assert routed(box, "other", study="1.9") == "PACS1"
    set_mode(box, Mode.PAUSED, TWO)
    assert routed(box, "third") == "PACS1"
    with box.running():
        for name in ("second", "third", "other"):
            box.ends(name=name)
    assert {*went(box, "second"), *went(box, "third")} == {"PACS1"}


def test_all_of_a_study_moves_together(box: Box) -> None:
    """The second job of the study may meet no trouble where the first did, but both go to one member."""
    gone = iter([True])
    fake(box).refusal = lambda to: "connection refused" if to == ONE and next(gone, False) else None
    routed(box, "first")
    routed(box, "second")
    with box.running():
        box.ends(name="first")
        box.ends(name="second")
    assert len({*went(box, "first"), *went(box, "second")}) == 1


def test_a_fallback_takes_over_when_no_member_takes_it_and_not_before(box: Box) -> None:
    fake(box).refusal = unreachable("PACS1", "PACS2")
    routed(box, "job", gate=True, then=entry(QC, waits_for=0))
    with box.running():
        box.ends()
    assert box.states() == [S.REPLACED, S.DELIVERED]
    asked = [call.destination.name for call in fake(box).calls if call.destination != QC]
    assert asked[:2] == ["PACS1", "PACS2"]
    assert len(asked) <= 4  # three attempts, and one for the member that it came from


def test_with_a_member_that_takes_it_the_fallback_is_skipped(box: Box) -> None:
    fake(box).refusal = unreachable("PACS1")
    routed(box, "job", gate=True, then=entry(QC, waits_for=0))
    with box.running():
        box.ends()
    assert box.states() == [S.DELIVERED, S.SKIPPED]


def test_while_all_are_paused_the_fallback_does_not_take_over(box: Box) -> None:
    set_mode(box, Mode.PAUSED, ONE)
    set_mode(box, Mode.PAUSED, TWO)
    routed(box, "job", gate=True, then=entry(QC, waits_for=0))
    routed(box, "other", study="1.9")
    with box.running() as stage:
        assert box.states() == [S.OPEN, S.WAITING]
        set_mode(box, Mode.RUNNING, TWO)
        stage.wake()
        box.ends()
        box.ends(name="other")
    assert box.states() == [S.DELIVERED, S.SKIPPED]
    assert went(box, "job") == ["PACS2"] * 2


def test_a_delivery_that_nobody_takes_does_not_wander_for_ever_and_dies(box: Box) -> None:
    fake(box).refusal = unreachable("PACS1", "PACS2")
    box.pace = replace(QUICK, patience=0.3)
    routed(box, "job")
    with box.running():
        box.ends(JobState.ATTENTION)
    assert box.states() == [S.DEAD]
    assert 1 <= len(moves(box)) <= 2  # back to the first, if the second was known to be unreachable before it


def test_a_group_that_the_rules_no_longer_have_leaves_deliveries_where_they_are(box: Box) -> None:
    routed(box, "job")
    box.groups = dict
    with box.running():
        box.ends()
    assert went(box, "job") == ["PACS1"] * 2


def test_round_robin_in_the_ledger_gives_each_its_share(box: Box) -> None:
    with_group(box, group(Policy.ROUND_ROBIN))
    found = Counter(routed(box, f"job-{n}", study=f"1.{n % 9}") for n in range(30))
    with box.ledger.reading() as tx:
        homes = {n % 9: deliveries.listing(tx, f"job-{n}")[0].destination.name for n in range(30)}
    assert Counter(homes.values()) == dict.fromkeys(NAMES, 3)
    assert sum(found.values()) == 30


def test_choices_of_one_decision_count_for_one_another(box: Box) -> None:
    with_group(box, group(Policy.ROUND_ROBIN))
    picking, made = Picking(box.ledger), box.groups()["PACS"]
    assert [picking(made, study).member for study in ("1.1", "1.2", "1.1", "1.3")] == [
        "PACS1",
        "PACS2",
        "PACS1",
        "PACS3",
    ]
    with_group(box, group(Policy.LEAST_QUEUED))
    picking, made = Picking(box.ledger), box.groups()["PACS"]
    assert Counter(picking(made, f"1.{n}").member for n in range(6)) == dict.fromkeys(NAMES, 2)


def test_an_instance_that_one_member_refuses_may_be_taken_by_another(box: Box) -> None:
    fake(box).answer = lambda to, _item: BUSY if to == ONE else Delivered()
    routed(box, "job", count=1)
    with box.running():
        box.ends()
    assert went(box, "job") == ["PACS2"]


def test_the_policy_of_what_is_no_member_asks_nobody() -> None:
    assert Rules().policy_of("PACS1") == DestinationPolicy()
