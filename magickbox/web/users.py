"""The people who may log in: their roles, their passwords, and the one-time links by which a password is set."""

import hashlib
import re
import secrets
import sqlite3
from dataclasses import dataclass
from datetime import timedelta

from magickbox.clock import now, to_text
from magickbox.errors import ConfigError, ForbiddenMove, NotFound
from magickbox.web.passwords import digest, is_right, password_problem
from magickbox.web.principal import Role
from magickbox.web.store import Store

LINK_LASTS = timedelta(hours=24)
_NAME = re.compile(r"[\w][\w.@+-]{0,63}")


@dataclass(frozen=True)
class User:
    """Somebody who may log in; without a password only by a link."""

    name: str
    role: Role
    has_password: bool
    made: str
    last_seen: str | None


def secret_digest(secret: str) -> str:
    """What is kept of a secret that is long and random by itself."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _user(row: sqlite3.Row) -> User:
    return User(row["name"], Role.of(row["role"]), bool(row["password"]), row["made"], row["last_seen"])


class Users:
    """Statements about users; safe from any thread."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def listing(self) -> list[User]:
        """All of them, by name."""
        with self._store.reading() as tx:
            return [_user(row) for row in tx.execute("SELECT * FROM users ORDER BY name")]

    def get(self, name: str) -> User:
        """One of them; raises NotFound."""
        with self._store.reading() as tx:
            return _user(_row(tx, name))

    def add(self, name: str, role: Role, password: str | None = None) -> User:
        """A new one; raises ConfigError for a name or a password that cannot be taken."""
        if not _NAME.fullmatch(name):
            raise ConfigError("a name is letters, digits and . _ @ + -, at most 64, and begins with a letter or digit")
        kept = _kept(password) if password is not None else ""
        try:
            with self._store.writing() as tx:
                tx.execute("INSERT INTO users VALUES (?, ?, ?, ?, NULL)", (name, role.word, kept, to_text(now())))
        except sqlite3.IntegrityError:
            raise ConfigError(f"there is a user '{name}' already") from None
        return self.get(name)

    def set_role(self, name: str, role: Role) -> None:
        """Another role; raises NotFound, or ForbiddenMove for the last admin."""
        with self._store.writing() as tx:
            found = _user(_row(tx, name))
            if role is not Role.ADMIN:
                _not_the_last_admin(tx, found)
            tx.execute("UPDATE users SET role = ? WHERE name = ?", (role.word, name))

    def remove(self, name: str) -> None:
        """Take somebody out, with sessions and tokens; raises NotFound, or ForbiddenMove for the last admin."""
        with self._store.writing() as tx:
            _not_the_last_admin(tx, _user(_row(tx, name)))
            tx.execute("DELETE FROM links WHERE name = ?", (name,))
            tx.execute("DELETE FROM users WHERE name = ?", (name,))

    def set_password(self, name: str, password: str, *, keep_tokens: bool = False) -> int:
        """A new password, which ends all sessions, links and, unless they are kept, tokens; how many tokens have ended.

        Raises NotFound or ConfigError.
        """
        kept = _kept(password)
        with self._store.writing() as tx:
            return _set(tx, name, kept, keep_tokens)

    def is_password(self, name: str, password: str) -> User | None:
        """The user whose name and password these are, or None; takes as long for a name that nobody has."""
        with self._store.reading() as tx:
            row = tx.execute("SELECT * FROM users WHERE name = ?", (name,)).fetchone()
        right = is_right(password, row["password"] if row else None)
        return _user(row) if row and right else None

    def new_link(self, name: str = "") -> str:
        """A secret that sets ``name``'s password once within a day; without a name it makes the first admin."""
        secret, at = secrets.token_urlsafe(32), now()
        with self._store.writing() as tx:
            if name:
                name = str(_row(tx, name)["name"])
            tx.execute("DELETE FROM links WHERE name = ?", (name,))
            kept = (secret_digest(secret), name, to_text(at), to_text(at + LINK_LASTS))
            tx.execute("INSERT INTO links VALUES (?, ?, ?, ?)", kept)
        return secret

    def of_link(self, secret: str) -> str | None:
        """For whom a link is ('' for the first admin); None if there is no such link any more."""
        with self._store.reading() as tx:
            return _of_link(tx, secret)

    def use_link(self, secret: str, name: str, password: str) -> tuple[User, int]:
        """Set the password by a link, which is over with it, as are sessions and tokens; how many tokens have ended.

        Raises NotFound or ConfigError.
        """
        kept = _kept(password)
        if self.of_link(secret) == "" and not _NAME.fullmatch(name):
            raise ConfigError("a name is letters, digits and . _ @ + -, at most 64, and begins with a letter or digit")
        with self._store.writing() as tx:
            whose = _of_link(tx, secret)
            if whose is None:
                raise NotFound("this link has been used, or its time is over")
            if whose == "":
                if tx.execute("SELECT 1 FROM users").fetchone():
                    raise NotFound("this link is over: the first user has been made")
                tx.execute("INSERT INTO users VALUES (?, 'admin', ?, ?, NULL)", (name, kept, to_text(now())))
            ended = _set(tx, whose or name, kept, keep_tokens=False)
            tx.execute("DELETE FROM links WHERE digest = ?", (secret_digest(secret),))
            return _user(_row(tx, whose or name)), ended


def _kept(password: str) -> str:
    problem = password_problem(password)
    if problem:
        raise ConfigError(problem)
    return digest(password)


def _row(tx: sqlite3.Connection, name: str) -> sqlite3.Row:
    row: sqlite3.Row | None = tx.execute("SELECT * FROM users WHERE name = ?", (name,)).fetchone()
    if row is None:
        raise NotFound(f"there is no user '{name}'")
    return row


def _of_link(tx: sqlite3.Connection, secret: str) -> str | None:
    statement = "SELECT name FROM links WHERE digest = ? AND expires > ?"
    row = tx.execute(statement, (secret_digest(secret), to_text(now()))).fetchone()
    return str(row["name"]) if row else None


def _set(tx: sqlite3.Connection, name: str, kept: str, keep_tokens: bool) -> int:
    _row(tx, name)
    tx.execute("UPDATE users SET password = ? WHERE name = ?", (kept, name))
    tx.execute("DELETE FROM sessions WHERE name = ?", (name,))
    tx.execute("DELETE FROM links WHERE name = ?", (name,))
    return 0 if keep_tokens else tx.execute("DELETE FROM tokens WHERE name = ?", (name,)).rowcount


def ended_words(tokens: int) -> str:
    """For the audit: what a new password has ended beside the sessions."""
    return f"done; tokens revoked: {tokens}" if tokens else "done"


def _not_the_last_admin(tx: sqlite3.Connection, user: User) -> None:
    others = "SELECT 1 FROM users WHERE role = 'admin' AND name <> ?"
    if user.role is Role.ADMIN and not tx.execute(others, (user.name,)).fetchone():
        raise ForbiddenMove(f"'{user.name}' is the only admin; make another one first")
