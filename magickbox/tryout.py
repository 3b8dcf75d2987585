"""Runs a processor once, outside a job, exactly as the box would: for people who write one."""

import json
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from magickbox.association import Association
from magickbox.clock import now
from magickbox.engine import Run
from magickbox.engines.local import LocalEngine, clean_environment
from magickbox.jobfolder import AttemptFolder, Info
from magickbox.processor import Outcome, Processor, judge_run
from magickbox.runs.attempt import read_said

TIMEOUT = 3600.0


@dataclass(frozen=True)
class Tryout:
    """What came of it: the outcome, and how many files are in OUTPUT."""

    outcome: Outcome
    written: int


def try_out(processor: Processor, source: Path, workdir: Path, environment: Mapping[str, str]) -> Tryout:
    """Copy ``source`` to INPUT of ``workdir`` and run the processor there; raises OSError."""
    attempt = AttemptFolder(workdir)
    shutil.copytree(source, attempt.input)
    attempt.output.mkdir()
    attempt.tmp.mkdir()
    for path in attempt.input.rglob("*"):
        if path.is_file():
            os.chmod(path, 0o444)
    attempt.info.write_text(json.dumps(_info(processor).as_json(), indent=1), "utf-8")
    run = Run(
        name=f"mb-tryout-{workdir.name}",
        job="tryout",
        attempt=1,
        processor=processor,
        workdir=workdir,
        log=workdir / "processing.log",
        timeout=processor.timeout or TIMEOUT,
    )
    ended = LocalEngine(clean_environment(environment, Path(sys.executable)), workdir).run(run, lambda _handle: None)
    outcome = judge_run(ended.exit_code, read_said(attempt), ended.last_line, ended.trouble or ended.interrupted)
    return Tryout(outcome, sum(1 for path in attempt.output.rglob("*") if path.is_file()))


def _info(processor: Processor) -> Info:
    association = Association("tryout", "TRYOUT", processor.name, "127.0.0.1", now())
    return Info("tryout", association.began, ((association, 0),), ())
