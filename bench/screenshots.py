"""Takes the pictures of the window in docs/pictures: ``python bench/screenshots.py [--out DIR]``, or ``make pictures``.

A real box with the drop-ins of this repository gets studies of a made patient (a head of noise with bright vessels) and
sends the results to two stations, one of which is not there. Debian's Chromium then looks at the window.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import numpy as np
import pydicom
from boxprocess import all_jobs, send, until
from browser import chromium, page_of
from compressed import image
from peers import free_port
from PIL import Image
from webbox import NAMES, PASSWORD, Serving, serving

from magickbox.job import JobState
from magickbox.sender import Item
from magickbox.station import Station
from magickbox.web.principal import Role

if TYPE_CHECKING:
    from playwright.sync_api import Page

SIDE, SLICES = 256, 48
LARGEST = 150_000  # bytes of one picture: they stay in the history of the repository
SENT = (("MR1", "mip"), ("MR2", "mip"), ("WORKSTATION", "report"), ("CT1", "Segment"), ("MR1", "mip"))


def vessels() -> np.ndarray:
    """A head seen by a made angiography: slices, rows, columns of 12 bits."""
    random = np.random.default_rng(4)
    z, y, x = np.mgrid[-1 : 1 : SLICES * 1j, -1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j].astype(np.float32)
    head = np.sqrt((x / 0.72) ** 2 + (y / 0.88) ** 2 + (z / 1.6) ** 2)
    volume = 260.0 * (head < 1) + 190.0 * ((head > 0.9) & (head < 0.97)) - 120.0 * (np.hypot(x / 1.4, y + 0.05) < 0.13)
    path = np.linspace(0, 1, 400)
    for _ in range(26):
        turn, wide, wave, lean = random.uniform(0, 2 * np.pi), *random.uniform((0.25, 1, -1), (0.62, 3, 1))
        at_x = path * wide * np.cos(turn + lean * path) + 0.05 * np.sin(9 * wave * path)
        at_y = path * wide * 1.2 * np.sin(turn + lean * path) + 0.05 * np.cos(7 * wave * path)
        at_z = -0.9 + 1.7 * path**0.7 + 0.06 * np.sin(12 * wave * path)
        for step, (px, py, pz) in enumerate(zip(at_x, at_y, at_z, strict=True)):
            thick = 0.032 * (1 - 0.7 * step / len(path))
            rows, columns = (np.clip(((p + 1) / 2 * SIDE) + np.array((-6, 7)), 0, SIDE).astype(int) for p in (py, px))
            here = np.s_[:, rows[0] : rows[1], columns[0] : columns[1]]
            near = np.hypot(np.hypot(x[here] - px, y[here] - py), z[here] - pz) < thick
            volume[here][near] = np.maximum(volume[here][near], 1900 - 900 * step / len(path))
    seen: np.ndarray = np.clip(volume + random.normal(0, 5, volume.shape) + 40, 0, 4095)
    return seen.astype(np.uint16)


def study(folder: Path, number: int, volume: np.ndarray) -> list[Item]:
    """The volume as a series of MR images of made patient ``number``."""
    folder.mkdir()
    made = []
    for index, pixels in enumerate(volume):
        item = image(folder, pixels[None], stored=12)
        ds = pydicom.dcmread(item.path)
        del ds.NumberOfFrames
        ds.StudyInstanceUID, ds.SeriesInstanceUID = f"2.25.{4000 + number}", f"2.25.{4000 + number}.3"
        ds.FrameOfReferenceUID, ds.InstanceNumber, ds.SeriesNumber = f"2.25.{4000 + number}.9", index + 1, 3
        ds.Modality, ds.StudyDescription, ds.SeriesDescription = "MR", "Head", "TOF 3D"
        ds.PatientName, ds.PatientID, ds.PatientBirthDate = f"Phantom^Made {number}", f"MADE-{number}", "19700101"
        ds.StudyDate, ds.AccessionNumber = "20260312", f"A{1000 + number}"
        ds.ImageOrientationPatient, ds.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, 3.0 * index]
        ds.PixelSpacing, ds.SliceThickness, ds.WindowCenter, ds.WindowWidth = [0.8, 0.8], 3, 700, 1400
        ds.save_as(item.path)
        made.append(item)
    return made


def rules(pacs: int, nobody: int) -> str:
    """Three rules; the archive of the second is not there."""

    def to(port: int, title: str) -> dict[str, str | int]:
        return {"IP": "127.0.0.1", "PORT": port, "AETitleSender": "MAGICKBOX", "AETitleTo": title}

    return json.dumps(
        {
            "routing": [
                {"name": "Projections to the PACS", "AETitleIn": "mip", "send": [{"success": to(pacs, "PACS")}]},
                {"name": "Reports to the archive", "AETitleIn": "report", "send": [{"success": to(nobody, "ARCHIVE")}]},
                {"name": "What failed to quality control", "send": [{"failed": to(pacs, "QC")}]},
            ]
        },
        indent=2,
    )  # fmt: skip


@contextmanager
def filled_box(top: Path) -> Iterator[Serving]:
    """A box that has received, processed and sent; it runs until the block ends."""
    root, station = top / "data", Station(top / "station", "PACS")
    pacs = station.start()
    processors = top / "processors"
    processors.mkdir()
    for each in ("mip", "report", "identity"):
        (processors / each).symlink_to(ROOT / "processors" / each)
    (processors / "Segment").write_text("#!/bin/sh\necho 'no model for these images'\nexit 3\n")
    (processors / "Segment").chmod(0o755)
    root.mkdir()
    (root / "routing.json").write_text(rules(pacs, free_port()))
    volume = vessels()
    with ExitStack() as stack:
        stack.callback(station.stop)
        box = stack.enter_context(serving(root, "--processors", str(processors)))
        for number, (calling, called) in enumerate(SENT, 1):
            items = study(top / f"study{number}", number, volume if called == "mip" else volume[:6])
            send(box.port, items, called=called, calling=calling)
            until(lambda: worked(root) == number, 120, f"job {number}")  # noqa: B023  # asked for at once
        yield box


def worked(root: Path) -> int:
    """How many jobs have been processed, and sent where that can be."""
    return sum(job.state in (JobState.DONE, JobState.ATTENTION, JobState.DELIVERING) for job in all_jobs(root))


def job_of(root: Path, called: str) -> str:
    """The newest job of a title."""
    return next(job.id for job in all_jobs(root) if job.called_ae == called)


def look(page: "Page", box: Serving, out: Path) -> None:
    """Every picture."""
    address, job = box.address, job_of(box.root, "mip")
    page.goto(f"{address}/")
    page.locator("#now-destinations, table").first.wait_for()
    page.wait_for_timeout(1500)  # what is live has been told once
    take(page, out / "now.png")
    page.goto(f"{address}/jobs")
    page.get_by_text("Phantom").first.wait_for(timeout=60_000)  # the catalogue has read it
    take(page, out / "jobs.png")
    page.goto(f"{address}/jobs/{job}")
    page.locator("#series img").last.wait_for()
    page.wait_for_load_state("networkidle")
    take(page, out / "job.png")
    page.goto(f"{address}/jobs/{job}/pictures")
    page.locator(".pane canvas").nth(1).wait_for()
    page.locator(".pane .bl").first.get_by_text(f"1 / {SLICES}").wait_for()
    page.locator(".screen").first.focus()
    for _ in range(SLICES // 2):
        page.keyboard.press("ArrowDown")
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(500)
    take(page, out / "viewer.png")
    page.goto(f"{address}/rules/edit")
    page.locator(".cm-content").click()
    page.keyboard.press("Control+Home")
    for key in ("ArrowDown", "ArrowDown", "ArrowDown", "ArrowDown", "End", "ArrowLeft", "ArrowLeft"):
        page.keyboard.press(key)
    page.keyboard.type("|report")  # behind "mip": the first rule would take what the report said, too
    page.get_by_role("button", name="Try it").click()
    page.locator("#outcome h2").wait_for()
    page.locator("#outcome").scroll_into_view_if_needed()
    take(page, out / "rules.png", whole=True)


def take(page: "Page", path: Path, whole: bool = False) -> None:
    """What is seen now, or the whole page, as a PNG of few colours that is small enough."""
    path.parent.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=path, full_page=whole)
    with Image.open(path) as taken:
        shot = taken.convert("RGB")
    for colours in (128, 64, 48, 32):
        shot.quantize(colours, dither=Image.Dither.NONE).save(path, optimize=True)
        if (size := path.stat().st_size) < LARGEST:
            break
    print(f"{os.path.relpath(path)}: {size // 1000} KB")
    assert size < LARGEST, f"{path} is too large"


def main() -> int:
    """Fill a box, look at it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "pictures")
    out = parser.parse_args().out
    with (
        tempfile.TemporaryDirectory() as top,
        filled_box(Path(top)) as box,
        chromium() as browser,
        page_of(browser, box.address, NAMES[Role.ADMIN], PASSWORD) as page,
    ):
        look(page, box, out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
