"""A whole round with DCMTK on both sides: storescu and echoscu call a running box, storescp takes what it routes."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import peers
import pydicom
import pytest
from pydicom.uid import UID

from magickbox.dicom.header import read_file_meta

pytestmark = pytest.mark.peer

# Each file, and how storescu is told to propose its transfer syntax.
SENT = {
    "CT_small.dcm": "-x=",
    "MR_small_bigendian.dcm": "-xb",
    "emri_small_RLE.dcm": "-xr",
    "SC_rgb_jpeg_dcmtk.dcm": "-xy",
    "JPEG2000.dcm": "-xw",
    "image_dfl.dcm": "-xd",
    "test-SR.dcm": "-x=",
}


@dataclass
class Box:
    """A running ``magickbox serve``."""

    data: Path
    port: int

    def call(self, tool: str, *options: str) -> None:
        """Let one of DCMTK's tools call it; it must succeed."""
        command = [peers.dcmtk(tool), "-aec", "ROUND", "-aet", "DCMTK", *options]
        environment = {**os.environ, "TCP_NODELAY": "1"}
        said = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=False)
        assert said.returncode == 0, said.stderr

    def send(self, name: str) -> None:
        """C-STORE a file of pydicom's in its own transfer syntax."""
        self.call("storescu", SENT[name], "127.0.0.1", str(self.port), str(peers.sample(name)))

    def inputs(self) -> dict[str, Path]:
        """What was received, by SOP Instance UID."""
        return {path.stem: path for path in (self.data / "jobs").glob("*/INPUT/*.dcm")}


@contextmanager
def serving(data: Path, destination: int) -> Iterator[Box]:
    """A box that routes whatever it gets to that port, without a processor; ended with SIGTERM, which must go well."""
    data.mkdir()
    (data / "processors").mkdir()
    endpoint = {"IP": "127.0.0.1", "PORT": destination, "AETitleSender": "BOX", "AETitleTo": "STORESCP"}
    rule = {"name": "all", "AETitleIn": "ROUND", "RouteDirectory": "INPUT", "send": [{"none": endpoint}]}
    (data / "routing.json").write_text(json.dumps({"routing": [rule]}))
    command = [sys.executable, "-m", "magickbox.cli.main", "serve", "--data", str(data), "--host", "127.0.0.1"]
    command += ["--port", "0", "--settle", "0", "--processors", str(data / "processors")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        first = process.stdout.readline()
        assert "listening on 127.0.0.1:" in first, process.stderr.read()
        yield Box(data, int(first.split("listening on 127.0.0.1:")[1].split()[0]))
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert process.stderr.read() == ""
    finally:
        process.kill()
        process.communicate()


def dataset_of(path: Path) -> bytes:
    with path.open("rb") as stream:
        stream.seek(read_file_meta(stream).offset)
        return stream.read()


def test_a_whole_round(tmp_path: Path) -> None:
    with peers.storescp(tmp_path / "stored") as station, serving(tmp_path / "data", station.port) as box:
        box.call("echoscu", "127.0.0.1", str(box.port))
        for name in SENT:
            box.send(name)
        peers.wait_for(lambda: len(list(station.folder.iterdir())) == len(SENT), "everything to arrive", 30)
        peers.wait_for(lambda: set(station.stored()) == set(box.inputs()), "the last file to be whole")
        received, delivered = box.inputs(), station.stored()
        for name in SENT:
            original = pydicom.dcmread(peers.sample(name))
            instance = str(original.SOPInstanceUID)
            assert dataset_of(delivered[instance]) == dataset_of(received[instance]), name
            arrived = pydicom.dcmread(delivered[instance])
            assert arrived.file_meta.TransferSyntaxUID == original.file_meta.TransferSyntaxUID
            assert arrived.get("PixelData") == original.get("PixelData")
            assert arrived.StudyInstanceUID == original.StudyInstanceUID


def test_a_study_of_forty_images_becomes_one_job(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    folder.mkdir()
    for n in range(40):
        ds = pydicom.dcmread(peers.sample("CT_small.dcm" if n % 2 else "MR_small.dcm"))
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = UID(f"1.2.826.0.1.3680043.10.7.{n}")
        ds.StudyInstanceUID = UID("1.2.826.0.1.3680043.10.7")
        ds.save_as(folder / f"{n}.dcm")
    with peers.storescp(tmp_path / "stored") as station, serving(tmp_path / "data", station.port) as box:
        box.call("storescu", "+sd", "127.0.0.1", str(box.port), str(folder))
        peers.wait_for(lambda: len(list(station.folder.iterdir())) == 40, "everything to arrive", 30)
        assert len(list((box.data / "jobs").iterdir())) == 1
