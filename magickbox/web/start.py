"""What the box tells the window's process at its start: as one line of JSON, over its standard input."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from magickbox.config import Loaded, Settings, load
from magickbox.datafolder import DataFolder
from magickbox.service import Places
from magickbox.settingvalues import Value


@dataclass(frozen=True)
class Start:
    """Where the box's things are, and the settings that it has in force, each with its source."""

    places: Places
    config: Path
    loaded: Loaded

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self.loaded.settings

    def to_line(self) -> bytes:
        """As one line."""
        places = {
            "data": str(self.places.data.root),
            "routing": str(self.places.routing),
            "processors": str(self.places.processors),
        }
        given = {name: [value, self.loaded.sources[name]] for name, value in self.loaded.values.items()}
        return json.dumps({"places": places, "config": str(self.config), "given": given}).encode() + b"\n"


def from_line(line: bytes) -> Start:
    """The inverse of ``to_line``; raises ConfigError or ValueError."""
    told = json.loads(line)
    where = told["places"]
    places = Places(DataFolder(Path(where["data"])), Path(where["routing"]), Path(where["processors"]))
    return Start(places, Path(told["config"]), _loaded(told["given"]))


def _loaded(given: Mapping[str, tuple[Value, str]]) -> Loaded:
    read = load(None, {}, {name: value for name, (value, _) in given.items()})
    sources = {name: given[name][1] if name in given else source for name, source in read.sources.items()}
    return Loaded(read.settings, sources, read.values)
