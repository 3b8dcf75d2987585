"""What is said about a decision, to whom, and that nothing about a patient is said to the ledger and the log."""

import json
from dataclasses import dataclass, field

import pytest

from magickbox.decision import Decision, Facts, Listing, decide
from magickbox.explanation import HIDDEN, as_text, explain, log_lines
from magickbox.rules.file import parse
from magickbox.tagpath import TagPath, parse_tag_path

TO = '"IP": "10.0.0.5", "PORT": 104, "AETitleSender": "ME"'
RULES = f"""{{ "routing": [
  {{ "name": "off", "status": 0, "send": [] }},
  {{ "name": "other", "AETitleIn": "Other", "send": [] }},
  {{ "name": "other sender", "AETitleFrom": "CT", "send": [] }},
  {{ "name": "idle", "send": [ {{ "failed": {{ {TO}, "AETitleTo": "QC" }} }} ] }},
  {{ "name": "no folder", "RouteDirectory": "NONE", "send": [ {{ "success": {{ {TO}, "AETitleTo": "QC" }} }} ] }},
  {{ "name": "good", "AETitleIn": "Proc.*", "break": 1, "send": [
    {{ "success": {{ {TO}, "AETitleTo": "PACS", "break": 1,
                     "which": [ {{ "Modality": "MR", "PatientName": "smith" }} ] }} }},
    {{ "success": {{ {TO}, "AETitleTo": "ARCHIVE", "which": [ {{ "Modality": "CT" }} ] }} }},
    {{ "success": {{ {TO}, "AETitleTo": "SPARE" }} }} ] }},
  {{ "name": "late", "send": [] }}
] }}"""
SECRETS = ("Smith", "smith", "SECRET")


@dataclass(frozen=True)
class File:
    sop_instance: str
    tags: dict[TagPath, tuple[str, ...]] = field(default_factory=dict)
    path: str = "OUTPUT/SECRET.dcm"
    sop_class: str = "1.2"
    transfer_syntax: str = "1.2.840.10008.1.2.1"

    def values(self, tag: TagPath) -> tuple[str, ...]:
        return self.tags.get(tag, ("",))


@pytest.fixture
def decision() -> Decision:
    name, modality = parse_tag_path("PatientName"), parse_tag_path("Modality")
    series = [File(str(number), {name: ("Smith^John",), modality: ("MR",)}) for number in range(3)]
    files = (*series, File("x"), File("x"))
    listing = Listing(files, 2, (("OUTPUT/SECRET2.dcm", "cut"),), (("OUTPUT/SECRET.dcm", "a note"),))

    def look(directory: str, _tags: frozenset[TagPath]) -> Listing:
        return listing if directory == "OUTPUT" else Listing(missing=True)

    return decide(parse(RULES, "routing.json"), Facts("ProcRSI", "PACS", "success"), look)


def test_the_text_tells_every_rule_down_to_the_values(decision: Decision) -> None:
    assert as_text(decision) == [
        "called AE 'ProcRSI', calling AE 'PACS', outcome 'success'",
        "rule 1 'off': no, switched off by 'status'",
        "rule 2 'other': no, called AE 'ProcRSI' does not match 'Other'",
        "rule 3 'other sender': no, calling AE 'PACS' does not match 'CT'",
        "rule 4 'idle': yes, matched, but none of its entries applies",
        "  called AE: any is taken",
        "  calling AE: any is taken",
        "  entry 1 to QC@10.0.0.5:104: no, outcome 'success' does not match 'failed'",
        "rule 5 'no folder': yes, matched, but none of its entries applies",
        "  called AE: any is taken",
        "  calling AE: any is taken",
        "  the job has no folder NONE",
        "  entry 1 to QC@10.0.0.5:104: no, the job has no folder NONE",
        "rule 6 'good': yes, matched",
        "  called AE 'ProcRSI' matches 'Proc.*'",
        "  calling AE: any is taken",
        "  5 DICOM files below OUTPUT, 2 other files left aside",
        "  left aside, cannot be sent: OUTPUT/SECRET2.dcm: cut",
        "  not all of it could be looked at: OUTPUT/SECRET.dcm: a note",
        "  entry 1 to PACS@10.0.0.5:104: yes, 3 of 5 files",
        "    which 1: 3 files",
        "      0008,0060 matches 'MR': 3 files",
        "        yes 'MR': 3 files",
        "        no  '': 2 files",
        "      0010,0010 matches 'smith': 3 files",
        "        yes 'Smith^John': 3 files",
        "        no  '': 2 files",
        "  entry 2 to ARCHIVE@10.0.0.5:104: no, 0 of 5 files",
        "    which 1: 0 files",
        "      0008,0060 matches 'CT': 0 files",
        "        no  'MR': 3 files",
        "        no  '': 2 files",
        "  entry 3 to SPARE@10.0.0.5:104: yes, 4 of 5 files, 1 more with a SOP Instance UID that is there already",
        "  break: later rules are not looked at",
        "rule 7 'late': no, not looked at: rule 6 has break and applied",
        "deliveries:",
        "  at once: 3 instances to PACS@10.0.0.5:104 (rule 6, entry 1)",
        "  only if entry 1 fails: 4 instances to SPARE@10.0.0.5:104 (rule 6, entry 3)",
    ]


def test_without_values_nothing_tells_of_a_patient(decision: Decision) -> None:
    for said in (
        json.dumps(explain(decision, with_values=False)),
        str(log_lines(decision)),
        str(as_text(decision, False)),
    ):
        assert not any(secret in said for secret in SECRETS)
    assert HIDDEN in json.dumps(explain(decision, with_values=False))


def test_with_values_the_json_has_them_and_file_names(decision: Decision) -> None:
    said = json.dumps(explain(decision, with_values=True))
    assert all(secret in said for secret in SECRETS)


def test_the_log_has_a_line_for_each_rule_and_entry(decision: Decision) -> None:
    lines = log_lines(decision)
    assert [(line["rule"], line["matched"], line.get("entry")) for line in lines] == [
        (1, "no", None),
        (2, "no", None),
        (3, "no", None),
        (4, "yes", 1),
        (5, "yes", 1),
        (6, "yes", 1),
        (6, "yes", 2),
        (6, "yes", 3),
        (7, "no", None),
    ]
    good = {key: str(value) for key, value in lines[5].items()}
    assert (good["selected"], good["of"], good["to"]) == ("3", "5", "PACS@10.0.0.5:104")


def test_no_rules_at_all() -> None:
    nothing = decide(parse('{"routing": []}', "x"), Facts("A", "B", "none"), lambda _directory, _tags: Listing())
    assert as_text(nothing)[1:] == ["there are no rules", "nothing is to be delivered"]


def test_values_with_control_characters_and_long_ones_are_tamed() -> None:
    rules = parse(RULES.replace('"PatientName": "smith"', '"PatientID": "a"'), "x")
    file = File("1", {parse_tag_path("PatientID"): ("a\x1b[31m" + "b" * 200,)})
    text = "\n".join(as_text(decide(rules, Facts("ProcRSI", "B", "success"), lambda _d, _t: Listing((file,)))))
    assert "\x1b" not in text
    assert "b..." in text
