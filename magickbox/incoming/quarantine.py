"""Keeps what could not be understood, each with a .reason file, so that a refusal never loses an image."""

import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from magickbox.association import Association
from magickbox.clock import now, to_text
from magickbox.durable import fsync_file, fsync_folder, write_atomic
from magickbox.instance import file_stem


@dataclass(frozen=True)
class Quarantine:
    """``quarantine/`` of the data folder."""

    folder: Path

    def take(self, part: Path, association: Association, sop_instance: str, why: str) -> Path:
        """Move a file here, durable, with the reason beside it; raises OSError."""
        moment = now()
        name = f"{moment:%Y%m%dT%H%M%SZ}-{file_stem(sop_instance)}-{secrets.token_hex(2)}"
        target = self.folder / f"{name}.dcm"
        fsync_file(part)
        write_atomic(self.folder / f"{name}.reason", _reason(association, sop_instance, why, to_text(moment)))
        os.rename(part, target)
        fsync_folder(self.folder)
        return target


def _reason(association: Association, sop_instance: str, why: str, moment: str) -> bytes:
    lines = (
        f"why: {why}",
        f"when: {moment}",
        f"from: {association.calling_ae} at {association.peer}, calling {association.called_ae}",
        f"SOP Instance UID of the command: {sop_instance}",
        "answered: 0xC000",
    )
    return ("\n".join(lines) + "\n").encode("utf-8", "backslashreplace")
