"""One run's folder: what it sees, what is published of it, and that each step can be made again."""

import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from boxes import Image, TestBox, new_box

from magickbox.jobfolder import JobFolder, remove_tree
from magickbox.ledger import jobs
from magickbox.processor import Outcome, Processor, judge_run
from magickbox.runs import attempt as attempts
from magickbox.runs.inputguard import InputGuard
from magickbox.selection import look_below

FILES = ("1.2.1.dcm", "1.2.2.dcm")
SUCCESS = attempts.RunResult(0, Outcome("success"))


@pytest.fixture
def box(tmp_path: Path) -> Iterator[TestBox]:
    made = new_box(tmp_path)
    yield made
    made.ledger.close()


@pytest.fixture
def folder(box: TestBox) -> JobFolder:
    return box.folder(box.job(Image("1.2.1"), Image("1.2.2")))


def test_a_run_sees_what_looks_like_a_job_folder(folder: JobFolder) -> None:
    attempt = attempts.prepare(folder, 1, FILES)
    assert sorted(os.listdir(attempt.path)) == ["INPUT", "OUTPUT", "info.json", "tmp"]
    assert all((attempt.input / name).samefile(folder.input / name) for name in FILES)
    assert attempts.prepare(folder, 1, FILES) == attempt, "again is harmless"
    attempts.clear(attempt)
    assert sorted(os.listdir(attempt.path)) == ["OUTPUT"]
    assert sorted(os.listdir(folder.attempts)) == ["1", "1.token"]
    assert sorted(os.listdir(folder.input)) == list(FILES)


def test_the_log_of_an_earlier_run_is_kept_with_it(folder: JobFolder) -> None:
    """Also if a kill between the earlier run's row and its folder left no folder."""
    attempts.prepare(folder, 1, FILES)
    folder.log.write_text("first")
    attempts.prepare(folder, 2, FILES)
    assert folder.attempt(1).log.read_text() == "first"
    folder.log.write_text("second")
    attempts.prepare(folder, 4, FILES)
    assert folder.attempt(3).log.read_text() == "second"
    assert folder.log.read_text() == ""


def test_publishing_again_is_harmless(folder: JobFolder) -> None:
    attempt = attempts.prepare(folder, 1, FILES)
    (attempt.output / "result").write_text("x")
    (attempt.output / "proc.json").write_text('[{"success": "success"}]')
    attempts.seal(attempt)
    attempts.write_result(attempt, SUCCESS)
    for _ in range(2):
        attempts.publish(folder, attempt, SUCCESS)
        assert os.listdir(folder.output) == ["result"]
    assert attempts.read_result(attempt) == SUCCESS


def test_a_proc_json_that_is_none_is_kept_beside(folder: JobFolder) -> None:
    attempt = attempts.prepare(folder, 1, FILES)
    attempt.proc.write_text("{}")
    invalid = attempts.RunResult(0, Outcome("failed", "not an array", invalid="not an array"))
    attempts.publish(folder, attempt, invalid)
    assert (folder.path / "proc.json.invalid").read_text() == "{}"


@pytest.mark.parametrize("content", ["", "{", "[]", "7", '{"exit": 0}'])
def test_a_result_that_cannot_be_read_is_none(folder: JobFolder, content: str) -> None:
    attempt = attempts.prepare(folder, 1, FILES)
    attempt.result.write_text(content)
    assert attempts.read_result(attempt) is None


@pytest.mark.parametrize("kind", ["link", "fifo", "large", "folder"])
def test_an_odd_proc_json_is_not_followed(folder: JobFolder, tmp_path: Path, kind: str) -> None:
    attempt = attempts.prepare(folder, 1, FILES)
    secret = tmp_path / "secret"
    secret.write_text('[{"success": "stolen"}]')
    if kind == "link":
        attempt.proc.symlink_to(secret)
    elif kind == "fifo":
        os.mkfifo(attempt.proc)
    elif kind == "folder":
        (attempt.output / "proc.json").mkdir()
    else:
        attempt.proc.write_bytes(b" " * (attempts.MAX_PROC_JSON + 1))
    said = attempts.read_said(attempt)
    assert isinstance(said, str)
    assert said.startswith("proc.json ")
    assert judge_run(0, said).invalid == said


def test_an_output_that_is_gone_or_a_link_is_an_empty_folder(folder: JobFolder, tmp_path: Path) -> None:
    attempt = attempts.prepare(folder, 1, FILES)
    attempt.output.rmdir()
    assert attempts.seal(attempt).remark == ""
    assert attempt.output.is_dir()
    attempt.output.rmdir()
    attempt.output.symlink_to(tmp_path)
    sealed = attempts.seal(attempt)
    assert sealed == attempts.Sealed(None, "OUTPUT was replaced by a link; it is empty")
    attempt.output.rmdir()
    attempt.output.touch()
    assert attempts.read_said(attempt) is None
    assert attempts.seal(attempt).remark == "OUTPUT was replaced by a file; it is empty"
    assert attempts.with_remark(Outcome("success", "well"), sealed).message == f"well. {sealed.remark}"
    assert not attempt.output.is_symlink()
    assert os.listdir(attempt.output) == []


def test_an_output_holds_files_and_folders_of_the_box_and_no_traps(folder: JobFolder, tmp_path: Path) -> None:
    attempt = attempts.prepare(folder, 1, FILES)
    (tmp_path / "elsewhere").mkdir()
    deep = attempt.output / "deep"
    deep.mkdir()
    (deep / "out").symlink_to(tmp_path / "elsewhere")
    (deep / "up").symlink_to("../../../../../elsewhere")
    (deep / "circle").symlink_to("circle")
    (deep / "input").symlink_to(f"../../INPUT/{FILES[0]}")
    os.mkfifo(deep / "pipe")
    with socket.socket(socket.AF_UNIX) as sock:
        here = os.open(deep, os.O_RDONLY)
        sock.bind(f"/proc/self/fd/{here}/socket")
        os.close(here)
    if os.geteuid() == 0:
        os.mknod(deep / "disk", 0o600 | stat.S_IFBLK, os.makedev(7, 200))
        (deep / "foreign").write_text("x")
        os.chown(deep / "foreign", 65534, 65534)
    (deep / "root").write_text("x")
    (deep / "root").chmod(0o6755)
    (deep / "closed").write_text("x")
    (deep / "closed").chmod(0)
    Path(os.fsdecode(os.fsencode(deep) + b"/\xff\n")).write_text("x")
    sealed = attempts.seal(attempt)
    specials = 3 if os.geteuid() == 0 else 2
    said = (
        f"left out of OUTPUT: {specials} pipes, sockets or device nodes and "
        "3 links that lead elsewhere or nowhere (deep/circle, deep/out, deep/up)"
    )
    assert sealed == attempts.Sealed(None, said)
    left = {path.name: path.lstat() for path in deep.iterdir()}
    assert left.keys() >= {"input", "root", "closed", "\udcff\n"}
    assert not left.keys() & {"circle", "out", "up", "pipe", "socket", "disk"}
    assert stat.S_ISREG(left["input"].st_mode)
    assert {status.st_uid for status in left.values()} == {os.geteuid()}
    assert stat.S_IMODE(left["root"].st_mode) == 0o755
    assert stat.S_IMODE(left["closed"].st_mode) == 0o400
    assert attempts.seal(attempt) == attempts.Sealed(), "again is harmless"


def test_links_to_what_the_run_has_become_files(folder: JobFolder) -> None:
    """A script may link instead of copying: INPUT of the run is gone when rules look at OUTPUT."""
    attempt = attempts.prepare(folder, 1, FILES)
    (attempt.output / "real").write_text("x")
    for number, target in enumerate(
        (attempt.input / FILES[0], "real", "0", attempt.output / "2", "../INPUT/1.2.2.dcm")
    ):
        (attempt.output / str(number)).symlink_to(str(target))
    assert attempts.seal(attempt) == attempts.Sealed()
    attempts.clear(attempt)
    attempts.publish(folder, attempt, SUCCESS)
    left = {path.name: path.read_bytes() for path in folder.output.iterdir() if not path.is_symlink()}
    first, second = ((folder.input / name).read_bytes() for name in FILES)
    assert left == {"real": b"x", "0": first, "1": b"x", "2": first, "3": first, "4": second}


@pytest.mark.parametrize(("copied", "word"), [(False, "failed"), (True, "success")])
def test_a_success_without_results_is_none(folder: JobFolder, copied: bool, word: str) -> None:
    """Links to folders, to other files of the run, and to nothing are left out; what else is there may be enough."""
    attempt = attempts.prepare(folder, 1, FILES)
    for name, target in {"folder": attempt.input, "info": attempt.info, "none": "nothing", "z": "/tmp"}.items():
        (attempt.output / name).symlink_to(str(target))
    (attempt.output / "report.txt").write_text("no image")
    if copied:
        (attempt.output / "copy.dcm").write_bytes((attempt.input / FILES[0]).read_bytes())
    sealed = attempts.seal(attempt)
    said = "left out of OUTPUT: 4 links that lead elsewhere or nowhere (folder, info, none, …)"
    assert (sealed.remark, sealed.lost, sealed.trouble) == (said, not copied, None)
    outcome = attempts.with_remark(Outcome("success"), sealed)
    assert outcome.success == word
    assert outcome.message == (said if copied else f"no DICOM file is left in OUTPUT ({said})")
    other = attempts.with_remark(Outcome("nothing found", "well"), sealed)
    assert (other.success, other.message) == ("nothing found", f"well. {said}"), "its own word stands"


def test_a_limit_that_was_met_is_told_beside_the_rest(folder: JobFolder) -> None:
    attempt = attempts.prepare(folder, 1, FILES)
    attempt.output.rmdir()
    attempt.output.touch()
    sealed = attempts.seal(attempt, "it met a limit")
    assert sealed.remark == "it met a limit. OUTPUT was replaced by a file; it is empty"
    assert attempts.with_remark(Outcome("success"), sealed) == Outcome("success", sealed.remark)


def test_a_change_of_what_was_received_is_found(box: TestBox, folder: JobFolder) -> None:
    """Deleting a link is harmless; writing through it is not, even if size and times are put back."""
    with box.ledger.reading() as tx:
        instances = [h.instance for h in jobs.held_by(tx, folder.path.name)]
    attempt = attempts.prepare(folder, 1, FILES)
    guard = InputGuard(folder.input, instances)
    assert guard.changed() is None
    (attempt.input / "1.2.1.dcm").unlink()
    assert guard.changed() is None
    path = attempt.input / "1.2.2.dcm"
    status = path.stat()
    content = path.read_bytes()
    path.chmod(0o644)
    assert guard.changed() is None, "only its mode is another"
    path.write_bytes(content[:-1] + b"\xff")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert guard.changed() == "1.2.2.dcm"
    (folder.input / "1.2.2.dcm").unlink()
    assert guard.changed() == "1.2.2.dcm"


def test_what_the_processor_puts_in_the_boxs_places_is_replaced(folder: JobFolder) -> None:
    """Its working directory is its own, but only the box says when a run is over."""
    attempt = attempts.prepare(folder, 1, FILES)
    right_shaped = SUCCESS.to_bytes("a token of its own")
    attempt.result.write_bytes(right_shaped)
    assert attempts.read_result(attempt) is None
    attempt.result.unlink()
    (attempt.result / "inner").mkdir(parents=True)
    assert attempts.read_result(attempt) is None
    attempts.write_result(attempt, SUCCESS)
    assert attempts.read_result(attempt) == SUCCESS
    (attempt.run / "inner").mkdir(parents=True)
    attempts.write_run(attempt, Processor("p", folder.path, ("/bin/true",), "Proc"), "now", {})
    assert attempt.run.is_file()


def test_a_result_is_no_other_runs(folder: JobFolder) -> None:
    attempt = attempts.prepare(folder, 1, FILES)
    attempts.write_result(attempt, SUCCESS)
    attempts.prepare(folder, 1, FILES)
    assert attempts.read_result(attempt) is None


def test_an_output_too_deep_to_be_read_is_a_failure(folder: JobFolder) -> None:
    attempt = attempts.prepare(folder, 1, FILES)
    here = os.open(attempt.output, os.O_RDONLY)
    for _ in range(30):
        os.mkdir("d" * 200, dir_fd=here)
        inner = os.open("d" * 200, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)
    assert attempts.seal(attempt) == attempts.Sealed("OUTPUT is nested too deeply")
    attempts.publish(folder, attempt, SUCCESS)
    listing = look_below(folder.path)("OUTPUT", frozenset())
    assert [why for _, why in listing.unreadable] == ["nested too deeply"]


def test_a_processor_that_removes_its_working_directory_gets_another(folder: JobFolder) -> None:
    attempt = attempts.prepare(folder, 1, FILES)
    remove_tree(attempt.path)
    attempts.seal(attempt)
    attempts.write_result(attempt, SUCCESS)
    assert attempts.read_result(attempt) == SUCCESS
