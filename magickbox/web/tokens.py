"""Tokens of the API: for programs, each of a user, never with more rights than that user has."""

import secrets
import sqlite3
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from magickbox.clock import from_text, now, to_text
from magickbox.errors import ConfigError, NotFound
from magickbox.web.principal import Principal, Role
from magickbox.web.store import Store, StoreTrouble
from magickbox.web.users import secret_digest

SCOPES = {"read": Role.VIEWER, "operate": Role.OPERATOR, "admin": Role.ADMIN}
PREFIX = "mbx_"
MOST = 100
LARGEST = (1 << 63) - 1  # SQLite counts no further
_NOTED_EVERY = timedelta(minutes=1)


@dataclass(frozen=True)
class Token:
    """What is kept of a token; the token itself is shown once."""

    id: int
    label: str
    user: str
    scope: str
    made: str
    expires: str | None
    seen: str | None


def _token(row: sqlite3.Row) -> Token:
    return Token(row["id"], row["label"], row["name"], row["scope"], row["made"], row["expires"], row["seen"])


class Tokens:
    """Statements about tokens; safe from any thread."""

    def __init__(self, store: Store, blind: frozenset[Role] = frozenset()) -> None:
        self._store, self._blind = store, blind

    def listing(self, user: str | None = None) -> list[Token]:
        """Those of a user, or all."""
        with self._store.reading() as tx:
            statement = "SELECT * FROM tokens WHERE ? IS NULL OR name = ? ORDER BY id"
            return [_token(row) for row in tx.execute(statement, (user, user))]

    def make(self, user: str, label: str, scope: str, expires: datetime | None = None) -> tuple[Token, str]:
        """A new token and its secret, which nobody can read again; raises ConfigError."""
        label = label.strip()
        if scope not in SCOPES:
            raise ConfigError(f"'{scope}' is no scope; there are {', '.join(SCOPES)}")
        if not label or len(label) > 80 or not label.isprintable():
            raise ConfigError("a token has a label of 1 to 80 characters that says what it is for")
        secret = PREFIX + secrets.token_urlsafe(32)
        with self._store.writing() as tx:
            if tx.execute("SELECT count(*) FROM tokens WHERE name = ?", (user,)).fetchone()[0] >= MOST:
                raise ConfigError(f"{user} has {MOST} tokens already; revoke some first")
            until = to_text(expires) if expires else None
            row = (secret_digest(secret), label, user, scope, to_text(now()), until)
            made = tx.execute(
                "INSERT INTO tokens (digest, label, name, scope, made, expires) VALUES (?, ?, ?, ?, ?, ?) RETURNING *",
                row,
            ).fetchone()
        return _token(made), secret

    def revoke(self, number: int, user: str | None = None) -> Token:
        """Take a token back, only of that user if one is given; raises NotFound."""
        with self._store.writing() as tx:
            statement = "DELETE FROM tokens WHERE id = ? AND (? IS NULL OR name = ?) RETURNING *"
            row = tx.execute(statement, (number, user, user)).fetchone() if abs(number) <= LARGEST else None
        if row is None:
            raise NotFound(f"there is no token {number}")
        return _token(row)

    def principal(self, secret: str) -> Principal | None:
        """Whose token it is, with the lesser of its scope and the user's role; None if it is none."""
        with self._store.reading() as tx:
            row = tx.execute(
                "SELECT t.*, u.role FROM tokens t JOIN users u ON u.name = t.name"
                " WHERE t.digest = ? AND (t.expires IS NULL OR t.expires > ?)",
                (secret_digest(secret), to_text(now())),
            ).fetchone()
        if row is None:
            return None
        self._note(row["id"], row["seen"])
        role = min(Role.of(row["role"]), SCOPES[row["scope"]])
        return Principal(row["name"], role, Role.of(row["role"]) not in self._blind, f"token {row['label']}")

    def _note(self, number: int, seen: str | None) -> None:
        if seen is None or now() - from_text(seen) >= _NOTED_EVERY:
            with suppress(StoreTrouble), self._store.writing() as tx:  # who only looks can look all the same
                tx.execute("UPDATE tokens SET seen = ? WHERE id = ?", (to_text(now()), number))
