"""In a browser: the first log-in, the first steps and the first result, by hand and by keyboard, on a real box."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from boxprocess import send, until
from browser import chromium
from peers import item_of, sample
from webbox import Serving, heard_of, serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

PASSWORD = "a good long one"


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    with chromium() as found:
        yield found


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Serving]:
    with serving(tmp_path / "data", people=False) as found:
        yield found


def watched(context: "BrowserContext") -> tuple["Page", list[str], list[int]]:
    """A page, what its console complains of, and how much each of its answers weighs."""
    page, trouble, weights = context.new_page(), list[str](), list[int]()
    page.on("console", lambda said: trouble.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on("requestfinished", lambda request: weights.append(request.sizes()["responseBodySize"]))
    return page, trouble, weights


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_from_the_link_to_the_first_result(browser: "Browser", box: Serving, width: int, scheme: str) -> None:
    until(lambda: any("first log-in" in line for line in box.said), what="the link")
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]
    page, trouble, weights = watched(context)
    page.goto(heard_of(box, r"first log-in: (\S+)"))
    page.keyboard.type("chief")  # the first field has the focus
    for _ in range(2):
        page.keyboard.press("Tab")
        page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(r"/$"))
    weights.clear()
    page.reload()
    page.get_by_role("button", name="Make the processor EXAMPLE").click()
    page.get_by_role("button", name="Use this rule").click()
    page.get_by_text("The box has rules.").wait_for()
    assert sum(weights) < 300_000, sum(weights)
    until(lambda: "1 rule is in force" in (box.root / "logs/routing.log").read_text(), what="the rule")
    send(box.port, [item_of(sample("CT_small.dcm"))], called="EXAMPLE", calling="CT1")
    page.locator("a", has_text="results").wait_for(timeout=60_000)  # by itself, without a reload
    until(lambda: any((box.root / "results").rglob("*.dcm")), 60, "the result")
    page.locator("li", has_text="DONE").get_by_text("1").wait_for(timeout=60_000)
    assert page.get_by_text("First steps").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    page.get_by_role("button", name="Log out").click()
    page.get_by_role("heading", name="Log in").wait_for()
    assert trouble == []
    context.close()


def test_settings_users_and_account_by_hand(browser: "Browser", box: Serving) -> None:
    until(lambda: any("first log-in" in line for line in box.said), what="the link")
    context = browser.new_context(viewport={"width": 390, "height": 800})
    page, trouble, _ = watched(context)
    page.goto(heard_of(box, r"first log-in: (\S+)"))
    for label, text in (("Name", "chief"), ("Password, at least", PASSWORD), ("The password again", PASSWORD)):
        page.get_by_label(label).fill(text)
    page.get_by_role("button", name="Set the password").click()
    page.get_by_role("link", name="Settings").click()
    page.get_by_label("Host of the PACS").fill("pacs.example.org")
    page.get_by_role("button", name="Save").first.click()
    page.get_by_text("Saved; in force: me.").wait_for()
    page.get_by_role("link", name="Users").click()
    page.get_by_label("Name").fill("mueller")
    page.get_by_role("button", name="Add").click()
    link = page.locator("#link").inner_text()
    page.on("dialog", lambda dialog: dialog.accept())
    page.goto(f"{box.address}/users")
    page.get_by_role("row", name="mueller").get_by_role("button", name="Remove").click()
    page.wait_for_function("!document.body.innerText.includes('mueller')")
    page.get_by_role("link", name="Audit").click()
    page.get_by_text("remove user").wait_for()
    page.get_by_role("link", name="chief").click()
    page.get_by_label("What it is for").fill("dashboard")
    page.get_by_role("button", name="Make it").click()
    assert page.locator("#made").inner_text().startswith("mbx_")
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert trouble == []
    answer = page.goto(link)  # that of somebody who is gone
    assert answer is not None
    assert answer.status == 404
    context.close()
