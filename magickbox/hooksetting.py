"""Whom to tell of trouble, as the settings say it: an address on the web, a program with its arguments."""

import shlex
from urllib.parse import urlsplit


def read_webhook(value: object) -> str:
    """An http or https URL; raises ValueError, without the URL: its path may be a secret."""
    text = value.strip() if isinstance(value, str) else ""
    try:
        url = urlsplit(text)
        good = url.scheme in ("http", "https") and bool(url.hostname) and (url.port or 1) > 0
    except ValueError:
        good = False
    if not good or not text.isprintable() or any(c.isspace() for c in text) or not text.isascii():
        raise ValueError("must be an http or https URL")
    return text


def read_command(value: object) -> tuple[str, ...]:
    """A program by its whole path, and its arguments: a list, or a text that is split at blanks as a shell would.

    No shell ever sees it. Raises ValueError.
    """
    parts = tuple(str(part) for part in value) if isinstance(value, list) else tuple(shlex.split(str(value)))
    if not parts or not parts[0].startswith("/"):
        raise ValueError("must be a program by its whole path, with its arguments if it has any")
    return parts


def masked(value: object) -> str:
    """A URL as it may be shown: who is meant, not the path, which may be a secret."""
    try:
        url = urlsplit(str(value))
        return f"{url.scheme}://{url.hostname}/***" if url.hostname else "***"
    except ValueError:
        return "***"
