"""C-ECHO as SCU: asks whether a destination answers (PS3.7 9.1.5)."""

from magickbox.destination import DicomDestination, Rejected, Result, Retry, judge
from magickbox.dicom.commandset import C_ECHO_RSP
from magickbox.errors import PeerError
from magickbox.scu.associate import associate
from magickbox.scu.command import c_echo_request
from magickbox.scu.pdu import Context
from magickbox.scu.upperlayer import Registry, Timeouts

VERIFICATION = Context("1.2.840.10008.1.1", "1.2.840.10008.1.2")


def echo(destination: DicomDestination, timeouts: Timeouts | None = None) -> Result:
    """Open an association, ask, release it; Delivered means that it answered with success."""
    association = associate(destination, [VERIFICATION], timeouts or Timeouts(), Registry())
    if isinstance(association, Retry):
        return association
    number = association.accepted.get(VERIFICATION)
    if number is None:
        association.release()
        return Rejected(f"no acceptable presentation context for Verification: {association.refused[VERIFICATION]}")
    try:
        association.command(number, c_echo_request(1, VERIFICATION.sop_class))
        response = association.response(C_ECHO_RSP, 1)
    except PeerError as exc:
        return Retry(str(exc), answered=True)
    association.release()
    return judge(response.status, response.comment)
