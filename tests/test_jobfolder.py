"""Removing a folder: however deep, whatever refuses, and nothing beyond it."""

import os
from pathlib import Path

import pytest

from magickbox.jobfolder import remove_tree


def dig(top: Path, levels: int, name: str) -> None:
    """Folders in one another, deeper than a path may be long."""
    here = os.open(top, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir(name, dir_fd=here)
        inner = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=here))
        os.close(here)
        here = inner
    os.close(here)


@pytest.mark.parametrize("name", ["d", "d" * 200])
def test_a_deep_folder_goes(tmp_path: Path, name: str) -> None:
    top = tmp_path / "top"
    (top / "beside").mkdir(parents=True)
    dig(top, 3000, name)
    remove_tree(top)
    assert os.listdir(tmp_path) == []


def test_what_refuses_goes_and_links_are_not_followed(tmp_path: Path) -> None:
    outside, top = tmp_path / "outside", tmp_path / "top"
    for folder in (outside, top / "a" / "b", top / "c"):
        folder.mkdir(parents=True)
    (outside / "kept").write_text("kept")
    (top / "a" / "b" / "link").symlink_to(outside)
    (top / "link").symlink_to(outside)
    (top / "a" / "b" / "file").write_text("x")
    os.mkfifo(top / "c" / "pipe")
    for folder in (top / "a" / "b", top / "a", top / "c", top):
        folder.chmod(0)
    remove_tree(top)
    assert os.listdir(tmp_path) == ["outside"]
    assert (outside / "kept").read_text() == "kept"


def test_a_link_in_a_folders_place_goes_alone(tmp_path: Path) -> None:
    outside, link = tmp_path / "outside", tmp_path / "link"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    link.symlink_to(outside)
    remove_tree(link)
    remove_tree(tmp_path / "never was")
    assert os.listdir(tmp_path) == ["outside"]
    assert os.listdir(outside) == ["kept"]
