"""Passwords: argon2id (RFC 9106), a few at a time, so that many log-ins at once cannot take the machine's memory."""

import threading

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

SHORTEST, LONGEST = 10, 200
_hasher = PasswordHasher(time_cost=3, memory_cost=64 * 1024, parallelism=1)
_two_at_once = threading.BoundedSemaphore(2)
_NOBODY = (
    "$argon2id$v=19$m=65536,t=3,p=1$c29tZS1zYWx0LW9mLW91cnM$"  # of no password: it takes as long to look at as any
    "5i0ZRLkw6SLnRYCGbN6Ei2gX8cJhBlYBTlYXMtR2rTM"
)


def password_problem(password: str) -> str | None:
    """Why a password cannot be taken, or None."""
    if len(password) < SHORTEST:
        return f"a password has at least {SHORTEST} characters"
    if len(password) > LONGEST:
        return f"a password has at most {LONGEST} characters"
    if len(set(password)) < 4:
        return "that password is the same few characters again and again"
    return None


def digest(password: str) -> str:
    """What is kept of a password."""
    with _two_at_once:
        return _hasher.hash(password)


def is_right(password: str, kept: str | None) -> bool:
    """True for the password of which ``kept`` is what was kept; takes as long if there is none."""
    with _two_at_once:
        try:
            return _hasher.verify(kept or _NOBODY, password[: LONGEST + 1]) and bool(kept)
        except (VerificationError, InvalidHashError):
            return False
