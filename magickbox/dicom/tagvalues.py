"""The texts that a rule's patterns see: the values of tags, keywords, private tags and paths in one file.

Reads as far as the last tag that is wanted and never a pixel. What cannot be read counts as absent, with a note.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from magickbox.dicom.forwardreader import ForwardReader
from magickbox.dicom.header import MAX_VALUE, Element, FileMeta, items, open_dataset, read_file_meta, scan_elements
from magickbox.dicom.valuetext import NotText, encodings_of, text_of_value
from magickbox.errors import UnreadableHeader
from magickbox.tagpath import TagPath, TagStep

ABSENT = ("",)
LONGEST_SEQUENCE = 16 * 1024 * 1024

_CHARACTER_SET = 0x00080005
_BLOCKS = range(0x10, 0x100)

Wanted = Sequence[tuple[TagPath, Sequence[TagStep]]]


@dataclass(frozen=True)
class TagValues:
    """The texts by tag, once for each distinct value found; notes say, without values, what could not be looked at."""

    values: Mapping[TagPath, tuple[str, ...]]
    notes: tuple[str, ...] = ()


def values_of(path: Path, wanted: Iterable[TagPath]) -> TagValues:
    """The texts of the wanted elements of a DICOM file; raises OSError if the file cannot be read."""
    with path.open("rb") as stream:
        return values_in(stream, wanted)


def read_values(path: Path, meta: FileMeta, wanted: Iterable[TagPath]) -> TagValues:
    """As ``values_of``, for a file whose File Meta Information is known already."""
    with path.open("rb") as stream:
        stream.seek(meta.offset)
        return _read(stream, meta, tuple(wanted))


def values_in(stream: BinaryIO, wanted: Iterable[TagPath]) -> TagValues:
    """As ``values_of``, for an open file."""
    tags = tuple(wanted)
    try:
        return _read(stream, read_file_meta(stream), tags)
    except UnreadableHeader as exc:
        return TagValues(dict.fromkeys(tags, ABSENT), (str(exc),))


def _read(stream: BinaryIO, meta: FileMeta, tags: tuple[TagPath, ...]) -> TagValues:
    collector = _Collector()
    collector.add_meta(meta, tags)
    paths = [(tag, tag.steps) for tag in tags if tag.steps[0].group != 0x0002]
    try:
        reader, coding = open_dataset(stream, meta.transfer_syntax)
        collector.collect(reader, coding, paths, encodings_of(b""))
    except UnreadableHeader as exc:
        collector.note(str(exc))
    return collector.result(tags)


class _Collector:
    """Gathers texts and notes while it descends; as deep as the rules' paths go, never as deep as a file nests."""

    def __init__(self) -> None:
        self._texts: dict[TagPath, dict[str, None]] = {}
        self._notes: dict[str, None] = {}

    def note(self, text: str) -> None:
        self._notes[text] = None

    def result(self, tags: Sequence[TagPath]) -> TagValues:
        return TagValues({tag: tuple(self._texts.get(tag, ABSENT)) for tag in tags}, tuple(self._notes))

    def add_meta(self, meta: FileMeta, tags: Sequence[TagPath]) -> None:
        """Group 0002 stands before the dataset; three of its elements can be asked for."""
        known = {0x00020002: meta.sop_class, 0x00020003: meta.sop_instance, 0x00020010: meta.transfer_syntax}
        for tag in tags:
            if len(tag.steps) == 1 and (text := known.get(tag.steps[0].tag)) is not None:
                self._texts[tag] = {text: None}

    def collect(self, reader: ForwardReader, coding: int, paths: Wanted, encodings: Sequence[str]) -> None:
        """Find each path's first step among the elements that the reader is at, and go on from there."""
        if not paths:
            return
        wanted = frozenset({_CHARACTER_SET}).union(*(_tags_of(steps[0]) for _, steps in paths))
        longest = LONGEST_SEQUENCE if any(len(steps) > 1 for _, steps in paths) else MAX_VALUE
        found: dict[int, Element] = {}
        try:
            scan_elements(reader, coding, wanted, max(wanted), longest, into=found)
        except UnreadableHeader as exc:
            self.note(str(exc))
        own = found.get(_CHARACTER_SET)
        encodings = encodings_of(own.value) if own is not None and own.value else encodings
        for path, steps in paths:
            for element in _matching(found, steps[0]):
                self._take(element, path, steps, encodings)

    def _take(self, element: Element, path: TagPath, steps: Sequence[TagStep], encodings: Sequence[str]) -> None:
        try:
            if len(steps) == 1:
                text = text_of_value(element, steps[0].creator, encodings)
                self._texts.setdefault(path, {})[text] = None
            elif element.value is None:
                self.note(f"{steps[0]}: longer than {LONGEST_SEQUENCE} bytes")
            else:
                for content in items(element):
                    self.collect(ForwardReader(BytesIO(content)), element.coding, [(path, steps[1:])], encodings)
        except (NotText, UnreadableHeader) as exc:
            self.note(f"{steps[0]}: {exc}")


def _tags_of(step: TagStep) -> Iterable[int]:
    """The tags to look for: of a private step every creator, and the element in every block (PS3.5 7.8.1)."""
    if step.creator is None:
        return (step.tag,)
    group = step.group << 16
    return (*(group | block for block in _BLOCKS), *(group | block << 8 | step.element for block in _BLOCKS))


def _matching(found: Mapping[int, Element], step: TagStep) -> Iterator[Element]:
    """The elements that a step names; the block of a private one is where its creator stands."""
    if step.creator is None:
        if step.tag in found:
            yield found[step.tag]
        return
    group = step.group << 16
    for block in _BLOCKS:
        creator, element = found.get(group | block), found.get(group | block << 8 | step.element)
        if creator is not None and element is not None and _says(creator, step.creator):
            yield element


def _says(creator: Element, name: str) -> bool:
    return (creator.value or b"").decode("latin-1").strip("\0 ") == name
