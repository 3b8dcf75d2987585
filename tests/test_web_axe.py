"""axe-core looks at every page, in light and in dark: no fault that is serious or critical.

axe.min.js (MPL-2.0) comes with the package axe-playwright-python, of which nothing else is used.
"""

from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from browser import chromium, listening, page_of
from officebox import Office, open_office
from planned import PACS, entry, job, new_items, with_files
from webbox import NAMES, PASSWORD, desk

from magickbox.job import Move
from magickbox.ledger import Ledger, deliveries, endings, jobs
from magickbox.web.principal import Role

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

LANE = "PACS@127.0.0.1:104"
# What each page has to show before it is looked at.
PAGES = {
    "/": "#now-bad",
    "/jobs": "#rows tr",
    "/jobs?state=LOST": ".empty",
    "/jobs/COPY": "#series img",
    "/jobs/FAIL": "#whytable",
    "/jobs/COPY/why": "table",
    "/jobs/COPY/pictures": ".pane canvas",
    "/deliveries/DEAD": "h1",
    "/log": ".logline",
    "/rules": "h1",
    "/rules/edit": ".cm-content",
    "/rules/history": "h1",
    "/rules/history?old=OLD": "h1",
    "/processors": "table",
    "/processors/one?name=FAIL": "h1",
    "/destinations": "table",
    f"/destinations/one?name={LANE}": "h1",
    "/upload": "form",
    "/settings": "form",
    "/users": "table",
    "/audit": "table",
    "/account": "form",
    "/api": "details",
    "/nowhere": "h1",
}
LOOK = """async only => {
    const options = {resultTypes: ["violations"], ...(only && {runOnly: {type: "rule", values: only}})};
    const found = await axe.run(document, options);
    return found.violations.filter(each => ['serious', 'critical'].includes(each.impact))
        .flatMap(each => each.nodes.map(
            node => `${each.id}: ${node.html.slice(0, 200)} ${node.any.map(any => any.message)}`
        ));
}"""
COLOURS = ["color-contrast", "link-in-text-block"]


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory, browser: "Browser") -> Iterator[Office]:
    """Two jobs with pictures, a dead letter, and rules with a history."""
    with open_office(tmp_path_factory.mktemp("office")) as found:
        give_up(found)
        admin = found.desk.client(Role.ADMIN)
        rules = admin.get("/api/v1/rules").json()
        text = rules["text"].replace("only CT", "only MR")
        saved = admin.put("/api/v1/rules", json={"text": text, "state": rules["state"]})
        assert saved.status_code == 200, saved.text
        yield found


@pytest.fixture(scope="module")
def address(office: Office) -> Iterator[str]:
    with listening(office.desk.app) as found:
        yield found


def give_up(office: Office) -> None:
    """A job whose one delivery is dead."""
    ledger = Ledger(office.desk.context.data.ledger)
    job(ledger, "given-up")
    with_files(office.desk.context.data.jobs / "given-up", new_items())
    with ledger.transaction() as tx:
        decided = deliveries.record_decision(tx, "given-up", "digest", "{}")
        (dead,) = deliveries.plan(tx, "given-up", decided, [entry(PACS)])
        jobs.move(tx, "given-up", Move.ROUTE, "routed")
        endings.fail(tx, dead, "no connection")
    ledger.close()


def faults(page: "Page") -> dict[str, list[str]]:
    """What axe finds in light, and of the colours in dark."""
    page.evaluate((files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8"))
    page.emulate_media(color_scheme="light")
    light = page.evaluate(LOOK, None)
    page.emulate_media(color_scheme="dark")
    return {scheme: found for scheme, found in (("light", light), ("dark", page.evaluate(LOOK, COLOURS))) if found}


def path_of(path: str, office: Office) -> str:
    """With what only this box knows."""
    admin = office.desk.client(Role.ADMIN)
    for called in ("COPY", "FAIL"):
        path = path.replace(f"/jobs/{called}", f"/jobs/{office.job(called)}")
    if "DEAD" in path:
        dead = admin.get("/api/v1/deliveries?state=DEAD").json()["items"]
        path = path.replace("DEAD", str(dead[0]["id"]))
    if "OLD" in path:
        path = path.replace("OLD", admin.get("/api/v1/rules/history").json()["items"][-1]["id"])
    return path


@pytest.fixture(scope="module")
def page(browser: "Browser", address: str) -> Iterator["Page"]:
    with page_of(browser, address, NAMES[Role.ADMIN], PASSWORD, reduced_motion="reduce", noisy=True) as found:
        yield found


@pytest.mark.parametrize("path", PAGES)
def test_a_page_has_no_serious_fault(page: "Page", address: str, office: Office, path: str) -> None:
    page.goto(address + path_of(path, office))
    page.locator(PAGES[path]).first.wait_for()
    assert faults(page) == {}


def test_the_pages_before_the_log_in_have_none(browser: "Browser", address: str, office: Office) -> None:
    made = office.desk.client(Role.ADMIN).post("/api/v1/users", json={"name": "mueller", "role": "operator"})
    page = browser.new_page(reduced_motion="reduce")
    for path in ("/login", made.json()["path"]):
        page.goto(address + path)
        page.get_by_role("heading").first.wait_for()
        assert faults(page) == {}, path
    page.close()


def test_the_first_steps_have_none(browser: "Browser", tmp_path: Path) -> None:
    with (
        desk(tmp_path / "data") as empty,
        listening(empty.app) as address,
        page_of(browser, address, NAMES[Role.ADMIN], PASSWORD, reduced_motion="reduce") as page,
    ):
        page.get_by_text("First steps").wait_for()
        assert faults(page) == {}


def test_a_fault_would_be_found(browser: "Browser", address: str) -> None:
    page = browser.new_page()
    page.goto(f"{address}/login")
    page.evaluate("document.querySelector('h1').style.color = '#ccc'")
    page.evaluate("document.documentElement.removeAttribute('lang')")
    assert [line.partition(":")[0] for line in faults(page)["light"]] == ["color-contrast", "html-has-lang"]
    page.close()
