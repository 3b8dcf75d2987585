"""The elements of one image for who may see what, and a search among them."""

from pathlib import Path

from magickbox.dicom.elementtree import ElementLine, element_tree
from magickbox.dicom.header import tag_name
from magickbox.web.models.jobs import ElementModel, MetadataModel

# What tells nobody who the patient is: numbers, codes, UIDs, and the form of an image.
_HARMLESS = frozenset(["AT", "CS", "DS", "FD", "FL", "IS", "SL", "SQ", "SS", "SV", "UI", "UL", "US", "UV"])


def metadata(file: Path, path: str, search: str, sees_names: bool) -> MetadataModel:
    """The elements in which a text is found, or all; raises OSError or UnreadableHeader."""
    tree = element_tree(file)
    shown = [_model(line, sees_names) for line in tree.lines]
    wanted = search.casefold().strip()
    if wanted:
        shown = _with_parents(shown, [_has(each, wanted) for each in shown])
    return MetadataModel(path=path, elements=shown, note=tree.note)


def _model(line: ElementLine, sees_names: bool) -> ElementModel:
    tag = None if line.tag is None else tag_name(line.tag)
    hidden = not sees_names and line.tag is not None and not _is_harmless(line.tag, line.vr)
    return ElementModel(
        depth=line.depth, tag=tag, vr=line.vr, name=line.name, text=None if hidden else line.text,
        length=line.length, hidden=hidden and line.text is not None,
    )  # fmt: skip


def _is_harmless(tag: int, vr: str) -> bool:
    return vr in _HARMLESS and tag >> 16 != 0x0010 and not tag >> 16 & 1


def _has(element: ElementModel, wanted: str) -> bool:
    plain = (element.tag or "").strip("()").replace(",", "").casefold()
    texts = (element.name, element.text or "", element.tag or "")
    return any(wanted in text.casefold() for text in texts) or (bool(plain) and wanted.replace(",", "") in plain)


def _with_parents(elements: list[ElementModel], found: list[bool]) -> list[ElementModel]:
    """Those found, with the sequences and items that they stand in."""
    kept, needed = [], 0  # going backwards: the depth below which a parent is still wanted
    for element, is_found in zip(reversed(elements), reversed(found), strict=True):
        if is_found or element.depth < needed:
            kept.append(element)
            needed = element.depth
    return kept[::-1]
