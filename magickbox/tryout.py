"""Runs a processor once, outside a job, exactly as the box would: for people who write one."""

import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from magickbox.association import Association, End
from magickbox.bytesize import shown
from magickbox.clock import now
from magickbox.config import Settings
from magickbox.conventions import CONVENTIONS
from magickbox.decision import Listing
from magickbox.dropins.folder import Dropins
from magickbox.dropins.pins import adorn
from magickbox.engine import Engine, Run
from magickbox.engines import protection
from magickbox.engines.choosing import ChoosingEngine
from magickbox.engines.container_cli import Finder
from magickbox.engines.images import Images
from magickbox.engines.limits import limits_of
from magickbox.engines.local import LocalEngine, clean_environment
from magickbox.engines.protection import Protection
from magickbox.errors import UnreadableHeader
from magickbox.incoming.record import read_instance
from magickbox.instance import Instance
from magickbox.jobfolder import AttemptFolder, Info, input_name
from magickbox.logs import silent
from magickbox.processor import Outcome, Processor, judge_run
from magickbox.runs import attempt as attempts
from magickbox.runs.chain import ChainEngine
from magickbox.runs.inputguard import InputGuard
from magickbox.selection import look_below

TITLE = "TRYOUT"


@dataclass(frozen=True)
class Taken:
    """What INPUT was made of: the instances, and how many other files were left out."""

    instances: tuple[Instance, ...]
    left_out: int

    @property
    def studies(self) -> int:
        """How many studies they are of: the box makes a job for each."""
        return len({instance.study for instance in self.instances})


@dataclass(frozen=True)
class Tryout:
    """What came of it. ``seconds`` is the run's time, ``peak_memory`` bytes; ``trouble`` is what the box would do.

    ``listing`` is OUTPUT as rules see it; ``same`` counts results that have the SOP Instance UID of an input.
    """

    outcome: Outcome
    exit_code: int | None
    seconds: float
    peak_memory: int | None
    held_by: str
    taken: Taken
    listing: Listing
    same: int
    trouble: str | None = None


def take(source: Path, workdir: Path) -> Taken:
    """Make INPUT of ``workdir`` of the DICOM files below ``source``, named as the box names them; raises OSError."""
    attempt = AttemptFolder(workdir)
    for folder in (attempt.input, attempt.output, attempt.tmp):
        folder.mkdir(parents=True)
    taken: dict[str, Instance] = {}
    left_out = 0
    for path in _files(source):
        try:
            instance = read_instance(path)
        except UnreadableHeader:
            left_out += 1
            continue
        name = input_name(instance.sop_instance)
        if name not in taken:
            shutil.copyfile(path, attempt.input / name)
            os.chmod(attempt.input / name, 0o444)
            taken[name] = replace(instance, file=name)
    return Taken(tuple(taken.values()), left_out)


def try_out(
    processor: Processor, taken: Taken, workdir: Path, settings: Settings, environment: Mapping[str, str]
) -> Tryout:
    """Run a processor on what ``take`` has put into ``workdir``; raises OSError."""
    attempt = AttemptFolder(workdir)
    attempt.info.write_text(json.dumps(_info(processor, taken).as_json(), indent=1), "utf-8")
    shield = protection.of_settings(settings, workdir.parent, workdir.parent / "etc")
    engine, processor = _engine(processor, workdir.parent, environment, shield, settings)
    run = Run(
        name=f"mb-tryout-{os.getpid()}",
        job="tryout",
        attempt=1,
        processor=processor,
        workdir=workdir,
        log=workdir.parent / "processing.log",
        timeout=processor.timeout or settings.timeout,
        stop_grace=settings.stop_grace,
    )
    refusal = engine.refusal(processor)
    guard = InputGuard(_received(workdir, taken), taken.instances)
    began = time.monotonic()
    ended = engine.run(run, lambda handle: attempts.write_run(attempt, processor, "", handle)) if not refusal else None
    seconds = time.monotonic() - began
    if ended is None:
        shutil.rmtree(_kept(workdir))
        held_by, waits = _held_by(processor, shield, run.timeout), f"its jobs wait: {refusal}"
        return Tryout(Outcome("", refusal or ""), None, 0.0, None, held_by, taken, Listing(), 0, waits)
    said = attempts.read_said(attempt)
    sealed = attempts.seal(attempt, ended.met)
    outcome = judge_run(ended.exit_code, said, ended.last_line, ended.trouble or sealed.trouble)
    if ended.interrupted:
        outcome = Outcome("", ended.interrupted)  # such a run says nothing
    changed = guard.changed()
    shutil.rmtree(_kept(workdir))
    trouble = f"interrupted, to be made again: {ended.interrupted}" if ended.interrupted else None
    if changed:
        trouble = f"the job is HELD: the processor changed INPUT/{changed}"
    (attempt.output / "proc.json").unlink(missing_ok=True)
    listing = look_below(workdir)("OUTPUT", frozenset())
    known = {instance.sop_instance for instance in taken.instances}
    return Tryout(
        attempts.with_remark(outcome, sealed),
        ended.exit_code,
        seconds,
        ended.peak_memory,
        _held_by(processor, shield, run.timeout),
        taken,
        listing,
        sum(1 for file in listing.files if file.sop_instance in known),
        trouble,
    )


def _engine(
    processor: Processor, box: Path, environment: Mapping[str, str], shield: Protection, settings: Settings
) -> tuple[Engine, Processor]:
    """The engines and conventions of the box, and the processor as its image has it, which is brought now."""
    finder = Finder(environment, settings.container_engine)
    images = Images(finder, box, box, lambda: None, silent)
    wanted = tuple(replace(one, enabled=True) for one in (processor, *(step.processor for step in processor.steps)))
    if any(one.image is not None for one in wanted):
        images.want(Dropins(good=wanted))
        images.look_round()
    scripts = LocalEngine(clean_environment(environment, Path(sys.executable)), box, shield)
    single = ChoosingEngine(scripts, images, CONVENTIONS, box, shield.limits)
    [whole] = adorn(Dropins(good=(processor,)), images.pins).good
    return ChainEngine(single, settings.timeout, lambda _: box, lambda: True), whole


def _held_by(processor: Processor, shield: Protection, timeout: float) -> str:
    if processor.steps:
        return f"the sandbox or container, and the limits, of each step: {', '.join(s.label for s in processor.steps)}"
    limits = limits_of(processor, shield.limits)
    parts = [shield.warning or f"sandbox: {shield.describe()}"] if processor.image is None else ["container"]
    parts += [f"memory {shown(limits.memory)}"] if limits.memory is not None else []
    parts += [f"{limits.cpus:g} cores"] if limits.cpus is not None else []
    parts += [f"{limits.processes} processes"] if limits.processes is not None else []
    parts += [f"files of {shown(limits.file_size)}"] if limits.file_size is not None else []
    return "; ".join([*parts, f"{timeout:g} s", _network(processor, shield)])


def _network(processor: Processor, shield: Protection) -> str:
    if processor.image is None and shield.sandbox is None:
        return "network (no sandbox that keeps it away)"
    return "network" if processor.network else "no network"


def _kept(workdir: Path) -> Path:
    return workdir.with_name("received")


def _received(workdir: Path, taken: Taken) -> Path:
    """A second folder with the same files, as a job's own INPUT is to a run's, whose names a convention may change."""
    _kept(workdir).mkdir()
    for instance in taken.instances:
        os.link(AttemptFolder(workdir).input / instance.file, _kept(workdir) / instance.file)
    return _kept(workdir)


def _files(source: Path) -> Iterator[Path]:
    for folder, inner, names in os.walk(source):
        inner.sort()
        yield from (path for name in sorted(names) if (path := Path(folder, name)).is_file())


def _info(processor: Processor, taken: Taken) -> Info:
    association = Association("tryout", TITLE, processor.name, "127.0.0.1", now(), None, now(), End.RELEASED)
    return Info("tryout", association.began, ((association, len(taken.instances)),), taken.instances)
