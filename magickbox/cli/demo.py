"""``magickbox demo``: a whole round on this machine with a real study, told step by step.

A box starts on an embedded default, a scanner sends a study to its port, a processor works on it, the rules send the
results to a second DICOM station, and each step says what happened and where to look.
"""

import argparse
import json
import os
import shutil
import sys
import time
from importlib import resources
from pathlib import Path

from magickbox.cli.output import complain, moment
from magickbox.cli.peers import items_of, send_all
from magickbox.config import Settings
from magickbox.datafolder import BoxLock, DataFolder
from magickbox.destination import Delivered, DicomDestination
from magickbox.dropins.template import new as new_dropin
from magickbox.errors import DataFolderError, MagickboxError
from magickbox.job import OPEN, Job
from magickbox.jobfolder import JobFolder
from magickbox.ledger import deliveries, jobs
from magickbox.sender import Item
from magickbox.service import Box, Places, build
from magickbox.station import Station

FOLDER = "demo-data"
MARK = ".magickbox-demo"
TEMPLATE = "DERIVE"
PATIENCE = 120.0
# A real CT study, two series of a heart, made small for pydicom's own tests; it comes with pydicom, so no network.
STUDY = ("dicomdirtests", "98892001", ("CT2N", "CT5N"))


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Describe the command."""
    parser = commands.add_parser("demo", help="a whole round on this machine: send, process, route, receive")
    parser.add_argument("--data", metavar="DIR", default=FOLDER, help=f"a folder that it makes [{FOLDER}]")
    parser.add_argument("--study", metavar="DIR", type=Path, help="a study of your own")
    parser.add_argument("--processors", metavar="DIR", default="processors", help="drop-ins [./processors]")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """The whole round; exit code 0 only if every result arrived."""
    root = Path(args.data).absolute()
    if args.study and args.study.resolve().is_relative_to(root.resolve()):
        return complain(f"{args.study} is in the folder that the demonstration makes anew; nothing was touched")
    items, _ = items_of([args.study] if args.study else _study())
    if not items:
        return complain(f"no DICOM files below {args.study}")
    clear(root)
    processors, called = _processors(Path(args.processors).absolute(), root)
    station = Station(root / "station", "STATION")
    port = station.start()
    try:
        return _round(root, processors, called, items, station, port)
    finally:
        station.stop()


def clear(root: Path) -> None:
    """Make an empty folder that is marked as a demonstration's; only one with that mark is ever emptied.

    Raises DataFolderError, with nothing touched, for any other folder that holds something, and for one in use.
    """
    data = DataFolder(root)
    if os.path.lexists(root) and not (root.is_dir() and not any(root.iterdir())):
        if not _is_plain_file(root / MARK):
            raise DataFolderError(
                f"{root} was not made by a demonstration, so that it is not touched; the demonstration needs a folder"
                " that does not exist yet (it makes one)"
            )
        if data.state.is_dir():
            with BoxLock(data):
                _empty(root)
        else:
            _empty(root)
    root.mkdir(parents=True, exist_ok=True)
    (root / MARK).write_text("Made by magickbox demo, which deletes all that is in this folder when it runs again.\n")


def _is_plain_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _empty(root: Path) -> None:
    """Remove what is in a folder; its mark goes last, so that what was cut short can be done again."""
    for entry in sorted(root.iterdir(), key=lambda entry: entry.name == MARK):
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _study() -> list[Path]:
    folder, patient, series = STUDY
    base = Path(str(resources.files("pydicom.data"))) / "test_files" / folder / patient
    return [base / name for name in series]


def _processors(folder: Path, root: Path) -> tuple[Path, list[str]]:
    """The drop-ins of the checkout, or one made from the template where there is none."""
    shipped = [name for name in ("mip", "report") if (folder / name / "processor.json").is_file()]
    if shipped:
        return folder, shipped
    made = root / "processors"
    made.mkdir(parents=True)
    new_dropin(made, TEMPLATE)
    return made, [TEMPLATE]


def _rules(port: int) -> str:
    to = {"IP": "127.0.0.1", "PORT": port, "AETitleSender": "MAGICKBOX", "AETitleTo": "STATION"}
    rule = {"name": "results to the station", "AETitleFrom": "SCANNER", "send": [{"success|partial": to}]}
    return json.dumps({"routing": [rule]}, indent=2) + "\n"


def _round(root: Path, processors: Path, called: list[str], items: list[Item], station: Station, port: int) -> int:
    data = DataFolder(root)
    data.prepare()
    (root / "routing.json").write_text(_rules(port), "utf-8")
    settings = Settings(host="127.0.0.1", port=0, settle=1.0, settle_after_abort=2.0)
    box = build(settings, Places(data, root / "routing.json", processors), os.environ)
    try:
        box.start()
    except BaseException:
        box.close()
        raise
    try:
        _tell(1, "a box is running", f"port {box.receiver.address[1]} on this machine", data.root)
        for title in called:
            if not _send(box, title, items):
                return 1
        done = _wait(box, len(called))
        _tell_jobs(box, data, done)
    finally:
        box.stop()
    return _verdict(data, done, station)


def _tell(number: int, what: str, more: str, where: object = "") -> None:
    place = _near(where) if isinstance(where, Path) else where
    print(f"{number}. {what}: {more}" + (f"\n   look at {place}" if where else ""), flush=True)


def _send(box: Box, called: str, items: list[Item]) -> bool:
    destination = DicomDestination("127.0.0.1", box.receiver.address[1], "SCANNER", called)
    results = [result for _, result in send_all(destination, items)]
    taken = sum(isinstance(result, Delivered) for result in results)
    _tell(2, "SCANNER has sent a study", f"{taken} of {len(items)} instances taken for called AE {called}",
          box.places.data.logs / "receive.log")  # fmt: skip
    return taken == len(items)


def _wait(box: Box, count: int) -> list[Job]:
    """The jobs, once none of them is on its way any more; raises MagickboxError when patience is over."""
    print(f"   a study is complete when nothing more comes for {box.settings.settle:.0f} s ...", flush=True)
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with box.ledger.reading() as tx:
            found = jobs.newest(tx, -1)
        if len(found) >= count and not any(job.state in OPEN for job in found):
            return sorted(found, key=lambda job: job.id)
        time.sleep(0.05)
    raise MagickboxError(f"the jobs did not end within {PATIENCE:.0f} s; look at {box.places.data.logs}")


def _tell_jobs(box: Box, data: DataFolder, done: list[Job]) -> None:
    for job in done:
        folder = JobFolder(data.jobs / job.id)
        _tell(3, "a job was born", f"{job.id} with {job.instances} instances at {moment(job.born)}", folder.input)
        results = sum(1 for path in folder.output.rglob("*") if path.is_file())
        said = f"outcome '{job.outcome}' {job.message}".strip()
        _tell(4, f"processor {job.processor} has worked on it", f"{said}; {_count(results, 'result')}", folder.output)
        with box.ledger.reading() as tx:
            sent = deliveries.listing(tx, job.id)
        for delivery in sent:
            told = f"{_count(delivery.instances, 'instance')} to {delivery.destination}: {delivery.state}"
            _tell(5, f"rule '{delivery.rule}' applied", told, data.logs / "routing.log")
        print(f"   the job is {job.state}: {job.reason}")


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def _command() -> str:
    """How the person who reads this can call the program: by its name only if that is found."""
    return "magickbox" if shutil.which("magickbox") else str(_near(Path(sys.argv[0])))


def _near(path: Path) -> Path:
    """A path as short as it can be from here."""
    here = Path.cwd()
    return path.absolute().relative_to(here) if path.absolute().is_relative_to(here) else path


def _verdict(data: DataFolder, done: list[Job], station: Station) -> int:
    _tell(6, "STATION has received", f"{len(station.received)} instances", data.root / "station")
    command, where = _command(), _near(data.root)
    print(f"\nWhy did it go there?   {command} explain {done[0].id} --data {where}")
    print(f"What happened when?    {command} jobs show {done[0].id} --data {where}")
    if not station.received or any(job.state != "DONE" for job in done):
        return complain("something did not arrive; the logs say why")
    print("\nThe whole round worked.")
    return 0
