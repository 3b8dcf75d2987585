"""An update changes the ledger whole or not at all, with a copy of what was before; and there is a way back."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from boxes import Image, TestBox, new_box
from test_backup import states
from test_verify import findings, healthy

from magickbox.cli.main import main
from magickbox.errors import LedgerError
from magickbox.job import JobState
from magickbox.ledger import Ledger
from magickbox.ledger.copies import KEPT, keep_copy, kept
from magickbox.ledger.schema import migrations, newest_schema

NEWER = newest_schema() + 1


@pytest.fixture
def box(tmp_path: Path) -> Iterator[TestBox]:
    made = new_box(tmp_path)
    yield made
    made.ledger.close()


def ledger_of_version(path: Path, version: int) -> None:
    """A ledger as an older version has left it."""
    with closing(sqlite3.connect(path)) as old:
        old.executescript("\n".join(script for number, script in migrations() if number <= version))
        old.execute(f"PRAGMA user_version = {version}")


def version_of(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])


@pytest.mark.parametrize("version", range(1, newest_schema()))
def test_an_update_keeps_the_ledger_as_it_was(tmp_path: Path, version: int) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger_of_version(path, version)
    Ledger(path).close()
    assert version_of(path) == newest_schema()
    (copy,) = kept(path)
    assert copy == (version, tmp_path / f"ledger.sqlite.version-{version}")
    assert version_of(copy[1]) == version
    assert copy[1].stat().st_mode & 0o777 == 0o600


def test_an_update_that_fails_leaves_the_ledger_as_it_was(tmp_path: Path) -> None:
    """The last step of it cannot be done, after others that could."""
    path = tmp_path / "ledger.sqlite"
    ledger_of_version(path, 1)
    with closing(sqlite3.connect(path)) as old:
        old.execute("CREATE TABLE proofs (mine)")
        before = sorted(old.execute("SELECT sql FROM sqlite_master WHERE sql NOT NULL").fetchall())
    with pytest.raises(LedgerError, match="proofs"):
        Ledger(path)
    assert version_of(path) == 1
    with closing(sqlite3.connect(path)) as old:
        assert sorted(old.execute("SELECT sql FROM sqlite_master WHERE sql NOT NULL").fetchall()) == before


def test_without_a_copy_there_is_no_update(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger_of_version(path, 1)
    (tmp_path / "ledger.sqlite.version-1").mkdir()
    (tmp_path / "ledger.sqlite.version-1" / "in the way").touch()
    with pytest.raises(LedgerError, match="no copy of it can be kept"):
        Ledger(path)
    assert version_of(path) == 1


def test_only_some_copies_stay(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger_of_version(path, 2)
    with closing(sqlite3.connect(path)) as connection:
        for version in range(2, 20):
            keep_copy(connection, path, version)
    assert [version for version, _ in kept(path)] == list(range(20 - KEPT, 20))


def updated(box: TestBox) -> None:
    """What a newer version does to a ledger: keeps a copy and changes it; then it works for a while."""
    with closing(sqlite3.connect(box.data.ledger)) as connection:
        keep_copy(connection, box.data.ledger, newest_schema())


def newer(box: TestBox) -> None:
    box.ledger.close()
    with closing(sqlite3.connect(box.data.ledger)) as connection:
        connection.executescript(f"CREATE TABLE of_tomorrow (x); PRAGMA user_version = {NEWER};")


def test_an_older_version_names_the_copy_that_it_can_use(box: TestBox, capsys: pytest.CaptureFixture[str]) -> None:
    updated(box)
    newer(box)
    for command in (["serve", "--host", "127.0.0.1", "--port", "0"], ["jobs", "list"]):
        assert main([*command, "--data", str(box.data.root)]) == 1
        said = capsys.readouterr().err
        assert f"schema version {NEWER}, this program knows {newest_schema()}; a newer magickbox wrote it" in said
        assert f"(ledger.sqlite.version-{newest_schema()}) with 'magickbox restore --before-update'" in said


def test_the_ledger_from_before_an_update_is_put_back(box: TestBox, capsys: pytest.CaptureFixture[str]) -> None:
    """What was under way then is HELD, wherever it has come to since; what is gone since is LOST."""
    made = healthy(box)
    has_run_since = made["ready"]
    updated(box)
    box.run(has_run_since)
    newer(box)
    assert main(["restore", "--before-update", "--data", str(box.data.root)]) == 0
    assert "under way and are HELD" in capsys.readouterr().out
    back = TestBox(box.data, Ledger(box.data.ledger))
    assert back.row(has_run_since).state is JobState.HELD
    assert back.row(has_run_since).resume is JobState.PROCESSED
    assert back.row(made["delivering"]).resume is JobState.DELIVERING
    assert back.row(made["done"]).state is JobState.DONE
    assert [finding for finding in findings(back) if finding.severity == "error"] == []
    back.ledger.close()
    (aside,) = box.data.state.glob("ledger.sqlite.newer-*Z")
    assert version_of(aside) == NEWER


def test_a_job_that_came_after_the_update_is_held(box: TestBox) -> None:
    from boxprocess import all_jobs, running

    updated(box)
    job = box.job(Image("1.9.1"))
    newer(box)
    assert main(["restore", "--before-update", "--data", str(box.data.root)]) == 0
    (box.data.root / "processors").mkdir()
    with running(box.data.root):
        assert {each.id: each.state for each in all_jobs(box.data.root)} == {job.id: JobState.HELD}


def test_there_must_be_something_to_put_back(box: TestBox, capsys: pytest.CaptureFixture[str]) -> None:
    job = box.job(Image("1.9.1"))
    box.ledger.close()
    assert main(["restore", "--before-update", "--data", str(box.data.root)]) == 1
    box.ledger = Ledger(box.data.ledger)
    assert states(box) == {job.id: JobState.READY}
    newer(box)
    assert main(["restore", "--before-update", "--data", str(box.data.root)]) == 1
    said = capsys.readouterr().err
    assert "there is nothing to put back" in said
    assert "no copy from before an update" in said
    assert version_of(box.data.ledger) == NEWER
