"""Reads what a receiver wrote: the association of a folder, its instances, and what was never reported."""

import json
import os
import secrets
from pathlib import Path
from typing import Any

from magickbox.association import Association, End
from magickbox.clock import from_text, to_text
from magickbox.dicom.header import identify, read_file_meta
from magickbox.durable import fsync_folder
from magickbox.errors import UnreadableHeader
from magickbox.incoming.wholeness import checksum, is_whole, said
from magickbox.instance import Instance, file_stem

MEMBER = "association.json"
PART = ".part-"
_CHUNK = 1 << 20


def association_to_json(association: Association) -> dict[str, Any]:
    """An association as a JSON object; the inverse of ``association_from_json``."""
    return {
        "id": association.id,
        "calling_ae": association.calling_ae,
        "called_ae": association.called_ae,
        "peer": association.peer,
        "parent": association.parent,
        "began": to_text(association.began),
        "ended": to_text(association.ended) if association.ended else None,
        "how": association.how,
    }


def association_from_json(value: dict[str, Any]) -> Association:
    """An association from its JSON object; raises KeyError or ValueError."""
    return Association(
        id=value["id"],
        calling_ae=value["calling_ae"],
        called_ae=value["called_ae"],
        peer=value["peer"],
        parent=value["parent"],
        began=from_text(value["began"]),
        ended=from_text(value["ended"]) if value["ended"] else None,
        how=End(value["how"]) if value["how"] else None,
    )


def read_association(folder: Path) -> Association:
    """The association of a folder; raises OSError, KeyError or ValueError."""
    try:
        return association_from_json(json.loads((folder / MEMBER).read_bytes()))
    except (TypeError, RecursionError) as exc:
        raise ValueError(f"{MEMBER} is not what the box writes: {exc}") from exc


def read_instance(path: Path) -> Instance:
    """An instance from its file, for what was acknowledged but not reported; raises OSError or UnreadableHeader."""
    with path.open("rb") as stream:
        meta = read_file_meta(stream)
        stream.seek(meta.offset)
        identity = identify(stream, meta.transfer_syntax)
        stream.seek(meta.offset)
        digest = checksum(stream.read)
        length = stream.tell() - meta.offset
        stream.seek(0)
        if said(stream.read(128)) not in (None, (length, digest)):
            raise UnreadableHeader("its bytes are not those that were received: the disk has lost or changed some")
    status = path.stat()
    return Instance(
        sop_class=meta.sop_class,
        sop_instance=meta.sop_instance,
        study=identity.study,
        series=identity.series,
        modality=identity.modality,
        transfer_syntax=meta.transfer_syntax,
        size=status.st_size,
        checksum=digest,
        file=path.name,
        arrived=status.st_mtime_ns,
    )


def unreported(folder: Path, known: frozenset[str]) -> list[Path]:
    """The instances in an association folder whose file names are not known, oldest first."""
    names = [n for n in os.listdir(folder) if n.endswith(".dcm") and not n.startswith(".") and n not in known]
    return sorted((folder / n for n in names), key=lambda path: (path.stat().st_mtime_ns, path.name))


def settle_parts(folder: Path) -> tuple[int, int]:
    """Name the parts that are whole: they may have been acknowledged under a name that a power cut took back (step 17).

    The others are removed: what was being received was not acknowledged. Returns how many were removed and kept;
    raises OSError.
    """
    removed = kept = 0
    for name in sorted(os.listdir(folder)):
        if name.startswith(PART) and is_whole(folder / name):
            _name_again(folder / name)
            kept += 1
        elif name.startswith(PART) or name.endswith(".tmp"):
            (folder / name).unlink(missing_ok=True)
            removed += 1
    if kept:
        fsync_folder(folder)
    return removed, kept


def _name_again(part: Path) -> None:
    """A name that nothing in this association ever had: births are carried on by names."""
    with part.open("rb") as stream:
        stem = file_stem(read_file_meta(stream).sop_instance)
    os.rename(part, part.with_name(f"{stem}.{secrets.token_hex(4)}.dcm"))


def same_content(one: Path, other: Path) -> bool:
    """True if two files have the same bytes; the file meta is ours and follows from the UIDs and transfer syntax."""
    if one.stat().st_size != other.stat().st_size:
        return False
    with one.open("rb") as left, other.open("rb") as right:
        while chunk := left.read(_CHUNK):
            if chunk != right.read(_CHUNK):
                return False
    return True
