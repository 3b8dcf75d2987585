"""``magickbox bench``: it runs against receivers that are here, and each figure is there. No time is judged."""

import io
import json
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pydicom
import pytest
from peers import dcmtk

from magickbox.bench import errand, objects, send, trial, wire
from magickbox.bench.figures import Figures, Trial, ratio, rows_of
from magickbox.bench.linear import rates_of_tenths
from magickbox.bench.receive import STUDY, datasets
from magickbox.bench.receivers import Conditions, Launch, Receiver, box, raw
from magickbox.bench.senders import Sender
from magickbox.bench.trial import Amount, Cell
from magickbox.cli.main import main
from magickbox.errors import PeerError

SMALL = objects.KINDS["small"]
NUMBERS = ("instances", "rate", "megabytes", "median", "percentile_99", "cpu", "memory", "pdu_used")


def bench(folder: Path, *options: str) -> tuple[int, dict[str, object], str]:
    """Run it; its exit code, its JSON and its report."""
    page, data = folder / "page.md", folder / "all.json"
    words = ["bench", "receive", "--quick", "--folder", str(folder), "--json", str(data), "--report", str(page)]
    code = main([*words, *options])
    return code, json.loads(data.read_text()), page.read_text()


@pytest.mark.peer
def test_every_figure_of_every_receiver_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dcmtk("storescp")
    names = ["box", "raw", "dcmtk", "pynetdicom"]
    code, found, page = bench(tmp_path, "--peers", ",".join(names), "--objects", "small", "--fsync", "on,off")
    assert code == 0
    rows = found["rows"]
    assert isinstance(rows, list)
    assert [row["receiver"] for row in rows] == names * 4  # 1 and 2 associations, each with fsync and without
    assert [(key, row) for row in rows for key in NUMBERS if not isinstance(row[key], int | float)] == []
    assert [row for row in rows if row["instances"] != 20 or row["rate"] <= 0 or row["memory"] < 10**6] == []
    assert isinstance(found["ratios"], list)
    assert len(found["ratios"]) == 3 * 4
    assert page.count("| small | 1 | 16 KB | on | ") == 1 + len(names)  # the ratios' row, and one for each receiver
    dots = ET.parse(tmp_path / "page.svg").getroot().findall(".//{*}g/{*}circle")
    assert len(dots) == len(rows)
    printed = capsys.readouterr().out
    assert "box/dcmtk" in printed
    assert printed.count("pynetdicom  ") >= 4
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == ["all.json", "page.md", "page.svg"]


def test_who_is_not_here_is_said_to_be_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    code, found, page = bench(tmp_path, "--peers", "raw,dcmtk", "--objects", "small", "--associations", "1")
    assert code == 0
    assert "- Left out: dcmtk: storescp is not installed (Debian: dcmtk)" in page
    assert isinstance(found["rows"], list)
    assert [row["receiver"] for row in found["rows"]] == ["raw"]


def test_a_setting_that_the_box_does_not_have_leaves_it_out() -> None:
    assert box({"recievers": "2"}).missing == "this version has no setting 'recievers'"
    assert box({"max_associations": "2"}).missing is None


def test_a_box_that_does_not_start_is_told_and_the_others_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--set", "max_associations=many", "--objects", "small", "--associations", "1")
    code, found, page = bench(tmp_path, "--peers", "box,raw", *options)
    assert code == 1
    assert "max_associations = 'many': must be a whole number" in capsys.readouterr().err
    assert "failed: it does not listen" in page
    assert isinstance(found["rows"], list)
    assert [row["rate"] > 0 for row in found["rows"] if "rate" in row] == [True]


def test_tenths_of_many(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, found, page = bench(tmp_path, "--linear", "100")
    growth = found["linear"]
    assert code == 0
    assert isinstance(growth, dict)
    assert growth["instances"] == 100
    assert len([rate for rate in growth["rates"] if rate > 0]) == 10
    assert "the last tenth to the first: " in capsys.readouterr().out
    assert "100 small instances over 4 associations to one box" in page


def test_tenths_are_counted_right() -> None:
    slower = [0.1 * n for n in range(1, 11)] + [1.0 + 0.2 * n for n in range(1, 11)]
    assert rates_of_tenths(slower) == pytest.approx([10.0] * 5 + [5.0] * 5)


def _losing(under: Conditions) -> Launch:
    """The raw receiver, that stores where nobody counts."""
    under.store.mkdir()
    return raw().launch(Conditions(under.store, under.port, under.pdu, 1, False, 0))


def test_an_instance_that_is_not_stored_is_found_out(tmp_path: Path) -> None:
    losing = Receiver("losing", "", _losing, raw().stored)
    cell = Cell(SMALL, 1, 16384, False)
    with (
        datasets(tmp_path, [SMALL]) as files,
        pytest.raises(PeerError, match="50 instances were answered with success, 0 are stored"),
    ):
        trial.run(losing, cell, Amount(10, 60.0), files[SMALL], tmp_path)


@pytest.mark.parametrize("name", objects.KINDS)
@pytest.mark.parametrize("pdu", [4096, 16384, 131072])
def test_what_is_sent_is_a_whole_message_in_pdus_of_that_size(name: str, pdu: int) -> None:
    kind = objects.KINDS[name]
    if kind.frames > 1:
        kind = objects.Kind(kind.name, kind.sop_class, kind.modality, kind.side, 2, 1)
    encoded = objects.dataset(kind, STUDY)
    message = wire.message(kind.sop_class, encoded, pdu)
    uid = wire.uid(10**25, 7, 42)
    stream, dataset, at, lengths = message.head_for(uid) + message.tail, b"", 0, []
    while at < len(stream):
        kind_of, length = wire.HEADER.unpack_from(stream, at)
        value, context, control = stream[at + 6 : at + 10], stream[at + 10], stream[at + 11]
        assert (kind_of, int.from_bytes(value, "big"), context) == (wire.DATA, length - 4, wire.CONTEXT)
        if control & 1 == 0:
            dataset += stream[at + 12 : at + 6 + length]
        lengths.append(length)
        at += 6 + length
    assert max(lengths) <= pdu
    assert set(lengths[1:-1]) <= {pdu}
    assert dataset == encoded.replace(wire.PLACEHOLDER, uid.encode())
    assert wire.is_last_of_dataset(control)
    file = pydicom.dcmread(io.BytesIO(dataset), force=True)
    assert (file.SOPInstanceUID, len(file.PixelData)) == (uid, kind.side * kind.side * 2 * kind.frames)


def _figures(rate: float) -> Figures:
    return Figures(10, rate, 1.0, 1.0, 1.0, 1.0, 1.0, 16384)


def test_ratios_are_taken_within_a_round() -> None:
    cell = Cell(SMALL, 1, 16384, True)
    rates = {"box": (100.0, 400.0, 20.0), "raw": (200.0, 500.0, 10.0)}
    trials = [Trial(name, cell, n, _figures(rate)) for name, each in rates.items() for n, rate in enumerate(each)]
    assert ratio(trials, cell, "box", "raw") == 0.8  # of 0.5, 0.8 and 2.0
    assert [(row.receiver, row.figures.rate, row.slowest, row.fastest) for row in rows_of(trials) if row.figures] == [
        ("box", 100.0, 20.0, 400.0),
        ("raw", 200.0, 10.0, 500.0),
    ]
    assert ratio([Trial("box", cell, 1, None, "it broke")], cell, "box", "raw") is None


@pytest.mark.parametrize("words", ["--objects huge", "--pdu 1K", "--pdu 16M", "--associations 0", "--set fsync"])
def test_misuse_is_told(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["bench", "receive", *words.split()])
    assert "argument" in capsys.readouterr().err


def test_the_sender_imports_nothing_heavy() -> None:
    code = "import magickbox.bench.sender, sys; sys.exit('pydicom' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.peer
def test_every_figure_of_every_sender_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dcmtk("dcmsend")
    names = ["box", "box-send", "dcmsend", "storescu", "pynetdicom"]
    page, data = tmp_path / "page.md", tmp_path / "all.json"
    words = ["bench", "send", "--quick", "--objects", "small", "--instances", "4", "--folder", str(tmp_path)]
    assert main([*words, "--json", str(data), "--report", str(page)]) == 0
    found = json.loads(data.read_text())
    assert [(row["sender"], row["instances"]) for row in found["rows"]] == [(name, 4) for name in names]
    wrong = [row for row in found["rows"] if row["rate"] <= 0 or row["memory"] < 10**6 or row["whole"] < 0]
    assert wrong == []
    assert [trial["taken"]["seconds"] >= 0 for trial in found["trials"]] == [True] * 5
    assert len([each for each in found["ratios"] if each["ratio"] > 0]) == 2 * 4  # box and box-send to each other one
    assert page.read_text().count("| small | ") == 5 + 2  # two boxes have ratios
    assert "box-send/dcmsend" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all.json", "page.md"]


def test_a_sender_that_loses_something_is_found_out(tmp_path: Path) -> None:
    dcmtk("storescp")
    one, many = tmp_path / "one", tmp_path / "many"
    for folder in (one, many):
        folder.mkdir()
        (folder / "1").write_bytes(b"junk")
    idle = Sender("idle", "", lambda _errand: (sys.executable, "-c", ""))
    with pytest.raises(PeerError, match="1 instances were sent, 0 are stored"):
        errand.run(idle, one, many, tmp_path)
    broken = Sender("broken", "", lambda _errand: (sys.executable, "-c", "raise SystemExit('no')"))
    with pytest.raises(PeerError, match="it ended with 1: no"):
        errand.run(broken, one, many, tmp_path)


def test_without_a_storescp_there_is_nobody_to_send_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["bench", "send", "--quick", "--folder", str(tmp_path)]) == 1
    assert "nobody to send to: storescp is not installed (Debian: dcmtk)" in capsys.readouterr().err


def test_ratios_of_senders_are_taken_within_a_round() -> None:
    seconds = {"box-send": (1.0, 4.0, 0.2), "dcmsend": (2.0, 5.0, 0.1)}
    trials = [
        send.Trial(name, SMALL, n, errand.Taken(11, each, each, 0.001, 10**6))
        for name, rounds in seconds.items()
        for n, each in enumerate(rounds)
    ]
    assert send.ratio(trials, SMALL, "box-send", "dcmsend") == pytest.approx(1.25)  # of 2.0, 1.25 and 0.5
    rows = [
        (row.sender, *(round(each, 3) for each in (row.rate, row.slowest, row.fastest))) for row in send.rows_of(trials)
    ]
    assert rows == [("box-send", 10.0, 2.5, 50.0), ("dcmsend", 5.0, 2.0, 100.0)]
    assert send.ratio([send.Trial("box", SMALL, 1, None, "it broke")], SMALL, "box", "dcmsend") is None
