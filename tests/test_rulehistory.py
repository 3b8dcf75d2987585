"""Every set of rules that was in force is kept, and saving never loses what somebody else wrote meanwhile."""

import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from magickbox.errors import NotFound
from magickbox.rules import history as module
from magickbox.rules.file import EMPTY, RulesRefused
from magickbox.rules.history import BY_HAND, Line, RuleHistory, TooLong, compare, digest_of
from magickbox.rules.keeper import RuleKeeper
from magickbox.rules.saving import NOTHING, FileChanged, RuleFile

NAMED = '{"routing": [{"name": "%s", "send": []}]}'


@pytest.fixture
def rules(tmp_path: Path) -> RuleFile:
    return RuleFile(tmp_path / "routing.json", RuleHistory(tmp_path / "state" / "rules"))


@pytest.fixture
def keeper(rules: RuleFile, tmp_path: Path) -> Iterator[RuleKeeper]:
    keeper = RuleKeeper(rules.path, tmp_path / "last.json", lambda *_: None, history=rules.history)
    yield keeper
    keeper.stop()


def told(rules: RuleFile) -> list[tuple[str, str, str]]:
    """The versions, oldest first: who, how, and the text."""
    versions = reversed(rules.history.versions())
    return [(each.who, each.how, rules.history.text(each.id)) for each in versions]


def save(rules: RuleFile, name: str, who: str = "anna") -> None:
    rules.save(NAMED % name, rules.found().state, who, "saved")


def test_the_keeper_keeps_what_people_change_by_hand(rules: RuleFile, keeper: RuleKeeper) -> None:
    keeper.open()
    rules.path.write_text(NAMED % "a")
    assert keeper.refresh()
    rules.path.write_text('{"routing": [')
    assert not keeper.refresh()
    assert told(rules) == [("", BY_HAND, EMPTY), ("", BY_HAND, NAMED % "a")]


def test_what_the_window_saves_is_not_taken_for_a_change_by_hand(rules: RuleFile, keeper: RuleKeeper) -> None:
    keeper.open()
    save(rules, "a")
    assert keeper.refresh()
    assert keeper.current().rules[0].name == "a"
    assert [(who, how) for who, how, _ in told(rules)] == [("", BY_HAND), ("anna", "saved")]
    assert rules.history.versions()[0].digest == keeper.current().digest == digest_of(NAMED % "a")


def test_what_was_written_while_no_box_ran_is_kept_before_it_is_replaced(rules: RuleFile) -> None:
    rules.path.write_text(NAMED % "hand")
    save(rules, "a")
    assert told(rules) == [("", BY_HAND, NAMED % "hand"), ("anna", "saved", NAMED % "a")]


def test_a_file_that_cannot_be_used_is_never_saved(rules: RuleFile) -> None:
    save(rules, "a")
    before = rules.path.read_bytes()
    for text in ("", '{"routing": [', '{"rooting": []}', "\ud800", " " * (1 << 20) + "{}"):
        with pytest.raises(RulesRefused):
            rules.save(text, rules.found().state, "anna", "saved")
    with pytest.raises(RulesRefused, match="'me' is not set"):
        rules.save(
            '{"routing": [{"send": [{"a": {"IP": "$me", "PORT": 1, "AETitleSender": "A", "AETitleTo": "B"}}]}]}',
            rules.found().state, "anna", "saved",
        )  # fmt: skip
    assert rules.path.read_bytes() == before
    assert len(rules.history.versions()) == 1


def test_of_two_who_loaded_the_same_the_second_is_refused(rules: RuleFile) -> None:
    save(rules, "a")
    loaded = rules.found().state
    rules.save(NAMED % "anna", loaded, "anna", "saved")
    with pytest.raises(FileChanged, match="changed by somebody else") as caught:
        rules.save(NAMED % "ben", loaded, "ben", "saved")
    assert caught.value.now == rules.found().state
    assert rules.found().text == NAMED % "anna"


def test_of_many_who_save_at_once_one_wins(rules: RuleFile) -> None:
    save(rules, "a")
    loaded, refused = rules.found().state, []

    def one(name: str) -> None:
        try:
            rules.save(NAMED % name, loaded, name, "saved")
        except FileChanged:
            refused.append(name)

    threads = [threading.Thread(target=one, args=(f"n{n}",)) for n in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(refused) == 7
    newest = rules.history.versions()[0]
    assert newest.who not in refused
    assert rules.found().text == NAMED % newest.who
    assert len(rules.history.versions()) == 2


def test_a_file_that_is_not_there_can_be_saved(rules: RuleFile) -> None:
    assert rules.found().state == NOTHING
    save(rules, "a")
    with pytest.raises(FileChanged):
        rules.save(NAMED % "b", NOTHING, "ben", "saved")


def test_the_same_again_is_no_version(rules: RuleFile) -> None:
    save(rules, "a")
    assert rules.save(NAMED % "a", rules.found().state, "ben", "saved") is None
    assert len(rules.history.versions()) == 1


def test_a_link_stays_a_link_and_keeps_its_mode(rules: RuleFile, tmp_path: Path) -> None:
    real = tmp_path / "elsewhere.json"
    real.write_text(NAMED % "a")
    real.chmod(0o640)
    rules.path.symlink_to(real)
    save(rules, "b")
    assert rules.path.is_symlink()
    assert real.read_text() == NAMED % "b"
    assert real.stat().st_mode & 0o777 == 0o640


@pytest.mark.skipif(not os.path.exists("/proc/self"), reason="needs a folder in which nobody can write")
def test_what_cannot_be_written_is_not_in_the_history(rules: RuleFile) -> None:
    nowhere = replace(rules, path=Path("/proc/self/routing.json"))
    with pytest.raises(OSError, match=r"routing\.json"):
        nowhere.save(NAMED % "a", NOTHING, "anna", "saved")
    assert rules.history.versions() == []


def test_the_oldest_go(rules: RuleFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 3)
    for name in "abcde":
        save(rules, name)
    assert [text for _, _, text in told(rules)] == [NAMED % name for name in "cde"]
    monkeypatch.setattr(module, "MOST_BYTES", 10)
    save(rules, "f")
    assert [text for _, _, text in told(rules)] == [NAMED % "f"]


def test_an_old_one_is_used_again_by_saving_it(rules: RuleFile) -> None:
    save(rules, "a")
    save(rules, "b")
    old = rules.history.versions()[1]
    rules.save(rules.history.text(old.id), rules.found().state, "ben", f"returned to {old.id}")
    assert rules.found().text == NAMED % "a"
    assert [who for who, _, _ in told(rules)] == ["anna", "anna", "ben"]


@pytest.mark.parametrize("name", ["", "..", "../../routing", "20261122T010203000000Z-0123456789ab", "\0"])
def test_a_version_is_a_name_and_no_path(rules: RuleFile, name: str) -> None:
    save(rules, "a")
    with pytest.raises(NotFound):
        rules.history.text(name)


def test_a_damaged_version_is_left_out(rules: RuleFile, tmp_path: Path) -> None:
    save(rules, "a")
    save(rules, "b")
    newest = tmp_path / "state" / "rules" / f"{rules.history.versions()[0].id}.rules"
    newest.write_bytes(b"\xff\n")
    assert [text for _, _, text in told(rules)] == [NAMED % "a"]


def test_comparing_says_what_went_and_what_came() -> None:
    old = "\n".join([*"abcdefghij", "", "x"])
    lines = compare(old, old.replace("x", "y"), around=1)
    assert lines == [
        Line("gap", ""),
        Line("same", "", 11, 11),
        Line("gone", "x", 12),
        Line("new", "y", None, 12),
    ]
    assert compare(old, old) == []
    with pytest.raises(TooLong):
        compare("\n" * 20_000, "a\n" * 10)
