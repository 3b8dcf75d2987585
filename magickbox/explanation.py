"""Says why a decision came out as it did: as JSON for the ledger and pages, as text for a person, as facts for the log.

The values of tags, the names of files and patterns on the patient's name appear only where ``with_values`` asks for
them; logs never have them.
"""

from typing import Any

from magickbox.decision import (
    Decision,
    EndpointFinding,
    Facts,
    FilterFinding,
    Listing,
    PlannedDelivery,
    RuleFinding,
    TestFinding,
    Verdict,
)
from magickbox.delivery import Priority
from magickbox.proof import NO_PROOF, WORDS
from magickbox.resultcheck import CheckFinding

HIDDEN = "(hidden)"
_LONGEST = 80


def explain(decision: Decision, with_values: bool) -> dict[str, Any]:
    """The whole decision as JSON-able values; without values it holds no patient's data."""
    facts = decision.facts
    return {
        "called_ae": facts.called_ae,
        "calling_ae": facts.calling_ae,
        "outcome": facts.outcome,
        "digest": decision.digest,
        "rules": [_rule(finding, facts, with_values) for finding in decision.rules],
        "deliveries": [_delivery(planned) for planned in decision.deliveries],
    }


def log_lines(decision: Decision) -> list[dict[str, object]]:
    """Facts for routing.log: a line for each rule that did not match, and one for each entry of those that did."""
    lines: list[dict[str, object]] = []
    for finding in decision.rules:
        named: dict[str, object] = {"rule": finding.index + 1, "name": finding.rule.name}
        matched = finding.verdict is Verdict.MATCHED
        if not finding.endpoints:
            lines.append({**named, "matched": _word(matched), "reason": rule_reason(finding, decision.facts)})
        for each in finding.endpoints:
            told = {**_entry_facts(each, finding, decision.facts), **_choice_facts(decision, finding.index, each.index)}
            lines.append({**named, "matched": _word(matched), **told})
    return lines


def rule_reason(finding: RuleFinding, facts: Facts) -> str:
    """Why a rule matched or not, in a sentence without patient's data."""
    rule = finding.rule
    if finding.verdict is Verdict.OFF:
        return f"switched off by '{rule.off}'"
    if finding.verdict is Verdict.OTHER_CALLED_AE and rule.called_ae:
        return f"called AE '{facts.called_ae}' does not match '{rule.called_ae.pattern}'"
    if finding.verdict is Verdict.OTHER_CALLING_AE and rule.calling_ae:
        return f"calling AE '{facts.calling_ae}' does not match '{rule.calling_ae.pattern}'"
    if finding.ended_by is not None:
        return f"not looked at: rule {finding.ended_by + 1} has break and applied"
    return "matched" if finding.applies else "matched, but none of its entries applies"


def endpoint_reason(finding: EndpointFinding, rule: RuleFinding, facts: Facts) -> str:
    """Why an entry applies or not, in a sentence without patient's data."""
    if finding.verdict is Verdict.OTHER_OUTCOME:
        return f"outcome '{facts.outcome}' does not match '{finding.endpoint.outcome.pattern}'"
    if rule.listing is not None and rule.listing.missing:
        return f"the job has no folder {rule.rule.directory}"
    if not finding.candidates:
        return f"no DICOM files below {rule.rule.directory}"
    repeats = f", {finding.repeats} more with a SOP Instance UID that is there already" if finding.repeats else ""
    return f"{len(finding.selected)} of {finding.candidates} files{repeats}"


def as_text(decision: Decision, with_values: bool = True) -> list[str]:
    """The decision as lines to read: every rule and why it did or did not fire, down to the values of tags."""
    facts = decision.facts
    lines = [f"called AE '{facts.called_ae}', calling AE '{facts.calling_ae}', outcome '{facts.outcome}'"]
    if not decision.rules:
        lines.append("there are no rules")
    for finding in decision.rules:
        lines += _rule_lines(finding, facts, with_values)
    lines.append("deliveries:" if decision.deliveries else "nothing is to be delivered")
    lines += [f"  {_planned_line(planned)}" for planned in decision.deliveries]
    return lines


def _word(true: bool) -> str:
    return "yes" if true else "no"


def _entry_facts(finding: EndpointFinding, rule: RuleFinding, facts: Facts) -> dict[str, object]:
    told: dict[str, object] = {"entry": finding.index + 1, "applies": _word(finding.verdict is Verdict.APPLIES)}
    if finding.verdict is not Verdict.OTHER_OUTCOME:
        told |= {"selected": len(finding.selected), "of": finding.candidates}
    if rule.listing is not None:
        told |= {"other": rule.listing.other, "unreadable": len(rule.listing.unreadable)}
    if rule.failed and finding.verdict is Verdict.APPLIES:
        told |= {"held": "; ".join(map(str, rule.failed))}
    return told | {"to": finding.endpoint.destination, "reason": endpoint_reason(finding, rule, facts)}


def _choice_facts(decision: Decision, rule: int, entry: int) -> dict[str, object]:
    """Which member of a group takes an entry's files, and why."""
    planned = (each for each in decision.deliveries if (each.rule, each.entry) == (rule, entry))
    choice = next((each.choice for each in planned), None)
    return {"member": choice.member, "because": choice.why} if choice else {}


def _rule(finding: RuleFinding, facts: Facts, with_values: bool) -> dict[str, Any]:
    rule = finding.rule
    return {
        "name": rule.name,
        "verdict": finding.verdict,
        "reason": rule_reason(finding, facts),
        "applies": finding.applies,
        "called_ae": rule.called_ae.pattern if rule.called_ae else None,
        "calling_ae": rule.calling_ae.pattern if rule.calling_ae else None,
        "directory": rule.directory,
        "break": rule.last,
        "check": list(rule.checks),
        "failed": [_failed(each, with_values) for each in finding.failed],
        "files": None if finding.listing is None else _listing(finding.listing, with_values),
        "entries": [_endpoint(each, finding, facts, with_values) for each in finding.endpoints],
    }


def _failed(finding: CheckFinding, with_values: bool) -> dict[str, Any]:
    told = {"check": finding.key, "failing": finding.failing, "of": finding.of, "reason": str(finding)}
    return {**told, "files": list(finding.paths)} if with_values else told


def _listing(listing: Listing, with_values: bool) -> dict[str, Any]:
    counts = {"dicom": len(listing.files), "other": listing.other, "unreadable": len(listing.unreadable)}
    named = {f"{what}_files": [list(each) for each in getattr(listing, what)] for what in ("unreadable", "notes")}
    return {**counts, "missing": listing.missing, **(named if with_values else {})}


def _endpoint(finding: EndpointFinding, rule: RuleFinding, facts: Facts, with_values: bool) -> dict[str, Any]:
    return {
        "outcome": finding.endpoint.outcome.pattern,
        "destination": str(finding.endpoint.destination),
        "verdict": finding.verdict,
        "reason": endpoint_reason(finding, rule, facts),
        "break": finding.endpoint.gate,
        "selected": len(finding.selected),
        "of": finding.candidates,
        "repeats": finding.repeats,
        "which": [
            {"matching": each.matching, "tests": [_test(test, with_values) for test in each.tests]}
            for each in finding.filters
        ],
    }


def _test(finding: TestFinding, with_values: bool) -> dict[str, Any]:
    told: dict[str, Any] = {
        "tag": str(finding.test.tag),
        "pattern": _pattern(finding, with_values),
        "matching": finding.matching,
        "distinct": finding.distinct,
    }
    if with_values:
        told["values"] = [{"text": text, "files": n, "matches": matches} for text, n, matches in finding.values]
    return told


def _pattern(finding: TestFinding, with_values: bool) -> str:
    return HIDDEN if finding.test.tag.names_the_patient and not with_values else finding.test.pattern.pattern


def _delivery(planned: PlannedDelivery) -> dict[str, Any]:
    return {
        "rule": planned.rule,
        "entry": planned.entry,
        "destination": str(planned.destination),
        "instances": len(planned.instances),
        "waits_for": planned.waits_for,
        "has_fallback": planned.has_fallback,
        "held": planned.held,
        "priority": planned.priority.word,
        "verify": getattr(planned.destination, "verify", NO_PROOF).how,
        "group": planned.choice.group if planned.choice else "",
        "because": planned.choice.why if planned.choice else "",
    }


def _rule_lines(finding: RuleFinding, facts: Facts, with_values: bool) -> list[str]:
    matched = finding.verdict is Verdict.MATCHED
    lines = [f"rule {finding.index + 1} '{finding.rule.name}': {_word(matched)}, {rule_reason(finding, facts)}"]
    if matched:
        lines += [f"  {text}" for text in _matching_lines(finding, facts)]
    if finding.listing is not None:
        lines += [f"  {text}" for text in _listing_lines(finding, finding.listing, with_values)]
    for failed in finding.failed:
        lines.append(f"  nothing of this rule is sent, check {failed}")
        lines += [f"    {_quoted(path)}" for path in failed.paths] if with_values else []
    for each in finding.endpoints:
        lines.append(f"  {_endpoint_line(each, finding, facts)}")
        for number, which in enumerate(each.filters):
            lines += [f"    {text}" for text in _filter_lines(number, which, with_values)]
    if finding.rule.last and finding.applies:
        lines.append("  break: later rules are not looked at")
    return lines


def _matching_lines(finding: RuleFinding, facts: Facts) -> list[str]:
    looked_at = (
        ("called AE", facts.called_ae, finding.rule.called_ae),
        ("calling AE", facts.calling_ae, finding.rule.calling_ae),
    )
    return [
        f"{what} '{title}' matches '{pattern.pattern}'" if pattern else f"{what}: any is taken"
        for what, title, pattern in looked_at
    ]


def _listing_lines(finding: RuleFinding, listing: Listing, with_values: bool) -> list[str]:
    if listing.missing:
        return [f"the job has no folder {finding.rule.directory}"]
    lines = [f"{len(listing.files)} DICOM files below {finding.rule.directory}, {listing.other} other files left aside"]
    if not with_values:
        return lines + ([f"{len(listing.unreadable)} DICOM files cannot be read"] if listing.unreadable else [])
    lines += [f"left aside, cannot be sent: {path}: {reason}" for path, reason in listing.unreadable]
    return lines + [f"not all of it could be looked at: {path}: {reason}" for path, reason in listing.notes]


def _endpoint_line(finding: EndpointFinding, rule: RuleFinding, facts: Facts) -> str:
    applies = _word(finding.verdict is Verdict.APPLIES)
    why = endpoint_reason(finding, rule, facts)
    return f"entry {finding.index + 1} to {finding.endpoint.destination}: {applies}, {why}"


def _filter_lines(number: int, finding: FilterFinding, with_values: bool) -> list[str]:
    lines = [f"which {number + 1}: {finding.matching} files"]
    for test in finding.tests:
        lines.append(f"  {test.test.tag} matches '{_pattern(test, with_values)}': {test.matching} files")
        if with_values:
            lines += [f"    {_word(yes):3} {_quoted(text)}: {count} files" for text, count, yes in test.values]
            more = test.distinct - len(test.values)
            lines += [f"    and {more} other values"] if more > 0 else []
    return lines


def _planned_line(planned: PlannedDelivery) -> str:
    by = f"rule {planned.rule + 1}, entry {planned.entry + 1}"
    what = f"{len(planned.instances)} instances to {planned.destination} ({by})"
    when = "at once" if planned.waits_for is None else f"only if entry {planned.waits_for + 1} fails"
    when = "held back" if planned.held else when
    when += "" if planned.priority is Priority.NORMAL else f", {planned.priority.word}"
    how = getattr(planned.destination, "verify", NO_PROOF).how
    what += f", verified by {WORDS[how]}" if how in WORDS else ""
    why = f", for {planned.choice.group}: {planned.choice.why}" if planned.choice else ""
    return f"{when}: {what}{why}"


def _quoted(text: str) -> str:
    shown = "".join(letter if letter.isprintable() else "?" for letter in text[: _LONGEST + 1])
    return f"'{shown}'" if len(shown) <= _LONGEST else f"'{shown[:_LONGEST]}...'"
