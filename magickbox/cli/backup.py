"""``magickbox backup`` and ``magickbox restore``: a box in one file, and back; and the way back from an update."""

import argparse
from pathlib import Path

from magickbox.backups.backup import Wanted, forget_older, make, target_for
from magickbox.backups.contents import Sources
from magickbox.backups.restore import restore
from magickbox.backups.rollback import roll_back
from magickbox.backups.settling import Settled
from magickbox.cli import places
from magickbox.cli.arguments import whole
from magickbox.cli.output import complain, shown, size
from magickbox.errors import ConfigError
from magickbox.tlsfiles import tls_files

_SHOWN = 20


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Describe the commands."""
    out = commands.add_parser("backup", help="ledger, rules, settings and the page's users into one file")
    out.add_argument("target", type=Path, metavar="FILE|DIR", help="a .tar or .tar.gz, or a folder that is there")
    out.add_argument("--with-jobs", action="store_true", help="the jobs' folders too")
    out.add_argument("--with-processors", action="store_true", help="the drop-ins too")
    out.add_argument("--keep", type=whole, metavar="N", help="with DIR: remove all but the newest N there")
    places.add_box(out)
    out.set_defaults(run=run_backup)
    back = commands.add_parser("restore", help="a backup into an empty data folder; or the ledger before an update")
    which = back.add_mutually_exclusive_group(required=True)
    which.add_argument("file", nargs="?", type=Path, metavar="FILE", help="what 'magickbox backup' has made")
    which.add_argument(
        "--before-update",
        action="store_true",
        help="put back the box's own copy of the ledger, on this older version",
    )
    back.add_argument("--go-on", action="store_true", help="jobs that were under way go on; else they are HELD")
    places.add_data(back)
    back.set_defaults(run=run_restore)


def run_backup(args: argparse.Namespace) -> int:
    """Make it, and say what is in it; 1 if something that should be could not be copied."""
    data, found = places.used_data_folder(args), places.places(args)
    others = _tls_files(args)
    sources = Sources(data, found.routing, places.config_file(args), found.processors, others)
    wanted = Wanted(args.with_processors, args.with_jobs)
    if args.keep and not args.target.is_dir():
        return complain(f"--keep is for a folder; {args.target} is none")
    made = make(sources, target_for(args.target.absolute(), wanted), wanted, running=places.box_runs(data))
    print(shown(f"{made.path}: {made.files} files, {size(made.size)}, read back and found whole"))
    for other in others:
        if other.exists() and not other.is_relative_to(data.root):
            print(shown(f"not in it: {other}, which is not in the data folder"))
    if made.incomplete:
        print(f"{len(made.incomplete)} jobs were deleted while they were copied; they are not in it")
    if args.keep:
        forget_older(made.path.parent, args.keep, lambda line: print(shown(line)))
    return complain("\n".join(f"not in it: {shown(why)}" for why in made.damaged)) if made.damaged else 0


def _tls_files(args: argparse.Namespace) -> tuple[Path, ...]:
    """Certificate, key and CAs; none if the settings are wrong, which is no reason not to make a backup."""
    try:
        files = tls_files(places.settings(args).settings, places.data_folder(args).root)
    except ConfigError:
        return ()
    return () if files is None else tuple(Path(path) for path in files.paths)


def run_restore(args: argparse.Namespace) -> int:
    """Put it back, and say what became of the jobs."""
    if args.before_update:
        done = roll_back(places.used_data_folder(args))
        print(shown(f"{done.copy.name} is the ledger now; the newer one is kept as {done.aside}"))
        _tell(done.settled)
        print("jobs that came since have a folder and no row; the next start holds them")
        return 0
    data = places.data_folder(args)
    restored = restore(args.file, data, go_on=args.go_on)
    told = restored.told
    print(shown(f"{data.root}: restored from a backup of {told.made[:19]} UTC, by magickbox {told.version}"))
    for name, was in sorted((told.outside or {}).items()):
        if (data.root / name).exists():
            print(shown(f"{name} stood at {was}; it is in the data folder now"))
    _tell(restored.settled)
    return 0


def _tell(settled: Settled) -> None:
    print(
        f"{settled.jobs} jobs; {len(settled.held)} of them were under way and are HELD: look at each, then release it"
    )
    if settled.lost:
        more = ", ..." if len(settled.lost) > _SHOWN else ""
        print(f"{len(settled.lost)} jobs have no folder and are LOST: {', '.join(settled.lost[:_SHOWN])}{more}")
