"""Destinations by name in a whole box: where results go, what is told, and what a placeholder comes to."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import peers
import pytest
import webpeers
from boxprocess import all_jobs, is_quiet, running, send, set_up, station, until
from pydicom import dcmread
from studies import study
from test_box import cli

from magickbox.association import sendable_title
from magickbox.cli.main import main
from magickbox.datafolder import DataFolder
from magickbox.destination import Destination, DicomDestination, FolderDestination
from magickbox.job import JobState
from magickbox.ledger import Ledger, deliveries
from magickbox.ledger.destinations import from_row, to_row
from magickbox.pathpattern import DEFAULT_PATTERN
from magickbox.queueing import lane_of
from magickbox.sender import ByKind, FakeSender, Item
from magickbox.transfersyntax import IMPLICIT_LITTLE, JPEG_2000_LOSSLESS, RLE, TransferSyntaxes

DICOM = {"IP": "127.0.0.1", "PORT": 1, "AETitleSender": "BOX", "AETitleTo": "STATION"}


def with_rules(root: Path, to: str, **destinations: Any) -> None:
    """A data folder whose one rule sends everything to a destination by its name."""
    if not root.exists():
        set_up(root, 1)
    rules = {"routing": [{"name": "all", "send": [{"success": {"to": to}}]}], "destinations": destinations}
    part = root / "new.json"
    part.write_text(json.dumps(rules))
    part.rename(root / "routing.json")


def sent(port: int | None, items: list[Item], calling: str = "SCANNER") -> None:
    assert port is not None
    assert send(port, items, calling=calling).unanswered == set()


def take_all(talk: peers.Talk) -> None:
    talk.accept()
    talk.serve()


def done(root: Path) -> None:
    until(lambda: all_jobs(root) != [] and is_quiet(root), what="the job at rest")
    assert [job.state for job in all_jobs(root)] == [JobState.DONE]


def test_results_go_to_a_folder_by_its_name(tmp_path: Path) -> None:
    root, share = tmp_path / "data", tmp_path / "share"
    share.mkdir()
    with_rules(
        root,
        "research",
        research={"kind": "folder", "path": str(share), "pattern": "{StudyInstanceUID}/{SOPInstanceUID}.dcm"},
    )
    items = study(tmp_path / "one", 3)
    with running(root) as box:
        sent(box.port, items)
        done(root)
    assert {path.stem for path in share.rglob("*.dcm")} == {item.sop_instance for item in items}
    (job,) = all_jobs(root)
    name = f"research ({share})"
    assert f"entry 1 to {name}: yes, 3 of 3 files" in cli("explain", job.id, "--data", root)
    assert name in cli("deliveries", "list", "--data", root)
    assert name in cli("jobs", "show", job.id, "--data", root)
    assert f'to="{name}"' in (root / "logs" / "routing.log").read_text()
    assert cli("destinations", "echo", "research", "--data", root) == "research answers\n"
    share.rename(tmp_path / "elsewhere")
    assert "No such file or directory" in cli("destinations", "echo", "research", "--data", root, code=1)


def test_results_go_to_a_dicomweb_service_and_its_token_is_kept_nowhere(tmp_path: Path) -> None:
    root, token = tmp_path / "data", tmp_path / "token"
    token.write_text("S3cret-Token-7f3a\n")
    items, heads = study(tmp_path / "one", 3), []

    def script(talk: peers.Talk) -> None:
        while True:
            request = webpeers.read_request(talk)
            heads.append(request.headers["authorization"])
            if len(heads) == 1:
                webpeers.reply(talk, 503, Retry_After="0")
                continue
            webpeers.reply(talk, 200, webpeers.response(webpeers.uid_in(request, tmp_path)))

    with peers.ScriptedPeer([script]) as peer:
        url = f"http://127.0.0.1:{peer.port}/dicom-web"
        with_rules(root, "cloud", cloud={"kind": "stow", "URL": url, "bearer": f"file:{token}"})
        with running(root) as box:
            sent(box.port, items)
            done(root)
    assert heads == ["Bearer S3cret-Token-7f3a"] * 4
    (job,) = all_jobs(root)
    told = cli("explain", job.id, "--data", root) + cli("deliveries", "list", "--json", "--data", root)
    assert f"cloud ({url})" in told
    assert "HTTP 503" in (root / "logs" / "routing.log").read_text()
    kept = b"".join(path.read_bytes() for path in root.rglob("*") if path.is_file())
    assert b"S3cret-Token" not in kept + told.encode()


@pytest.mark.peer
def test_a_station_that_takes_only_uncompressed_images_gets_them_so(tmp_path: Path) -> None:
    root = tmp_path / "data"
    items = [peers.item_of(peers.sample(name)) for name in ("MR_small_RLE.dcm", "JPEG2000.dcm")]
    with peers.storescp(tmp_path / "stored", "+xi") as scp:
        with_rules(root, "old", old={**DICOM, "PORT": scp.port, "transfer_syntaxes": {"preferred": ["RLELossless"]}})
        with running(root) as box:
            sent(box.port, items)
            until(lambda: len(all_jobs(root)) == 2 and is_quiet(root), what="both jobs at rest")
        stored = scp.stored()
    assert [job.state for job in all_jobs(root)] == [JobState.DONE] * 2
    for item in items:
        assert peers.item_of(stored[item.sop_instance]).transfer_syntax == IMPLICIT_LITTLE
        assert np.array_equal(dcmread(stored[item.sop_instance]).pixel_array, dcmread(item.path).pixel_array)
    assert list((root / "state" / "converted").iterdir()) == []
    kept = {peers.item_of(path).transfer_syntax for path in root.glob("jobs/*/INPUT/*.dcm")}
    assert kept == {item.transfer_syntax for item in items}


def test_the_ledger_keeps_which_transfer_syntaxes_a_destination_is_to_get() -> None:
    wanted = TransferSyntaxes(preferred=(RLE,), accepted=(IMPLICIT_LITTLE,), never=(JPEG_2000_LOSSLESS,))
    destination = DicomDestination("10.0.0.5", 104, "BOX", "PACS", "pacs", transfer_syntaxes=wanted)
    assert from_row(*to_row(destination)) == destination
    text = json.loads(to_row(destination)[0])
    del text["transfer_syntaxes"]  # as rows were before there was such a thing
    assert from_row(json.dumps(text), "", 0, "", "") == replace(destination, transfer_syntaxes=TransferSyntaxes())


def test_what_waits_for_a_destination_that_moved_goes_where_its_name_points_now(tmp_path: Path) -> None:
    root = tmp_path / "data"
    with_rules(root, "pacs", pacs={**DICOM, "PORT": peers.free_port()})
    items = study(tmp_path / "one", 2)
    with station(tmp_path / "station") as goal, running(root) as box:
        sent(box.port, items)
        until(lambda: "connection refused" in cli("deliveries", "list", "--data", root), what="a first attempt")
        with_rules(root, "pacs", pacs={**DICOM, "PORT": goal.port})
        done(root)
        assert cli("destinations", "echo", "pacs", "--data", root) == "pacs answers\n"
    assert dict(goal.seen) == {item.sop_instance: 1 for item in items}


def test_a_destination_whose_name_is_gone_is_where_it_was(tmp_path: Path) -> None:
    root = tmp_path / "data"
    nobody = peers.free_port()
    with_rules(root, "pacs", pacs={**DICOM, "PORT": nobody})
    items = study(tmp_path / "one", 1)
    with running(root) as box:
        sent(box.port, items)
        until(lambda: "connection refused" in cli("deliveries", "list", "--data", root), what="a first attempt")
        with_rules(root, "other", other={**DICOM, "PORT": 1})
        with peers.ScriptedPeer([take_all], port=nobody):
            done(root)


@pytest.mark.parametrize(("own", "comes_as"), [("$caller", "WS 1"), ("$called", "COPY")])
def test_results_go_back_to_whom_they_came_from_under_its_own_title(tmp_path: Path, own: str, comes_as: str) -> None:
    root = tmp_path / "data"
    with peers.ScriptedPeer([take_all]) as workstation:
        with_rules(root, "back", back={**DICOM, "IP": "$sender", "PORT": workstation.port, "AETitleSender": own})
        with running(root) as box:
            sent(box.port, study(tmp_path / "one", 2), calling="WS 1")
            done(root)
        assert [talk.calling_ae for talk in workstation.talks] == [comes_as]
    ledger = Ledger(DataFolder(root).ledger, readonly=True)
    with ledger.reading() as tx:
        (delivery,) = deliveries.listing(tx)
    ledger.close()
    assert delivery.destination == DicomDestination(
        "127.0.0.1", workstation.port, comes_as, "STATION", "back", to_sender=True
    )


@pytest.mark.parametrize(
    ("title", "sendable"),
    [("PACS", "PACS"), ("P\u00c4CS", "P?CS"), ("A\\B", "A?B"), ("", "MAGICKBOX"), ("   ", "MAGICKBOX"),
     ("x" * 40, "x" * 16), ("\u5c71\u7530", "??"), ("A" * 15 + " B", "A" * 15), ("a\tb", "a?b")],
)  # fmt: skip
def test_odd_titles_of_others_become_titles_that_can_be_sent(title: str, sendable: str) -> None:
    assert sendable_title(title) == sendable


def test_placeholders_are_filled_in_once_and_stay() -> None:
    rule = DicomDestination("$sender", 104, "$caller", "PACS", "pacs")
    planned = rule.for_job("SCANNER", "Proc", "10.0.0.7")
    assert planned == DicomDestination("10.0.0.7", 104, "SCANNER", "PACS", "pacs", to_sender=True)
    moved = DicomDestination("$sender", 105, "$called", "PACS2", "pacs")
    assert planned.as_now(moved) == DicomDestination("10.0.0.7", 105, "SCANNER", "PACS2", "pacs", to_sender=True)
    fixed = DicomDestination("10.0.0.9", 105, "BOX", "PACS2", "pacs")
    assert planned.as_now(fixed) == fixed
    assert fixed.as_now(moved) == fixed, "whose sender it was to go to was never noted"
    folder = FolderDestination("/x", DEFAULT_PATTERN, "pacs")
    assert (planned.as_now(folder), folder.as_now(fixed), folder.as_now(rule)) == (folder, fixed, folder)


def test_a_queue_goes_by_the_name_and_each_sender_has_one_of_its_own() -> None:
    pacs = DicomDestination("10.0.0.5", 104, "BOX", "PACS")
    assert lane_of(pacs) == "PACS@10.0.0.5:104"
    assert lane_of(replace(pacs, name="pacs")) == "pacs"
    assert lane_of(FolderDestination("/x", DEFAULT_PATTERN, "research")) == "research"
    back = DicomDestination("$sender", 104, "BOX", "WS", "back")
    assert {lane_of(back.for_job("A", "B", f"10.0.0.{n}")) for n in (1, 2)} == {
        "back@10.0.0.1:104",
        "back@10.0.0.2:104",
    }


def test_each_kind_has_its_sender_and_a_name_is_looked_up(tmp_path: Path) -> None:
    dicom, folders = FakeSender(), FakeSender()
    old, new = (
        DicomDestination("10.0.0.5", 104, "BOX", "PACS", "pacs"),
        FolderDestination("/x", DEFAULT_PATTERN, "pacs"),
    )
    named: dict[str, Destination] = {}
    by_kind = ByKind({DicomDestination: dicom, FolderDestination: folders}, lambda: named)
    item = Item(tmp_path / "a", "1", "2", "3")
    for destination in (old, new):
        by_kind.connect(destination, by_kind.split(destination, [item])[0], "job")
    assert [[call.destination for call in each.calls] for each in (dicom, folders)] == [[old], [new]]
    named["pacs"] = new
    by_kind.connect(old, [item], "job")
    assert folders.calls[-1].destination == new


def test_check_examines_destinations(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    share = tmp_path / "share"
    share.mkdir()
    root = tmp_path / "data"
    good = {"pacs": DICOM, "research": {"kind": "folder", "path": str(share)}}
    with_rules(root, "pacs", **good)
    said = cli("check", "--data", root)
    assert "ok       destination pacs (STATION@127.0.0.1:1)" in said
    assert f"ok       destination research ({share})" in said
    bad = {"gone": {"kind": "folder", "path": "/nowhere"}, "safe": {**DICOM, "tls": {"ca": "/nowhere/ca.pem"}}}
    with_rules(root, "pacs", **good, **bad)
    assert main(["check", "--data", str(root)]) == 1
    said = capsys.readouterr().out
    assert "PROBLEM  destination gone (/nowhere): /nowhere: there is no such folder" in said
    assert "PROBLEM  destination safe (STATION@127.0.0.1:1): /nowhere/ca.pem: No such file or directory" in said
    assert "ok       destination pacs" in said
