"""Processors: what there is and how it runs, switching on and off, and bringing a new one."""

import os
from collections.abc import Mapping
from typing import IO, Any

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile

from magickbox.allotment import misfits
from magickbox.dropins.install import LARGEST_SCRIPT, Installed, install_script, install_zip
from magickbox.dropins.pins import read_pins, why_not
from magickbox.dropins.switch import disable, enable
from magickbox.errors import ConfigError, MagickboxError, NotFound
from magickbox.ledger import runtimes
from magickbox.machine import room_of
from magickbox.processor import Processor
from magickbox.web.acting import note
from magickbox.web.context import Context
from magickbox.web.models.processors import InstalledModel, ProcessorModel, RunModel, RunsModel, SwitchedModel
from magickbox.web.principal import Principal
from magickbox.web.problems import Problem
from magickbox.web.security import Admin, In, Viewer

router = APIRouter(prefix="/processors", tags=["processors"])

LARGEST = 250_000_000
HIDDEN = "hidden"
_UPLOAD: Mapping[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "example": {"file": "#!/bin/sh\ncp \"$1\"/* \"$2\"\n", "name": "ProcCopy", "on": False},
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {
                            "type": "string", "format": "binary",
                            "description": "a script, or a zip of a folder with a processor.json",
                        },
                        "name": {
                            "type": "string", "maxLength": 70,
                            "description": "the drop-in's name, if it is not that of the file",
                        },
                        "replace": {"type": "boolean", "description": "put it in the place of one of that name"},
                        "on": {"type": "boolean", "description": "switch it on at once"},
                    },
                }
            }
        },
    }
}  # fmt: skip


@router.get("", summary="All processors, good and bad, with how long they take")
def list_processors(box: In, who: Viewer) -> list[ProcessorModel]:
    pins, dropins = read_pins(box.data.images), box.workbench.dropins.of(box.places.processors, box.data.images)
    with box.ledger.reading() as tx:
        runs = {name: _runs(runtimes.run_times(tx, name), who) for name in runtimes.processors_that_ran(tx)}
    room = room_of(box.settings)
    good = [_good(one, misfits(one, room), why_not(one, pins), runs.get(one.name), box) for one in dropins.good]
    bad = [
        ProcessorModel(name=one.name, state="bad", problems=list(one.problems), runs=runs.get(one.name))
        for one in dropins.bad
    ]
    there = {one.name for one in (*good, *bad)}
    gone = [ProcessorModel(name=name, state="gone", runs=each) for name, each in runs.items() if name not in there]
    return [*sorted([*good, *bad], key=lambda each: each.name.casefold()), *gone]


def _good(one: Processor, unfit: list[str], why: str | None, runs: RunsModel | None, box: Context) -> ProcessorModel:
    state = "off" if not one.enabled else "unfit" if unfit else "waits" if why else "on"
    kind = (
        "chain"
        if one.steps
        else "container"
        if one.image
        else "script"
        if one.folder == box.places.processors
        else "folder"
    )
    return ProcessorModel(
        name=one.name, state=state, called_ae=one.called_ae, kind="chain" if one.steps else kind,
        version=one.version, description=one.description, why="; ".join(unfit) or why or "", image=one.image,
        steps=[s.label for s in one.steps], network=one.network, timeout=one.timeout, digest=one.digest, runs=runs,
    )  # fmt: skip


def _runs(times: runtimes.RunTimes, who: Principal) -> RunsModel:
    return RunsModel(
        runs=times.runs, mean=times.mean, spread=times.spread, longest=times.longest, failed=times.failed,
        last=_run(times.last, who) if times.last else None, failures=[_run(each, who) for each in times.failures],
    )  # fmt: skip


def _run(line: runtimes.RunLine, who: Principal) -> RunModel:
    """A processor's message may quote the patient's name."""
    run = RunModel.model_validate(line)
    return run if who.sees_names or not run.message else run.model_copy(update={"message": HIDDEN})


@router.get("/{name}", summary="One of them")
def one_processor(box: In, who: Viewer, name: str) -> ProcessorModel:
    found = next((each for each in list_processors(box, who) if each.name == name), None)
    if found is None:
        raise NotFound(f"there is no processor '{name[:64]}'")
    return found


@router.post("/{name}/enable", summary="Switch a processor on: jobs that wait for it run")
def switch_on(request: Request, box: In, who: Admin, name: str) -> SwitchedModel:
    return _switch(request, box, who, name, on=True)


@router.post("/{name}/disable", summary="Switch a processor off: what is called by its title is routed unprocessed")
def switch_off(request: Request, box: In, who: Admin, name: str) -> SwitchedModel:
    return _switch(request, box, who, name, on=False)


def _switch(request: Request, box: Context, who: Principal, name: str, on: bool) -> SwitchedModel:
    action = "processor on" if on else "processor off"
    try:
        (enable if on else disable)(box.places.processors, name)
    except MagickboxError as exc:
        note(request, who, action, name, f"refused: {exc}")
        raise
    note(request, who, action, name)
    return SwitchedModel(name=name, on=on)


@router.post("", summary="Bring a new processor: a script, or a folder as a zip", openapi_extra=dict(_UPLOAD))
async def upload(request: Request, box: In, who: Admin) -> InstalledModel:
    """Looked at before it is placed, and placed in one step; switched off unless `on` says otherwise."""
    return await install(request, box, who)


async def install(request: Request, box: Context, who: Principal) -> InstalledModel:
    """What a form brings; read only now, so that nobody's body is taken before it is known whose it is."""
    async with request.form(max_files=1, max_fields=6) as form:
        given = form.get("file")
        if not isinstance(given, UploadFile) or not given.filename:
            raise Problem(422, "Unprocessable Content", "there is no file in it")
        name, replace, on = str(form.get("name", "")).strip(), _yes(form.get("replace")), _yes(form.get("on"))
        return await run_in_threadpool(_install, request, box, who, given.file, given.filename, name, replace, on)


def _yes(value: object) -> bool:
    return str(value).casefold() in ("1", "true", "on", "yes")


def _install(
    request: Request, box: Context, who: Principal, file: IO[bytes], filename: str, name: str, replace: bool, on: bool
) -> InstalledModel:
    own = os.path.basename(filename.replace("\\", "/"))
    try:
        with box.workbench.installs.one():
            placed = _placed(box, file, own, name, replace, on)
    except ConfigError as exc:
        note(request, who, "processor upload", own, f"refused: {exc}")
        raise
    except OSError as exc:
        note(request, who, "processor upload", own, f"failed: {exc.strerror}")
        raise Problem(507, "It cannot be written", exc.strerror or str(exc)) from exc
    one = placed.processor
    note(request, who, "processor upload", one.name, f"version {one.version or '-'}, digest {one.digest}")
    return InstalledModel(
        name=one.name, version=one.version, called_ae=one.called_ae, on=one.enabled, replaced=placed.kept is not None
    )  # fmt: skip


def _placed(box: Context, file: IO[bytes], own: str, name: str, replace: bool, on: bool) -> Installed:
    folder = box.places.processors
    if own.casefold().endswith(".zip"):
        return install_zip(folder, name, file, replace=replace, on=on)
    stem, ending = os.path.splitext(own)
    return install_script(folder, f"{name or stem}{ending}", file.read(LARGEST_SCRIPT + 1), replace=replace, on=on)
