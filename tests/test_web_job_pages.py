"""The pages of jobs, one job, deliveries and the log: in a browser without JavaScript, and with what strangers send."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser

import pytest
from boxprocess import until
from officebox import EVIL, Office, open_office
from starlette.testclient import TestClient

from magickbox.web.principal import Role


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    with open_office(tmp_path_factory.mktemp("office")) as found:
        yield found


class Seen(HTMLParser):
    """What a browser makes of a page: its text, its elements, and its forms."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Remember it."""
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        """Remember it."""
        self.text += data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        """The elements of that name."""
        return [attrs for name, attrs in self.tags if name == tag]

    @property
    def links(self) -> list[str]:
        """Where one can go."""
        return [attrs["href"] or "" for attrs in self.of("a") if "href" in attrs]


def see(client: TestClient, path: str) -> Seen:
    """Load a page that must be there."""
    answer = client.get(path)
    assert answer.status_code == 200, answer.text
    return Seen(answer.text)


def post(client: TestClient, path: str, **values: str | list[str]) -> Seen | str:
    """Send a form as a browser does without JavaScript: the CSRF value is a field. Where it leads, or the page."""
    csrf = client.headers.pop("X-CSRF-Token")
    try:
        answer = client.post(path, data={"csrf": csrf, **values})
    finally:
        client.headers["X-CSRF-Token"] = csrf
    assert answer.status_code in (200, 303), answer.text
    return answer.headers["Location"] if answer.status_code == 303 else Seen(answer.text)


def test_every_page_is_shown_and_nothing_of_an_image_is_markup(office: Office) -> None:
    client = office.operator
    job, failed = office.job("COPY"), office.job("FAIL")
    delivery = client.get("/api/v1/deliveries", params={"job": job}).json()["items"][0]["id"]
    pages = ["/jobs", f"/jobs?text={EVIL}", f"/jobs/{job}", f"/jobs/{failed}", f"/jobs/{job}/part", f"/jobs/{job}/why"]
    pages += [
        f"/jobs/{job}/series",
        f"/jobs/{job}/why?when=decided",
        f"/deliveries/{delivery}",
        "/log",
        f"/log?job={job}",
        f"/log?job={EVIL}",
    ]
    for path in pages:
        seen = see(client, path)
        scripts = seen.of("script")
        assert all(set(attrs) <= {"type", "src", "defer"} and attrs.get("src") for attrs in scripts), path
        assert not [attrs for _, attrs in seen.tags if any(name.startswith("on") or name == "style" for name in attrs)]
    seen = see(client, f"/jobs/{job}")
    assert EVIL in seen.text
    assert "Secret, Patient" in seen.text
    assert EVIL in see(client, f"/jobs/{failed}").text
    assert EVIL in see(client, "/jobs").text


def test_links_of_a_page_lead_somewhere(office: Office) -> None:
    client, job = office.operator, office.job("COPY")
    tried = set()
    for page in ("/jobs", f"/jobs/{job}", "/log"):
        for link in see(client, page).links:
            if link.startswith(("/jobs", "/deliveries", "/api/", "/log")) and link not in tried:
                tried.add(link)
                assert client.get(link).status_code == (
                    404 if link.endswith("delivery.json") and "FAIL" in link else 200
                ), link
    assert len(tried) > 12


def test_names_are_hidden_on_pages_as_well(office: Office) -> None:
    client, job, failed = office.blind, office.job("COPY"), office.job("FAIL")
    delivery = client.get("/api/v1/deliveries", params={"job": job}).json()["items"][0]["id"]
    for path in (
        "/jobs",
        f"/jobs/{job}",
        f"/jobs/{failed}",
        f"/jobs/{job}/part",
        f"/jobs/{job}/why",
        f"/deliveries/{delivery}",
    ):
        text = client.get(path).text
        assert "Secret" not in text
        assert "alert" not in text
        assert "1970-01-31" not in text
    seen = see(client, f"/jobs/{failed}")
    assert "hidden" in seen.text
    assert [attrs for attrs in seen.of("button") if attrs.get("name") == "verb"] == []
    assert [link for link in seen.links if "zip" in link or "processing.log" in link] == []


def test_a_filter_is_in_the_address_and_in_the_form(office: Office) -> None:
    seen = see(office.operator, "/jobs?text=secret&called_ae=fail&state=ATTENTION&state=DONE")
    fields = {
        attrs["name"]: attrs.get("value") for attrs in seen.of("input") if attrs.get("name") not in (None, "state")
    }
    assert (fields["text"], fields["called_ae"]) == ("secret", "fail")
    assert [attrs["value"] for attrs in seen.of("input") if attrs.get("name") == "state"] == ["ATTENTION", "DONE"]
    assert [link for link in seen.links if re.fullmatch(r"/jobs/\S+-FAIL-\w+", link)]
    assert not [link for link in seen.links if "-COPY-" in link]
    assert "/jobs?text=secret&called_ae=fail&state=DONE" in seen.links
    assert "No job fits" in see(office.operator, "/jobs?text=nobody").text


@pytest.mark.parametrize(
    "path", ["/jobs/nobody", "/jobs/nobody/why", "/deliveries/99999", "/jobs?cursor=x", "/jobs?since=x"]
)
def test_what_is_not_there_is_a_page_that_says_so(office: Office, path: str) -> None:
    answer = office.operator.get(path)
    assert answer.status_code in (400, 404, 422)
    assert "<h1>" in answer.text


def test_several_jobs_are_done_with_after_a_question(office: Office) -> None:
    client, job = office.operator, office.job("COPY")
    asked = post(client, "/jobs/do", verb="rerun", job=[job, "nobody"], back="/jobs?text=secret")
    assert isinstance(asked, Seen)
    assert "rerun 2 jobs?" in asked.text.lower()
    done = post(client, "/jobs/do", verb="rerun", job=[job, "nobody"], back="/jobs?text=secret", sure="yes")
    assert isinstance(done, Seen)
    assert "1 of 2 jobs" in done.text
    assert "there is no job nobody" in done.text
    assert "/jobs?text=secret" in done.links
    (new,) = client.get(f"/api/v1/jobs/{job}").json()["successors"]
    until(lambda: client.get(f"/api/v1/jobs/{new}").json()["job"]["state"] == "DONE", 30, "the rerun")
    assert post(client, "/jobs/do", verb="delete", job=[new], back=f"/jobs/{new}", sure="yes") == f"/jobs/{new}"
    assert "deleted" in see(client, f"/jobs/{new}").text
    assert post(client, "/jobs/do", verb="delete", back="https://elsewhere") == "/jobs"
    assert client.post("/jobs/do", data={"verb": "explode", "job": [job]}).status_code == 422
    assert client.post("/jobs/do", data={"verb": "hold", "job": [str(n) for n in range(201)]}).status_code == 422


def test_a_refusal_is_told(office: Office) -> None:
    client, job = office.operator, office.job("COPY")
    told = post(client, "/jobs/do", verb="release", job=[job], sure="yes", back="/jobs")
    assert isinstance(told, Seen)
    assert "cannot take the step" in told.text
    delivery = client.get("/api/v1/deliveries", params={"job": job}).json()["items"][0]["id"]
    assert client.post(f"/deliveries/{delivery}/cancel").status_code == 409


def test_older_jobs_come_as_rows_for_htmx_and_as_a_page_without(office: Office) -> None:
    client = office.operator
    first = client.get("/api/v1/jobs", params={"limit": 1}).json()
    older = f"/jobs?cursor={first['next']}"
    page, rows = client.get(older).text, client.get(older, headers={"HX-Request": "true"}).text
    assert "<html" in page
    assert "<html" not in rows
    assert rows.lstrip().startswith("<tr")
    boxes = [attrs["value"] for attrs in Seen(rows).of("input")]
    assert boxes
    assert first["items"][0]["id"] not in boxes
    assert boxes == [attrs["value"] for attrs in Seen(page).of("input") if attrs.get("name") == "job"]


def test_those_who_only_look_have_nothing_to_press(office: Office) -> None:
    client = office.desk.client(Role.VIEWER)
    assert not [attrs for attrs in see(client, "/jobs").of("button") if attrs.get("name") == "verb"]
    assert not see(client, f"/jobs/{office.job('COPY')}").of("form")[1:]
