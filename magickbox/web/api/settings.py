"""The settings: shown with their sources; some can be changed, in magickbox.toml, whose comments stay."""

import json
from collections.abc import Mapping
from pathlib import Path

import tomlkit
from fastapi import APIRouter, Depends, Request
from tomlkit.exceptions import TOMLKitError

from magickbox.config import SETTINGS, Loaded
from magickbox.durable import rename_durable, write_atomic
from magickbox.errors import ConfigError
from magickbox.resettling import LIVE, changed, is_of_file, reread, taken_up
from magickbox.rules.file import RulesRefused, load
from magickbox.settingvalues import Value, text, whole
from magickbox.web.acting import note
from magickbox.web.context import Context
from magickbox.web.models.settings import Changed, Changes, Setting, Settings
from magickbox.web.principal import Principal
from magickbox.web.problems import Problem
from magickbox.web.security import Admin, In, viewer

router = APIRouter(tags=["settings"])
# alarm_command is not among them: it names a program, and that is for who may log in to the machine.
EDITABLE = ("ae_title", *LIVE)


@router.get("/settings", dependencies=[Depends(viewer)], summary="Every setting, and where it comes from")
def read_settings(box: In) -> Settings:
    return shown(box)


def shown(box: Context) -> Settings:
    """The settings in force, and what of the file waits for the next start."""
    now, problem = box.loaded, None
    try:
        then = reread(now, box.config)
    except ConfigError as exc:
        then, problem = now, str(exc)
    waiting = set(changed(now, then)) - set(LIVE)
    items = [_setting(box, name, now, then if name in waiting else None) for name in SETTINGS]
    return Settings(file=str(box.config), problem=problem, items=items)


def _setting(box: Context, name: str, now: Loaded, then: Loaded | None) -> Setting:
    each = SETTINGS[name]
    return Setting(
        name=name,
        value=_text(now, name),
        source=now.sources[name],
        default=each.default,
        meaning=each.meaning,
        editable=name in EDITABLE and is_of_file(now, name, box.config),
        live=name in LIVE,
        waiting=None if then is None else _text(then, name),
    )


def _text(loaded: Loaded, name: str) -> str:
    """A value as people write it."""
    if name not in loaded.values:
        return SETTINGS[name].default
    value = SETTINGS[name].shown(loaded.values[name])
    if isinstance(value, bool):
        return str(value).lower()
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


@router.patch("/settings", summary="Change settings in magickbox.toml; the box takes up at once what it can")
def change_settings(request: Request, box: In, who: Admin, changes: Changes) -> Changed:
    """422 with the reason, and nothing changed, if a value is not good; 409 for one that cannot be changed here."""
    return change(request, box, who, changes.values)


def change(request: Request, box: Context, who: Principal, values: Mapping[str, str | int | float | None]) -> Changed:
    """Write the file and tell the box."""
    for name in values:
        if name not in EDITABLE:
            raise Problem(409, "Not changed here", f"{name} cannot be changed here; those are {', '.join(EDITABLE)}")
        if not is_of_file(box.loaded, name, box.config):
            raise Problem(409, "Not changed here", f"{name} is given by {box.loaded.sources[name]}, which counts more")
    with box.in_force.editing:
        _keep_the_rules(box, values)
        _write(box.config, box.loaded, values)
        then = reread(box.loaded, box.config)
        waiting = sorted(set(changed(box.loaded, then)) - set(LIVE))
        said = json.loads(box.ask("settings", "", who.name))
        box.in_force.take(taken_up(box.loaded, then))
    for name, value in values.items():
        told = "taken out" if value is None else SETTINGS[name].shown(value)
        note(request, who, "change setting", name, str(told))
    return Changed(taken_up=list(said["taken_up"]), waiting=waiting)


def _keep_the_rules(box: Context, values: Mapping[str, Value | None]) -> None:
    """Raise ConfigError where rules that can be used could not be any more without what ``$me`` stands for."""
    if not {"me", "me_port"} & values.keys():
        return
    try:
        load(box.places.routing, box.settings.me, box.settings.me_port)
    except (RulesRefused, OSError):
        return
    me, port = values.get("me", box.settings.me), values.get("me_port", box.settings.me_port)
    try:
        load(box.places.routing, text(me) if me is not None else None, whole(1, 65535)(port) if port else None)
    except RulesRefused as exc:
        raise ConfigError(f"the rules need it: {exc}") from None
    except ValueError:
        return  # the value itself is no good, which is told by name


def _write(file: Path, now: Loaded, values: Mapping[str, Value | None]) -> None:
    """Put the values into the file, whose comments stay; raises ConfigError, with nothing changed."""
    try:
        before = file.read_bytes() if file.exists() else b""
        text = edited(before.decode("utf-8"), values)
        draft = file.with_name(f".{file.name}.draft")
        write_atomic(draft, text.encode(), file.stat().st_mode & 0o777 if file.exists() else 0o644)
        try:
            reread(_as_if_in(now, file, draft), draft)
            if (file.read_bytes() if file.exists() else b"") != before:
                raise ConfigError(f"{file} was changed by somebody else meanwhile; nothing was saved")
        except ConfigError as exc:
            draft.unlink()
            raise ConfigError(str(exc).replace(str(draft), str(file))) from None
        rename_durable(draft, file)
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"{file} cannot be written: {exc}") from exc


def _as_if_in(now: Loaded, file: Path, draft: Path) -> Loaded:
    """The same settings, as if they had come from the draft."""
    return Loaded(now.settings, {n: s.replace(f"{file}:", f"{draft}:") for n, s in now.sources.items()}, now.values)


def edited(text: str, values: Mapping[str, Value | None]) -> str:
    """The text of a TOML file with other values; raises ConfigError."""
    try:
        document = tomlkit.parse(text)
    except TOMLKitError as exc:
        raise ConfigError(f"the file has a mistake already: {exc}") from exc
    for name, value in values.items():
        if value is None:
            document.pop(name, None)
        else:
            document[name] = value
    return tomlkit.dumps(document)
