"""``magickbox processors run`` and ``check``: what people need who write a processor."""

import argparse
import os
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

from pydicom.uid import UID

from magickbox.cli import places
from magickbox.cli.output import complain, print_json, shown
from magickbox.dropins.folder import Dropins, read_dropins
from magickbox.errors import NotFound
from magickbox.examination import Examination, Finding
from magickbox.processor import SUCCESS, Processor
from magickbox.tryout import Taken, Tryout, take, try_out

TAIL = 20  # lines of the log, and files of OUTPUT, that are shown
LONGEST = 300  # characters of a line of the log


def add(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Describe the two actions."""
    trial = actions.add_parser("run", help="run one on a folder of DICOM files, exactly as the box would")
    trial.add_argument("name", metavar="NAME")
    trial.add_argument("input", metavar="FOLDER", type=Path)
    trial.add_argument("--keep", action="store_true", help="keep the run's folder with INPUT, OUTPUT and the whole log")
    trial.add_argument("--output", metavar="DIR", type=Path, help="copy OUTPUT into this new folder")
    trial.set_defaults(run=run_once)
    check = actions.add_parser("check", help="would it run here? all drop-ins, or one")
    check.add_argument("name", metavar="NAME", nargs="?")
    check.set_defaults(run=run_check)
    for each in (trial, check):
        places.add_data(each)
        each.add_argument("--config", metavar="FILE", help="settings (default: magickbox.toml in the data folder)")
        each.add_argument("--processors", metavar="DIR", help="the folder of the drop-ins")
        places.add_json(each)


def run_once(args: argparse.Namespace) -> int:
    """Run one as the box would, and tell what came of it; exit code 1 unless the outcome is success."""
    processor = _find(read_dropins(places.processors(args, places.data_folder(args))), args.name)
    settings = places.settings(args).settings
    if not args.input.is_dir():
        return complain(f"{args.input} is not a folder")
    if args.output is not None and args.output.exists():
        return complain(f"{args.output} is there already; name a folder that is not")
    with _folder(processor, args.keep) as folder:
        (folder / "processing.log").touch()
        taken = take(args.input, folder / "run")
        if not taken.instances:
            return complain(f"no DICOM files below {args.input}")
        result = try_out(processor, taken, folder / "run", settings, os.environ)
        if args.output is not None:
            shutil.copytree(folder / "run" / "OUTPUT", args.output, symlinks=True)
        if args.json:
            print_json({**_as_json(result), "folder": folder if args.keep else None})
        else:
            log = (folder / "processing.log").read_text("utf-8", "replace").splitlines()
            print("\n".join([*_report(processor, result, log), *([f"kept in    {folder}"] if args.keep else [])]))
    return 0 if result.trouble is None and result.outcome.success.casefold() == SUCCESS else 1


def run_check(args: argparse.Namespace) -> int:
    """Say of each drop-in, as soon as it is known, what would keep it from running; exit code 1 if something would."""
    data = places.data_folder(args)
    dropins, settings = read_dropins(places.processors(args, data)), places.settings(args).settings
    good = [one for one in dropins.good if args.name is None or args.name.casefold() == one.name.casefold()]
    bad = [one for one in dropins.bad if args.name is None or args.name.casefold() == one.name.casefold()]
    if args.name is not None and not (good or bad):
        _find(dropins, args.name)
    problems: dict[str, list[str]] = {}
    with Examination(settings, os.environ, data.root) as examination, ThreadPoolExecutor(os.cpu_count()) as pool:
        found = chain(
            ((one.name, Finding(one.problems)) for one in bad),
            zip((one.name for one in good), pool.map(examination.of, good), strict=True),
        )
        for name, finding in found:
            problems.setdefault(name, []).extend(finding.problems)
            if not args.json:
                print("\n".join(_found(name, finding)), flush=True)
    if args.json:
        print_json(problems)
    return 1 if any(problems.values()) else 0


def _found(name: str, finding: Finding) -> list[str]:
    note = f": {shown(finding.note)}" if finding.note else ""
    return [f"PROBLEM  {shown(name)}: {shown(each)}" for each in finding.problems] or [f"ok       {shown(name)}{note}"]


@contextmanager
def _folder(processor: Processor, keep: bool) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix=f"{processor.name}-")).resolve()
    try:
        yield folder
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


def _report(processor: Processor, result: Tryout, log: list[str]) -> Iterator[str]:
    yield f"processor  {shown(processor.name)} {processor.version}".rstrip() + f" in {processor.folder}"
    yield f"input      {_taken(result.taken)}"
    yield f"held by    {result.held_by}"
    if len(log) > TAIL:
        yield f"--- the last {TAIL} of {len(log)} lines of its log (--keep keeps all of it)"
    else:
        yield "--- its log"
    yield from (shown(line[:LONGEST]) for line in log[-TAIL:])
    yield "---"
    code = "" if result.exit_code is None else f" (exit code {result.exit_code})"
    yield f"outcome    {shown(result.outcome.success) or '-'}{code}"
    yield f"message    {shown(result.outcome.message) or '-'}"
    if result.trouble:
        yield f"the box    {shown(result.trouble)}"
    yield f"time       {result.seconds:.2f} s"
    peak = result.peak_memory
    yield f"memory     {'not known' if peak is None else f'at most {peak / (1 << 20):.0f} MB, with files in the cache'}"
    yield from _output(result)


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _taken(taken: Taken) -> str:
    text = f"{_counted(len(taken.instances), 'instance')}, {sum(i.size for i in taken.instances) / (1 << 20):.1f} MB"
    if taken.studies > 1:
        text += f", of {taken.studies} studies (the box would make a job of each)"
    if not taken.left_out:
        return text
    were = "that is no DICOM was" if taken.left_out == 1 else "that are no DICOM were"
    return f"{text}; {_counted(taken.left_out, 'file')} {were} left out"


def _output(result: Tryout) -> Iterator[str]:
    listing = result.listing
    kept = "(which is kept, not sent)" if listing.other == 1 else "(which are kept, not sent)"
    yield f"output     {_counted(len(listing.files), 'DICOM file')}, {_counted(listing.other, 'other')} {kept}"
    for file in listing.files[:TAIL]:
        yield f"  {shown(file.path)}  {UID(file.sop_class).name}, {UID(file.transfer_syntax).name}"
    if len(listing.files) > TAIL:
        yield f"  ... and {len(listing.files) - TAIL} more"
    for name, why in listing.unreadable[:TAIL]:
        yield f"  {shown(name)}  cannot be sent: {shown(why)}"
    if result.same:
        have = "has" if result.same == 1 else "have"
        yield (
            f"  note: {result.same} {have} the SOP Instance UID of an input; an archive that has the original drops"
            " them, or takes them for it"
        )


def _as_json(result: Tryout) -> dict[str, object]:
    return {
        "outcome": result.outcome.success,
        "message": result.outcome.message,
        "trouble": result.trouble,
        "exit": result.exit_code,
        "seconds": round(result.seconds, 3),
        "peak_memory": result.peak_memory,
        "held_by": result.held_by,
        "instances": len(result.taken.instances),
        "output": [{"path": f.path, "sop_class": f.sop_class} for f in result.listing.files],
        "others": result.listing.other,
        "unreadable": dict(result.listing.unreadable),
        "same_uid_as_input": result.same,
    }


def _find(dropins: Dropins, name: str) -> Processor:
    """The good drop-in of that name; raises NotFound, also with what is wrong with a bad one."""
    for processor in dropins.good:
        if processor.name.casefold() == name.casefold():
            return processor
    for bad in dropins.bad:
        if bad.name.casefold() == name.casefold():
            raise NotFound(f"{bad.name} is bad: {'; '.join(bad.problems)}")
    raise NotFound(f"there is no processor {name}")
