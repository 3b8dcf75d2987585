"""Destinations that take only some transfer syntaxes: sent as stored if they do, converted if not, else rejected."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import peers
import pydicom
import pytest
from compressed import image
from peers import QUICK, ScriptedPeer, Talk
from pydicom.pixels.utils import pixel_array

from magickbox import transfersyntax as ts
from magickbox.destination import Delivered, DicomDestination, Rejected, Result, Retry
from magickbox.dicom.part10 import file_header
from magickbox.owncalls import OwnCalls
from magickbox.scu.offer import Offer
from magickbox.scu.store import StoreSender, StoreSession
from magickbox.sender import Item
from magickbox.transcoder import CannotTranscode, FakeTranscoder, Transcoder
from magickbox.transcoding.pool import WorkerPool
from magickbox.transfersyntax import TransferSyntaxes

SAMPLES = ("CT_small.dcm", "MR_small_RLE.dcm", "JPEG2000.dcm", "MR_small_bigendian.dcm", "test-SR.dcm",
           "SC_rgb_dcmtk_+eb+cr.dcm", "SC_rgb_dcmtk_+eb+cy+n1.dcm", "MR_small_jpeg_ls_lossless.dcm")  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "converted"
    folder.mkdir()
    return folder


@pytest.fixture
def pool(folder: Path) -> Iterator[WorkerPool]:
    pool = WorkerPool(folder)
    yield pool
    pool.close()


class Only:
    """A peer that takes only some transfer syntaxes; ``got`` is what came, by SOP Instance UID."""

    def __init__(self, *syntaxes: str) -> None:
        self.syntaxes = syntaxes
        self.got: dict[str, tuple[str, bytes]] = {}
        self.proposed: list[tuple[str, str]] = []

    def __call__(self, talk: Talk) -> None:
        talk.accept(lambda _class, syntax: 0 if syntax in self.syntaxes else 4)
        self.proposed += talk.contexts.values()
        while True:
            request, dataset = talk.message()
            uid = request[0x1000].decode().strip("\0")
            self.got[uid] = (talk.last_syntax, dataset)
            talk.respond(request, 0)

    def pixels(self, item: Item) -> np.ndarray:
        """What the peer sees of an instance."""
        syntax, dataset = self.got[item.sop_instance]
        return pixel_array(pydicom.dcmread(BytesIO(file_header(item.sop_class, item.sop_instance, syntax) + dataset)))


def send(
    peer: ScriptedPeer, items: list[Item], transcoder: Transcoder | None, wanted: TransferSyntaxes | None = None
) -> list[Result]:
    destination = replace(peer.destination, transfer_syntaxes=wanted or TransferSyntaxes())
    session = StoreSender(OwnCalls(), QUICK, transcoder).connect(destination, items, "job")
    assert isinstance(session, StoreSession), session
    with session:
        return [session.send(item) for item in items]


def sample(name: str) -> Item:
    return peers.item_of(peers.sample(name))


@pytest.mark.parametrize("only", [ts.IMPLICIT_LITTLE, ts.EXPLICIT_LITTLE])
def test_a_peer_that_takes_one_uncompressed_syntax_gets_everything_in_it(
    pool: WorkerPool, folder: Path, only: str
) -> None:
    items, peer = [sample(name) for name in SAMPLES], Only(only)
    before = {item: item.path.read_bytes() for item in items}
    with ScriptedPeer([peer]) as there:
        assert send(there, items, pool) == [Delivered()] * len(items)
    assert {syntax for syntax, _ in peer.got.values()} == {only}
    for item in items:
        if "SR" not in item.path.name:
            assert np.array_equal(peer.pixels(item), pixel_array(pydicom.dcmread(item.path))), item.path.name
    assert {item: item.path.read_bytes() for item in items} == before
    assert list(folder.iterdir()) == []


@pytest.mark.peer
@pytest.mark.parametrize("option", ["+xi", "+xe"])
def test_storescp_that_takes_only_uncompressed_gets_everything(pool: WorkerPool, tmp_path: Path, option: str) -> None:
    items = [sample(name) for name in SAMPLES]
    with peers.storescp(tmp_path / "stored", option) as scp:
        session = StoreSender(OwnCalls(), QUICK, pool).connect(scp.destination, items, "job")
        assert isinstance(session, StoreSession)
        with session:
            assert [session.send(item) for item in items] == [Delivered()] * len(items)
        stored = scp.stored()
    for item in items:
        ds = pydicom.dcmread(stored[item.sop_instance])
        taken = ds.file_meta.TransferSyntaxUID
        assert taken == ts.IMPLICIT_LITTLE if option == "+xi" else taken in ts.NATIVE
        if "PixelData" in ds:
            assert np.array_equal(pixel_array(ds), pixel_array(pydicom.dcmread(item.path)))


def test_a_peer_that_takes_only_jpeg_2000_gets_it_if_that_is_preferred(pool: WorkerPool, tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 4096, (2, 50, 60)).astype(np.uint16)
    item, peer = image(tmp_path, pixels), Only(ts.JPEG_2000_LOSSLESS)
    with ScriptedPeer([peer]) as there:
        (without,) = send(there, [item], pool)
        (with_it,) = send(there, [item], pool, TransferSyntaxes(preferred=(ts.JPEG_2000_LOSSLESS,)))
    assert without == Rejected(
        "no acceptable presentation context for MR Image Storage in Explicit VR Little Endian: "
        "transfer syntax not supported; nor in Implicit VR Little Endian"
    )
    assert with_it == Delivered()
    assert peer.got[item.sop_instance][0] == ts.JPEG_2000_LOSSLESS
    assert np.array_equal(peer.pixels(item), pixels)


def test_what_is_accepted_as_stored_goes_as_stored(folder: Path) -> None:
    item, peer = sample("MR_small_RLE.dcm"), Only(ts.RLE, ts.EXPLICIT_LITTLE, ts.IMPLICIT_LITTLE)
    fake = FakeTranscoder(folder)
    with ScriptedPeer([peer]) as there:
        assert send(there, [item], fake) == [Delivered()]
    assert peer.got[item.sop_instance] == (ts.RLE, peers.dataset_bytes(item.path))
    assert fake.asked == []


def test_what_a_destination_is_never_to_get_is_converted_though_the_peer_would_take_it(
    pool: WorkerPool,
) -> None:
    item, peer = sample("MR_small_RLE.dcm"), Only(ts.RLE, ts.EXPLICIT_LITTLE)
    with ScriptedPeer([peer]) as there:
        assert send(there, [item], pool, TransferSyntaxes(never=(ts.RLE,))) == [Delivered()]
        assert send(there, [item], None, TransferSyntaxes(never=(ts.RLE, ts.EXPLICIT_LITTLE))) == [
            Rejected("MR Image Storage in RLE Lossless is not what this destination is to get")
        ]
    assert peer.got[item.sop_instance][0] == ts.EXPLICIT_LITTLE
    assert ts.RLE not in {syntax for _, syntax in peer.proposed}


def test_only_what_is_accepted_is_offered(folder: Path) -> None:
    item, peer = sample("MR_small_RLE.dcm"), Only(ts.IMPLICIT_LITTLE)
    with ScriptedPeer([peer]) as there:
        (result,) = send(there, [item], FakeTranscoder(folder), TransferSyntaxes(accepted=(ts.EXPLICIT_LITTLE,)))
    assert [syntax for _, syntax in peer.proposed] == [ts.EXPLICIT_LITTLE]
    assert result == Rejected(
        "MR Image Storage in RLE Lossless is not what this destination is to get; nor in Explicit VR Little Endian"
    )


@pytest.mark.parametrize(("passing", "kind"), [(False, Rejected), (True, Retry)])
def test_what_cannot_be_converted_is_rejected_unless_it_passes(
    folder: Path, passing: bool, kind: Callable[[str], Result]
) -> None:
    items, peer = [sample("MR_small_RLE.dcm"), sample("CT_small.dcm")], Only(ts.EXPLICIT_LITTLE)
    fake = FakeTranscoder(folder, refusal=CannotTranscode("it is odd", passing=passing))
    with ScriptedPeer([peer]) as there:
        results = send(there, items, fake)
    assert results[1] == Delivered()
    assert results[0] == (
        Retry("it is odd")
        if passing
        else Rejected(
            "no acceptable presentation context for MR Image Storage in RLE Lossless: transfer syntax not supported; "
            "it cannot be converted: it is odd"
        )
    )


def test_an_abort_ends_the_wait_for_a_conversion(folder: Path) -> None:
    gate = threading.Event()

    class Slow(FakeTranscoder):
        def transcode(self, *arguments: object):  # type: ignore[no-untyped-def]
            gate.wait(20)
            return super().transcode(*arguments)  # type: ignore[arg-type]

    item, peer, results = sample("MR_small_RLE.dcm"), Only(ts.EXPLICIT_LITTLE), []
    with ScriptedPeer([peer]) as there:
        session = StoreSender(OwnCalls(), QUICK, Slow(folder)).connect(there.destination, [item], "job")
        assert isinstance(session, StoreSession)
        with session:
            sending = threading.Thread(target=lambda: results.append(session.send(item)))
            sending.start()
            sending.join(0.2)
            session.abort()
            sending.join(5)
        assert results == [Retry("the association was aborted")]
        gate.set()
    peers.wait_for(lambda: list(folder.iterdir()) == [], "what came too late to be removed")


def test_groups_keep_within_128_contexts(folder: Path) -> None:
    there = DicomDestination("127.0.0.1", 104, "BOX", "THERE")
    offer = Offer(there, FakeTranscoder(folder))
    items = [
        Item(Path("x"), f"1.2.840.10008.5.1.{n // 3}", f"1.2.{n}", (ts.RLE, ts.JPEG_LS, ts.EXPLICIT_LITTLE)[n % 3])
        for n in range(300)
    ]
    groups = offer.split(items)
    assert sorted(item.sop_instance for group in groups for item in group) == sorted(i.sop_instance for i in items)
    assert all(0 < len(offer.contexts(group)) <= 128 for group in groups)
    assert len(groups) == 3


def test_wishes() -> None:
    every = (ts.EXPLICIT_LITTLE, ts.IMPLICIT_LITTLE, ts.JPEG_2000_LOSSLESS, ts.RLE)
    plain = TransferSyntaxes()
    assert plain.wishes(ts.JPEG_LS, every) == (ts.JPEG_LS, ts.EXPLICIT_LITTLE, ts.IMPLICIT_LITTLE)
    assert plain.wishes("1.2.3", ()) == ("1.2.3",)
    liking = TransferSyntaxes(preferred=(ts.RLE, ts.JPEG_BASELINE), never=(ts.IMPLICIT_LITTLE,))
    assert liking.wishes(ts.JPEG_LS, every) == (ts.JPEG_LS, ts.RLE, ts.EXPLICIT_LITTLE)
    assert liking.wishes(ts.JPEG_BASELINE, every)[0] == ts.JPEG_BASELINE
    strict = TransferSyntaxes(accepted=(ts.JPEG_2000_LOSSLESS,))
    assert strict.wishes(ts.EXPLICIT_LITTLE, every) == (ts.JPEG_2000_LOSSLESS,)
    assert strict.wishes(ts.JPEG_2000_LOSSLESS, every) == (ts.JPEG_2000_LOSSLESS,)
