"""Measures how soon the window shows pictures: ``python bench/pictures.py [--instances N] [--side N]``.

A real box with its window gets a study of made images; then a client asks as the viewer does: the list of series, small
pictures, the first frame, and the frames after it, each rendered anew, and again from what is kept.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import httpx2 as httpx
import numpy as np
import pydicom
from boxprocess import all_jobs, send, until
from compressed import image
from webbox import Serving, serving

from magickbox import transfersyntax as ts
from magickbox.sender import Item
from magickbox.transcoder import Transcoded
from magickbox.transcoding.pool import WorkerPool
from magickbox.web.principal import Role

FIRST = 300.0  # ms: the figure that the first picture has to keep


def made(folder: Path, count: int, side: int) -> list[Item]:
    """A series like CT: smooth shapes with noise, 12 bits."""
    folder.mkdir()
    random, (y, x) = np.random.default_rng(1), np.mgrid[0:side, 0:side] / side - 0.5
    body = 1200 * (x**2 + y**2 < 0.16) + 600 * (np.hypot(x - 0.1, y) < 0.1)
    items = []
    for number in range(1, count + 1):
        noise = random.normal(0, 20, (side, side))
        item = image(folder, np.clip(body + noise + number, 0, 4095).astype(np.uint16)[None], stored=12)
        ds = pydicom.dcmread(item.path)
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.InstanceNumber, ds.Modality = "1.2.3", "1.2.3.4", number, "CT"
        ds.save_as(item.path)
        items.append(item)
    return items


def packed(items: Sequence[Item], folder: Path) -> list[Item]:
    """The same in JPEG 2000."""
    folder.mkdir()
    pool, found = WorkerPool(folder), []
    for item in items:
        done = pool.transcode(item.path, item.transfer_syntax, [ts.JPEG_2000_LOSSLESS])
        assert isinstance(done, Transcoded), done
        found.append(Item(done.path, item.sop_class, item.sop_instance, done.transfer_syntax))
    pool.close()
    return found


def ask(client: httpx.Client, path: str) -> float:
    """Milliseconds until an answer is here."""
    began = time.perf_counter()
    answer = client.get(path)
    took = (time.perf_counter() - began) * 1000
    assert answer.status_code == 200, answer.text
    return took


def row(what: str, times: Sequence[float]) -> None:
    """One line of the table."""
    most = f"{max(times):8.0f}" if len(times) > 1 else ""
    print(f"{what:<52}{statistics.median(times):8.0f}{most}")


def measure(box: Serving, items: Sequence[Item], called: str) -> float:
    """Send a study and look at it; returns what the first picture took."""
    send(box.port, list(items), called=called)
    until(lambda: any(job.called_ae == called for job in all_jobs(box.root)), what="the job")
    (job,) = [job.id for job in all_jobs(box.root) if job.called_ae == called]
    client = box.client(Role.VIEWER)
    at = f"/api/v1/jobs/{job}"
    first_listing = ask(client, f"{at}/series")
    (series,) = client.get(f"{at}/series").json()["input"]["series"]
    keys = [each["instance"] for each in series["instances"]][:60]
    frame: Callable[[str], str] = lambda key: f"{at}/input/instances/{key}/frames/1"  # noqa: E731
    first = ask(client, f"{frame(keys[0])}/values")
    row("the list of series, first and again", [first_listing, ask(client, f"{at}/series")])
    row("the first picture", [first])
    row("the next 59, as values", [ask(client, f"{frame(key)}/values") for key in keys[1:]])
    row("the same again, kept", [ask(client, f"{frame(key)}/values") for key in keys])
    row("as PNG in a window", [ask(client, f"{frame(key)}?center=600&width=1500") for key in keys])
    row("the small picture", [ask(client, f"{at}/input/series/{series['series']}/thumbnail")])
    return first


def main() -> int:
    """Measure and print; 1 if the first picture took too long."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--instances", type=int, default=500)
    parser.add_argument("--side", type=int, default=512)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder) / "data") as box:
        items = made(Path(folder) / "made", options.instances, options.side)
        print(f"{options.instances} images of {options.side} x {options.side}, milliseconds: median, largest")
        firsts = []
        for name, study in (("Native", items), ("Packed", packed(items[:60], Path(folder) / "packed"))):
            print(f"{name.lower() if name == 'Native' else 'JPEG 2000'}:")
            firsts.append(measure(box, study, name))
    return 0 if max(firsts) < FIRST else 1


if __name__ == "__main__":
    sys.exit(main())
