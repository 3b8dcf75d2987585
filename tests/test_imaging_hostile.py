"""Files that lie, workers that die, limits: each is a reason, costs only its picture, and the next one is shown."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import peers
import psutil
import pydicom
import pytest
from compressed import image
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jobpictures import JOB, every, get, prepared, put

from magickbox.imaging.pictures import Pictures, Rendered, Unseen, Wish
from magickbox.imaging.series import Kind, Shown
from magickbox.imaging.shelf import Shelf
from magickbox.workers.pool import Limits

WHOLE = Wish("png")
US = st.sampled_from([0, 1, 2, 3, 4, 7, 8, 12, 16, 32, 64, 65535])


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Pictures]]:
    opened: list[Pictures] = []
    before = workers()

    def start(**limits: float) -> Pictures:
        data = prepared(tmp_path / f"box{len(opened)}")
        opened.append(Pictures(data, limits=Limits(**{"workers": 1, **limits})))  # type: ignore[arg-type]
        return opened[-1]

    yield start
    for each in opened:
        each.close()
    assert [each for each in workers() if each not in before] == []


def workers() -> list[psutil.Process]:
    """Our worker processes."""
    found = []
    for each in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):  # it has just ended
            found += [each] if "magickbox.imaging.worker" in each.cmdline() else []
    return found


def goes_on(pictures: Pictures) -> None:
    """Another picture is shown."""
    put(pictures.data, peers.sample("CT_small.dcm"), place="OUTPUT")
    (shown,) = every(pictures, "OUTPUT")
    assert isinstance(get(pictures, shown, Wish("png", longest=64)), Rendered)


def changed(pictures: Pictures, name: str, change: Callable[[pydicom.Dataset], None]) -> Shown:
    """One of pydicom's files with something changed, in the job."""
    ds = pydicom.dcmread(peers.sample(name))
    change(ds)
    path = pictures.data.jobs / JOB / "INPUT" / "000-changed.dcm"
    ds.save_as(path)
    return Shown("1.2", ds.SOPClassUID, 1, 1, 1, 1, Kind.IMAGE, "INPUT/000-changed.dcm")


@pytest.mark.parametrize("name", ["MR_small.dcm", "MR_small_RLE.dcm", "JPEG2000.dcm", "MR_small_jpeg_ls_lossless.dcm"])
def test_a_header_that_asks_for_gigabytes_is_refused(make: Callable[..., Pictures], name: str) -> None:
    def lie(ds: pydicom.Dataset) -> None:
        ds.Rows = ds.Columns = 65535
        ds.NumberOfFrames = 2_000_000_000

    pictures = make()
    shown = changed(pictures, name, lie)
    assert get(pictures, shown, WHOLE) == Unseen("a frame of 65535 x 65535 pixels is larger than what is shown here")
    goes_on(pictures)


def test_a_picture_that_needs_more_than_the_memory_is_a_reason(make: Callable[..., Pictures]) -> None:
    def lie(ds: pydicom.Dataset) -> None:
        ds.Rows = ds.Columns = 9000

    pictures = make(memory=400 * 1024**2)
    found = get(pictures, changed(pictures, "JPEG2000.dcm", lie), WHOLE)
    assert isinstance(found, Unseen)
    goes_on(pictures)


@pytest.mark.parametrize("keep", [0, 1, 20, 131, 200, 1000, 4000])
def test_a_file_that_is_cut_off_is_a_reason(make: Callable[..., Pictures], keep: int) -> None:
    pictures = make()
    path = pictures.data.jobs / JOB / "INPUT" / "000-changed.dcm"
    path.write_bytes(peers.sample("MR_small.dcm").read_bytes()[:keep])
    shown = Shown("1.2", "", 1, 1, 1, 1, Kind.IMAGE, "INPUT/000-changed.dcm")
    for what in (WHOLE, Wish("raw"), Wish("report"), Wish("document")):
        found = get(pictures, shown, what)
        assert isinstance(found, Unseen) or what.what == "report"
    goes_on(pictures)


@pytest.fixture(scope="module")
def steady(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pictures]:
    pictures = Pictures(prepared(tmp_path_factory.mktemp("steady")), limits=Limits(workers=1))
    yield pictures
    pictures.close()


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(
    rows=US, columns=US, samples=US, allocated=US, stored=US, signed=st.integers(0, 3),
    photometric=st.sampled_from(["MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB", "YBR_FULL", "YBR_RCT", ""]),
    frames=st.sampled_from(["", "0", "1", "2", "-1", "99999999999"]),
    window=st.sampled_from([None, ("1e400", "1"), ("nan", "nan"), ("0", "0"), ("", ""), ("5\\6", "7")]),
)  # fmt: skip
def test_whatever_the_header_says_there_is_a_picture_or_a_reason(
    steady: Pictures, rows: int, columns: int, samples: int, allocated: int, stored: int, signed: int,
    photometric: str, frames: str, window: tuple[str, str] | None,
) -> None:  # fmt: skip
    def lie(ds: pydicom.Dataset) -> None:
        ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.BitsAllocated, ds.BitsStored = (
            rows,
            columns,
            samples,
            allocated,
            stored,
        )
        ds.HighBit, ds.PixelRepresentation, ds.PhotometricInterpretation = max(stored, 1) - 1, signed, photometric
        with pydicom.config.disable_value_validation():
            ds._dict[pydicom.tag.Tag(0x00280008)] = raw(0x00280008, "IS", frames)
            if window is not None:
                ds._dict[pydicom.tag.Tag(0x00281050)] = raw(0x00281050, "DS", window[0])
                ds._dict[pydicom.tag.Tag(0x00281051)] = raw(0x00281051, "DS", window[1])

    shown = changed(steady, "MR_small.dcm", lie)
    before = {each.pid for each in workers()}
    for wish in (WHOLE, Wish("raw")):
        found = get(steady, shown, wish)
        assert isinstance(found, Rendered) or found.reason
    assert not before or {each.pid for each in workers()} == before  # a wrong header ends no process


def raw(tag: int, vr: str, text: str) -> pydicom.dataelem.RawDataElement:
    """An element whose value nobody has checked."""
    value = text.encode() + b" " * (len(text) % 2)
    return pydicom.dataelem.RawDataElement(pydicom.tag.Tag(tag), vr, len(value), value, 0, False, True, True)


@pytest.mark.parametrize("name", ["MR_small_RLE.dcm", "JPEG2000.dcm", "MR_small_jpeg_ls_lossless.dcm",
                                  "SC_rgb_dcmtk_+eb+cr.dcm"])  # fmt: skip
def test_damaged_code_streams_end_no_more_than_their_picture(make: Callable[..., Pictures], name: str) -> None:
    pictures, random = make(), np.random.default_rng(5)
    whole = peers.sample(name).read_bytes()
    path = pictures.data.jobs / JOB / "INPUT" / "000-changed.dcm"
    shown = Shown("1.2", "", 1, 1, 1, 1, Kind.IMAGE, "INPUT/000-changed.dcm")
    for _ in range(15):
        data = bytearray(whole)
        for at in random.integers(len(data) - min(2000, len(data) // 3), len(data), 8):
            data[at] = random.integers(256)
        path.write_bytes(data)
        assert isinstance(get(pictures, shown, WHOLE), Rendered | Unseen)
    goes_on(pictures)


def slow(pictures: Pictures, folder: Path) -> Shown:
    """A picture that takes a while."""
    folder.mkdir()
    pixels = np.random.default_rng(2).integers(0, 65536, (1, 6000, 8000)).astype(np.uint16)
    put(pictures.data, image(folder, pixels).path)
    (shown,) = every(pictures)
    return shown


def test_a_worker_that_is_killed_once_costs_nothing_and_twice_its_picture(
    make: Callable[..., Pictures], tmp_path: Path
) -> None:
    pictures = make(files=1)  # who has the file open is at work
    shown, results = slow(pictures, tmp_path / "slow"), list[Rendered | Unseen]()
    killed: list[int] = []
    for kills in (1, 2):
        wish = Wish("png", window=(100, kills))
        asking = threading.Thread(target=ask, args=(results, pictures, shown, wish))
        asking.start()
        for _ in range(kills):
            killed.append(at_work(asking, shown, killed))
            os.kill(killed[-1], signal.SIGKILL)
        asking.join(60)
    assert isinstance(results[0], Rendered), results[0]
    assert results[1] == Unseen("the process that decoded it ended with SIGKILL")
    goes_on(pictures)


def test_who_kills_all_workers_costs_no_picture(make: Callable[..., Pictures], tmp_path: Path) -> None:
    pictures = make(workers=2)
    shown, results = slow(pictures, tmp_path / "slow"), list[Rendered | Unseen]()
    both = [threading.Thread(target=ask, args=(results, pictures, shown, Wish("png", window=(1, n)))) for n in (1, 2)]
    for each in both:
        each.start()
    for each in both:
        each.join(60)
    assert len(workers_of(pictures)) == 2  # idle now
    third = threading.Thread(target=ask, args=(results, pictures, shown, Wish("png", window=(1, 3))))
    third.start()
    at_work(third, shown, [])
    for worker in workers_of(pictures):
        os.kill(worker, signal.SIGKILL)
    third.join(60)
    assert all(isinstance(each, Rendered) for each in results), results


def workers_of(pictures: Pictures) -> list[int]:
    """The worker processes that keep, or kept, a file of these pictures open."""
    found = []
    for each in workers():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if any(str(pictures.data.root) in file.path for file in each.open_files()):
                found.append(each.pid)
    return found


def ask(results: list[Rendered | Unseen], pictures: Pictures, shown: Shown, wish: Wish) -> None:
    """In a thread."""
    results.append(get(pictures, shown, wish))


def at_work(asking: threading.Thread, shown: Shown, killed: list[int]) -> int:
    """The worker that has the file open."""
    while True:
        assert asking.is_alive(), "no worker was seen at work"
        for each in workers():
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                if each.pid not in killed and any(file.path.endswith(shown.file) for file in each.open_files()):
                    return each.pid


def test_what_takes_too_long_is_ended(make: Callable[..., Pictures], tmp_path: Path) -> None:
    pictures = make(seconds=0.2)
    assert get(pictures, slow(pictures, tmp_path / "slow"), WHOLE) == Unseen("it takes longer than 0.2 s to decode")


def test_two_viewers_at_once_see_the_same(make: Callable[..., Pictures]) -> None:
    pictures = make()
    put(pictures.data, peers.sample("CT_small.dcm"))
    (shown,) = every(pictures)
    found: list[Rendered | Unseen] = []
    asking = [threading.Thread(target=lambda: found.append(get(pictures, shown, WHOLE))) for _ in range(8)]
    for each in asking:
        each.start()
    for each in asking:
        each.join(30)
    assert len(found) == 8
    assert set(found) == {found[0]}
    assert isinstance(found[0], Rendered)


def test_a_link_out_of_the_job_is_not_followed(make: Callable[..., Pictures], tmp_path: Path) -> None:
    pictures = make()
    (tmp_path / "secret.dcm").write_bytes(peers.sample("CT_small.dcm").read_bytes())
    (pictures.data.jobs / JOB / "INPUT" / "link.dcm").symlink_to(tmp_path / "secret.dcm")
    assert every(pictures) == []
    shown = Shown("1.2", "", 1, 1, 1, 1, Kind.IMAGE, "INPUT/link.dcm")
    assert get(pictures, shown, WHOLE) == Unseen("its file is there no more", passing=True)
    for job in ("..", "../jobs", JOB + "/..", ""):
        assert pictures.place(job, "INPUT").series == ()


def test_the_shelf_keeps_what_was_used_last_within_its_bytes(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "shelf", 10_000, lambda: True)
    for number in range(20):
        made = shelf.place(str(number))
        made.write_bytes(bytes(1000))
        shelf.put("job", f"{number:02}", made)
        os.utime(tmp_path / "shelf/job" / f"{number:02}", (number, number))
        assert shelf.get("job", "00") is not None  # used all the time
    kept = sorted(path.name for path in (tmp_path / "shelf/job").iterdir())
    assert "00" in kept
    assert "19" in kept
    assert sum(1000 for _ in kept) == shelf.held <= 10_000
    assert list((tmp_path / "shelf").glob("making-*")) == []
    assert Shelf(tmp_path / "shelf", 10_000, lambda: True).held == shelf.held
    shelf.forget(lambda job: False)
    assert (shelf.held, list((tmp_path / "shelf").iterdir())) == (0, [])


def test_nothing_is_kept_below_the_mark_of_the_disk_but_shown(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "shelf", 10_000, lambda: False)
    made = shelf.place("x")
    made.write_bytes(b"picture")
    shelf.put("job", "x", made)
    assert shelf.get("job", "x") is None
    assert list((tmp_path / "shelf").iterdir()) == []


def test_pictures_of_a_job_that_is_gone_go_too(tmp_path: Path) -> None:
    data = prepared(tmp_path)
    left = data.state / "pictures" / "20250101T000000Z-Gone-0000"
    left.mkdir(parents=True)
    (left / "x").write_bytes(b"x")
    kept = data.state / "pictures" / JOB
    kept.mkdir()
    pictures = Pictures(data, limits=Limits(workers=1))
    peers.wait_for(lambda: not left.exists(), "the pictures to go")
    assert kept.exists()
    pictures.close()
