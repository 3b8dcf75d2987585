"""One run's folder: prepared, collected and published (section 8, steps 10 to 12). No ledger here."""

import errno
import json
import os
import secrets
import shutil
import stat
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from magickbox import progress
from magickbox.durable import fsync_file, fsync_folder, fsync_tree, make_folder, write_atomic
from magickbox.jobfolder import AttemptFolder, JobFolder, remove_tree
from magickbox.processor import FAILED, SUCCESS, ChainStep, Outcome, Processor
from magickbox.retry import Retry
from magickbox.runs.cleaning import clean

MAX_PROC_JSON = 1024 * 1024
TOO_DEEP = "OUTPUT is nested too deeply"
NOTHING_LEFT = "no DICOM file is left in OUTPUT"
NO_FOLDER = "OUTPUT was replaced by a {}; it is empty"


def prepare(job: JobFolder, n: int, files: tuple[str, ...]) -> AttemptFolder:
    """Step 10: a working directory that looks like a job folder; INPUT as hard links. Raises OSError."""
    attempt = job.attempt(n)
    make_folder(job.attempts)
    attempt.path.mkdir(exist_ok=True)  # durable with the token beside it
    write_atomic(attempt.token, secrets.token_hex(16).encode(), mode=0o600)
    for folder in (attempt.input, attempt.output, attempt.tmp):
        folder.mkdir(exist_ok=True)
    source, target = str(job.input), str(attempt.input)
    for file in files:
        with suppress(FileExistsError):
            os.link(f"{source}/{file}", f"{target}/{file}")
    shutil.copyfile(job.info, attempt.info)
    if job.log.exists() and n > 1:
        make_folder(job.attempt(n - 1).path)  # a kill between its row and its folder left none
        os.replace(job.log, job.attempt(n - 1).log)
    job.log.touch()
    job.progress.unlink(missing_ok=True)
    return attempt


def write_run(attempt: AttemptFolder, processor: Processor, began: str, handle: dict[str, object]) -> None:
    """Write run.json: when, which engine, version and digest, and how to find it again.

    It is durable with result.json: after a power cut there is nothing left to be found.
    """
    run = {
        "began": began,
        "engine": "local",
        "processor": processor.name,
        "version": processor.version,
        "digest": processor.digest,
        "command": list(processor.command),
        **({"retry": asdict(processor.retry)} if processor.retry else {}),
        **handle,
    }
    _make_way(attempt.run)
    part = attempt.run.with_name(".run.json.tmp")
    part.unlink(missing_ok=True)
    with open(part, "xb") as file:
        file.write(json.dumps(run, indent=1).encode() + b"\n")
    os.replace(part, attempt.run)


def read_lasting_run(attempt: AttemptFolder) -> Processor | None:
    """The processor of a run that may outlive the box, in a container or at a cluster, as far as its end needs it.

    None if run.json tells of no such run.

    The drop-in may have gone or changed since, and a script may write any run.json: nothing is run by what it says.
    """
    try:
        told = json.loads(attempt.run.read_bytes())
        if told.get("engine") == "chain":
            return _chain_of(attempt, told)
        return _processor_of(told) if isinstance(told.get("container", told.get("slurm")), str) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _chain_of(attempt: AttemptFolder, told: dict[str, Any]) -> Processor | None:
    """A chain whose last step that was begun may live."""
    begun = max(int(name) for name in ("0", *os.listdir(attempt.steps)) if name.isdigit())
    if read_lasting_run(attempt.step(begun)) is None:
        return None
    steps = tuple(ChainStep(str(label), Processor(str(label), Path("/"), (), "")) for label in told["steps"])
    name, version, digest = str(told["processor"]), str(told["version"]), str(told["digest"])
    return Processor(name, Path("/"), (), "", version=version, digest=digest, steps=steps, retry=_retry_of(told))


def _processor_of(told: dict[str, Any]) -> Processor:
    return Processor(
        name=str(told["processor"]),
        folder=Path("/"),
        command=tuple(told["command"]),
        called_ae="",
        version=str(told["version"]),
        digest=str(told["digest"]),
        timeout=float(told["timeout"]),
        resources=tuple(told["resources"].items()),
        image=str(told["image"]) if "image" in told else None,
        convention=str(told["convention"]),
        retry=_retry_of(told),
    )


def _retry_of(told: dict[str, Any]) -> Retry | None:
    return Retry(**{**told["retry"], "on": tuple(told["retry"]["on"])}) if "retry" in told else None


def write_said(attempt: AttemptFolder, outcome: Outcome) -> None:
    """What a chain says as its proc.json: the outcome of one of its steps."""
    text = json.dumps(outcome.as_proc_json(), ensure_ascii=False, separators=(",", ":"))
    _put(attempt.proc, text.encode("utf-8", "replace"))


def _put(path: Path, data: bytes) -> None:
    """Write a file of the box's own, in place of whatever the processor put there."""
    _make_way(path)
    write_atomic(path, data)


def _make_way(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        remove_tree(path)


def read_said(attempt: AttemptFolder) -> bytes | str | None:
    """What the processor wrote as proc.json, beside info.json or in OUTPUT; None if it wrote none.

    A link, a folder, a device or a file of more than 1 MiB is no proc.json: then a sentence says so.
    """
    for path in (attempt.proc, attempt.output / "proc.json"):
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as exc:
            return f"proc.json cannot be read: {exc.strerror}"
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_PROC_JSON:
                return "proc.json is not a file of at most 1 MiB"
            with os.fdopen(os.dup(fd), "rb") as file:
                return file.read(MAX_PROC_JSON)
        finally:
            os.close(fd)
    return None


@dataclass(frozen=True)
class Sealed:
    """What is to be said of an OUTPUT: ``trouble`` makes the outcome ``failed``, ``remark`` is only told.

    ``lost`` says that what was left out leaves no result: such a run is no success.
    """

    trouble: str | None = None
    remark: str = ""
    lost: bool = False


def seal(attempt: AttemptFolder, met: str = "") -> Sealed:
    """Step 11, first half: what the processor wrote is durable, readable for the box, and no trap for others.

    ``met`` is what else is to be remarked: the limit that the run met.
    """
    remark = met
    if not attempt.output.is_dir() or attempt.output.is_symlink():
        remark = ". ".join(filter(None, (remark, _replace_output(attempt))))
    try:
        cleaned = clean(attempt.output, attempt.input)
        remark = ". ".join(filter(None, (remark, cleaned.remark)))
        fsync_tree(attempt.output)
    except OSError as exc:
        if exc.errno != errno.ENAMETOOLONG:
            raise
        return Sealed(TOO_DEEP, remark)
    return Sealed(None, remark, cleaned.lost)


def with_remark(outcome: Outcome, sealed: Sealed) -> Outcome:
    """The outcome with a further sentence in its message; no success if its results were left out."""
    remark = sealed.remark
    if not remark:
        return outcome
    if sealed.lost and outcome.success.casefold() == SUCCESS:
        outcome, remark = replace(outcome, success=FAILED), f"{NOTHING_LEFT} ({remark})"
    return replace(outcome, message=f"{outcome.message}. {remark}" if outcome.message else remark)


def _replace_output(attempt: AttemptFolder) -> str:
    """A processor that removed its OUTPUT, or put a link or a file there, gets an empty one; says what was there."""
    was = NO_FOLDER.format("link" if attempt.output.is_symlink() else "file") if os.path.lexists(attempt.output) else ""
    attempt.output.unlink(missing_ok=True)
    attempt.output.mkdir(parents=True)
    return was


@dataclass(frozen=True)
class RunResult:
    """What result.json keeps of a run that ended by itself."""

    exit_code: int | None
    outcome: Outcome
    seconds: float = 0.0  # of a step of a chain

    def to_bytes(self, token: str) -> bytes:
        """As JSON; the token says that the box wrote it."""
        o = self.outcome
        value = {
            "token": token,
            "exit": self.exit_code,
            "success": o.success,
            "message": o.message,
            "entries": list(o.entries),
            "invalid": o.invalid,
            **({"seconds": round(self.seconds, 3)} if self.seconds else {}),
        }
        return json.dumps(value, indent=1).encode() + b"\n"


def write_result(attempt: AttemptFolder, result: RunResult) -> None:
    """Step 11, second half: result.json durable, and run.json with it. Only this ends an attempt."""
    with suppress(FileNotFoundError, PermissionError):
        _fsync_own(attempt.run)
    _put(attempt.result, result.to_bytes(attempt.token.read_text()))


def _fsync_own(path: Path) -> None:
    """The processor may have put anything in the place of a file of the box's; then there is nothing to keep."""
    if path.is_file() and not path.is_symlink():
        fsync_file(path)


def read_result(attempt: AttemptFolder) -> RunResult | None:
    """The result of a run, or None if it has none, or one that the box did not write: then the run says nothing."""
    try:
        value: dict[str, Any] = json.loads(attempt.result.read_bytes())
        if not secrets.compare_digest(str(value["token"]).encode(), attempt.token.read_bytes()):
            return None
        outcome = Outcome(value["success"], value["message"], tuple(value["entries"]), value["invalid"])
        return RunResult(value["exit"], outcome, float(value.get("seconds", 0.0)))
    except (FileNotFoundError, IsADirectoryError, ValueError, KeyError, TypeError, RecursionError):
        return None


def publish(job: JobFolder, attempt: AttemptFolder, result: RunResult) -> None:
    """Step 12, first half: OUTPUT by rename. May be called again after a kill.

    The job's folder becomes durable with proc.json, which comes next; until PROCESSED all of it would be done again.
    """
    if result.outcome.invalid is not None:
        _move_up(attempt, job.path / "proc.json.invalid")
    for path in (attempt.proc, attempt.output / "proc.json"):
        with suppress(FileNotFoundError, IsADirectoryError):
            path.unlink()
    if attempt.output.exists() and not job.output.exists():
        os.rename(attempt.output, job.output)
    fsync_folder(attempt.path)


def _move_up(attempt: AttemptFolder, target: Path) -> None:
    for path in (attempt.proc, attempt.output / "proc.json"):
        if path.is_symlink() or path.is_file():
            os.replace(path, target)
            return


def clear(attempt: AttemptFolder, keep_output: bool = True) -> None:
    """Remove what a run needed only while it ran."""
    for folder in (attempt.input, attempt.tmp):
        with suppress(OSError):
            remove_tree(folder)
    if not keep_output:
        with suppress(OSError):
            remove_tree(attempt.output)
    for file in (attempt.info, attempt.path / progress.FILE):
        with suppress(OSError):
            file.unlink(missing_ok=True)


def is_shortage(exc: OSError) -> bool:
    """True if an error says that the machine is short of something for now: disk, memory, descriptors, processes."""
    return exc.errno in (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN)
