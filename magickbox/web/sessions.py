"""Sessions of the page: a random value in a signed cookie; the database has only its digest."""

import hashlib
import hmac
import secrets
from contextlib import suppress
from datetime import timedelta

from itsdangerous import BadSignature, Signer

from magickbox.clock import from_text, now, to_text
from magickbox.web.principal import Principal, Role
from magickbox.web.store import Store, StoreTrouble
from magickbox.web.users import secret_digest

IDLE, LONGEST = timedelta(hours=12), timedelta(days=7)
_NOTED_EVERY = timedelta(minutes=1)


class Sessions:
    """Statements about sessions; safe from any thread. ``blind`` are the roles that see no patient names."""

    def __init__(self, store: Store, blind: frozenset[Role] = frozenset()) -> None:
        self._store, self._blind = store, blind
        self._key = _key(store)
        self._signer = Signer(self._key, salt="magickbox session", digest_method=hashlib.sha256)

    def begin(self, name: str, address: str) -> str:
        """A session of a user who has proved who it is; what the cookie holds."""
        value, at = secrets.token_urlsafe(32), now()
        with self._store.writing() as tx:
            tx.execute("DELETE FROM sessions WHERE expires < ?", (to_text(at),))
            row = (secret_digest(value), name, address, to_text(at), to_text(at), to_text(at + IDLE))
            tx.execute("INSERT INTO sessions VALUES (?, ?, ?, ?, ?, ?)", row)
            tx.execute("UPDATE users SET last_seen = ? WHERE name = ?", (to_text(at), name))
        return self._signer.sign(value).decode()

    def principal(self, cookie: str) -> Principal | None:
        """Whose session it is; None for one that is over or was never ours."""
        value = self._value(cookie)
        if value is None:
            return None
        with self._store.reading() as tx:
            row = tx.execute(
                "SELECT s.*, u.role, u.name AS user FROM sessions s JOIN users u ON u.name = s.name"
                " WHERE s.digest = ? AND s.expires > ?",
                (secret_digest(value), to_text(now())),
            ).fetchone()
        if row is None:
            return None
        self._note(row["digest"], row["began"], row["seen"])
        role = Role.of(row["role"])
        return Principal(row["user"], role, role not in self._blind, "session", self._csrf(value))

    def end(self, cookie: str) -> None:
        """Log out."""
        value = self._value(cookie)
        if value is not None:
            with self._store.writing() as tx:
                tx.execute("DELETE FROM sessions WHERE digest = ?", (secret_digest(value),))

    def _value(self, cookie: str) -> str | None:
        try:
            return self._signer.unsign(cookie).decode()
        except (BadSignature, UnicodeDecodeError):
            return None

    def _csrf(self, value: str) -> str:
        return hmac.new(self._key, b"csrf " + value.encode(), hashlib.sha256).hexdigest()

    def _note(self, digest: str, began: str, seen: str) -> None:
        """It was used: it lasts on, but not for ever. Written once a minute at most."""
        at = now()
        if at - from_text(seen) >= _NOTED_EVERY:
            expires = min(at + IDLE, from_text(began) + LONGEST)
            with suppress(StoreTrouble), self._store.writing() as tx:  # who only looks can look all the same
                tx.execute(
                    "UPDATE sessions SET seen = ?, expires = ? WHERE digest = ?",
                    (to_text(at), to_text(expires), digest),
                )


def _key(store: Store) -> bytes:
    with store.writing() as tx:
        tx.execute("INSERT OR IGNORE INTO keys VALUES ('session', ?)", (secrets.token_bytes(32),))
        return bytes(tx.execute("SELECT value FROM keys WHERE name = 'session'").fetchone()["value"])
