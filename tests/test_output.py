"""What a command prints reaches any terminal."""

import io
import sys

import pytest

from magickbox.cli.output import complain, never_fail_to_print, print_json, print_table


@pytest.mark.parametrize("charset", ["ascii", "latin-1", "utf-8"])
def test_a_terminal_without_the_characters_gets_them_spelled(charset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding=charset) for _ in range(2))
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    never_fail_to_print()
    print_json({"name": "Ω \ud800"})
    print_table(["A", "B"], [["Ω", "…"]], "none")
    complain("Ω \udcff")
    out.seek(0)
    assert ("Ω" if charset == "utf-8" else "\\u03a9") in out.read()
