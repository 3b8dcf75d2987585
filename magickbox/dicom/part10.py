"""The file that the box writes around a received dataset: preamble, DICM and File Meta Information (PS3.10 7.1).

Only the file meta is the box's; the dataset's bytes follow it as they came.
"""

import struct

IMPLEMENTATION_CLASS_UID = "2.25.302150743206434226493281711543063415591"
IMPLEMENTATION_VERSION_NAME = "MAGICKBOX"


def _element(number: int, vr: bytes, value: bytes, pad: bytes = b"\0") -> bytes:
    value += pad * (len(value) % 2)
    return struct.pack("<HH2sH", 2, number, vr, len(value)) + value


def file_header(sop_class: str, sop_instance: str, transfer_syntax: str) -> bytes:
    """Everything before the dataset; the same three UIDs always give the same bytes.

    UIDs are taken as they came in the command, longer or odder than PS3.5 9.1 allows or not.
    """
    meta = b"".join(
        (
            struct.pack("<HH2sHI", 2, 1, b"OB", 0, 2) + b"\0\1",
            _element(0x02, b"UI", sop_class.encode("utf-8", "surrogateescape")),
            _element(0x03, b"UI", sop_instance.encode("utf-8", "surrogateescape")),
            _element(0x10, b"UI", transfer_syntax.encode("ascii", "replace")),
            _element(0x12, b"UI", IMPLEMENTATION_CLASS_UID.encode()),
            _element(0x13, b"SH", IMPLEMENTATION_VERSION_NAME.encode(), b" "),
        )
    )
    return b"\0" * 128 + b"DICM" + _element(0, b"UL", struct.pack("<I", len(meta))) + meta
