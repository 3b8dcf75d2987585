"""Which instances of a series somebody has: which series that is, and C-FIND's identifiers (PS3.4 C.4.1, C.6.2)."""

from io import BytesIO
from pathlib import Path

from magickbox.dicom.commitment import EXPLICIT_LITTLE, element
from magickbox.dicom.header import identify, read_file_meta, scan, text_of

STUDY_ROOT = "1.2.840.10008.5.1.4.1.2.2.1"  # Study Root Query/Retrieve Information Model - FIND
LONGEST_IDENTIFIER = 1024 * 1024
_INSTANCE = 0x00080018


def instances_of_series(study: str, series: str, syntax: str) -> bytes:
    """The identifier that asks for every SOP Instance UID of a series."""
    explicit = syntax == EXPLICIT_LITTLE
    values = ((_INSTANCE, b"UI", ""), (0x00080052, b"CS", "IMAGE "), (0x0020000D, b"UI", study),
              (0x0020000E, b"UI", series))  # fmt: skip
    return b"".join(element(tag, vr, _even(text), explicit) for tag, vr, text in values)


def series_of(path: Path) -> tuple[str, str]:
    """The Study and the Series Instance UID of a file; raises OSError, UnreadableHeader."""
    with path.open("rb") as stream:
        meta = read_file_meta(stream)
        stream.seek(meta.offset)
        identity = identify(stream, meta.transfer_syntax)
        return identity.study, identity.series


def _even(text: str) -> bytes:
    value = text.encode("utf-8", "surrogateescape")
    return value + b"\0" * (len(value) % 2)


def found_instance(identifier: bytes, syntax: str) -> str:
    """The SOP Instance UID in an answer, empty if there is none; raises UnreadableHeader."""
    return text_of(scan(BytesIO(identifier), syntax, frozenset({_INSTANCE}), _INSTANCE).get(_INSTANCE))
