"""Secrets: read where they are kept, shown to nobody."""

import os
from pathlib import Path

import pytest

from magickbox.destination import Secret
from magickbox.errors import ConfigError
from magickbox.secret import reveal


def test_a_secret_is_read_from_the_environment_or_a_file(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_bytes(b"s3cret-t\xc3\xb6ken\r\n")
    assert reveal(Secret("env:TOKEN"), {"TOKEN": "s3cret"}).text == "s3cret"
    assert reveal(Secret(f"file:{file}")).text == "s3cret-t\xf6ken"


def test_what_is_revealed_shows_itself_to_nobody() -> None:
    revealed = reveal(Secret("env:TOKEN"), {"TOKEN": "s3cret"})
    for shown in (repr(revealed), str(revealed), f"{revealed}", repr([revealed]), f"{Secret('env:TOKEN')}"):
        assert "s3cret" not in shown


def test_why_there_is_none_is_said_without_it(tmp_path: Path) -> None:
    files = {"empty": b"\n", "binary": b"s3cret\xff", "control": b"s3cret\r\nX-Admin: 1", "long": b"s3cret " * 20_000}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    os.mkfifo(tmp_path / "pipe")
    said = []
    for source in ("env:NONE", "env:EMPTY", *(f"file:{tmp_path}/{name}" for name in (*files, "pipe", "gone", "."))):
        if source.endswith("long"):
            continue
        with pytest.raises(ConfigError) as caught:
            reveal(Secret(source), {"EMPTY": ""})
        said.append(str(caught.value))
    assert "s3cret" not in "".join(said)
    assert len(set(said)) == len(said)


def test_a_file_that_is_too_long_is_cut_off(tmp_path: Path) -> None:
    (tmp_path / "long").write_bytes(b"x" * 1_000_000)
    assert len(reveal(Secret(f"file:{tmp_path}/long")).text) == 64 * 1024
