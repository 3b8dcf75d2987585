"""Rules, processors and destinations in a browser: the paths that a person takes."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from boxes import Image, TestBox
from browser import chromium, listening, page_of
from planned import entry, routed
from webbox import NAMES, PASSWORD, Desk, desk

from magickbox.destination import DicomDestination
from magickbox.ledger import Ledger
from magickbox.web.principal import Role

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

RULES = """{
  "routing": [
    {
      "name": "to the PACS",
      "AETitleIn": "Proc",
      "RouteDirectory": "INPUT",
      "send": [ { "success": { "IP": "127.0.0.1", "PORT": 1, "AETitleSender": "BOX", "AETitleTo": "PACS" } } ]
    }
  ]
}
"""
SCRIPT = b'#!/bin/sh\ncp "$1"/* "$2"/\necho copied\n'


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    with chromium() as found:
        yield found


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Desk]:
    with desk(tmp_path / "data") as found:
        found.context.places.routing.write_text(RULES)
        ledger = Ledger(found.context.data.ledger)
        box = TestBox(found.context.data, ledger)
        box.run(box.job(Image("1.2.3"), Image("1.2.4")))
        ledger.close()
        yield found


@pytest.fixture
def address(office: Desk) -> Iterator[str]:
    with listening(office.app) as found:
        yield found


@pytest.fixture
def page(browser: "Browser", address: str) -> Iterator["Page"]:
    with page_of(browser, address, NAMES[Role.ADMIN], PASSWORD) as found:
        yield found


def test_rules_are_written_with_help_tried_and_saved(page: "Page", address: str, office: Desk) -> None:
    page.goto(f"{address}/rules/edit")
    page.locator(".cm-line", has_text='"AETitleIn"').click()
    page.keyboard.press("End")
    page.keyboard.press("Enter")
    page.keyboard.type('"')
    page.locator(".cm-completionLabel", has_text='"priority"').wait_for()
    page.get_by_text("expected : after the key").wait_for()
    assert page.locator('button[value="save"]').is_disabled()
    page.keyboard.type("prio")
    page.locator("[aria-selected] .cm-completionLabel", has_text='"priority"').click()
    page.locator(".cm-completionLabel", has_text='"urgent"').click()
    page.keyboard.type(",")
    page.get_by_text("No errors.").wait_for()
    page.locator(".cm-line", has_text='"AETitleTo"').get_by_text('"PACS"').dblclick()
    page.keyboard.type("ARCHIVE")
    page.click('button[value="try"]')
    page.get_by_text("1 job would be sent otherwise").wait_for()
    assert page.locator(".sending", has_text="2 instances to").count() == 2
    page.click('button[value="compare"]')
    page.locator(".comparison .new", has_text="ARCHIVE").wait_for()
    page.fill("[name=comment]", "by test")
    page.click('button[value="save"]')
    page.get_by_text("Saved. The rules below are in force").wait_for()
    assert '"priority": "urgent"' in office.context.places.routing.read_text()
    page.goto(f"{address}/rules/history")
    assert page.get_by_text("saved: by test").count() == 1
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Bring back").click()
    page.get_by_text("Saved. The rules below are in force").wait_for()
    assert office.context.places.routing.read_text() == RULES


def test_a_key_is_explained_when_one_points_at_it(page: "Page", address: str) -> None:
    page.goto(f"{address}/rules/edit")
    page.locator(".cm-line", has_text='"RouteDirectory"').get_by_text('"RouteDirectory"').hover()
    page.locator(".about", has_text="a folder of the job").wait_for()


def test_a_processor_is_brought_tried_and_switched_on(page: "Page", address: str, tmp_path: Path) -> None:
    (tmp_path / "Mine.sh").write_bytes(SCRIPT)
    page.goto(f"{address}/processors")
    page.set_input_files("[name=file]", tmp_path / "Mine.sh")
    page.get_by_role("button", name="Bring it").click()
    page.get_by_role("heading", name="Mine").wait_for()
    page.get_by_role("button", name="Run it").click()
    page.locator("#trials .badge.success").wait_for(timeout=60_000)
    assert page.locator("pre.log").inner_text() == "copied"
    page.goto(f"{address}/processors")
    page.get_by_role("button", name="Switch on Mine").click()
    page.get_by_text("Mine is on").wait_for()
    assert page.get_by_role("button", name="Switch off Mine").count() == 1


def test_a_destination_is_asked(page: "Page", address: str) -> None:
    page.goto(f"{address}/destinations")
    page.get_by_role("button", name="Echo PACS@127.0.0.1:1").click()
    page.get_by_text("does not answer").wait_for()


@pytest.mark.parametrize("path", ["/rules", "/rules/edit", "/rules/history", "/processors", "/destinations"])
def test_a_phone_needs_no_scrolling_sideways(browser: "Browser", address: str, path: str) -> None:
    small = {"width": 390, "height": 844}
    with page_of(browser, address, NAMES[Role.ADMIN], PASSWORD, viewport=small) as page:
        page.goto(address + path)
        page.wait_for_load_state("networkidle")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_queue_is_shown_as_it_changes(page: "Page", address: str, office: Desk) -> None:
    page.goto(f"{address}/destinations")
    page.get_by_text("nothing sent yet").wait_for()
    ledger = Ledger(office.context.data.ledger)
    routed(ledger, entry(DicomDestination("127.0.0.1", 1, "BOX", "PACS")), name="other")
    ledger.close()
    page.locator("#queues .badge", has_text="running").wait_for()
