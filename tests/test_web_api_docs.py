"""docs/api.md names every metric, and the description of the API says how one proves who one is."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from webbox import Serving, serving

CHAPTER = (Path(__file__).parent.parent / "docs" / "api.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serving(tmp_path_factory.mktemp("box") / "data") as found:
        yield found


def test_every_metric_is_named_and_every_name_is_one(box: Serving) -> None:
    told = box.client().get("/metrics").text
    there = set(re.findall(r"^# TYPE (\w+)", told, re.MULTILINE)) - {"magickbox_build_info"}
    rows = CHAPTER.partition("| metric |")[2].partition("\n\n")[0]
    named = set(re.findall(r"`(magickbox_\w+)`", rows))
    named |= {f"magickbox_received{tail}" for tail in re.findall(r"`(_\w+)`", rows)}
    assert named == there


def test_the_description_says_how_to_prove_who_one_is(box: Serving) -> None:
    described = box.client().get("/api/v1/openapi.json").json()
    assert set(described["components"]["securitySchemes"]) == {"token", "session"}
    assert described["paths"]["/api/v1/status"]["get"]["security"] == [{"token": []}, {"session": []}]
    assert "security" not in described["paths"]["/healthz"]["get"]
