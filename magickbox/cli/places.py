"""From options to what a command works on: the data folder, settings, the ledger, a running box."""

import argparse
import os
from collections.abc import Mapping
from pathlib import Path

from magickbox.config import SETTINGS, Loaded, load
from magickbox.control import ask
from magickbox.datafolder import DataFolder
from magickbox.errors import ConfigError, LedgerError, NotFound
from magickbox.ledger import Ledger
from magickbox.service import Places

DEFAULT_DATA = "data"
DEFAULT_PROCESSORS = "processors"


def add_data(parser: argparse.ArgumentParser) -> None:
    """The option that all commands about a box take."""
    parser.add_argument(
        "--data", metavar="DIR", help=f"the data folder (default: $MAGICKBOX_DATA, else ./{DEFAULT_DATA})"
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    """The option of every listing."""
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def add_box(parser: argparse.ArgumentParser) -> None:
    """The options that say where a box finds what people give it."""
    add_data(parser)
    parser.add_argument("--config", metavar="FILE", help="settings (default: magickbox.toml in the data folder)")
    parser.add_argument("--routing", metavar="FILE", help="rules (default: routing.json in the data folder)")
    parser.add_argument(
        "--processors", metavar="DIR", help="drop-ins (default: ./processors if it is there, else in the data folder)"
    )


def add_settings(parser: argparse.ArgumentParser) -> None:
    """An option for each setting."""
    group = parser.add_argument_group("settings", "each also as a key of magickbox.toml or as MAGICKBOX_<KEY>")
    for name, setting in SETTINGS.items():
        option = f"--{name.replace('_', '-')}"
        said = f"{setting.meaning} [{setting.default}]".replace("%", "%%")
        group.add_argument(option, dest=f"set_{name}", metavar="VALUE", help=said)


def data_folder(args: argparse.Namespace, environment: Mapping[str, str] = os.environ) -> DataFolder:
    """The data folder that the options or the environment name."""
    return DataFolder(Path(args.data or environment.get("MAGICKBOX_DATA") or DEFAULT_DATA).absolute())


def used_data_folder(args: argparse.Namespace) -> DataFolder:
    """The same, of a box that has run; raises NotFound if none ever has."""
    data = data_folder(args)
    if not data.state.is_dir():
        raise NotFound(f"{data.root}: no box has ever run there")
    return data


def box_runs(data: DataFolder) -> bool:
    """True if a box runs on this data folder."""
    try:
        return data.control.exists() and ask(data.control, "status") is not None
    except LedgerError:
        return True


def places(args: argparse.Namespace, environment: Mapping[str, str] = os.environ) -> Places:
    """The data folder, the rules and the drop-ins."""
    data = data_folder(args, environment)
    routing = args.routing or environment.get("MAGICKBOX_ROUTING")
    return Places(data, Path(routing).absolute() if routing else data.root / "routing.json", processors(args, data))


def processors(args: argparse.Namespace, data: DataFolder, environment: Mapping[str, str] = os.environ) -> Path:
    """The folder of the drop-ins."""
    named = getattr(args, "processors", None) or environment.get("MAGICKBOX_PROCESSORS")
    if named:
        return Path(named).absolute()
    here = Path(DEFAULT_PROCESSORS).absolute()
    return here if here.is_dir() else data.root / DEFAULT_PROCESSORS


def processors_problem(found: Places) -> str | None:
    """Why the drop-ins cannot be found: a folder that was named must be there; the default one is made."""
    if found.processors.is_dir() or found.processors == found.data.root / DEFAULT_PROCESSORS:
        return None
    return f"{found.processors}: there is no such folder (--processors); make it, or name the one you mean"


def make_default_processors(found: Places) -> None:
    """Make the folder of the drop-ins if it is the one in the data folder; one that was named must be there."""
    if found.processors == found.data.root / DEFAULT_PROCESSORS:
        found.processors.mkdir(parents=True, exist_ok=True)


def config_file(args: argparse.Namespace, environment: Mapping[str, str] = os.environ) -> Path:
    """The file of the settings, there or not; raises ConfigError if one that was named is not."""
    named = getattr(args, "config", None) or environment.get("MAGICKBOX_CONFIG")
    if named and not Path(named).exists():
        raise ConfigError(f"{named}: there is no such file")
    return Path(named).absolute() if named else data_folder(args, environment).root / "magickbox.toml"


def settings(args: argparse.Namespace, environment: Mapping[str, str] = os.environ) -> Loaded:
    """The settings; raises ConfigError."""
    file = config_file(args, environment)
    options = {name: getattr(args, f"set_{name}", None) for name in SETTINGS}
    return load(file if file.exists() else None, environment, options)


def ledger_to_read(args: argparse.Namespace) -> Ledger:
    """The ledger of a box that may be running; raises LedgerError."""
    return Ledger(data_folder(args).ledger, readonly=True)
