"""What a receiver writes: one folder an association, each instance durable before it is answered.

The steps are those of section 8, 1 to 5. Only the receiver of the association writes here while it is open.
"""

import json
import os
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import xxhash

from magickbox.association import Association, End
from magickbox.dicom.header import Identity, identify
from magickbox.dicom.part10 import file_header
from magickbox.durable import fsync_folder, write_atomic
from magickbox.errors import UnreadableHeader
from magickbox.incoming.quarantine import Quarantine
from magickbox.incoming.record import MEMBER, PART, association_to_json, same_content
from magickbox.incoming.usable import MAX_UID, class_problem, disagreement, missing, uid_problem
from magickbox.instance import Instance, file_stem
from magickbox.steps import Reached, Step, unwatched

SUCCESS, OUT_OF_RESOURCES, DISAGREES, CANNOT_UNDERSTAND = 0x0000, 0xA700, 0xA900, 0xC000


@dataclass(frozen=True)
class Stored:
    """What became of one C-STORE: its status, why if it is a failure, and the instance if it is not."""

    status: int
    why: str = ""
    instance: Instance | None = None


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
        self._count = 0
        self._made = False
        self._last_time = 0
        self._given: set[str] = set()

    def begin(self, sop_class: str, sop_instance: str, transfer_syntax: str) -> "IncomingInstance":
        """A file for the dataset that now comes; whatever goes wrong is told by its ``commit``."""
        self._count += 1
        incoming = IncomingInstance(self, self._count, sop_class, sop_instance, transfer_syntax)
        try:
            self._make()
            incoming.open()
        except OSError as exc:
            incoming.failed(exc)
        return incoming

    def _make(self) -> None:
        """Step 1: the folder and association.json durable, before the first 0x0000."""
        if self._made:
            return
        self.path.mkdir(exist_ok=True)
        _write_member(self.path, self.association)
        fsync_folder(self.path.parent)
        self._made = True
        self._reached(Step.ASSOCIATION_WRITTEN)

    def end(self, how: End, ended: datetime) -> None:
        """Step 5: say in association.json that and how it ended, and remove what was only half received.

        Raises OSError (disk full); the folder then counts as aborted at the next start.
        """
        if not self._made:
            return
        names = os.listdir(self.path)
        for name in names:
            if name.startswith(PART):
                (self.path / name).unlink(missing_ok=True)
        _write_member(self.path, replace(self.association, ended=ended, how=how))
        self._reached(Step.ASSOCIATION_ENDED)

    def settle_part(self, part: Path, incoming: "IncomingInstance") -> Stored:
        """Steps 2 to 4 for a dataset that is complete in ``part``."""
        why = uid_problem(incoming.sop_instance) or class_problem(incoming.sop_class)
        if why:
            return self._set_aside(part, incoming, why)
        try:
            identity = incoming.identify(part)
        except UnreadableHeader as exc:
            return self._set_aside(part, incoming, f"the header cannot be read: {exc}")
        why = disagreement(incoming.sop_class, incoming.sop_instance, identity)
        if why:
            part.unlink()
            return Stored(DISAGREES, why)
        why = missing(identity)
        if why:
            return self._set_aside(part, incoming, why)
        return self._keep(part, incoming, identity)

    def _set_aside(self, part: Path, incoming: "IncomingInstance", why: str) -> Stored:
        self._quarantine.take(part, self.association, incoming.sop_instance, why)
        return Stored(CANNOT_UNDERSTAND, why)

    def _keep(self, part: Path, incoming: "IncomingInstance", identity: Identity) -> Stored:
        arrived = self._next_time()
        os.utime(part, ns=(arrived, arrived))
        self._reached(Step.PART_WRITTEN)
        if self._fsync:
            incoming.fsync()
        self._reached(Step.PART_DURABLE)
        name = self._name(part, incoming.sop_instance, arrived)
        self._reached(Step.NAMED)
        if self._fsync:
            fsync_folder(self.path)
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
        os.rename(part, self.path / name)
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


class IncomingInstance:
    """A dataset on its way to disk; memory does not grow with it.

    A write that fails is remembered and told by ``commit``: the dataset is drained before it is refused.
    """

    def __init__(
        self, folder: AssociationFolder, number: int, sop_class: str, sop_instance: str, transfer_syntax: str
    ) -> None:
        self.sop_class, self.sop_instance, self.transfer_syntax = sop_class, sop_instance, transfer_syntax
        self._folder = folder
        self._part = folder.path / f"{PART}{number}"
        self._fd: int | None = None
        self._size = 0
        self._offset = 0
        self._checksum = xxhash.xxh3_128()
        self._refusal: Stored | None = None

    def open(self) -> None:
        """Create the part and write what comes before the dataset; raises OSError."""
        header = file_header(self.sop_class[:MAX_UID], self.sop_instance[:MAX_UID], self.transfer_syntax)
        self._fd = os.open(self._part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o444)
        self._offset = len(header)
        self._write(memoryview(header))

    def write(self, fragment: bytes | memoryview) -> None:
        """Take the next fragment of the dataset; never raises for what the disk says."""
        if self._refusal is not None:
            return
        try:
            self._write(memoryview(fragment))
            self._checksum.update(fragment)
        except OSError as exc:
            self.failed(exc)

    def _write(self, data: memoryview) -> None:
        assert self._fd is not None
        while data:
            written = os.write(self._fd, data)
            self._size += written
            data = data[written:]

    def refuse(self, status: int, why: str) -> Stored:
        """Decide that this instance is refused; what still comes of it is drained."""
        self._refusal = self._refusal or Stored(status, why)
        self.drop()
        return self._refusal

    def failed(self, exc: OSError) -> Stored:
        """Note that the disk refused; the sender is told that it may try again later."""
        return self.refuse(OUT_OF_RESOURCES, f"cannot store: {exc.strerror or exc}")

    def commit(self) -> Stored:
        """Make the instance durable under its name and say what to answer; never raises for what the disk says."""
        if self._refusal is not None:
            return self._refusal
        try:
            return self._folder.settle_part(self._part, self)
        except OSError as exc:
            return self.failed(exc)
        finally:
            self._close()

    def drop(self) -> None:
        """Forget this instance, which was not answered with 0x0000: its association ended first, or it is refused."""
        self._close()
        with suppress(OSError):
            self._part.unlink(missing_ok=True)

    def _close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def fsync(self) -> None:
        """Make the part's content durable; raises OSError, after which it is never tried again."""
        assert self._fd is not None
        os.fsync(self._fd)

    def identify(self, part: Path) -> Identity:
        """Read the header up to (0020,000E); raises UnreadableHeader."""
        with part.open("rb") as stream:
            stream.seek(self._offset)
            return identify(stream, self.transfer_syntax)

    def as_instance(self, identity: Identity, name: str, arrived: int) -> Instance:
        """The instance as it is reported."""
        return Instance(
            sop_class=self.sop_class,
            sop_instance=self.sop_instance,
            study=identity.study,
            series=identity.series,
            modality=identity.modality,
            transfer_syntax=self.transfer_syntax,
            size=self._size,
            checksum=self._checksum.hexdigest(),
            file=name,
            arrived=arrived,
        )


def _write_member(folder: Path, association: Association) -> None:
    write_atomic(folder / MEMBER, json.dumps(association_to_json(association)).encode())
