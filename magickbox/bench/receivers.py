"""Whom the sender calls: this box, other programs, and the raw limit; how each is started, and what it has stored."""

import http.client
import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from magickbox.config import PREFIX, SETTINGS

_DAY = "86400"
# Nothing that was received may become a job while the clock runs; who wants that sets them otherwise.
_QUIET = {"settle": _DAY, "settle_open": _DAY, "settle_after_abort": _DAY, "max_wait": _DAY}


@dataclass(frozen=True)
class Conditions:
    """What a receiver is started under; ``folder`` is new, empty and its own."""

    folder: Path
    port: int
    pdu: int
    associations: int
    fsync: bool
    spare_port: int

    @property
    def store(self) -> Path:
        """Where it puts what it receives, if it can be told."""
        return self.folder / "store"


@dataclass(frozen=True)
class Launch:
    """A command and what its environment has beside what every program gets."""

    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Receiver:
    """One that takes instances: ``missing`` says why it cannot be measured here, and is None if it can."""

    name: str
    words: str
    launch: Callable[[Conditions], Launch]
    stored: Callable[[Conditions], int]
    missing: str | None = None


def _python(module: str, *arguments: object) -> tuple[str, ...]:
    return (sys.executable, "-m", module, *map(str, arguments))


def _files(*patterns: str) -> Callable[[Conditions], int]:
    return lambda under: sum(1 for pattern in patterns for path in under.folder.glob(pattern) if path.is_file())


def box(settings: Mapping[str, str] | None = None) -> Receiver:
    """``magickbox serve`` with its defaults, but that it waits a day before a study becomes a job; and ``settings``."""
    given = dict(settings or {})

    def launch(under: Conditions) -> Launch:
        data = under.folder / "data"
        (data / "processors").mkdir(parents=True)
        place = {
            "data": str(data),
            "processors": str(data / "processors"),
            "host": "127.0.0.1",
            "port": str(under.port),
        }
        wanted = {**_QUIET, "fsync": str(under.fsync).lower(), **given, **place}
        return Launch(
            _python("magickbox.cli.main", "serve"), {PREFIX + key.upper(): text for key, text in wanted.items()}
        )

    name = " ".join(["box", *(f"{key}={text}" for key, text in given.items())])
    unknown = [key for key in given if key not in SETTINGS]
    missing = f"this version has no setting '{unknown[0]}'" if unknown else None
    stored = _files("data/incoming/*/*.dcm", "data/jobs/*/INPUT/*.dcm")
    return Receiver(name, "`magickbox serve`, a process of its own", launch, stored, missing)


def raw() -> Receiver:
    """The limit: from the socket into new files."""

    def launch(under: Conditions) -> Launch:
        under.store.mkdir()
        arguments = (under.port, under.store, int(under.fsync), under.pdu)
        return Launch(_python("magickbox.bench.rawreceiver", *arguments))

    return Receiver("raw", "from the socket into a new file, nothing else; the limit", launch, _files("store/*/*.dcm"))


def dcmtk(*, tuned: bool) -> Receiver:
    """DCMTK's storescp; a process for each association if there is more than one."""
    program = outside("storescp")

    def launch(under: Conditions) -> Launch:
        under.store.mkdir()
        options = ["-od", str(under.store)]
        options += ["-pdu", str(max(4096, min(under.pdu, 131072)))] if tuned else []
        options += ["--fork"] if under.associations > 1 else []
        environment = {"TCP_NODELAY": "1"} if tuned else {}
        return Launch((program or "storescp", *options, str(under.port)), environment)

    missing = None if program else "storescp is not installed (Debian: dcmtk)"
    name = "dcmtk" if tuned else "dcmtk-shipped"
    words = "storescp, `TCP_NODELAY=1`, `-pdu` as in the row" if tuned else "storescp as Debian ships it"
    return Receiver(
        name, f"DCMTK {words}; `--fork` with several associations; never an fsync", launch, _files("store/*"), missing
    )


def pynetdicom() -> Receiver:
    """Stock pynetdicom, as its documentation shows a storage SCP."""

    def launch(under: Conditions) -> Launch:
        under.store.mkdir()
        return Launch(_python("magickbox.bench.stockreceiver", under.port, under.store, under.pdu))

    return Receiver("pynetdicom", "stock: `event.dataset` and `save_as`; never an fsync", launch, _files("store/*.dcm"))


def orthanc() -> Receiver:
    """Orthanc with a configuration of its own and nothing but its defaults."""
    program = outside("Orthanc")

    def launch(under: Conditions) -> Launch:
        under.store.mkdir()
        file = under.folder / "orthanc.json"
        file.write_text(json.dumps(_orthanc_settings(under)))
        return Launch((program or "Orthanc", str(file)), {"TCP_NODELAY": "1"})  # its port is DCMTK's

    missing = None if program else "Orthanc is not installed (Debian: orthanc)"
    return Receiver(
        "orthanc",
        "Orthanc, its defaults, `TCP_NODELAY=1`, PDU and fsync by its `MaximumPduLength` and `SyncStorageArea`",
        launch,
        _orthanc_count,
        missing,
    )


def _orthanc_settings(under: Conditions) -> dict[str, object]:
    return {
        "Name": "Bench",
        "StorageDirectory": str(under.store),
        "IndexDirectory": str(under.folder / "index"),
        "DicomAet": "BENCH",
        "DicomPort": under.port,
        "DicomThreadsCount": max(4, under.associations),
        "MaximumPduLength": max(4096, min(under.pdu, 131072)),
        "SyncStorageArea": under.fsync,
        "HttpPort": under.spare_port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
    }


def _orthanc_count(under: Conditions) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", under.spare_port, timeout=30)
    try:
        connection.request("GET", "/statistics")
        return int(json.loads(connection.getresponse().read())["CountInstances"])
    finally:
        connection.close()


def outside(program: str) -> str | None:
    """Where a program is; pynetdicom puts programs of DCMTK's names beside this Python, and Debian has some in sbin."""
    ours = Path(sys.executable).parent
    folders = [folder for folder in (*os.get_exec_path(), "/usr/sbin") if Path(folder) != ours]
    return shutil.which(program, path=os.pathsep.join(folders))


def others() -> dict[str, Receiver]:
    """All receivers but the box, by their names."""
    return {each.name: each for each in (raw(), dcmtk(tuned=True), dcmtk(tuned=False), pynetdicom(), orthanc())}


NAMES = ("box", "raw", "dcmtk", "dcmtk-shipped", "pynetdicom", "orthanc")
