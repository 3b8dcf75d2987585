"""One SOP Instance as the box holds it, and how its SOP Instance UID becomes a file name."""

import re
from dataclasses import dataclass, field

import xxhash

_SAFE_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
MAX_UID = 64


@dataclass(frozen=True)
class Instance:
    """An instance that was received and is durable.

    ``file`` is its name inside the folder that owns it, ``size`` the file's size in bytes, ``checksum`` the XXH3-128
    of the dataset's bytes (file meta left out) as 32 hex digits. ``arrived`` counts the acknowledgements of one
    association, so that of one UID the last acknowledged is known. ``took`` is how many microseconds passed from its
    command to its being safe; 0 where nobody looked.
    """

    sop_class: str
    sop_instance: str
    study: str
    series: str
    modality: str
    transfer_syntax: str
    size: int
    checksum: str
    file: str
    arrived: int = 0
    took: int = field(default=0, compare=False)

    def same_bytes(self, other: "Instance") -> bool:
        """True if both have the same transfer syntax and (as far as a checksum tells) the same dataset bytes."""
        return (self.transfer_syntax, self.size, self.checksum) == (other.transfer_syntax, other.size, other.checksum)


def is_safe_uid(uid: str) -> bool:
    """True if a UID may be used as a file name: digits and dots, at most 64, no empty part."""
    return len(uid) <= MAX_UID and _SAFE_UID.fullmatch(uid) is not None


def file_stem(uid: str) -> str:
    """The file name, without suffix, for a SOP Instance UID: the UID itself if it is safe, otherwise a hash of it.

    The hash begins with a letter, so that it is never mistaken for a UID; info.json maps it back.
    """
    if is_safe_uid(uid):
        return uid
    return f"uid-{xxhash.xxh3_128_hexdigest(uid.encode('utf-8', 'surrogatepass'))}"
