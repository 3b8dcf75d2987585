"""The fast lane against pynetdicom: the same bytes give the same files, responses and end of the association.

See ``oracle`` for what pynetdicom does of it, and for where the box differs from it on purpose.
"""

import random
import socket
import struct
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from io import BytesIO
from pathlib import Path

import pytest
from boxes import LITTLE, MR, Image
from callers import COMMAND, LAST, Caller, OpenPort, command, open_port, pdu, value
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oracle import Answer, Asked, Difference, Oracle, Outcome
from peers import elements, wait_for

from magickbox.association import End
from magickbox.dicom.header import identify, read_file_meta
from magickbox.errors import UnreadableHeader
from magickbox.incoming.usable import class_problem, disagreement, missing, uid_problem
from magickbox.scp.upper import Timeouts
from magickbox.scu.command import c_echo_request, c_store_request
from magickbox.scu.pdu import ABORT_BY_USER, RELEASE_REQUEST, Context

CT, ECHO, IMPLICIT = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.1", "1.2.840.10008.1.2"
CONTEXTS = {1: (MR, LITTLE), 3: (MR, IMPLICIT), 5: (ECHO, IMPLICIT), 7: (CT, LITTLE)}
PROPOSED = [Context(*both) for both in CONTEXTS.values()]

Fragment = tuple[int, int, bytes]


class LaneOracle(Oracle):
    """pydicom judges whole datasets, the box itself damaged ones: here only the lane is in question."""

    def judge(self, asked: Asked) -> int:
        """The status of an instance."""
        sop_class, uid = (raw.decode("utf-8", "surrogateescape") for raw in (asked.sop_class, asked.sop_instance))
        if sop_class != self.contexts[asked.context][0]:
            return 0xA900
        if uid_problem(uid) or class_problem(sop_class):
            return 0xC000
        if asked.dataset in WHOLE:
            return super().judge(asked)
        try:
            identity = identify(BytesIO(asked.dataset), self.contexts[asked.context][1])
        except UnreadableHeader:
            return 0xC000
        if disagreement(sop_class, uid, identity):
            return 0xA900
        return 0xC000 if missing(identity) else 0


class Talks:
    """Opens association after association on one port, and says what came of each."""

    def __init__(self, port: OpenPort) -> None:
        self.port, self.count = port, 0

    def exchange(self, pieces: Sequence[bytes], pause: float = 0.0) -> Outcome:
        """Send pieces one after another on a new association, then close: what the box made of them."""
        self.count += 1
        name = f"F{self.count}"
        with Caller(self.port.number) as caller:
            caller.associate(*PROPOSED, calling=name.encode())
            answers, last = self._talk(caller, pieces, pause)
        wait_for(lambda: self._end_of(name) is not None, f"the end of {name}")
        how = self._end_of(name)
        assert how is not None
        self._must_agree(how, last)
        return Outcome(self._stored(name), answers, how)

    def _talk(self, caller: Caller, pieces: Sequence[bytes], pause: float) -> tuple[list[Answer], int | None]:
        with suppress(ConnectionError):  # the box has ended it before the last piece
            for piece in pieces:
                caller.say(piece)
                if pause:
                    time.sleep(pause)
            caller.sock.shutdown(socket.SHUT_WR)
        answers, kind = [], None
        with suppress(EOFError, ConnectionError):
            while True:
                kind, body = caller.pdu()
                if kind == 4:
                    found = elements(body[6:])
                    answers.append(Answer(_number(found[0x0100]), found[0x0120], _number(found[0x0900])))
        return answers, kind

    def _end_of(self, name: str) -> End | None:
        ends = self.port.intake.ends[-8:]
        return next((how for association, how in ends if association.calling_ae == name), None)

    def _must_agree(self, how: End, last: int | None) -> None:
        """What the peer saw last is what the box says of the end."""
        if how is End.RELEASED:
            assert last == 6
        elif how is End.CLOSED:
            assert last in (None, 4)
        else:
            assert last in (None, 4, 7)

    def _stored(self, name: str) -> set[tuple[str, bytes]]:
        (number,) = (a.id for a, _ in self.port.intake.ends[-8:] if a.calling_ae == name)
        folder = self.port.root / "incoming" / number
        names = {path.name for path in folder.glob("*") if path.name != "association.json"}
        told = {i.file: i for a, i in self.port.intake.instances if a.id == number}
        assert names == set(told), "the folder holds what was told, and no part"
        return {(instance.sop_instance, _dataset(folder / file)) for file, instance in told.items()}


def _number(raw: bytes) -> int:
    return int.from_bytes(raw, "little")


def _dataset(path: "object") -> bytes:
    with open(str(path), "rb") as stream:
        stream.seek(read_file_meta(stream).offset)
        return stream.read()


def must_agree(talks: Talks, *pieces: bytes, pause: float = 0.0) -> Outcome:
    """The box and the oracle make the same of a stream, in whatever pieces it comes."""
    expected = LaneOracle(CONTEXTS).interpret(b"".join(pieces))
    found = talks.exchange(pieces, pause)
    assert found == expected
    return found


@pytest.fixture(scope="module")
def talks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Talks]:
    """A port in this process that serves all examples, and must serve a good peer after them."""
    with open_port(tmp_path_factory.mktemp("here")) as port:
        yield Talks(port)
        port.must_still_serve()


@pytest.fixture(scope="module")
def remote_talks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Talks]:
    """The same in a receiver process."""
    with open_port(tmp_path_factory.mktemp("there"), receivers=1) as port:
        yield Talks(port)
        port.must_still_serve()


# Streams


def data(*values: bytes) -> bytes:
    return pdu(4, b"".join(values))


def each(*fragments: Fragment) -> bytes:
    """Every fragment in a PDU of its own."""
    return b"".join(data(value(*one)) for one in fragments)


def implicit(image: Image) -> bytes:
    """The same dataset without VRs."""
    from pydicom.filebase import DicomBytesIO
    from pydicom.filereader import read_dataset
    from pydicom.filewriter import write_dataset

    ds = read_dataset(BytesIO(image.dataset()), False, True)
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, True
    write_dataset(buffer, ds)
    return buffer.getvalue()


UIDS = ["1.2.3.1", "1.2.3.22", "1.2.3.333"]
IMAGES = {(uid, content): Image(uid, content) for uid in UIDS for content in (0, 1)}
DATASETS: dict[tuple[int, str], list[bytes]] = {
    **{(1, uid): [IMAGES[uid, n].dataset() for n in (0, 1)] for uid in UIDS},
    **{(3, uid): [implicit(IMAGES[uid, 0])] for uid in UIDS},
    **{(7, uid): [Image(uid, said_class=CT).dataset()] for uid in UIDS},
}
ODD = {
    "another class": Image(UIDS[0], said_class=CT).dataset(),
    "another instance": Image(UIDS[0], said_uid="1.2.9").dataset(),
    "no study": Image(UIDS[0], study=None).dataset(),
    "nothing": b"",
}
WHOLE = {dataset for datasets in DATASETS.values() for dataset in datasets} | set(ODD.values())


def store(context: int, uid: str, dataset: bytes, message: int = 1) -> list[Fragment]:
    """A C-STORE request in two fragments."""
    request = c_store_request(message, CONTEXTS[context][0], uid)
    return [(context, COMMAND | LAST, request), (context, LAST, dataset)]


def echo(message: int, context: int = 5) -> list[Fragment]:
    return [(context, COMMAND | LAST, c_echo_request(message, ECHO))]


def other(field: int, message: int, dataset: bytes | None) -> list[Fragment]:
    """A request of another service."""
    kind = b"\1\1" if dataset is None else b"\1\0"
    numbers = {"_0100": struct.pack("<H", field), "_0110": struct.pack("<H", message), "_0800": kind}
    request: Fragment = (1, COMMAND | LAST, command(_0002=MR.encode(), **numbers))
    return [request] if dataset is None else [request, (1, LAST, dataset)]


@st.composite
def messages(draw: st.DrawFn) -> list[Fragment]:
    """One message, mostly good."""
    number = draw(st.integers(0, 0xFFFF))
    what = draw(st.sampled_from(["store"] * 6 + ["echo", "odd", "other"]))
    if what == "echo":
        return echo(number, draw(st.sampled_from([5, 1])))
    if what == "other":
        fields = st.sampled_from([0x0020, 0x0021, 0x0010, 0x0FFF, 0x0140, 0x0030, 0x4242])
        return other(draw(fields), number, draw(st.sampled_from([None, b"", b"x" * 50])))
    if what == "odd":
        return store(draw(st.sampled_from([1, 7])), UIDS[0], draw(st.sampled_from(sorted(ODD.values()))), number)
    context, uid = draw(st.sampled_from(sorted(DATASETS)))
    return store(context, uid, draw(st.sampled_from(DATASETS[context, uid])), number)


@st.composite
def split(draw: st.DrawFn, fragment: Fragment) -> list[Fragment]:
    """The same in several fragments, empty ones too."""
    context, control, raw = fragment
    cuts = sorted(draw(st.lists(st.integers(0, len(raw)), max_size=3)))
    pieces = [raw[at:end] for at, end in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    return [(context, control & ~LAST | (LAST * (n == len(cuts))), piece) for n, piece in enumerate(pieces)]


@st.composite
def damaged(draw: st.DrawFn, fragments: list[Fragment]) -> list[Fragment]:
    """One fragment is lost, comes twice, changes its place, its context or its control header."""
    found = list(fragments)
    at = draw(st.integers(0, len(found) - 1))
    context, control, raw = found[at]
    how = draw(st.sampled_from(["lose", "repeat", "move", "context", "control"]))
    if how == "lose":
        del found[at]
    elif how == "repeat":
        found.insert(at, found[at])
    elif how == "move":
        found.insert(draw(st.integers(0, len(found) - 1)), found.pop(at))
    elif how == "context":
        found[at] = draw(st.sampled_from([0, 1, 3, 5, 9, 255])), control, raw
    else:
        found[at] = context, draw(st.integers(0, 255)), raw
    return found


STRANGE = [
    RELEASE_REQUEST, ABORT_BY_USER, pdu(4, b""), pdu(5, b""), pdu(6, bytes(4)), pdu(7, b""), pdu(2, bytes(68)),
    pdu(3, bytes(4)), pdu(8, b"abcd"), pdu(0, b""), pdu(1, bytes(68)), struct.pack(">BxI", 4, 0xFFFFFFFF),
    struct.pack(">BxI", 5, 70_000), pdu(4, b"\0\0"), pdu(4, struct.pack(">IB", 1, 1)), pdu(4, struct.pack(">I", 0)),
    pdu(4, struct.pack(">IBB", 3, 1, 0)), struct.pack(">BxI", 4, 5000), pdu(4, value(1, 1, b"")),
]  # fmt: skip


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """Messages split into fragments, fragments gathered into PDUs, and something strange every now and then."""
    fragments = [piece for message in draw(st.lists(messages(), max_size=5)) for one in message for piece in
                 draw(split(one))]  # fmt: skip
    if fragments and draw(st.integers(0, 3)) == 0:
        fragments = draw(damaged(fragments))
    pdus, at = [], 0
    while at < len(fragments):
        count = draw(st.integers(1, 4))
        pdus.append(data(*(value(*one) for one in fragments[at : at + count])))
        at += count
    if draw(st.integers(0, 2)) == 0:
        pdus.insert(draw(st.integers(0, len(pdus))), draw(st.sampled_from(STRANGE)))
    elif draw(st.booleans()):
        pdus.append(RELEASE_REQUEST)
    return b"".join(pdus)


FUZZ = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@given(stream=streams())
@settings(FUZZ, max_examples=400)
def test_streams_come_to_what_pynetdicom_makes_of_them(talks: Talks, stream: bytes) -> None:
    must_agree(talks, stream)


@given(stream=streams())
@settings(FUZZ, max_examples=60)
def test_streams_in_a_receiver_process(remote_talks: Talks, stream: bytes) -> None:
    must_agree(remote_talks, stream)


@given(stream=streams(), seed=st.integers(0, 2**32 - 1))
@settings(FUZZ, max_examples=400)
def test_damaged_streams_come_to_what_pynetdicom_makes_of_them(talks: Talks, stream: bytes, seed: int) -> None:
    must_agree(talks, damage(stream, seed))


@given(stream=streams(), seed=st.integers(0, 2**32 - 1))
@settings(FUZZ, max_examples=40)
def test_damaged_streams_in_a_receiver_process(remote_talks: Talks, stream: bytes, seed: int) -> None:
    must_agree(remote_talks, damage(stream, seed))


def damage(stream: bytes, seed: int) -> bytes:
    """A few bytes of a stream changed, inserted, removed or repeated."""
    chance, found = random.Random(seed), bytearray(stream)
    for _ in range(chance.randint(1, 4)):
        at = chance.randint(0, len(found))
        how = chance.choice(("change", "change", "insert", "remove", "repeat", "cut"))
        if how == "change" and at < len(found):
            found[at] = chance.choice((0, 1, 2, 3, 4, 255, chance.randrange(256)))
        elif how == "insert":
            found[at:at] = chance.randbytes(chance.randint(1, 8))
        elif how == "remove":
            del found[at : at + chance.randint(1, 40)]
        elif how == "repeat":
            found[at:at] = found[at : at + chance.randint(1, 300)]
        elif how == "cut":
            del found[at:]
    return bytes(found)


# A recorded stream


def short(uid: str, is_implicit: bool = False) -> bytes:
    """A dataset of what is asked for, and nothing else."""
    said = {0x00080016: MR, 0x00080018: uid, 0x0020000D: "1.2", 0x0020000E: "1.3"}
    form = "<HHL" if is_implicit else "<HH2sH"
    vr = () if is_implicit else (b"UI",)
    values = ((tag, text.encode() + b"\0" * (len(text) % 2)) for tag, text in said.items())
    return b"".join(struct.pack(form, tag >> 16, tag & 0xFFFF, *vr, len(raw)) + raw for tag, raw in values)


def recorded(number: int) -> bytes:
    """Two contexts, three instances, an echo; the number makes the UIDs, all of one length."""
    one, two, three = (f"1.{n}.{1000 + number}" for n in (1, 2, 3))
    return b"".join((
        data(*(value(*piece) for piece in store(1, one, short(one), 1))),
        each(*echo(2)),
        each(*store(3, two, short(two, is_implicit=True), 3)),
        each(*store(1, three, short(three), 4)),
    ))  # fmt: skip


RECORDED = recorded(0) + RELEASE_REQUEST


def test_a_good_stream_cut_at_every_byte(talks: Talks) -> None:
    for end in range(len(RECORDED)):
        assert must_agree(talks, RECORDED[:end]).end is End.CLOSED
    found = must_agree(talks, RECORDED)
    assert (found.end, len(found.stored), [answer.status for answer in found.answers]) == (End.RELEASED, 3, [0] * 4)


def test_a_good_stream_byte_by_byte(talks: Talks) -> None:
    found = must_agree(talks, *(bytes((byte,)) for byte in RECORDED))
    assert len(found.stored) == 3


def test_a_good_stream_in_every_pair_of_segments(talks: Talks) -> None:
    """Many on each association, since it is the pieces that matter here."""
    everywhere = range(1, len(recorded(0)))
    for first in everywhere[::60]:
        pieces = []
        for at in everywhere[first - 1 :][:60]:
            pieces += [recorded(at)[:at], recorded(at)[at:]]
        found = must_agree(talks, *pieces, pause=0.0003)
        assert len(found.stored) == 3 * len(pieces) // 2


def test_silence_after_every_byte_ends_the_association(tmp_path: Path) -> None:
    """All at once; what was whole before is stored, and nothing of what was not."""
    ends = range(len(recorded(0)))
    patience = Timeouts(request=30, message=3, idle=3)
    with open_port(tmp_path, timeouts=patience, max_associations=len(ends)) as port, ExitStack() as stack:
        for end in ends:
            caller = stack.enter_context(Caller(port.number, 60))
            caller.associate(*PROPOSED, calling=b"S%d" % end)
            caller.say(RECORDED[:end])
        wait_for(lambda: len(port.intake.ends) == len(ends), "all to be ended", 60)
        assert {how for _, how in port.intake.ends} == {End.TIMEOUT}
        told = Counter(association.calling_ae for association, _ in port.intake.instances)
        for end in ends:
            assert told[f"S{end}"] == len(LaneOracle(CONTEXTS).interpret(RECORDED[:end]).stored)


# Where they differ

(COMMAND_1, DATASET_1), (COMMAND_2, DATASET_2) = (store(1, uid, DATASETS[1, uid][0]) for uid in UIDS[:2])


RESPONSE = command(_0100=b"\1\x80", _0120=b"\1\0", _0800=b"\1\1", _0900=b"\0\0")
LATER_CONTEXT = (3, LAST, DATASET_1[2])
EXAMPLES = {
    Difference.INTERLEAVED: each(COMMAND_1, LATER_CONTEXT),
    Difference.NO_CONTEXT: each((9, COMMAND, COMMAND_1[2][:20]), (1, COMMAND | LAST, COMMAND_1[2][20:]), DATASET_1),
    Difference.DATA_FIRST: each((1, 0, DATASET_1[2][:50]), COMMAND_1, (1, LAST, DATASET_1[2][50:])),
    Difference.RELEASED_EARLY: each(COMMAND_1) + RELEASE_REQUEST,
    Difference.TWO_IN_ONE: data(*(value(*one) for one in [*echo(1), *echo(2)])),
    Difference.BAD_COMMAND: each((1, COMMAND | LAST, COMMAND_1[2] + struct.pack("<HHI", 8, 0, 0)), DATASET_1),
    Difference.RESPONSE: each((1, COMMAND | LAST, RESPONSE)),
    Difference.OTHER_SERVICE: each(*other(0x0020, 1, b"x" * 50)),
    Difference.TOO_LONG: each(COMMAND_1) + struct.pack(">BxI", 4, 0xFFFFFFFF) + bytes(1000),
}


@pytest.mark.parametrize("rule", Difference, ids=lambda rule: rule.name)
def test_the_box_differs_where_it_says_so(talks: Talks, rule: Difference) -> None:
    stream = EXAMPLES[rule]
    found = must_agree(talks, stream)
    assert Oracle(CONTEXTS, strictly=False).interpret(stream) != found, "pynetdicom has this rule too"
