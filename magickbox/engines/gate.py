"""How a sandbox is told what to do, when the box is ready for it, and how it says what became of the command."""

import contextlib
import os
from collections.abc import Sequence


class Gate:
    """Two pipes to bwrap. It reads its arguments from the first one before it does anything else.

    So the box can put it into its control group, set its limits and write run.json first: nothing of the processor
    runs before ``open``.
    """

    def __init__(self) -> None:
        """Make the pipes; raises OSError."""
        self._open: set[int] = set()
        try:
            self.arguments, self._to = self._pipe()
            self._from, self.status = self._pipe()
        except OSError:
            self.close()
            raise

    @property
    def inherited(self) -> tuple[int, int]:
        """The ends that bwrap gets."""
        return self.arguments, self.status

    def given(self) -> None:
        """Bwrap has its ends: close them here."""
        for fd in self.inherited:
            self._close(fd)

    def open(self, arguments: Sequence[str]) -> None:
        """Let it begin; that it is gone already shows at its end."""
        left = memoryview(b"".join(os.fsencode(each) + b"\0" for each in arguments))
        with contextlib.suppress(BrokenPipeError):
            while left:
                left = left[os.write(self._to, left) :]
        self._close(self._to)

    def said(self) -> bytes:
        """What bwrap said of the command until now."""
        os.set_blocking(self._from, False)
        try:
            return os.read(self._from, 64 * 1024)
        except BlockingIOError:
            return b""

    def close(self) -> None:
        """Close what is still open."""
        for fd in tuple(self._open):
            self._close(fd)

    def _pipe(self) -> tuple[int, int]:
        ends = os.pipe2(os.O_CLOEXEC)
        self._open.update(ends)
        return ends

    def _close(self, fd: int) -> None:
        if fd in self._open:
            self._open.discard(fd)
            os.close(fd)
