"""Steps 1 to 5 of section 8: what a receiver writes, what it answers, and that it never loses what it acknowledged."""

import errno
import os
import resource
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pydicom
import pytest
from boxes import LITTLE, MR, Image, Peer, TestBox, new_box
from peers import wait_for

from magickbox.association import Association, End
from magickbox.clock import now
from magickbox.errors import UnreadableHeader
from magickbox.incoming.answer import CANNOT_UNDERSTAND, DISAGREES, OUT_OF_RESOURCES, SUCCESS, Stored
from magickbox.incoming.folder import AssociationFolder
from magickbox.incoming.quarantine import Quarantine
from magickbox.incoming.record import read_association, read_instance, settle_parts, unreported
from magickbox.instance import file_stem
from magickbox.steps import Step

A, B = Image("1.2.1"), Image("1.2.2")
A2 = replace(A, content=1)


@pytest.fixture
def box(tmp_path: Path) -> Iterator[TestBox]:
    made = new_box(tmp_path)
    yield made
    made.ledger.close()


@pytest.fixture
def peer(box: TestBox) -> Peer:
    return box.peer()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of 1 MB, to be really full."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m,nr_inodes=40", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a tmpfs needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def on_disk(folder: Path) -> Peer:
    """A peer whose association folder and quarantine are on that disk."""
    for name in ("incoming", "quarantine"):
        (folder / name).mkdir(exist_ok=True)
    association = Association("a0001", "MODALITY", "Proc", "10.0.0.7", now())
    return Peer(AssociationFolder(folder / "incoming", association, Quarantine(folder / "quarantine")))


def names(peer: Peer) -> list[str]:
    return sorted(os.listdir(peer.folder.path))


def quarantined(box: TestBox) -> tuple[bytes, str]:
    """The one instance in quarantine, and what its reason says."""
    (kept,), (reason,) = box.data.quarantine.glob("*.dcm"), box.data.quarantine.glob("*.reason")
    assert kept.stem == reason.stem
    return kept.read_bytes(), reason.read_text()


def test_an_instance_is_kept_as_it_came(peer: Peer) -> None:
    stored = peer.store(A)
    assert (stored.status, stored.why) == (SUCCESS, "")
    assert names(peer) == ["1.2.1.dcm", "association.json"]
    path = peer.folder.path / "1.2.1.dcm"
    assert path.read_bytes().endswith(A.dataset())
    ds = pydicom.dcmread(path)
    assert (ds.SOPInstanceUID, ds.file_meta.TransferSyntaxUID, ds.Rows) == ("1.2.1", LITTLE, 4)
    assert ds.file_meta.MediaStorageSOPInstanceUID == "1.2.1"
    assert stored.instance == read_instance(path)
    assert path.stat().st_mode & 0o777 == 0o444


def test_nothing_is_written_before_the_first_instance(box: TestBox) -> None:
    peer = box.peer()
    peer.folder.end(End.RELEASED, now())
    assert os.listdir(box.data.incoming) == []


def test_the_steps_come_in_their_order(box: TestBox) -> None:
    steps: list[Step] = []
    box.reached = steps.append
    box.peer().send(A, B)
    kept = [Step.PART_WRITTEN, Step.PART_DURABLE, Step.NAMED, Step.INSTANCE_DURABLE]
    assert steps == [Step.ASSOCIATION_WRITTEN, *kept, *kept, Step.ASSOCIATION_ENDED]


def test_the_record_tells_who_and_how_it_ended(peer: Peer) -> None:
    peer.send(A, how=None)
    assert read_association(peer.folder.path) == peer.association
    ended = now()
    peer.folder.end(End.ABORTED, ended)
    assert read_association(peer.folder.path) == replace(peer.association, ended=ended, how=End.ABORTED)


@pytest.mark.parametrize("content", ["", "{", "[7]", "7", "null", '"x"', "{}", '{"id": 7}', "[" * 100_000])
def test_a_record_that_cannot_be_read_says_so(peer: Peer, content: str) -> None:
    peer.send(A)
    (peer.folder.path / "association.json").write_text(content)
    with pytest.raises((ValueError, KeyError)):
        read_association(peer.folder.path)


def test_the_same_bytes_again_are_kept_once(peer: Peer) -> None:
    first, again = peer.store(A), peer.store(A)
    assert (again.status, names(peer)) == (SUCCESS, ["1.2.1.dcm", "association.json"])
    assert first.instance is not None
    assert again.instance is not None
    assert again.instance.arrived > first.instance.arrived
    assert read_instance(peer.folder.path / "1.2.1.dcm") == again.instance


def test_other_bytes_are_kept_beside(peer: Peer) -> None:
    answers = [peer.store(image) for image in (A, A2, A, A2, replace(A, content=2))]
    assert [s.instance.file for s in answers if s.instance] == [
        "1.2.1.dcm", "1.2.1.1.dcm", "1.2.1.dcm", "1.2.1.1.dcm", "1.2.1.2.dcm",
    ]  # fmt: skip
    assert names(peer) == ["1.2.1.1.dcm", "1.2.1.2.dcm", "1.2.1.dcm", "association.json"]


def test_a_longer_uid_does_not_meet_the_second_content_of_a_shorter_one(peer: Peer) -> None:
    peer.send(A, A2, Image("1.2.1.1"), how=None)
    found = {read_instance(path).sop_instance for path in unreported(peer.folder.path, frozenset())}
    assert len(unreported(peer.folder.path, frozenset())) == 3
    assert found == {"1.2.1", "1.2.1.1"}


def test_what_was_not_reported_is_found_in_the_order_of_its_coming(peer: Peer) -> None:
    peer.send(B, A, A2, B, how=None)
    found = [path.name for path in unreported(peer.folder.path, frozenset({"1.2.1.1.dcm"}))]
    assert found == ["1.2.1.dcm", "1.2.2.dcm"]


@pytest.mark.parametrize(
    "image",
    [replace(A, said_uid="1.2.9"), replace(A, said_class="1.2.840.10008.5.1.4.1.1.2")],
    ids=["instance", "class"],
)
def test_command_and_dataset_that_disagree(box: TestBox, peer: Peer, image: Image) -> None:
    stored = peer.store(image)
    assert (stored.status, stored.instance) == (DISAGREES, None)
    assert "the command says" in stored.why
    assert names(peer) == ["association.json"]
    assert os.listdir(box.data.quarantine) == []


def test_an_instance_without_study_goes_into_quarantine(box: TestBox, peer: Peer) -> None:
    image = replace(A, study=None)
    stored = peer.store(image)
    assert (stored.status, stored.why) == (CANNOT_UNDERSTAND, "the dataset has no Study Instance UID")
    content, reason = quarantined(box)
    assert content.endswith(image.dataset())
    assert stored.why in reason
    assert "SOP Instance UID of the command: 1.2.1" in reason
    assert "MODALITY at 10.0.0.7, calling Proc" in reason
    assert names(peer) == ["association.json"]


@pytest.mark.parametrize("dataset", [b"", b"\x08", b"nothing that is DICOM" * 9, b"\xff" * 400], ids=len)
def test_a_header_that_cannot_be_read_goes_into_quarantine(box: TestBox, peer: Peer, dataset: bytes) -> None:
    stored = send_raw(peer, "1.2.1", dataset)
    assert (stored.status, stored.instance) == (CANNOT_UNDERSTAND, None)
    assert quarantined(box)[0].endswith(dataset)


def send_raw(peer: Peer, uid: str, dataset: bytes) -> Stored:
    incoming = peer.folder.begin(MR, uid, LITTLE)
    for at in range(0, len(dataset), 7):
        incoming.write(dataset[at : at + 7])
    return incoming.commit()


@pytest.mark.parametrize("uid", ["", "1" * 257])
def test_a_command_without_a_usable_uid(box: TestBox, peer: Peer, uid: str) -> None:
    assert send_raw(peer, uid, A.dataset()).status == CANNOT_UNDERSTAND
    assert quarantined(box)[0].endswith(A.dataset())


@pytest.mark.parametrize(("sop_class", "uid"), [("1.2.\udcff", "1.2.1"), ("1.2.é", "1.2.1"), (MR, "1.2.\udcff")])
def test_uids_with_bytes_that_are_no_text_go_into_quarantine(
    box: TestBox, peer: Peer, sop_class: str, uid: str
) -> None:
    incoming = peer.folder.begin(sop_class, uid, LITTLE)
    incoming.write(A.dataset())
    stored = incoming.commit()
    assert stored.status == CANNOT_UNDERSTAND
    stored.why.encode("ascii")
    [reason] = box.data.quarantine.glob("*.reason")
    assert "UID has bytes that are no" in reason.read_text("utf-8")
    assert len(list(box.data.quarantine.glob("*.dcm"))) == 1


def test_uids_that_are_too_long_are_not_taken(box: TestBox, peer: Peer) -> None:
    stored = peer.store(replace(A, study="1." + "2" * 300))
    assert (stored.status, "Study Instance UID has 302" in stored.why) == (CANNOT_UNDERSTAND, True)


@pytest.mark.parametrize("uid", ["../../etc/passwd", "1..2", ".", "1.2.", "a b", "1.2\\3", "1" * 65, "1/2", "nul\x01"])
def test_odd_uids_are_named_by_a_hash(peer: Peer, uid: str) -> None:
    stored = peer.store(Image(uid))
    assert stored.status == SUCCESS, stored.why
    assert stored.instance is not None
    assert stored.instance.file == f"{file_stem(uid)}.dcm"
    assert stored.instance.file.startswith("uid-")
    assert read_instance(peer.folder.path / stored.instance.file).sop_instance == uid


def test_an_abandoned_part_goes_with_its_association(peer: Peer) -> None:
    peer.store(A)
    incoming = peer.folder.begin(MR, "1.2.2", LITTLE)
    incoming.write(B.dataset()[:50])
    assert ".part-2" in names(peer)
    peer.folder.end(End.ABORTED, now())
    assert names(peer) == ["1.2.1.dcm", "association.json"]
    incoming.drop()


def test_a_part_that_is_dropped_is_gone(peer: Peer) -> None:
    incoming = peer.folder.begin(MR, "1.2.2", LITTLE)
    incoming.write(B.dataset()[:50])
    incoming.drop()
    assert names(peer) == ["association.json"]


def test_parts_of_a_box_that_was_killed_are_removed_at_start(peer: Peer) -> None:
    peer.store(A)
    peer.folder.begin(MR, "1.2.2", LITTLE)
    (peer.folder.path / ".association.json.7.tmp").touch()
    assert settle_parts(peer.folder.path) == (2, 0)
    assert names(peer) == ["1.2.1.dcm", "association.json"]


def test_what_is_refused_is_drained_and_not_kept(peer: Peer) -> None:
    incoming = peer.folder.begin(MR, "1.2.1", LITTLE)
    incoming.write(A.dataset())
    assert incoming.refuse(OUT_OF_RESOURCES, "no room").status == OUT_OF_RESOURCES
    incoming.write(A.dataset())
    assert incoming.refuse(DISAGREES, "later").status == OUT_OF_RESOURCES, "the first reason stays"
    assert incoming.commit().why == "no room"
    assert names(peer) == ["association.json"]


@pytest.mark.parametrize("step", [Step.PART_WRITTEN, Step.PART_DURABLE, Step.NAMED, Step.INSTANCE_DURABLE])
def test_what_the_disk_refuses_at_any_step_is_not_acknowledged(box: TestBox, step: Step) -> None:
    """The sender is told to try again, and its second try is taken."""
    troubles = [OSError(errno.EIO, "input/output error")]

    def trouble(at: Step) -> None:
        if at is step and troubles:
            raise troubles.pop()

    box.reached = trouble
    peer = box.peer()
    stored = peer.store(A)
    assert (stored.status, stored.why) == (OUT_OF_RESOURCES, "cannot store: input/output error")
    assert ".part-1" not in names(peer)
    assert peer.store(A).status == SUCCESS
    assert [name for name in names(peer) if name.endswith(".dcm")] == ["1.2.1.dcm"]


def test_an_association_folder_that_cannot_be_made(box: TestBox) -> None:
    """incoming/ is gone or not writable: refused for now, whatever comes is drained."""
    (box.data.incoming).rmdir()
    peer = box.peer()
    assert peer.store(A).status == OUT_OF_RESOURCES
    box.data.incoming.mkdir()
    assert peer.store(A).status == SUCCESS


def test_a_full_disk_refuses_and_recovers(small_disk: Path) -> None:
    peer = on_disk(small_disk)
    assert peer.store(A).status == SUCCESS
    filler = fill(small_disk)
    refused = peer.store(B)
    assert (refused.status, refused.why) == (OUT_OF_RESOURCES, "cannot store: No space left on device")
    assert names(peer) == ["1.2.1.dcm", "association.json"]
    filler.unlink()
    assert peer.store(B).status == SUCCESS
    peer.folder.end(End.RELEASED, now())
    assert names(peer) == ["1.2.1.dcm", "1.2.2.dcm", "association.json"]


def test_a_disk_that_fills_in_the_middle_of_an_instance(small_disk: Path) -> None:
    peer = on_disk(small_disk)
    incoming = peer.folder.begin(MR, "1.2.1", LITTLE)
    for _ in range(40):
        incoming.write(b"\0" * 65536)
    assert incoming.commit().status == OUT_OF_RESOURCES
    assert names(peer) == ["association.json"]
    assert peer.store(A).status == SUCCESS, "its room is free again"


def test_a_full_disk_from_the_first_byte(small_disk: Path) -> None:
    peer = on_disk(small_disk)
    filler = fill(small_disk)
    assert peer.store(A).status == OUT_OF_RESOURCES
    filler.unlink()
    assert peer.store(A).status == SUCCESS
    assert read_association(peer.folder.path) == peer.association


def test_a_quarantine_without_room_keeps_the_sender_trying(small_disk: Path) -> None:
    peer = on_disk(small_disk)
    assert peer.store(A).status == SUCCESS
    image = replace(B, study=None)
    incoming = peer.folder.begin(MR, image.uid, LITTLE)
    incoming.write(image.dataset())
    filler = fill(small_disk)
    assert incoming.commit().status == OUT_OF_RESOURCES
    filler.unlink()
    assert names(peer) == ["1.2.1.dcm", "association.json"]
    assert peer.store(image).status == CANNOT_UNDERSTAND


def test_an_end_that_cannot_be_written_is_told(small_disk: Path) -> None:
    """Then the association counts as aborted at the next start, and nothing of it is lost."""
    peer = on_disk(small_disk)
    peer.store(A)
    fill(small_disk)
    with pytest.raises(OSError, match="No space left"):
        peer.folder.end(End.RELEASED, now())
    assert names(peer) == ["1.2.1.dcm", "association.json"]
    assert read_association(peer.folder.path).ended is None


def fill(folder: Path) -> Path:
    """Take all the room there is."""
    path = folder / "filler"
    status = os.statvfs(folder)
    with path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, status.f_bavail * status.f_frsize)
    return path


def test_files_that_move_away_meanwhile_disturb_nothing(peer: Peer, tmp_path: Path) -> None:
    """The coordinator moves instances into jobs at any moment, also just when a copy of one comes."""
    peer.store(A)
    stop, moved = threading.Event(), 0
    target = tmp_path / "moved"
    target.mkdir()

    def move() -> None:
        nonlocal moved
        while not stop.is_set():
            try:
                os.rename(peer.folder.path / "1.2.1.dcm", target / f"{moved}.dcm")
                moved += 1
            except FileNotFoundError:
                pass

    mover = threading.Thread(target=move)
    mover.start()
    answers = {peer.store(A).status for _ in range(300)}
    stop.set()
    mover.join()
    assert answers == {SUCCESS}
    assert moved


def test_without_fsync_the_names_are_the_same(box: TestBox, peer: Peer) -> None:
    """``fsync = false`` is the user's choice; only the waiting for the disk is left out."""
    fast = AssociationFolder(box.data.incoming, peer.association, Quarantine(box.data.quarantine), fsync=False)
    assert Peer(fast).store(A).status == SUCCESS
    assert names(Peer(fast)) == ["1.2.1.dcm", "association.json"]


def test_a_file_that_is_no_instance_is_not_read_as_one(tmp_path: Path) -> None:
    path = tmp_path / "1.2.3.dcm"
    path.write_bytes(b"text")
    with pytest.raises(UnreadableHeader):
        read_instance(path)


# One fsync an instance


def take_the_names_back(folder: Path) -> None:
    """What a power cut may do to names that were not fsynced."""
    for number, name in enumerate(sorted(folder.glob("*.dcm"))):
        name.rename(folder / f".part-9{number}")


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was fsynced, as it was called then."""
    paths: list[str] = []
    real = os.fsync

    def fsync(fd: int) -> None:
        paths.append(os.readlink(f"/proc/self/fd/{fd}"))
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    return paths


def prepare(peer: Peer, wanted: int) -> None:
    """Have parts made ahead, and wait until so many are there."""
    peer.folder.prepare()
    wait_for(lambda: len(list(peer.folder.path.glob(".part-[0-9]*"))) >= wanted and peer.folder.parts_ready >= wanted)


def test_an_instance_whose_part_was_there_costs_one_fsync(peer: Peer, synced: list[str]) -> None:
    for number in range(64):
        peer.store(Image(f"1.2.{number}"))
        prepare(peer, 1)
    assert len([path for path in synced if ".part-" in path]) == 64
    assert len(synced) < 64 + 25


def test_the_more_have_come_the_more_parts_are_made_ahead(peer: Peer) -> None:
    ready = []
    for number in range(100):
        peer.store(Image(f"1.2.{number}"))
        prepare(peer, 1)
        ready.append(peer.folder.parts_ready)
    assert ready[0] == 1
    assert 8 < max(ready) <= 32


def test_without_a_part_that_was_there_the_folder_is_fsynced(peer: Peer, synced: list[str]) -> None:
    peer.store(A)
    synced.clear()
    peer.store(B)
    assert len(synced) == 2
    assert synced[1] == str(peer.folder.path)


def test_names_that_a_power_cut_took_back_are_given_again(peer: Peer) -> None:
    sent = [peer.store(image).instance for image in (A, B, A2)]
    prepare(peer, 3)
    take_the_names_back(peer.folder.path)
    removed, kept = settle_parts(peer.folder.path)
    assert kept == 3
    assert removed >= 1, "the parts that were made ahead"
    found = [read_instance(path) for path in unreported(peer.folder.path, frozenset())]
    assert [replace(one, file="") for one in found] == [replace(one, file="") for one in sent if one]
    assert settle_parts(peer.folder.path) == (0, 0)


@pytest.mark.parametrize("damage", ["cut", "grown", "changed", "header"])
def test_a_part_that_is_not_whole_is_removed(peer: Peer, damage: str) -> None:
    peer.store(A)
    take_the_names_back(peer.folder.path)
    (part,) = peer.folder.path.glob(".part-9*")
    part.chmod(0o600)
    raw = bytearray(part.read_bytes())
    if damage == "cut":
        del raw[-1:]
    elif damage == "grown":
        raw += b"\0"
    else:
        raw[-5 if damage == "changed" else 130] ^= 1
    part.write_bytes(raw)
    assert settle_parts(peer.folder.path) == (1, 0)
    assert names(peer) == ["association.json"]


def test_parts_that_could_not_be_made_durable_are_not_in_the_way(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    peer.store(A)
    real, tried = os.fsync, []

    def fails(fd: int) -> None:
        tried.append(fd)
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fails)
    peer.folder.prepare()
    wait_for(lambda: tried and not list(peer.folder.path.glob(".part-[0-9]*")))
    monkeypatch.setattr(os, "fsync", real)
    assert [peer.store(Image(f"1.2.9.{n}")).status for n in range(5)] == [SUCCESS] * 5


def test_what_is_kept_is_read_only_whatever_the_umask(peer: Peer) -> None:
    before = os.umask(0o077)
    try:
        peer.store(A)
        prepare(peer, 1)
        peer.store(B)
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in peer.folder.path.glob("*.dcm")} == {0o444}


def test_an_association_that_is_silent_keeps_no_thread_and_gets_another_one_later(peer: Peer) -> None:
    def makers() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name == "parts"]

    others = makers()
    for number in range(3):
        peer.store(Image(f"1.2.{number}"))
        prepare(peer, 1)
    first = set(makers()) - set(others)
    assert len(first) == 1
    wait_for(lambda: not set(makers()) & first)
    for number in range(3, 30):
        peer.store(Image(f"1.2.{number}"))
        prepare(peer, 1)
    peer.folder.end(End.RELEASED, now())
    assert not set(makers()) - set(others)


def test_parts_made_ahead_leave_descriptors_for_connections(box: TestBox, peer: Peer) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (16, hard))
    try:
        folder = AssociationFolder(box.data.incoming, peer.association, Quarantine(box.data.quarantine))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    tight = Peer(folder)
    for number in range(12):  # the test's own process has more than 8 open
        tight.store(Image(f"1.2.{number}"))
        prepare(tight, 1)
    assert folder.parts_ready == 1
    folder.end(End.RELEASED, now())


def test_parts_made_ahead_go_at_the_end(peer: Peer) -> None:
    for number in range(5):
        peer.store(Image(f"1.2.{number}"))
    prepare(peer, 5)
    assert [name for name in names(peer) if name.startswith(".part-")]
    peer.folder.end(End.RELEASED, now())
    assert not [name for name in names(peer) if name.startswith(".part-")]
