"""The viewer in a browser, over a window with real files behind it."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import peers
import pydicom
import pytest
from browser import chromium, listening, page_of
from compressed import image
from jobpictures import JOB, put
from test_imaging_hostile import workers
from test_web_pictures import add_job
from webbox import NAMES, PASSWORD, desk

from magickbox.web.principal import Role

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

VIEWER = f"/jobs/{JOB}/pictures"


def stack(folder: Path, count: int, description: str, value: int) -> list[Path]:
    """A series of MR images, each of one grey, brighter by the number."""
    folder.mkdir()
    made = []
    for number in range(1, count + 1):
        pixels = np.full((1, 64, 48), value + number, np.uint16)
        pixels[0, 0, 0], pixels[0, 0, 1] = 0, 4000
        path = image(folder, pixels, stored=12).path
        ds = pydicom.dcmread(path)
        ds.SeriesInstanceUID, ds.StudyInstanceUID = f"1.2.{value}", "1.2"
        ds.InstanceNumber, ds.Modality, ds.SeriesDescription = number, "MR", description
        ds.PatientName, ds.WindowCenter, ds.WindowWidth = "Secret^<script>alert(1)</script>", 2000, 4000
        ds.save_as(path)
        made.append(path)
    return made


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    root = tmp_path_factory.mktemp("viewer")
    with desk(root / "data", web_hide_names="viewer") as office:
        add_job(office.context.data)
        put(office.context.data, *stack(root / "in", 30, "before <b>it</b>", 100), peers.sample("reportsi.dcm"))
        put(office.context.data, *stack(root / "out", 30, "after", 500), place="OUTPUT")
        with listening(office.app) as found:
            yield found


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    with chromium() as found:
        yield found


@pytest.fixture
def page(browser: "Browser", address: str) -> Iterator["Page"]:
    with page_of(browser, address, NAMES[Role.OPERATOR], PASSWORD) as found:
        found.goto(address + VIEWER)
        counter(found, "1 / 30")
        yield found


def counter(page: "Page", text: str, pane: int = 0) -> None:
    """Wait until a pane shows this picture."""
    page.locator(".pane .bl").nth(pane).get_by_text(text, exact=True).wait_for()


def grey(page: "Page", pane: int = 0) -> int:
    """How bright the middle of a picture is."""
    script = """pane => { const c = document.querySelectorAll('.pane canvas')[pane];
                return c.getContext('2d').getImageData(c.width >> 1, c.height >> 1, 1, 1).data[0] }"""
    return int(page.evaluate(script, pane))


def test_input_and_output_scroll_together(page: "Page") -> None:
    counter(page, "1 / 30", 1)
    page.locator(".screen").first.focus()
    page.keyboard.press("End")
    counter(page, "30 / 30")
    counter(page, "30 / 30", 1)
    page.keyboard.press("PageUp")
    counter(page, "20 / 30", 1)
    page.keyboard.press("l")
    page.keyboard.press("Home")
    counter(page, "1 / 30")
    assert page.locator(".pane .bl").nth(1).inner_text() == "20 / 30"


def test_wheel_slider_and_dragging_scroll(page: "Page") -> None:
    screen = page.locator(".screen").first
    screen.hover()
    page.mouse.wheel(0, 160)
    counter(page, "5 / 30")
    page.get_by_label("INPUT: picture").fill("12")
    counter(page, "12 / 30")
    page.get_by_role("button", name="Scroll").click()
    box = screen.bounding_box()
    assert box
    page.mouse.move(box["x"] + 50, box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + 50, box["y"] + 50 + 36, steps=6)
    page.mouse.up()
    counter(page, "15 / 30")


def test_the_window_changes_what_is_seen_and_comes_back(page: "Page") -> None:
    first = grey(page)
    assert first == pytest.approx((101 - 0) / 4000 * 255, abs=2)
    box = page.locator(".screen").first.bounding_box()
    assert box
    page.mouse.move(box["x"] + 200, box["y"] + 200)
    page.mouse.down()
    page.mouse.move(box["x"] + 200, box["y"] + 100, steps=5)
    page.mouse.up()
    assert grey(page) > first + 20
    assert "C 2000" not in page.locator(".pane .br").first.inner_text()
    page.keyboard.press("i")
    assert grey(page) < 255 - first - 20
    page.keyboard.press("r")
    assert grey(page) == first
    assert "C 2000" in page.locator(".pane .br").first.inner_text()


def test_zoom_and_fit(page: "Page") -> None:
    percent = page.locator(".pane .br").first
    fitted = percent.inner_text()
    page.locator(".screen").first.focus()
    page.keyboard.press("+")
    assert percent.inner_text() != fitted
    page.keyboard.press("1")
    assert "100 %" in percent.inner_text()
    page.keyboard.press("0")
    assert percent.inner_text() == fitted


def test_names_are_text_and_hidden_from_those_who_do_not_see_them(
    page: "Page", browser: "Browser", address: str
) -> None:
    assert "Secret^<script>alert(1)</script>" in page.locator(".pane .tl").first.inner_text()
    assert page.locator(".strip a").nth(0).inner_text().count("before <b>it</b>") == 1
    with page_of(browser, address, NAMES[Role.VIEWER], PASSWORD) as other:
        other.goto(address + VIEWER)
        counter(other, "1 / 30")
        assert other.locator(".pane .tl").first.inner_text().startswith("hidden")
        assert "Secret" not in other.content()


def test_a_report_is_read_and_keys_are_listed(page: "Page") -> None:
    page.locator(".strip a").filter(has_text="SR").click()
    page.locator(".pane .report li").first.wait_for()
    page.locator(".strip a[data-place=input]").first.click()
    counter(page, "1 / 30")
    page.keyboard.press("?")
    assert page.get_by_role("dialog", name="Keys").is_visible()
    page.keyboard.press("Escape")


def test_elements_are_searched(page: "Page") -> None:
    page.keyboard.press("m")
    page.get_by_role("searchbox").fill("Series Desc")
    page.locator(".metadata tbody tr").get_by_text("before <b>it</b>", exact=True).wait_for()
    page.keyboard.press("Escape")
    assert not page.locator(".metadata").is_visible()


def test_two_viewers_go_on_while_renderers_are_killed(page: "Page", browser: "Browser", address: str) -> None:
    with page_of(browser, address, NAMES[Role.VIEWER], PASSWORD) as other:
        other.goto(address + VIEWER)
        counter(other, "1 / 30")
        for each in (page, other):
            each.locator(".screen").first.focus()
        for number in range(2, 31):
            for each in (page, other):
                each.keyboard.press("ArrowDown")
            if number == 15:
                for worker in workers():
                    worker.kill()
        for each in (page, other):
            counter(each, "30 / 30")
            counter(each, "30 / 30", 1)
            assert grey(each) == pytest.approx(130 / 4000 * 255, abs=2)


def test_it_fits_a_telephone(browser: "Browser", address: str) -> None:
    with page_of(
        browser, address, NAMES[Role.OPERATOR], PASSWORD, viewport={"width": 390, "height": 800}, has_touch=True
    ) as page:
        page.goto(address + VIEWER)
        counter(page, "1 / 30")
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        assert page.locator(".pane:visible").count() == 1
        page.get_by_role("button", name="INPUT | OUTPUT").click()
        counter(page, "1 / 30", 1)


def test_without_javascript_there_are_pictures_and_links(browser: "Browser", address: str) -> None:
    with page_of(browser, address, NAMES[Role.OPERATOR], PASSWORD, java_script_enabled=False) as page:
        page.goto(address + VIEWER)
        page.get_by_role("link", name="Next").click()
        assert "2 of 30" in page.locator("figcaption").inner_text()
        assert page.get_by_role("img", name="Picture 2 of 30").bounding_box()
        page.get_by_role("link", name="Previous").click()
        page.locator(".strip a[data-place=output]").first.click()
        assert "OUTPUT" in page.locator("figcaption").inner_text()
        page.locator(".strip a").filter(has_text="SR").click()
        assert page.locator("figure li").count() > 3
