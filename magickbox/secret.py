"""Reads a secret where it is kept, at the moment it is needed; what is read shows itself to nobody."""

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field

from magickbox.destination import Secret
from magickbox.errors import ConfigError

LARGEST = 64 * 1024
SOURCES = ("env:", "file:")


@dataclass(frozen=True)
class Revealed:
    """What a secret is; ``text`` is in no repr, so that neither a log nor a traceback can tell it."""

    text: str = field(repr=False)

    def __str__(self) -> str:
        """Stars."""
        return "***"


def source_problem(source: str) -> str | None:
    """What is wrong with the place of a secret, or None; the sentence never has the text, which may be the secret."""
    kind = next((each for each in SOURCES if source.startswith(each)), None)
    where = source.removeprefix(kind or "")
    if kind is None or not where or not where.isprintable():
        return "a secret never stands in this file; say where it is: env:NAME or file:/path"
    if kind == "file:" and not where.startswith("/"):
        return "the path of the file begins with /"
    if kind == "env:" and (not where.isascii() or not where.isidentifier()):
        return "after env: comes the name of a variable: letters, digits and _"
    return None


def reveal(secret: Secret, environment: Mapping[str, str] = os.environ) -> Revealed:
    """Read a secret; raises ConfigError with a sentence that says where it was looked for, never what was found."""
    kind, _, where = secret.source.partition(":")
    text = environment.get(where) if kind == "env" else _read(where)
    if text is None:
        raise ConfigError(f"the environment variable {where} is not set")
    text = text.strip("\r\n")
    if not text:
        raise ConfigError(f"there is nothing in {secret.source}")
    if not text.isprintable():
        raise ConfigError(f"there are control characters in {secret.source}")
    return Revealed(text)


def _read(path: str) -> str:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(fd, "rb") as file:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise ConfigError(f"{path} is not a regular file")
            raw = file.read(LARGEST + 1)
        return raw[:LARGEST].decode()
    except OSError as exc:
        raise ConfigError(f"{path}: {exc.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8 text") from None
