"""Puts a text into the routing file: only what can be used, only if nobody else changed the file meanwhile."""

import hashlib
import stat
from dataclasses import dataclass
from pathlib import Path

from magickbox.durable import write_atomic
from magickbox.errors import MagickboxError
from magickbox.routing import Rules
from magickbox.rules.file import LARGEST, RulesRefused, decode, parse
from magickbox.rules.history import BY_HAND, RuleHistory, Version

NOTHING = "absent"


class FileChanged(MagickboxError):
    """The routing file is not the one that was loaded; ``now`` is what ``state_of`` says of it."""

    def __init__(self, now: str) -> None:
        """Say it in a sentence."""
        super().__init__("the rules were changed by somebody else since they were loaded here; nothing was saved")
        self.now = now


@dataclass(frozen=True)
class Found:
    """The routing file as it is: its text (empty if there is none; what is no UTF-8 replaced) and its state."""

    text: str
    state: str


@dataclass(frozen=True)
class RuleFile:
    """A routing file, its history, and what ``$me`` and ``$port`` in it stand for."""

    path: Path
    history: RuleHistory
    me: str | None = None
    me_port: int | None = None

    def found(self) -> Found:
        """The file as it is now, good or bad; raises OSError."""
        raw = self._raw()
        return Found("" if raw is None else raw.decode("utf-8-sig", "replace"), state_of(raw))

    def check(self, text: str) -> Rules:
        """What the text says; raises RulesRefused with everything that is wrong."""
        decode(text.encode("utf-8", "surrogatepass"), self.path.name)
        return parse(text, self.path.name, self.me, self.me_port)

    def save(self, text: str, loaded: str, who: str, how: str) -> Version | None:
        """Bring a text into force and keep it in the history; ``loaded`` is the state that the file had when it was
        read. None if it is what the file says already.

        Raises RulesRefused, FileChanged, or OSError.
        """
        self.check(text)
        with self.history.alone():
            raw = self._raw()
            if state_of(raw) != loaded:
                raise FileChanged(state_of(raw))
            if raw == text.encode():
                return None
            self._note_what_was(raw)
            version = self.history.note_alone(text, who, how)
            try:
                self._write(text)
            except OSError:
                if version is not None:
                    self.history.take_back(version)
                raise
            return version

    def _raw(self) -> bytes | None:
        try:
            with self.path.open("rb") as file:
                return file.read(LARGEST + 1)
        except FileNotFoundError:
            return None

    def _note_what_was(self, raw: bytes | None) -> None:
        """Keep what a person put there by hand while no box was there to see it, if it could be used."""
        try:
            was = decode(raw or b"", self.path.name)
            self.check(was)
        except RulesRefused:
            return
        self.history.note_alone(was, "", BY_HAND)

    def _write(self, text: str) -> None:
        path = self.path.resolve()  # a link stays a link
        mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else 0o644
        write_atomic(path, text.encode(), mode)


def state_of(raw: bytes | None) -> str:
    """What tells whether a file was changed: a digest of its bytes, or that it is not there."""
    return NOTHING if raw is None else hashlib.sha256(raw).hexdigest()
