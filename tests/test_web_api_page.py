"""The page that tells of the API: every call of the description is on it, with an example that is real JSON."""

import json
from html import unescape
from pathlib import Path

from webbox import desk

from magickbox.web.apiguide import calls_by_subject
from magickbox.web.principal import Role


def test_every_call_is_told_with_what_it_takes_and_gives(tmp_path: Path) -> None:
    with desk(tmp_path / "data") as office:
        described = office.app.openapi()
        page = office.client(Role.VIEWER).get("/api")
    told = [call for calls in calls_by_subject(described).values() for call in calls]
    every = {(method.upper(), path) for path, methods in described["paths"].items() for method in methods}
    assert {(call.method, call.path) for call in told} == every
    assert len(every) == len(told) > 40
    text = unescape(page.text)
    for call in told:
        assert f'<details id="{call.id}">' in text
        assert call.summary
        assert call.summary in text
        if call.gives_kind == "application/json":
            assert call.gives is not None, call
            assert json.loads(call.gives) not in (None, {}, []), call
            assert call.gives in text
    (token,) = (call for call in told if (call.method, call.path) == ("POST", "/api/v1/tokens"))
    assert token.takes is not None
    assert json.loads(token.takes) == {"label": "dashboard", "scope": "read", "days": 90}
    (listing,) = (call for call in told if (call.method, call.path) == ("GET", "/api/v1/jobs"))
    assert next(each.about for each in listing.parameters if each.name == "state") == "of these states"
    assert "http" not in text.partition("<main")[2].replace("http://127.0.0.1:8080", "").partition("<details")[0]
