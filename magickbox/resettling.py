"""Settings that change while the box runs: which it takes up at once, and which wait for its next start."""

from dataclasses import replace
from pathlib import Path

from magickbox.config import SETTINGS, Loaded, load

LIVE = ("me", "me_port", "keep_done", "keep_unrouted", "alarm_webhook", "alarm_after", "alarm_pause")


def reread(loaded: Loaded, file: Path) -> Loaded:
    """What the settings are at the next start with the same options and environment; raises ConfigError."""
    others = {name: value for name, value in loaded.values.items() if not is_of_file(loaded, name, file)}
    found = load(file if file.exists() else None, {}, others)
    sources = {name: loaded.sources[name] if name in others else source for name, source in found.sources.items()}
    return Loaded(found.settings, sources, found.values)


def is_of_file(loaded: Loaded, name: str, file: Path) -> bool:
    """True if a setting has its value from the file, or from nowhere: what the file says then counts."""
    source = loaded.sources.get(name, "default")
    return source == "default" or source.startswith(f"{file}:")


def changed(was: Loaded, new: Loaded) -> list[str]:
    """The settings that are not the same."""
    return [name for name in SETTINGS if getattr(was.settings, name) != getattr(new.settings, name)]


def taken_up(was: Loaded, new: Loaded) -> Loaded:
    """What is in force after the box has taken up of the new ones what it can."""
    settings = replace(was.settings, **{name: getattr(new.settings, name) for name in LIVE})
    sources = {name: (new if name in LIVE else was).sources[name] for name in was.sources}
    kept = {name: value for name, value in was.values.items() if name not in LIVE}
    given = {name: value for name, value in new.values.items() if name in LIVE}
    return Loaded(settings, sources, kept | given)
