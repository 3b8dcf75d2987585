"""Folders as destinations: what tags may contain, what may be there already, and what the disk may do."""

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmread
from studies import study
from test_full_disk import small_disk as small_disk

from magickbox.destination import Delivered, FolderDestination, Rejected, Result, Retry
from magickbox.folders import store
from magickbox.folders.store import PARTS, FolderSender
from magickbox.pathpattern import DEFAULT_PATTERN, parse_path_pattern, safe
from magickbox.sender import Item, Session
from magickbox.tagpath import parse_tag_path

NASTY = ["..", ".", "../../etc/passwd", "/etc/passwd", "a/b", "a\\b", "a\0b", "a\nb", "CON", "nul.txt", "",
         " ", "x" * 500, ".hidden", "a.", "ü" * 300, "A:B", "\u202egpj.exe", "\ud800", "COM1", "~", "*?",
         "e\u0301"]  # fmt: skip


@contextmanager
def open_folder(top: Path, pattern: str = DEFAULT_PATTERN) -> Iterator[Session]:
    session = FolderSender().connect(FolderDestination(str(top), pattern), [], "job")
    assert not isinstance(session, Retry), session
    with session:
        yield session


@pytest.fixture
def top(tmp_path: Path) -> Path:
    folder = tmp_path / "share"
    folder.mkdir()
    return folder


@pytest.fixture
def item(tmp_path: Path) -> Item:
    return study(tmp_path / "study", 1)[0]


def files(top: Path) -> list[str]:
    """What lies there, without the folder in which files grow, which has to be empty."""
    assert list((top / PARTS).iterdir()) == []
    return sorted(str(path.relative_to(top)) for path in top.rglob("*") if path.is_file())


def changed(item: Item, folder: Path, **tags: Any) -> Item:
    ds = dcmread(item.path)
    for keyword, value in tags.items():
        setattr(ds, keyword, value)
    path = folder / "changed.dcm"
    ds.save_as(path)
    return Item(path, item.sop_class, item.sop_instance, item.transfer_syntax)


def test_an_instance_goes_where_its_tags_say(top: Path, item: Item) -> None:
    with open_folder(top, "{PatientID}/{Modality}-{0008,103e}/{SOPInstanceUID}.dcm") as session:
        assert session.send(item) == Delivered()
    assert files(top) == [f"SECRET-ID/MR-T1 test/{item.sop_instance}.dcm"]
    assert (top / files(top)[0]).read_bytes() == item.path.read_bytes()


@given(st.text() | st.sampled_from(NASTY), st.text() | st.sampled_from(NASTY))
def test_whatever_tags_contain_names_stay_names(one: str, other: str) -> None:
    tags = parse_tag_path("PatientID"), parse_tag_path("StudyDescription")
    names = parse_path_pattern("{PatientID}/{StudyDescription}{PatientID}/x.dcm").fill(
        dict(zip(tags, (one, other), strict=True))
    )
    assert len(names) == 3
    for name in names:
        assert 0 < len(name.encode()) <= 255
        assert name.isprintable()
        assert not set(name) & set('/\\<>:"|?*')
        assert name not in (".", "..")
        assert name[0] != "."
        assert name[-1] not in ". "
        assert name.partition(".")[0].upper() not in ("CON", "PRN", "AUX", "NUL", "COM1", "LPT9")


@pytest.mark.parametrize("value", ["DOE^JOHN", "Müller", "12-34_5", "山田", "a b", "1.2.840.10008"])
def test_ordinary_texts_stay_as_they_are(value: str) -> None:
    assert safe(value) == value


def test_texts_that_had_to_be_changed_stay_apart() -> None:
    assert len({safe(text) for text in ("a/b", "a\\b", "a_b", "a:b", "x" * 300, "x" * 301, "..", "...")}) == 8


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("/abs/{PatientID}", "nothing empty"),
        ("a//b", "nothing empty"),
        ("", "nothing empty"),
        ("a/", "nothing empty"),
        ("../{PatientID}", "begin with a dot"),
        ("a/./b", "begin with a dot"),
        ("a/.b", "begin with a dot"),
        ("a\\b", "none of"),
        ("a\0b", "control"),
        ("{PatientID", "no partner"),
        ("PatientID}", "no partner"),
        ("{{PatientID}}", "no partner"),
        ("{PatientId}", "did you mean PatientID"),
        ("{}", "not a tag"),
        ("{PixelData}", "pixel data"),
        ("x" * 201, "at most 200"),
    ],
)
def test_patterns_that_cannot_be(pattern: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_path_pattern(pattern)


def test_a_patient_who_is_a_path_stays_below_the_folder(tmp_path: Path, top: Path, item: Item) -> None:
    evil, deep = changed(item, tmp_path, PatientID="../../../evil", StudyDescription=""), top / "a" / "b"
    deep.mkdir(parents=True)
    with open_folder(deep, "{PatientID}/{StudyDescription}/{SOPInstanceUID}.dcm") as session:
        assert session.send(evil) == Delivered()
    assert not list(tmp_path.rglob("evil"))  # tmp_path/evil is where the path leads
    (name,) = files(deep)
    assert name.startswith("_.._.._evil~")
    assert "/unknown/" in name


def test_the_same_again_is_delivered_and_other_bytes_get_a_further_name(tmp_path: Path, top: Path, item: Item) -> None:
    other = changed(item, tmp_path, SeriesDescription="another")
    with open_folder(top, "{SOPInstanceUID}.dcm") as session:
        for each in (item, other, item, other, item):
            assert session.send(each) == Delivered()
    uid = item.sop_instance
    assert files(top) == sorted([f"{uid}.dcm", f"{uid}-1.dcm"])
    assert (top / f"{uid}.dcm").read_bytes() == item.path.read_bytes()
    assert (top / f"{uid}-1.dcm").read_bytes() == other.path.read_bytes()


def test_nothing_that_is_there_is_ever_overwritten(top: Path, item: Item, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "MOST_NAMES", 3)
    (top / "x.dcm").write_bytes(item.path.read_bytes()[:-1] + b"?")
    (top / "x-1.dcm").symlink_to(item.path)
    (top / "x-2.dcm").mkdir()
    before = (top / "x.dcm").read_bytes()
    with open_folder(top, "x.dcm") as session:
        result = session.send(item)
        assert result == Rejected("3 other files have that name already")
        assert session.is_open
    assert (top / "x.dcm").read_bytes() == before
    assert (top / "x-1.dcm").is_symlink()


def test_links_below_the_folder_are_not_followed(tmp_path: Path, top: Path, item: Item) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (top / "SECRET-ID").symlink_to(elsewhere)
    with open_folder(top) as session:
        result = session.send(item)
        assert isinstance(result, Rejected)
        assert session.is_open
    assert list(elsewhere.iterdir()) == []


def test_a_share_without_hard_links(top: Path, item: Item, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_args: object, **_more: object) -> None:
        raise OSError(errno.EPERM, "no hard links here")

    monkeypatch.setattr(os, "link", no_links)
    (top / "x.dcm").write_bytes(b"other")
    with open_folder(top, "x.dcm") as session:
        assert [session.send(item), session.send(item)] == [Delivered()] * 2
    assert files(top) == ["x-1.dcm", "x.dcm"]
    assert (top / "x-1.dcm").read_bytes() == item.path.read_bytes()


def test_a_folder_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    gone = FolderDestination(str(tmp_path / "gone"), DEFAULT_PATTERN)
    result = FolderSender().connect(gone, [], "job")
    assert result == Retry(f"{tmp_path}/gone: No such file or directory")
    assert not (tmp_path / "gone").exists()
    assert FolderSender().problems(gone) == [f"{tmp_path}/gone: there is no such folder"]


@pytest.mark.parametrize("small_disk", [1], indirect=True)
def test_a_full_disk_is_a_retry_and_leaves_nothing_half(tmp_path: Path, small_disk: Path) -> None:
    items = study(tmp_path / "study", 4, pixels=512)
    with open_folder(small_disk, "{SOPInstanceUID}.dcm") as session:
        results: list[Result] = [session.send(item) for item in items]
        assert not session.is_open
    assert results[0] == Delivered()
    assert Retry("it cannot be written: No space left on device") in results
    delivered = sum(result == Delivered() for result in results)
    assert [(small_disk / name).read_bytes() for name in files(small_disk)] == [
        item.path.read_bytes() for item in sorted(items[:delivered], key=lambda item: item.sop_instance)
    ]


def test_what_a_killed_box_left_a_day_ago_is_removed(top: Path, item: Item) -> None:
    (top / PARTS).mkdir()
    for name, age in (("old-1", 2 * store.DAY), ("young-1", 60.0)):
        path = top / PARTS / name
        path.write_text("half")
        os.utime(path, (os.stat(path).st_atime, os.stat(path).st_mtime - age))
    with open_folder(top) as session:
        assert session.send(item) == Delivered()
    assert [path.name for path in (top / PARTS).iterdir()] == ["young-1"]


def test_several_at_once_into_one_name_all_arrive(tmp_path: Path, top: Path, item: Item) -> None:
    sender, there = FolderSender(), FolderDestination(str(top), "x.dcm")
    items = study(tmp_path / "many", 8)

    def deliver(each: Item) -> None:
        session = sender.connect(there, [each], "job")
        assert not isinstance(session, Retry)
        with session:
            assert session.send(each) == Delivered()

    threads = [threading.Thread(target=deliver, args=(each,)) for each in items]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {(top / name).read_bytes() for name in files(top)} == {each.path.read_bytes() for each in items}
