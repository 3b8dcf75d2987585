"""Hot reload: a good change is picked up, a bad one leaves the last good rules in force, also over a restart."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from magickbox.rules.file import EMPTY, RulesRefused
from magickbox.rules.keeper import RuleKeeper

ENTRY = '{"routing": [{"send": [{"success": {"IP": "pacs", "PORT": 1, "AETitleSender": "A", "AETitleTo": "B"}}]}]}'
NAMED = '{"routing": [{"name": "%s", "send": []}]}'


class Box:
    """A routing file, the place of the last good rules, and everything that was reported."""

    def __init__(self, folder: Path) -> None:
        self.file, self.last_good = folder / "routing.json", folder / "rules.json"
        self.reported: list[tuple[str, str]] = []
        self.keeper = self.restarted()

    def restarted(self, me: str | None = None) -> RuleKeeper:
        self.reported.clear()
        self.keeper = RuleKeeper(self.file, self.last_good, lambda level, text: self.reported.append((level, text)), me)
        return self.keeper

    @property
    def names(self) -> list[str]:
        return [rule.name for rule in self.keeper.current().rules]

    def said(self, level: str) -> str:
        return "\n".join(text for each, text in self.reported if each == level)


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    box = Box(tmp_path)
    yield box
    box.keeper.stop()


def test_a_good_file_is_used_and_kept(box: Box) -> None:
    box.file.write_text(NAMED % "a")
    box.keeper.open()
    assert box.names == ["a"]
    assert box.keeper.problem is None
    assert box.last_good.read_bytes() == box.file.read_bytes()
    assert "1 rule is in force" in box.said("info")


def test_an_absent_file_is_written_empty_and_said(box: Box) -> None:
    box.keeper.open()
    assert box.file.read_text() == EMPTY
    assert box.names == []
    assert "was not there" in box.said("warning")


def test_a_change_is_picked_up_even_with_the_same_size_and_within_a_tick(box: Box) -> None:
    box.file.write_text(NAMED % "a")
    box.keeper.open()
    for name in "bcdefgh":
        box.file.write_text(NAMED % name)
        assert box.keeper.refresh()
        assert box.names == [name]
    assert box.last_good.read_text() == (NAMED % "h")


def test_a_bad_change_leaves_the_last_good_rules_and_is_said_once(box: Box) -> None:
    box.file.write_text(NAMED % "a")
    box.keeper.open()
    box.file.write_text('{"routing": [\n')
    for _ in range(3):
        assert not box.keeper.refresh()
    assert box.names == ["a"]
    assert box.keeper.problem is not None
    assert f"{box.file}, line 2, column 1" in box.keeper.problem
    assert box.said("error").count("line 2, column 1") == 1
    assert box.last_good.read_text() == (NAMED % "a")
    box.file.write_text('{"routing": 1}')
    assert not box.keeper.refresh()
    assert "found 1" in box.said("error")


def test_a_bad_file_that_is_mended_is_used_again_even_if_it_is_what_it_was(box: Box) -> None:
    box.file.write_text(NAMED % "a")
    box.keeper.open()
    box.file.write_text("bad")
    box.keeper.refresh()
    box.file.write_text(NAMED % "a")
    assert box.keeper.refresh()
    assert box.keeper.problem is None
    assert box.said("info").count("in force") == 2


def test_all_that_is_wrong_is_reported(box: Box) -> None:
    box.file.write_text(NAMED % "a")
    box.keeper.open()
    box.file.write_text('{"routing": [{"snd": 1, "status": 5}, {"name": 1}]}')
    box.keeper.refresh()
    assert len(box.keeper.problems) == 4
    assert box.keeper.problem is not None
    assert box.keeper.problem.endswith("(and 3 more)")
    assert len(box.said("error").splitlines()) == 5


def test_a_restart_with_a_bad_file_uses_the_last_good_rules_and_says_so(box: Box) -> None:
    box.file.write_text(NAMED % "a")
    box.keeper.open()
    box.file.write_text("bad")
    box.restarted().open()
    assert box.names == ["a"]
    assert box.keeper.problem is not None
    assert "last good rules" in box.said("warning")
    assert "line 1, column 1" in box.said("error")
    box.file.write_text(NAMED % "b")
    box.keeper.refresh()
    assert box.names == ["b"]


@pytest.mark.parametrize("last_good", [None, "also bad"])
def test_a_bad_file_without_good_rules_before_it_fails_the_start(box: Box, last_good: str | None) -> None:
    box.file.write_text("bad")
    if last_good:
        box.last_good.write_text(last_good)
    with pytest.raises(RulesRefused, match="line 1, column 1"):
        box.keeper.open()


def test_a_file_that_goes_away_leaves_the_rules_in_force_and_is_not_written_anew(box: Box) -> None:
    box.file.write_text(NAMED % "a")
    box.keeper.open()
    box.file.unlink()
    assert not box.keeper.refresh()
    assert not box.keeper.refresh()
    assert box.names == ["a"]
    assert not box.file.exists()
    assert box.said("error").count("is gone; the last good rules stay in force") == 1
    box.file.write_text(NAMED % "a")
    assert box.keeper.refresh()
    assert box.keeper.problem is None


def test_a_file_that_is_gone_at_a_restart_leaves_the_last_good_rules_in_force(box: Box) -> None:
    box.file.write_text(NAMED % "a")
    box.keeper.open()
    box.file.unlink()
    box.restarted().open()
    assert box.names == ["a"]
    assert not box.file.exists()
    assert "write a file with no rules to have none" in (box.keeper.problem or "")
    assert "is gone" in box.said("error")
    box.file.write_text(EMPTY)
    assert box.keeper.refresh()
    assert box.names == []


def test_a_folder_of_the_rules_that_is_not_there_is_named(tmp_path: Path) -> None:
    keeper = RuleKeeper(tmp_path / "no" / "r.json", tmp_path / "rules.json", lambda _level, _text: None)
    with pytest.raises(RulesRefused, match="there is no folder"):
        keeper.open()


def test_a_file_that_is_replaced_by_rename_is_picked_up(box: Box) -> None:
    box.file.write_text(NAMED % "a")
    box.keeper.open()
    other = box.file.with_name("new")
    other.write_text(NAMED % "b")
    os.replace(other, box.file)
    assert box.keeper.refresh()
    assert box.names == ["b"]


def test_what_is_no_file_is_refused_and_does_not_block(box: Box) -> None:
    os.mkfifo(box.file)
    with pytest.raises(RulesRefused, match="not a regular file"):
        box.keeper.open()


def test_a_file_that_is_as_it_was_costs_no_reading(box: Box) -> None:
    box.file.write_text(NAMED % "a")
    os.utime(box.file, (1, 1))
    box.keeper.open()
    rules = box.keeper.current()
    box.file.chmod(0)
    try:
        assert box.keeper.refresh()
    finally:
        box.file.chmod(0o600)
    assert box.keeper.current() is rules


def test_a_setting_that_was_unset_makes_the_rules_bad(box: Box) -> None:
    box.file.write_text(ENTRY.replace("success", "failed").replace("pacs", "$me"))
    box.restarted(me="10.0.0.9").open()
    assert box.keeper.problem is None
    with pytest.raises(RulesRefused, match="'me' is not set"):
        box.restarted(me=None).open()


def test_last_good_rules_that_cannot_be_kept_do_not_stop_the_change(box: Box) -> None:
    box.last_good.mkdir()
    box.file.write_text(NAMED % "a")
    box.keeper.open()
    assert box.names == ["a"]
    assert "cannot be kept" in box.said("warning")


def test_warnings_are_reported(box: Box) -> None:
    box.file.write_text(ENTRY.replace("success", "sucess"))
    box.keeper.open()
    assert "did you mean 'success'?" in box.said("warning")


def test_the_thread_picks_a_change_up_by_itself(box: Box) -> None:
    box.file.write_text(NAMED % "a")
    box.keeper.start()
    box.file.write_text(NAMED % "b")
    until = time.monotonic() + 10
    while box.names != ["b"] and time.monotonic() < until:
        time.sleep(0.02)
    assert box.names == ["b"]
