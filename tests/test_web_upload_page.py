"""The upload page in a browser, over a real box."""

from pathlib import Path
from typing import TYPE_CHECKING

from boxprocess import all_jobs, until
from browser import chromium, listening, page_of
from studies import study
from webbox import NAMES, PASSWORD, desk, serving

from magickbox.web.principal import Role

if TYPE_CHECKING:
    from playwright.sync_api import Page


def test_a_folder_goes_into_the_box_with_what_came_of_each_file(tmp_path: Path) -> None:
    folder = tmp_path / "from a disc"
    study(folder / "series", 5)
    (folder / "<b>notes.txt").write_text("no DICOM")
    processors = tmp_path / "data" / "processors"
    processors.mkdir(parents=True)
    (processors / "Mine").write_text("#!/bin/sh\n")
    (processors / "Mine").chmod(0o755)
    with serving(tmp_path / "data") as box, chromium() as browser:
        with page_of(browser, box.address, NAMES[Role.OPERATOR], PASSWORD) as page:
            page.get_by_role("link", name="Upload").click()
            assert page.get_by_label("Called AE title").input_value() == "Mine"
            assert page.get_by_role("button", name="Upload").is_disabled()
            page.set_input_files("#folder", folder)
            page.get_by_text("6 files").wait_for()
            page.get_by_role("button", name="Upload").click()
            page.locator("#stage").get_by_text("Done").wait_for()
            assert [page.locator(f"#{name}").inner_text() for name in ("stored", "refused", "skipped")] == [
                "5",
                "0",
                "1",
            ]
            assert "from a disc/<b>notes.txt" in page.locator("#results").inner_text()
        until(lambda: [job.instances for job in all_jobs(box.root)] == [5], what="the job")
        (job,) = all_jobs(box.root)
        assert (job.called_ae, job.calling_ae) == ("Mine", "MAGICKBOX-WEB")


DROP = """([name, content]) => {
    const transfer = new DataTransfer();
    transfer.items.add(new File([Uint8Array.from(content)], name));
    document.getElementById("drop").dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true }));
}"""


def test_files_are_dropped_and_an_upload_that_is_refused_says_so(tmp_path: Path) -> None:
    with desk(tmp_path / "data", min_free="0") as office, listening(office.app) as address, chromium() as browser:
        with page_of(browser, address, NAMES[Role.OPERATOR], PASSWORD, noisy=True) as page:
            page.goto(f"{address}/upload")
            page.evaluate(DROP, ["one.dcm", list(study(tmp_path / "one", 1)[0].path.read_bytes())])
            page.get_by_text("1 file,").wait_for()
            page.get_by_label("Called AE title").fill("Mine")
            page.get_by_role("button", name="Upload").click()
            page.locator("#problem").get_by_text("being started or stopped").wait_for()
        assert list((tmp_path / "data/state/uploads").iterdir()) == []


def drop(page: "Page", *paths: Path) -> None:
    """Drop files and folders of this machine onto the page, as a hand with a mouse does."""
    box = page.locator("#drop").bounding_box()
    assert box is not None
    place = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
    dragged = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
    session = page.context.new_cdp_session(page)
    for kind in ("dragEnter", "dragOver", "drop"):
        session.send("Input.dispatchDragEvent", {"type": kind, "data": dragged, **place})
    session.detach()


def test_a_folder_is_dropped_with_all_that_is_below_it(tmp_path: Path) -> None:
    folder = tmp_path / "DISC"
    study(folder / "A" / "AA", 120)  # a browser hands out a folder's entries by hundreds
    study(folder / "B", 3)
    (folder / "empty").mkdir()
    (folder / "B" / "readme.txt").write_text("no DICOM")
    single = study(tmp_path / "single", 1)[0].path
    with serving(tmp_path / "data") as box, chromium() as browser:
        with page_of(browser, box.address, NAMES[Role.OPERATOR], PASSWORD) as page:
            page.goto(f"{box.address}/upload")
            drop(page, folder, single)
            page.get_by_text("125 files,").wait_for()
            page.get_by_label("Called AE title").fill("Mine")
            page.get_by_role("button", name="Upload").click()
            page.locator("#stage").get_by_text("Done").wait_for()
            figures = [page.locator(f"#{name}").inner_text() for name in ("stored", "refused", "skipped")]
            assert figures == ["124", "0", "1"]
            assert "DISC/B/readme.txt" in page.locator("#results").inner_text()
        until(lambda: sum(job.instances for job in all_jobs(box.root)) == 124, what="the jobs")
