"""The convention of mercure's processing modules: files of a series share a prefix, task.json in, result.json out.

A module finds its images as ``<SeriesInstanceUID>#<name>.dcm`` beside task.json in MERCURE_IN_DIR, and writes images
and result.json into MERCURE_OUT_DIR. What result.json says becomes the entry of proc.json: its notification is the
message, and everything is kept. Where results go is decided by this box's rules alone; a ``__mercure_routing`` is
kept and told, as mercure itself ignores it unless a rule allows it.
"""

import json
import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from magickbox.convention import Image, Stage
from magickbox.conventions.said import read_said, tell
from magickbox.dicom.header import SERIES, STUDY, read_file_meta, scan, text_of
from magickbox.engine import Ended, Run
from magickbox.errors import UnreadableHeader
from magickbox.instance import file_stem

INPUT, OUTPUT = "/tmp/data", "/tmp/output"  # noqa: S108  # where mercure itself puts them
ACCESSION, PATIENT_NAME, PATIENT_ID = 0x00080050, 0x00100010, 0x00100020
NOTIFICATION, ROUTING = "__mercure_notification", "__mercure_routing"
Header = dict[int, str]


class Mercure:
    """Modules written for mercure; implements ``convention.Convention``."""

    def lay_out(self, run: Run) -> Run:
        """Give the files their names, write task.json beside them, and name both folders in the environment."""
        headers = [header for path in sorted(run.input.glob("*.dcm")) if (header := _rename(path))]
        (run.input / "task.json").write_text(json.dumps(_task(run, headers), indent=1) + "\n", "utf-8")
        return replace(run, processor=_with(run, str(run.input.absolute()), str(run.output.absolute())))

    def stage(self, run: Run, image: Image) -> Stage:  # noqa: ARG002  every module of mercure is called alike
        """The image's own command, or that of processor.json as it is written."""
        command = run.processor.command
        return Stage(INPUT, OUTPUT, None, command, (("MERCURE_IN_DIR", INPUT), ("MERCURE_OUT_DIR", OUTPUT)))

    def read_back(self, run: Run, ended: Ended) -> None:
        """proc.json from result.json, unless the module wrote one itself."""
        said = read_said(run.output / "result.json", (dict,))
        if said is None:
            return
        tell(run, ended, said, "mercure", _message(said.value))
        if isinstance(said.value, dict) and ROUTING in said.value:
            with suppress(OSError), run.log.open("a", encoding="utf-8") as log:
                log.write(f"[magickbox: the module asks for a way of its own ({ROUTING}); the rules decide]\n")


def _with(run: Run, source: str, target: str) -> Any:
    own = (*run.processor.environment, ("MERCURE_IN_DIR", source), ("MERCURE_OUT_DIR", target))
    return replace(run.processor, environment=own)


def _rename(path: Path) -> Header:
    """Put the series in front of a file's name; a header that cannot be read leaves it as it is."""
    header: Header = {}
    with suppress(UnreadableHeader), path.open("rb") as file:
        meta = read_file_meta(file)
        wanted = frozenset({ACCESSION, PATIENT_NAME, PATIENT_ID, STUDY, SERIES})
        header = {tag: text_of(found) for tag, found in scan(file, meta.transfer_syntax, wanted, SERIES).items()}
    if header.get(SERIES):
        os.rename(path, path.with_name(f"{file_stem(header[SERIES])}#{path.name}"))
    return header


def _task(run: Run, headers: list[Header]) -> dict[str, Any]:
    """What mercure's task.json says, as far as a module of it can use it."""
    first: Header = headers[0] if headers else {}
    info = json.loads((run.workdir / "info.json").read_text("utf-8")) if (run.workdir / "info.json").exists() else {}
    settings, name = json.loads(run.processor.settings), run.processor.name
    series = list(dict.fromkeys(header[SERIES] for header in headers if SERIES in header))
    return {
        "id": run.job,
        "info": {
            "action": "process",
            "uid": first.get(STUDY, ""),
            "uid_type": "study",
            "triggered_rules": name,
            "applied_rule": name,
            "patient_name": first.get(PATIENT_NAME, ""),
            "mrn": first.get(PATIENT_ID, ""),
            "acc": first.get(ACCESSION, ""),
            "sender_address": info.get("CallerIP", ""),
            "mercure_version": "",
            "mercure_appliance": "magickbox",
            "mercure_server": "",
        },
        "dispatch": {},
        "process": {
            "module_name": name,
            "module_config": {"docker_tag": run.processor.image or "", "settings": settings},
            "settings": settings,
            "retain_input_images": False,
        },
        "study": {"study_uid": first.get(STUDY, ""), "received_series_uid": series, "complete_force": False},
    }


def _message(said: dict[str, Any] | None) -> str:
    notification = said.get(NOTIFICATION) if said is not None else None
    text = notification.get("text") if isinstance(notification, dict) else None
    return text if isinstance(text, str) else ""
