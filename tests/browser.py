"""Debian's Chromium, driven by Playwright, against a window that runs on this machine."""

import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn
from fastapi import FastAPI

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
]  # fmt: skip


@contextmanager
def chromium(*names: str) -> Iterator["Browser"]:
    """A browser without a screen, to which these names are this machine and no other exists; without one skip, but
    fail in CI."""
    known = ", ".join([*(f"MAP {name} 127.0.0.1" for name in names), "MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"])
    program = shutil.which("chromium")
    if program is None:
        missing = "Debian's chromium is not installed"
        if os.environ.get("CI", "").casefold() == "true":
            pytest.fail(f"{missing}, and CI has to have it")
        pytest.skip(missing)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program, headless=True, args=[*ARGUMENTS, f"--host-resolver-rules={known}"]
        )
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def listening(app: FastAPI) -> Iterator[str]:
    """The app on a port of its own, in a thread of this process; gives its address."""
    config = uvicorn.Config(app, port=0, log_level="error", lifespan="off", ws="none", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)


@contextmanager
def page_of(browser: "Browser", address: str, name: str, password: str, **context: Any) -> Iterator["Page"]:
    """A page that is logged in; what goes wrong in its scripts fails the test, and so does a console that is not clean.

    ``noisy=True`` is for a test in which something is refused, which the console tells.
    """
    noisy = context.pop("noisy", False)
    opened = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **context})
    page = opened.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda said: wrong.append(said.text) if said.type == "error" and not noisy else None)
    page.goto(f"{address}/login")
    page.fill("[name=name]", name)
    page.fill("[name=password]", password)
    page.press("[name=password]", "Enter")
    page.wait_for_url(f"{address}/")
    yield page
    opened.close()
    assert wrong == [], wrong
