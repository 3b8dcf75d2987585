"""Maximum intensity projections of each CT and MR series of a study, as new series."""

from __future__ import annotations

import json
import os
import sys
import traceback
import warnings
from datetime import datetime
from pathlib import Path

from derived import series_of
from projection import project
from volume import Found, Slice, Stack, Unfit, build, find


def name_of(instances: list[Slice]) -> str:
    """How messages call a series: number and modality, nothing that could name a person."""
    header = instances[0].header
    return f"series {header.get('SeriesNumber') or '?'} ({header.get('Modality') or '?'})"


def write_projections(stack: Stack, output: Path) -> Unfit | None:
    """Project one stack into the folder: three files or, when something is wrong with the pixels, none."""
    try:
        made = series_of(stack, project(stack), datetime.now())
        for ds in made:
            ds.save_as(output / f"{ds.SOPInstanceUID}.dcm", enforce_file_format=True)
    except Exception as error:  # noqa: BLE001 - decoders raise anything; one bad series must not take the others along
        traceback.print_exc()
        syntax = stack.slices[0].transfer_syntax
        return Unfit(f"pixels could not be read ({type(error).__name__}; {getattr(syntax, 'name', syntax)})")
    return None


def project_all(found: Found, output: Path) -> tuple[str, str]:
    """Project what can be projected; outcome and message."""
    done, remarks, missed = 0, [], bool(found.unreadable)
    for instances in found.series.values():
        stack = build(instances)
        problem = stack if isinstance(stack, Unfit) else write_projections(stack, output)
        if problem is None and isinstance(stack, Stack):
            done += 1
            remarks += [f"{name_of(instances)}: {note}" for note in stack.notes]
        elif problem is not None:
            missed = missed or not problem.expected
            remarks.append(f"{name_of(instances)} skipped: {problem.reason}")
    if found.unreadable:
        remarks.append(f"{found.unreadable} damaged files skipped")
    if found.others:
        remarks.append(f"{found.others} objects are neither CT nor MR images")
    head = f"projected {done} of {len(found.series)} CT and MR series" if done else "nothing could be projected"
    if not found.series and not found.others:
        head += ": no readable DICOM images in the input"
    outcome = "failed" if not done else "partial" if missed else "success"
    return outcome, "; ".join([head, *remarks])


def say(success: str, message: str, output: Path) -> None:
    """Write proc.json: where the box asks for it, or into OUTPUT when tried by hand."""
    place = Path(os.environ.get("MAGICKBOX_PROC") or output / "proc.json")
    place.write_text(json.dumps([{"success": success, "message": message}], indent=1) + "\n")
    print(f"{success}: {message}")


def main(argv: list[str]) -> int:
    """INPUT OUTPUT; exit code 0 for success and partial, 1 for failed, 2 for misuse."""
    if len(argv) != 2:
        print("usage: mip.py INPUT OUTPUT", file=sys.stderr)
        return 2
    source, output = Path(argv[0]), Path(argv[1])
    output.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # their text may quote patient data
        outcome, message = project_all(find(source), output)
    say(outcome, message, output)
    return 1 if outcome == "failed" else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
