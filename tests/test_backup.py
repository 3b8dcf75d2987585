"""A backup is a box in one file: whole or not at all, made while the box works, and what comes back is consistent."""

import io
import json
import os
import sqlite3
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pydicom
import pytest
from boxes import Image, TestBox, new_box
from boxprocess import all_jobs, is_quiet, running, send, set_up, station, until
from peers import item_of, sample
from pydicom.uid import generate_uid
from test_verify import findings, healthy

from magickbox.backups.archive import read_archive
from magickbox.cli.main import main
from magickbox.datafolder import DataFolder
from magickbox.errors import BackupError
from magickbox.job import JobState
from magickbox.ledger import Ledger, jobs
from magickbox.verification.verify import verify

GOES_ON = "the box ended while its processor was running; the next start makes the run again"
PROCESSOR = "#!/bin/sh\ncp $1/* $2/\n"


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestBox]:
    monkeypatch.chdir(tmp_path)  # the drop-ins of the folder that a command is given in would be the box's
    made = new_box(tmp_path)
    (made.data.root / "routing.json").write_text('{"routing": []}')
    (made.data.root / "magickbox.toml").write_text("settle = 30\n")
    (made.data.root / "processors").mkdir()
    (made.data.root / "processors" / "Copy.sh").write_text(PROCESSOR)
    (made.data.root / "processors" / "Copy.sh").chmod(0o755)
    (made.data.root / "processors" / "Other.sh").symlink_to("Copy.sh")
    made.data.last_good_rules.write_text("{}")
    (made.data.state / "rules").mkdir()
    (made.data.state / "rules" / "1.json").write_text("an older one")
    with closing(sqlite3.connect(made.data.state / "window.db")) as window:
        window.executescript("PRAGMA journal_mode = WAL; CREATE TABLE users (name); INSERT INTO users VALUES ('anna');")
    yield made
    made.ledger.close()


def backed_up(box: TestBox, target: Path, *options: str) -> Path:
    assert main(["backup", str(target), "--data", str(box.data.root), *options]) == 0
    return target


def restored(file: Path, root: Path, *options: str) -> TestBox:
    assert main(["restore", str(file), "--data", str(root), *options]) == 0
    data = DataFolder(root)
    return TestBox(data, Ledger(data.ledger))


def states(box: TestBox) -> dict[str, JobState]:
    with box.ledger.reading() as tx:
        return {job.id: job.state for job in jobs.newest(tx, -1)}


def files(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and "ledger" not in path.name and "window" not in path.name
    }


@pytest.mark.parametrize("name", ["box.tar", "box.tar.gz"])
def test_all_of_a_box_comes_back(box: TestBox, tmp_path: Path, name: str) -> None:
    """Also files that two jobs share, links between drop-ins, the rights of files, and what others put in state/."""
    made = healthy(box)
    back = restored(backed_up(box, tmp_path / name, "--with-jobs", "--with-processors"), tmp_path / "new", "--go-on")
    was, came = files(box.data.root), files(back.data.root)
    left_out = ("incoming/", "quarantine/", "logs/", "state/lock", "jobs/" + made["ready"].id + "/.")
    assert came == {name: data for name, data in was.items() if not name.startswith(left_out)} | {"state/lock": b""}
    assert states(back) == states(box)
    assert findings(back) == []
    assert os.readlink(back.data.root / "processors" / "Other.sh") == "Copy.sh"
    assert os.access(back.data.root / "processors" / "Copy.sh", os.X_OK)
    with closing(sqlite3.connect(back.data.state / "window.db")) as window:
        assert window.execute("SELECT name FROM users").fetchall() == [("anna",)]
    for job in made.values():
        inputs = box.folder(job).input
        for file in inputs.iterdir() if inputs.is_dir() else ():
            other = back.folder(job).input / file.name
            assert (other.stat().st_mode, other.stat().st_nlink) == (file.stat().st_mode, file.stat().st_nlink)
    back.ledger.close()


def test_what_was_under_way_is_held_unless_it_is_to_go_on(box: TestBox, tmp_path: Path) -> None:
    """Each where it stood, so that its release goes on there; a job that is over stays as it is."""
    made = healthy(box)
    running_job = box.start(box.job(Image("1.4.1"), called="Busy"))
    back = restored(backed_up(box, tmp_path / "box.tar", "--with-jobs"), tmp_path / "new")
    for name in ("ready", "late", "processed", "delivering"):
        row = back.row(made[name])
        assert row.state is JobState.HELD
        assert "look at it before it is released" in row.reason
    assert [back.row(made[name]).resume for name in ("ready", "processed", "delivering")] == [
        JobState.READY, JobState.PROCESSED, JobState.DELIVERING,
    ]  # fmt: skip
    assert (back.row(running_job).state, back.row(running_job).resume) == (JobState.HELD, JobState.READY)
    assert {name: back.row(made[name]).state for name in ("done", "attention", "held", "deleted")} == {
        "done": "DONE", "attention": "ATTENTION", "held": "HELD", "deleted": "DELETED",
    }  # fmt: skip
    assert findings(back) == []
    back.ledger.close()


def test_without_their_folders_jobs_are_lost_and_verify_says_which(
    box: TestBox, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = healthy(box)["done"]
    back = restored(backed_up(box, tmp_path / "box.tar.gz"), tmp_path / "new")
    assert set(states(back).values()) == {JobState.LOST, JobState.DELETED}
    assert f"jobs/{done.id}" in {finding.where for finding in findings(back)}
    assert "are LOST: " in capsys.readouterr().out
    assert not (back.data.root / "processors").exists()
    back.ledger.close()


def test_a_backup_of_a_box_at_work(tmp_path: Path) -> None:
    """Studies come in, run and go out all the time: what comes back is consistent, and a box goes on from it."""
    with station(tmp_path / "station") as receiving:
        port = receiving.port
        set_up(tmp_path / "box", port)
        data = DataFolder(tmp_path / "box")
        with running(data.root, settings={"settle": 0, "slots": 2}) as box:
            assert box.port is not None
            stop = threading.Event()
            sending = threading.Thread(target=_send_until, args=(box.port, tmp_path / "new.dcm", stop))
            sending.start()
            try:
                until(lambda: len(all_jobs(data.root)) > 2)
                kept = [tmp_path / f"{n}.tar" for n in range(4)]
                for target in kept:
                    assert main(["backup", str(target), "--with-jobs", "--data", str(data.root)]) == 0
            finally:
                stop.set()
                sending.join()
        for number, target in enumerate(kept):
            root = tmp_path / f"new{number}"
            back = restored(target, root, "--go-on")
            found = verify(back.data, back.ledger, quick=False, running=False)
            assert {f.what for f in found} <= {GOES_ON}
            back.ledger.close()
        set_up(root, port)
        with running(root, settings={"settle": 0}):
            until(lambda: is_quiet(root))
            assert {job.state for job in all_jobs(root)} <= {JobState.DONE}


def _send_until(port: int, file: Path, stop: threading.Event) -> None:
    """Send one study after the other; an instance that comes again and again would look like a loop."""
    image = pydicom.dcmread(sample("MR_small.dcm"))
    while not stop.is_set():
        image.StudyInstanceUID, image.SOPInstanceUID = generate_uid(), generate_uid()
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
        image.save_as(file)
        send(port, [item_of(file)])


@pytest.mark.parametrize("name", ["box.tar", "box.tar.gz"])
def test_a_damaged_backup_is_refused_and_leaves_nothing(box: TestBox, tmp_path: Path, name: str) -> None:
    """A byte changed in any header or content, or an end that is missing."""
    healthy(box)
    whole = backed_up(box, tmp_path / name, "--with-jobs").read_bytes()
    damaged = [_flipped(whole, at) for at in _places(tmp_path / name, len(whole))]
    for data in (*damaged, whole[: len(whole) // 2], whole[: -len(whole) // 20], b""):
        (tmp_path / name).write_bytes(data)
        assert main(["restore", str(tmp_path / name), "--data", str(tmp_path / "new")]) == 1
        assert list((tmp_path / "new").iterdir()) == []


def _places(path: Path, size: int) -> list[int]:
    """Bytes that count: some of a compressed file; of a plain one in headers and contents, not in what fills blocks."""
    if path.suffix == ".gz":
        return list(range(20, size - 200, size // 12))
    with tarfile.open(path) as tar:
        members = tar.getmembers()[::7]
    return [m.offset_data - 412 for m in members] + [m.offset_data + m.size // 2 for m in members if m.size]


def _flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0x20]) + data[at + 1 :]


def test_nothing_is_overwritten(box: TestBox, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job = box.job(Image("1.2.1"))
    target = backed_up(box, tmp_path / "box.tar.gz")
    assert main(["backup", str(target), "--data", str(box.data.root)]) == 1
    assert main(["restore", str(target), "--data", str(box.data.root)]) == 1
    assert states(box) == {job.id: JobState.READY}
    (tmp_path / "disk" / "lost+found").mkdir(parents=True)
    restored(target, tmp_path / "disk").ledger.close()
    said = capsys.readouterr().err
    assert "overwrites nothing" in said
    assert "is not empty (" in said


def test_a_damaged_database_of_the_window_keeps_nobody_from_a_backup(
    box: TestBox, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All else is in it, and the exit code tells; a damaged ledger is no backup."""
    job = box.job(Image("1.2.1"))
    window = box.data.state / "window.db"
    window.write_bytes(window.read_bytes()[:100] + b"\xff" * 8000)
    target = tmp_path / "box.tar"
    assert main(["backup", str(target), "--data", str(box.data.root)]) == 1
    assert f"not in it: {window} cannot be copied: " in capsys.readouterr().err
    back = restored(target, tmp_path / "new")
    assert set(states(back)) == {job.id}
    assert not (back.data.state / "window.db").exists()
    back.ledger.close()
    box.ledger.close()
    box.data.ledger.write_bytes(box.data.ledger.read_bytes()[:4096] + b"\xff" * 40960)
    assert main(["backup", str(tmp_path / "bad.tar"), "--data", str(box.data.root)]) == 1
    assert not (tmp_path / "bad.tar").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to another user")
def test_root_restores_for_the_user_whose_folder_it_is(box: TestBox, tmp_path: Path) -> None:
    box.job(Image("1.2.1"))
    target = backed_up(box, tmp_path / "box.tar", "--with-jobs")
    (tmp_path / "new").mkdir()
    os.chown(tmp_path / "new", 12345, 12346)
    restored(target, tmp_path / "new").ledger.close()
    owners = {(path.lstat().st_uid, path.lstat().st_gid) for path in (tmp_path / "new").rglob("*")}
    assert owners == {(12345, 12346)}


def test_an_unfinished_restore_keeps_a_box_from_starting(box: TestBox, tmp_path: Path) -> None:
    data = DataFolder(tmp_path / "new")
    data.restoring.mkdir(parents=True)
    assert main(["serve", "--data", str(data.root), "--host", "127.0.0.1", "--port", "0"]) == 1
    assert main(["restore", str(backed_up(box, tmp_path / "box.tar")), "--data", str(data.root)]) == 1
    assert [path.name for path in data.root.iterdir()] == [".restoring"]


def test_a_folder_of_backups_keeps_the_newest(box: TestBox, tmp_path: Path) -> None:
    folder = tmp_path / "backups"
    folder.mkdir()
    for name in ("magickbox-20260101T000000Z.tar.gz", "magickbox-20260102T000000Z.tar", "magickbox-notes.txt"):
        (folder / name).touch()
    backed_up(box, folder, "--keep", "2")
    names = sorted(path.name for path in folder.iterdir())
    assert names[0] == "magickbox-20260102T000000Z.tar"
    assert names[1].endswith("Z.tar.gz")
    assert names[2:] == ["magickbox-notes.txt"]
    assert (folder / names[1]).stat().st_mode & 0o777 == 0o600
    restored(folder / names[1], tmp_path / "new").ledger.close()


@pytest.mark.parametrize("name", ["nowhere/box.tar", "box.zip"])
def test_a_target_that_cannot_be(box: TestBox, tmp_path: Path, name: str) -> None:
    assert main(["backup", str(tmp_path / name), "--data", str(box.data.root)]) == 1


def test_rules_and_settings_that_stand_elsewhere(
    box: TestBox, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rules = tmp_path / "rules.json"
    rules.write_text('{"routing": [] }')
    target = backed_up(box, tmp_path / "box.tar.gz", "--routing", str(rules))
    restored(target, tmp_path / "new").ledger.close()
    assert (tmp_path / "new" / "routing.json").read_text() == '{"routing": [] }'
    assert f"routing.json stood at {rules}" in capsys.readouterr().out


def _with(member: tarfile.TarInfo, content: bytes = b"x") -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with tarfile.open(path, "w") as tar:
            link = tarfile.TarInfo("state")
            link.type, link.linkname = tarfile.SYMTYPE, "/tmp"
            tar.addfile(link)
            member.size = len(content) if member.isreg() else 0
            tar.addfile(member, io.BytesIO(content))

    return write


def _special(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


@pytest.mark.parametrize(
    "member",
    [
        _special("../outside"),
        _special("/tmp/outside"),
        _special("jobs/../../outside"),
        _special("device", tarfile.CHRTYPE),
        _special("pipe", tarfile.FIFOTYPE),
        _special("hard", tarfile.LNKTYPE, "../../../etc/passwd"),
        _special("backup.json"),
    ],
    ids=lambda member: f"{member.name}-{member.type.decode()}",
)
def test_a_strange_archive_writes_nowhere_else(tmp_path: Path, member: tarfile.TarInfo) -> None:
    _with(member)(tmp_path / "evil.tar")
    with pytest.raises(BackupError):
        read_archive(tmp_path / "evil.tar")
    assert main(["restore", str(tmp_path / "evil.tar"), "--data", str(tmp_path / "new" / "data")]) == 1
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["data", "evil.tar", "new"]


def test_a_backup_of_a_newer_version_is_refused(box: TestBox, tmp_path: Path) -> None:
    box.ledger.close()
    with closing(sqlite3.connect(box.data.ledger)) as connection:
        connection.execute("PRAGMA user_version = 9999")
    target = backed_up(box, tmp_path / "box.tar.gz")
    assert main(["restore", str(target), "--data", str(tmp_path / "new")]) == 1
    assert list((tmp_path / "new").iterdir()) == []
    assert json.dumps(read_archive(target).schema) == "9999"
