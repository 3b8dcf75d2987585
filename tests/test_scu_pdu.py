"""What the SCU writes and reads, with pynetdicom as the oracle and random bytes as the peer."""

import contextlib

from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import UID
from pynetdicom.pdu import A_ASSOCIATE_RQ

from magickbox.errors import PeerError
from magickbox.quiet import quiet_pynetdicom
from magickbox.scu import pdu
from magickbox.scu.command import read_response
from magickbox.scu.pdu import Context


@given(
    st.lists(
        st.tuples(
            st.from_regex(r"[1-9][0-9]{0,20}(\.[1-9][0-9]{0,3}){1,6}", fullmatch=True), st.just("1.2.840.10008.1.2")
        ),
        max_size=128,
    )
)
def test_pynetdicom_reads_the_request_as_it_was_meant(contexts: list[tuple[str, str]]) -> None:
    quiet_pynetdicom()
    request = A_ASSOCIATE_RQ()
    request.decode(pdu.associate_request("CALLED", "CALLING", [Context(*context) for context in contexts]))
    assert (request.called_ae_title, request.calling_ae_title) == ("CALLED", "CALLING")
    read = [(item.context_id, item.abstract_syntax, item.transfer_syntax[0]) for item in request.presentation_context]
    assert read == [(2 * n + 1, UID(a), UID(t)) for n, (a, t) in enumerate(contexts)]


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for read in (lambda d: pdu.read_accept(bytes(68) + d), pdu.read_data, read_response):
        with contextlib.suppress(PeerError):
            read(data)
    assert pdu.reject_words(data)
    assert pdu.abort_words(data)
