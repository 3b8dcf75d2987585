"""Jobs in a browser: found, followed live, explained and acted upon, on a wide screen and on a narrow one."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from boxprocess import all_jobs, send, until
from browser import chromium, listening, page_of
from officebox import EVIL, Office, open_office
from studies import study
from webbox import NAMES, PASSWORD

from magickbox.web.principal import Role

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

SLOW = "#!/bin/sh\nfor i in $(seq 1 150); do echo line $i of 150; sleep 0.2; done\n"


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory, browser: "Browser") -> Iterator[Office]:
    with open_office(tmp_path_factory.mktemp("office")) as found:
        yield found


@pytest.fixture(scope="module")
def address(office: Office) -> Iterator[str]:
    with listening(office.desk.app) as found:
        yield found


@pytest.fixture
def page(browser: "Browser", address: str) -> Iterator["Page"]:
    with page_of(browser, address, NAMES[Role.OPERATOR], PASSWORD) as found:
        yield found


def test_a_study_is_found_and_explained(page: "Page", address: str, office: Office) -> None:
    page.goto(f"{address}/jobs")
    page.get_by_label("Patient, study").fill("secret t1")
    page.get_by_label("To", exact=True).fill("copy")
    page.get_by_role("button", name="Find").click()
    page.wait_for_url("**/jobs?text=secret*")
    (row,) = page.locator("#rows tr").all()
    assert EVIL in row.inner_text()
    row.get_by_role("link").first.click()
    page.get_by_role("heading", name="What happened").wait_for()
    page.locator("#series img").first.wait_for()
    assert page.locator(".timeline li").first.inner_text().count("SCANNER calls COPY")
    page.get_by_role("link", name="Ask today's rules").click()
    page.locator("#whytable", has_text="What the rules in force would decide now").wait_for()
    table = page.locator("#whytable").inner_text()
    assert "Modality (0008,0060)" in table
    assert "Secret^Patient" in table


def test_new_jobs_and_their_end_are_seen_without_a_reload(
    page: "Page", address: str, office: Office, tmp_path: Path
) -> None:
    page.goto(f"{address}/jobs")
    before = page.locator("#rows tr").count()
    page.evaluate("window.same = true")
    page.wait_for_timeout(1500)  # the stream has begun, and its first look is over
    send(office.port, study(tmp_path / "more", 2), "COPY")
    page.wait_for_function("n => document.querySelectorAll('#rows tr').length > n", arg=before, timeout=20000)
    page.locator("#rows tr").first.locator(".badge.done").first.wait_for(timeout=20000)
    assert page.evaluate("window.same") is True


def test_the_way_of_a_job_is_seen_without_a_reload(page: "Page", address: str, office: Office, tmp_path: Path) -> None:
    script = office.root / "processors" / "LATE"
    script.write_text('#!/bin/sh\nsleep 6\necho copying\ncp "$1"/* "$2"/\n')
    script.chmod(0o755)
    send(office.port, study(tmp_path / "late", 2), "LATE")
    until(lambda: any(job.called_ae == "LATE" for job in all_jobs(office.root)), 30, "the job")
    page.goto(f"{address}/jobs/{office.job('LATE')}")
    page.locator("#whytable .empty").wait_for()
    page.evaluate("window.same = true")
    page.locator("pre[data-log]", has_text="copying").wait_for(timeout=30000)
    page.locator("#head .badge.done").wait_for(timeout=20000)
    page.locator("#whytable", has_text="Decision 1").wait_for()
    page.locator("#series .strip-part", has_text="OUTPUT").locator("img").first.wait_for()
    page.locator("#happened", has_text="receipt written").wait_for()
    assert page.evaluate("window.same") is True


def test_a_running_processor_is_followed_and_held(page: "Page", address: str, office: Office, tmp_path: Path) -> None:
    script = office.root / "processors" / "SLOW"
    script.write_text(SLOW)
    script.chmod(0o755)
    send(office.port, study(tmp_path / "slow", 1), "SLOW")
    until(lambda: any(job.state == "RUNNING" for job in all_jobs(office.root)), 30, "the run")
    (job,) = [job.id for job in all_jobs(office.root) if job.state == "RUNNING"]
    page.goto(f"{address}/jobs/{job}")
    seen = page.locator("pre[data-log]").inner_text().count("\n")
    page.wait_for_function(
        "n => document.querySelector('pre[data-log]').textContent.split('\\n').length > n + 5", arg=seen, timeout=20000
    )
    page.get_by_role("button", name="Hold").click()
    page.get_by_role("button", name="Hold").click()  # the page that asks
    page.get_by_text("to be held", exact=True).wait_for()
    page.get_by_role("button", name="Release").wait_for()


def test_several_jobs_are_chosen_and_run_again(page: "Page", address: str, office: Office) -> None:
    before = len(all_jobs(office.root))
    page.goto(f"{address}/jobs?called_ae=COPY")
    page.locator("#all").check()
    chosen = page.locator("#rows input:checked").count()
    assert page.locator("#howmany").inner_text() == f"With the {chosen} chosen:"
    page.get_by_role("button", name="Run again").click()
    page.get_by_role("button", name="Rerun").click()
    page.locator("h1", has_text="Rerun: ").wait_for()
    assert chosen > 1
    until(lambda: len(all_jobs(office.root)) == before + chosen, 30, "the reruns")


def test_the_log_is_followed(page: "Page", address: str, office: Office) -> None:
    page.goto(f"{address}/log")
    page.wait_for_timeout(1500)  # the stream has begun, and its first look is over
    job = office.job("COPY")
    with (office.root / "logs" / "routing.log").open("a") as log:
        log.write(f'2026-01-01T00:00:00.000000+00:00 WARNING planted job={job} reason="{EVIL}"\n')
    line = page.locator(".logline.warning", has_text="planted")
    line.wait_for(timeout=15000)
    assert EVIL in line.inner_text()
    assert line.get_by_role("link").get_attribute("href") == f"/jobs/{job}"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_no_page_is_wider_than_its_screen(
    browser: "Browser", address: str, office: Office, width: int, scheme: str
) -> None:
    job, failed = office.job("COPY"), office.job("FAIL")
    look = {"viewport": {"width": width, "height": 900}, "color_scheme": scheme}
    with page_of(browser, address, NAMES[Role.OPERATOR], PASSWORD, **look) as page:
        for path in ("/jobs", f"/jobs/{job}", f"/jobs/{failed}", f"/jobs/{job}/why", "/deliveries/1", "/log"):
            page.goto(f"{address}{path}")
            wider = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
            assert wider <= 0, path


def test_it_works_without_javascript(browser: "Browser", address: str, office: Office) -> None:
    with page_of(browser, address, NAMES[Role.OPERATOR], PASSWORD, java_script_enabled=False) as page:
        page.goto(f"{address}/jobs?called_ae=FAIL")
        page.locator("#rows input").first.check()
        page.get_by_role("button", name="Delete").click()
        page.get_by_role("button", name="Delete").click()
        page.wait_for_url(f"{address}/jobs?called_ae=FAIL")
        page.locator(".badge.deleted, .badge.deleting").first.wait_for()
    until(lambda: not list((office.root / "jobs").glob("*-FAIL-*")), 20, "the removal")
