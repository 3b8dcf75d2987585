"""What studies take on the disk: bytes and inodes for each 1,000 studies, by sending some through a real box.

    python bench/storage.py [--studies 40] [--instances 100] [--kilobytes 512]

A processor copies INPUT to OUTPUT, nothing is routed away; the ledger, receipts and logs count as well.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import pydicom
from boxprocess import all_jobs, running, send, set_up, station, until
from peers import item_of, sample
from pydicom.uid import generate_uid

from magickbox.job import JobState

PARTS = ("jobs/INPUT", "jobs/OUTPUT", "jobs/other", "state", "logs")


def study(folder: Path, instances: int, kilobytes: int) -> None:
    """Write one study of small CT headers and as many bytes of pixels as are asked for."""
    image = pydicom.dcmread(sample("CT_small.dcm"))
    image.StudyInstanceUID, image.SeriesInstanceUID = generate_uid(), generate_uid()
    rows = kilobytes * 1024 // 512
    image.Rows, image.Columns, image.PixelData = rows, 256, os.urandom(rows * 512)
    folder.mkdir()
    for number in range(instances):
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        image.save_as(folder / f"{number}.dcm")


def part_of(path: Path) -> str:
    """Which line of the table a path counts for."""
    parts = path.parts
    if parts[0] == "jobs":
        return f"jobs/{parts[2]}" if len(parts) > 2 and parts[2] in ("INPUT", "OUTPUT") else "jobs/other"
    return parts[0]


def used(root: Path) -> dict[str, tuple[int, int]]:
    """Bytes on the disk and inodes of each part of a data folder; a file with several names counts once."""
    seen: set[int] = set()
    total = {part: (0, 0) for part in PARTS}
    for path in sorted(root.rglob("*")):
        status, part = path.lstat(), part_of(path.relative_to(root))
        if status.st_ino in seen or path.name == "ballast" or part not in total:
            continue
        seen.add(status.st_ino)
        size, count = total[part]
        total[part] = (size + status.st_blocks * 512, count + 1)
    return total


def measure(root: Path, studies: int, instances: int, kilobytes: int) -> dict[str, tuple[int, int]]:
    """Send so many studies to a box and say what they have added."""
    with station(root / "station") as receiving:
        set_up(root / "box", receiving.port)
        with running(root / "box"):
            pass  # so that what a box has at its start is there
        before = used(root / "box")
        with running(root / "box", settings={"settle": 0}) as box:
            assert box.port is not None
            for number in range(studies):
                study(root / f"study{number}", instances, kilobytes)
                send(box.port, [item_of(file) for file in sorted((root / f"study{number}").iterdir())])
            until(lambda: sum(j.state is JobState.DONE for j in all_jobs(root / "box")) == studies, 600.0)
        after = used(root / "box")
    return {part: (after[part][0] - before[part][0], after[part][1] - before[part][1]) for part in PARTS}


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=40)
    parser.add_argument("--instances", type=int, default=100)
    parser.add_argument("--kilobytes", type=int, default=512)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="magickbox-storage-") as folder:
        added = measure(Path(folder), args.studies, args.instances, args.kilobytes)
    scale = 1000 / args.studies
    print(f"for 1,000 studies of {args.instances} instances of {args.kilobytes} KiB ({args.studies} were measured)")
    print(f"{'':<14}{'bytes':>12}{'inodes':>12}")
    for part, (size, count) in added.items():
        print(f"{part:<14}{size * scale / 1e9:>9.2f} GB{count * scale:>12,.0f}")


if __name__ == "__main__":
    main()
