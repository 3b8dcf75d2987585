"""Files that lie, codecs that die, limits: each is a reason, costs only its file, and the next one goes on."""

import os
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import peers
import psutil
import pydicom
import pytest
from compressed import PACKAGES, every_file, image, syntax_of
from pydicom.encaps import encapsulate, encapsulate_extended
from pydicom.pixels.utils import pixel_array

import magickbox
from magickbox import transfersyntax as ts
from magickbox.transcoder import CannotTranscode, Transcoded
from magickbox.transcoding.pool import WorkerPool
from magickbox.workers.pool import Limits

GIB = 1024**3


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[[Limits], WorkerPool]]:
    pools: list[WorkerPool] = []

    def start(limits: Limits) -> WorkerPool:
        folder = tmp_path / f"converted{len(pools)}"
        folder.mkdir()
        pools.append(WorkerPool(folder, limits))
        return pools[-1]

    yield start
    for pool in pools:
        pool.close()
    assert workers() == []


@pytest.fixture
def pool(make: Callable[[Limits], WorkerPool]) -> WorkerPool:
    return make(Limits(workers=1))


def workers() -> list[psutil.Process]:
    """Our worker processes."""
    found = []
    for each in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):  # it has just ended
            found += [each] if "magickbox.transcoding.worker" in each.cmdline() else []
    return found


def changed(folder: Path, name: str, change: Callable[[pydicom.Dataset], None]) -> Path:
    """One of pydicom's files with something changed."""
    ds = pydicom.dcmread(peers.sample(name))
    change(ds)
    path = folder / f"changed-{name}"
    ds.save_as(path)
    return path


def goes_on(pool: WorkerPool) -> None:
    """The next file is converted."""
    assert isinstance(pool.transcode(peers.sample("MR_small_RLE.dcm"), ts.RLE, [ts.EXPLICIT_LITTLE]), Transcoded)


@pytest.mark.parametrize("syntax", sorted(ts.ENCAPSULATED))
def test_garbage_for_frames_is_a_reason(pool: WorkerPool, tmp_path: Path, syntax: str) -> None:
    random = np.random.default_rng(7)
    starts = {ts.RLE: b"", ts.JPEG_LS: b"\xff\xd8\xff\xf7", ts.JPEG_LS_NEAR: b"\xff\xd8\xff\xf7"}
    for length in (1, 64, 5000):
        garbage = starts.get(syntax, b"\xff\xd8\xff\xc3" if syntax in ts.JPEGS else b"\xff\x4f\xff\x51")
        garbage += random.bytes(length)

        def put(ds: pydicom.Dataset, garbage: bytes = garbage) -> None:
            ds.PixelData = encapsulate([garbage])
            ds["PixelData"].is_undefined_length = True
            ds.file_meta.TransferSyntaxUID = pydicom.uid.UID(syntax)

        path = changed(tmp_path, "MR_small_RLE.dcm", put)
        assert isinstance(pool.transcode(path, syntax, [ts.EXPLICIT_LITTLE]), CannotTranscode)
    goes_on(pool)


@pytest.mark.parametrize("name", ["MR_small_RLE.dcm", "JPEG2000.dcm", "MR_small_jpeg_ls_lossless.dcm",
                                  "SC_rgb_dcmtk_+eb+cr.dcm"])  # fmt: skip
def test_damaged_code_streams_end_no_more_than_their_file(pool: WorkerPool, tmp_path: Path, name: str) -> None:
    whole, random = peers.sample(name).read_bytes(), np.random.default_rng(3)
    syntax = syntax_of(peers.sample(name))
    path = tmp_path / "damaged.dcm"
    for _ in range(25):
        data = bytearray(whole)
        for at in random.integers(len(data) - min(2000, len(data) // 3), len(data), 8):
            data[at] = random.integers(256)
        path.write_bytes(data)
        result = pool.transcode(path, syntax, [ts.EXPLICIT_LITTLE])
        assert isinstance(result, Transcoded | CannotTranscode)
    goes_on(pool)


def test_rows_and_columns_that_lie_are_found_out(pool: WorkerPool, tmp_path: Path) -> None:
    def lie(ds: pydicom.Dataset) -> None:
        ds.Rows = ds.Columns = 65535

    for name in ("MR_small_RLE.dcm", "JPEG2000.dcm", "MR_small_jpeg_ls_lossless.dcm"):
        path = changed(tmp_path, name, lie)
        result = pool.transcode(path, syntax_of(path), [ts.EXPLICIT_LITTLE])
        assert result == CannotTranscode(
            "uncompressed, its pixel data are 8589672450 bytes, more than a length field can say"
        )
    goes_on(pool)


def test_a_code_stream_that_asks_for_gigabytes_meets_the_limit(
    make: Callable[[Limits], WorkerPool], tmp_path: Path
) -> None:
    side = 30_000  # 1.8 GB

    def lie(ds: pydicom.Dataset) -> None:
        ds.Rows = ds.Columns = side
        stream = bytearray(ds.PixelData)
        at = stream.index(b"\xff\x51")
        stream[at + 6 : at + 14] = struct.pack(">II", side, side)
        stream[at + 22 : at + 30] = struct.pack(">II", side, side)
        ds.PixelData = bytes(stream)

    pool = make(Limits(memory=1 * GIB, workers=1))
    path = changed(tmp_path, "JPEG2000.dcm", lie)
    result = pool.transcode(path, ts.JPEG_2000, [ts.EXPLICIT_LITTLE])
    assert isinstance(result, CannotTranscode), result
    goes_on(pool)


@pytest.mark.parametrize(("frames", "words"), [
    (2_000_000_000, "more than a length field can say"), (100_000, "frames, its pixel data hold 1"),
    ("-1", "less than 1"), (2, "hold 1"),
])  # fmt: skip
def test_a_number_of_frames_that_lies_is_found_out(
    pool: WorkerPool, tmp_path: Path, frames: int | str, words: str
) -> None:
    def lie(ds: pydicom.Dataset) -> None:
        ds.NumberOfFrames = frames

    path = changed(tmp_path, "MR_small_RLE.dcm", lie)
    result = pool.transcode(path, ts.RLE, [ts.EXPLICIT_LITTLE])
    assert isinstance(result, CannotTranscode)
    assert words in result.reason
    goes_on(pool)


def test_native_pixels_that_do_not_fit_their_header_are_not_compressed(pool: WorkerPool, tmp_path: Path) -> None:
    def lie(ds: pydicom.Dataset) -> None:
        ds.NumberOfFrames = 1_000_000_000

    path = changed(tmp_path, "MR_small.dcm", lie)
    result = pool.transcode(path, ts.EXPLICIT_LITTLE, [ts.JPEG_2000_LOSSLESS])
    assert result == CannotTranscode("the length of its pixel data does not fit rows, columns and frames")


def test_bits_that_compression_would_lose_keep_it_from_being_done(pool: WorkerPool, tmp_path: Path) -> None:
    pixels = np.full((1, 40, 40), 0x1FFF, np.uint16)
    item = image(tmp_path, pixels, stored=12)
    result = pool.transcode(item.path, ts.EXPLICIT_LITTLE, [ts.JPEG_2000_LOSSLESS, ts.JPEG_LS, ts.RLE])
    assert isinstance(result, Transcoded)
    assert result.transfer_syntax == ts.RLE


def big(folder: Path) -> Path:
    """Something that takes a codec a while."""
    pixels = np.random.default_rng(2).integers(0, 65536, (4, 1024, 1024)).astype(np.uint16)
    return image(folder, pixels).path


def test_a_worker_that_is_killed_once_costs_nothing_and_twice_its_file(pool: WorkerPool, tmp_path: Path) -> None:
    path, results = big(tmp_path), []
    killed: list[int] = []
    for kills in (1, 2):
        asking = threading.Thread(
            target=lambda: results.append(pool.transcode(path, ts.EXPLICIT_LITTLE, [ts.JPEG_2000_LOSSLESS]))
        )
        asking.start()
        for _ in range(kills):
            while (worker := busy()) is None or worker in killed:
                assert asking.is_alive(), "no worker was seen at work"
            killed.append(worker)
            os.kill(worker, signal.SIGKILL)
        asking.join(60)
    assert isinstance(results[0], Transcoded)
    assert results[1] == CannotTranscode("the process that converted it ended with SIGKILL")
    goes_on(pool)
    assert list((tmp_path / "converted0").glob("converting-*")) == []


def busy(processes: Sequence[psutil.Process] | None = None) -> int | None:
    """The process number of a worker that is writing its file."""
    for each in workers() if processes is None else processes:
        try:
            if any("compressed" in file.path for file in each.open_files()):
                return each.pid
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return None


def test_what_takes_too_long_is_ended(make: Callable[[Limits], WorkerPool], tmp_path: Path) -> None:
    pool = make(Limits(seconds=0.3, workers=1))
    result = pool.transcode(big(tmp_path), ts.EXPLICIT_LITTLE, [ts.JPEG_2000_LOSSLESS])
    assert result == CannotTranscode("it takes longer than 0.3 s to convert")


def test_the_stop_of_the_box_ends_workers_and_those_who_wait(pool: WorkerPool, tmp_path: Path) -> None:
    path, results = big(tmp_path), []
    asking = [
        threading.Thread(target=lambda: results.append(pool.transcode(path, ts.EXPLICIT_LITTLE, [ts.JPEG_2000])))
        for _ in range(3)
    ]
    for each in asking:
        each.start()
    peers.wait_for(lambda: busy() is not None, "a worker at work")
    pool.close()
    for each in asking:
        each.join(10)
    assert results == [CannotTranscode("the box stops", passing=True)] * 3
    assert workers() == []


def test_a_worker_ends_with_the_box_even_inside_a_codec(tmp_path: Path) -> None:
    path, folder = big(tmp_path), tmp_path / "converted"
    folder.mkdir()
    program = (
        "import sys, pathlib; from magickbox.transcoding.pool import WorkerPool;"
        "WorkerPool(pathlib.Path(sys.argv[1])).transcode(pathlib.Path(sys.argv[2]), sys.argv[3], [sys.argv[4]])"
    )
    box = subprocess.Popen(
        [sys.executable, "-c", program, str(folder), str(path), ts.EXPLICIT_LITTLE, ts.JPEG_2000_LOSSLESS]
    )
    inside = psutil.Process(box.pid)
    peers.wait_for(lambda: busy(inside.children()) is not None, "the worker to begin")
    (worker,) = inside.children()
    box.kill()
    box.wait()
    peers.wait_for(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE, "the worker's end", 2.0)


def test_a_full_disk_passes(tmp_path: Path) -> None:
    folder, path = tmp_path / "disk", big(tmp_path)
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a tmpfs needs root")
    pool = WorkerPool(folder, Limits(workers=1))
    try:
        result = pool.transcode(path, ts.EXPLICIT_LITTLE, [ts.IMPLICIT_LITTLE, ts.DEFLATED])
        assert result == CannotTranscode("the file cannot be converted: No space left on device", passing=True)
        goes_on(pool)
    finally:
        pool.close()
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("table", ["basic", "extended", "none", "fragments"])
def test_frames_are_found_however_their_table_is(pool: WorkerPool, tmp_path: Path, table: str) -> None:
    pixels = np.random.default_rng(5).integers(0, 4096, (4, 40, 50)).astype(np.uint16)
    item = image(tmp_path, pixels)
    small = pool.transcode(item.path, ts.EXPLICIT_LITTLE, [ts.JPEG_LS])
    assert isinstance(small, Transcoded)
    ds = pydicom.dcmread(small.path)
    streams = list(pydicom.encaps.generate_frames(ds.PixelData, number_of_frames=4))
    if table == "extended":
        ds.PixelData, ds.ExtendedOffsetTable, ds.ExtendedOffsetTableLengths = encapsulate_extended(streams)
    else:
        ds.PixelData = encapsulate(
            streams, has_bot=table != "none", fragments_per_frame=3 if table == "fragments" else 1
        )
    ds["PixelData"].is_undefined_length = True
    ds.save_as(small.path)
    plain = pool.transcode(small.path, ts.JPEG_LS, [ts.IMPLICIT_LITTLE])
    assert isinstance(plain, Transcoded), plain
    new = pydicom.dcmread(plain.path)
    assert "ExtendedOffsetTable" not in new
    assert np.array_equal(pixel_array(new), pixels)


def test_many_frames_are_never_all_in_memory(pool: WorkerPool, tmp_path: Path) -> None:
    """200 MB of pixels there and back, frame by frame."""
    item = image(tmp_path, np.zeros((100, 1024, 1024), np.uint16))
    small = pool.transcode(item.path, ts.EXPLICIT_LITTLE, [ts.RLE])
    assert isinstance(small, Transcoded)
    item.path.unlink()
    plain = pool.transcode(small.path, ts.RLE, [ts.IMPLICIT_LITTLE])
    assert isinstance(plain, Transcoded)
    assert plain.path.stat().st_size > 200 * 1024 * 1024
    plain.path.unlink()
    (worker,) = workers()
    status = Path(f"/proc/{worker.pid}/status").read_text()
    assert int(status.partition("VmHWM:")[2].split()[0]) < 120 * 1024


def test_an_icon_that_is_compressed_too_is_said(pool: WorkerPool, tmp_path: Path) -> None:
    def add(ds: pydicom.Dataset) -> None:
        icon = pydicom.Dataset()
        icon.Rows = icon.Columns = 64
        icon.BitsAllocated = 8
        icon.PixelData = encapsulate([b"\xff\xd8\xff\xd9"])
        icon["PixelData"].VR = "OB"
        icon["PixelData"].is_undefined_length = True
        ds.IconImageSequence = [icon]

    path = changed(tmp_path, "MR_small_RLE.dcm", add)
    assert pool.transcode(path, ts.RLE, [ts.EXPLICIT_LITTLE]) == CannotTranscode("its icon image is compressed too")


def test_a_codec_that_is_not_installed_is_named(tmp_path: Path) -> None:
    """In an interpreter that finds no codecs, as on a machine with the box alone."""
    without = tmp_path / "packages"
    without.mkdir()
    for each in PACKAGES.iterdir():
        if not each.name.startswith(("rle", "imagecodecs", "openjpeg", "jpeg_ls", "pylibjpeg", "pyjpegls")):
            (without / each.name).symlink_to(each)
    program = (
        "import sys, pathlib; from magickbox.transcoding.convert import convert;"
        "from magickbox.pixels.trouble import Impossible\n"
        "try: convert(*[pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3], pathlib.Path(sys.argv[4])])\n"
        "except Impossible as exc: print(exc)"
    )
    arguments = [str(peers.sample("MR_small_RLE.dcm")), ts.RLE, ts.EXPLICIT_LITTLE, str(tmp_path)]
    paths = {"PYTHONPATH": f"{Path(magickbox.__file__).parent.parent}:{without}"}
    said = subprocess.run(
        [sys.executable, "-S", "-c", program, *arguments], check=True, capture_output=True, text=True, env=paths
    )
    assert said.stdout == f"the decoder for {ts.RLE} is not installed: install magickbox[codecs]\n"


def test_workers_work_side_by_side(make: Callable[[Limits], WorkerPool], tmp_path: Path) -> None:
    pool = make(Limits(workers=3))
    path = big(tmp_path)
    asking = [threading.Thread(target=pool.transcode, args=(path, ts.EXPLICIT_LITTLE, [ts.JPEG_LS])) for _ in range(3)]
    for each in asking:
        each.start()
    peers.wait_for(lambda: len(workers()) == 3, "three workers", 20.0)
    for each in asking:
        each.join(60)


def test_no_file_of_the_samples_was_touched() -> None:
    """Runs last in this module: the samples are there, and nobody wrote into them."""
    begun = psutil.Process().create_time()
    assert [path for path in every_file() if path.stat().st_mtime > begun and time.time() > begun] == []
