"""The window's process: ``python -m magickbox.web.main SOCKET PARENT``, started by ``web.keeper``.

What it needs comes as one line on its standard input; when it serves, it says so in one line on its output. It dies
with the box.
"""

import ctypes
import json
import os
import signal
import socket
import sys
import threading
from contextlib import suppress

import uvicorn

from magickbox.errors import MagickboxError
from magickbox.logs import LogFile, Note
from magickbox.web import windowlog
from magickbox.web.app import create_app
from magickbox.web.cataloguing import Cataloguing
from magickbox.web.context import Context, build_context
from magickbox.web.encryption import context_of
from magickbox.web.patience import PatientProtocol
from magickbox.web.start import Start, from_line

NICE = 5
MOST_CONNECTIONS = 200
_PR_SET_PDEATHSIG = 1


class _Server(uvicorn.Server):
    """Says that it serves."""

    def __init__(self, config: uvicorn.Config, context: Context) -> None:
        super().__init__(config)
        self._context = context

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to serve, and tell the parent; the link for the first admin if there is nobody yet."""
        await super().startup(sockets)
        users = self._context.accounts.users
        link = None if users.listing() else users.new_link()
        sys.stdout.write(json.dumps({"serving": True, "setup": link}) + "\n")
        sys.stdout.flush()


def main() -> int:
    """Serve until SIGTERM; 1 with a line on standard error if that cannot be."""
    number, parent = map(int, sys.argv[1:])
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        return 1  # the box is gone
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the box's, which then ends this process
    with suppress(OSError):
        os.nice(NICE)
    try:
        start = from_line(sys.stdin.buffer.readline())
        context = build_context(start)
    except MagickboxError as exc:
        sys.stderr.write(f"{exc}\n")
        return 1
    log = LogFile(start.places.data.logs / "window.log")
    windowlog.install(log.note)
    cataloguing = Cataloguing(context.catalogue, context.ledger, lambda job: context.data.jobs / job, log.note)
    cataloguing.start()
    try:
        threading.Thread(target=context.pictures.warm, name="warm", daemon=True).start()
        _Server(_config(start, context, log.note), context).run([socket.socket(fileno=number)])
    finally:
        cataloguing.stop()
        context.close()
        log.close()
    return 0


def _config(start: Start, context: Context, note: Note) -> uvicorn.Config:
    config = uvicorn.Config(
        create_app(context), log_config=None, access_log=False, server_header=False, proxy_headers=False,
        limit_concurrency=MOST_CONNECTIONS, timeout_keep_alive=20, timeout_graceful_shutdown=2, ws="none",
        lifespan="off", http=PatientProtocol,
    )  # fmt: skip
    config.load()
    config.ssl = context_of(
        start.settings, start.places.data.root, lambda level, text: note(level, "window", {"reason": text})
    )
    return config


if __name__ == "__main__":
    sys.exit(main())
