"""Other rules tried on the last jobs: what would change, and why; nothing is sent and nothing is written."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from boxes import STUDY, Image, TestBox, new_box

from magickbox.job import Job
from magickbox.rehearsal import Rehearsal, Rehearsed, last_jobs
from magickbox.resultcheck import Came
from magickbox.routing import Rules
from magickbox.rules.file import findings, parse
from magickbox.rules.words import in_words

PACS = '{"IP": "10.0.0.5", "PORT": 104, "AETitleSender": "BOX", "AETitleTo": "PACS"%s}'
RULE = '{"name": "%s", "AETitleIn": "%s", "RouteDirectory": "INPUT", "send": [%s]}'


def rules(*each: str, more: str = "") -> Rules:
    return parse(f'{{"routing": [{", ".join(each)}]{more}}}', "draft", "127.0.0.1", 104)


def rule(name: str = "to the PACS", called: str = "Proc", entry: str = "", **more: str) -> str:
    made = RULE % (name, called, f'{{"success": {PACS % entry}}}')
    return made if not more else made[:-1] + ", " + more["more"] + "}"


@pytest.fixture
def box(tmp_path: Path) -> Iterator[TestBox]:
    box = new_box(tmp_path)
    yield box
    box.ledger.close()


def processed(box: TestBox, uid: str = "1.2.3", called: str = "Proc") -> Job:
    return box.run(box.job(Image(uid), Image(f"{uid}.1"), called=called))


def tried(box: TestBox, force: Rules, draft: Rules, count: int = 10, **more: object) -> list[Rehearsed]:
    rehearsal = Rehearsal(force, draft, lambda job: box.data.jobs / job, **more)  # type: ignore[arg-type]
    with box.ledger.reading() as tx:
        found = last_jobs(tx, count, force, draft)
    return rehearsal.of(found)


def test_the_same_rules_change_nothing_whatever_they_are_called(box: TestBox) -> None:
    processed(box)
    (found,) = tried(box, rules(rule()), rules(rule("another name")))
    assert not found.changes
    assert [(each.to, each.instances) for each in found.same] == [("PACS@10.0.0.5:104", 2)]


def test_what_goes_and_what_comes_is_said_for_each_job(box: TestBox) -> None:
    old, new = processed(box), processed(box, "1.2.4", called="Other")
    found = {each.job.id: each for each in tried(box, rules(rule()), rules(rule("others", "Other")))}
    assert [each.rule for each in found[old.id].gone] == ["to the PACS"]
    assert not found[old.id].new
    assert [each.rule for each in found[new.id].new] == ["others"]
    assert not found[new.id].gone
    assert any("called AE 'Proc' does not match 'Other'" in line for line in found[old.id].why)


def test_fewer_files_are_a_change(box: TestBox) -> None:
    processed(box)
    (found,) = tried(box, rules(rule()), rules(rule(entry=', "which": [{"SOPInstanceUID": "1$"}]')))
    assert ([each.instances for each in found.gone], [each.instances for each in found.new]) == ([2], [1])


def test_a_fallback_and_a_check_are_changes(box: TestBox) -> None:
    processed(box)
    gate = PACS % ', "break": 1'
    both = rule("r").replace('"send": [', f'"send": [{{"success": {gate.replace("PACS", "A")}}}, ')
    (found,) = tried(box, rules(rule()), rules(both))
    assert [(each.to, each.after) for each in found.new] == [
        ("A@10.0.0.5:104", ""),
        ("PACS@10.0.0.5:104", "A@10.0.0.5:104"),
    ]
    (found,) = tried(box, rules(rule()), rules(rule(more='"check": {"new_series": 1}')))
    assert "new_series" in found.new[0].held


def test_jobs_that_cannot_be_looked_at_are_skipped_and_said(box: TestBox) -> None:
    waiting = box.job(Image("1.9"))
    gone = processed(box)
    shutil.rmtree(box.data.jobs / gone.id)
    found = {each.job.id: each.skipped for each in tried(box, rules(), rules(rule()))}
    assert found == {waiting.id: "it has no outcome: it is READY", gone.id: "its folder is gone"}


def test_only_the_last_jobs_are_looked_at(box: TestBox) -> None:
    last = sorted([processed(box, f"1.2.{n}").id for n in range(4)][2:])
    assert sorted(each.job.id for each in tried(box, rules(), rules(rule()), count=2)) == last


def test_a_pattern_that_never_ends_costs_its_job_only(box: TestBox) -> None:
    evil, tame = processed(box, "1." * 30 + "1"), processed(box, "1.2")
    draft = rules(rule(entry=r', "which": [{"SOPInstanceUID": "^(1|1\\.|\\.1|\\.)*[a-z]$"}]'))
    found = {each.job.id: each for each in tried(box, rules(rule()), draft)}
    assert "the draft: the pattern" in found[evil.id].skipped
    assert "does not come to an end" in found[evil.id].skipped
    assert found[tame.id].gone


def test_when_the_time_is_over_the_rest_is_left_and_said(box: TestBox) -> None:
    for n in range(3):
        processed(box, f"1.2.{n}")
    seconds = iter([0.0, 1.0, 2.0])
    found = tried(box, rules(), rules(rule()), clock=lambda: next(seconds, 99.0))
    assert [bool(each.skipped) for each in found] == [False, True, True]
    assert "the 10 s for all jobs together were over" in found[-1].skipped


def test_values_of_patients_are_there_only_for_who_may_see_them(box: TestBox) -> None:
    processed(box)
    draft = rules(rule(entry=', "which": [{"PatientName": "Test"}]'))
    (seen,) = tried(box, rules(), draft, with_values=True)
    (hidden,) = tried(box, rules(), draft)
    assert "Test^Person" in "\n".join(seen.why)
    assert "Test" not in "\n".join(hidden.why)


def test_a_group_counts_as_one(box: TestBox) -> None:
    processed(box)
    named = f', "destinations": {{"a": {PACS % ""}, "b": {PACS % ""}, "g": {{"members": ["a", "b"]}}}}'
    grouped = RULE % ("r", "Proc", '{"success": {"to": "g"}}')
    (found,) = tried(box, rules(), rules(grouped, more=named))
    assert [each.to for each in found.new] == ["g (group)"]


def test_no_job_is_no_trouble(box: TestBox) -> None:
    assert tried(box, rules(), rules(rule())) == []
    assert Rehearsal(rules(), rules(), Path).of([(replace(box.job(Image("1")), outcome="success"), Came())])[0].skipped


def test_findings_have_their_place() -> None:
    (found,) = findings('{\n  "routing": [ {"sent": []} ]\n}')
    assert (found.line, found.column, found.where) == (2, 17, "routing[0].sent")
    assert "did you mean 'send'?" in found.said
    assert [each.line for each in findings('{\n "routing": [\n')] == [3]
    assert findings("")[0].said.startswith("the file is empty")
    (unwise,) = findings('{"routing": [{"AETitleIn": "(a+)+", "send": []}]}')
    assert unwise.warning


def test_a_rule_in_words() -> None:
    named = f', "destinations": {{"a": {PACS % ""}, "b": {PACS % ""}, "g": {{"members": ["a", "b"]}}}}'
    gate = PACS % ', "break": 1, "priority": "urgent", "which": [{"Modality": "MR"}]'
    entries = f'{{"success|partial": {gate}}}, {{".*": {{"to": "g"}}}}'
    given = (RULE % ("n", "ProcA|ProcB", entries))[:-1] + ', "status": 0, "break": 1, "check": {"loads": 1}}'
    words = in_words(rules(given, more=named).rules[0])
    assert (words.jobs, words.off) == ("jobs sent to ProcA or ProcB", "status")
    first, second = words.entries
    assert (first.when, first.then) == ("success or partial", "urgent")
    assert first.what == "the files of INPUT whose Modality (0008,0060) matches “MR”"
    assert (second.when, second.to) == ("any outcome", "g (failover of a, b)")
    assert second.then == "only if entry 1 fails"
    assert words.more == (
        "only if each file can be read to its end",
        "if it sends anything, later rules are not looked at",
    )
    assert STUDY  # the studies of all jobs here are one
