"""The port with good peers: the project's own SCU, DCMTK's tools, pynetdicom's requestor, and scripted ones."""

import errno
import os
import resource
import socket
import struct
import subprocess
import threading
import time
from pathlib import Path

import peers
import psutil
import pydicom
import pytest
from boxes import LITTLE, MR, Image
from callers import IMAGES, LAST, VERIFICATION, Caller, OpenPort, open_port, pdu, store_pdus, value
from pydicom.uid import UID
from pynetdicom import AE, evt
from pynetdicom.pdu import A_ASSOCIATE_RJ
from pynetdicom.pdu_primitives import (
    AsynchronousOperationsWindowNegotiation,
    SCP_SCU_RoleSelectionNegotiation,
    SOPClassExtendedNegotiation,
    UserIdentityNegotiation,
)

from magickbox.access import Access
from magickbox.association import End
from magickbox.destination import Delivered
from magickbox.intake import CALLED_NOT_RECOGNIZED, CALLING_NOT_RECOGNIZED, LIMIT_EXCEEDED, RecordingIntake, Refusal
from magickbox.scp.connection import MAX_PDU, IncomingConnection
from magickbox.scu.command import c_store_request
from magickbox.scu.echo import echo
from magickbox.scu.pdu import Context
from magickbox.steps import Step

IMAGE = Image("1.2.3.4.5")
DCMTK_SENDS = {
    "CT_small.dcm": "-x=",
    "MR_small_bigendian.dcm": "-xb",
    "MR_small_RLE.dcm": "-xr",
    "image_dfl.dcm": "-xd",
    "JPEG2000.dcm": "-xw",
    "test-SR.dcm": "-x=",
    "SC_rgb_jpeg_dcmtk.dcm": "-xy",
    "MR_small.dcm": "-xi",
}


@pytest.mark.peer
@pytest.mark.parametrize("name", DCMTK_SENDS)
def test_dcmtk_sends(tmp_path: Path, name: str) -> None:
    path = peers.sample(name)
    with open_port(tmp_path) as port:
        said = storescu(port, DCMTK_SENDS[name], str(path))
        assert said.returncode == 0, said.stderr
        ((association, instance),) = port.intake.instances
        stored = pydicom.dcmread(tmp_path / "incoming" / association.id / instance.file)
        assert port.wait_for_end() is End.RELEASED
    original = pydicom.dcmread(path)
    assert stored.SOPInstanceUID == original.SOPInstanceUID
    assert stored.get("PixelData") == original.get("PixelData")
    if DCMTK_SENDS[name] != "-xi":
        assert stored.file_meta.TransferSyntaxUID == original.file_meta.TransferSyntaxUID


def storescu(port: OpenPort, *options: str) -> "subprocess.CompletedProcess[str]":
    command = [peers.dcmtk("storescu"), *options[:-1], "127.0.0.1", str(port.number), options[-1]]
    environment = {**os.environ, "TCP_NODELAY": "1"}
    return subprocess.run(command, capture_output=True, text=True, timeout=30, env=environment, check=False)


@pytest.mark.parametrize(
    "sop_class",
    [
        "1.3.12.2.1107.5.9.1",
        "1.2.840.10008.5.1.4.1.1.3",
        "1.2.840.10008.5.1.1.27",
        "2.25.1",
        "1.2.840.010.4",
        "1." * 60 + "1",
    ],
    ids=["private", "retired", "retired print", "from a UUID", "a leading zero", "too long"],
)
def test_private_and_retired_classes_are_stored(tmp_path: Path, sop_class: str) -> None:
    with open_port(tmp_path) as port, Caller(port.number) as caller:
        accepted = caller.associate(Context(sop_class, LITTLE))
        assert accepted.contexts == ((1, 0, LITTLE),)
        caller.say(pdu(4, value(1, 3, c_store_request(1, sop_class, IMAGE.uid))))
        caller.say(pdu(4, value(1, 2, Image(IMAGE.uid, said_class=sop_class).dataset())))
        assert caller.response().status == 0


@pytest.mark.parametrize("odd", ["nonsense", "ü", "", "1.2.840.10008.5.1.4.1.1.4 ", "9" * 300])
def test_one_odd_proposal_does_not_spoil_the_others(tmp_path: Path, odd: str) -> None:
    with open_port(tmp_path) as port, Caller(port.number) as caller:
        accepted = caller.associate(Context(odd, LITTLE), Context(MR, odd), IMAGES)
        assert {number: result for number, result, _ in accepted.contexts} == {1: 0, 3: 4, 5: 0}
        assert caller.store(IMAGE, context=5).status == 0
        caller.release()


def test_several_contexts_interleave_with_echoes(tmp_path: Path) -> None:
    contexts = (IMAGES, VERIFICATION, Context(MR, "1.2.840.10008.1.2.2"), Context("1.3.12.2.1107.5.9.1", LITTLE))
    with open_port(tmp_path) as port:
        with Caller(port.number) as caller:
            caller.associate(*contexts)
            for n in range(20):
                assert caller.store(Image(f"1.2.{n}"), context=1).status == 0
                assert caller.echo(context=3).status == 0
                assert caller.store(Image(f"1.2.{n}.1"), context=7).status == 0xA900  # the class is another one's
            caller.release()
        assert port.wait_for_end() is End.RELEASED
        assert len(port.intake.instances) == len(port.intake.refusals) == 20


def test_the_same_instance_again(tmp_path: Path) -> None:
    with open_port(tmp_path) as port, Caller(port.number) as caller:
        caller.associate(IMAGES)
        for content in (0, 0, 1):
            assert caller.store(Image(IMAGE.uid, content)).status == 0
        caller.release()
        assert sorted(port.files()) == [f"{IMAGE.uid}.1.dcm", f"{IMAGE.uid}.dcm"]


def test_memory_does_not_grow_with_the_object(tmp_path: Path) -> None:
    process, piece, pieces = psutil.Process(), bytes(MAX_PDU - 12), 2500  # more than 300 MB
    head = IMAGE.dataset()[: -8 - 32 - 4]
    with open_port(tmp_path) as port, Caller(port.number, 60) as caller:
        caller.associate(IMAGES)
        caller.say(pdu(4, value(1, 3, c_store_request(1, MR, IMAGE.uid))), pdu(4, value(1, 0, head)))
        before, most = process.memory_info().rss, 0
        for n in range(pieces):
            caller.say(pdu(4, value(1, LAST * (n + 1 == pieces), piece)))
            most = max(most, process.memory_info().rss) if n % 100 == 0 else most
        assert caller.response().status == 0
        caller.release()
        assert most - before < 20_000_000
        assert port.files()[f"{IMAGE.uid}.dcm"].stat().st_size > 300_000_000


# C-ECHO


def test_echo(tmp_path: Path) -> None:
    with open_port(tmp_path) as port:
        assert isinstance(echo(port.destination()), Delivered)
        assert port.wait_for_end() is End.RELEASED
        assert list((tmp_path / "incoming").iterdir()) == []


@pytest.mark.peer
def test_dcmtk_echoes(tmp_path: Path) -> None:
    with open_port(tmp_path) as port:
        command = [peers.dcmtk("echoscu"), "127.0.0.1", str(port.number), "--repeat", "3"]
        assert subprocess.run(command, capture_output=True, timeout=30, check=False).returncode == 0


# Negotiation

TITLES = [
    (b"BOX", "BOX"), (b"A B  C", "A B  C"), (b"  lead", "lead"), (b"trail\0\0\0\0", "trail"), (b"a\nb\x1b", "a?b?"),
    (b"sixteen letters!", "sixteen letters!"), (b"caf\xe9", "café"), ("żółć".encode(), "żółć"), (b"a\\b", "a\\b"),
    (b"../../etc", "../../etc"), (b"", ""), (b"\0" * 16, ""), (b"\xff" * 16, "ÿ" * 16), (b"\xc3" * 16, "Ã" * 16),
    (b"%s{0}$me", "%s{0}$me"),
]  # fmt: skip


@pytest.mark.parametrize(("raw", "title"), TITLES)
def test_any_title_is_answered_and_kept_as_it_came(tmp_path: Path, raw: bytes, title: str) -> None:
    with open_port(tmp_path) as port:
        with Caller(port.number) as caller:
            caller.associate(IMAGES, called=raw, calling=raw)
            assert caller.store(IMAGE).status == 0
            caller.release()
        request = port.intake.requests[0]
        assert request.called_ae == request.calling_ae == title
        assert request.address[0] == "127.0.0.1"


def test_the_first_known_transfer_syntax_is_taken(tmp_path: Path) -> None:
    def proposed(*syntaxes: str) -> tuple[str, str] | str:
        ae = AE()
        ae.add_requested_context(UID(MR), [UID(syntax) for syntax in syntaxes])
        association = ae.associate("127.0.0.1", port.number)
        accepted, rejected = association.accepted_contexts, association.rejected_contexts
        association.abort() if association.is_established else None
        return str(accepted[0].transfer_syntax[0]) if accepted else f"refused {rejected[0].result}"

    private, jpeg, big = "1.2.826.0.1.99.1", "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.2"
    with open_port(tmp_path) as port:
        assert proposed(jpeg, LITTLE) == jpeg
        assert proposed(private, big, LITTLE) == big
        assert proposed("1.2.840.113619.5.2", LITTLE) == "1.2.840.113619.5.2"
        assert proposed(private) == "refused 4"


def test_services_that_are_not_here_are_refused(tmp_path: Path) -> None:
    find, print_ = "1.2.840.10008.5.1.4.1.2.2.1", "1.2.840.10008.5.1.1.9"
    with open_port(tmp_path) as port, Caller(port.number) as caller:
        accepted = caller.associate(Context(find, LITTLE), IMAGES, Context(print_, LITTLE))
        assert [(number, result) for number, result, _ in sorted(accepted.contexts)] == [(1, 3), (3, 0), (5, 3)]


def test_128_contexts(tmp_path: Path) -> None:
    contexts = [Context(MR if n == 127 else f"1.2.3.{n}", LITTLE) for n in range(128)]
    with open_port(tmp_path) as port, Caller(port.number) as caller:
        accepted = caller.associate(*contexts)
        assert [(number, result) for number, result, _ in accepted.contexts] == [(n, 0) for n in range(1, 256, 2)]
        assert caller.store(IMAGE, context=255).status == 0
        caller.release()


def test_extended_negotiation_is_answered_as_the_standard_has_it(tmp_path: Path) -> None:
    role, identity = SCP_SCU_RoleSelectionNegotiation(), UserIdentityNegotiation()
    role.sop_class_uid, role.scu_role, role.scp_role = UID(MR), True, True
    identity.user_identity_type, identity.primary_field = 2, b"user"
    identity.secondary_field, identity.positive_response_requested = b"secret", True
    window, extended = AsynchronousOperationsWindowNegotiation(), SOPClassExtendedNegotiation()
    window.maximum_number_operations_invoked = window.maximum_number_operations_performed = 0
    extended.sop_class_uid, extended.service_class_application_information = UID(MR), b"\2\0\0\0\0\0"
    with open_port(tmp_path) as port:
        ae = AE()
        ae.add_requested_context(UID(MR), UID(LITTLE))
        association = ae.associate("127.0.0.1", port.number, ext_neg=[role, identity, window, extended])
        assert association.is_established
        answered = association.acceptor
        assert [(r.scu_role, r.scp_role) for r in answered.role_selection.values()] == [(True, False)]
        assert answered.asynchronous_operations == (1, 1)  # not negotiated
        assert answered.user_identity is None
        assert answered.maximum_length == MAX_PDU
        association.release()
        assert port.wait_for_end() is End.RELEASED


REJECTS = {
    CALLING_NOT_RECOGNIZED: "Calling AE Title Not Recognized",
    CALLED_NOT_RECOGNIZED: "Called AE Title Not Recognized",
    LIMIT_EXCEEDED: "Local Limit Exceeded",
}


@pytest.mark.parametrize("code", REJECTS)
def test_rejects_as_pynetdicom_sees_them(tmp_path: Path, code: tuple[int, int, int]) -> None:
    seen: list[tuple[int | None, int | None, int | None]] = []

    def note(event: evt.Event) -> None:
        if isinstance(event.pdu, A_ASSOCIATE_RJ):
            seen.append((event.pdu.result, event.pdu.source, event.pdu.reason_diagnostic))

    with open_port(tmp_path, refusing(code)) as port:
        ae = AE()
        ae.add_requested_context(UID(MR))
        association = ae.associate("127.0.0.1", port.number, evt_handlers=[(evt.EVT_PDU_RECV, note)])
        assert not association.is_established
        assert seen == [code]
        assert port.intake.ends == []


@pytest.mark.peer
@pytest.mark.parametrize(("code", "words"), REJECTS.items())
def test_rejects_as_dcmtk_sees_them(tmp_path: Path, code: tuple[int, int, int], words: str) -> None:
    with open_port(tmp_path, refusing(code)) as port:
        said = storescu(port, str(peers.sample("CT_small.dcm")))
        assert said.returncode != 0
        assert words.casefold() in said.stderr.casefold()


def refusing(code: tuple[int, int, int]) -> RecordingIntake:
    return RecordingIntake(lambda _request: Refusal(*code, "the test says so"))


def test_what_access_refuses_is_told_to_the_peer(tmp_path: Path) -> None:
    access = Access(max_associations=1)
    intake = RecordingIntake()
    intake.verdict = lambda request: access.judge(request, ["X"] * (len(intake.requests) - 1 - len(intake.ends)))
    with open_port(tmp_path, intake) as port, Caller(port.number) as first, Caller(port.number) as second:
        first.associate(IMAGES)
        second.request(IMAGES)
        assert second.pdu() == (3, bytes((0, *LIMIT_EXCEEDED)))
        assert first.store(IMAGE).status == 0


# Statuses


def answered(port: OpenPort, image: Image, command_uid: str | None = None) -> tuple[int, str]:
    with Caller(port.number) as caller:
        caller.associate(IMAGES)
        caller.say(pdu(4, value(1, 3, c_store_request(9, MR, image.uid if command_uid is None else command_uid))))
        caller.say(pdu(4, value(1, 2, image.dataset())))
        found = caller.response_elements()
        caller.release()
    assert found[0x0120] == b"\t\0"
    assert found[0x0800] == b"\1\1"
    assert found[0x0002].rstrip(b"\0") == MR.encode()
    return struct.unpack("<H", found[0x0900])[0], found.get(0x0902, b"").decode().strip()


def test_success(tmp_path: Path) -> None:
    with open_port(tmp_path, fsync=True) as port:
        assert answered(port, IMAGE) == (0, "")
        assert port.intake.refusals == []


@pytest.mark.parametrize(
    ("image", "command_uid", "status", "words"),
    [
        (Image("1.2.3", said_class="1.2.840.10008.5.1.4.1.1.2"), None, 0xA900, "SOP class"),
        (Image("1.2.3", said_uid="1.2.4"), None, 0xA900, "SOP instance"),
        (Image("1.2.3"), "1.2.5", 0xA900, "SOP instance"),
        (Image("1.2.3", study=None), None, 0xC000, "Study Instance UID"),
        (Image("1.2.3", said_uid=""), "1.2.3", 0xC000, "SOP Instance UID"),
        (Image("1.2.3"), "", 0xC000, "SOP Instance UID"),
    ],
    ids=["class", "instance", "command", "no study", "no SOP instance", "none in the command"],
)
def test_refusals(tmp_path: Path, image: Image, command_uid: str | None, status: int, words: str) -> None:
    if image.said_uid == "":
        image = _Nameless(image.uid)
    with open_port(tmp_path) as port:
        said, comment = answered(port, image, command_uid)
        assert said == status
        assert words in comment
        assert len(comment) <= 64
        ((_, _, told, why),) = port.intake.refusals
        assert told == status
        assert words in why
        assert port.files() == {}
        assert len(port.reasons()) == (1 if status == 0xC000 else 0)
        port.must_still_serve()


class _Nameless(Image):
    def dataset(self) -> bytes:
        """The dataset without its SOP Instance UID."""
        whole = super().dataset()
        at = whole.index(struct.pack("<HH2s", 0x0008, 0x0018, b"UI"))
        return whole[:at] + whole[at + 8 + whole[at + 6] :]


def test_no_room(tmp_path: Path) -> None:
    with open_port(tmp_path, RecordingIntake(room=False)) as port:
        status, comment = answered(port, IMAGE)
        assert (status, "free-space" in comment) == (0xA700, True)
        assert port.files() == {}
        port.intake.room = True
        port.must_still_serve()


@pytest.mark.parametrize("step", [Step.PART_WRITTEN, Step.PART_DURABLE, Step.NAMED])
def test_a_disk_that_fails_at_a_step(tmp_path: Path, step: Step) -> None:
    broken = True

    def reached(now: Step) -> None:
        if broken and now is step:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with open_port(tmp_path, reached=reached) as port:
        assert answered(port, IMAGE) == (0xA700, "cannot store: No space left on device")
        assert port.intake.instances == []
        broken = False
        port.must_still_serve()


def test_a_disk_that_fails_while_writing_drains_the_dataset(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with open_port(tmp_path) as port, Caller(port.number) as caller:
        caller.associate(IMAGES)
        caller.say(pdu(4, value(1, 3, c_store_request(1, MR, IMAGE.uid))), pdu(4, value(1, 0, IMAGE.dataset())))
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
        try:
            for n in range(30):
                caller.say(pdu(4, value(1, LAST * (n == 29), bytes(100_000))))
            response = caller.response()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert (response.status, response.comment) == (0xA700, "cannot store: File too large")
        assert caller.store(IMAGE).status == 0
        caller.release()


def test_no_folder_for_the_association(tmp_path: Path) -> None:
    with open_port(tmp_path) as port:
        (tmp_path / "incoming").rmdir()
        (tmp_path / "incoming").write_text("in the way")
        status, comment = answered(port, IMAGE)
        assert status == 0xA700
        assert comment.startswith("cannot store")
        (tmp_path / "incoming").unlink()
        (tmp_path / "incoming").mkdir()
        port.must_still_serve()


def test_an_error_of_the_box_ends_one_association_and_is_told(tmp_path: Path) -> None:
    def fail() -> None:
        raise RuntimeError("planted")

    with open_port(tmp_path) as port, Caller(port.number) as other:
        other.associate(IMAGES)
        port.intake.before_report = fail
        with Caller(port.number) as caller:
            caller.associate(IMAGES)
            caller.store(IMAGE)
            assert caller.kinds_to_the_end() == [7]
        assert port.wait_for_end() is End.ABORTED
        port.intake.before_report = lambda: None
        assert other.store(IMAGE).status == 0
        assert "planted" in port.troubles.pop()


def test_an_answer_that_cannot_be_sent_is_reported_all_the_same(tmp_path: Path) -> None:
    here, go = threading.Event(), threading.Event()

    def reached(now: Step) -> None:
        if now is Step.INSTANCE_DURABLE:
            here.set()
            go.wait(5)

    with open_port(tmp_path, reached=reached) as port:
        caller = Caller(port.number)
        caller.associate(IMAGES)
        caller.say(store_pdus(1, IMAGE))
        assert here.wait(5)
        caller.reset()
        go.set()
        assert port.wait_for_end() is End.CLOSED
        assert [instance.sop_instance for _, instance in port.intake.instances] == [IMAGE.uid]


# Many at once, and the end


def connections() -> list[IncomingConnection]:
    return [thread for thread in threading.enumerate() if isinstance(thread, IncomingConnection)]


def test_answers_leave_at_once(tmp_path: Path) -> None:
    with open_port(tmp_path) as port, Caller(port.number) as caller:
        caller.associate(IMAGES)
        (connection,) = connections()
        assert connection.dul.socket is not None
        assert connection.dul.socket.socket is not None
        assert connection.dul.socket.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_two_associations_at_once(tmp_path: Path) -> None:
    with open_port(tmp_path) as port, Caller(port.number) as one, Caller(port.number) as two:
        one.associate(IMAGES)
        two.associate(IMAGES)
        first, second = store_pdus(1, Image("1.2.1")), store_pdus(1, Image("1.2.2"))
        one.say(first[:100])
        two.say(second)
        assert two.response().status == 0
        one.say(first[100:])
        assert one.response().status == 0


def test_200_associations_idle_cost_nothing(tmp_path: Path) -> None:
    with open_port(tmp_path) as port:
        callers = [Caller(port.number) for _ in range(200)]
        for caller in callers:
            caller.associate(IMAGES, VERIFICATION)
        assert len(connections()) == 200
        used = time.process_time()
        time.sleep(0.5)
        assert time.process_time() - used < 0.2
        for n, caller in enumerate(callers):
            assert caller.echo(3).status == 0
            assert caller.store(Image(f"1.2.{n}")).status == 0
            caller.sock.close()
        port.wait_for_end(200)


def test_descriptors_above_1023(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2048:
        pytest.skip("this user may not open so many files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
    with open("/dev/null", "rb") as null:
        many = [os.dup(null.fileno()) for _ in range(1100)]
    try:
        with open_port(tmp_path) as port:
            assert isinstance(echo(port.destination()), Delivered)
            port.must_still_serve()
    finally:
        for descriptor in many:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_stop_answers_what_is_in_hand_and_aborts(tmp_path: Path) -> None:
    with open_port(tmp_path) as port:
        number, request = port.number, store_pdus(1, IMAGE)
        idle, busy, silent = Caller(number), Caller(number), Caller(number)
        idle.associate(IMAGES)
        busy.associate(IMAGES)
        busy.say(request[:-10])
        peers.wait_for(lambda: any(connection.busy for connection in connections()))
        stopping = threading.Thread(target=port.receiver.stop, args=(5.0,))
        stopping.start()
        assert idle.kinds_to_the_end() == [7]
        assert silent.kinds_to_the_end() == []
        with pytest.raises(ConnectionRefusedError):
            Caller(number)
        assert stopping.is_alive()
        busy.say(request[-10:])
        assert busy.response().status == 0
        assert busy.kinds_to_the_end() == [7]
        stopping.join(5)
        for caller in (idle, busy, silent):
            caller.sock.close()
        assert {how for _, how in port.intake.ends} == {End.STOPPED}
        assert list(port.files()) == [f"{IMAGE.uid}.dcm"]


def test_a_stop_does_not_wait_for_ever(tmp_path: Path) -> None:
    with open_port(tmp_path) as port, Caller(port.number) as caller:
        caller.associate(IMAGES)
        caller.say(store_pdus(1, IMAGE)[:-10])
        peers.wait_for(lambda: any(connection.busy for connection in connections()))
        began = time.monotonic()
        port.receiver.stop(0.2)
        assert time.monotonic() - began < 2
        assert port.wait_for_end() is End.STOPPED


def test_a_stop_of_an_idle_port_and_a_second_one(tmp_path: Path) -> None:
    with open_port(tmp_path) as port:
        port.receiver.stop()
        port.receiver.stop()


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    taken = os.strerror(errno.EADDRINUSE)
    with open_port(tmp_path / "one") as port:
        descriptors = os.listdir("/proc/self/fd")
        with pytest.raises(OSError, match=taken), open_port(tmp_path / "two", port=port.number):
            pass
        assert len(os.listdir("/proc/self/fd")) == len(descriptors)
