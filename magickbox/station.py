"""A small DICOM station that stores what it is sent into a folder: the receiving end of the demonstration."""

import threading
from pathlib import Path

from pynetdicom import AE, evt
from pynetdicom.events import Event
from pynetdicom.presentation import AllStoragePresentationContexts, VerificationPresentationContexts
from pynetdicom.transport import ThreadedAssociationServer

from magickbox.instance import file_stem
from magickbox.quiet import quiet_pynetdicom


class Station:
    """A stock pynetdicom storage SCP on loopback; no part of the box."""

    def __init__(self, folder: Path, title: str) -> None:
        self._folder, self._title = folder, title
        self._server: ThreadedAssociationServer | None = None
        self._lock = threading.Lock()
        self.received: list[Path] = []

    def start(self) -> int:
        """Listen on a free port and return it."""
        quiet_pynetdicom()
        self._folder.mkdir(parents=True, exist_ok=True)
        ae = AE(self._title)
        for context in AllStoragePresentationContexts + VerificationPresentationContexts:
            ae.add_supported_context(str(context.abstract_syntax))
        server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, self._store)])
        assert server is not None
        self._server = server
        return int(server.server_address[1])

    def stop(self) -> None:
        """Close the port."""
        if self._server is not None:
            self._server.shutdown()

    def _store(self, event: Event) -> int:
        path = self._folder / f"{file_stem(str(event.file_meta.MediaStorageSOPInstanceUID))}.dcm"
        path.write_bytes(event.encoded_dataset())
        with self._lock:
            self.received.append(path)
        return 0x0000
