"""Routing semantics: a table of cases, the differences from the original by name, and properties of the gates."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from magickbox.decision import (
    Decision,
    Facts,
    Listing,
    PlannedDelivery,
    Verdict,
    decide,
)
from magickbox.destination import DicomDestination
from magickbox.errors import ConfigError
from magickbox.following import Following, follow
from magickbox.routing import Endpoint, InstanceFilter, Rule, Rules, TagTest, pattern
from magickbox.tagpath import TagPath, parse_tag_path

PACS = DicomDestination("10.0.0.5", 104, "ME", "PACS")
MODALITY, DESCRIPTION = parse_tag_path("0008,0060"), parse_tag_path("0008,103E")


@dataclass(frozen=True)
class File:
    """A candidate whose tags are given."""

    sop_instance: str
    tags: dict[TagPath, tuple[str, ...]] = field(default_factory=dict)
    path: str = "OUTPUT/x"
    sop_class: str = "1.2"
    transfer_syntax: str = "1.2.840.10008.1.2.1"

    def values(self, tag: TagPath) -> tuple[str, ...]:
        return self.tags.get(tag, ("",))


def mr(uid: str, description: str) -> File:
    return File(uid, {MODALITY: ("MR",), DESCRIPTION: (description,)})


def endpoint(outcome: str = "success", gate: bool = False, *filters: dict[TagPath, str]) -> Endpoint:
    chosen = tuple(InstanceFilter(tuple(TagTest(tag, pattern(p)) for tag, p in each.items())) for each in filters)
    return Endpoint(pattern(outcome), PACS, gate, chosen)


def rule(*endpoints: Endpoint, called: str | None = None, calling: str | None = None, last: bool = False) -> Rule:
    return Rule(
        "a rule",
        endpoints,
        None if called is None else pattern(called),
        None if calling is None else pattern(calling),
        last=last,
    )


def route(
    *rules: Rule,
    outcome: str = "success",
    called: str = "ProcRSI",
    calling: str = "PACS",
    files: Sequence[File] = (File("1"),),
) -> Decision:
    return decide(Rules(rules), Facts(called, calling, outcome), lambda _directory, _tags: Listing(tuple(files)))


def verdicts(decision: Decision) -> list[Verdict]:
    return [finding.verdict for finding in decision.rules]


def sent(decision: Decision) -> list[tuple[int, int]]:
    return [(delivery.rule, delivery.entry) for delivery in decision.deliveries]


@pytest.mark.parametrize(
    ("called", "calling", "verdict"),
    [
        (None, None, Verdict.MATCHED),
        ("ProcRSI", None, Verdict.MATCHED),
        ("procrsi", "pacs", Verdict.MATCHED),
        ("Proc.*", None, Verdict.MATCHED),
        ("Other|ProcRSI", None, Verdict.MATCHED),
        ("ProcRSI2", None, Verdict.OTHER_CALLED_AE),
        ("ProcRSI", "OTHER", Verdict.OTHER_CALLING_AE),
        (None, "OTHER", Verdict.OTHER_CALLING_AE),
    ],
)
def test_a_rule_matches_by_both_titles(called: str | None, calling: str | None, verdict: Verdict) -> None:
    assert verdicts(route(rule(endpoint(), called=called, calling=calling), called=" ProcRSI ")) == [verdict]


class TestDifferencesFromTheOriginal:
    """What the original's code does otherwise than its documentation and these rules say."""

    def test_the_original_matches_titles_anywhere_this_box_the_whole_title(self) -> None:
        assert sent(route(rule(endpoint(), called="Proc"))) == []
        assert sent(route(rule(endpoint(), calling="ACS"))) == []
        assert sent(route(rule(endpoint("succ")))) == []

    def test_the_original_never_reads_enabled_here_it_switches_the_rule_off(self) -> None:
        decision = route(replace(rule(endpoint()), off="enabled"))
        assert verdicts(decision) == [Verdict.OFF]
        assert sent(decision) == []

    def test_the_original_stops_at_the_break_of_a_rule_that_did_not_match_here_it_goes_on(self) -> None:
        assert sent(route(rule(endpoint(), called="Other", last=True), rule(endpoint()))) == [(1, 0)]

    def test_a_rule_with_break_of_which_no_entry_applies_does_not_stop_either(self) -> None:
        assert sent(route(rule(endpoint("failed"), last=True), rule(endpoint()))) == [(1, 0)]
        assert sent(route(rule(endpoint(), last=True), rule(endpoint()), files=())) == []

    def test_the_original_takes_an_entrys_break_whether_or_not_it_delivered_here_the_next_is_its_fallback(self) -> None:
        decision = route(rule(endpoint(gate=True), endpoint()))
        first, second = decision.deliveries
        assert (first.waits_for, first.has_fallback) == (None, True)
        assert (second.waits_for, second.has_fallback) == (0, False)
        assert follow(decision.deliveries, first, delivered=False) == Following((second,), ())
        assert follow(decision.deliveries, first, delivered=True) == Following((), (second,))


def test_a_rule_with_break_that_applies_ends_the_looking() -> None:
    decision = route(rule(endpoint(), last=True), rule(endpoint()), rule(endpoint()))
    assert verdicts(decision) == [Verdict.MATCHED, Verdict.NOT_REACHED, Verdict.NOT_REACHED]
    assert [finding.ended_by for finding in decision.rules] == [None, 0, 0]
    assert sent(decision) == [(0, 0)]


@pytest.mark.parametrize(
    ("key", "outcome", "applies"),
    [
        ("success", "success", True),
        ("SUCCESS", "success", True),
        ("success", " Success ", True),
        ("failed|partial", "partial", True),
        (".*", "anything at all", True),
        ("succ", "success", False),
        ("success", "success today", False),
        ("success", "failed", False),
        ("none", "none", True),
    ],
)
def test_a_key_matches_the_whole_outcome(key: str, outcome: str, applies: bool) -> None:
    assert bool(sent(route(rule(endpoint(key)), outcome=outcome))) is applies


def test_files_are_looked_at_only_for_a_rule_that_wants_them_and_once_for_each_directory() -> None:
    looked: list[tuple[str, frozenset[TagPath]]] = []

    def look(directory: str, tags: frozenset[TagPath]) -> Listing:
        looked.append((directory, tags))
        return Listing((mr("1", "T1"),))

    by_modality, by_description = (
        endpoint("success", False, {MODALITY: "MR"}),
        endpoint("success", False, {DESCRIPTION: "T"}),
    )
    rules = Rules(
        (
            rule(by_modality),
            rule(by_description),
            rule(endpoint("failed")),
            replace(rule(endpoint()), directory="INPUT"),
        )
    )
    decide(rules, Facts("A", "B", "success"), look)
    assert looked == [("OUTPUT", frozenset({MODALITY, DESCRIPTION})), ("INPUT", frozenset())]
    looked.clear()
    decide(rules, Facts("A", "B", "partial"), look)
    assert looked == []


class TestWhich:
    """Which instances an entry selects."""

    FILES = (
        mr("1", "T1 ax"),
        mr("2", "ADC map"),
        File("3", {MODALITY: ("SR",), DESCRIPTION: ("t1 report",)}),
        File("4"),
    )

    @pytest.mark.parametrize(
        ("filters", "selected"),
        [
            ((), "1234"),
            (({MODALITY: "^MR$"},), "12"),
            (({MODALITY: "mr"},), "12"),
            (({DESCRIPTION: "T1.*", MODALITY: "^MR$"}, {DESCRIPTION: "ADC"}), "12"),
            (({DESCRIPTION: "T1.*", MODALITY: "^MR$"},), "1"),
            (({DESCRIPTION: "report"}, {DESCRIPTION: "T1"}), "13"),
            (({MODALITY: "^$"},), "4"),
            (({MODALITY: ".*"},), "1234"),
            (({MODALITY: "CT"},), ""),
        ],
    )
    def test_and_inside_or_across(self, filters: tuple[dict[TagPath, str], ...], selected: str) -> None:
        decision = route(rule(endpoint("success", False, *filters)), files=self.FILES)
        assert [c.sop_instance for d in decision.deliveries for c in d.instances] == list(selected)
        assert decision.rules[0].endpoints[0].verdict is (Verdict.APPLIES if selected else Verdict.NOTHING_SELECTED)

    @pytest.mark.parametrize(
        ("regex", "values", "matches"),
        [
            ("^PRIMARY$", ("ORIGINAL\\PRIMARY\\AXIAL",), True),
            (r"^ORIGINAL\\PRIMARY", ("ORIGINAL\\PRIMARY\\AXIAL",), True),
            ("^PRIM$", ("ORIGINAL\\PRIMARY\\AXIAL",), False),
            ("^b$", ("a", "b"), True),
            ("^$", ("a", ""), True),
            ("x", ("y" * 2000 + "x",), False),
        ],
    )
    def test_a_single_value_or_the_whole_text(self, regex: str, values: tuple[str, ...], matches: bool) -> None:
        assert TagTest(MODALITY, pattern(regex)).matches(values) is matches

    def test_the_decision_tells_what_was_seen(self) -> None:
        finding = route(rule(endpoint("success", False, {MODALITY: "MR"})), files=self.FILES).rules[0].endpoints[0]
        assert finding.candidates == 4
        assert finding.filters[0].matching == 2
        assert finding.filters[0].tests[0].values == (("MR", 2, True), ("SR", 1, False), ("", 1, False))

    def test_a_sop_instance_that_occurs_twice_is_sent_once_and_said(self) -> None:
        finding = route(rule(endpoint()), files=(File("1"), File("2"), File("1"))).rules[0].endpoints[0]
        assert [c.sop_instance for c in finding.selected] == ["1", "2"]
        assert finding.repeats == 1


# --- the gates, against an oracle that follows the contracts' sentence word by word

ENTRIES = st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), min_size=1, max_size=8)


def oracle(entries: list[tuple[bool, bool, bool]]) -> dict[int, str]:
    """What becomes of each (applies, gate, works): a gate skips all later ones if it delivers, starts them if not."""
    ends: dict[int, str] = {}
    over = False
    for index, (applies, gate, works) in enumerate(entries):
        if not applies:
            continue
        if over:
            ends[index] = "skipped"
            continue
        later = any(applies for applies, _, _ in entries[index + 1 :])
        ends[index] = "delivered" if works else "replaced" if gate and later else "dead"
        over = over or (gate and works)
    return ends


def simulate(deliveries: Sequence[PlannedDelivery], works: list[bool]) -> dict[int, str]:
    """Run a plan to its end the way an executor does: by ``waits_for``, ``has_fallback`` and ``follow`` alone."""
    ends: dict[int, str] = {}
    running = [each for each in deliveries if each.waits_for is None]
    while running:
        each = running.pop()
        assert each.entry not in ends
        ends[each.entry] = "delivered" if works[each.entry] else "replaced" if each.has_fallback else "dead"
        after = follow(deliveries, each, works[each.entry])
        running.extend(after.start)
        ends.update((skipped.entry, "skipped") for skipped in after.skip)
    return ends


@given(ENTRIES)
def test_gates_do_what_the_contracts_say(entries: list[tuple[bool, bool, bool]]) -> None:
    decision = route(rule(*(endpoint("success" if applies else "failed", gate) for applies, gate, _ in entries)))
    assert simulate(decision.deliveries, [works for _, _, works in entries]) == oracle(entries)


@given(ENTRIES)
def test_with_gates_on_all_at_most_one_entry_delivers(entries: list[tuple[bool, bool, bool]]) -> None:
    decision = route(rule(*(endpoint("success" if applies else "failed", gate=True) for applies, _, _ in entries)))
    ends = simulate(decision.deliveries, [works for _, _, works in entries])
    assert list(ends.values()).count("delivered") == any(applies and works for applies, _, works in entries)


def test_entries_of_another_rule_are_not_gated() -> None:
    decision = route(rule(endpoint(gate=True), endpoint()), rule(endpoint(), endpoint()))
    assert [(d.rule, d.entry, d.waits_for) for d in decision.deliveries] == [
        (0, 0, None),
        (0, 1, 0),
        (1, 0, None),
        (1, 1, None),
    ]
    after = follow(decision.deliveries, decision.deliveries[0], delivered=True)
    assert [(d.rule, d.entry) for d in after.skip] == [(0, 1)]


def test_a_pattern_that_never_ends_is_ended() -> None:
    """Some patterns take longer than the universe on some texts; the box must not stop for one of them."""
    test = TagTest(parse_tag_path("0008,103e"), pattern("(a|aa)+$"))
    with pytest.raises(ConfigError, match="does not come to an end"):
        test.matches(("a" * 60 + "b",))
