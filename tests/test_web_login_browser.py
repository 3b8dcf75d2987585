"""A log-in over http in a browser, by names as in a hospital: our own form is taken, another site's is not."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from browser import chromium, listening
from webbox import NAMES, PASSWORD, desk

from magickbox.web.principal import Role

FORM = """<!doctype html><meta name="referrer" content="{policy}"><form method="post" action="{target}">
<input name="name" value="{name}"><input name="password" value="{password}"><button>Win a prize</button></form>"""


@contextmanager
def site(page: str) -> Iterator[int]:
    """Another site, which has one page; its port."""

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(page.encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def test_over_http_only_our_own_form_logs_in(tmp_path: Path) -> None:
    viewer = NAMES[Role.VIEWER]
    with (
        desk(tmp_path / "data", web_names="box.test") as office,
        listening(office.app) as address,
        chromium("box.test", "prize.test") as browser,
    ):
        ours = address.replace("127.0.0.1", "box.test")
        for policy in ("unsafe-url", "no-referrer"):
            form = FORM.format(policy=policy, target=f"{ours}/login", name=viewer, password=PASSWORD)
            with site(form) as port:
                page = browser.new_context().new_page()
                page.goto(f"http://prize.test:{port}/")
                page.get_by_role("button").click()
                page.get_by_text("sent from another site").wait_for()
                assert page.context.cookies() == []
                page.context.close()
        page = browser.new_context().new_page()
        page.goto(f"{ours}/login")
        assert page.evaluate("isSecureContext") is False  # where browsers do not send Sec-Fetch-Site
        page.fill("[name=name]", viewer)
        page.fill("[name=password]", PASSWORD)
        page.press("[name=password]", "Enter")
        page.wait_for_url(f"{ours}/")
        page.context.close()
        page = browser.new_context().new_page()
        link = office.context.accounts.users.new_link(viewer)
        page.goto(f"{ours}/setup/{link}")
        for field in ("password", "again"):
            page.fill(f"[name={field}]", "another good one")
        page.get_by_role("button").click()
        page.wait_for_url(f"{ours}/")
        page.context.close()


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://127.0.0.1:8080", 303), ("http://prize.test", 403), ("http://127.0.0.1:9090", 403), ("null", 403),
        ("http://[", 403), ("", 403), ("https://Box.test", 303), (None, 303),
    ],
)  # fmt: skip
def test_who_posts_is_told_by_its_origin(tmp_path: Path, origin: str | None, status: int) -> None:
    with desk(tmp_path / "data", web_names="box.test") as office:
        headers = {} if origin is None else {"Origin": origin}
        form = {"name": NAMES[Role.VIEWER], "password": PASSWORD}
        assert office.client().post("/login", data=form, headers=headers).status_code == status
        link = office.context.accounts.users.new_link(NAMES[Role.VIEWER])
        form = {"password": "another good one", "again": "another good one"}
        assert office.client().post(f"/setup/{link}", data=form, headers=headers).status_code == status
