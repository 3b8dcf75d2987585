"""Files through the window into a real box, and zips that mean no good."""

import io
import os
import struct
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2 as httpx
import peers
import pytest
from boxprocess import all_jobs, until
from hypothesis import given, settings
from hypothesis import strategies as st
from studies import study
from webbox import Serving, desk, serving

from magickbox.web import unpacking
from magickbox.web.principal import Role
from magickbox.web.unpacking import Member, NotUnpacked, members

AT = "/api/v1/uploads"


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serving(tmp_path_factory.mktemp("box") / "data") as found:
        yield found


@pytest.fixture
def client(box: Serving) -> httpx.Client:
    return box.client(Role.OPERATOR)


def begun(client: httpx.Client, called: str = "Proc") -> str:
    """A new upload."""
    answer = client.post(AT, json={"called_ae": called})
    assert answer.status_code == 201, answer.text
    return f"{AT}/{answer.json()['id']}"


def bring(client: httpx.Client, upload: str, *files: tuple[str, bytes]) -> None:
    """Files into it."""
    for number, (name, content) in enumerate(files):
        answer = client.put(f"{upload}/files/{number}", params={"name": name}, content=content)
        assert answer.status_code == 204, answer.text


def sent(client: httpx.Client, upload: str) -> dict[str, Any]:
    """Send it and wait for its end; what it came to."""
    assert client.post(f"{upload}/send").status_code == 202
    until(lambda: client.get(upload).json()["state"] == "done", what="the end of the upload")
    return dict(client.get(upload).json())


def zipped(**files: bytes) -> bytes:
    """A zip; two underscores in a name stand for a slash."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name.replace("__", "/"), content)
    return out.getvalue()


def why(found: dict[str, Any], name: str) -> str:
    """What was said of a file."""
    (result,) = [each for each in found["results"] if each["name"] == name]
    assert result["what"] != "stored"
    return str(result["why"])


def test_files_become_a_job_and_of_each_it_is_said_what_came_of_it(
    box: Serving, client: httpx.Client, tmp_path: Path
) -> None:
    items = study(tmp_path, 6)
    whole = [item.path.read_bytes() for item in items]
    evil = zipped(__etc__passwd=whole[4], **{"..__..__evil.dcm": whole[5], "inner.zip": zipped(a=b"a"), "note": b"n"})
    upload = begun(client, "Fresh")
    bring(
        client, upload, *((f"folder/{n}.dcm", whole[n]) for n in range(4)), ("README.txt", b"hello"),
        ("all.zip", evil), ("DICOMDIR", peers.sample("DICOMDIR").read_bytes()), ("cut.zip", evil[:-30]),
    )  # fmt: skip
    found = sent(client, upload)
    assert (found["stored"], found["refused"], found["skipped"]) == (6, 0, 5), found
    assert "no DICM prefix" in why(found, "README.txt")
    assert "no DICM prefix" in why(found, "all.zip: note")
    assert why(found, "all.zip: inner.zip") == "a zip inside a zip is not opened"
    assert "DICOMDIR" in why(found, "DICOMDIR")
    assert "cut off" in why(found, "cut.zip")
    until(lambda: any(job.called_ae == "Fresh" for job in all_jobs(box.root)), what="the job")
    (job,) = [job for job in all_jobs(box.root) if job.called_ae == "Fresh"]
    assert (job.calling_ae, job.instances) == ("MAGICKBOX-WEB", 6)
    received = sorted(path.read_bytes()[132:][-8192:] for path in (box.root / "jobs" / job.id / "INPUT").iterdir())
    assert received == sorted(each[-8192:] for each in whole)
    assert list((box.root / "state" / "uploads").iterdir()) == []


def test_it_is_audited_without_file_names(box: Serving, client: httpx.Client, tmp_path: Path) -> None:
    upload = begun(client, "Audited")
    bring(client, upload, ("Unspoken Name.dcm", study(tmp_path, 1)[0].path.read_bytes()))
    sent(client, upload)
    log = b"".join(path.read_bytes() for path in (box.root / "logs").iterdir())
    log += b"".join(path.read_bytes() for path in (box.root / "state").glob("window.db*"))
    assert b"Audited" in log
    assert b"Unspoken" not in log


def test_what_was_sent_or_ended_takes_no_more(client: httpx.Client, tmp_path: Path) -> None:
    upload = begun(client)
    bring(client, upload, ("a", b"a"))
    assert client.put(f"{upload}/files/0", content=b"a").status_code == 409
    assert sent(client, upload)["skipped"] == 1
    assert client.put(f"{upload}/files/1", content=b"a").status_code == 409
    assert client.post(f"{upload}/send").status_code == 409
    other = begun(client)
    assert client.delete(other).status_code == 204
    assert client.put(f"{other}/files/0", content=b"a").status_code == 409


def test_an_upload_is_its_owners(box: Serving, client: httpx.Client) -> None:
    upload = begun(client)
    admin = box.client(Role.ADMIN)
    assert admin.get(upload).status_code == 404
    assert admin.put(f"{upload}/files/0", content=b"x").status_code == 404
    assert box.client(Role.VIEWER).post(AT, json={"called_ae": "Proc"}).status_code == 403
    client.delete(upload)


def test_a_file_that_breaks_off_is_not_kept(box: Serving, client: httpx.Client) -> None:
    upload = begun(client)

    def breaking() -> Iterator[bytes]:
        yield bytes(2_000_000)
        raise RuntimeError("the cable")

    with pytest.raises(RuntimeError, match="cable"):
        client.put(f"{upload}/files/0", content=breaking())
    folder = box.root / "state" / "uploads" / upload.rpartition("/")[2]
    until(lambda: list(folder.iterdir()) == [], what="the part to go")
    until(lambda: client.get(upload).json()["files"] == 0, what="the file to be forgotten")
    client.delete(upload)
    assert not folder.exists()


def test_a_title_that_is_none_is_refused(client: httpx.Client) -> None:
    for title in ("", "   ", "seventeen chars!!", "a\\b"):
        assert client.post(AT, json={"called_ae": title}).status_code == 422


def test_a_caller_that_the_box_does_not_know_is_told(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "magickbox.toml").write_text('calling_ae_allowed = ["CT1"]\n')
    with serving(tmp_path / "data") as strict:
        client = strict.client(Role.OPERATOR)
        upload = begun(client)
        bring(client, upload, ("a.dcm", study(tmp_path / "study", 1)[0].path.read_bytes()))
        found = sent(client, upload)
        assert (found["stored"], found["refused"]) == (0, 1)
        assert "reject" in why(found, "a.dcm")


def test_a_full_disk_takes_nothing(tmp_path: Path) -> None:
    with desk(tmp_path / "data", min_free="99.99%") as office:
        answer = office.client(Role.OPERATOR).post(AT, json={"called_ae": "Proc"})
    assert answer.status_code == 507


def test_what_is_left_from_before_goes_at_the_start_and_at_the_end(tmp_path: Path) -> None:
    left = tmp_path / "data" / "state" / "uploads" / "old"
    left.mkdir(parents=True)
    (left / "0.part").write_bytes(b"x")
    with desk(tmp_path / "data", min_free="0") as office:
        assert not left.exists()
        client = office.client(Role.OPERATOR)
        bring(client, begun(client), ("a", b"a"))
        assert [path.name for path in (tmp_path / "data/state/uploads").rglob("*.part")] == ["0.part"]
    assert list((tmp_path / "data/state/uploads").iterdir()) == []


def unpacked(path: Path, most: int = 1 << 40) -> list[Member]:
    folder = path.parent / f"out{time.monotonic_ns()}"
    folder.mkdir()
    return list(members(path, folder, most, lambda _: None))


def test_a_zip_that_unpacks_to_very_much_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bomb.zip"
    path.write_bytes(zipped(a=bytes(50_000_000)))
    assert path.stat().st_size < 100_000
    monkeypatch.setattr(unpacking, "_FREELY", 10_000_000)
    with pytest.raises(NotUnpacked, match="more than is taken"):
        unpacked(path)
    monkeypatch.undo()
    with pytest.raises(NotUnpacked, match="more than is taken"):
        unpacked(path, most=10_000_000)
    assert sum(each.stat().st_size for folder in tmp_path.glob("out*") for each in folder.iterdir()) == 0
    (member,) = unpacked(path)
    assert member.path is not None
    assert member.path.stat().st_size == 50_000_000


def test_a_zip_with_very_many_files_is_not_listed(tmp_path: Path) -> None:
    path = tmp_path / "many.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(20_001):
            archive.writestr(str(number), b"")
    with pytest.raises(NotUnpacked, match="more than 20000 files"):
        unpacked(path)
    end = bytearray(zipped(a=b"a"))
    struct.pack_into("<I", end, len(end) - 10, 0xFFFF0000)
    path.write_bytes(end)
    with pytest.raises(NotUnpacked, match="more than 20000 files"):
        unpacked(path)


def test_names_in_a_zip_are_never_paths(tmp_path: Path) -> None:
    path = tmp_path / "evil.zip"
    path.write_bytes(zipped(**{"..__..__x": b"1", "__tmp__x": b"2", "x" * 5000: b"3", "a\x1b[31m": b"4"}))
    found = unpacked(path)
    assert [each.path and each.path.name for each in found] == [f"evil-{n}.part" for n in range(4)]
    assert len({each.path and each.path.parent for each in found}) == 1
    assert unpacking.shown(found[3].name) == "a?[31m"
    assert len(unpacking.shown(found[2].name)) == 200


def test_a_member_that_cannot_be_read_costs_only_itself(tmp_path: Path) -> None:
    path = tmp_path / "odd.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("lzma", b"x" * 1000, zipfile.ZIP_LZMA)
        archive.writestr("good", b"good")
        archive.writestr("broken", os.urandom(500), zipfile.ZIP_STORED)
    content = bytearray(path.read_bytes())
    content[content.index(b"broken") + 10] ^= 0xFF
    path.write_bytes(content)
    lzma, good, broken = unpacked(path)
    assert (lzma.path, broken.path) == (None, None)
    assert "not read here" in lzma.why
    assert "cannot be unpacked" in broken.why
    assert good.path is not None
    assert good.path.read_bytes() == b"good"


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=12), st.integers(0, 400))
def test_a_damaged_zip_is_a_reason_and_nothing_else(changes: list[tuple[int, int]], keep: int) -> None:
    content = bytearray(zipped(one=b"1" * 300, two=os.urandom(40), three__four=b""))
    for at, value in changes:
        content[at % len(content)] = value
    content = content[: max(4, len(content) - keep % 60)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.zip"
        path.write_bytes(content)
        with suppress(NotUnpacked):
            for member in members(path, Path(folder), 1 << 20, lambda _: None):
                assert (member.path is None) == bool(member.why)
