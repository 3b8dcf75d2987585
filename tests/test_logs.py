"""Log lines stay lines, and trouble that comes again and again does not fill a log."""

from collections.abc import Mapping
from pathlib import Path

from magickbox.logs import LogFile, Seldom, fact, line


def test_a_line_stays_a_line_whatever_a_peer_calls_itself(tmp_path: Path) -> None:
    evil = 'A"B\nERROR fake key=value\x1b[31m'
    log = LogFile(tmp_path / "receive.log")
    log.note("info", "accepted", {"calling": evil, "plain": "PACS", "none": None, "empty": ""})
    log.close()
    [text] = (tmp_path / "receive.log").read_text().splitlines()
    assert text.endswith('plain=PACS none=- empty=""')
    assert "\x1b" not in text


def test_facts_are_quoted_only_where_they_must_be() -> None:
    assert (fact("PACS"), fact(3), fact("two words"), fact("a=b")) == ("PACS", "3", '"two words"', '"a=b"')
    assert line("warning", "event", {}).endswith("WARNING event")


def test_logs_are_rotated(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "routing.log", max_bytes=500, kept=2)
    for n in range(50):
        log.note("info", "line", {"n": n})
    log.close()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["routing.log", "routing.log.1", "routing.log.2"]


def test_the_same_trouble_is_told_seldom() -> None:
    told: list[tuple[str, str]] = []

    def note(_level: str, event: str, facts: Mapping[str, object]) -> None:
        told.append((event, str(facts["job"])))

    seldom = Seldom(note, every=3600)
    for _ in range(3):
        for job in ("a", "b"):
            seldom.note(job, "error", "waits", {"job": job})
    assert told == [("waits", "a"), ("waits", "b")]
    often = Seldom(note, every=0)
    often.note("a", "error", "waits", {"job": "a"})
    often.note("a", "error", "waits", {"job": "a"})
    assert len(told) == 4
