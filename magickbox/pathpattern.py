"""Where below a folder an instance goes: a pattern of folders and a file name with tags in braces, filled in safely.

What a tag holds is a stranger's text. It becomes part of one name: never a separator, a way upwards, a hidden file, a
name that some system reserves, or a name too long; two texts that look the same after that get different names.
"""

import hashlib
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass

from magickbox.tagpath import TagPath, parse_tag_path

DEFAULT_PATTERN = "{PatientID}/{StudyInstanceUID}/{SOPInstanceUID}.dcm"
LONGEST_VALUE = 96  # bytes of UTF-8 that one tag may fill
LONGEST_NAME = 200  # bytes of one name: filesystems take 255, and a number may be added
_PIECE = re.compile(r"\{([^{}]*)\}|([^{}]+)")
_FORBIDDEN = frozenset('/\\<>:"|?*')
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?")
_UNKNOWN = "unknown"


@dataclass(frozen=True)
class PathPattern:
    """The names on the way, each made of fixed texts and tags."""

    names: tuple[tuple[str | TagPath, ...], ...]

    @property
    def tags(self) -> frozenset[TagPath]:
        """Every element that has to be read."""
        return frozenset(piece for name in self.names for piece in name if isinstance(piece, TagPath))

    def fill(self, values: Mapping[TagPath, str]) -> tuple[str, ...]:
        """The names for one instance, the last is the file's; a tag that is absent or empty gives ``unknown``."""
        return tuple(_name(pieces, values) for pieces in self.names)


def parse_path_pattern(text: str) -> PathPattern:
    """Read a pattern; raises ValueError with a sentence for a person."""
    names: list[list[str | TagPath]] = [[]]
    at = 0
    while at < len(text):
        piece = _PIECE.match(text, at)
        if piece is None:
            raise ValueError("a brace has no partner")
        at = piece.end()
        if piece[2] is None:
            names[-1].append(parse_tag_path(piece[1].strip()))
            continue
        first, *others = piece[2].split("/")
        names[-1].append(first)
        names.extend([other] for other in others)
    return PathPattern(tuple(_checked(pieces) for pieces in names))


def _checked(pieces: list[str | TagPath]) -> tuple[str | TagPath, ...]:
    fixed = "".join(piece for piece in pieces if isinstance(piece, str))
    if any(c in _FORBIDDEN or not c.isprintable() for c in fixed):
        raise ValueError('a name has no control characters and none of \\ < > : " | ? *')
    if len(fixed.encode()) > LONGEST_NAME:
        raise ValueError(f"a name has at most {LONGEST_NAME} bytes")
    kept = tuple(piece for piece in pieces if piece != "")
    if not kept:
        raise ValueError("names are separated by one /, with nothing empty between, and it does not begin with /")
    if isinstance(kept[0], str) and kept[0].startswith("."):
        raise ValueError("a name does not begin with a dot")
    return kept


def _name(pieces: tuple[str | TagPath, ...], values: Mapping[TagPath, str]) -> str:
    name = "".join(piece if isinstance(piece, str) else safe(values.get(piece, "")) for piece in pieces)
    if len(name.encode()) > LONGEST_NAME:
        name = _marked(_cut(name, LONGEST_NAME - 9), name)
    # Windows and its shares drop dots and blanks at the end, and give some names to devices.
    name = name.rstrip(". ") or _UNKNOWN
    return f"_{name}" if name.startswith(".") or _RESERVED.fullmatch(name) else name


def safe(value: str) -> str:
    """A tag's text as a part of a name; what had to be changed carries a mark of what it was."""
    text = unicodedata.normalize("NFC", value.strip(" \0"))
    if not text:
        return _UNKNOWN
    clean = "".join("_" if c in _FORBIDDEN or not c.isprintable() else c for c in text)
    short = _cut(clean, LONGEST_VALUE).strip()
    short = short.lstrip(".").rstrip(". ") or "_"
    return short if short == text else _marked(short, text)


def _cut(text: str, longest: int) -> str:
    return text.encode("utf-8", "replace")[:longest].decode("utf-8", "ignore")


def _marked(short: str, text: str) -> str:
    return f"{short}~{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"
