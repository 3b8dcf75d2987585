"""What a receiver writes: one folder an association, each instance durable before it is answered.

The steps are those of section 8, 1 to 5. Only the receiver of the association writes here while it is open.
"""

import json
import os
import time
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from magickbox.association import Association, End
from magickbox.dicom.header import Identity
from magickbox.dicom.shapes import Shapes
from magickbox.durable import fsync_folder, write_atomic
from magickbox.errors import UnreadableHeader
from magickbox.incoming.answer import CANNOT_UNDERSTAND, DISAGREES, SUCCESS, Stored
from magickbox.incoming.dataset import IncomingInstance
from magickbox.incoming.parts import Parts
from magickbox.incoming.quarantine import Quarantine
from magickbox.incoming.record import MEMBER, PART, association_to_json, same_content
from magickbox.incoming.usable import class_problem, disagreement, missing, uid_problem
from magickbox.instance import file_stem
from magickbox.steps import Reached, Step, unwatched


class AssociationFolder:
    """``incoming/<association>/`` while its association is open; used by one thread."""

    def __init__(
        self,
        incoming: Path,
        association: Association,
        quarantine: Quarantine,
        *,
        fsync: bool = True,
        reached: Reached = unwatched,
    ) -> None:
        self.association = association
        self.path = incoming / association.id
        self._quarantine = quarantine
        self._fsync = fsync
        self._reached = reached
        self._made = False
        self._fd = -1
        self._parts = Parts()
        self._shapes = Shapes()
        self._last_time = 0
        self._given: set[str] = set()

    def begin(self, sop_class: str, sop_instance: str, transfer_syntax: str) -> IncomingInstance:
        """A file for the dataset that now comes; whatever goes wrong is told by its ``commit``."""
        incoming = IncomingInstance(self.path, self._shapes, self._settle, sop_class, sop_instance, transfer_syntax)
        try:
            self._make()
            incoming.open(*self._parts.take())
        except OSError as exc:
            incoming.failed(exc)
        return incoming

    def _make(self) -> None:
        """Step 1: the folder and association.json durable, before the first 0x0000."""
        if self._fd < 0:
            self.path.mkdir(exist_ok=True)
            self._fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            self._parts.begin(self._fd)
        if self._made:
            return
        if self._fsync and not self._parts.ready:
            self._parts.make_first()
        _write_member(self.path, self.association)
        fsync_folder(self.path.parent)
        self._made = True
        self._reached(Step.ASSOCIATION_WRITTEN)

    def prepare(self) -> None:
        """Have parts made ahead, durable in their folder, for the instances to come; to be called after an answer."""
        if self._fsync and self._made:
            self._parts.prepare()

    @property
    def parts_ready(self) -> int:
        """How many instances have a part already."""
        return self._parts.ready

    def end(self, how: End, ended: datetime) -> None:
        """Step 5: say in association.json that and how it ended, and remove what was only half received.

        Raises OSError (disk full); the folder then counts as aborted at the next start.
        """
        self.let_go()
        if not self._made:
            return
        names = os.listdir(self.path)
        for name in names:
            if name.startswith(PART):
                (self.path / name).unlink(missing_ok=True)
        _write_member(self.path, replace(self.association, ended=ended, how=how))
        self._reached(Step.ASSOCIATION_ENDED)

    def let_go(self) -> None:
        """Close what is open and leave everything as it is on disk, as the end of the process would."""
        self._parts.end()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _settle(self, incoming: IncomingInstance) -> Stored:
        """Steps 2 to 4 for a dataset that is complete in its part; raises OSError."""
        why = uid_problem(incoming.sop_instance) or class_problem(incoming.sop_class)
        if why:
            return self._set_aside(incoming, why)
        try:
            identity = incoming.identify()
        except UnreadableHeader as exc:
            return self._set_aside(incoming, f"the header cannot be read: {exc}")
        why = disagreement(incoming.sop_class, incoming.sop_instance, identity)
        if why:
            incoming.part.unlink()
            return Stored(DISAGREES, why)
        why = missing(identity)
        if why:
            return self._set_aside(incoming, why)
        return self._keep(incoming, identity)

    def _set_aside(self, incoming: IncomingInstance, why: str) -> Stored:
        incoming.write_all()
        self._quarantine.take(incoming.part, self.association, incoming.sop_instance, why)
        return Stored(CANNOT_UNDERSTAND, why)

    def _keep(self, incoming: IncomingInstance, identity: Identity) -> Stored:
        arrived = self._next_time()
        self._reached(Step.PART_WRITTEN)
        incoming.complete(arrived)
        if self._fsync:
            incoming.fsync()
        self._reached(Step.PART_DURABLE)
        name = self._name(incoming.part, incoming.sop_instance, arrived)
        self._reached(Step.NAMED)
        if self._fsync and not incoming.was_there:
            os.fsync(self._fd)
        self._reached(Step.INSTANCE_DURABLE)
        return Stored(SUCCESS, instance=incoming.as_instance(identity, name, arrived))

    def _next_time(self) -> int:
        """Nanoseconds since 1970, always growing: the order of acknowledgements, kept as the files' mtime."""
        self._last_time = max(time.time_ns(), self._last_time + 1)
        return self._last_time

    def _name(self, part: Path, sop_instance: str, arrived: int) -> str:
        """Step 3: give the part its name, never replacing; the same bytes again are kept once.

        A name is never given twice, not even when its file has become part of a job: a birth that is carried on moves
        by name, and must not meet another instance under it.
        """
        stem, n = file_stem(sop_instance), 0
        while (name := f"{stem}.{n}.dcm" if n else f"{stem}.dcm") in self._given:
            if self._is_there(part, self.path / name, arrived):
                part.unlink()
                return name
            n += 1
        os.rename(part.name, name, src_dir_fd=self._fd, dst_dir_fd=self._fd)
        self._given.add(name)
        return name

    def _is_there(self, part: Path, target: Path, arrived: int) -> bool:
        """True if the bytes of ``part`` lie under a name already; it counts as having arrived now."""
        try:
            if not same_content(part, target):
                return False
            os.utime(target, ns=(arrived, arrived))
        except FileNotFoundError:
            return False  # it has become part of a job
        return True


def _write_member(folder: Path, association: Association) -> None:
    write_atomic(folder / MEMBER, json.dumps(association_to_json(association)).encode())
