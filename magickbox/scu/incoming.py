"""A message from the peer on an association that the box opened, put together from its fragments."""

from io import BytesIO

from magickbox.dicom import commandset as c
from magickbox.scu.pdu import Fragment, MalformedPdu

MAX_COMMAND = 64 * 1024


class IncomingMessage:
    """One message. Of its dataset up to ``longest`` bytes are kept; with 0 it is passed over."""

    def __init__(self, longest: int = 0) -> None:
        self._longest = longest
        self._raw, self._dataset = BytesIO(), BytesIO()
        self._command: c.Command | None = None
        self.is_whole = False

    @property
    def command(self) -> c.Command:
        """Its command set, once the message is whole."""
        assert self._command is not None
        return self._command

    @property
    def dataset(self) -> bytes:
        """The bytes of its dataset."""
        return self._dataset.getvalue()

    def take(self, fragment: Fragment) -> None:
        """The next fragment; raises MalformedPdu if it makes the message too long or unreadable."""
        if fragment.is_command and self._command is None:
            self._raw.write(fragment.data)
            if self._raw.tell() > MAX_COMMAND:
                raise MalformedPdu(f"the command set of its response is longer than {MAX_COMMAND} bytes")
            self.is_whole = fragment.is_last and not self._has_dataset()
        elif self._command is not None:
            self._keep(fragment.data)
            self.is_whole = fragment.is_last

    def _keep(self, piece: bytes) -> None:
        if not self._longest:
            return
        self._dataset.write(piece)
        if self._dataset.tell() > self._longest:
            raise MalformedPdu(f"the dataset of its message is longer than {self._longest} bytes")

    def _has_dataset(self) -> bool:
        try:
            self._command = found = c.read_command(self._raw.getvalue())
            return c.DATASET_TYPE in found.values and found.has_dataset
        except c.BadCommand as exc:
            raise MalformedPdu(f"its response cannot be read: {exc}") from None
