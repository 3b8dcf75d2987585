"""Show how a processor says success, partial and failed; the sender chooses by a word in the Series Description."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

from pydicom import dcmread
from pydicom.errors import InvalidDicomError

WORDS = ("crash", "failed", "partial", "success")
"""What may stand in a Series Description; where several do, the worst (the first here) counts."""

UNREADABLE = (InvalidDicomError, OSError, EOFError, ValueError, KeyError, AttributeError, TypeError)


def instances(folder: Path) -> Iterator[tuple[Path, str]]:
    """Every DICOM file below the folder with its Series Description; anything else is passed over."""
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        try:
            header = dcmread(path, stop_before_pixels=True, specific_tags=["SeriesDescription"])
            yield path, str(header.get("SeriesDescription") or "")
        except UNREADABLE:
            continue


def wanted(descriptions: list[str], environment: Mapping[str, str]) -> str:
    """The outcome to show: OUTCOME of processor.json if set, else the worst word found, else success."""
    fixed = environment.get("OUTCOME", "").strip()
    if fixed:
        return fixed
    said = {word.lower() for text in descriptions for word in re.findall(r"[A-Za-z]+", text)}
    return next((word for word in WORDS if word in said), "success")


def copy(paths: list[Path], source: Path, target: Path) -> None:
    """Copy the files into the target folder, in the same subfolders."""
    for path in paths:
        place = target / path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)


def say(success: str, message: str, output: Path) -> None:
    """Write proc.json: where the box asks for it, or into OUTPUT when tried by hand."""
    place = Path(os.environ.get("MAGICKBOX_PROC") or output / "proc.json")
    place.write_text(json.dumps([{"success": success, "message": message}], indent=1) + "\n")
    print(f"{success}: {message}")


def main(argv: list[str]) -> int:
    """INPUT OUTPUT; the exit code is 0 unless the outcome is failed (1) or crash (3, and no proc.json)."""
    if len(argv) != 2:
        print("usage: outcomes.py INPUT OUTPUT", file=sys.stderr)
        return 2
    source, output = Path(argv[0]), Path(argv[1])
    output.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # their text may quote patient data
        found = list(instances(source))
    paths = [path for path, _ in found]
    outcome = wanted([text for _, text in found], os.environ) if found else "failed"

    if outcome == "crash":
        print("this program ended without saying why", file=sys.stderr)
        return 3
    if outcome == "failed":
        say("failed", "asked to fail; nothing was written" if found else "no DICOM instance in the input", output)
        return 1
    if outcome == "partial":
        half = paths[: (len(paths) + 1) // 2]
        copy(half, source, output)
        say("partial", f"asked for half: copied {len(half)} of {len(paths)} instances", output)
        return 0
    copy(paths, source, output)
    say(outcome, f"copied {len(paths)} of {len(paths)} instances", output)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
