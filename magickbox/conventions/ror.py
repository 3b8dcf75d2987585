"""The convention of ror containers (MMIV's research information system): a data folder in, an output folder out.

The data folder, ``/data``, holds ``input/`` with all images, ``descr.json`` with a description of each series, and
``input_view_dicom_series/``, the same images by patient, study and series. Results go to ``/output``. What output.json
there says is kept in proc.json under ``ror``.
"""

import json
import os
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from magickbox.convention import Image, Stage
from magickbox.conventions.said import read_said, tell
from magickbox.dicom.header import MODALITY, SERIES, STUDY, read_file_meta, scan, text_of
from magickbox.engine import Ended, Run
from magickbox.errors import UnreadableHeader

DATA, OUTPUT = "/data", "/output"
INPUT, VIEW = "input", "input_view_dicom_series"
SERIES_NUMBER = 0x00200011
TAGS = {
    "SeriesDescription": 0x0008103E,
    "PatientID": 0x00100020,
    "PatientName": 0x00100010,
    "SequenceName": 0x00180024,
    "StudyDate": 0x00080020,
    "StudyTime": 0x00080030,
    "SeriesTime": 0x00080031,
    "SeriesNumber": SERIES_NUMBER,
    "ReferringPhysician": 0x00080090,
}
WANTED = frozenset({*TAGS.values(), MODALITY, STUDY, SERIES})
LONGEST = 64  # characters of a folder's name that come from tags
Header = dict[int, str]


class Ror:
    """Containers written for ror; implements ``convention.Convention``."""

    def lay_out(self, run: Run) -> Run:
        """Move the images into ``input/``, describe them, and show them by series; put paths into the command."""
        is_script = run.processor.image is None
        shown = str(run.input.absolute()) if is_script else DATA
        images = _moved(run.input)
        series: dict[str, list[Header]] = {}
        for path in sorted(images.rglob("*")):
            header = _header(path) if path.is_file() else {}
            series.setdefault(header.get(SERIES, ""), []).append(header)
            _show(run.input / VIEW, header, path.relative_to(run.input))
        described = [_described(headers, shown) for uid, headers in series.items() if uid]
        (run.input / "descr.json").write_text(json.dumps(described, indent=1) + "\n", "utf-8")
        if not is_script:
            return run
        command = tuple(_filled(run.processor.command, shown, str(run.output.absolute())))
        environment = (*run.processor.environment, *_options(run).items())
        return replace(run, processor=replace(run.processor, command=command, environment=environment))

    def stage(self, run: Run, image: Image) -> Stage:  # noqa: ARG002  every container of ror is called alike
        """What the image starts by itself, with ror's call string, the command of processor.json, as its arguments."""
        arguments = tuple(_filled(run.processor.command, DATA, OUTPUT))
        return Stage(DATA, OUTPUT, None, (), tuple(_options(run).items()), arguments=arguments)

    def read_back(self, run: Run, ended: Ended) -> None:
        """proc.json from output.json, unless the processor wrote one itself."""
        said = read_said(run.output / "output.json", (dict, list))
        if said is not None:
            tell(run, ended, said, "ror")


def _moved(folder: Path) -> Path:
    """Move all that is in a folder into ``input`` below it; a step of a chain may have left folders of any name."""
    names = os.listdir(folder)
    new = folder / ".new"
    new.mkdir()
    for name in names:
        os.rename(folder / name, new / name)
    os.rename(new, folder / INPUT)
    (folder / VIEW).mkdir()
    return folder / INPUT


def _header(path: Path) -> Header:
    """What is needed of an instance; nothing if it cannot be read."""
    with suppress(UnreadableHeader), path.open("rb") as file:
        meta = read_file_meta(file)
        found = scan(file, meta.transfer_syntax, WANTED, SERIES_NUMBER)
        return {tag: text_of(each) for tag, each in found.items()}
    return {}


def _described(headers: list[Header], data: str) -> Mapping[str, object]:
    """One series as ror describes it, by its first image."""
    first = headers[0]
    return {
        "NameFromSelect": "no-name",
        "SeriesInstanceUID": first.get(SERIES, ""),
        "StudyInstanceUID": first.get(STUDY, ""),
        "NumFiles": len(headers),
        "Modality": first.get(MODALITY, ""),
        **{name: first.get(tag, "") for name, tag in TAGS.items()},
        "ProcessDataPath": data,
        "ClassifyTypes": [],
        "InputViewDICOMSeriesPath": f"{data}/{VIEW}/{'/'.join(_folders(first))}",
    }


def _folders(header: Header) -> tuple[str, str, str]:
    """Patient, study and series, as names of folders."""

    def name(*tags: str) -> str:
        return "_".join(re.sub(r"[^A-Za-z0-9-]+", "_", header.get(TAGS[tag], "")) for tag in tags)[:LONGEST]

    return name("PatientID", "PatientName"), name("StudyDate", "StudyTime"), name("SeriesNumber", "SeriesDescription")


def _show(view: Path, header: Header, file: Path) -> None:
    """Link to a file of the data folder, once for each name."""
    if header:
        folder = view.joinpath(*_folders(header))
        folder.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            (folder / file.name).symlink_to(Path("../../../..") / file)


def _filled(command: Iterable[str], data: str, output: str) -> Iterable[str]:
    """A call string of ror, with its placeholders filled in."""
    places = {
        "{}": data,
        "{input}": f"{data}/{INPUT}",
        "{output}": output,
        "{descr}": f"{data}/descr.json",
        "{output_json}": f"{output}/output.json",
    }
    for part in command:
        yield re.sub(r"\{(?:input|output|descr|output_json)?\}", lambda found: places[found[0]], part)


def _options(run: Run) -> dict[str, str]:
    """What ror gives its containers as options: the settings of processor.json."""
    settings = run.processor.settings
    return {"ROR_CONT_OPTIONS": settings} if json.loads(settings) else {}
