"""How pages write what images and logs say."""

import pytest

from magickbox.web.pages.wording import day, element, joblinks, logtime, person


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Müller^Jörg", "Müller, Jörg"), ("A^B^C^Dr^Jr", "A, B C Dr Jr"), ("Plain", "Plain"), ("^Given", "Given"),
        ("", ""), ("Yamada^Tarou=山田^太郎", "Yamada, Tarou"), ("hidden", "hidden"), ("^^^^", "^^^^"),
    ],
)  # fmt: skip
def test_a_name_is_written_as_people_do(name: str, said: str) -> None:
    assert person(name) == said


def test_dates_and_elements_are_written_as_people_do() -> None:
    assert day("20260312") == "2026-03-12"
    assert [day(text) for text in ("", "2026", "hidden", "2026031x")] == ["", "2026", "hidden", "2026031x"]
    assert element("0008,0060") == "Modality (0008,0060)"
    assert element("0008,0060/0009,1001") == "Modality (0008,0060) / 0009,1001"
    assert element("Anything") == "Anything"
    assert logtime("no time") == "no time"
    assert logtime("") == ""


def test_jobs_in_a_log_are_links_and_nothing_else_is_markup() -> None:
    job = "20260312T171245Z-ProcRSI-7f3a"
    assert joblinks(f'job={job} to="<b>"') == f'job=<a href="/jobs/{job}">{job}</a> to=&#34;&lt;b&gt;&#34;'
    assert "<a" not in joblinks(f"jobs={job}x job=../../etc")
